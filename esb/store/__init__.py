"""The store: every accepted message and every delivery until its outcome, in SQLite. aiosqlite lives here alone."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from esb.clock import Clock
from esb.errors import StoreCorrupt, StoreError
from esb.store.account import Account
from esb.store.backlog import Backlog, Limits, Room
from esb.store.backup import Restored, restore
from esb.store.bodies import Bodies
from esb.store.connection import Connection
from esb.store.dead_letters import Act, Acted
from esb.store.held import Group, Letter, LetterBody, Opened, Which
from esb.store.inflight import Inflight
from esb.store.journal import Box, Journey
from esb.store.opening import FILE, as_store_error, check, locked, make, refuse_network
from esb.store.reader import Reader, Readers, open_reader
from esb.store.space import RESERVE, Space
from esb.store.start import Start, begin, write_clean
from esb.store.store import Parts, Store
from esb.store.writer import Writer

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_store(
    folder: Path,
    *,
    clock: Clock,
    limits: Limits | None = None,
    node: str = "node",
    durable: bool = True,
    reserve: int | None = None,
) -> AsyncIterator[Store]:
    """The store of this folder, for this process alone; made when there is none.

    `durable=False` is for tests: nothing is fsynced, no space is set aside. `reserve` are the bytes set aside for a
    full disk. Raises StoreLocked, StoreCorrupt, StoreError; a file is never replaced.
    """
    kept = (RESERVE if durable else 0) if reserve is None else reserve
    async with AsyncExitStack() as stack:
        stack.enter_context(locked(folder))
        refuse_network(folder)
        await asyncio.to_thread(make, folder, node)
        ring = Inflight(folder / "inflight")
        stack.callback(ring.close)
        connection = Connection(folder / FILE, durable=durable)
        await connection.open()
        stack.push_async_callback(connection.close)
        start = await _begin(connection, folder, ring, clock)
        ring.begin()
        readers = Readers(folder)
        stack.push_async_callback(readers.close)
        await readers.open()
        space = Space(folder, kept)
        space.prepare()
        backlog = Backlog(limits or Room())
        backlog.start(start.waiting)
        writer = Writer(connection, clock, space, start.node)
        parts = Parts(folder, clock, writer, readers, backlog, space)
        parts.numbers = connection.numbers
        parts.inflight = ring
        parts.bodies = Bodies(folder / "bodies", connection.numbers.next_body, durable=durable)
        parts.bodies.sweep(start.files)
        store = Store(parts, start)
        stack.push_async_callback(_end, writer, store, _running(writer))
        if start.check_later:
            stack.push_async_callback(_stop, asyncio.create_task(_check(folder, writer), name="store check"))
        yield store


async def _begin(connection: Connection, folder: Path, ring: Inflight, clock: Clock) -> Start:
    try:
        return await connection.hop(begin, folder, ring, clock, connection.numbers)
    except sqlite3.Error as error:
        raise as_store_error(error, folder / FILE) from error


def _running(writer: Writer) -> asyncio.Task[None]:
    """The writer's task; if it ever fails, nothing is accepted and health says why."""
    task = asyncio.create_task(writer.run(), name="store writer")

    def ended(done: asyncio.Task[None]) -> None:
        if not done.cancelled() and done.exception() is not None:
            log.critical("the store's writer failed", exc_info=done.exception())
            writer.refusing = writer.refusing or StoreError(f"the store's writer failed: {done.exception()}")

    task.add_done_callback(ended)
    return task


async def _end(writer: Writer, store: Store, running: asyncio.Task[None]) -> None:
    """All that was submitted is written; then, as the last thing, that the end is clean."""
    if not writer.closing and writer.refusing is None:
        try:
            await store.act(write_clean)
        except StoreError as error:
            log.error("the end of the store could not be written down: %s", error)
    writer.close()
    await asyncio.wait((running,))


async def _check(folder: Path, writer: Writer) -> None:
    """A large file is checked beside the work, by a reader; accepting stops at the first finding (R8)."""
    readers = Readers(folder)
    try:
        await readers.open()
        finding = await readers.read(check)
        if finding:
            writer.refuse(StoreCorrupt(f"{folder / FILE} is damaged: {finding}; it is kept as it is"))
        else:
            log.info("the store's file is sound")
    except StoreError as error:
        log.error("the store's file could not be checked: %s", error)
    finally:
        await readers.close()


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))


__all__ = [
    "Account",
    "Act",
    "Acted",
    "Box",
    "Group",
    "Journey",
    "Letter",
    "LetterBody",
    "Limits",
    "Opened",
    "Reader",
    "Restored",
    "Room",
    "Store",
    "Which",
    "open_reader",
    "open_store",
    "restore",
]
