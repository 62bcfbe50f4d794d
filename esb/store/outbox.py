"""What happens inside one transaction: messages come in with their deliveries, outcomes are settled. Synchronous
functions on the writing connection; nothing here commits."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from esb.errors import Conflict
from esb.ids import derived_uid
from esb.store.books import Entries, made_entry
from esb.store.records import (
    Acceptance,
    NewBody,
    NewDelivery,
    NewMessage,
    OpenMessage,
    Progress,
    Settled,
    Settlement,
    Stored,
    StoredDelivery,
)

pack = msgspec.msgpack.Encoder(enc_hook=str).encode
unpack = msgspec.msgpack.Decoder(dict[str, Any]).decode
EMPTY = pack({})

_BODY = "INSERT INTO body (id, sha256, size, media, data, file) VALUES (?, ?, ?, ?, ?, ?)"
_MESSAGE = """INSERT INTO message (id, uid, made, parent, part, last, caller, route, table_hash, accepted_at, stage,
state, reason, open, body, headers, source, keys, trace, expires, closed_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_DELIVERY = """INSERT INTO delivery (id, message, target, nr, round, state, due, order_key, line, body, size, params,
expires, error) VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_DONE = """UPDATE delivery SET state = 'delivered', due = NULL, attempts = attempts + 1, note = ?, ended_at = ?
WHERE id = ? AND state = 'due'"""
_CLOSED = "UPDATE message SET state = 'done', open = 0, closed_at = ? WHERE id = ?"
_LEDGER = """INSERT INTO ledger (scope, key, sha256, message, state, answer_body, expires)
VALUES (?, ?, ?, ?, 'open', NULL, ?) ON CONFLICT (scope, key) DO UPDATE SET sha256 = excluded.sha256,
message = excluded.message, state = 'open', answer_body = NULL, expires = excluded.expires"""
ENDED = ("delivered", "dead", "expired", "dropped", "superseded")


class Numbers:
    """The next row ids, counted here so that rows can be inserted in bulk."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.body = _last(db, "body")
        self.message = _last(db, "message")
        self.delivery = _last(db, "delivery")


def _last(db: sqlite3.Connection, table: str) -> int:
    return int(db.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0])


class Batch:
    """One transaction being put together: rows collected and inserted in bulk, entries summed up."""

    def __init__(self, db: sqlite3.Connection, numbers: Numbers, now: float) -> None:
        self.db = db
        self.entries = Entries()
        self.now = now
        self._numbers = numbers
        self._bodies: list[tuple[Any, ...]] = []
        self._messages: list[tuple[Any, ...]] = []
        self._deliveries: list[tuple[Any, ...]] = []
        self._keys: dict[tuple[str, str], tuple[str, bytes]] = {}
        self._lines: set[tuple[str, str]] = set()

    def flush(self) -> None:
        """Writes what was collected; call before reading rows of this batch and before the commit."""
        if self._bodies:
            self.db.executemany(_BODY, self._bodies)
        if self._messages:
            self.db.executemany(_MESSAGE, self._messages)
        if self._deliveries:
            self.db.executemany(_DELIVERY, self._deliveries)
        self._bodies, self._messages, self._deliveries = [], [], []

    def finish(self) -> None:
        """Everything is written but the commit."""
        self.flush()
        self.entries.write(self.db)

    def accept(self, acceptance: Acceptance) -> Stored:
        """One message with all it causes, unless its key or claim is known (R2, R3). Raises Conflict."""
        message = acceptance.message
        for scope, key in _identities(acceptance):
            known = self._known(scope, key, acceptance)
            if known is not None:
                return known
        if acceptance.key is not None or acceptance.claim is not None:
            message = self._fresh(message)
            for scope, key in _identities(acceptance):
                self._keys[(scope, key)] = (message.uid, acceptance.payload)
                lives = None if scope.startswith("claim") else self.now + acceptance.once_for
                self.db.execute(_LEDGER, (scope, key, acceptance.payload, message.uid, lives))
        if acceptance.checkpoint is not None:
            name, value = acceptance.checkpoint
            self.db.execute(
                "INSERT INTO cursor VALUES (?, '', ?) ON CONFLICT (source, name) DO UPDATE SET value = excluded.value",
                (name, value),
            )
        row, due = self.insert(message, None)
        return Stored(uid=message.uid, state=message.state, message=row, deliveries=due)

    def _known(self, scope: str, key: str, acceptance: Acceptance) -> Stored | None:
        """The first message under this key: in this batch, or in the ledger."""
        inside = self._keys.get((scope, key))
        if inside is not None:
            uid, payload = inside
            self._compare(scope, payload, acceptance)
            return Stored(uid=uid, duplicate=True, state="open")
        found = self.db.execute(
            "SELECT sha256, message, state, answer_body, expires FROM ledger WHERE scope = ? AND key = ?", (scope, key)
        ).fetchone()
        if found is None or (found[4] is not None and found[4] <= self.now):
            return None
        self._compare(scope, found[0], acceptance)
        state = self.db.execute("SELECT state FROM message WHERE uid = ?", (found[1],)).fetchone()
        return Stored(uid=found[1], duplicate=True, state=state[0] if state else "done", answer=found[3])

    def _compare(self, scope: str, payload: bytes, acceptance: Acceptance) -> None:
        if payload != acceptance.payload and not scope.startswith("claim"):
            raise Conflict(f"the key {acceptance.key!r:.60} was used before with another payload")

    def _fresh(self, message: NewMessage) -> NewMessage:
        """A derived uid whose first message is still there (its key has expired) gets another."""
        if self.db.execute("SELECT 1 FROM message WHERE uid = ?", (message.uid,)).fetchone() is None:
            return message
        return _renamed(message, repr(message.accepted_at))

    def insert(self, message: NewMessage, parent: int | None) -> tuple[int, list[StoredDelivery]]:
        """Rows of one message; gives its row and the deliveries that are due."""
        numbers = self._numbers
        numbers.message += 1
        row = numbers.message
        body = self._body(message.body)
        due, waiting = self._deliver(message, row, body)
        state = message.state
        if state == "open" and not waiting and not message.stage:
            state = "done"
        closed = None if state == "open" else self.now
        self._messages.append(
            (
                row, message.uid, message.made, parent, message.part, int(message.last), message.caller,
                message.route, message.table_hash, message.accepted_at, message.stage, state, message.reason, waiting,
                body, pack(message.headers) if message.headers else EMPTY,
                pack(message.source) if message.source else EMPTY, pack(message.keys) if message.keys else None,
                message.trace, message.expires, closed,
            )
        )  # fmt: skip
        self.entries.add("messages", message.route, message.accepted_at, made_entry(message.made))
        self.entries.add("messages", message.route, message.accepted_at, state)
        for made in message.made_messages:
            due.extend(self.insert(made, row)[1])
        return row, due

    def next_delivery(self) -> int:
        """A row id for a delivery."""
        self._numbers.delivery += 1
        return self._numbers.delivery

    def add_body(self, body: NewBody) -> int:
        """A body's row; gives its id."""
        number = self._body(body)
        self.flush()
        return number

    def _body(self, body: NewBody, known: dict[int, int] | None = None) -> int:
        if known is not None and id(body) in known:
            return known[id(body)]
        self._numbers.body += 1
        number = self._numbers.body
        digest = body.sha256 or (hashlib.sha256(body.data).digest() if body.data is not None else b"")
        self._bodies.append((number, digest, body.size, body.media, body.data, body.file))
        if known is not None:
            known[id(body)] = number
        return number

    def _deliver(self, message: NewMessage, row: int, body: int) -> tuple[list[StoredDelivery], int]:
        due: list[StoredDelivery] = []
        waiting = 0
        known: dict[int, int] = {}
        alone = len(message.deliveries) == 1 and not message.stage and message.state == "open"
        for new in message.deliveries:
            stored = self.deliver(new, message, row, body, known, alone)
            waiting += new.state in ("due", "parked", "forwarded")
            if stored is not None:
                due.append(stored)
        return due, waiting

    def deliver(
        self,
        new: NewDelivery,
        message: NewMessage | OpenMessage,
        row: int,
        body: int,
        known: dict[int, int],
        alone: bool,
    ) -> StoredDelivery | None:
        """One delivery's row; the delivery itself when it is due (R14: only the head of its key is)."""
        number = self.next_delivery()
        own = body if new.body is None else self._body(new.body, known)
        content = _content(message.body) if new.body is None else new.body.data
        size = _size(message) if new.body is None else new.body.size
        waits = new.order_key is not None and self._behind(new.target, new.order_key)
        due = None if waits or new.state != "due" else new.due
        line = 1 if new.order_key is not None and new.state == "due" else None
        params = _params(new)
        self._deliveries.append(
            (
                number, row, new.target, new.nr, new.state, due, new.order_key, line,
                None if new.body is None else own, size, params, new.expires, new.reason,
            )
        )  # fmt: skip
        self.entries.add("deliveries", new.target, message.accepted_at, "planned")
        self.entries.add("deliveries", new.target, message.accepted_at, new.state)
        if due is None:
            return None
        return StoredDelivery(
            row=number,
            message=row,
            uid=message.uid,
            route=message.route,
            target=new.target,
            nr=new.nr,
            round=0,
            made=message.made,
            accepted_at=message.accepted_at,
            due=due,
            order_key=new.order_key,
            attempts=0,
            crashes=0,
            maybe_sent=False,
            expires=new.expires,
            headers=message.headers if new.headers is None else new.headers,
            values=new.values,
            media=new.media,
            size=size,
            content=content,
            body_id=own,
            alone=alone,
        )

    def _behind(self, target: str, key: str) -> bool:
        """Whether somebody of this key stands before; from now on somebody does."""
        if (target, key) in self._lines:
            return True
        self._lines.add((target, key))
        found = self.db.execute(
            "SELECT 1 FROM delivery WHERE target = ? AND order_key = ? AND line = 1 LIMIT 1", (target, key)
        ).fetchone()
        return found is not None

    def settle_all(self, settlements: Sequence[Settlement]) -> list[Settled | None]:
        """Many outcomes: the plain ones in bulk (None), the others one by one. Gives None for "closed as done"."""
        plain = [item for item in settlements if _is_plain(item)]
        if plain and not self._settle_plain(plain):
            return [self.settle(item) for item in settlements]
        return [None if _is_plain(item) else self.settle(item) for item in settlements]

    def _settle_plain(self, items: Sequence[Settlement]) -> bool:
        """Delivered, the only delivery of its message: False when a row was not as expected (it is settled already)."""
        self.db.execute("SAVEPOINT plain")
        done = self.db.executemany(_DONE, [(item.note, self.now, item.delivery.row) for item in items])
        if done.rowcount != len(items):
            self.db.execute("ROLLBACK TO plain")
            self.db.execute("RELEASE plain")
            return False
        self.db.execute("RELEASE plain")
        self.db.executemany(_CLOSED, [(self.now, item.delivery.message) for item in items])
        for item in items:
            row = item.delivery
            self.entries.move("deliveries", row.target, row.accepted_at, "due", "delivered")
            self.entries.move("messages", row.route, row.accepted_at, "open", "done")
        return True

    def settle(self, item: Settlement) -> Settled:
        """One outcome with all that follows: attempt, message, line, ledger. Settling twice changes nothing."""
        row = item.delivery
        found = self.db.execute(
            "SELECT state, attempts, line, order_key FROM delivery WHERE id = ?", (row.row,)
        ).fetchone()
        if found is None or found[0] not in ("due", "forwarded") or (item.counts and found[1] > row.attempts):
            return Settled(state=self.message_state(row.message))
        ended = self.now if item.state in ENDED else None
        self.db.execute(
            "UPDATE delivery SET state = ?, due = ?, attempts = attempts + ?, maybe_sent = max(maybe_sent, ?), error = ?,"
            " note = ?, ended_at = ? WHERE id = ?",
            (
                item.state, item.due, int(item.counts), int(item.maybe_sent), item.reason, item.note, ended, row.row,
            ),
        )  # fmt: skip
        self._attempt(item)
        self.entries.move("deliveries", row.target, row.accepted_at, found[0], item.state)
        promoted = self._pass_on(item, found[3]) if found[2] and item.state != "due" else []
        if item.state == "due":
            return Settled(state="open")
        state = self.close_message(row.message)
        if item.answer is not None:
            self.db.execute("UPDATE ledger SET answer_body = ? WHERE message = ?", (item.answer, row.uid))
        return Settled(state=state, promoted=promoted)

    def _attempt(self, item: Settlement) -> None:
        attempt = item.attempt
        if attempt is not None:
            self.db.execute(
                "INSERT OR REPLACE INTO attempt VALUES (?, ?, ?, '', ?, ?, ?, ?, ?)",
                (
                    item.delivery.row, attempt.n, attempt.at, attempt.kind, attempt.code, attempt.place,
                    pack(attempt.params), attempt.ms,
                ),
            )  # fmt: skip

    def _pass_on(self, item: Settlement, key: str) -> list[StoredDelivery]:
        """R14: the next of the key becomes due, unless the key is stuck and waits for a person."""
        stuck = item.state in ("dead", "parked")
        target = item.delivery.target
        if stuck and item.when_stuck == "block":
            return []
        if stuck and item.when_stuck == "park-key":
            self._park_line(target, key, item.delivery.row)
            return []
        self.db.execute("UPDATE delivery SET line = NULL WHERE id = ?", (item.delivery.row,))
        return self.promote(target, key)

    def promote(self, target: str, key: str) -> list[StoredDelivery]:
        """Makes the first of a key's line due, if it only waited for its turn."""
        head = self.db.execute(
            "SELECT id, state, due FROM delivery WHERE target = ? AND order_key = ? AND line = 1 ORDER BY id LIMIT 1",
            (target, key),
        ).fetchone()
        if head is None or head[1] != "due" or head[2] is not None:
            return []
        self.db.execute("UPDATE delivery SET due = ? WHERE id = ?", (self.now, head[0]))
        return read_deliveries(self.db, [head[0]])

    def _park_line(self, target: str, key: str, head: int) -> None:
        """The whole key waits for a person."""
        rows = self.db.execute(
            "SELECT d.id, m.accepted_at FROM delivery d JOIN message m ON m.id = d.message WHERE d.target = ?"
            " AND d.order_key = ? AND d.line = 1 AND d.state = 'due' AND d.id <> ?",
            (target, key, head),
        ).fetchall()
        for number, accepted_at in rows:
            self.db.execute("UPDATE delivery SET state = 'parked', error = 'its key is stuck' WHERE id = ?", (number,))
            self.entries.move("deliveries", target, accepted_at, "due", "parked")

    def close_message(self, number: int) -> str:
        """The message's state after one of its deliveries ended (or was reopened): open while any waits, then the
        worst of dead, expired, done; dropped when nothing was delivered and a person let it go."""
        before, stage, route, accepted_at, made = self.db.execute(
            "SELECT state, stage, route, accepted_at, made FROM message WHERE id = ?", (number,)
        ).fetchone()
        counts = dict(self.db.execute("SELECT state, count(*) FROM delivery WHERE message = ? GROUP BY 1", (number,)))
        waiting = sum(counts.get(state, 0) for state in ("due", "parked", "forwarded"))
        if before in ("quarantined", "unmatched", "split", "gathered", "superseded"):
            state = before
        elif waiting or stage:
            state = "open"
        else:
            state = next((name for name in ("dead", "expired") if counts.get(name)), "")
            state = state or ("done" if counts.get("delivered") or not counts.get("dropped") else "dropped")
        closed = None if state == "open" else self.now
        self.db.execute(
            "UPDATE message SET state = ?, open = ?, closed_at = ? WHERE id = ?", (state, waiting, closed, number)
        )
        self.entries.move("messages", route, accepted_at, before, state)
        return str(state)

    def message_state(self, number: int) -> str:
        found = self.db.execute("SELECT state FROM message WHERE id = ?", (number,)).fetchone()
        return str(found[0]) if found else "done"

    def progress(self, progress: Progress) -> list[StoredDelivery]:
        """A chunk of parts, or a finished planning, with the place it came to (R5)."""
        message = progress.message
        due: list[StoredDelivery] = []
        for made in progress.made:
            due.extend(self.insert(made, message.row)[1])
        self.flush()
        waiting = 0
        known: dict[int, int] = {}
        body = self.db.execute("SELECT body FROM message WHERE id = ?", (message.row,)).fetchone()[0]
        for new in progress.deliveries:
            stored = self.deliver(new, message, message.row, body, known, False)
            waiting += 1
            if stored is not None:
                due.append(stored)
        self.flush()
        self._go_on(progress, waiting)
        return due

    def _go_on(self, progress: Progress, waiting: int) -> None:
        message = progress.message
        before = self.message_state(message.row)
        state = progress.state
        if state == "open" and not waiting and not progress.stage:
            state = "done"
        closed = None if state == "open" else self.now
        self.db.execute(
            "UPDATE message SET stage = ?, state = ?, reason = ?, parts = max(parts, ?), open = ?, closed_at = ?,"
            " trace = coalesce(?, trace) WHERE id = ?",
            (
                progress.stage, state, progress.reason, progress.next_index, waiting, closed, progress.trace,
                message.row,
            ),
        )  # fmt: skip
        self.entries.move("messages", message.route, message.accepted_at, before, state)


def _identities(acceptance: Acceptance) -> list[tuple[str, str]]:
    """The ledger's keys of an acceptance: its claim, its once-key within route and caller."""
    message = acceptance.message
    found = []
    if acceptance.claim is not None:
        found.append((f"claim {message.route}", acceptance.claim))
    if acceptance.key is not None:
        found.append((f"once {message.route} {message.caller}", acceptance.key))
    return found


def _renamed(message: NewMessage, salt: str) -> NewMessage:
    made = [_renamed(child, salt) for child in message.made_messages]
    return msgspec.structs.replace(message, uid=derived_uid(message.uid, salt), made_messages=made)


def _is_plain(item: Settlement) -> bool:
    row = item.delivery
    return item.state == "delivered" and row.alone and row.order_key is None and item.answer is None and item.counts


def _params(new: NewDelivery) -> bytes | None:
    if not new.values and new.headers is None and not new.media:
        return None
    return pack((dict(new.values), None if new.headers is None else dict(new.headers), new.media))


def _content(body: Any) -> bytes | None:
    return body.data if isinstance(body, NewBody) else body


def _size(message: NewMessage | OpenMessage) -> int:
    return message.body.size if isinstance(message, NewMessage) else message.size


_params_of = msgspec.msgpack.Decoder(tuple[dict[str, str], dict[str, str] | None, str]).decode
_headers_of = msgspec.msgpack.Decoder(dict[str, str]).decode
_READ = """SELECT d.id, d.message, m.uid, m.route, d.target, d.nr, d.round, m.made, m.accepted_at, d.due, d.order_key,
d.attempts, d.crashes, d.maybe_sent, d.expires, m.headers, d.params, d.size, b.data, b.id, b.file, b.media,
NOT EXISTS (SELECT 1 FROM delivery o WHERE o.message = d.message AND o.id <> d.id) AND m.state = 'open' AND m.stage = ''
FROM delivery d JOIN message m ON m.id = d.message LEFT JOIN body b ON b.id = coalesce(d.body, m.body)
WHERE d.id IN ({}) ORDER BY d.due, d.id"""


def read_deliveries(db: sqlite3.Connection, numbers: Sequence[int]) -> list[StoredDelivery]:
    """Delivery rows as lanes work on them, in due order."""
    found: list[StoredDelivery] = []
    for start in range(0, len(numbers), 500):
        some = numbers[start : start + 500]
        found += [_delivery(row) for row in db.execute(_READ.format(",".join("?" * len(some))), some)]
    return found


def _delivery(row: tuple[Any, ...]) -> StoredDelivery:
    values, headers, media = _params_of(row[16]) if row[16] is not None else ({}, None, "")
    return StoredDelivery(
        row=row[0], message=row[1], uid=row[2], route=row[3], target=row[4], nr=row[5], round=row[6], made=row[7],
        accepted_at=row[8], due=row[9] or 0.0, order_key=row[10], attempts=row[11], crashes=row[12],
        maybe_sent=bool(row[13]), expires=row[14], headers=_headers_of(row[15]) if headers is None else headers,
        values=values, size=row[17], content=row[18], body_id=row[19] or 0, body_file=row[20],
        media=media or row[21] or "", alone=bool(row[22]),
    )  # fmt: skip


def keys_of(packed: bytes | None) -> Mapping[str, str]:
    """The business keys kept with a message."""
    return _headers_of(packed) if packed else {}
