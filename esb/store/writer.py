"""The writing connection and the one task that owns it: group commit without a timer.

Whatever arrives while one transaction is being fsynced is the next one. A whole transaction is one hop into the
connection's thread, so that no cancelled caller can leave it half done.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from esb.clock import Clock
from esb.errors import Busy, EsbError, MessageError, OutcomeUnknown, StoreCorrupt, StoreError, StoreFull
from esb.store import ledger, outbox, reading
from esb.store.connection import Connection
from esb.store.opening import as_store_error, primary
from esb.store.outbox import Raced
from esb.store.records import Settled, Settlement, Stored, StoredDelivery
from esb.store.rows import Draft, draft
from esb.store.space import Space
from esb.store.work import Work

log = logging.getLogger(__name__)
T = TypeVar("T")

MOST = 1000
"""Messages (and outcomes) of one transaction at most."""
MOST_BYTES = 16_000_000
"""Bytes of one transaction's bodies, about."""
REOPEN = 1.0
"""Seconds until a connection that could not be opened is tried again, when something is to be written."""
BUSY_FOR = 10.0
"""Seconds that a locked file is waited for before senders are refused."""

Plain = tuple[StoredDelivery, "asyncio.Future[Settled]"]
Other = tuple[Settlement, "asyncio.Future[Settled]"]


class CommitUnknown(Exception):
    """COMMIT raised: what was in the transaction may or may not be on disk (R4)."""

    def __init__(self, cause: sqlite3.Error) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Job(Generic[T]):
    """Anything else that is written: a function of one transaction of its own; `apart`: of the bare connection."""

    __slots__ = ("apart", "call", "future")

    def __init__(self, call: Callable[..., T], future: asyncio.Future[T], *, apart: bool = False) -> None:
        self.call = call
        self.future = future
        self.apart = apart


class Batch:
    """What one transaction commits: acceptances, and outcomes (the plain ones apart)."""

    __slots__ = ("careful", "drafts", "others", "plain")

    def __init__(self, drafts: list[Draft], plain: list[Plain], others: list[Other], *, careful: bool = False) -> None:
        self.drafts = drafts
        self.plain = plain
        self.others = others
        self.careful = careful

    def __len__(self) -> int:
        return len(self.drafts) + len(self.plain) + len(self.others)

    def single(self) -> list[Batch]:
        """Each member alone, outcomes first: nothing may stand in their way."""
        others = [*((Settlement(delivery=row, state="delivered"), future) for row, future in self.plain), *self.others]
        return [
            *(Batch([], [], [item], careful=True) for item in others),
            *(Batch([item], [], [], careful=True) for item in self.drafts),
        ]


class Writer:
    """Opened by `store.open_store`; runs until it is closed and everything submitted is on disk or refused.

    `after` hears of each transaction that is on disk, on the loop, before those who wait for it, then `stored` of each
    acceptance in it, in order, whether or not its sender still waits; `anew` hears what waits, read from the file, when
    the connection had to be opened anew.
    """

    def __init__(self, connection: Connection, clock: Clock, space: Space, node: str) -> None:
        self.refusing: StoreError | None = None
        self.held = False
        self.after: Callable[[Work], None] = lambda work: None
        self.stored: Callable[[Draft], None] = lambda item: None
        self.anew: Callable[[Mapping[str, tuple[int, int]]], None] = lambda waiting: None
        self._connection = connection
        self._clock = clock
        self._space = space
        self._node = node
        self._drafts: deque[Draft] = deque()
        self._plain: list[Plain] = []
        self._others: list[Other] = []
        self._jobs: list[Job[Any]] = []
        self._idle: asyncio.Future[None] | None = None
        self._closing = False
        self._lost: sqlite3.Error | None = None
        self._again = 0.0
        self._loop = asyncio.get_running_loop()

    def add_draft(self, item: Draft) -> None:
        """Queues an acceptance; its future hears when it is on disk."""
        self._drafts.append(item)
        if self._idle is not None:
            self._wake()

    def add_settlement(self, item: Settlement) -> asyncio.Future[Settled]:
        """Queues an outcome."""
        future: asyncio.Future[Settled] = self._loop.create_future()
        if self._closing:
            future.set_exception(StoreError("the store is closed"))
        elif outbox.is_plain(item):
            self._plain.append((item.delivery, future))
        else:
            self._others.append((item, future))
        if self._idle is not None:
            self._wake()
        return future

    def add_job(self, call: Callable[[Work], T]) -> asyncio.Future[T]:
        """Queues a function of a transaction of its own; its future gives what it returned, when that is on disk."""
        return self._add(call, apart=False)

    def apart(self, call: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Queues a function of the connection outside any transaction: what SQLite does only there."""
        return self._add(call, apart=True)

    def _add(self, call: Callable[..., T], *, apart: bool) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closing:
            future.set_exception(StoreError("the store is closed"))
            return future
        self._jobs.append(Job(call, future, apart=apart))
        self._wake()
        return future

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    @property
    def closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Takes nothing new; `run` ends when all is written."""
        self._closing = True
        self._wake()

    async def run(self) -> None:
        """Nothing outside this task touches the connection."""
        try:
            while True:
                if not (self._drafts or self._plain or self._others or self._jobs):
                    if self._closing:
                        return
                    self._idle = self._loop.create_future()
                    await self._idle
                    self._idle = None
                    continue
                batch = self._next()
                if len(batch):
                    await self._commit(batch)
                jobs, self._jobs = self._jobs, []
                for job in jobs:
                    await self._do(job)
        finally:
            self._closing = True
            self._abandon()

    def _abandon(self) -> None:
        """The task was ended from outside: whoever still waits hears it."""
        error = StoreError("the store was closed before this was written")
        self._refuse_all(Batch(list(self._drafts), self._plain, self._others), error)
        for job in self._jobs:
            _resolve(job.future, error)

    def _next(self) -> Batch:
        """What has arrived, up to a transaction's size. A sender that is gone changes nothing: it may have been read as
        a yes that its message left it."""
        drafts: list[Draft] = []
        size = 0
        while self._drafts and len(drafts) < MOST and size < MOST_BYTES:
            item = self._drafts.popleft()
            drafts.append(item)
            size += sum([row[2] for row in item.bodies])
        plain, self._plain = self._plain[:MOST], self._plain[MOST:]
        others, self._others = self._others[:MOST], self._others[MOST:]
        return Batch(drafts, plain, others)

    async def _commit(self, batch: Batch) -> None:
        """One transaction. What fails as a whole is done again one by one, so that only the guilty is refused (R4)."""
        if self._lost and not await self._reopen(self._lost):
            self._refuse_all(batch, self.refusing or StoreError("the store cannot be opened"))
            return
        batch = self._without_refused(batch)
        if not len(batch):
            return
        try:
            work, settled = await self._patiently(self._transact, batch)
        except CommitUnknown as unknown:
            await self._after_unknown(batch, unknown)
        except Raced:
            await self._one_by_one(batch)
        except sqlite3.Error as error:
            await self._failed(batch, error)
        except Exception as error:
            await self._unstorable(batch, error)
        else:
            self._committed(batch, work, settled)

    def _without_refused(self, batch: Batch) -> Batch:
        """Acceptances are refused while the disk is full or the file is damaged; outcomes are always tried."""
        refusal = (self.refusing or self._space.refusal()) if batch.drafts else None
        if refusal is None:
            return batch
        for item in batch.drafts:
            _resolve(item.future, refusal)
        return Batch([], batch.plain, batch.others, careful=batch.careful)

    def _transact(self, work: Work, batch: Batch) -> list[Settled]:
        """In the connection's thread, between BEGIN and COMMIT."""
        settled = outbox.settle_plain(work, [row for row, _ in batch.plain]) if batch.plain else []
        if batch.others:
            settled += [outbox.settle(work, item) for item, _ in batch.others]
        if batch.drafts:
            if batch.careful and ledger.resolve_repeat(work, batch.drafts[0]):
                return settled
            outbox.accept(work, batch.drafts)
        return settled

    def _committed(self, batch: Batch, work: Work, settled: Sequence[Settled]) -> None:
        self.after(work)
        for item in batch.drafts:
            self._stored(item)
        for (_, future), outcome in zip((*batch.plain, *batch.others), settled, strict=True):
            if not future.done():
                future.set_result(outcome)

    def _stored(self, item: Draft) -> None:
        self.stored(item)
        _resolve(item.future, item.outcome)

    async def _patiently(self, call: Callable[..., T], *arguments: Any) -> tuple[Work, T]:
        """The transaction; tried again, with jitter and without holding the loop, while another program has the file
        locked."""
        began = self._loop.time()
        pause = 0.01
        while True:
            try:
                return await self._connection.hop(self._in_transaction, call, *arguments)
            except sqlite3.OperationalError as error:
                if primary(error) != sqlite3.SQLITE_BUSY or self._loop.time() - began > BUSY_FOR:
                    raise
            log.warning("the store is locked by another program: waiting")
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, 0.5)

    def _in_transaction(self, db: sqlite3.Connection, call: Callable[..., T], *arguments: Any) -> tuple[Work, T]:
        """BEGIN IMMEDIATE to COMMIT, in the connection's thread."""
        db.execute("BEGIN IMMEDIATE")
        try:
            work = Work(db, self._connection.numbers, self._clock.now(), self._node, held=self.held)
            made = call(work, *arguments)
            work.entries.write(db)
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        try:
            db.execute("COMMIT")
        except sqlite3.Error as error:
            raise CommitUnknown(error) from error
        return work, made

    async def _one_by_one(self, batch: Batch) -> None:
        for single in batch.single():
            single.drafts = [self._anew(item) for item in single.drafts]
            await self._commit(single)

    def _anew(self, item: Draft) -> Draft:
        """The rows of an acceptance as they were before the transaction that failed changed them."""
        if item.acceptance is None or item.future is None:
            return item
        return draft(item.acceptance, self._connection.numbers, self._clock.now(), item.future)

    async def _failed(self, batch: Batch, error: sqlite3.Error) -> None:
        """Nothing of the batch is on disk."""
        kind = primary(error)
        if kind == sqlite3.SQLITE_FULL:
            await self._on_full_disk(batch, as_store_error(error))
            return
        if kind == sqlite3.SQLITE_IOERR:
            # A failed fsync or read says nothing about what the next one would: this connection is not used again.
            await self._reopen(error)
        elif kind in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            self.refuse(StoreCorrupt(f"the store is damaged ({error}); it is kept as it is"))
        elif kind == sqlite3.SQLITE_BUSY:
            self._still_busy(batch)
            return
        elif len(batch) > 1 or not batch.careful:
            await self._one_by_one(batch)
            return
        self._refuse_all(batch, as_store_error(error))

    async def _on_full_disk(self, batch: Batch, error: StoreError) -> None:
        """Nothing new is accepted; outcomes are tried again in the space that the reserve gave back."""
        given_back = self._space.filled()
        rest = Batch([], batch.plain, batch.others, careful=batch.careful)
        self._refuse_all(Batch(batch.drafts, [], []) if given_back else batch, error)
        if given_back and len(rest):
            await self._commit(rest)

    def _still_busy(self, batch: Batch) -> None:
        """Senders hear it; outcomes wait on, unless the house is being closed."""
        busy = Busy("the store is locked by another program")
        if self._closing:
            self._refuse_all(batch, busy)
            return
        for item in batch.drafts:
            _resolve(item.future, busy)
        self._plain[:0] = batch.plain
        self._others[:0] = batch.others

    async def _unstorable(self, batch: Batch, error: Exception) -> None:
        """Something that SQLite cannot take: a lone surrogate in a header, a number over 64 bits."""
        if len(batch) > 1 or not batch.careful:
            await self._one_by_one(batch)
            return
        self._refuse_all(batch, unstorable(error))

    def _refuse_all(self, batch: Batch, error: EsbError) -> None:
        for item in batch.drafts:
            _resolve(item.future, error)
        for _, future in (*batch.plain, *batch.others):
            _resolve(future, error)

    def refuse(self, error: StoreError) -> None:
        """From now on nothing is accepted."""
        if self.refusing is None:
            log.critical("nothing is accepted any more: %s", error)
            self.refusing = error

    async def _reopen(self, error: sqlite3.Error) -> bool:
        if self._lost is not None and self._loop.time() < self._again:
            return False
        log.critical("the store's connection failed (%s): it is opened anew", error)
        try:
            await self._connection.reopen()
            self.anew(await self._connection.hop(reading.waiting))
        except StoreCorrupt as damaged:
            self.refuse(damaged)
        except (sqlite3.Error, StoreError, OSError) as again:
            self._lost, self._again = error, self._loop.time() + REOPEN
            self.refusing = StoreError(f"the store cannot be opened again after {error}: {again}")
        else:
            self.refusing = None if self._lost is not None else self.refusing
            self._lost = None
            return True
        return False

    async def _after_unknown(self, batch: Batch, unknown: CommitUnknown) -> None:
        """R4: the connection is not used again; what is found by its uid on a new one is stored, and nobody hears a
        false yes. Outcomes are settled again: settling twice changes nothing."""
        full = primary(unknown.cause) == sqlite3.SQLITE_FULL and self._space.filled()
        if not await self._reopen(unknown.cause):
            self._refuse_all(batch, OutcomeUnknown(f"the commit failed: {unknown}"))
            return
        try:
            found = await self._connection.hop(_look_up, batch.drafts)
        except sqlite3.Error as error:
            self._refuse_all(batch, OutcomeUnknown(f"the commit failed: {unknown}; nor can the store be read: {error}"))
            return
        lost: StoreError = OutcomeUnknown(f"the commit failed: {unknown}")
        if full:
            lost = StoreFull("the disk is full")
        for item, stored in zip(batch.drafts, found, strict=True):
            if stored:
                self._stored(item)
            else:
                _resolve(item.future, lost)
        if batch.careful:
            self._refuse_all(Batch([], batch.plain, batch.others), lost)
        else:
            await self._one_by_one(Batch([], batch.plain, batch.others))

    async def _do(self, job: Job[Any]) -> None:
        """A job's own transaction; its errors are its caller's."""
        try:
            if job.apart:
                _resolve(job.future, await self._connection.hop(job.call))
                return
            work, made = await self._patiently(job.call)
        except CommitUnknown as unknown:
            await self._reopen(unknown.cause)
            _resolve(job.future, OutcomeUnknown(f"the commit failed: {unknown}"))
        except sqlite3.Error as error:
            if primary(error) == sqlite3.SQLITE_FULL and self._space.filled():
                await self._do(job)
                return
            if primary(error) == sqlite3.SQLITE_IOERR:
                await self._reopen(error)
            _resolve(job.future, as_store_error(error))
        except Exception as error:
            _resolve(job.future, error)
        else:
            self.after(work)
            if not job.future.done():
                job.future.set_result(made)


def unstorable(error: Exception) -> EsbError:
    """The refusal of what has no form on disk."""
    if isinstance(error, EsbError):
        return error
    if not isinstance(error, (ValueError, TypeError, OverflowError)):
        log.error("a message or an outcome met a fault of the store", exc_info=error)
    return MessageError(f"the message cannot be stored: {error}", code="M286")


def _look_up(db: sqlite3.Connection, drafts: Sequence[Draft]) -> list[bool]:
    """Which of these messages are on disk."""
    return [
        item.acceptance is not None
        and isinstance(item.outcome, Stored)
        and db.execute("SELECT 1 FROM message WHERE uid = ?", (item.outcome.uid,)).fetchone() is not None
        for item in drafts
    ]


def _resolve(future: asyncio.Future[Any] | None, outcome: Any) -> None:
    if future is None or future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
