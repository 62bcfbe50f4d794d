"""The house: built from a table, opened from the far end to the near one, closed in reverse. Read this first.

A message walks through it in this order:

    source -> intake (decode, check, route, transform: pipeline.plan) -> store (one commit: ack one, to the sender)
           -> relay (a bounded window of rows a target) -> dispatch (one lane a target) -> target
           -> store (the outcome is committed)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from typing import Any, Protocol

import msgspec

from esb import dispatch, intake, threads
from esb.auth import open_auth
from esb.blueprint import Draft
from esb.brokered import Brokered
from esb.clock import Clock, SystemClock
from esb.crew import Crew, Passed, incoming
from esb.dispatch import Lane, Post
from esb.errors import Closing, EsbError, StoreError, describe
from esb.intake import Door, Intake
from esb.pauses import Pauses
from esb.pipeline import Planner
from esb.planners import planners_of
from esb.plugins import Registry
from esb.ports import Accepted, Incoming
from esb.relay import Relay, Window
from esb.replies import Waiters
from esb.secrets import Mask
from esb.services import BusServices
from esb.sources import Feed, SourceState, feeding
from esb.splitting import Desk, Splitter
from esb.store import Store, forwarded, open_store
from esb.store.records import StoredDelivery
from esb.table.load import load
from esb.table.model import ReplySpec, RouteSpec, SourceSpec, Table, TargetSpec
from esb.table.places import packed, unpacked
from esb.watchdog import Watchdog

log = logging.getLogger(__name__)

UPKEEP = 5.0
"""Seconds between two rounds of pruning and of writing down the time."""


class Counters(intake.Counters, dispatch.Counters, Protocol):
    """What the bus counts beside the books."""

    def stalled(self, name: str, seconds: float, /) -> None: ...


class Silence:
    """Counts nothing."""

    def accepted(self, route: str, seconds: float, /) -> None: ...

    def duplicate(self, route: str, /) -> None: ...

    def refused(self, route: str, code: str, /) -> None: ...

    def delivered(self, route: str, target: str, seconds: float, waited: float, /) -> None: ...

    def failed(self, route: str, target: str, kind: str, /) -> None: ...

    def ended(self, route: str, target: str, state: str, /) -> None: ...

    def stalled(self, name: str, seconds: float, /) -> None: ...


class Bus:
    """One open house. Made by `open_bus`; its parts are public to the floors above (admin, cli, testing)."""

    def __init__(
        self,
        table: Table,
        registry: Registry,
        store: Store,
        services: BusServices,
        clock: Clock,
        counters: Counters,
        tasks: Tasks,
        crew: Crew | None = None,
    ) -> None:
        self.table = table
        self.registry = registry
        self.store = store
        self.services = services
        self.clock = clock
        self.counters = counters
        self.started = clock.now()
        self.accepting = True
        self.planners: dict[str, Planner] = {}
        self.lanes: dict[str, Lane] = {}
        self.sources: list[SourceState] = []
        self.pauses = Pauses(table, store, services, self.lanes, self.sources)
        self.waiters = Waiters(clock)
        self.watchdog = Watchdog(float(table.bus.step_timeout), self._stalled, self.pauses.last_words)
        self._tasks = tasks
        self._source_tasks: list[asyncio.Task[None]] = []
        self._old: dict[str, dict[str, Planner]] = {}
        self._stopped: dict[str, Mapping[str, str]] = {table.hash: table.stopped, "": table.stopped}
        self._staged = asyncio.Event()
        self.relay = Relay({}, self._staged)
        self.splitter: Splitter | None = None
        self.brokered: Brokered | None = None
        self.crew = crew

    async def build(self, stack: AsyncExitStack) -> None:
        """Everything that can be wrong in the table is found here, before anything runs; raises ConfigError."""
        self._open_logins()
        if self.table.bus.broker != "embedded":
            self.brokered = Brokered(
                self.table, self.store, self.services, self.clock, self.waiters, self._replies(), self.offer
            )
        self.planners = await self._draft(self.table, self.services, stack)
        for spec in self.table.targets.values():
            self.lanes[spec.name] = self._lane(spec)
        self.relay = Relay(self._windows(), self._staged)
        self.store.stored = self.relay.stored
        self.splitter = Splitter(
            Desk(
                store=self.store,
                clock=self.clock,
                planners=self.planner,
                stopped=self.stopped,
                json=self.services.codec("json", {}),
                offer=self.relay.offer,
                wanted=self._staged,
                watchdog=self.watchdog,
            )
        )

    def _windows(self) -> dict[str, Window]:
        """What pages the outbox in: each lane's own, or those that go to the broker."""
        if self.brokered is not None:
            for lane in self.lanes.values():
                self.brokered.attach(lane)
            return self.brokered.windows
        return {name: lane.window for name, lane in self.lanes.items() if isinstance(lane.window, Window)}

    def _open_logins(self) -> None:
        for spec in self.table.auth.values():
            self.services.auths[spec.name] = open_auth(spec, self.services, folder=self.table.folder, clock=self.clock)

    async def _draft(self, table: Table, services: BusServices, stack: AsyncExitStack) -> dict[str, Planner]:
        return await planners_of(table, Draft(table, services.environment, services.open, stack), services.zone)

    def _replies(self) -> dict[str, ReplySpec]:
        """The routes whose senders wait for an outcome."""
        return {
            route.name: source.reply
            for route in self.table.routes.values()
            for source in route.sources
            if source.reply.kind != "stored"
        }

    def _lane(self, spec: TargetSpec) -> Lane:
        inbox = None if self.brokered is None else self.brokered.inbox(spec)
        post = Post(
            store=self.store,
            outcomes=dispatch.Own(self.store) if inbox is None else inbox,
            clock=self.clock,
            counters=self.counters,
            # On a broker the node that accepted a message tells its sender, when the receipt has come home.
            waiters=self.waiters if inbox is None else Waiters(self.clock),
            replies=self._replies(),
            policies={
                route.name: self.table.retry[route.retry]
                for route in self.table.routes.values()
                if route.retry is not None
            },
            offer=lambda rows: self.relay.offer(rows),
            mask=Mask(self.table.bus.hide, self.services.secrets).text,
            health=self.services.health,
            watchdog=self.watchdog,
        )
        context = self.services.context(spec, f"target.{spec.name}")
        return Lane(
            spec,
            self.table.retry[spec.retry],
            partial(threads.opened, spec.component, spec.options, context),
            dispatch.programs(spec, self.services.environment.compile_template),
            Window(spec.name, self.store, self.clock) if inbox is None else inbox,
            post,
        )

    async def planner(self, route: str, table_hash: str) -> Planner | None:
        """The planner of a route in the table that accepted a message; "" means the current one (R11)."""
        if table_hash in ("", self.table.hash):
            return self.planners.get(route)
        if table_hash not in self._old:
            self._old[table_hash] = await self._rebuild(table_hash)
        return self._old[table_hash].get(route)

    def stopped(self, route: str, table_hash: str) -> bool:
        """Whether this machine cannot run a route of a table whose planners were asked for: its messages wait."""
        return route in self._stopped.get(table_hash, {})

    async def _rebuild(self, table_hash: str) -> dict[str, Planner]:
        """An older table from its kept text; empty when it can no longer be built. Raises OSError when the machine is
        short of something: that passes."""
        kept = await self.store.definition(table_hash)
        if kept is None:
            return {}
        try:
            older = await asyncio.to_thread(unpacked, kept, self.table.data / "tables" / table_hash)
            table = load(self.table.file, self.registry, text_overrides=older.texts, kept=older.folder)
            self._stopped[table_hash] = table.stopped
            services = BusServices(table, self.registry, self.clock)
            return await self._draft(table, services, AsyncExitStack())
        except (EsbError, msgspec.DecodeError) as error:
            log.error("table %s can no longer be built: %s", table_hash[:12], error)
            return {}

    async def start(self) -> None:
        """Starts what is built: targets first, then what was left over, then the sources."""
        if await self.store.definition(self.table.hash) is None:
            await self.store.define(self.table.hash, "table", await asyncio.to_thread(packed, self.table))
        await self.pauses.restore()
        await self.pauses.look_at_clock()
        await self._park_homeless()
        if self.brokered is not None:
            await self.brokered.start(lambda work, name: self._tasks.start(work, name=name))
        for lane in self.lanes.values():
            if lane.spec.order_by is not None and lane.spec.when_stuck != "block":
                await self.store.heed_stuck(lane.name, lane.spec.when_stuck)
            if lane.spec.off is None:
                self._tasks.start(lane.run(), name=f"target {lane.name}")
        assert self.splitter is not None
        self._tasks.start(self.splitter.run(), name="splitter")
        self._tasks.start(self._upkeep(), name="upkeep")
        for name, why in self.table.absent.items():
            self.services.health(f"target.{name}", "down", why)
        for route in self.table.routes.values():
            if route.name in self.table.stopped:
                self.services.health(f"route.{route.name}", "down", f"stopped: {self.table.stopped[route.name]}")
                continue
            for number, source in enumerate(route.sources):
                self._start_source(route, source, number)

    async def _park_homeless(self) -> None:
        """A row whose target is gone parks as no-target (R11); one whose target this machine lacks waits."""
        known = {*self.lanes, *self.table.absent}
        for target, _ in await self.store.query(forwarded.targets):
            # Without a broker nothing comes back of what an earlier one has; of a target that is gone, nothing at all.
            if self.brokered is None or target not in known:
                await self.store.reclaim(target)
        gone = await self.store.park_unknown([*self.lanes, *self.table.absent])
        if gone:
            log.error("%d deliveries are parked: their target is no longer in the table", gone)

    def _start_source(self, route: RouteSpec, source: SourceSpec, number: int) -> None:
        state = SourceState(route=route, spec=source, name=f"route.{route.name}" + (f".{number}" if number else ""))
        state.paused, state.until = self.pauses.of_source(route)
        self.sources.append(state)
        self._source_tasks.append(self._tasks.start(feeding(state, self._feed()), name=f"source {state.name}"))

    def _feed(self) -> Feed:
        return Feed(
            services=self.services,
            clock=self.clock,
            watchdog=self.watchdog,
            planners=self.planners,
            over=self.pauses.over,
            intake=lambda state: Intake(self.planners[state.route.name], state.spec.reply, self._door(), state.name),
            lease=self._lease,
        )

    def _lease(self, state: SourceState) -> AbstractAsyncContextManager[None]:
        """A source that polls runs in one worker alone; one that listens in all of them."""
        alone = (state.spec.placement or state.spec.component.placement) == "one node"
        return nullcontext() if self.crew is None or not alone else self.crew.lease(state.name)

    async def _taken(self, item: Passed) -> Accepted:
        """A message that another worker received, whose key is this one's."""
        route = self.table.routes.get(item.route)
        if route is None or item.route not in self.planners:
            raise StoreError(f"route {item.route} does not run here")
        reply = next((source.reply for source in route.sources), ReplySpec())
        return await Intake(self.planners[item.route], reply, self._door(own=True), item.source)(incoming(item))

    def _door(self, *, own: bool = False) -> Door:
        """`own`: what comes by it is accepted here, whoever owns its key."""
        return Door(
            crew=None if own else self.crew,
            store=self.store,
            clock=self.clock,
            waiters=self.waiters,
            counters=self.counters,
            planned=self._planned,
            watchdog=self.watchdog,
            open=lambda: self.accepting,
        )

    async def inject(self, route: str, message: Incoming) -> Accepted:
        """Hands a message to a route as a source would; raises what `accept` raises, KeyError for no route."""
        if route in self.table.stopped:
            raise Closing(f"route {route} is stopped: {self.table.stopped[route]}")
        sources = self.table.routes[route].sources
        reply = sources[0].reply if sources else ReplySpec()
        return await Intake(self.planners[route], reply, self._door())(message)

    async def _planned(self, uid: str) -> Any:
        assert self.splitter is not None
        return await self.splitter.planned(uid)

    def _stalled(self, name: str, seconds: float) -> None:
        self.counters.stalled(name, seconds)
        log.warning("%s held the loop for %.0f ms", name, seconds * 1000)

    async def _upkeep(self) -> None:
        """Prunes what retention lets go, in chunks, and writes down the time."""
        while True:
            await self.clock.sleep(UPKEEP)
            try:
                await self.store.upkeep({name: route.retain for name, route in self.table.routes.items()})
            except Exception as error:
                log.warning("upkeep of the store failed: %s", describe(error), exc_info=not isinstance(error, EsbError))
            # Whatever a window has missed (rows that came by another way) waits no longer than this.
            self.look(name for name, lane in self.lanes.items() if lane.window.idle)

    def offer(self, rows: Sequence[StoredDelivery]) -> None:
        """Rows that an operator made due again."""
        self.relay.offer(rows)

    def look(self, targets: Iterable[str] | None = None) -> None:
        """The store changed under the windows: read it again; staged work too."""
        for name in self.lanes if targets is None else targets:
            if name in self.lanes:
                self.lanes[name].window.look()
        self._staged.set()

    async def drain(self) -> bool:
        """Closes the sources, then lets what is under way finish, for `[bus] drain` at most. True when all did."""
        self.accepting = False
        for task in self._source_tasks:
            task.cancel()
        await asyncio.gather(*self._source_tasks, return_exceptions=True)
        lanes = [asyncio.ensure_future(lane.drain()) for lane in self.lanes.values()]
        if not lanes:
            return True
        _, late = await asyncio.wait(lanes, timeout=float(self.table.bus.drain))
        for future in late:
            future.cancel()
        return not late


@asynccontextmanager
async def open_bus(
    table: Table,
    registry: Registry,
    *,
    clock: Clock | None = None,
    counters: Counters | None = None,
    durable: bool = True,
    before_start: Callable[[Bus], None] | None = None,
    crew: Crew | None = None,
) -> AsyncIterator[Bus]:
    """A running bus, one worker of a `crew` where there are several. Raises ConfigError before anything started,
    StoreError when the store cannot be opened.

    Closing it drains: sources first, then what is under way.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(
            open_store(table.data, clock=clock, limits=table.bus.outbox, durable=durable, node=table.bus.name)
        )
        for target in table.targets.values():
            if target.backlog is not None:
                store.limit(target.name, rows=target.backlog.rows, size=target.backlog.size)
        made = BusServices(table, registry, clock, checkpoint=store.checkpoint, whereabouts=store.whereabouts)
        services = await stack.enter_async_context(made)
        tasks = await stack.enter_async_context(watched())
        bus = Bus(table, registry, store, services, clock, counters or Silence(), tasks, crew)
        await bus.build(stack)
        if before_start is not None:
            before_start(bus)
        stack.enter_context(bus.watchdog.watching())
        if crew is not None:
            await stack.enter_async_context(crew.serving(bus._taken, bus._planned))
        await bus.start()
        try:
            yield bus
        finally:
            await bus.drain()


class Tasks:
    """What runs for as long as the house is open; a task that fails closes it."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._made: list[asyncio.Task[None]] = []

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._group.create_task(work, name=name)
        self._made.append(task)
        return task

    def cancel(self) -> None:
        for task in self._made:
            task.cancel()


@asynccontextmanager
async def watched() -> AsyncIterator[Tasks]:
    """Tasks that live as long as the block: one that fails cancels the block, the end of the block cancels them.
    What the block itself raises comes out as it is."""
    raised: Exception | None = None
    async with asyncio.TaskGroup() as group:
        tasks = Tasks(group)
        try:
            yield tasks
        except Exception as error:
            raised = error
        finally:
            tasks.cancel()
    if raised is not None:
        raise raised
