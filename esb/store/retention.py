"""What is let go, and when: closed messages by age, body before journey; the file gives its space back (R10)."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from msgspec import Struct

from esb.store.books import made_entry
from esb.store.outbox import Batch

CHUNK = 500
"""Messages of one transaction at most, so that intake never waits long."""
_GOES = ("done", "dropped", "expired", "split", "gathered", "superseded")


class Keep(Struct, frozen=True):
    """How long a route's closed messages stay, in seconds: bodies, journeys, and dead ones (None: for ever)."""

    body: float
    journey: float
    dead: float | None = None


class Pruned(Struct, frozen=True):
    """What one round let go: bodies, journeys, and the files to unlink after the commit."""

    bodies: int
    journeys: int
    files: tuple[str, ...]


def prune(work: Batch, keeps: Mapping[str, Keep]) -> Pruned:
    """One chunk for each route; the counts move into `pruned` entries in the same transaction."""
    bodies = journeys = 0
    files: list[str] = []
    for route, keep in keeps.items():
        old = _old(work.db, route, work.now - keep.journey, work.now - keep.dead if keep.dead is not None else None)
        for number in old:
            files += _journey(work, number)
        journeys += len(old)
        for number in _heavy(work.db, route, work.now - keep.body):
            files += _body(work, number)
            bodies += 1
    work.db.execute("DELETE FROM ledger WHERE expires IS NOT NULL AND expires <= ?", (work.now,))
    return Pruned(bodies, journeys, tuple(files))


def _old(db: sqlite3.Connection, route: str, before: float, dead_before: float | None) -> list[int]:
    """Closed messages whose parts are gone and whose deliveries have all ended, oldest first."""
    states = list(_GOES)
    rows = db.execute(
        f"SELECT id, state, closed_at FROM message WHERE route = ? AND closed_at <= ? AND (state IN"
        f" ({','.join('?' * len(states))}) OR (state = 'dead' AND closed_at <= ?))"
        " AND NOT EXISTS (SELECT 1 FROM message c WHERE c.parent = message.id)"
        " AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.message = message.id"
        " AND d.state IN ('due', 'parked', 'forwarded')) ORDER BY closed_at LIMIT ?",
        (route, before, *states, -1.0 if dead_before is None else dead_before, CHUNK),
    )
    return [row[0] for row in rows.fetchall()]


def _heavy(db: sqlite3.Connection, route: str, before: float) -> list[int]:
    """Closed messages that still have their body though its time is over."""
    rows = db.execute(
        f"SELECT m.id FROM message m JOIN body b ON b.id = m.body WHERE m.route = ? AND m.closed_at <= ?"
        f" AND m.state IN ({','.join('?' * len(_GOES))}) AND (b.data IS NOT NULL OR b.file IS NOT NULL)"
        " AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.message = m.id AND d.state IN ('due', 'parked', 'forwarded'))"
        " AND NOT EXISTS (SELECT 1 FROM message c WHERE c.parent = m.id AND c.state IN ('open', 'quarantined'))"
        " ORDER BY m.closed_at LIMIT ?",
        (route, before, *_GOES, CHUNK),
    )
    return [row[0] for row in rows.fetchall()]


def _bodies_of(db: sqlite3.Connection, number: int) -> list[tuple[int, str | None]]:
    return db.execute(
        "SELECT b.id, b.file FROM body b WHERE b.id IN (SELECT body FROM message WHERE id = ?1 UNION"
        " SELECT edited FROM message WHERE id = ?1 UNION SELECT body FROM delivery WHERE message = ?1)",
        (number,),
    ).fetchall()


def _body(work: Batch, number: int) -> list[str]:
    """The bytes go, the row with their hash stays."""
    found = _bodies_of(work.db, number)
    for body, _ in found:
        work.db.execute("UPDATE body SET data = NULL, file = NULL WHERE id = ?", (body,))
    return [file for _, file in found if file is not None]


def _journey(work: Batch, number: int) -> list[str]:
    """Everything of the message goes; the books keep its counts as pruned."""
    db = work.db
    found = _bodies_of(db, number)
    route, made, state, accepted_at = db.execute(
        "SELECT route, made, state, accepted_at FROM message WHERE id = ?", (number,)
    ).fetchone()
    work.entries.add("messages", route, accepted_at, f"pruned {made_entry(made)}")
    work.entries.add("messages", route, accepted_at, f"pruned {state}")
    for target, ended, n in db.execute(
        "SELECT target, state, count(*) FROM delivery WHERE message = ? GROUP BY 1, 2", (number,)
    ).fetchall():
        work.entries.add("deliveries", target, accepted_at, "pruned planned", n)
        work.entries.add("deliveries", target, accepted_at, f"pruned {ended}", n)
    db.execute("DELETE FROM attempt WHERE delivery IN (SELECT id FROM delivery WHERE message = ?)", (number,))
    db.execute("DELETE FROM delivery WHERE message = ?", (number,))
    db.executemany("DELETE FROM body WHERE id = ?", [(body,) for body, _ in found])
    db.execute("DELETE FROM message WHERE id = ?", (number,))
    return [file for _, file in found if file is not None]


def tidy(db: sqlite3.Connection, pages: int = 2000) -> None:
    """Gives free pages back to the file system, some at a time, and keeps the WAL short. Outside a transaction."""
    free = db.execute("PRAGMA freelist_count").fetchone()[0]
    if free > 500:
        db.execute(f"PRAGMA incremental_vacuum({min(free, pages)})").fetchall()
    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
