"""Reading connections: one for a stopped bus or a second process, and the ones of a running store."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import aiosqlite

from esb.errors import Busy, StoreError
from esb.store import account, journal, migrations, reading
from esb.store.account import Account
from esb.store.connection import hop, open_reading
from esb.store.journal import ActionRow, DeliveryRow, Journey, MessageRow, RouteFigures, TargetFigures
from esb.store.opening import FILE, as_store_error, connect_reading, look, primary
from esb.store.records import KeptPause

T = TypeVar("T")
P = ParamSpec("P")

QUESTION = 10.0
"""Seconds that a question of a person may take: a reader that stays would keep the WAL from shrinking."""
RECOUNT = 120.0
"""Seconds for the books to be recounted."""
_EVERY = 20_000
"""SQLite's steps between two looks at the clock."""


class Reader:
    """All questions that a person may ask of a store. Never writes."""

    def __init__(self, db: sqlite3.Connection, folder: Path) -> None:
        self._db = db
        self._bodies = folder / "bodies"

    def query(self, call: Callable[..., T], /, *arguments: Any, **options: Any) -> T:
        """A function of esb.store.journal, .held or .reading."""
        return call(self._db, *arguments, **options)

    def account(self, since: float | None = None) -> Account:
        """The books, recounted in one read transaction."""
        return account.account_now(self._db, since)

    def messages(self, **wanted: Any) -> list[MessageRow]:
        """See journal.messages."""
        return journal.messages(self._db, **wanted)

    def journey(self, uid: str) -> Journey | None:
        """One message with all that became of it."""
        return journal.journey(self._db, uid)

    def deliveries(self, **wanted: Any) -> list[DeliveryRow]:
        """See journal.deliveries."""
        return journal.deliveries(self._db, **wanted)

    def targets(self) -> list[TargetFigures]:
        """What waits, is parked or dead."""
        return journal.targets(self._db)

    def routes(self) -> list[RouteFigures]:
        """What each route's book says."""
        return journal.routes(self._db)

    def actions(self, limit: int = 100) -> list[ActionRow]:
        """What people did, the newest first."""
        return journal.actions(self._db, limit)

    def pauses(self) -> list[KeptPause]:
        """What stands still, and why."""
        return reading.pauses(self._db)

    def waiting(self) -> Mapping[str, tuple[int, int]]:
        """Rows and bytes that wait, a target."""
        return reading.waiting(self._db)

    def node(self) -> tuple[str, int]:
        """The store's node id and generation (R29)."""
        found: tuple[str, int] = self._db.execute("SELECT id, generation FROM node").fetchone()
        return found


@contextmanager
def open_reader(folder: Path, *, seconds: float = 30.0) -> Iterator[Reader]:
    """The store of a stopped bus (or of a running one: better ask its admin API), for that long in all.

    Raises StoreError, StoreCorrupt.
    """
    file = folder / FILE
    if not file.exists():
        raise StoreError(f"there is no store in {folder}")
    look(file)
    try:
        db = connect_reading(file)
    except sqlite3.Error as error:
        raise as_store_error(error, file) from error
    try:
        _time_limit(db, seconds)
        migrations.recognise(db, file)
        yield Reader(db, folder)
    except sqlite3.Error as error:
        raise _said(error, file) from error
    finally:
        db.close()


def _time_limit(db: sqlite3.Connection, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    db.set_progress_handler(lambda: int(time.monotonic() > deadline), _EVERY)


def _said(error: sqlite3.Error, file: Path) -> Exception:
    if primary(error) == sqlite3.SQLITE_INTERRUPT:
        return Busy("the question took too long: narrow it with a route, a state or a time", retry_after=60.0)
    return as_store_error(error, file)


class Readers:
    """The reading connections of a running store: one for lanes and planning, one for people, so that no question
    holds up a delivery. Opened when first asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / FILE
        self._lanes: aiosqlite.Connection | None = None
        self._people: aiosqlite.Connection | None = None

    async def open(self) -> None:
        """Both; while one is open SQLite does not remove the -wal file, whatever happens to the writer."""
        self._lanes = await open_reading(self._file)
        self._people = await open_reading(self._file)

    async def read(
        self, query: Callable[Concatenate[sqlite3.Connection, P], T], *arguments: P.args, **named: P.kwargs
    ) -> T:
        """For lanes and planning."""
        assert self._lanes is not None
        try:
            return await hop(self._lanes, _bound(query, *arguments, **named))
        except sqlite3.Error as error:
            raise as_store_error(error, self._file) from error

    async def ask(self, question: Callable[[Reader], T], *, seconds: float = QUESTION) -> T:
        """For people; raises Busy when the answer takes longer than that."""
        assert self._people is not None

        def answer(db: sqlite3.Connection) -> T:
            _time_limit(db, seconds)
            try:
                return question(Reader(db, self._folder))
            finally:
                db.set_progress_handler(None, 0)

        try:
            return await hop(self._people, answer)
        except sqlite3.Error as error:
            raise _said(error, self._file) from error

    async def close(self) -> None:
        """Ends both threads."""
        for connection in (self._lanes, self._people):
            if connection is not None:
                await connection.close()
        self._lanes = self._people = None


def _bound(
    query: Callable[Concatenate[sqlite3.Connection, P], T], *arguments: P.args, **named: P.kwargs
) -> Callable[[sqlite3.Connection], T]:
    return lambda db: query(db, *arguments, **named)
