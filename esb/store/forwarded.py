"""What the broker has: rows that are forwarded and wait for their receipts, and the receipts of this node (R23)."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from esb.store.records import StoredDelivery
from esb.store.work import Work

KEPT = 1000
"""Bundles of receipts that stay after they were sent: a frame that comes again is recognised by them."""

_FORWARD = """UPDATE delivery SET state = 'forwarded', due = NULL, holder = ? WHERE id = ? AND state = 'due'
AND attempts = ?"""
_RECLAIM = """UPDATE delivery SET state = 'due', due = ?, holder = NULL, maybe_sent = 1 WHERE id IN
(SELECT id FROM delivery WHERE state = 'forwarded' AND target = ? LIMIT ?)"""


def forward(work: Work, holder: str, rows: Sequence[StoredDelivery]) -> None:
    """The broker has confirmed these rows. One that was settled meanwhile stays as it is."""
    work.db.executemany(_FORWARD, [(holder, row.row, row.attempts) for row in rows])


def reclaim(work: Work, target: str, limit: int) -> int:
    """What was forwarded for this target is due again, with the same ids; gives how many rows."""
    return work.db.execute(_RECLAIM, (work.now, target, limit)).rowcount


def targets(db: sqlite3.Connection) -> list[tuple[str, int]]:
    """How many rows the broker has of each target."""
    return db.execute("SELECT target, count(*) FROM delivery WHERE state = 'forwarded' GROUP BY target").fetchall()


def awaited(db: sqlite3.Connection, rows: Sequence[tuple[int, int]]) -> set[int]:
    """Of these rows, each with its attempts: those whose outcome is still to come."""
    query = "SELECT 1 FROM delivery WHERE id = ? AND attempts = ? AND state IN ('forwarded', 'due', 'parked')"
    return {row for row, attempts in rows if db.execute(query, (row, attempts)).fetchone() is not None}


def add(work: Work, bundles: Sequence[tuple[str, bytes]], sent: Sequence[int]) -> list[int]:
    """Receipts for other nodes, by node; `sent` are bundles that their nodes have now. Gives the new bundles' ids."""
    if sent:
        work.db.executemany("UPDATE receipt SET sent = 1 WHERE id = ?", [(number,) for number in sent])
    numbers: list[int] = []
    for node, data in bundles:
        done = work.db.execute("INSERT INTO receipt (node, data, at) VALUES (?, ?, ?)", (node, data, work.now))
        numbers.append(done.lastrowid or 0)
    if numbers:
        work.db.execute("DELETE FROM receipt WHERE id < ? AND sent = 1", (numbers[-1] - KEPT,))
    return numbers


def bundles(db: sqlite3.Connection) -> list[tuple[int, str, bytes, bool]]:
    """All that are kept, in order: id, node, receipts, whether it was sent."""
    found = db.execute("SELECT id, node, data, sent FROM receipt ORDER BY id").fetchall()
    return [(number, node, data, bool(sent)) for number, node, data, sent in found]
