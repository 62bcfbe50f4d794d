"""What waits for a person: dead, parked, quarantined; grouped by what is alike, and one by one. Never writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct

from esb.store.journal import BOXES, AttemptRow, Box, Journey, attempts, delivery_id, find_delivery, journey
from esb.store.rows import Row, read_params, values

Kind = Literal["delivery", "message"]


class Which(Struct, frozen=True, kw_only=True):
    """Some of what is held: by ids (of deliveries or messages), by group, by place, by when it was accepted."""

    ids: tuple[str, ...] = ()
    fingerprint: str | None = None
    route: str | None = None
    target: str | None = None
    since: float | None = None
    until: float | None = None


class Group(Struct, frozen=True, kw_only=True):
    """What is held for one reason: how many, since when, and the newest to look at."""

    fingerprint: str
    kind: Kind
    route: str
    target: str
    state: str
    reason: str
    count: int
    first: float
    last: float
    example: str


class Letter(Struct, frozen=True, kw_only=True):
    """One held delivery, or one message that ended in planning (`target` "" and no attempts then)."""

    id: str
    kind: Kind
    row: int
    uid: str
    route: str
    target: str
    state: str
    reason: str
    fingerprint: str
    accepted_at: float
    ended_at: float | None
    attempts: int
    crashes: int
    size: int
    edited: bool
    by_delivery: bool = False


class LetterBody(Struct, frozen=True):
    """Bytes: in `data`, or in the store's `file`; None and None when they were pruned."""

    id: int
    data: bytes | None
    file: str | None
    size: int
    media: str


class Opened(Struct, frozen=True, kw_only=True):
    """All that is known of one held thing. `original` is as it was accepted, `sent` as the target would get it (or as
    it stood at the failing step), `edited` what a person made of it."""

    letter: Letter
    journey: Journey
    original: LetterBody | None
    sent: LetterBody | None
    edited: LetterBody | None
    step: str
    kind: str
    code: str
    place: str
    errors: tuple[Any, ...]
    attempts: tuple[AttemptRow, ...]
    values: dict[str, str]


_NAMES = {
    "d": "m.route || '/' || d.target || '/' || coalesce(d.fingerprint, '')",
    "m": "m.route || '/' || coalesce(m.fingerprint, '')",
}
"""The names of groups: what is alike within a route, and for deliveries at one target."""
# The first terms repeat those of the indexes: SQLite does not see by itself that these cover one state.
_HELD_DELIVERIES = """FROM delivery d INDEXED BY delivery_held JOIN message m ON m.id = d.message
WHERE d.state IN ('dead', 'parked') AND d.state = :state"""
_HELD_MESSAGES = """WHERE m.state IN ('quarantined', 'unmatched', 'dead') AND m.state = :state
AND (m.worst < 5 OR m.state <> 'dead')"""
_DELIVERY = f"""SELECT d.id, m.uid, d.target, d.nr, d.round, m.route, d.state, d.error, {_NAMES["d"]}, m.accepted_at,
d.ended_at, d.attempts, d.crashes, d.size, d.edited IS NOT NULL"""
_MESSAGE = f"""SELECT m.id, m.uid, m.route, m.state, m.reason, {_NAMES["m"]}, m.accepted_at, m.closed_at,
coalesce(b.size, 0), m.edited IS NOT NULL, m.worst = 5"""
_DELIVERIES = f"{_DELIVERY} {_HELD_DELIVERIES}"
_MESSAGES = f"""{_MESSAGE} FROM message m INDEXED BY message_held LEFT JOIN body b ON b.id = m.body {_HELD_MESSAGES}"""
_ONE_DELIVERY = f"{_DELIVERY} FROM delivery d JOIN message m ON m.id = d.message WHERE d.id = ?"
_ITS_DELIVERIES = f"{_DELIVERY} FROM delivery d JOIN message m ON m.id = d.message WHERE m.uid = ?"
_ONE_MESSAGE = f"{_MESSAGE} FROM message m LEFT JOIN body b ON b.id = m.body WHERE m.uid = ?"
_TERMS = {
    "fingerprint": "{name} = :fingerprint",
    "route": "m.route = :route",
    "since": "m.accepted_at >= :since",
    "until": "m.accepted_at < :until",
}
_DELIVERY_GROUPS = f"""SELECT {_NAMES["d"]}, m.route, d.target, d.state, max(d.error), count(*),
min(m.accepted_at), max(m.accepted_at), max(d.id) {_HELD_DELIVERIES}"""
_MESSAGE_GROUPS = f"""SELECT {_NAMES["m"]}, m.route, '', m.state, max(m.reason), count(*),
min(m.accepted_at), max(m.accepted_at), max(m.id) FROM message m INDEXED BY message_held {_HELD_MESSAGES}"""


def groups(db: sqlite3.Connection, box: Box, which: Which = Which()) -> list[Group]:
    """What a box holds, by what is alike: the largest group first."""
    delivery, message = BOXES[box]
    found: list[Group] = []
    if delivery:
        where, given = _terms(which, "d", delivery)
        rows = db.execute(f"{_DELIVERY_GROUPS}{where} GROUP BY 1, 2, 3", given).fetchall()
        found += [_group(db, "delivery", row) for row in rows]
    if which.target is None:
        where, given = _terms(which, "m", message)
        rows = db.execute(f"{_MESSAGE_GROUPS}{where} GROUP BY 1, 2", given).fetchall()
        found += [_group(db, "message", row) for row in rows]
    return sorted(found, key=lambda group: (-group.count, group.route, group.target))


def _terms(which: Which, row: str, state: str) -> tuple[str, dict[str, Any]]:
    given: dict[str, Any] = {"state": state}
    where = ""
    for name, text in _TERMS.items():
        value = getattr(which, name)
        if value is not None:
            where += f" AND {text.format(name=_NAMES[row])}"
            given[name] = value
    if which.target is not None:
        where += " AND d.target = :target"
        given["target"] = which.target
    return where, given


def _group(db: sqlite3.Connection, kind: Kind, row: Row) -> Group:
    if kind == "delivery":
        name = "SELECT m.uid, d.target, d.nr, d.round FROM delivery d JOIN message m ON m.id = d.message WHERE d.id = ?"
        example = delivery_id(*db.execute(name, (row[8],)).fetchone())
    else:
        example = db.execute("SELECT uid FROM message WHERE id = ?", (row[8],)).fetchone()[0]
    return Group(
        fingerprint=row[0],
        kind=kind,
        route=row[1],
        target=row[2],
        state=row[3],
        reason=row[4],
        count=row[5],
        first=row[6],
        last=row[7],
        example=example,
    )


def letters(
    db: sqlite3.Connection, box: Box, which: Which = Which(), *, limit: int = 100, after: tuple[int, int] = (0, 0)
) -> list[Letter]:
    """What a box holds, one by one: deliveries, then messages, the oldest first; `after` are the last rows seen."""
    if which.ids:
        found = [item for name in which.ids for item in _named(db, name)]
        return [item for item in found if _in_box(item, box) and _fits(item, which)]
    delivery, message = BOXES[box]
    items: list[Letter] = []
    if delivery:
        where, given = _terms(which, "d", delivery)
        query = f"{_DELIVERIES}{where} AND d.id > :after ORDER BY d.id LIMIT :limit"
        rows = db.execute(query, {**given, "after": after[0], "limit": limit})
        items += [_delivery_letter(row) for row in rows.fetchall()]
    if which.target is None and len(items) < limit:
        where, given = _terms(which, "m", message)
        query = f"{_MESSAGES}{where} AND m.id > :after ORDER BY m.id LIMIT :limit"
        rows = db.execute(query, {**given, "after": after[1], "limit": limit - len(items)})
        items += [_message_letter(row) for row in rows.fetchall()]
    return items


def _named(db: sqlite3.Connection, name: str) -> list[Letter]:
    """A delivery by its id, or a message with all its deliveries by its own."""
    found = letter(db, name)
    if found is None or found.kind == "delivery":
        return [] if found is None else [found]
    return [found, *(_delivery_letter(row) for row in db.execute(_ITS_DELIVERIES, (name,)).fetchall())]


def _in_box(item: Letter, box: Box) -> bool:
    """A message that is dead only because a delivery of it is stands in no box itself."""
    return item.state == BOXES[box][0 if item.kind == "delivery" else 1] and not item.by_delivery


def _fits(item: Letter, which: Which) -> bool:
    return (
        which.fingerprint in (None, item.fingerprint)
        and which.target in (None, item.target)
        and which.route in (None, item.route)
        and (which.since is None or item.accepted_at >= which.since)
        and (which.until is None or item.accepted_at < which.until)
    )


def last_rows(items: Sequence[Letter], before: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """The last delivery's row and the last message's of a page: the next one begins `after` them."""
    return (
        max((item.row for item in items if item.kind == "delivery"), default=before[0]),
        max((item.row for item in items if item.kind == "message"), default=before[1]),
    )


def _delivery_letter(row: Row) -> Letter:
    return Letter(
        id=delivery_id(row[1], row[2], row[3], row[4]),
        kind="delivery",
        row=row[0],
        uid=row[1],
        route=row[5],
        target=row[2],
        state=row[6],
        reason=row[7],
        fingerprint=row[8],
        accepted_at=row[9],
        ended_at=row[10],
        attempts=row[11],
        crashes=row[12],
        size=row[13],
        edited=bool(row[14]),
    )


def _message_letter(row: Row) -> Letter:
    return Letter(
        id=row[1],
        kind="message",
        row=row[0],
        uid=row[1],
        route=row[2],
        target="",
        state=row[3],
        reason=row[4],
        fingerprint=row[5],
        accepted_at=row[6],
        ended_at=row[7],
        attempts=0,
        crashes=0,
        size=row[8],
        edited=bool(row[9]),
        by_delivery=bool(row[10]),
    )


def letter(db: sqlite3.Connection, name: str) -> Letter | None:
    """A delivery or a message by its id, in whatever state it is."""
    number = find_delivery(db, name)
    if number is not None:
        return _delivery_letter(db.execute(_ONE_DELIVERY, (number,)).fetchone())
    row = db.execute(_ONE_MESSAGE, (name,)).fetchone()
    return None if row is None else _message_letter(row)


def opened(db: sqlite3.Connection, name: str) -> Opened | None:
    """All that is known of one held thing; None when there is no such id."""
    item = letter(db, name)
    if item is None:
        return None
    whole = journey(db, item.uid)
    assert whole is not None
    if item.kind == "delivery":
        query = "SELECT d.body, d.edited, d.params FROM delivery d WHERE d.id = ?"
    else:
        query = "SELECT m.body, m.edited, NULL FROM message m WHERE m.id = ?"
    sent, edited, params = db.execute(query, (item.row,)).fetchone()
    trace = values(whole.trace or None)
    tries = attempts(db, item.row) if item.kind == "delivery" else ()
    errors = tuple(trace.get("errors", ()))
    last = tries[-1] if tries else None
    return Opened(
        letter=item,
        journey=whole,
        original=_body(db, whole.body_id),
        sent=_body(db, sent),
        edited=_body(db, edited),
        step=trace.get("step", ""),
        kind=last.kind if last else "",
        code=last.code if last else str(errors[0].get("code", "")) if errors else "",
        place=last.place if last else str(errors[0].get("place", "")) if errors else "",
        errors=errors,
        attempts=tries,
        values=dict(read_params(params).values),
    )


def _body(db: sqlite3.Connection, number: int | None) -> LetterBody | None:
    if number is None:
        return None
    row = db.execute("SELECT id, data, file, size, media FROM body WHERE id = ?", (number,)).fetchone()
    return None if row is None else LetterBody(*row)
