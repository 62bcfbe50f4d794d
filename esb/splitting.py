"""The rest of a planning that was committed halfway: splits into parts, messages planned again (R1, R5)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from esb.clock import Clock
from esb.errors import DecodeError, MessageError, StoreError, describe
from esb.ids import derived_uid
from esb.message import BadPart, Headers, Message, Part, hops_of
from esb.pipeline import Planner, Trace
from esb.ports import Codec, Outcome
from esb.store import Store
from esb.store.inflight import POISON
from esb.store.records import NewBody, NewMessage, OpenMessage, Progress, StoredDelivery
from esb.watchdog import Watchdog

log = logging.getLogger(__name__)

CHUNK_PARTS = 200
"""Parts of one commit at most."""

CHUNK_BYTES = 2_000_000
"""Bytes of one commit's parts, about."""

READ = 262_144
"""Bytes read from a body's file at a time."""

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

    def _under_way(self, row: OpenMessage, done: int) -> AbstractContextManager[None]:
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
        new = await self._desk.watchdog.threaded(row.size, plan, planner, row, _message(row, data), body)
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
        codec = self._desk.json if trace.raw_json else _codec(planner)
        try:
            decoded = codec.decode_part(message.raw)
        except DecodeError as error:
            return message, error
        carried = self._desk.json.decode(trace.carry).tree if trace.carry else {}
        read = message.with_(body=decoded.tree, memory=decoded.memory, codec=codec)
        return read.with_(part=_part(trace), parent=carried), None

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


class Cut:
    """One body being cut into planned parts; runs in a thread, a chunk at a time, under the watchdog's eyes."""

    def __init__(self, planner: Planner, row: OpenMessage, json: Codec, watchdog: Watchdog) -> None:
        self._planner = planner
        self._row = row
        self._json = json
        self._watchdog = watchdog
        self._message = _message(row, row.body or b"")
        self._split: Any = None
        self._index = 0
        self._parts: Iterator[tuple[Part | BadPart, bool]] = iter(())
        self._carried: tuple[Any, Mapping[str, Any], bytes] | None = None
        self._raw_json = False

    def start(self, skip: int) -> MessageError | None:
        """Gets ready and passes over what is made already; the error that nothing of the body can be used for."""
        try:
            self._watchdog.within(self._row.size, self._start, skip)
        except MessageError as error:
            return error
        return None

    def _start(self, skip: int) -> None:
        split_at = self._planner.blueprint.split_at
        assert split_at is not None
        self._split = self._planner.blueprint.steps[split_at].step
        if self._split.whole or self._has_totals():
            for _ in self._source():
                pass
        self._parts = with_last(iter(self._source()))
        for _ in range(skip):
            next(self._parts)
        self._index = skip

    def _has_totals(self) -> bool:
        """Whether the file is to be compared with control totals before anything of it is used (codec.whole)."""
        return self._planner.blueprint.streaming and bool(getattr(_codec(self._planner), "whole", False))

    def _source(self) -> Iterable[Part | BadPart]:
        """The parts: streamed from the bytes where only a read stands before the split, else of the tree."""
        blueprint = self._planner.blueprint
        if blueprint.streaming:
            codec = _codec(self._planner)
            self._message = self._message.with_(format=blueprint.steps[0].step.format, codec=codec)
            return codec.parts(_chunks(self._row), self._split.path)
        if self._row.body is None and self._row.body_file is not None:
            data = self._row.body_file.read_bytes()
            self._message = self._message.with_(body=data, raw=data)
        before = self._planner.before_split(self._message)
        self._message = before
        items = self._split.items(before.body, before.format)
        self._raw_json = True
        return [Part(tree=item, raw=self._json.encode(item), outer=before.body, count=len(items)) for item in items]

    def chunk(self) -> tuple[list[NewMessage], MessageError | None, bool]:
        """The next parts, planned; the error that ends the input, if it does; whether that was all."""
        made: list[NewMessage] = []
        size = 0
        within = self._watchdog.within
        try:
            while (found := within(self._row.size, next, self._parts, None)) is not None:
                part, last = found
                self._index += 1
                made.append(within(len(part.raw), self._plan, part, last))
                size += len(part.raw)
                if len(made) >= CHUNK_PARTS or size >= CHUNK_BYTES:
                    return made, None, last
        except MessageError as error:
            return made, error, False
        return made, None, True

    def _plan(self, part: Part | BadPart, last: bool) -> NewMessage:
        uid = derived_uid(self._row.uid, "part", str(self._index))
        count = part.count if isinstance(part, Part) else None
        trace = Trace(part=(self._index, count, last, part.line), raw_json=self._raw_json)
        body = NewBody(data=part.raw, size=len(part.raw), media=self._message.media_type)
        message = self._message.with_(uid=uid, raw=part.raw, changed=False, memory=None, tree=None)
        if isinstance(part, BadPart):
            return self._planner.bad_part(message, body, self._row.uid, trace, last, part.error)
        try:
            carried, trace.carry = self._carry(part)
        except MessageError as error:
            return self._planner.bad_part(message, body, self._row.uid, trace, last, error)
        codec = self._json if self._raw_json and message.codec is None else message.codec
        message = message.with_(
            body=part.tree,
            codec=codec,
            part=_part(trace),
            parent=carried,
            memory=part.memory,
            source={**message.source, **part.about} if part.about else message.source,
        )
        return self._planner.part(message, body, self._row.uid, trace, last)

    def _carry(self, part: Part) -> tuple[Mapping[str, Any], bytes]:
        """What the parts take along from the whole; worked out once for one `outer`."""
        if not self._split.carry:
            return {}, b""
        if self._carried is None or self._carried[0] is not part.outer:
            seen = self._message.with_(body=part.outer)
            values = {name: program.evaluate(seen) for name, program in self._split.carry.items()}
            self._carried = (part.outer, values, self._json.encode(values))
        return self._carried[1], self._carried[2]


def with_last(items: Iterator[Part | BadPart]) -> Iterator[tuple[Part | BadPart, bool]]:
    """Each part with whether it is the last. What comes before an error is given before it is raised."""
    try:
        item = next(items)
    except StopIteration:
        return
    while True:
        try:
            following = next(items)
        except StopIteration:
            yield item, True
            return
        except MessageError:
            yield item, False
            raise
        yield item, False
        item = following


def _place(row: OpenMessage, done: int) -> str:
    """What is being planned, and how far it has come."""
    return f"{row.stage}:{row.uid}:{done}"


def _part(trace: Trace) -> Mapping[str, Any]:
    """`part.*` in expressions."""
    assert trace.part is not None
    index, count, last, line = trace.part
    return {"index": index, "count": count, "last": last, "line": line}


def _codec(planner: Planner) -> Codec:
    """The codec of the read before the split."""
    blueprint = planner.blueprint
    assert blueprint.split_at is not None
    for step in reversed(blueprint.steps[: blueprint.split_at]):
        if step.kind == "read":
            codec: Codec = step.step.codec
            return codec
    raise DecodeError("no read before the split says what the parts are", code="M219")


def _chunks(row: OpenMessage) -> Iterator[bytes]:
    if row.body is not None:
        yield row.body
        return
    assert row.body_file is not None
    with Path(row.body_file).open("rb") as file:
        while chunk := file.read(READ):
            yield chunk


def _message(row: OpenMessage, data: bytes) -> Message:
    """A stored message as its route sees it first."""
    return Message(
        uid=row.uid,
        route=row.route,
        accepted_at=row.accepted_at,
        body=data,
        raw=data,
        headers=Headers(row.headers),
        source=row.source,
        media_type=row.media,
        hops=hops_of(row.headers),
        caller=row.caller,
    )
