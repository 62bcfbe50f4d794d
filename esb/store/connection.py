"""The one connection that writes, in its own thread; opened anew when it has failed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from esb.store import migrations
from esb.store.opening import as_store_error, check, dress, look, reading_address
from esb.store.rows import Numbers

T = TypeVar("T")


async def hop(connection: aiosqlite.Connection, call: Callable[..., T], *arguments: Any) -> T:
    """One plain function on the raw connection, in its thread: aiosqlite's own calls are a hop for each statement.

    Waits until the function is over also when the caller is cancelled, so that nothing is left half done.
    """
    running = asyncio.ensure_future(connection._execute(call, connection._conn, *arguments))  # type: ignore[no-untyped-call]
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait((running,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not running.cancelled():
            running.exception()
        raise cancelled
    made: T = running.result()
    return made


class Connection:
    """The writing connection. `numbers` are the last row numbers given out; they live as long as the store."""

    def __init__(self, file: Path, *, durable: bool) -> None:
        self._file = file
        self._durable = durable
        self._open: aiosqlite.Connection | None = None
        self.numbers = Numbers()

    async def open(self) -> None:
        """Raises StoreCorrupt, StoreError."""
        look(self._file)
        connection = await aiosqlite.connect(self._file, isolation_level=None, timeout=0.0, cached_statements=256)
        try:
            await hop(connection, self._dress)
        except BaseException as error:
            await connection.close()
            if isinstance(error, sqlite3.Error):
                raise as_store_error(error, self._file) from error
            raise
        self._open = connection

    def _dress(self, db: sqlite3.Connection) -> None:
        migrations.recognise(db, self._file)
        dress(db, durable=self._durable)
        migrations.migrate(db)
        self.adopt_numbers(db)

    def adopt_numbers(self, db: sqlite3.Connection) -> None:
        """Goes on above what is on disk, and above what was given out already."""
        body, message, delivery = migrations.numbers(db)
        numbers = self.numbers
        numbers.body = max(numbers.body, body)
        numbers.message = max(numbers.message, message)
        numbers.delivery = max(numbers.delivery, delivery)

    async def hop(self, call: Callable[..., T], *arguments: Any) -> T:
        """A function on the raw connection, in its thread."""
        if self._open is None:
            raise sqlite3.ProgrammingError("the store's connection is closed")
        return await hop(self._open, call, *arguments)

    async def reopen(self) -> None:
        """A new connection; what the old one wrote is read again, copied into the file and fsynced, so that what is
        found there is on disk. Raises what `open` raises, sqlite3.Error."""
        await self.close()
        await self.open()
        await self.hop(_settle_file)

    async def close(self) -> None:
        """Closes the connection and ends its thread."""
        connection, self._open = self._open, None
        if connection is not None:
            await connection.close()


def _settle_file(db: sqlite3.Connection) -> None:
    blocked, pages, copied = db.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
    if blocked or pages != copied:
        raise sqlite3.OperationalError("the -wal file cannot be copied into the store's file")
    found = check(db)
    if found:
        raise sqlite3.DatabaseError(found)


async def open_reading(file: Path) -> aiosqlite.Connection:
    """A connection that cannot write; a reader waits a little for whoever recovers the file."""
    connection = await aiosqlite.connect(reading_address(file), uri=True, isolation_level=None, timeout=5.0)
    try:
        await connection.execute("PRAGMA query_only = 1")
    except BaseException:
        await connection.close()  # its thread would keep the process alive
        raise
    return connection
