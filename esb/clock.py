"""The only clock: wall time at start plus monotonic, so that a jump of the wall clock moves nothing (R12)."""

from __future__ import annotations

import asyncio
import heapq
import time
from typing import Protocol


class Clock(Protocol):
    """Where the house reads the time and waits."""

    def now(self) -> float:
        """Seconds since the epoch, UTC; never runs backwards while the process lives."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns after that many seconds of this clock; at once (after other tasks ran) for 0 or less."""
        ...


class SystemClock:
    """The machine's clock, read once; from there the time since boot, in which a machine that sleeps ages too."""

    def __init__(self) -> None:
        self._start = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

    def now(self) -> float:
        return self._start + time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0))


class VirtualClock:
    """A clock that stands still until a test moves it: a day of retries in milliseconds."""

    def __init__(self, start: float = 1_750_000_000.0) -> None:
        self._now = start
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self._count += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (self._now + seconds, self._count, future))
        await future

    def next_due(self) -> float | None:
        """When the next sleeper wakes; None when nobody sleeps."""
        while self._waiting and self._waiting[0][2].done():
            heapq.heappop(self._waiting)
        return self._waiting[0][0] if self._waiting else None

    def advance(self, seconds: float) -> None:
        """Moves the time and wakes whoever is due; the woken run when the caller next waits."""
        self._now += seconds
        while self._waiting and self._waiting[0][0] <= self._now:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)


async def sleep_or(clock: Clock, seconds: float, event: asyncio.Event) -> None:
    """Returns when that time is over, or the event is set before."""
    over = asyncio.ensure_future(clock.sleep(seconds))
    heard = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({over, heard}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        over.cancel()
        heard.cancel()
