"""The store on a disk that fails: errors are put into its system calls by strace, a full disk is one."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from esb.clock import SystemClock
from esb.store import open_store

SCRIPT = Path(__file__).with_name("store_on_a_bad_disk.py")


def run(folder: Path, fault: str, messages: int = 40) -> list[dict[str, Any]]:
    """What each message came to in a process whose calls fail so; the store is there before. (strace counts the calls
    of each thread for itself: it is the writer's that reach these numbers.)"""
    assert shutil.which("strace"), "strace is not installed: make test installs it"
    command = ["strace", "-f", "-o", str(folder / "strace.log"), "-e", "trace=fdatasync,fsync,pwrite64"]
    command += ["-e", f"inject={fault}", sys.executable, str(SCRIPT), str(folder / "var"), str(messages)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "ptrace" not in done.stderr, f"ptrace is forbidden here, so this fault cannot be shown: {done.stderr}"
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def made(folder: Path) -> None:
    """An empty store."""
    async with open_store(folder / "var", clock=SystemClock(), reserve=0):
        pass


async def kept(folder: Path) -> tuple[set[str], bool]:
    """The messages that are on disk afterwards, and whether the books balance."""
    async with open_store(folder / "var", clock=SystemClock(), durable=False) as store:
        rows = await store.messages(limit=1000)
        return {row.uid for row in rows}, (await store.account()).balanced


@pytest.mark.parametrize("at", [6, 7, 20, 30])
async def test_after_a_failed_fsync_nobody_is_told_yes_for_what_is_not_there(tmp_path: Path, at: int) -> None:
    await made(tmp_path)
    outcomes = await asyncio.to_thread(run, tmp_path, f"fdatasync:error=EIO:when={at}")
    there, balanced = await kept(tmp_path)
    assert {item["uid"] for item in outcomes if item["said"] == "stored"} <= there
    assert balanced
    assert any("opened anew" in line for line in outcomes[-1]["log"])
    assert outcomes[-2]["said"] == "stored", "after one failed fsync it goes on with a new connection"


async def test_a_disk_whose_fsync_fails_again_and_again_is_never_believed(tmp_path: Path) -> None:
    await made(tmp_path)
    outcomes = await asyncio.to_thread(run, tmp_path, "fdatasync:error=EIO:when=8+", 30)
    there, balanced = await kept(tmp_path)
    assert sum("opened anew" in line for line in outcomes[-1]["log"]) > 2
    assert {item["uid"] for item in outcomes if item["said"] == "stored"} <= there
    assert balanced


async def test_a_disk_that_is_full_for_a_while_refuses_and_then_resumes(tmp_path: Path) -> None:
    await made(tmp_path)
    outcomes = await asyncio.to_thread(run, tmp_path, "pwrite64:error=ENOSPC:when=40..60", 60)
    there, balanced = await kept(tmp_path)
    said = [item["said"] for item in outcomes[:-1]]
    assert "StoreFull" in said
    assert said[-1] == "stored"
    assert {item["uid"] for item in outcomes if item["said"] == "stored"} <= there
    assert balanced
