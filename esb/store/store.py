"""The open store: what the house asks of it, a few lines each; the work is done in the modules beside it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from esb.clock import Clock
from esb.errors import EsbError, OutcomeUnknown, StoreError
from esb.store import dead_letters, forwarded, order, reading
from esb.store.account import Account
from esb.store.backlog import Backlog
from esb.store.backup import back_up
from esb.store.bodies import INLINE, Bodies
from esb.store.dead_letters import Act
from esb.store.inflight import Inflight
from esb.store.journal import Journey, MessageRow
from esb.store.planning import advance
from esb.store.reader import RECOUNT, Reader, Readers
from esb.store.reading import Hand
from esb.store.records import (
    Acceptance,
    KeptPause,
    MessageFate,
    NewBody,
    NewMessage,
    OpenMessage,
    Progress,
    Settled,
    Settlement,
    Stored,
    StoredDelivery,
    Whereabouts,
)
from esb.store.retention import Pruned
from esb.store.rows import Draft, Numbers, draft
from esb.store.space import Space
from esb.store.start import REMEMBERED, Start, write_seen
from esb.store.upkeep import Retain, Upkeep
from esb.store.work import Work
from esb.store.writer import Writer, unstorable

log = logging.getLogger(__name__)
T = TypeVar("T")

AT_ONCE = 5000
"""Rows that one statement over a whole backlog changes: the rest follows in the next transaction."""


class Parts:
    """What a store is made of; `open_store` puts it together."""

    __slots__ = ("backlog", "bodies", "clock", "folder", "inflight", "numbers", "readers", "space", "writer")

    def __init__(
        self, folder: Path, clock: Clock, writer: Writer, readers: Readers, backlog: Backlog, space: Space
    ) -> None:
        self.folder = folder
        self.clock = clock
        self.writer = writer
        self.readers = readers
        self.backlog = backlog
        self.space = space
        self.numbers: Numbers
        self.bodies: Bodies
        self.inflight: Inflight


class Store:
    """One open store. Made by `open_store`; what is public here is what the floors above may use.

    `stored` hears of each acceptance that is on disk, in the order of the commits, before its sender does and whether
    or not it still waits: a message goes on from there. `clock_jump` are the seconds that the wall clock jumped while
    the store was closed (R12), `clean_start` tells that the last end was clean, `inflight` remembers what is under way
    (R15).
    """

    def __init__(self, parts: Parts, start: Start) -> None:
        self.folder = parts.folder
        self.clock = parts.clock
        self.inflight = parts.inflight
        self.bodies = parts.bodies
        self.clock_jump = start.clock_jump
        self.clean_start = start.clean
        self.poisoned = start.poisoned
        self.node, self.generation = start.node, start.generation
        self._crashes = dict(start.crashes)
        self._begun = parts.clock.now()
        self._parts = parts
        self._writer = parts.writer
        self._readers = parts.readers
        self._backlog = parts.backlog
        self._numbers = parts.numbers
        self._upkeep = Upkeep(parts.folder, parts.readers, self.act, parts.writer.apart)
        self.stored: Callable[[NewMessage, Stored], None] = lambda message, stored: None
        self._writer.after = self._committed
        self._writer.stored = self._heard_of
        self._writer.anew = self._backlog.start

    def _committed(self, work: Work) -> None:
        """A transaction is on disk: what memory knows follows it."""
        for target, (rows, size) in work.entries.waits.items():
            self._backlog.add(target, rows, size)
        self.inflight.commit(*work.last)
        if work.files:
            self.bodies.committed(work.files)
        if work.loose:
            self.bodies.remove(work.loose)

    def _heard_of(self, item: Draft) -> None:
        if item.acceptance is not None and isinstance(item.outcome, Stored):
            self.stored(item.acceptance.message, item.outcome)

    @property
    def refusing(self) -> StoreError | None:
        """Why nothing is accepted now, for health: a damaged file, a full disk."""
        return self._writer.refusing or self._parts.space.refusal()

    def act(self, call: Callable[[Work], T]) -> asyncio.Future[T]:
        """A function of one transaction of its own; what it returns is on disk when the future is resolved."""
        return self._writer.add_job(call)

    # Accepting and settling

    async def accept(self, acceptance: Acceptance) -> Stored:
        """On disk when it returns: the message, its deliveries, its key, its entries; or none of it.

        Raises Conflict, Busy, StoreFull, OutcomeUnknown, StoreError.
        """
        message = acceptance.message
        if message.made_messages:
            acceptance = replace(acceptance, message=await self._files(message))
        future: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self._begin(acceptance, future)
        if message.body.file is None:
            return await future
        return await self._with_file(message.body.file, future)

    def _begin(self, acceptance: Acceptance, future: asyncio.Future[Stored]) -> None:
        if self._writer.closing:
            raise StoreError("the store is closed")
        try:
            made = draft(acceptance, self._numbers, self.clock.now(), future)
        except (ValueError, TypeError, OverflowError) as error:
            raise unstorable(error) from error
        self._writer.add_draft(made)

    async def _with_file(self, file: str, future: asyncio.Future[Stored]) -> Stored:
        """A large body that no row names after all is unlinked."""
        try:
            stored = await future
        except OutcomeUnknown:
            raise
        except EsbError:
            self.bodies.remove((file,))
            raise
        if stored.duplicate:
            self.bodies.remove((file,))
        return stored

    async def _files(self, message: NewMessage) -> NewMessage:
        """The same message, its large bodies (and those of what it hands on) as files (R7)."""
        return replace(
            message,
            body=await self._file(message.body),
            deliveries=[
                item if item.body is None else replace(item, body=await self._file(item.body))
                for item in message.deliveries
            ],
            made_messages=[await self._files(item) for item in message.made_messages],
        )

    async def _file(self, body: NewBody) -> NewBody:
        if body.data is None or len(body.data) <= INLINE:
            return body
        return replace(await self.bodies.keep(body.data), media=body.media)

    def settle(self, settlement: Settlement) -> asyncio.Future[Settled]:
        """Queues an outcome; the future is resolved when it is on disk."""
        return self._writer.add_settlement(settlement)

    def room(self, targets: Collection[str]) -> EsbError | None:
        """Why a message for these targets cannot be taken now; None when it can (R9)."""
        return self._backlog.refusal(targets) or self.refusing

    def limit(self, target: str, *, rows: int | None = None, size: int | None = None) -> None:
        """A backlog limit of its own for this target; None: a quarter of the whole."""
        self._backlog.limit(target, rows, size)

    async def backlog(self) -> Mapping[str, tuple[int, int, float | None]]:
        """Rows and bytes that wait, and since when the oldest does, for each target that has any."""
        rows = {name: (n, self._backlog.size[name]) for name, n in self._backlog.rows.items() if n}

        def since(db: sqlite3.Connection) -> dict[str, float | None]:
            return {name: reading.oldest(db, name) for name in rows}

        ages = await self._readers.read(since)
        return {name: (n, size, ages[name]) for name, (n, size) in rows.items()}

    # Lanes

    async def due(
        self, target: str, now: float, limit: int, in_hand: Hand = frozenset(), size: int | None = None
    ) -> tuple[list[StoredDelivery], bool]:
        """Rows due now that are not in hand, in due order, `limit` at most; and whether more are left. Of their bodies
        no more than `size` bytes, and one row, are read."""
        return await self._readers.read(reading.due, target, now, limit, in_hand, size)

    async def next_due(self, target: str, after: float) -> float | None:
        """The first due time later than `after`."""
        return await self._readers.read(reading.next_due, target, after)

    async def now(self, target: str) -> int:
        """Clears the retry clocks of a target ("it is back"); gives how many rows are due because of it."""
        return await self._in_chunks(lambda work: dead_letters.now(work, target, AT_ONCE))

    async def heed_stuck(self, target: str, when_stuck: str) -> int:
        """Lines whose head is stuck are dealt with as `when_stuck` says now (R14); gives how many."""
        return await self.act(lambda work: order.heed(work, target, when_stuck))

    async def park_unknown(self, known: Sequence[str]) -> int:
        """Rows of targets that are in no table any more are parked as no-target (R11); gives how many."""
        gone = [name for name, rows in self._backlog.rows.items() if rows and name not in known]
        count = 0
        for target in gone:
            count += await self._in_chunks(_parking(target))
        return count

    async def reclaim(self, target: str) -> int:
        """What the broker has of this target is due again, with the same ids; gives how many rows (R23)."""
        return await self._in_chunks(lambda work: forwarded.reclaim(work, target, AT_ONCE))

    async def _in_chunks(self, call: Callable[[Work], int]) -> int:
        count = 0
        while True:
            changed = await self.act(call)
            count += changed
            if changed < AT_ONCE:
                return count

    # Bodies

    async def keep(self, body: bytes | Path | AsyncIterator[bytes], limit: int | None = None) -> NewBody:
        """A body ready for a row; a large one is on disk when it returns (R7). Raises Invalid (413) over `limit`."""
        return await self.bodies.keep(body, limit)

    async def kept(self, body: NewBody) -> bytes:
        """The bytes of a kept body."""
        if body.data is not None:
            return body.data
        assert body.file is not None
        return await asyncio.to_thread(self.bodies.read, body.file)

    async def body(self, body_id: int) -> bytes:
        """A body by its row; raises StoreError when it was pruned."""
        data, file = await self._place(body_id)
        return data if data is not None else await asyncio.to_thread(self.bodies.read, file)

    async def stream(self, body_id: int) -> AsyncIterator[bytes]:
        """A body in pieces; raises StoreError when it was pruned."""
        data, file = await self._place(body_id)
        if data is not None:
            yield data
            return
        async for piece in self.bodies.stream(file):
            yield piece

    async def _place(self, body_id: int) -> tuple[bytes | None, str]:
        found = await self._readers.read(reading.body, body_id)
        if found is None:
            raise StoreError(f"body {body_id} is no longer kept")
        return found[0], found[1] or ""

    # Planning

    async def progress(self, progress: Progress) -> list[StoredDelivery]:
        """One chunk of a planning, committed whole; gives the rows that are due. Raises StoreError."""
        if any(len(item.body.data or b"") > INLINE or item.deliveries or item.made_messages for item in progress.made):
            progress = replace(progress, made=[await self._files(item) for item in progress.made])
        if any(item.body is not None and len(item.body.data or b"") > INLINE for item in progress.deliveries):
            kept = [
                item if item.body is None else replace(item, body=await self._file(item.body))
                for item in progress.deliveries
            ]
            progress = replace(progress, deliveries=kept)
        return await self.act(lambda work: advance(work, progress))

    async def open_messages(self, limit: int, after: int = 0) -> list[OpenMessage]:
        """Messages whose planning is not finished, in order."""
        return await self._readers.read(reading.open_messages, limit, after, self.bodies.path)

    async def message_state(self, uid: str) -> MessageFate | None:
        """How a message stands; None when it is not known (any more)."""
        return await self._readers.read(reading.message_state, uid)

    async def whereabouts(self, uid: str) -> Whereabouts | None:
        """What a sender may know of a message; None when there is none (any more)."""
        return await self._readers.read(reading.whereabouts, uid)

    async def rejected(self, uid: str) -> list[tuple[int | None, bytes, str]]:
        """The parts of a message that were quarantined, in order: line, raw document, reason."""
        return await self._readers.read(reading.rejected, uid, self.bodies.read)

    async def define(self, name: str, kind: str, body: bytes) -> None:
        """Keeps a definition by its hash (R11)."""
        query = "INSERT OR IGNORE INTO definition (hash, kind, body, at) VALUES (?, ?, ?, ?)"

        def write(work: Work) -> None:
            work.db.execute(query, (name, kind, body, work.now))

        await self.act(write)

    async def definition(self, name: str) -> bytes | None:
        """A definition by its hash."""
        return await self._readers.read(reading.definition, name)

    async def checkpoint(self, source: str, name: str = "") -> bytes | None:
        """Where a source stands."""
        return await self._readers.read(reading.checkpoint, source, name)

    # Pauses

    async def pauses(self) -> list[KeptPause]:
        """What stands still, and why."""
        return await self._readers.read(reading.pauses)

    def set_pause(
        self, scope: str, name: str, *, reason: str, until: float | None = None, by: str = ""
    ) -> asyncio.Future[None]:
        """Queues a pause that outlives a restart."""

        def write(work: Work) -> None:
            work.db.execute(
                "INSERT OR REPLACE INTO pause (scope, name, reason, until, by) VALUES (?, ?, ?, ?, ?)",
                (scope, name, reason, until, by),
            )
            dead_letters.note(work, Act(what="pause", actor=by, why=reason), f"{scope} {name}")

        return _heard(self.act(write))

    def clear_pause(self, scope: str, name: str, *, by: str = "") -> asyncio.Future[None]:
        """Queues the end of a pause."""

        def write(work: Work) -> None:
            work.db.execute("DELETE FROM pause WHERE scope = ? AND name = ?", (scope, name))
            dead_letters.note(work, Act(what="resume", actor=by), f"{scope} {name}")

        return _heard(self.act(write))

    # People

    async def ask(self, question: Callable[[Reader], T], *, seconds: float = 10.0) -> T:
        """A question to a Reader, beside the lanes; raises Busy when it takes longer than that."""
        return await self._readers.ask(question, seconds=seconds)

    async def query(self, call: Callable[..., T], /, *arguments: Any, **options: Any) -> T:
        """A function of esb.store.journal, .held or .reading, beside the lanes."""
        return await self._readers.ask(lambda reader: reader.query(call, *arguments, **options), seconds=RECOUNT)

    async def account(self, since: float | None = None) -> Account:
        """The books, recounted in one read transaction."""
        return await self.ask(lambda reader: reader.account(since), seconds=RECOUNT)

    async def messages(self, **wanted: Any) -> list[MessageRow]:
        """The newest first: `route`, `state`, `since`, `until`, `key`, `limit`, `after`."""
        return await self.ask(lambda reader: reader.messages(**wanted))

    async def journey(self, uid: str) -> Journey | None:
        """One message with all that became of it."""
        return await self.ask(lambda reader: reader.journey(uid))

    def crashed(self, kind: str, key: str | bytes) -> int:
        """How often the process has died lately with this claim or body under way (R15)."""
        if not self._crashes or self.clock.now() - self._begun > REMEMBERED[kind]:
            return 0
        return self._crashes.get((kind, Start.key(key)), 0)

    # Rounds

    async def upkeep(self, retains: Mapping[str, Retain]) -> Pruned:
        """One round of letting go and tidying, and the time written down."""
        held = self._writer.held
        gone = Pruned() if held else await self._upkeep.round(retains, self.clock.now())
        await self._unlink_forsaken()
        await self.act(write_seen)
        return gone

    def hold(self, held: bool) -> None:
        """While nobody knows the time nothing is let go and no key's time is over (R12)."""
        self._writer.held = held

    async def _unlink_forsaken(self) -> None:
        """Bodies kept long ago that no row names. The rows are asked: an unknown commit may have come through."""
        names = self.bodies.forsaken()
        if names:
            known = await self._readers.read(reading.files)
            self.bodies.remove([name for name in names if name not in known])

    async def backup(self, place: Path) -> None:
        """A consistent copy while the bus runs, bodies included, in a folder that is made. Raises StoreError."""
        with self.bodies.held():
            await asyncio.to_thread(back_up, self.folder, place, self.clock.now())


def _parking(target: str) -> Callable[[Work], int]:
    return lambda work: dead_letters.park_homeless(work, target, AT_ONCE)


def _heard(future: asyncio.Future[None]) -> asyncio.Future[None]:
    """Nobody need wait for it: an error is logged."""

    def hear(done: asyncio.Future[None]) -> None:
        if not done.cancelled() and done.exception() is not None:
            log.error("a pause could not be written down: %s", done.exception())

    future.add_done_callback(hear)
    return future
