"""Many rows in few statements.

Each step of a statement lets go of the interpreter and has to win it back from a busy loop; rows that go in by the
hundred in one step do not wait for it a hundred times.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any

SIZES = (128, 64, 32, 16, 8, 4, 2, 1)
"""Rows of one statement: few sizes, so that each is prepared once and kept."""

Bulk = tuple[str, ...]


def bulk(table: str) -> Bulk:
    """The statements for `table (column, column)`, one for each of SIZES."""
    row = f"({', '.join('?' * (table.count(',') + 1))})"
    return tuple(f"INSERT INTO {table} VALUES {', '.join([row] * size)}" for size in SIZES)


def insert(db: sqlite3.Connection, statements: Bulk, rows: Sequence[tuple[Any, ...]]) -> None:
    """All rows, in order."""
    at, left = 0, len(rows)
    for size, statement in zip(SIZES, statements, strict=True):
        while left >= size:
            db.execute(statement, tuple(chain.from_iterable(rows[at : at + size])))
            at += size
            left -= size
