"""The sources of a bus: each is opened, run, and opened again when it fails, while its route takes messages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import msgspec
from msgspec.structs import replace

from esb import threads
from esb.blueprint import encoding_of
from esb.clock import Clock, sleep_or
from esb.errors import EsbError, describe
from esb.intake import Intake
from esb.pipeline import Planner
from esb.plugins import is_foreign
from esb.ports import Source
from esb.services import BusServices
from esb.table.model import RouteSpec, SourceSpec
from esb.watchdog import Watchdog

log = logging.getLogger(__name__)

OPENING = 30.0
"""Seconds that a source may take to open."""

FIRST_AGAIN, LAST_AGAIN = 1.0, 60.0
"""Seconds before a source that failed is opened again: the first wait, and the longest."""


class SourceState(msgspec.Struct):
    """One running source: why it may not run and until when (seconds since the epoch), and the event that says it
    changed."""

    route: RouteSpec
    spec: SourceSpec
    name: str
    paused: str | None = None
    until: float | None = None
    changed: asyncio.Event = msgspec.field(default_factory=asyncio.Event)


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """What running a source needs; `intake` makes its `accept`, `over` hears of a pause whose time is up, `lease` holds
    one back that runs in another worker (R28)."""

    services: BusServices
    clock: Clock
    watchdog: Watchdog
    planners: Mapping[str, Planner]
    over: Callable[[SourceState], None]
    intake: Callable[[SourceState], Intake]
    lease: Callable[[SourceState], AbstractAsyncContextManager[None]]


async def feeding(state: SourceState, feed: Feed) -> None:
    """Runs one source, again and again while it fails; closed while its route is paused or off."""
    wait = FIRST_AGAIN
    while True:
        state.changed.clear()
        begun = feed.clock.now()
        try:
            await (_until_changed(state, feed) if state.paused is None else _while_paused(state, feed))
            continue
        except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            feed.services.health(state.name, "down", describe(error))
            if not isinstance(error, (EsbError, OSError)):
                log.error("%s failed in its own code", state.name, exc_info=error)
        wait = FIRST_AGAIN if feed.clock.now() - begun > LAST_AGAIN else min(wait * 2, LAST_AGAIN)
        await feed.clock.sleep(wait)


async def _while_paused(state: SourceState, feed: Feed) -> None:
    """Returns when the pause has ended, or has become another one."""
    feed.services.health(state.name, "down", f"paused: {state.paused}")
    closed = state.spec.component.closed
    if closed is not None:
        await closed(state.spec.options, feed.services.context(state.spec, state.name))
    if state.until is None:
        await state.changed.wait()
        return
    await sleep_or(feed.clock, state.until - feed.clock.now(), state.changed)
    if not state.changed.is_set():
        feed.over(state)


async def _until_changed(state: SourceState, feed: Feed) -> None:
    """Opens and runs the source until it ends, fails, or its state changes."""
    running = asyncio.ensure_future(_run_source(state, feed))
    changed = asyncio.ensure_future(state.changed.wait())
    try:
        await asyncio.wait({running, changed}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended = running.done()
        changed.cancel()
        if not running.done():
            running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    if not ended:
        return
    if running.cancelled():
        raise EsbError("the source was cancelled by its own library")
    running.result()
    raise EsbError("the source ended by itself")


async def _run_source(state: SourceState, feed: Feed) -> None:
    try:
        async with feed.lease(state):
            await _serve(state, feed)
    except (SystemExit, KeyboardInterrupt) as error:
        # Out of a task these two would end the loop, and the bus with it.
        raise RuntimeError(f"{type(error).__name__}: {describe(error)}") from error


async def _serve(state: SourceState, feed: Feed) -> None:
    encoding = encoding_of(feed.planners[state.route.name].blueprint)
    context = replace(feed.services.context(state.spec, state.name), encoding=encoding)
    async with AsyncExitStack() as stack:
        opening = threads.opened(state.spec.component, state.spec.options, context)
        try:
            async with asyncio.timeout(OPENING):
                source: Source = await stack.enter_async_context(opening)
        except TimeoutError as error:
            raise EsbError(f"the source was not open within {OPENING:g} s") from error
        feed.services.health(state.name, "up", "")
        running = source.run(feed.intake(state))
        await (feed.watchdog.driven(f"route {state.route.name}", running) if is_foreign(source) else running)
