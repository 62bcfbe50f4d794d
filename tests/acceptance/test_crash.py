"""Nothing is lost: the real process, killed at random instants under load."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from crash_run import CrashRun, Verdict

SABOTAGE = """
import asyncio, sys
from esb.store import Store
from esb.store.records import Stored

honest = Store.accept

async def early(self, acceptance):
    async def later():
        await asyncio.sleep(0.3)
        await honest(self, acceptance)
    early.tasks.add(asyncio.ensure_future(later()))
    return Stored(uid=acceptance.message.uid)

early.tasks = set()
Store.accept = early
from esb.cli import main
sys.argv = ["esb", "run", "-f", "routes.toml"]
main()
"""


def judge(verdict: Verdict) -> None:
    tally = verdict.tally
    assert verdict.lost == set(), f"{len(verdict.lost)} of {len(tally.acknowledged)} acknowledged are lost"
    assert verdict.unexpected == set(), "refused for good, and delivered all the same"
    assert verdict.twice_made == set(), "a row or a keyed message became two messages"
    assert tally.unbalanced == [], "the books did not balance after these restarts"


@pytest.mark.timeout(240)
async def test_what_was_acknowledged_reaches_every_target_through_thirty_kills(tmp_path: Path) -> None:
    run = CrashRun(tmp_path, kills=30)
    verdict = await run.run()
    tally = verdict.tally
    print(f"acknowledged {len(tally.acknowledged)}, rows {len(tally.rows)}, kills {tally.kills}")
    judge(verdict)
    assert verdict.tally.kills == 30
    assert len(verdict.tally.acknowledged) > 300
    assert len(verdict.tally.refused) > 5


@pytest.mark.timeout(120)
async def test_the_harness_catches_a_build_that_acknowledges_before_the_commit(tmp_path: Path) -> None:
    run = CrashRun(tmp_path, kills=4, command=[sys.executable, "-c", SABOTAGE], patience=6)
    verdict = await run.run()
    assert len(verdict.lost) > 0


@pytest.mark.soak
async def test_a_long_crash_run(tmp_path: Path) -> None:
    """`make soak`: as many kills as ESB_SOAK_KILLS says (default 300)."""
    judge(await CrashRun(tmp_path, kills=int(os.environ.get("ESB_SOAK_KILLS", "300")), seed=11).run())
