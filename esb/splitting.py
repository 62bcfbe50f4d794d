"""The rest of a planning that was committed halfway: splits into parts, messages planned again (R1, R5)."""

from __future__ import annotations

import asyncio
import logging
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
    """Continues every open message whose planning is not finished, one chunk of parts a commit."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._failed = False

    async def run(self) -> None:
        """Works off what is staged, then waits for more. Runs until cancelled."""
        while True:
            self._desk.wanted.clear()
            self._failed = False
            try:
                await self._all()
            except StoreError as error:
                self._wait_for_store(error)
            if self._failed:
                await self._desk.clock.sleep(AGAIN)
                continue
            await self._desk.wanted.wait()

    def _wait_for_store(self, error: StoreError) -> None:
        log.warning("staged messages wait for the store: %s", error)
        self._failed = True

    async def _all(self) -> None:
        after = 0
        while rows := await self._desk.store.open_messages(4, after):
            after = rows[-1].row
            async with asyncio.TaskGroup() as tasks:
                for row in rows:
                    tasks.create_task(self._one(row), name=f"planning {row.uid}")

    async def _one(self, row: OpenMessage) -> None:
        """One message on; what fails is this message's, never the others'."""
        deaths = self._desk.store.crashed("claim", _place(row, row.parts_done))
        try:
            if deaths >= POISON:
                await self._give_up(row, f"poison: the process died {deaths} times while this was being planned")
            else:
                await self._go_on(row)
        except StoreError as error:
            self._wait_for_store(error)
        except OSError as error:
            # A disk or a limit of the machine: the message can wait for that.
            self._wait_for_store(StoreError(f"{row.uid}: {describe(error)}"))
        except Exception as error:
            log.error("planning %s failed", row.uid, exc_info=error)
            await self._give_up(row, f"its planning failed: {type(error).__name__}: {describe(error)}")

    def _tell(self, uid: str) -> None:
        """Whoever waits for the planning goes on."""
        for future in self._waiting.pop(uid, ()):
            if not future.done():
                future.set_result(None)

    async def _give_up(self, row: OpenMessage, reason: str) -> None:
        try:
            await self._commit(Progress(message=row, state="quarantined", reason=reason, next_index=row.parts_done))
            self._tell(row.uid)
        except StoreError as error:
            self._wait_for_store(error)

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
        new = await self._desk.watchdog.threaded(row.size, plan, planner, row, stored_message(row, data), body)
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
            await self._room(planner)

    async def _end(self, row: OpenMessage, done: int, error: MessageError) -> None:
        """The input is broken from here on: the parent ends quarantined, the parts made stand (R5)."""
        place = f", stopped at {error.place}" if error.place else ""
        reason = f"{done} parts made{place}: {error}"
        await self._commit(Progress(message=row, state="quarantined", reason=reason, next_index=done))

    async def _room(self, planner: Planner) -> None:
        """Waits while a target's backlog is full: a split makes no more than its targets may hold."""
        while self._desk.store.room(planner.blueprint.targets) is not None:
            await self._desk.clock.sleep(AGAIN)

    async def _commit(self, progress: Progress) -> None:
        rows = await asyncio.shield(self._desk.store.progress(progress))
        if rows:
            self._desk.offer(rows)


def _place(row: OpenMessage, done: int) -> str:
    """What is being planned, and how far it has come."""
    return f"{row.stage}:{row.uid}:{done}"
