"""One transaction: the writing connection, the moment, and what it adds to the books."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from esb.store.account import MADE, WAITING, Entries, hour_of
from esb.store.bulk import bulk, insert
from esb.store.records import StoredDelivery
from esb.store.rows import Draft, Numbers, Row, read_params, texts

_BODY = bulk("body (id, sha256, size, media, data, file)")
_MESSAGE = bulk("""message (id, uid, made, parent, part, last, root, caller, route, table_hash, accepted_at,
stage, state, reason, open, worst, body, headers, source, keys, trace, expires, fingerprint, closed_at)""")
_DELIVERY = bulk("""delivery (id, message, target, nr, state, due, order_key, seq, line, body, size, params,
expires, error, fingerprint, ended_at)""")
_KEYED = "INSERT OR IGNORE INTO keyed (value, name, message) VALUES (?, ?, ?)"
_READ = """SELECT d.id, d.message, m.uid, m.route, d.target, d.nr, d.round, m.made, m.accepted_at, d.due, d.order_key,
d.attempts, d.crashes, d.maybe_sent, d.expires, m.headers, d.params, coalesce(d.edited, d.body), b.media, d.size,
b.data, b.file, m.open = 1 AND m.worst = 0 AND m.stage = '' AND d.line IS NULL, d.since FROM delivery d
JOIN message m ON m.id = d.message LEFT JOIN body b ON b.id = coalesce(d.edited, d.body) WHERE d.id = ?"""


class Work:
    """What the functions of one transaction share. `files` are bodies that rows name now, `loose` those to unlink
    after the commit (R7); `last` are the highest message and delivery that it wrote. `held`: the clock jumped and
    nobody has agreed to it yet (R12)."""

    __slots__ = ("db", "entries", "files", "held", "last", "loose", "node", "now", "numbers")

    def __init__(
        self, db: sqlite3.Connection, numbers: Numbers, now: float, node: str = "", *, held: bool = False
    ) -> None:
        self.db = db
        self.numbers = numbers
        self.now = now
        self.node = node
        self.held = held
        self.entries = Entries()
        self.files: list[str] = []
        self.loose: list[str] = []
        self.last = (0, 0)

    def over(self, expires: float) -> bool:
        """Whether something's time is over: nothing's is while nobody knows the time (R12)."""
        return expires <= self.now and not self.held

    def insert(self, drafts: Sequence[Draft], created: Mapping[int, float] = {}) -> None:
        """All rows of these drafts, in bulk. `created` are messages that are on disk already and get deliveries."""
        for item in drafts:
            self._enter(item, created)
        if len(drafts) == 1:
            self._insert(drafts[0].bodies, drafts[0].messages, drafts[0].deliveries)
        elif drafts:
            self._insert(
                [row for item in drafts for row in item.bodies],
                [row for item in drafts for row in item.messages],
                [row for item in drafts for row in item.deliveries],
            )

    def _enter(self, item: Draft, created: Mapping[int, float]) -> None:
        """The books and the backlog of one draft, out of its rows."""
        entries = self.entries
        sums = entries.sums
        hours = {row: hour_of(at) for row, at in created.items()}
        for message in item.messages:
            route, state = message[8], message[12]
            hours[message[0]] = hour = hour_of(message[10])
            key = ("messages", route, hour, MADE[message[2]])
            sums[key] = sums.get(key, 0) + 1
            if state != "open":
                key = ("messages", route, hour, state)
                sums[key] = sums.get(key, 0) + 1
        for delivery in item.deliveries:
            target, state = delivery[2], delivery[4]
            key = ("deliveries", target, hours[delivery[1]], "planned")
            sums[key] = sums.get(key, 0) + 1
            if state in WAITING:
                entries.wait(target, 1, delivery[10])
            else:
                key = ("deliveries", target, hours[delivery[1]], state)
                sums[key] = sums.get(key, 0) + 1
        if item.files is not None:
            self.files += item.files
        if item.keyed is not None:
            self.db.executemany(_KEYED, item.keyed)

    def _insert(self, bodies: list[Row], messages: list[Row], deliveries: list[Row]) -> None:
        insert(self.db, _BODY, bodies)
        message, delivery = self.last
        if messages:
            insert(self.db, _MESSAGE, messages)
            message = max(message, messages[-1][0])
        if deliveries:
            insert(self.db, _DELIVERY, deliveries)
            delivery = max(delivery, deliveries[-1][0])
        self.last = (message, delivery)

    def read(self, numbers: Iterable[int]) -> list[StoredDelivery]:
        """Delivery rows with their bytes, in the order asked for."""
        return read_deliveries(self.db, numbers)


def read_deliveries(db: sqlite3.Connection, numbers: Iterable[int]) -> list[StoredDelivery]:
    """Delivery rows with their bytes, in the order asked for; one that is gone is left out."""
    found = (db.execute(_READ, (number,)).fetchone() for number in numbers)
    return [_delivery(row) for row in found if row is not None]


def _delivery(row: Row) -> StoredDelivery:
    own = read_params(row[16])
    return StoredDelivery(
        row=row[0],
        message=row[1],
        uid=row[2],
        route=row[3],
        target=row[4],
        nr=row[5],
        round=row[6],
        made=row[7],
        accepted_at=row[8],
        due=row[9] or 0.0,
        order_key=row[10],
        attempts=row[11],
        crashes=row[12],
        maybe_sent=bool(row[13]),
        expires=row[14],
        headers=texts(row[15]) if own.headers is None else own.headers,
        values=own.values,
        media=own.media or row[18] or "",
        size=row[19],
        head=own.head,
        content=row[20],
        body_id=row[17] or 0,
        body_file=row[21],
        alone=bool(row[22]),
        since=row[23] or 0.0,
    )
