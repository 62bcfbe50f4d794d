"""The only clock."""

from __future__ import annotations

import asyncio
import time

import pytest

from esb.clock import SystemClock, VirtualClock


def test_the_system_clock_runs_on_when_the_wall_clock_jumps_r12(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    before = clock.now()
    monkeypatch.setattr(time, "time", lambda: before + 365 * 86400)
    assert clock.now() - before < 5


async def test_a_virtual_sleeper_wakes_when_the_time_is_moved_and_not_before() -> None:
    clock = VirtualClock(1000)
    sleeper = asyncio.ensure_future(clock.sleep(60))
    await asyncio.sleep(0)
    assert clock.next_due() == 1060
    clock.advance(59)
    await asyncio.sleep(0)
    assert not sleeper.done()
    clock.advance(1)
    await sleeper
    assert clock.now() == 1060
    assert clock.next_due() is None


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = VirtualClock()
    sleeper = asyncio.ensure_future(clock.sleep(60))
    await asyncio.sleep(0)
    sleeper.cancel()
    await asyncio.gather(sleeper, return_exceptions=True)
    assert clock.next_due() is None
