"""The store: every accepted message and every delivery until its outcome, in SQLite. aiosqlite lives here alone."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import aiosqlite

from esb.clock import Clock
from esb.errors import Busy, StoreError, StoreFull
from esb.store import held, reading, retention
from esb.store.bodies import Bodies
from esb.store.books import Account
from esb.store.held import Act
from esb.store.inflight import POISON, Inflight
from esb.store.opening import connect_reading, locked, prepare
from esb.store.outbox import Batch
from esb.store.records import (
    Acceptance,
    KeptPause,
    MessageFate,
    NewBody,
    OpenMessage,
    Progress,
    Settled,
    Settlement,
    Stored,
    StoredDelivery,
)
from esb.store.retention import Keep
from esb.store.writer import Writer

log = logging.getLogger(__name__)
T = TypeVar("T")


class Limits(Protocol):
    """What the store holds before sources refuse (R9)."""

    @property
    def rows(self) -> int: ...

    @property
    def size(self) -> int: ...


class Retain(Protocol):
    """How long a route's messages stay, in seconds."""

    @property
    def body(self) -> float: ...

    @property
    def journey(self) -> float: ...

    @property
    def dead(self) -> float | None: ...


class Backlog:
    """Rows and bytes that wait, a target; counted along, never by scanning."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.size: dict[str, int] = {}

    def add(self, row: StoredDelivery, sign: int) -> None:
        self.rows[row.target] = self.rows.get(row.target, 0) + sign
        self.size[row.target] = self.size.get(row.target, 0) + sign * row.size


class Store:
    """One open store. Made by `open_store`."""

    def __init__(self, folder: Path, clock: Clock, writer: Writer, limits: Limits, *, durable: bool) -> None:
        self.folder = folder
        self.clock = clock
        self.clock_jump = 0.0
        self.refusing = ""
        self.clean_start = True
        self._writer = writer
        self._limits = limits
        self._reader: aiosqlite.Connection | None = None
        self._full_until = 0.0
        self.backlogs = Backlog()
        self.bodies = Bodies(folder / "bodies", durable=durable)
        self.inflight = Inflight(folder / "inflight")

    async def prepare(self, clean: bool) -> None:
        """What is done before anything is accepted: crashes counted, orphans swept, backlogs and clock read."""
        self.clean_start = clean
        self._reader = await aiosqlite.connect(f"file:{self.folder / 'esb.db'}?mode=ro", uri=True, isolation_level=None)
        await self._reader.execute("PRAGMA query_only = 1")
        left_over = [number for kind, number in self.inflight.left_over if kind == "delivery"]
        if left_over and not clean:
            parked = await self._writer.submit(lambda work: held.park_poison(work, left_over, POISON))
            if parked:
                log.error("%d deliveries are parked: the bus died again and again while they were under way", parked)
        await self._read(self._count_backlogs)
        known = await self._read(
            lambda db: {name for (name,) in db.execute("SELECT file FROM body WHERE file NOT NULL")}
        )
        self.bodies.sweep(known)
        seen = await self._read(lambda db: db.execute("SELECT value FROM mark WHERE name = 'seen'").fetchone())
        if seen is not None and clean is not None:
            gone = self.clock.now() - float(seen[0])
            self.clock_jump = gone if gone < -3600 or gone > 365 * 86400 else 0.0
        await self._remember()

    def _count_backlogs(self, db: sqlite3.Connection) -> None:
        rows = db.execute(
            "SELECT name, sum(n) FROM account WHERE book = 'deliveries' AND entry IN ('due', 'forwarded') GROUP BY 1"
        )
        for target, count in rows.fetchall():
            sample = db.execute(
                "SELECT avg(size) FROM (SELECT size FROM delivery WHERE target = ? AND state = 'due' LIMIT 1000)",
                (target,),
            ).fetchone()[0]
            self.backlogs.rows[target] = count
            self.backlogs.size[target] = int(count * (sample or 0))

    async def _read(self, query: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """A query on the reading connection, in its thread."""
        assert self._reader is not None
        reader = self._reader

        def run() -> T:
            return query(reader._conn, *arguments, **options)

        try:
            found: T = await reader._execute(run)  # type: ignore[no-untyped-call]
        except sqlite3.Error as error:
            raise StoreError(f"the store cannot be read: {error}") from error
        return found

    async def accept(self, acceptance: Acceptance) -> Stored:
        """On disk when it returns: the message, its deliveries, its key, its entries; or none of it.

        Raises Conflict, Busy, StoreFull, OutcomeUnknown, StoreError.
        """
        if self.refusing or self._writer.refusing:
            raise StoreError(self.refusing or self._writer.refusing)
        try:
            stored: Stored = await self._writer.submit(acceptance)
        except StoreFull:
            self._full_until = self.clock.now() + 5.0
            raise
        if not stored.duplicate:
            for row in stored.deliveries:
                self.backlogs.add(row, 1)
        return stored

    async def accept_many(self, acceptances: Sequence[Acceptance]) -> list[Stored | BaseException]:
        """Several in one batch; outcomes in order."""
        return await asyncio.gather(*(self.accept(item) for item in acceptances), return_exceptions=True)

    def settle(self, settlement: Settlement) -> asyncio.Future[Settled]:
        """Queues an outcome; the future is resolved when it is on disk."""
        future: asyncio.Future[Settled] = self._writer.submit(settlement)
        if settlement.state != "due":
            self.backlogs.add(settlement.delivery, -1)
        return future

    def room(self, targets: Collection[str]) -> Busy | None:
        """Why a message for these targets cannot be taken now; None when it can (R9)."""
        if self._full_until and self.clock.now() < self._full_until:
            return Busy("the disk is full", retry_after=5.0)
        rows, size = self._limits.rows // 4, self._limits.size // 4
        for target in targets:
            if self.backlogs.rows.get(target, 0) >= rows or self.backlogs.size.get(target, 0) >= size:
                return Busy(f"the backlog of target {target} is full", retry_after=10.0)
        if sum(self.backlogs.rows.values()) >= self._limits.rows:
            return Busy("the outbox is full", retry_after=10.0)
        return None

    async def due(
        self, target: str, now: float, limit: int, in_hand: Collection[int]
    ) -> tuple[list[StoredDelivery], bool]:
        """Rows due now that are not in hand, `limit` at most, and whether more are left."""
        return await self._read(reading.due, target, now, limit, in_hand)

    async def next_due(self, target: str, after: float) -> float | None:
        return await self._read(reading.next_due, target, after)

    async def keep(self, body: Any, limit: int | None = None) -> NewBody:
        """A body ready for a row; a large one is on disk when it returns (R7)."""
        return await self.bodies.keep(body, limit)

    async def kept(self, body: NewBody) -> bytes:
        """The bytes of a kept body."""
        if body.data is not None:
            return body.data
        assert body.file is not None
        return await asyncio.to_thread(self.bodies.read, body.file)

    async def body(self, body_id: int) -> bytes:
        """A body by its row; raises StoreError when it was pruned."""
        data, file = await self._body_row(body_id)
        return data if data is not None else await asyncio.to_thread(self.bodies.read, file)

    async def _body_row(self, body_id: int) -> tuple[bytes | None, str]:
        found = await self._read(
            lambda db: db.execute("SELECT data, file FROM body WHERE id = ?", (body_id,)).fetchone()
        )
        if found is None or (found[0] is None and found[1] is None):
            raise StoreError(f"body {body_id} is no longer kept")
        return found[0], found[1] or ""

    async def stream(self, body_id: int) -> AsyncIterator[bytes]:
        """A body in pieces."""
        data, file = await self._body_row(body_id)
        if data is not None:
            yield data
            return
        async for piece in self.bodies.stream(file):
            yield piece

    async def progress(self, progress: Progress) -> list[StoredDelivery]:
        """One chunk of a planning; gives the rows that are due."""
        rows: list[StoredDelivery] = await self._writer.submit(lambda work: work.progress(progress))
        for row in rows:
            self.backlogs.add(row, 1)
        return rows

    async def open_messages(self, limit: int, after: int) -> list[OpenMessage]:
        return await self._read(reading.open_messages, limit, after, self.bodies)

    async def message_state(self, uid: str) -> MessageFate | None:
        return await self._read(reading.message_state, uid)

    async def rejected(self, uid: str) -> list[tuple[int | None, bytes, str]]:
        return await self._read(reading.rejected, uid)

    async def define(self, name: str, kind: str, body: bytes) -> None:
        """Keeps a definition by its hash (R11)."""
        await self._writer.submit(
            lambda work: work.db.execute(
                "INSERT OR IGNORE INTO definition VALUES (?, ?, ?, ?)", (name, kind, body, work.now)
            )
        )

    async def definition(self, name: str) -> bytes | None:
        found = await self._read(
            lambda db: db.execute("SELECT body FROM definition WHERE hash = ?", (name,)).fetchone()
        )
        return None if found is None else bytes(found[0])

    async def checkpoint(self, source: str, name: str) -> bytes | None:
        found = await self._read(
            lambda db: db.execute("SELECT value FROM cursor WHERE source = ? AND name = ?", (source, name)).fetchone()
        )
        return None if found is None else bytes(found[0])

    async def pauses(self) -> list[KeptPause]:
        return await self._read(reading.pauses)

    def set_pause(self, scope: str, name: str, *, reason: str, until: float | None, by: str) -> asyncio.Future[Any]:
        """Queues a pause that outlives a restart."""

        def write(work: Batch) -> None:
            work.db.execute("INSERT OR REPLACE INTO pause VALUES (?, ?, ?, ?, ?)", (scope, name, reason, until, by))
            held.note(work, Act(what="pause", actor=by, why=reason), f"{scope} {name}")

        return self._writer.submit(write)

    def clear_pause(self, scope: str, name: str, *, by: str) -> asyncio.Future[Any]:
        """Queues the end of a pause."""

        def write(work: Batch) -> None:
            work.db.execute("DELETE FROM pause WHERE scope = ? AND name = ?", (scope, name))
            held.note(work, Act(what="resume", actor=by), f"{scope} {name}")

        return self._writer.submit(write)

    async def park_unknown(self, known: Sequence[str]) -> int:
        count: int = await self._writer.submit(lambda work: held.park_unknown(work, known))
        return count

    async def act(self, call: Callable[[Batch], T]) -> T:
        """An operator's act (esb.store.held) in one transaction; what it made due counts as backlog again."""
        made: T = await self._writer.submit(call)
        await self._read(self._count_backlogs)
        return made

    async def account(self) -> Account:
        """The books, recounted in one read transaction."""
        return await self._read(reading.account_now)

    async def backlog(self) -> Mapping[str, tuple[int, int]]:
        """Rows and bytes that wait, a target."""
        return {name: (n, self.backlogs.size.get(name, 0)) for name, n in self.backlogs.rows.items() if n}

    async def query(self, call: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """A query of esb.store.reading."""
        return await self._read(call, *arguments, **options)

    async def messages(self, **wanted: Any) -> list[reading.MessageRow]:
        return await self._read(reading.messages, **wanted)

    async def journey(self, uid: str) -> reading.Journey | None:
        return await self._read(reading.journey, uid)

    async def upkeep(self, retains: Mapping[str, Retain]) -> int:
        """One round of pruning and tidying, and the time written down; gives how many messages were let go."""
        keeps = {name: Keep(item.body, item.journey, item.dead) for name, item in retains.items()}
        pruned = await self._writer.submit(lambda work: retention.prune(work, keeps))
        await asyncio.to_thread(self.bodies.remove, pruned.files)
        await self._remember()
        await self._writer.tidy()
        return int(pruned.bodies + pruned.journeys)

    async def _remember(self) -> None:
        seen = self.clock.now()
        await self._writer.submit(
            lambda work: work.db.execute(
                "INSERT INTO mark VALUES ('seen', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (seen,)
            )
        )

    async def close(self) -> None:
        """Marks a clean end; nothing is taken any more."""
        await self._remember()
        await self._writer.submit(lambda work: work.db.execute("UPDATE mark SET value = 1 WHERE name = 'clean'"))
        if self._reader is not None:
            await self._reader.close()
        self.inflight.close()

    def backup(self, place: Path) -> None:
        """A consistent copy while running, bodies included; blocks: call it in a thread."""
        place.mkdir(parents=True)
        source = connect_reading(self.folder / "esb.db")
        target = sqlite3.connect(place / "esb.db")
        try:
            source.backup(target, pages=500, sleep=0.01)
        finally:
            target.close()
            source.close()
        (place / "bodies").mkdir()
        for path in self.bodies.folder.iterdir():
            if not path.name.startswith("."):
                (place / "bodies" / path.name).write_bytes(path.read_bytes())


@asynccontextmanager
async def open_store(
    folder: Path, *, clock: Clock, limits: Limits | None = None, node: str = "node", durable: bool = True
) -> AsyncIterator[Store]:
    """The store of this folder, for this process alone. `durable=False` is for tests: nothing is fsynced.

    Raises StoreLocked, StoreCorrupt, StoreError; the file is never replaced.
    """
    with locked(folder):
        clean = await asyncio.to_thread(prepare, folder, durable=durable)
        writer = Writer(folder / "esb.db", clock, durable=durable)
        await writer.open()
        running = asyncio.ensure_future(writer.run())
        store = Store(folder, clock, writer, limits or _Unlimited(), durable=durable)
        try:
            await _name(writer, node)
            await store.prepare(clean)
            yield store
        finally:
            await store.close()
            await writer.close()
            await running
            await writer.shut()


class _Unlimited:
    rows = 10_000_000
    size = 10_000_000_000


async def _name(writer: Writer, node: str) -> None:
    """R29: a store knows its node and generation."""
    await writer.submit(
        lambda work: work.db.execute(
            "INSERT INTO node SELECT ?, 1 WHERE NOT EXISTS (SELECT 1 FROM node)", (f"{node}-{uuid4().hex[:8]}",)
        )
    )


class Reader:
    """A store looked at from outside: a stopped bus, or a running one. Never writes."""

    def __init__(self, db: sqlite3.Connection, folder: Path) -> None:
        self._db = db
        self.folder = folder

    def query(self, call: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """A query of esb.store.reading."""
        return call(self._db, *arguments, **options)

    def account(self) -> Account:
        return reading.account_now(self._db)


@contextmanager
def open_reader(folder: Path, seconds: float = 30.0) -> Iterator[Reader]:
    """Reads for at most that long in all, so that a forgotten reader never keeps the WAL; raises StoreError."""
    file = folder / "esb.db"
    if not file.exists():
        raise StoreError(f"there is no store in {folder}")
    try:
        db = connect_reading(file)
    except sqlite3.Error as error:
        raise StoreError(f"{file} cannot be opened: {error}") from error
    deadline = time.monotonic() + seconds
    db.set_progress_handler(lambda: int(time.monotonic() > deadline), 10_000)
    try:
        yield Reader(db, folder)
    except sqlite3.Error as error:
        raise StoreError(f"{file} cannot be read: {error}") from error
    finally:
        db.close()


__all__ = ["Act", "Limits", "Reader", "Store", "open_reader", "open_store"]
