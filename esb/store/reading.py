"""Everything that is read: for lanes, for the control bus, and for the command line on a stopped bus. Never writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from esb.store import books
from esb.store.outbox import keys_of, read_deliveries
from esb.store.records import KeptPause, MessageFate, OpenMessage, StoredDelivery

_any = msgspec.msgpack.Decoder().decode


class MessageRow(Struct, frozen=True, kw_only=True):
    """One message in a list."""

    row: int
    uid: str
    made: str
    route: str
    state: str
    reason: str
    accepted_at: float
    closed_at: float | None
    size: int
    keys: Mapping[str, str]
    part: int | None
    stage: str


class AttemptRow(Struct, frozen=True, kw_only=True):
    n: int
    at: float
    kind: str
    code: str
    place: str
    params: Mapping[str, Any]
    ms: float


class DeliveryRow(Struct, frozen=True, kw_only=True):
    """One delivery in a journey or a list. `fingerprint` groups what died of the same."""

    row: int
    id: str
    uid: str
    route: str
    target: str
    state: str
    reason: str
    attempts: int
    due: float | None
    accepted_at: float
    ended_at: float | None
    fingerprint: str
    attempt_rows: tuple[AttemptRow, ...] = ()


class Journey(Struct, frozen=True, kw_only=True):
    """One message with all that became of it. `body` are the original bytes (None: pruned, or in `body_file`)."""

    message: MessageRow
    headers: Mapping[str, str]
    source: Mapping[str, Any]
    caller: str
    table_hash: str
    trace: bytes
    body: bytes | None
    body_file: str | None
    media: str
    parent: str | None
    parts: Mapping[str, int]
    deliveries: tuple[DeliveryRow, ...]
    edited: bool


class Group(Struct, frozen=True, kw_only=True):
    """What is held for one reason: how many, since when, and one of them to look at."""

    fingerprint: str
    route: str
    target: str
    reason: str
    count: int
    first: float
    last: float
    example: str


class TargetFigures(Struct, frozen=True, kw_only=True):
    target: str
    waiting: int
    parked: int
    dead: int
    oldest: float | None
    next_due: float | None


_MESSAGE = """SELECT m.id, m.uid, m.made, m.route, m.state, m.reason, m.accepted_at, m.closed_at,
coalesce(b.size, 0), m.keys, m.part, m.stage FROM message m LEFT JOIN body b ON b.id = m.body"""
_DELIVERY = """SELECT d.id, m.uid, d.target, d.nr, d.round, m.route, d.state, d.error, d.attempts, d.due,
m.accepted_at, d.ended_at, coalesce((SELECT a.class || ' ' || a.code FROM attempt a WHERE a.delivery = d.id
ORDER BY a.n DESC LIMIT 1), '') FROM delivery d JOIN message m ON m.id = d.message"""
_OPEN = """SELECT m.id, m.uid, m.made, m.route, m.caller, m.accepted_at, m.stage, m.headers, m.source, m.table_hash,
b.data, b.file, b.media, b.size, m.parts, p.uid, m.part, m.last, m.trace FROM message m
LEFT JOIN body b ON b.id = coalesce(m.edited, m.body) LEFT JOIN message p ON p.id = m.parent"""


def due(
    db: sqlite3.Connection, target: str, now: float, limit: int, in_hand: Collection[int]
) -> tuple[list[StoredDelivery], bool]:
    """Rows due now that are not in hand, in due order, `limit` at most; and whether more are left."""
    most = limit + len(in_hand) + 1
    found = db.execute(
        "SELECT id FROM delivery WHERE target = ? AND state = 'due' AND due <= ? ORDER BY due, id LIMIT ?",
        (target, now, most),
    )
    fresh = [number for (number,) in found if number not in in_hand]
    return read_deliveries(db, fresh[:limit]), len(fresh) > limit


def next_due(db: sqlite3.Connection, target: str, after: float) -> float | None:
    """The first due time later than `after`."""
    found = db.execute(
        "SELECT due FROM delivery WHERE target = ? AND state = 'due' AND due > ? ORDER BY due LIMIT 1", (target, after)
    ).fetchone()
    return None if found is None else float(found[0])


def open_messages(db: sqlite3.Connection, limit: int, after: int, bodies: Any) -> list[OpenMessage]:
    """Messages whose planning is not finished, in order."""
    rows = db.execute(f"{_OPEN} WHERE m.stage <> '' AND m.id > ? ORDER BY m.id LIMIT ?", (after, limit)).fetchall()
    return [
        OpenMessage(
            row=row[0], uid=row[1], made=row[2], route=row[3], caller=row[4], accepted_at=row[5], stage=row[6],
            headers=_any(row[7]), source=_any(row[8]), table_hash=row[9], body=row[10],
            body_file=None if row[11] is None else bodies.path(row[11]), media=row[12] or "", size=row[13] or 0,
            parts_done=row[14], parent=row[15], part=row[16], last=bool(row[17]), trace=row[18] or b"",
        )
        for row in rows
    ]  # fmt: skip


def message_state(db: sqlite3.Connection, uid: str) -> MessageFate | None:
    found = db.execute("SELECT state, reason, stage, parts FROM message WHERE uid = ?", (uid,)).fetchone()
    return None if found is None else MessageFate(*found)


def rejected(db: sqlite3.Connection, uid: str) -> list[tuple[int | None, bytes, str]]:
    """The parts of a message that were quarantined: line, raw document, reason."""
    rows = db.execute(
        "SELECT m.trace, b.data, m.reason FROM message p JOIN message m ON m.parent = p.id JOIN body b ON b.id = m.body"
        " WHERE p.uid = ? AND m.state = 'quarantined' ORDER BY m.part",
        (uid,),
    )
    return [(_line(trace), data or b"", reason) for trace, data, reason in rows]


def _line(trace: bytes | None) -> int | None:
    part = _any(trace).get("part") if trace else None
    return None if part is None else part[3]


def messages(
    db: sqlite3.Connection,
    *,
    route: str | None = None,
    state: str | None = None,
    since: float | None = None,
    key: tuple[str, str] | None = None,
    limit: int = 100,
    after: int | None = None,
) -> list[MessageRow]:
    """The newest first; `after` is the row to go on below."""
    wants = [("m.route = ?", route), ("m.state = ?", state), ("m.accepted_at >= ?", since), ("m.id < ?", after)]
    asked = [(text, value) for text, value in wants if value is not None]
    where = " AND ".join(text for text, _ in asked) or "1"
    values: list[Any] = [value for _, value in asked]
    if key is not None:
        where += " AND m.keys IS NOT NULL AND instr(m.keys, ?)"
        values.append(key[1].encode())
    found: list[MessageRow] = []
    for row in db.execute(f"{_MESSAGE} WHERE {where} ORDER BY m.id DESC", values):
        item = _message(row)
        if key is None or item.keys.get(key[0]) == key[1]:
            found.append(item)
            if len(found) >= limit:
                break
    return found


def _message(row: Sequence[Any]) -> MessageRow:
    return MessageRow(
        row=row[0], uid=row[1], made=row[2], route=row[3], state=row[4], reason=row[5], accepted_at=row[6],
        closed_at=row[7], size=row[8], keys=keys_of(row[9]), part=row[10], stage=row[11],
    )  # fmt: skip


def journey(db: sqlite3.Connection, uid: str) -> Journey | None:
    """One message by its id, or by the id of one of its deliveries."""
    row = db.execute(f"{_MESSAGE} WHERE m.uid = ?", (uid[:36],)).fetchone()
    if row is None:
        return None
    message = _message(row)
    more = db.execute(
        "SELECT m.headers, m.source, m.caller, m.table_hash, m.trace, b.data, b.file, b.media, p.uid, m.edited"
        " FROM message m LEFT JOIN body b ON b.id = m.body LEFT JOIN message p ON p.id = m.parent WHERE m.id = ?",
        (message.row,),
    ).fetchone()
    parts = db.execute("SELECT state, count(*) FROM message WHERE parent = ? GROUP BY 1", (message.row,)).fetchall()
    return Journey(
        message=message, headers=_any(more[0]), source=_any(more[1]), caller=more[2], table_hash=more[3],
        trace=more[4] or b"", body=more[5], body_file=more[6], media=more[7] or "", parent=more[8], parts=dict(parts),
        deliveries=tuple(deliveries(db, message=message.row, with_attempts=True)), edited=more[9] is not None,
    )  # fmt: skip


def deliveries(
    db: sqlite3.Connection,
    *,
    message: int | None = None,
    state: str | None = None,
    target: str | None = None,
    route: str | None = None,
    limit: int = 1000,
    with_attempts: bool = False,
) -> list[DeliveryRow]:
    """Delivery rows, oldest first."""
    wants = [("d.message = ?", message), ("d.state = ?", state), ("d.target = ?", target), ("m.route = ?", route)]
    asked = [(text, value) for text, value in wants if value is not None]
    where = " AND ".join(text for text, _ in asked) or "1"
    rows = db.execute(f"{_DELIVERY} WHERE {where} ORDER BY d.id LIMIT ?", [*(value for _, value in asked), limit])
    return [_delivery(db, row, with_attempts) for row in rows.fetchall()]


def _delivery(db: sqlite3.Connection, row: Sequence[Any], with_attempts: bool) -> DeliveryRow:
    name = f"{row[1]}.{row[2]}" + (f".{row[3]}" if row[3] > 1 else "") + (f".r{row[4]}" if row[4] else "")
    return DeliveryRow(
        row=row[0], id=name, uid=row[1], route=row[5], target=row[2], state=row[6], reason=row[7], attempts=row[8],
        due=row[9], accepted_at=row[10], ended_at=row[11],
        fingerprint=fingerprint(row[5], row[2], row[12] or row[7]),
        attempt_rows=_attempts(db, row[0]) if with_attempts else (),
    )  # fmt: skip


def _attempts(db: sqlite3.Connection, delivery: int) -> tuple[AttemptRow, ...]:
    rows = db.execute(
        "SELECT n, at, class, code, place, params, ms FROM attempt WHERE delivery = ? ORDER BY n", (delivery,)
    )
    return tuple(
        AttemptRow(n=n, at=at, kind=kind, code=code, place=place, params=_any(params) if params else {}, ms=ms)
        for n, at, kind, code, place, params, ms in rows
    )


def fingerprint(route: str, target: str, cause: str) -> str:
    """What groups things that are held for the same reason."""
    words = "".join("#" if letter.isdigit() else letter for letter in cause[:80])
    return f"{route}/{target}/{words}" if target else f"{route}/{words}"


def held_deliveries(db: sqlite3.Connection, state: str) -> list[Group]:
    """Dead or parked deliveries by fingerprint, most first."""
    return _grouped([(row.fingerprint, row.route, row.target, row.reason, row.accepted_at, row.id)
                     for row in deliveries(db, state=state, limit=100_000)])  # fmt: skip


def held_messages(db: sqlite3.Connection, *states: str) -> list[Group]:
    """Messages that wait for a person (quarantined, unmatched, dead without a delivery) by fingerprint."""
    marks = ",".join("?" * len(states))
    rows = db.execute(
        f"SELECT m.route, m.reason, m.accepted_at, m.uid FROM message m WHERE m.state IN ({marks}) AND NOT EXISTS"
        " (SELECT 1 FROM delivery d WHERE d.message = m.id) ORDER BY m.id LIMIT 100000",
        states,
    )
    return _grouped([(fingerprint(route, "", reason), route, "", reason, at, uid) for route, reason, at, uid in rows])


def _grouped(rows: Sequence[tuple[str, str, str, str, float, str]]) -> list[Group]:
    groups: dict[str, list[tuple[str, str, str, str, float, str]]] = {}
    for row in rows:
        groups.setdefault(row[0], []).append(row)
    made = [
        Group(
            fingerprint=name, route=found[0][1], target=found[0][2], reason=found[-1][3], count=len(found),
            first=found[0][4], last=found[-1][4], example=found[-1][5],
        )
        for name, found in groups.items()
    ]  # fmt: skip
    return sorted(made, key=lambda group: (-group.count, group.fingerprint))


def targets(db: sqlite3.Connection) -> list[TargetFigures]:
    """What waits, is parked or dead, for each target that has any."""
    counts: dict[str, dict[str, int]] = {}
    rows = db.execute(
        "SELECT name, entry, sum(n) FROM account WHERE book = 'deliveries' AND entry IN ('due','forwarded','parked','dead')"
        " GROUP BY 1, 2"
    )
    for name, entry, n in rows:
        counts.setdefault(name, {})[entry] = n
    return [
        TargetFigures(
            target=name, waiting=found.get("due", 0) + found.get("forwarded", 0), parked=found.get("parked", 0),
            dead=found.get("dead", 0), oldest=_oldest(db, name), next_due=next_due(db, name, 0.0),
        )
        for name, found in sorted(counts.items())
    ]  # fmt: skip


def _oldest(db: sqlite3.Connection, target: str) -> float | None:
    found = db.execute(
        "SELECT m.accepted_at FROM delivery d JOIN message m ON m.id = d.message WHERE d.target = ? AND d.state = 'due'"
        " AND d.due IS NOT NULL ORDER BY d.due LIMIT 1",
        (target,),
    ).fetchone()
    return None if found is None else float(found[0])


def pauses(db: sqlite3.Connection) -> list[KeptPause]:
    return [KeptPause(*row) for row in db.execute("SELECT scope, name, reason, until, by FROM pause")]


def actions(db: sqlite3.Connection, limit: int = 100) -> list[tuple[float, str, str, str, str]]:
    """What operators did, the newest first: at, actor, what, object, why."""
    return list(db.execute("SELECT at, actor, what, object, why FROM action ORDER BY rowid DESC LIMIT ?", (limit,)))


def account_now(db: sqlite3.Connection) -> books.Account:
    """The books, recounted, in one read transaction."""
    db.execute("BEGIN")
    try:
        return books.account(db)
    finally:
        db.execute("COMMIT")


def written(db: sqlite3.Connection) -> dict[tuple[str, str, str], int]:
    """The sums of the books by (book, name, entry), without a recount."""
    rows = db.execute("SELECT book, name, entry, sum(n) FROM account GROUP BY 1, 2, 3")
    return {(book, name, entry): n for book, name, entry, n in rows}


def idle_messages(db: sqlite3.Connection, *states: str, limit: int = 1000) -> list[MessageRow]:
    """Messages in these states that nothing was delivered of, oldest first."""
    marks = ",".join("?" * len(states))
    rows = db.execute(
        f"{_MESSAGE} WHERE m.state IN ({marks}) AND m.stage = '' AND NOT EXISTS"
        " (SELECT 1 FROM delivery d WHERE d.message = m.id) ORDER BY m.id LIMIT ?",
        (*states, limit),
    )
    return [_message(row) for row in rows]
