"""The one writing connection and its task: whatever arrives while a commit runs is the next batch. No timer."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiosqlite
from msgspec import Struct

from esb.clock import Clock
from esb.errors import Busy, EsbError, OutcomeUnknown, StoreError, StoreFull
from esb.store.opening import dress, release_reserve
from esb.store.outbox import Batch, Numbers
from esb.store.records import Acceptance, Settled, Settlement
from esb.store.retention import tidy

log = logging.getLogger(__name__)

MOST = 1000
"""Operations of one transaction at most."""
BUSY_FOR = 60.0
"""Seconds that another program may hold the file before senders are told to wait."""


class Operation(Struct):
    """Something to commit, and who waits for it. `work` is an Acceptance, a Settlement or a function of the batch."""

    work: Acceptance | Settlement | Callable[[Batch], Any]
    future: asyncio.Future[Any]


class CommitUnknown(Exception):
    """COMMIT raised: what was in the transaction may or may not be on disk (R4)."""


class Writer:
    """Opens the connection, runs until closed, and commits what is submitted in order."""

    def __init__(self, file: Path, clock: Clock, *, durable: bool) -> None:
        self._file = file
        self._clock = clock
        self._durable = durable
        self._waiting: deque[Operation] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._db: aiosqlite.Connection | None = None
        self._numbers: Numbers | None = None
        self.refusing: str = ""

    async def open(self) -> None:
        self._db = await aiosqlite.connect(self._file, isolation_level=None, timeout=5.0)
        await self._call(self._dress)

    def _dress(self, db: sqlite3.Connection) -> None:
        dress(db, durable=self._durable)
        self._numbers = Numbers(db)

    async def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """One hop into the connection's thread for a whole transaction (aiosqlite offers one for each statement)."""
        assert self._db is not None
        return await self._db._execute(function, self._db._conn, *arguments)  # type: ignore[no-untyped-call]

    def submit(self, work: Acceptance | Settlement | Callable[[Batch], Any]) -> asyncio.Future[Any]:
        """Queues one operation; its future is resolved when it is on disk, and only then."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._closing:
            future.set_exception(StoreError("the store is closed"))
            return future
        self._waiting.append(Operation(work, future))
        self._wake.set()
        return future

    @property
    def idle(self) -> bool:
        return not self._waiting

    async def run(self) -> None:
        """Commits batches until `close`. Nothing outside this task touches the connection."""
        while not (self._closing and not self._waiting):
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            if self._waiting[0].work is _tidy:
                operation = self._waiting.popleft()
                await self._call(tidy)
                _resolve(operation.future, None)
                continue
            await self._commit(self._next_batch())

    def _next_batch(self) -> list[Operation]:
        batch: list[Operation] = []
        while self._waiting and len(batch) < MOST and self._waiting[0].work is not _tidy:
            batch.append(self._waiting.popleft())
        return batch

    async def tidy(self) -> None:
        """Housekeeping between two transactions: the writer's own task does it."""
        await self.submit(_tidy)

    async def close(self) -> None:
        """Nothing more is taken; what was submitted is committed first."""
        self._closing = True
        self._wake.set()

    async def shut(self) -> None:
        if self._db is not None:
            await self._db.close()

    async def _commit(self, batch: list[Operation]) -> None:
        try:
            outcomes = await self._patiently(batch)
        except CommitUnknown as error:
            await self._after_unknown(batch, error)
        except sqlite3.Error as error:
            await self._one_by_one(batch, error)
        else:
            for operation, outcome in zip(batch, outcomes, strict=True):
                _resolve(operation.future, outcome)

    async def _patiently(self, batch: list[Operation]) -> list[Any]:
        """The transaction; tried again while another program holds the file."""
        waited, pause = 0.0, 0.05
        while True:
            try:
                return list(await self._call(self._transact, batch))
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) and "busy" not in str(error):
                    raise
                if waited >= BUSY_FOR:
                    raise
                log.warning("the store is locked by another program")
                waited += 5.0 + pause
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)

    def _transact(self, db: sqlite3.Connection, batch: Sequence[Operation]) -> list[Any]:
        """BEGIN IMMEDIATE to COMMIT, in the connection's thread. An operation's own refusal is its outcome."""
        assert self._numbers is not None
        before = (self._numbers.body, self._numbers.message, self._numbers.delivery)
        db.execute("BEGIN IMMEDIATE")
        try:
            work = Batch(db, self._numbers, self._clock.now())
            outcomes = _apply(work, [operation.work for operation in batch])
            work.finish()
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            self._numbers.body, self._numbers.message, self._numbers.delivery = before
            raise
        try:
            db.execute("COMMIT")
        except sqlite3.Error as error:
            raise CommitUnknown(str(error)) from error
        return outcomes

    async def _one_by_one(self, batch: list[Operation], error: sqlite3.Error) -> None:
        """R4: the batch failed as a whole; each alone, so that only the guilty is refused."""
        if len(batch) == 1:
            await self._alone(batch[0], error)
            return
        for operation in batch:
            await self._commit([operation])

    async def _alone(self, operation: Operation, error: sqlite3.Error) -> None:
        if "full" in str(error) and release_reserve(self._file.parent):
            log.critical("the disk is full: the reserve is given back; nothing is accepted until there is space again")
            if not isinstance(operation.work, Acceptance):
                await self._commit([operation])
                return
        _resolve(operation.future, _as_store_error(error))
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            if "malformed" in str(error) or "not a database" in str(error):
                self.refusing = f"the store is damaged: {error}"

    async def _after_unknown(self, batch: list[Operation], error: CommitUnknown) -> None:
        """The connection is not used again; rows are looked up by uid on a new one, and nobody hears a false yes."""
        log.critical("a commit failed (%s): the connection is opened anew", error)
        try:
            await self.shut()
            await self.open()
        except (sqlite3.Error, OSError) as reopened:
            self.refusing = f"the store cannot be opened again: {reopened}"
            log.critical("%s", self.refusing)
            for operation in batch:
                _resolve(operation.future, OutcomeUnknown(f"the commit failed: {error}"))
            return
        for operation in batch:
            _resolve(operation.future, OutcomeUnknown(f"the commit failed: {error}; a repeat is recognised by its key"))


def _apply(work: Batch, items: Sequence[Acceptance | Settlement | Callable[[Batch], Any]]) -> list[Any]:
    """Each item's outcome, in order: settlements of the batch in bulk."""
    outcomes: list[Any] = []
    settlements = [item for item in items if isinstance(item, Settlement)]
    settled = iter(work.settle_all(settlements)) if settlements else iter(())
    for item in items:
        if isinstance(item, Settlement):
            outcomes.append(next(settled) or _DONE)
        elif isinstance(item, Acceptance):
            outcomes.append(_refusable(work.accept, item))
        else:
            work.flush()
            outcomes.append(_refusable(item, work))
    return outcomes


_DONE = Settled(state="done")


def _tidy(work: Batch) -> None:
    """A mark in the queue: never called, see `Writer.run`."""


def _refusable(call: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return call(argument)
    except EsbError as error:
        return error


def _resolve(future: asyncio.Future[Any], outcome: Any) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _as_store_error(error: sqlite3.Error) -> EsbError:
    text = str(error)
    if "full" in text:
        return StoreFull("the disk is full")
    if "locked" in text or "busy" in text:
        return Busy("the store is locked by another program")
    return StoreError(f"the store said: {text}")
