"""The source `timer`: an empty message every so often, or by cron in a time zone."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from msgspec import Struct

from esb import Accept, Busy, Component, Context, Incoming, MessageError, OptionError, StoreError, hook

log = logging.getLogger(__name__)

AGAIN = 1.0
"""Seconds before a refused tick is offered again."""


class TimerOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`every` (beside it in the table) or `cron`, five fields, in `zone` (the bus's). `missed`: what was due while the
    bus was down runs once, or not at all. `body` is the message's text."""

    name: str
    cron: str | None = None
    zone: str | None = None
    missed: Literal["once", "skip"] = "once"
    body: str = ""


class Timer:
    """Its last instant is committed with the message of that instant, so that no tick is made twice (R2)."""

    def __init__(self, options: TimerOptions, context: Context) -> None:
        self._options = options
        self._context = context
        self._zone = ZoneInfo(options.zone or context.time_zone)

    async def run(self, accept: Accept) -> None:
        clock = self._context.clock
        kept = await self._context.checkpoint()
        last = clock.now() if kept is None else min(float(kept), clock.now())  # a clock set back waits for nothing
        waited = False  # for this very instant: what comes late then is not missed
        while True:
            due = self.following(last)
            now = clock.now()
            if due > now:
                await clock.sleep(due - now)
                waited = True
                continue
            last = self._caught_up(due, now)
            if waited or self._options.missed == "once":
                await self._tick(accept, last)
            waited = False

    def _caught_up(self, due: float, now: float) -> float:
        """The newest instant that is due: those missed before it run as one. Sought from now on backwards, so that it
        makes no difference how long the bus was down."""
        if self.following(due) > now:
            return due
        if self._options.cron is None:
            every = self._context.every or 60.0
            return now // every * every
        moment = datetime.fromtimestamp(now + 1.0, UTC).astimezone(self._zone)
        backwards = CronSim(self._options.cron, moment, reverse=True)
        newest = next(found for found in (each.timestamp() for each in backwards) if found <= now)
        return max(due, newest)

    def following(self, last: float) -> float:
        """The first instant after `last`, in seconds since the epoch."""
        if self._options.cron is None:
            every = self._context.every or 60.0
            return (last // every + 1) * every
        moment = datetime.fromtimestamp(last, UTC).astimezone(self._zone)
        return float(next(CronSim(self._options.cron, moment)).timestamp())

    async def _tick(self, accept: Accept, instant: float) -> None:
        name = self._options.name
        scheduled = datetime.fromtimestamp(instant, UTC)
        message = Incoming(
            body=self._options.body.encode(),
            about={"name": name, "scheduled": scheduled},
            claim=f"{name} {scheduled.isoformat()}",
            checkpoint=repr(instant).encode(),
        )
        while True:
            try:
                await accept(message)
                return
            except MessageError as error:
                log.warning("timer %s: its route refused the tick of %s: %s", name, scheduled.isoformat(), error.code)
                return
            except (Busy, StoreError):
                await self._context.clock.sleep(AGAIN)


@asynccontextmanager
async def _open(options: TimerOptions, context: Context) -> AsyncIterator[Timer]:
    if (options.cron is None) == (context.every is None):
        raise OptionError(
            "timer", "a timer needs one of every and cron", 'every = "5m" or cron = "0 6 * * 1-5"', code="E241"
        )
    check_options(options)
    yield Timer(options, context)


def check_options(options: TimerOptions) -> None:
    """Raises OptionError for a cron expression or a zone that is none."""
    if options.cron is not None:
        try:
            CronSim(options.cron, datetime.now(UTC))
        except CronSimError as error:
            hint = 'minute hour day month weekday: "0 6 * * 1-5"'
            raise OptionError("cron", f"no cron expression: {error}", hint, code="E241") from error
    try:
        ZoneInfo(options.zone or "UTC")
    except (KeyError, ValueError, OSError) as error:
        raise OptionError("zone", f'no time zone "{options.zone}"', "write Europe/Berlin", code="E173") from error


TIMER = Component(
    kind="source",
    name="timer",
    about="A message every so often, or by cron",
    options=TimerOptions,
    main="name",
    open=_open,
    check=check_options,
    example='from = { timer = "nightly", cron = "0 2 * * *", zone = "Europe/Berlin" }',
    placement="one node",
)


@hook
def esb_sources() -> Iterable[Component[Any]]:
    return [TIMER]
