"""What a person does with what is held: release, send again, edit, discard. Functions of one transaction; a reopening
writes the reverse entry in the books (R19), and every act goes into the journal of actions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from msgspec import Struct

from esb.errors import StoreError
from esb.store import order, outbox
from esb.store.account import WAITING
from esb.store.inflight import POISON
from esb.store.journal import delivery_id
from esb.store.planning import stage_again
from esb.store.records import NewBody
from esb.store.rows import HELD, Draft, Row, add_body, fingerprint
from esb.store.work import Work

AT_ONCE = 500
"""Deliveries of one release or replay that are due at once; the others follow at PACE."""
PACE = 100.0
"""Deliveries a second."""

NO_TARGET = "no-target: the table has no target of this name any more"
_POISONED = "poison: the process died {n} times while this was under way"

_FOUND = """SELECT d.message, d.state, d.target, d.order_key, d.line, d.size, d.expires, m.accepted_at, d.nr, d.body,
d.edited, d.params, m.uid, d.round FROM delivery d JOIN message m ON m.id = d.message WHERE d.id = ?"""
_AGAIN = """UPDATE delivery SET state = 'due', due = ?, seq = ?, line = ?, attempts = 0, crashes = 0, error = '',
fingerprint = NULL, ended_at = NULL, since = ?, expires = ? WHERE id = ?"""
_NAMED = """SELECT 1 FROM message WHERE id = :message AND :body IN (body, edited)
UNION ALL SELECT 1 FROM delivery WHERE message = :message AND :body IN (body, edited) LIMIT 1"""
_ROUND = """INSERT INTO delivery (id, message, target, nr, round, state, due, order_key, seq, line, body, edited, size,
params, since) VALUES (?, ?, ?, ?, ?, 'due', ?, ?, ?, ?, ?, ?, ?, ?, ?)"""


class Act(Struct, frozen=True, kw_only=True):
    """Who does what, and why; `ahead` things were done in the same act before: what is sent again is paced by it."""

    what: str
    actor: str = ""
    why: str = ""
    ahead: int = 0


class Acted(Struct, frozen=True):
    """How many things an act changed; the targets that have rows due because of it, and whether messages wait for
    their planning."""

    count: int = 0
    targets: frozenset[str] = frozenset()
    staged: bool = False

    def __add__(self, other: Acted) -> Acted:
        return Acted(self.count + other.count, self.targets | other.targets, self.staged or other.staged)


def _paced(now: float, place: int) -> float:
    """When the n-th delivery of one act is due: a hundred thousand do not stand before what is live (FAULTS 87)."""
    return now + max(0, place - AT_ONCE) / PACE


def note(work: Work, act: Act, thing: str) -> None:
    """The journal of actions."""
    work.db.execute(
        "INSERT INTO action (at, actor, what, object, why) VALUES (?, ?, ?, ?, ?)",
        (work.now, act.actor, act.what, thing, act.why),
    )


def _name(found: Row) -> str:
    """The id of a delivery that was found."""
    return delivery_id(found[12], found[2], found[8], found[13])


def release_deliveries(work: Work, rows: Iterable[int], act: Act) -> Acted:
    """Dead or parked deliveries are due again, with the same id, so that the target still dedupes (R13)."""
    count = 0
    targets: set[str] = set()
    for number in rows:
        found = work.db.execute(_FOUND, (number,)).fetchone()
        if found is None or found[1] not in ("dead", "parked"):
            continue
        count += 1
        targets.add(found[2])
        _release(work, number, found, _paced(work.now, act.ahead + count))
        note(work, act, f"delivery {_name(found)}")
    return Acted(count, frozenset(targets))


def _release(work: Work, number: int, found: Row, at: float) -> None:
    message, state, target, key, line, size, expires, accepted_at = found[:8]
    seq = None
    head = True
    if key is not None:
        # One that still stands in its key's line keeps its place; one that was passed by goes last.
        place = work.db.execute("SELECT seq FROM delivery WHERE id = ?", (number,)).fetchone()[0]
        seq = place if line is not None else order.last_place(work, target, key)
        head = order.is_head(work.db, number, target, key)
    ends = None if expires is not None and expires <= work.now else expires
    due = at if head else None
    given = (due, seq, None if key is None else order.STANDS, work.now, ends, number)
    work.db.execute(_AGAIN, given)
    work.entries.moved(target, accepted_at, size, state, "due")
    outbox.reopen(work, message)


def resend(work: Work, rows: Iterable[int], act: Act) -> Acted:
    """Delivered deliveries are sent once more, as a new round with an id of its own (`.rN`, R13); an ordered one goes
    last."""
    count = 0
    targets: set[str] = set()
    for number in rows:
        found = work.db.execute(_FOUND, (number,)).fetchone()
        if found is None or found[1] != "delivered":
            continue
        message, _, target, key, _, size, _, accepted_at, nr, body, edited, params = found[:12]
        if not _is_kept(work.db, edited or body):
            raise StoreError(f"the body of delivery {_name(found)} is no longer kept")
        last = work.db.execute(
            "SELECT max(round) FROM delivery WHERE message = ? AND target = ? AND nr = ?", (message, target, nr)
        ).fetchone()[0]
        new = work.numbers.next_delivery()
        head = key is None or order.is_head(work.db, new, target, key)
        place, stands = (None, None) if key is None else (order.last_place(work, target, key), order.STANDS)
        due = _paced(work.now, act.ahead + count) if head else None
        given = (new, message, target, nr, last + 1, due, key, place, stands, body, edited, size, params, work.now)
        work.db.execute(_ROUND, given)
        work.last = (work.last[0], max(work.last[1], new))
        work.entries.delivery(target, accepted_at, "planned")
        work.entries.wait(target, 1, size)
        outbox.reopen(work, message)
        note(work, act, f"delivery {_name(found)}")
        count += 1
        targets.add(target)
    return Acted(count, frozenset(targets))


def _is_kept(db: sqlite3.Connection, body: int | None) -> bool:
    return db.execute("SELECT 1 FROM body WHERE id = ?", (body,)).fetchone() is not None


def release_messages(work: Work, rows: Iterable[int], act: Act) -> Acted:
    """Messages that ended in planning are planned again, with the table of today."""
    count = 0
    for number in rows:
        found = work.db.execute(
            "SELECT route, accepted_at, state, coalesce(edited, body), uid FROM message WHERE id = ?"
            " AND (worst < 5 OR state <> 'dead')",
            (number,),
        ).fetchone()
        if found is None or found[2] not in HELD:
            continue
        route, accepted_at, state, body, uid = found
        if body is None:
            raise StoreError(f"the body of message {uid} is no longer kept")
        stage_again(work.db, number)
        work.entries.message(route, accepted_at, state, -1)
        note(work, act, f"message {uid}")
        count += 1
    return Acted(count, staged=count > 0)


def edit_delivery(work: Work, number: int, body: NewBody, act: Act) -> Acted:
    """Other bytes for a held delivery; what was planned stays beside them."""
    found = work.db.execute(_FOUND, (number,)).fetchone()
    if found is None or found[1] not in ("dead", "parked"):
        name = f"delivery {number}" if found is None else _name(found)
        raise StoreError(f"{name} is not held: only what is dead or parked can be edited")
    place = _add(work, body)
    work.db.execute("UPDATE delivery SET edited = ?, size = ? WHERE id = ?", (place, body.size, number))
    _drop(work, found[10], found[0])
    if found[1] in WAITING:
        work.entries.wait(found[2], 0, body.size - found[5])
    note(work, act, f"delivery {_name(found)}")
    return Acted(1)


def edit_message(work: Work, number: int, body: NewBody, act: Act) -> Acted:
    """Other bytes for a held message; the original stays."""
    found = work.db.execute("SELECT state, edited, uid FROM message WHERE id = ?", (number,)).fetchone()
    if found is None or found[0] not in HELD:
        raise StoreError(f"message {number} is not held: only what waits for a person can be edited")
    place = _add(work, body)
    work.db.execute("UPDATE message SET edited = ? WHERE id = ?", (place, number))
    _drop(work, found[1], number)
    note(work, act, f"message {found[2]}")
    return Acted(1)


def _add(work: Work, body: NewBody) -> int:
    draft = Draft(None, None)
    place = add_body(draft, body, work.numbers)
    work.insert([draft])
    return place


def _drop(work: Work, body: int | None, message: int) -> None:
    """An earlier edit that nothing of its message was planned or sent with."""
    if body is None or work.db.execute(_NAMED, {"body": body, "message": message}).fetchone() is not None:
        return
    file = work.db.execute("SELECT file FROM body WHERE id = ?", (body,)).fetchone()
    if file is not None and file[0] is not None:
        work.loose.append(file[0])
    work.db.execute("DELETE FROM body WHERE id = ?", (body,))


def discard_deliveries(work: Work, rows: Iterable[int], act: Act) -> Acted:
    """Held deliveries end as dropped, for the reason given; the next of an order key steps up."""
    count = 0
    targets: set[str] = set()
    for number in rows:
        found = work.db.execute(_FOUND, (number,)).fetchone()
        if found is None or found[1] not in ("dead", "parked"):
            continue
        message, state, target, key, line, size, _, accepted_at = found[:8]
        work.db.execute(
            "UPDATE delivery SET state = 'dropped', due = NULL, error = ?, fingerprint = NULL, ended_at = ?"
            " WHERE id = ?",
            (f"discarded: {act.why}", work.now, number),
        )
        work.entries.moved(target, accepted_at, size, state, "dropped")
        if line is not None and order.leave(work, number, target, key):
            targets.add(target)
        outbox.reopen(work, message)
        note(work, act, f"delivery {_name(found)}")
        count += 1
    return Acted(count, frozenset(targets))


def discard_messages(work: Work, rows: Iterable[int], act: Act) -> Acted:
    """Held messages end as dropped, for the reason given."""
    count = 0
    for number in rows:
        found = work.db.execute(
            "SELECT route, accepted_at, state, uid FROM message WHERE id = ? AND (worst < 5 OR state <> 'dead')",
            (number,),
        ).fetchone()
        if found is None or found[2] not in HELD:
            continue
        route, accepted_at, state, uid = found
        work.db.execute(
            "UPDATE message SET state = 'dropped', reason = ?, fingerprint = NULL, closed_at = ? WHERE id = ?",
            (f"discarded: {act.why}", work.now, number),
        )
        work.entries.message(route, accepted_at, state, -1)
        work.entries.message(route, accepted_at, "dropped")
        note(work, act, f"message {uid}")
        count += 1
    return Acted(count)


def now(work: Work, target: str, limit: int, act: Act = Act(what="now")) -> int:
    """Retry clocks cleared ("it is back"): gives how many rows are due now that were to wait, `limit` at most."""
    rows = work.db.execute(
        "UPDATE delivery SET due = ? WHERE id IN (SELECT id FROM delivery WHERE target = ? AND state = 'due'"
        " AND due IS NOT NULL AND due > ? ORDER BY due LIMIT ?)",
        (work.now, target, work.now, limit),
    )
    note(work, act, f"target {target}")
    return rows.rowcount


def park_homeless(work: Work, target: str, limit: int) -> int:
    """Rows of a target that is gone wait for a person (R11); gives how many, `limit` at most."""
    cells = "state = 'parked', due = NULL, error = ?, fingerprint = ?"
    given = (NO_TARGET, fingerprint(NO_TARGET), target, limit)
    found = work.db.execute(
        f"UPDATE delivery SET {cells} WHERE id IN (SELECT id FROM delivery WHERE target = ? AND state = 'due'"
        " AND due IS NOT NULL LIMIT ?)",
        given,
    )
    followers = work.db.execute(
        f"UPDATE delivery SET {cells} WHERE id IN (SELECT id FROM delivery WHERE target = ? AND line IS NOT NULL"
        " AND state = 'due' LIMIT ?)",
        given,
    )
    return found.rowcount + followers.rowcount


def count_crashes(work: Work, deliveries: Sequence[int], others: Iterable[tuple[str, str]]) -> int:
    """R15: what was under way when the process died. Gives how many deliveries are parked for it now."""
    parked = 0
    for number in deliveries:
        row = work.db.execute(
            "UPDATE delivery SET crashes = crashes + 1, maybe_sent = 1 WHERE id = ? AND state = 'due'"
            " RETURNING crashes",
            (number,),
        ).fetchone()
        if row is not None and row[0] >= POISON:
            reason = _POISONED.format(n=row[0])
            work.db.execute(
                "UPDATE delivery SET state = 'parked', due = NULL, error = ?, fingerprint = ? WHERE id = ?",
                (reason, fingerprint(reason), number),
            )
            parked += 1
    work.db.executemany(
        "INSERT INTO crash (kind, key, n, at) VALUES (?, ?, 1, ?)"
        " ON CONFLICT (kind, key) DO UPDATE SET n = n + 1, at = excluded.at",
        [(kind, key, work.now) for kind, key in others],
    )
    return parked
