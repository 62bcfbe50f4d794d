"""Durable rows by group commit with nothing around it: one thread, and whatever came during an fsync is the next."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from pathlib import Path
from typing import Literal

Write = tuple[str, tuple[object, ...], tuple[object, ...], "asyncio.Future[None]"]

SCHEMA = """
PRAGMA journal_mode=WAL;
PRAGMA synchronous=FULL;
CREATE TABLE message(id INTEGER PRIMARY KEY, uid TEXT, body BLOB, open INTEGER DEFAULT 1);
CREATE TABLE delivery(id INTEGER PRIMARY KEY, state TEXT DEFAULT 'due', attempts INTEGER DEFAULT 0, body BLOB);
"""
INSERT = ("INSERT INTO message(id, uid, body) VALUES (?, ?, ?)", "INSERT INTO delivery(id, body) VALUES (?, ?)")
SETTLE = (
    "UPDATE message SET open = 0 WHERE id = ?",
    "UPDATE delivery SET state = 'delivered', attempts = 1 WHERE id = ?",
)


class GroupCommit:
    """`await write(...)` returns when the rows are fsynced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run)

    async def __aenter__(self) -> GroupCommit:
        self._thread.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)

    async def write(
        self, what: Literal["insert", "settle"], message: tuple[object, ...], delivery: tuple[object, ...]
    ) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.put((what, message, delivery, future))
        await future

    def _run(self) -> None:
        database = sqlite3.connect(self._path, isolation_level=None)
        database.executescript(SCHEMA)
        while (first := self._waiting.get()) is not None:
            batch = [first]
            try:
                while (more := self._waiting.get_nowait()) is not None:
                    batch.append(more)
            except queue.Empty:
                pass
            database.execute("BEGIN IMMEDIATE")
            for what, statements in (("insert", INSERT), ("settle", SETTLE)):
                chosen = [write for write in batch if write[0] == what]
                database.executemany(statements[0], [write[1] for write in chosen])
                database.executemany(statements[1], [write[2] for write in chosen])
            database.execute("COMMIT")
            self._loop.call_soon_threadsafe(_done, [write[3] for write in batch])
        database.close()


def _done(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
