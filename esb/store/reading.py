"""What lanes, planning and the start read: functions on a connection that cannot write."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Container, Sized
from pathlib import Path
from typing import Protocol

from esb.store.records import KeptPause, MessageFate, OpenMessage, StoredDelivery, Whereabouts
from esb.store.rows import Row, texts, values
from esb.store.work import read_deliveries

_DUE = """SELECT id FROM delivery WHERE target = ? AND state = 'due' AND due IS NOT NULL AND due <= ?
ORDER BY due, id LIMIT ?"""
_NEXT_DUE = "SELECT min(due) FROM delivery WHERE target = ? AND state = 'due' AND due IS NOT NULL AND due > ?"
_OPEN = """SELECT m.id, m.uid, m.made, m.route, m.caller, m.accepted_at, m.stage, m.headers, m.source,
CASE m.stage WHEN 'release' THEN '' ELSE m.table_hash END, b.data, b.file, b.media, b.size, m.parts, p.uid, m.part,
m.last, m.trace FROM message m LEFT JOIN body b ON b.id = coalesce(m.edited, m.body) LEFT JOIN message p
ON p.id = m.parent WHERE m.stage <> '' AND m.id > ? ORDER BY m.id LIMIT ?"""
_REJECTED = """SELECT m.id, m.trace, b.data, b.file, m.reason FROM message p JOIN message m ON m.parent = p.id
LEFT JOIN body b ON b.id = m.body WHERE p.uid = ? AND m.state = 'quarantined' ORDER BY m.part"""
_HOW_MANY = """SELECT count(*) FROM message p JOIN message m ON m.parent = p.id WHERE p.uid = ?
AND m.state = 'quarantined'"""
_OLDEST = """SELECT min(at) FROM (
SELECT m.accepted_at AS at FROM (SELECT message FROM delivery WHERE target = :t AND state = 'due' AND due IS NOT NULL
ORDER BY due, id LIMIT 1) d JOIN message m ON m.id = d.message UNION ALL
SELECT m.accepted_at FROM (SELECT message FROM delivery WHERE target = :t AND state = 'due' AND attempts > 0
ORDER BY id LIMIT 1) d JOIN message m ON m.id = d.message UNION ALL
SELECT m.accepted_at FROM (SELECT message FROM delivery WHERE state IN ('dead', 'parked') AND state = 'parked'
AND target = :t ORDER BY id LIMIT 1) d JOIN message m ON m.id = d.message)"""


REJECTED = 200_000
"""Rejected parts of one message that are given back with it."""


class Hand(Container[int], Sized, Protocol):
    """The rows that a lane has in memory."""


def due(
    db: sqlite3.Connection, target: str, now: float, limit: int, in_hand: Hand = frozenset(), size: int | None = None
) -> tuple[list[StoredDelivery], bool]:
    """Rows due now that are not in hand, in due order, `limit` at most; and whether more are left. Of their bodies
    no more than `size` bytes, and one row, are read."""
    found = db.execute(_DUE, (target, now, limit + len(in_hand) + 1)).fetchall()
    fresh = [number for (number,) in found if number not in in_hand]
    rows: list[StoredDelivery] = []
    held = looked = 0
    for number in fresh[:limit]:
        looked += 1
        for row in read_deliveries(db, (number,)):
            rows.append(row)
            held += 0 if row.content is None else row.size
        if size is not None and held >= size:
            break
    return rows, len(fresh) > looked


def next_due(db: sqlite3.Connection, target: str, after: float) -> float | None:
    """The first due time later than `after`."""
    found: float | None = db.execute(_NEXT_DUE, (target, after)).fetchone()[0]
    return found


def oldest(db: sqlite3.Connection, target: str) -> float | None:
    """When the oldest message that waits for this target was accepted."""
    found: float | None = db.execute(_OLDEST, {"t": target}).fetchone()[0]
    return found


def open_messages(db: sqlite3.Connection, limit: int, after: int, path: Callable[[str], Path]) -> list[OpenMessage]:
    """Messages whose planning is not finished, in order. A released one is planned with the table of today."""
    return [_open(row, path) for row in db.execute(_OPEN, (after, limit)).fetchall()]


def _open(row: Row, path: Callable[[str], Path]) -> OpenMessage:
    return OpenMessage(
        row=row[0],
        uid=row[1],
        made=row[2],
        route=row[3],
        caller=row[4],
        accepted_at=row[5],
        stage=row[6],
        headers=texts(row[7]),
        source=values(row[8]),
        table_hash=row[9],
        body=row[10],
        body_file=None if row[11] is None else path(row[11]),
        media=row[12] or "",
        size=row[13] or 0,
        parts_done=row[14],
        parent=row[15],
        part=row[16],
        last=bool(row[17]),
        trace=row[18] or b"",
    )


def message_state(db: sqlite3.Connection, uid: str) -> MessageFate | None:
    """How a message stands; None when it is not known (any more)."""
    found = db.execute("SELECT state, reason, stage, parts FROM message WHERE uid = ?", (uid,)).fetchone()
    return None if found is None else MessageFate(*found)


def whereabouts(db: sqlite3.Connection, uid: str) -> Whereabouts | None:
    """What a sender may know of a message; None when there is none (any more)."""
    found = db.execute("SELECT route, caller, state FROM message WHERE uid = ?", (uid,)).fetchone()
    return None if found is None else Whereabouts(*found)


def rejected(db: sqlite3.Connection, uid: str, read: Callable[[str], bytes]) -> list[tuple[int | None, bytes, str]]:
    """The parts of a message that were quarantined, in order: line, raw document, reason. They are held in memory, so
    that there are `REJECTED` at most; the last one says then how many more there are."""
    rows = db.execute(f"{_REJECTED} LIMIT ?", (uid, REJECTED))
    found = [
        (_line(trace), data if data is not None else read(file) if file is not None else b"", reason)
        for _, trace, data, file, reason in rows
    ]
    more = db.execute(_HOW_MANY, (uid,)).fetchone()[0] - REJECTED if len(found) == REJECTED else 0
    if more > 0:
        found.append((None, b"", f"and {more} more that are not in this file: esb quarantine export"))
    return found


def _line(trace: bytes | None) -> int | None:
    """Where a part stood in the whole input, as planning noted it."""
    part = values(trace).get("part")
    line: int | None = None if part is None else part[3]
    return line


def body(db: sqlite3.Connection, number: int) -> tuple[bytes | None, str | None] | None:
    """Where a body is: in the row, or in a file; None when it was pruned."""
    found: tuple[bytes | None, str | None] | None = db.execute(
        "SELECT data, file FROM body WHERE id = ?", (number,)
    ).fetchone()
    return None if found is None or found == (None, None) else found


def files(db: sqlite3.Connection) -> set[str]:
    """The names of all bodies that are files."""
    return {name for (name,) in db.execute("SELECT file FROM body WHERE file IS NOT NULL")}


def definition(db: sqlite3.Connection, name: str) -> bytes | None:
    """A definition by its hash."""
    found = db.execute("SELECT body FROM definition WHERE hash = ?", (name,)).fetchone()
    return None if found is None else bytes(found[0])


def checkpoint(db: sqlite3.Connection, source: str, name: str) -> bytes | None:
    """Where a source stands."""
    found = db.execute("SELECT value FROM cursor WHERE source = ? AND name = ?", (source, name)).fetchone()
    return None if found is None or found[0] is None else bytes(found[0])


def pauses(db: sqlite3.Connection) -> list[KeptPause]:
    """What stands still, and why."""
    return [KeptPause(*row) for row in db.execute("SELECT scope, name, reason, until, by FROM pause ORDER BY 1, 2")]


def waiting(db: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """Rows and bytes that wait, a target."""
    return {name: (rows, size) for name, rows, size in db.execute("SELECT target, rows, bytes FROM waiting")}


def crashes(db: sqlite3.Connection, since: float) -> dict[tuple[str, str], int]:
    """How often the process died with a claim or a body under way."""
    rows = db.execute("SELECT kind, key, n FROM crash WHERE at >= ?", (since,))
    return {(kind, key): n for kind, key, n in rows}
