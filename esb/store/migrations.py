"""The versions of the schema, from the first release on: each step forward is one transaction, so that an interrupted
one leaves the store old or new, and never between. A newer store is refused by name."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

from esb.errors import StoreCorrupt, StoreError

APPLICATION = 0x45534231
"""The mark of esb's files in SQLite's head ("ESB1")."""
SCHEMA = Path(__file__).with_name("schema.sql")
STEPS: tuple[str | Callable[[sqlite3.Connection], None], ...] = (
    """CREATE TABLE receipt (
        id INTEGER PRIMARY KEY, node TEXT NOT NULL, data BLOB NOT NULL, at REAL NOT NULL,
        sent INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX receipt_unsent ON receipt (id) WHERE sent = 0;
    CREATE INDEX delivery_forwarded ON delivery (target, id) WHERE state = 'forwarded';
    """,
)
"""STEPS[0] makes version 2 of version 1, and so on: SQL, or a function on the connection."""

TABLES = ("body", "message", "delivery")


def version() -> int:
    """The version that this esb writes."""
    return 1 + len(STEPS)


def create(db: sqlite3.Connection, node: str) -> None:
    """A whole empty store of the newest version, named for this node (R29), in one transaction."""
    db.execute("BEGIN IMMEDIATE")
    for statement in statements(SCHEMA.read_text()):
        db.execute(statement)
    db.execute("INSERT INTO node (id, generation) VALUES (?, 1)", (f"{node}-{uuid4().hex[:8]}",))
    db.execute(f"PRAGMA application_id = {APPLICATION}")
    db.execute("PRAGMA user_version = 1")
    db.execute("COMMIT")
    migrate(db)


def recognise(db: sqlite3.Connection, file: Path) -> None:
    """Raises StoreCorrupt for another program's file, StoreError for one that a newer esb wrote."""
    mark = db.execute("PRAGMA application_id").fetchone()[0]
    if mark != APPLICATION:
        raise StoreCorrupt(f"{file} is a database of another program; it is kept: move it aside")
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found > version():
        raise StoreError(
            f"{file} was written by a newer esb (schema {found}; this one knows {version()}): start the newer esb",
            code="S550",
        )


def migrate(db: sqlite3.Connection) -> int:
    """Every step that is missing, one transaction each; gives how many there were."""
    before: int = db.execute("PRAGMA user_version").fetchone()[0]
    for number in range(before, version()):
        db.execute("BEGIN IMMEDIATE")
        try:
            step = STEPS[number - 1]
            if callable(step):
                step(db)
            else:
                for statement in statements(step):
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {number + 1}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    return version() - before


def statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: executescript() would commit what is open."""
    lines: list[str] = []
    for line in script.splitlines():
        lines.append(line)
        if sqlite3.complete_statement("\n".join(lines)):
            yield "\n".join(lines)
            lines = []


def numbers(db: sqlite3.Connection) -> tuple[int, int, int]:
    """The last row numbers given out: of bodies, messages, deliveries."""
    kept = db.execute("SELECT body, message, delivery FROM node").fetchone()
    found = [db.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0] for table in TABLES]
    body, message, delivery = (max(pair) for pair in zip(kept, found, strict=True))
    return body, message, delivery
