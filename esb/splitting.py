"""The rest of a planning that was committed halfway: splits into parts, messages planned again (R1, R5)."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
from msgspec import Struct

from esb.clock import Clock
from esb.cutting import Cut, codec_of, place_of, stored_message
from esb.errors import DecodeError, MessageError, StoreError, describe
from esb.message import Message
from esb.pipeline import Planner
from esb.ports import Codec, Outcome
from esb.stepping import Trace
from esb.store import Store
from esb.store.inflight import POISON, Holding
from esb.store.records import NewBody, NewMessage, OpenMessage, Progress, StoredDelivery
from esb.watchdog import Watchdog

log = logging.getLogger(__name__)

TURNS = 4
"""Messages that are planned side by side."""

PAGE = 16
"""Messages that are looked up at a time."""

AGAIN = 1.0
"""Seconds before staged work that met a full or failing store goes on."""

_trace = msgspec.msgpack.Decoder(Trace).decode


class Planners(Protocol):
    """Finds the planner of a route in the table that accepted a message (R11); None when it can no longer be built."""

    async def __call__(self, route: str, table_hash: str, /) -> Planner | None: ...


class Desk(Struct, frozen=True, kw_only=True):
    """What the work on staged messages needs. `json` writes what a part carries; `offer` takes rows that became due;
    `stopped` tells of a route without a planner that only this machine cannot run: its messages wait."""

    store: Store
    clock: Clock
    planners: Planners
    stopped: Callable[[str, str], bool]
    json: Codec
    offer: Callable[[Sequence[StoredDelivery]], None]
    wanted: asyncio.Event
    watchdog: Watchdog


class Splitter:
    """Continues every open message whose planning is not finished, one chunk of parts a commit: some at a time, and
    those that wait for room at a target count for none."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._failed = False
        self._turns = asyncio.Semaphore(TURNS)
        self._running: set[int] = set()
        self._ended: set[int] = set()
        self._full: Counter[str] = Counter()

    async def run(self) -> None:
        """Works off what is staged, then waits for more. Runs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._desk.wanted.clear()
                self._failed = False
                try:
                    await self._all(tasks)
                except StoreError as error:
                    self._wait_for_store(error)
                await self._desk.wanted.wait()
                if self._failed:
                    await self._desk.clock.sleep(AGAIN)

    def _wait_for_store(self, error: StoreError) -> None:
        log.warning("staged messages wait for the store: %s", error)
        self._failed = True
        self._desk.wanted.set()

    async def _all(self, tasks: asyncio.TaskGroup) -> None:
        after = 0
        while True:
            self._ended.clear()
            rows = await self._desk.store.open_messages(PAGE, after)
            if not rows:
                return
            after = rows[-1].row
            for row in rows:
                if row.row not in self._running and not self._full[row.route]:
                    await self._turns.acquire()
                    if row.row in self._ended or self._full[row.route]:
                        self._turns.release()
                        continue
                    self._running.add(row.row)
                    tasks.create_task(self._turn(row), name=f"planning {row.uid}")

    async def _turn(self, row: OpenMessage) -> None:
        """One message on, and the turn to the next."""
        failure = await self._one(row)
        self._running.discard(row.row)
        self._ended.add(row.row)
        self._turns.release()
        if failure is not None:
            self._wait_for_store(failure)

    async def _one(self, row: OpenMessage) -> StoreError | None:
        """What fails is this message's, never the others'; gives why it waits for the store."""
        deaths = self._desk.store.crashed("claim", _place(row, row.parts_done))
        try:
            if deaths >= POISON:
                return await self._give_up(row, f"poison: the process died {deaths} times while this was being planned")
            await self._go_on(row)
        except StoreError as error:
            return error
        except OSError as error:
            # A disk or a limit of the machine: the message can wait for that.
            return StoreError(f"{row.uid}: {describe(error)}")
        except Exception as error:
            log.error("planning %s failed", row.uid, exc_info=error)
            return await self._give_up(row, f"its planning failed: {type(error).__name__}: {describe(error)}")
        return None

    def _tell(self, uid: str) -> None:
        """Whoever waits for the planning goes on."""
        for future in self._waiting.pop(uid, ()):
            if not future.done():
                future.set_result(None)

    async def _give_up(self, row: OpenMessage, reason: str) -> StoreError | None:
        try:
            await self._commit(Progress(message=row, state="quarantined", reason=reason, next_index=row.parts_done))
            self._tell(row.uid)
        except StoreError as error:
            return error
        return None

    async def _go_on(self, row: OpenMessage) -> None:
        planner = await self._desk.planners(row.route, row.table_hash)
        if planner is None and self._desk.stopped(row.route, row.table_hash):
            return
        if planner is None:
            reason = f"no-table: route {row.route} of table {row.table_hash[:12]} can no longer be built"
            await self._commit(Progress(message=row, state="unmatched", reason=reason))
        elif row.stage == "release":
            with self._under_way(row, 0):
                await self._again(planner, row)
        else:
            await self._split(planner, row)
        self._tell(row.uid)

    def _under_way(self, row: OpenMessage, done: int) -> Holding:
        """Remembered over the process's death, with how far it had come: what gets on is no poison (R15)."""
        return self._desk.store.inflight.holding("claim", _place(row, done))

    async def planned(self, uid: str) -> Outcome:
        """Waits until the message is planned wholly; then how it ended and which of its parts were rejected."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(uid, []).append(future)
        store = self._desk.store
        state = await store.message_state(uid)
        if state is not None and state.stage:
            await future
            state = await store.message_state(uid)
        elif future in self._waiting.get(uid, ()):
            self._waiting[uid].remove(future)
        if state is None:
            return Outcome(state="done")
        rejected = tuple(await store.rejected(uid)) if state.parts else ()
        return Outcome(state=state.state, reason=state.reason, parts=state.parts, rejected=rejected)

    async def _again(self, planner: Planner, row: OpenMessage) -> None:
        """A released message is planned from its bytes with the table of today."""
        data = await self._bytes(row)
        body = NewBody(data=data, size=row.size, media=row.media)
        plan = self._part_again if row.made == "part" else self._whole_again
        new = await self._desk.watchdog.threaded(
            f"route {row.route}", row.size, plan, planner, row, stored_message(row, data), body
        )
        made = new.made_messages
        progress = Progress(
            message=row, made=made, deliveries=new.deliveries, stage=new.stage, state=new.state, reason=new.reason,
            trace=new.trace,
        )  # fmt: skip
        await self._commit(progress)
        if new.stage:
            self._desk.wanted.set()

    def _whole_again(self, planner: Planner, row: OpenMessage, message: Message, body: NewBody) -> NewMessage:
        return planner.plan(message, body, may_refuse=False).message

    def _part_again(self, planner: Planner, row: OpenMessage, message: Message, body: NewBody) -> NewMessage:
        trace = _trace(row.trace) if row.trace else Trace()
        message, bad = self._decoded(planner, message, trace)
        if bad is not None:
            return planner.bad_part(message, body, row.parent or "", trace, row.last, bad)
        return planner.part(message, body, row.parent or "", trace, row.last)

    def _decoded(self, planner: Planner, message: Message, trace: Trace) -> tuple[Message, Exception | None]:
        """A kept part as the steps after the split see it."""
        codec = self._desk.json if trace.raw_json else codec_of(planner)
        try:
            decoded = codec.decode_part(message.raw)
        except DecodeError as error:
            return message, error
        carried = self._desk.json.decode(trace.carry).tree if trace.carry else {}
        read = message.with_(body=decoded.tree, memory=decoded.memory, codec=codec)
        return read.with_(part=place_of(trace), parent=carried), None

    async def _bytes(self, row: OpenMessage) -> bytes:
        if row.body is not None:
            return row.body
        assert row.body_file is not None
        return await asyncio.to_thread(row.body_file.read_bytes)

    async def _split(self, planner: Planner, row: OpenMessage) -> None:
        """Parts in chunks, each one commit with the parent's place; goes on where an earlier run stopped."""
        cut = Cut(planner, row, self._desk.json, self._desk.watchdog)
        done = row.parts_done
        with self._under_way(row, done):
            walk = await asyncio.to_thread(cut.start, done)
        if isinstance(walk, MessageError):
            await self._end(row, done, walk)
            return
        while True:
            with self._under_way(row, done):
                made, error, finished = await asyncio.to_thread(cut.chunk)
            done += len(made)
            if error is not None:
                await self._commit(Progress(message=row, made=made, stage=row.stage, next_index=done))
                await self._end(row, done, error)
                return
            state = "split" if finished else "open"
            stage = "" if finished else row.stage
            await self._commit(Progress(message=row, made=made, stage=stage, next_index=done, state=state))  # type: ignore[arg-type]
            if finished:
                return
            await self._room(planner, row.route)

    async def _end(self, row: OpenMessage, done: int, error: MessageError) -> None:
        """The input is broken from here on: the parent ends quarantined, the parts made stand (R5)."""
        place = f", stopped at {error.place}" if error.place else ""
        reason = f"{done} parts made{place}: {error}"
        await self._commit(Progress(message=row, state="quarantined", reason=reason, next_index=done))

    async def _room(self, planner: Planner, route: str) -> None:
        """Waits while a target's backlog is full: a split makes no more than its targets may hold. Its turn is
        another's meanwhile, and no other message of its route is begun."""
        if self._desk.store.room(planner.blueprint.targets) is None:
            return
        self._full[route] += 1
        self._turns.release()
        while self._desk.store.room(planner.blueprint.targets) is not None:
            await self._desk.clock.sleep(AGAIN)
        self._full[route] -= 1
        self._desk.wanted.set()
        await self._turns.acquire()

    async def _commit(self, progress: Progress) -> None:
        rows = await asyncio.shield(self._desk.store.progress(progress))
        if rows:
            self._desk.offer(rows)


def _place(row: OpenMessage, done: int) -> str:
    """What is being planned, and how far it has come."""
    return f"{row.stage}:{row.uid}:{done}"
