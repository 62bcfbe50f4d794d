"""What a person does with what is held: release, replay, edit, discard. Functions of one transaction; each reopening
writes the reverse entry in the books (R19), each act goes into the journal of actions."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from esb.errors import StoreError
from esb.store.outbox import Batch, read_deliveries
from esb.store.records import NewBody, StoredDelivery


class Act(Struct, frozen=True, kw_only=True):
    """Who does what to which, and why: `what` is release, replay, edit, discard, now, pause, resume."""

    what: str
    actor: str = ""
    why: str = ""


def note(work: Batch, act: Act, thing: str) -> None:
    """The journal of actions."""
    work.db.execute("INSERT INTO action VALUES (?, ?, ?, ?, ?)", (work.now, act.actor, act.what, thing, act.why))


def release(work: Batch, rows: Sequence[int], act: Act) -> list[StoredDelivery]:
    """Dead or parked deliveries become due again, with the same id, so that the target still dedupes (R13)."""
    released: list[int] = []
    for number in rows:
        found = _delivery(work.db, number)
        if found is None or found[1] not in ("dead", "parked"):
            continue
        message, state, target, accepted_at, key = found
        waits = key is not None and _has_earlier(work.db, target, key, number)
        work.db.execute(
            "UPDATE delivery SET state = 'due', due = ?, error = '', ended_at = NULL, crashes = 0,"
            " line = CASE WHEN order_key IS NULL THEN NULL ELSE 1 END WHERE id = ?",
            (None if waits else work.now, number),
        )
        work.entries.move("deliveries", target, accepted_at, state, "due")
        work.close_message(message)
        note(work, act, f"delivery {number}")
        if not waits:
            released.append(number)
    return read_deliveries(work.db, released)


def _delivery(db: sqlite3.Connection, number: int) -> Any:
    return db.execute(
        "SELECT d.message, d.state, d.target, m.accepted_at, d.order_key FROM delivery d"
        " JOIN message m ON m.id = d.message WHERE d.id = ?",
        (number,),
    ).fetchone()


def _has_earlier(db: sqlite3.Connection, target: str, key: str, number: int) -> bool:
    found = db.execute(
        "SELECT 1 FROM delivery WHERE target = ? AND order_key = ? AND line = 1 AND id < ? LIMIT 1",
        (target, key, number),
    ).fetchone()
    return found is not None


def replay(work: Batch, rows: Sequence[int], act: Act) -> list[StoredDelivery]:
    """A delivered delivery is sent again as a new round, `.rN` (R13); an ordered one goes last."""
    made: list[int] = []
    for number in rows:
        found = work.db.execute(
            "SELECT d.message, d.target, d.nr, d.order_key, d.body, d.size, d.params, m.accepted_at FROM delivery d"
            " JOIN message m ON m.id = d.message WHERE d.id = ? AND d.state = 'delivered'",
            (number,),
        ).fetchone()
        if found is None:
            continue
        message, target, nr, key, body, size, params, accepted_at = found
        (last,) = work.db.execute(
            "SELECT max(round) FROM delivery WHERE message = ? AND target = ? AND nr = ?", (message, target, nr)
        ).fetchone()
        work.flush()
        new = work.next_delivery()
        waits = key is not None and _has_earlier(work.db, target, key, new)
        work.db.execute(
            "INSERT INTO delivery (id, message, target, nr, round, state, due, order_key, line, body, size, params)"
            " VALUES (?, ?, ?, ?, ?, 'due', ?, ?, ?, ?, ?, ?)",
            (
                new,
                message,
                target,
                nr,
                last + 1,
                None if waits else work.now,
                key,
                1 if key else None,
                body,
                size,
                params,
            ),
        )
        work.entries.add("deliveries", target, accepted_at, "planned")
        work.entries.add("deliveries", target, accepted_at, "due")
        work.close_message(message)
        note(work, act, f"delivery {number}")
        if not waits:
            made.append(new)
    return read_deliveries(work.db, made)


def discard(work: Batch, rows: Sequence[int], act: Act) -> list[StoredDelivery]:
    """A person lets dead, parked or waiting deliveries go, with the reason; the next of an order key moves up."""
    if not act.why:
        raise StoreError("a discard needs its reason")
    promoted: list[StoredDelivery] = []
    for number in rows:
        found = _delivery(work.db, number)
        if found is None or found[1] not in ("dead", "parked", "due"):
            continue
        message, state, target, accepted_at, key = found
        work.db.execute(
            "UPDATE delivery SET state = 'dropped', due = NULL, line = NULL, error = ?, ended_at = ? WHERE id = ?",
            (act.why, work.now, number),
        )
        work.entries.move("deliveries", target, accepted_at, state, "dropped")
        work.close_message(message)
        note(work, act, f"delivery {number}")
        if key is not None:
            promoted += work.promote(target, key)
    return promoted


def release_messages(work: Batch, uids: Sequence[str], act: Act) -> int:
    """Quarantined, unmatched or undeliverable messages are planned again, from their bytes, with today's table."""
    count = 0
    for uid in uids:
        found = work.db.execute(
            "SELECT id, route, state, accepted_at FROM message WHERE uid = ?"
            " AND state IN ('quarantined', 'unmatched', 'dead', 'dropped') AND stage = ''"
            " AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.message = message.id)",
            (uid,),
        ).fetchone()
        if found is None:
            continue
        number, route, state, accepted_at = found
        work.db.execute(
            "UPDATE message SET state = 'open', stage = 'release', reason = '', closed_at = NULL, table_hash = ''"
            " WHERE id = ?",
            (number,),
        )
        work.entries.move("messages", route, accepted_at, state, "open")
        note(work, act, f"message {uid}")
        count += 1
    return count


def discard_messages(work: Batch, uids: Sequence[str], act: Act) -> int:
    """A person lets messages go that nothing was sent of, with the reason."""
    if not act.why:
        raise StoreError("a discard needs its reason")
    count = 0
    for uid in uids:
        found = work.db.execute(
            "SELECT id, route, state, accepted_at FROM message WHERE uid = ? AND state IN ('quarantined', 'unmatched')",
            (uid,),
        ).fetchone()
        if found is None:
            continue
        number, route, state, accepted_at = found
        work.db.execute(
            "UPDATE message SET state = 'dropped', reason = ?, closed_at = ? WHERE id = ?", (act.why, work.now, number)
        )
        work.entries.move("messages", route, accepted_at, state, "dropped")
        note(work, act, f"message {uid}")
        count += 1
    return count


def edit_message(work: Batch, uid: str, body: NewBody, act: Act) -> None:
    """Another body for a held message; the original stays beside it. Raises StoreError when it is not held."""
    found = work.db.execute(
        "SELECT id FROM message WHERE uid = ? AND state IN ('quarantined', 'unmatched', 'dead')", (uid,)
    ).fetchone()
    if found is None:
        raise StoreError(f"message {uid} is not held: only held messages are edited")
    number = work.add_body(body)
    work.db.execute("UPDATE message SET edited = ? WHERE id = ?", (number, found[0]))
    note(work, act, f"message {uid}")


def edit_delivery(work: Batch, row: int, body: NewBody, act: Act) -> None:
    """Other bytes for a dead or parked delivery; the message keeps the original."""
    found = _delivery(work.db, row)
    if found is None or found[1] not in ("dead", "parked"):
        raise StoreError("only dead or parked deliveries are edited")
    number = work.add_body(body)
    work.db.execute("UPDATE delivery SET body = ?, size = ? WHERE id = ?", (number, body.size, row))
    note(work, act, f"delivery {row}")


def now(work: Batch, target: str, act: Act) -> int:
    """Clears a target's retry clocks: what waits for a time is due."""
    done = work.db.execute(
        "UPDATE delivery SET due = ? WHERE target = ? AND state = 'due' AND due > ?", (work.now, target, work.now)
    )
    note(work, act, f"target {target}")
    return done.rowcount


def park_unknown(work: Batch, known: Sequence[str]) -> int:
    """R11: waiting rows of targets that are no longer in the table park as no-target."""
    marks = ",".join("?" * len(known))
    rows = work.db.execute(
        "SELECT d.id, d.target, m.accepted_at FROM delivery d JOIN message m ON m.id = d.message"
        f" WHERE d.state = 'due' AND d.target NOT IN ({marks})",
        list(known),
    ).fetchall()
    for number, target, accepted_at in rows:
        work.db.execute("UPDATE delivery SET state = 'parked', error = 'no-target' WHERE id = ?", (number,))
        work.entries.move("deliveries", target, accepted_at, "due", "parked")
    return len(rows)


def park_poison(work: Batch, rows: Sequence[int], limit: int) -> int:
    """R15: what was under way at a crash; the one that was three times is parked."""
    parked = 0
    for number in rows:
        work.db.execute("UPDATE delivery SET crashes = crashes + 1, maybe_sent = 1 WHERE id = ?", (number,))
        found = work.db.execute(
            "SELECT d.crashes, d.state, d.target, m.accepted_at FROM delivery d JOIN message m ON m.id = d.message"
            " WHERE d.id = ?",
            (number,),
        ).fetchone()
        if found is None or found[0] < limit or found[1] != "due":
            continue
        reason = f"poison: the bus died {found[0]} times while this was under way"
        work.db.execute("UPDATE delivery SET state = 'parked', error = ? WHERE id = ?", (reason, number))
        work.entries.move("deliveries", found[2], found[3], "due", "parked")
        parked += 1
    return parked
