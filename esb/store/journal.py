"""What people ask: messages and their journeys, what is held and why, what was done by whom. Never writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from esb.store import forwarded
from esb.store.reading import next_due, oldest
from esb.store.rows import HELD, Row, texts, values

Box = Literal["dead", "parked", "quarantine"]
"""Where things wait for a person: failed deliveries, deliveries and messages set aside, bad data."""
BOXES: Mapping[Box, tuple[str, str]] = {
    "dead": ("dead", "dead"),
    "parked": ("parked", "unmatched"),
    "quarantine": ("", "quarantined"),
}
"""The state of the deliveries and of the messages in a box."""


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
    open: int


class AttemptRow(Struct, frozen=True, kw_only=True):
    """A failed attempt. `params` holds what the target said: `text`, `evidence`."""

    n: int
    at: float
    node: str
    kind: str
    code: str
    place: str
    params: Mapping[str, Any]
    ms: float


class DeliveryRow(Struct, frozen=True, kw_only=True):
    """One delivery in a journey or a list."""

    row: int
    id: str
    uid: str
    route: str
    target: str
    state: str
    reason: str
    note: str
    attempts: int
    crashes: int
    due: float | None
    order_key: str | None
    accepted_at: float
    ended_at: float | None
    size: int
    edited: bool
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
    body_id: int | None
    body: bytes | None
    body_file: str | None
    media: str
    parent: str | None
    root: str | None
    parts: Mapping[str, int]
    handed: tuple[MessageRow, ...]
    deliveries: tuple[DeliveryRow, ...]
    edited: int | None


class RouteFigures(Struct, frozen=True, kw_only=True):
    """What a route has in its books now: `open` messages, and those that wait for a person."""

    route: str
    came: int
    open: int
    closed: Mapping[str, int]


class TargetFigures(Struct, frozen=True, kw_only=True):
    """What waits for a target (the parked ones apart), its bytes (with theirs), and since when the oldest does.
    `forwarded` are those of the waiting ones that the broker has."""

    target: str
    waiting: int
    bytes: int
    parked: int
    dead: int
    delivered: int
    oldest: float | None
    next_due: float | None
    forwarded: int = 0


class ActionRow(Struct, frozen=True):
    """What somebody did to which thing, and why."""

    at: float
    actor: str
    what: str
    object: str
    why: str


_MESSAGE = """SELECT m.id, m.uid, m.made, m.route, m.state, m.reason, m.accepted_at, m.closed_at,
coalesce(b.size, 0), m.keys, m.part, m.stage, m.open FROM message m LEFT JOIN body b ON b.id = m.body"""
_TERMS = {
    "route": "m.route = :route",
    "state": "m.state = :state",
    "since": "m.accepted_at >= :since",
    "until": "m.accepted_at < :until",
    "after": "m.id < :after",
    "key": """m.id IN (SELECT message FROM keyed WHERE value = :key
UNION SELECT message FROM keyed WHERE value = :value AND name = :name UNION SELECT id FROM message WHERE uid = :key)""",
}
_MORE = """SELECT m.headers, m.source, m.caller, m.table_hash, m.trace, m.body, b.data, b.file, b.media, p.uid, r.uid,
m.edited FROM message m LEFT JOIN body b ON b.id = m.body LEFT JOIN message p ON p.id = m.parent
LEFT JOIN message r ON r.id = m.root WHERE m.id = ?"""
_DELIVERY = """SELECT d.id, m.uid, d.target, d.nr, d.round, m.route, d.state, d.error, d.note, d.attempts, d.crashes,
d.due, d.order_key, m.accepted_at, d.ended_at, d.size, d.edited, d.fingerprint FROM delivery d
JOIN message m ON m.id = d.message"""
_ATTEMPTS = "SELECT n, at, node, class, code, place, params, ms FROM attempt WHERE delivery = ? ORDER BY n"


def messages(
    db: sqlite3.Connection,
    *,
    route: str | None = None,
    state: str | None = None,
    since: float | None = None,
    until: float | None = None,
    key: str | None = None,
    limit: int = 100,
    after: int | None = None,
) -> list[MessageRow]:
    """The newest first; `after` is the row to go on below. `key` is a business key of the route, `order=4711` or its
    value alone ("did order 4711 go out?"), or a message's id."""
    name, _, value = (key or "").partition("=")
    given = {
        "route": route, "state": state, "since": since, "until": until, "after": after, "key": key, "name": name,
        "value": value,
    }  # fmt: skip
    terms = " AND ".join(text for term, text in _TERMS.items() if given[term] is not None) or "1"
    if state in HELD:
        terms += " AND m.state IN ('quarantined', 'unmatched', 'dead')"
    rows = db.execute(f"{_MESSAGE} WHERE {terms} ORDER BY m.id DESC LIMIT :limit", {**given, "limit": limit})
    return [_message(row) for row in rows.fetchall()]


def _message(row: Row) -> MessageRow:
    return MessageRow(
        row=row[0],
        uid=row[1],
        made=row[2],
        route=row[3],
        state=row[4],
        reason=row[5],
        accepted_at=row[6],
        closed_at=row[7],
        size=row[8],
        keys=texts(row[9]),
        part=row[10],
        stage=row[11],
        open=row[12],
    )


def journey(db: sqlite3.Connection, uid: str) -> Journey | None:
    """One message by its id, or by the id of one of its deliveries."""
    row = db.execute(f"{_MESSAGE} WHERE m.uid = ?", (uid[:36],)).fetchone()
    if row is None:
        return None
    message = _message(row)
    more = db.execute(_MORE, (message.row,)).fetchone()
    parts = db.execute(
        "SELECT state, count(*) FROM message WHERE parent = ? AND made = 'part' GROUP BY 1", (message.row,)
    )
    handed = db.execute(f"{_MESSAGE} WHERE m.parent = ? AND m.made <> 'part' ORDER BY m.id", (message.row,))
    return Journey(
        message=message,
        headers=texts(more[0]),
        source=values(more[1]),
        caller=more[2],
        table_hash=more[3],
        trace=more[4] or b"",
        body_id=more[5],
        body=more[6],
        body_file=more[7],
        media=more[8] or "",
        parent=more[9],
        root=more[10],
        parts=dict(parts.fetchall()),
        handed=tuple(_message(found) for found in handed.fetchall()),
        deliveries=tuple(deliveries(db, message=message.row, with_attempts=True)),
        edited=more[11],
    )


def deliveries(
    db: sqlite3.Connection,
    *,
    message: int | None = None,
    state: str | None = None,
    target: str | None = None,
    route: str | None = None,
    limit: int = 1000,
    after: int | None = None,
    with_attempts: bool = False,
) -> list[DeliveryRow]:
    """Delivery rows, the oldest first; `after` is the row to go on above."""
    asked = [
        (text, value)
        for text, value in (
            ("d.message = ?", message),
            ("d.state = ?", state),
            ("d.target = ?", target),
            ("m.route = ?", route),
            ("d.id > ?", after),
        )
        if value is not None
    ]
    where = " AND ".join(text for text, _ in asked) or "1"
    if state in ("dead", "parked"):
        where += " AND d.state IN ('dead', 'parked')"
    given = [*(value for _, value in asked), limit]
    rows = db.execute(f"{_DELIVERY} WHERE {where} ORDER BY d.id LIMIT ?", given).fetchall()
    return [delivery_row(db, row, with_attempts=with_attempts) for row in rows]


def delivery_row(db: sqlite3.Connection, row: Row, *, with_attempts: bool = False) -> DeliveryRow:
    return DeliveryRow(
        row=row[0],
        id=delivery_id(row[1], row[2], row[3], row[4]),
        uid=row[1],
        route=row[5],
        target=row[2],
        state=row[6],
        reason=row[7],
        note=row[8],
        attempts=row[9],
        crashes=row[10],
        due=row[11],
        order_key=row[12],
        accepted_at=row[13],
        ended_at=row[14],
        size=row[15],
        edited=row[16] is not None,
        fingerprint=row[17] or "",
        attempt_rows=attempts(db, row[0]) if with_attempts else (),
    )


def delivery_id(uid: str, target: str, nr: int, round_: int) -> str:
    """R13: `UID.TARGET`, `.n` for a second one, `.rN` for a replay."""
    name = f"{uid}.{target}" if nr == 1 else f"{uid}.{target}.{nr}"
    return f"{name}.r{round_}" if round_ else name


def first_in_line(db: sqlite3.Connection, target: str, key: str) -> tuple[str, str] | None:
    """The id and the state of the delivery that an order key's line waits for."""
    row = db.execute(
        "SELECT m.uid, d.target, d.nr, d.round, d.state FROM delivery d JOIN message m ON m.id = d.message"
        " WHERE d.target = ? AND d.order_key = ? AND d.line IS NOT NULL ORDER BY d.seq LIMIT 1",
        (target, key),
    ).fetchone()
    return None if row is None else (delivery_id(*row[:4]), row[4])


def find_delivery(db: sqlite3.Connection, name: str) -> int | None:
    """The row of a delivery by its id."""
    rows = db.execute(
        "SELECT d.id, m.uid, d.target, d.nr, d.round FROM message m JOIN delivery d ON d.message = m.id"
        " WHERE m.uid = ?",
        (name[:36],),
    )
    return next((row[0] for row in rows.fetchall() if delivery_id(*row[1:]) == name), None)


def attempts(db: sqlite3.Connection, delivery: int) -> tuple[AttemptRow, ...]:
    """The failed attempts of a delivery that are kept, in order."""
    return tuple(
        AttemptRow(n=n, at=at, node=node, kind=kind, code=code, place=place, params=values(params), ms=ms)
        for n, at, node, kind, code, place, params, ms in db.execute(_ATTEMPTS, (delivery,)).fetchall()
    )


def targets(db: sqlite3.Connection) -> list[TargetFigures]:
    """What waits, is parked or dead, for each target that has anything."""
    rows = {name: (n, size) for name, n, size in db.execute("SELECT target, rows, bytes FROM waiting")}
    held: dict[tuple[str, str], int] = {
        (state, name): n
        for state, name, n in db.execute(
            "SELECT state, target, count(*) FROM delivery WHERE state IN ('dead', 'parked') GROUP BY 1, 2"
        )
    }
    delivered: dict[str, int] = dict(
        db.execute("SELECT name, sum(n) FROM account WHERE book = 'deliveries' AND entry = 'delivered' GROUP BY 1")
    )
    away = dict(forwarded.targets(db))
    names = sorted({name for name, (n, _) in rows.items() if n} | {name for _, name in held} | set(delivered))
    return [
        TargetFigures(
            target=name,
            waiting=rows.get(name, (0, 0))[0] - held.get(("parked", name), 0),
            bytes=rows.get(name, (0, 0))[1],
            parked=held.get(("parked", name), 0),
            dead=held.get(("dead", name), 0),
            delivered=delivered.get(name, 0),
            oldest=oldest(db, name),
            next_due=next_due(db, name, 0.0),
            forwarded=away.get(name, 0),
        )
        for name in names
    ]


def routes(db: sqlite3.Connection) -> list[RouteFigures]:
    """What each route's book says (pruned messages included)."""
    counts: dict[str, dict[str, int]] = {}
    rows = db.execute(
        "SELECT name, entry, sum(n) FROM account WHERE book = 'messages' AND entry NOT LIKE 'pruned %' GROUP BY 1, 2"
    )
    for name, entry, n in rows:
        counts.setdefault(name, {})[entry] = n
    return [_route(name, found) for name, found in sorted(counts.items())]


def _route(name: str, entries: Mapping[str, int]) -> RouteFigures:
    came = sum(n for entry, n in entries.items() if entry == "accepted" or entry.startswith("made "))
    closed = {entry: n for entry, n in entries.items() if n and entry != "accepted" and not entry.startswith("made ")}
    return RouteFigures(route=name, came=came, open=came - sum(closed.values()), closed=closed)


def actions(db: sqlite3.Connection, limit: int = 100) -> list[ActionRow]:
    """What people did, the newest first."""
    rows = db.execute("SELECT at, actor, what, object, why FROM action ORDER BY rowid DESC LIMIT ?", (limit,))
    return [ActionRow(*row) for row in rows]


def past_pauses(db: sqlite3.Connection, limit: int = 2000) -> dict[str, list[tuple[float, float]]]:
    """From when until when targets were paused, in order; a pause that goes on is not among them."""
    rows = db.execute(
        "SELECT at, what, substr(object, 8) FROM action WHERE what IN ('pause', 'resume') AND object LIKE 'target %'"
        " ORDER BY rowid DESC LIMIT ?",
        (limit,),
    ).fetchall()
    begun: dict[str, float] = {}
    found: dict[str, list[tuple[float, float]]] = {}
    for at, what, name in reversed(rows):
        if what == "pause":
            begun.setdefault(name, at)
        elif name in begun:
            found.setdefault(name, []).append((begun.pop(name), at))
    return found


def last_action(db: sqlite3.Connection, what: str, thing: str) -> ActionRow | None:
    """When somebody did this to that thing last, and why; None when nobody did."""
    row = db.execute(
        "SELECT at, actor, what, object, why FROM action WHERE what = ? AND object = ? ORDER BY rowid DESC LIMIT 1",
        (what, thing),
    ).fetchone()
    return None if row is None else ActionRow(*row)
