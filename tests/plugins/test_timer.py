"""Ticks: every so often, by cron in a zone, once for what was missed, never twice."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cronsim import CronSim
from esb_plugins.timer import Timer, TimerOptions

from esb.clock import VirtualClock
from esb.errors import Invalid
from esb.ports import Accepted, Context, Incoming


class Kept:
    """An accept that remembers, and the checkpoint with it."""

    def __init__(self, checkpoint: bytes | None = None) -> None:
        self.messages: list[Incoming] = []
        self.kept = checkpoint

    async def __call__(self, message: Incoming, /) -> Accepted:
        self.messages.append(message)
        self.kept = message.checkpoint
        return Accepted(id="x")

    async def checkpoint(self, source: str, name: str) -> bytes | None:
        return self.kept


def timer(options: TimerOptions, clock: VirtualClock, kept: Kept, every: float | None = None) -> Timer:
    context = Context(name="route.t", folder=Path(), services=kept, clock=clock, every=every)  # type: ignore[arg-type]
    return Timer(options, context)


async def ticks(options: TimerOptions, seconds: float, *, start: float, kept: Kept, every: float | None = None) -> Kept:
    clock = VirtualClock(start)
    running = asyncio.ensure_future(timer(options, clock, kept, every).run(kept))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    ends = start + seconds
    while clock.now() < ends:
        for _ in range(5):
            await asyncio.sleep(0)
        clock.advance(min(max((clock.next_due() or ends) - clock.now(), 0.001), ends - clock.now()))
    for _ in range(5):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return kept


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def test_every_ten_seconds_is_six_a_minute_each_with_a_claim_of_its_own_r2() -> None:
    kept = await ticks(TimerOptions("t"), 60, start=1_750_000_000.0, kept=Kept(), every=10)
    assert len(kept.messages) == 6
    assert len({message.claim for message in kept.messages}) == 6


async def test_what_was_missed_while_the_bus_was_down_runs_once() -> None:
    kept = await ticks(TimerOptions("t"), 5, start=1_750_000_000.0, kept=Kept(b"1749990000.0"), every=10)
    assert len(kept.messages) == 1
    skipped = TimerOptions("t", missed="skip")
    kept = await ticks(skipped, 5, start=1_750_000_003.0, kept=Kept(b"1749990000.0"), every=10)
    assert kept.messages == []


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("30 2 * * *", "2026-03-28T12:00:00+01:00", "2026-03-29T03:00:00+02:00"),
        ("30 2 * * *", "2026-10-24T12:00:00+02:00", "2026-10-25T02:30:00+02:00"),
        ("0 6 * * 1-5", "2026-11-20T12:00:00+01:00", "2026-11-23T06:00:00+01:00"),
    ],
)
async def test_a_skipped_hour_runs_at_the_next_valid_minute_and_a_doubled_one_once(
    cron: str, after: str, expected: str
) -> None:
    made = timer(TimerOptions("t", cron=cron, zone="Europe/Berlin"), VirtualClock(), Kept())
    following = made.following(at(after))
    assert datetime.fromtimestamp(following, UTC) == datetime.fromisoformat(expected)
    assert made.following(following) > following + 12 * 3600


async def test_a_tick_that_its_route_refuses_does_not_stop_the_next_one() -> None:
    class Refusing(Kept):
        async def __call__(self, message: Incoming, /) -> Accepted:
            self.messages.append(message)
            raise Invalid("not now")

    kept = await ticks(TimerOptions("t"), 60, start=1_750_000_000.0, kept=Refusing(), every=10)
    assert len(kept.messages) == 6


@pytest.mark.parametrize("days", [3, 900])
async def test_however_long_the_bus_was_down_catching_up_is_a_few_steps(
    days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []

    def counted(*given: object, **options: object) -> CronSim:
        made.append(given)
        return CronSim(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("esb_plugins.timer.CronSim", counted)
    now = at("2026-03-20T12:34:56+00:00")
    kept = Kept(repr(now - days * 86400).encode())
    options = TimerOptions("t", cron="*/5 * * * *")
    await ticks(options, 60, start=now, kept=kept)
    assert [message.about["scheduled"].isoformat() for message in kept.messages][:1] == ["2026-03-20T12:30:00+00:00"]
    assert len(made) < 12
