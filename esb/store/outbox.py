"""What happens to messages inside one transaction: they come in with their deliveries, outcomes are settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from esb.store import ledger, order
from esb.store.account import WAITING
from esb.store.records import AttemptRecord, Settled, Settlement, StoredDelivery
from esb.store.rows import CLOSES, WORST, Draft, Row, fingerprint, pack
from esb.store.work import Work

_ids = msgspec.json.Encoder().encode

FIRST_ATTEMPTS, LAST_ATTEMPTS = 10, 40
"""Failed attempts of one delivery that are kept in full: the first ones and the last ones; all are counted."""

_DELIVERED = """UPDATE delivery SET state = 'delivered', due = NULL, attempts = attempts + 1, error = '', ended_at = ?
WHERE id IN (SELECT value FROM json_each(?)) AND state IN ('due', 'forwarded')"""
_DONE = """UPDATE message SET state = 'done', open = 0, worst = 3, closed_at = ?
WHERE id IN (SELECT value FROM json_each(?)) AND open = 1 AND worst = 0 AND stage = '' AND state = 'open'"""
_SHRINK = """UPDATE message SET open = open - :n, worst = max(worst, 3),
closed_at = CASE WHEN open = :n THEN :now END, state = CASE WHEN open > :n THEN 'open'
WHEN worst <= 3 THEN 'done' WHEN worst = 4 THEN 'expired' ELSE 'dead' END
WHERE id IN (SELECT value FROM json_each(:ids)) AND open >= :n AND state = 'open' AND stage = ''"""
_NOT_DONE = "SELECT id, state FROM message WHERE id IN (SELECT value FROM json_each(?)) AND state <> 'done'"
_FOUND = """SELECT d.state, d.attempts, d.line, d.order_key, d.size, m.accepted_at, m.open, m.worst, m.state, m.stage,
m.route FROM delivery d JOIN message m ON m.id = d.message WHERE d.id = ?"""
_SETTLE = """UPDATE delivery SET state = ?, due = ?, attempts = attempts + ?, crashes = 0,
maybe_sent = max(maybe_sent, ?), error = ?, note = ?, fingerprint = ?, ended_at = ? WHERE id = ?"""
_OPEN = """UPDATE message SET open = ?, worst = ?,
closed_at = CASE WHEN closed_at IS NULL THEN NULL ELSE coalesce(?, closed_at) END WHERE id = ?"""
_MESSAGE = "UPDATE message SET open = ?, worst = ?, state = ?, closed_at = ? WHERE id = ?"
_ATTEMPT = """INSERT OR REPLACE INTO attempt (delivery, n, at, node, class, code, place, params, ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""

SETTLED: Mapping[str, Settled] = {state: Settled(state=state) for state in ("open", *CLOSES)}


class Raced(Exception):
    """Rows were not as the fast way expects them: they are settled one by one."""


def accept(work: Work, drafts: Sequence[Draft]) -> None:
    """New messages with all they cause; what is known already gets its outcome and writes nothing (R3)."""
    fresh = ledger.admit(work, drafts)
    ledger.admit_handed(work, fresh)
    order.line_up(work.db, fresh)
    ledger.cursors(work, drafts)
    if fresh:
        work.insert(fresh)


def is_plain(item: Settlement) -> bool:
    """Delivered, with nothing else to write."""
    return (
        item.state == "delivered"
        and not item.note
        and item.answer is None
        and item.attempt is None
        and item.counts
        and item.delivery.order_key is None
    )


def settle_plain(work: Work, rows: Sequence[StoredDelivery]) -> list[Settled]:
    """Many deliveries that were delivered; raises Raced when one of them has ended otherwise meanwhile."""
    db = work.db
    ids = _ids([row.row for row in rows])
    if db.execute(_DELIVERED, (work.now, ids)).rowcount != len(rows):
        raise Raced
    alone = [row.message for row in rows if row.alone]
    if alone and db.execute(_DONE, (work.now, _ids(alone))).rowcount != len(alone):
        raise Raced
    left = _shrink(work, rows) if len(alone) < len(rows) else {}
    _enter(work, rows, left)
    if not left:
        return [SETTLED["done"]] * len(rows)
    return [SETTLED[left.get(row.message, "done")] for row in rows]


def _shrink(work: Work, rows: Sequence[StoredDelivery]) -> dict[int, str]:
    """Messages with several deliveries: gives the state of those that are not done now."""
    counts: dict[int, int] = {}
    for row in rows:
        if not row.alone:
            counts[row.message] = counts.get(row.message, 0) + 1
    by_count: dict[int, list[int]] = {}
    for message, n in counts.items():
        by_count.setdefault(n, []).append(message)
    left: dict[int, str] = {}
    for n, messages in by_count.items():
        ids = _ids(messages)
        changed = work.db.execute(_SHRINK, {"n": n, "now": work.now, "ids": ids})
        if changed.rowcount != len(messages):
            raise Raced
        left.update(work.db.execute(_NOT_DONE, (ids,)).fetchall())
    return left


def _enter(work: Work, rows: Sequence[StoredDelivery], left: Mapping[int, str]) -> None:
    """The books of plain outcomes."""
    sums, waits = work.entries.sums, work.entries.waits
    closed: set[int] = set()
    for row in rows:
        hour = int(row.accepted_at) // 3600
        key = ("deliveries", row.target, hour, "delivered")
        sums[key] = sums.get(key, 0) + 1
        counts = waits.get(row.target)
        if counts is None:
            waits[row.target] = [-1, -row.size]
        else:
            counts[0] -= 1
            counts[1] -= row.size
        if row.alone or (row.message not in closed and left.get(row.message) != "open"):
            key = ("messages", row.route, hour, left.get(row.message, "done"))
            sums[key] = sums.get(key, 0) + 1
            if not row.alone:
                closed.add(row.message)


def settle(work: Work, item: Settlement) -> Settled:
    """One outcome with all that follows: attempt, message, line, ledger. Settling twice changes nothing."""
    row = item.delivery
    found = work.db.execute(_FOUND, (row.row,)).fetchone()
    if found is None:
        return Settled(state="done")
    state, attempts, line, key, size, accepted_at = found[:6]
    if state not in WAITING or (item.counts and attempts > row.attempts):
        return Settled(state=found[8])
    after = state if item.state == "due" and state == "parked" else item.state
    ended = work.now if after in WORST else None
    mark = _mark(item) if after in ("dead", "parked") else None
    due = item.due if after == "due" else None
    error = item.reason if after == item.state else "parked while it was under way"
    given = (after, due, item.counts, item.maybe_sent, error, item.note, mark, ended, row.row)
    work.db.execute(_SETTLE, given)
    if item.attempt is not None:
        record(work, row.row, item.attempt)
    work.entries.moved(row.target, accepted_at, size, state, after)
    promoted = _follow(work, item, after, key) if line is not None else []
    fate = found[8] if ended is None else _close(work, row, after, found)
    if item.answer is not None and (item.decides or fate == "done"):
        ledger.answer(work, row.uid, item.answer)
    return Settled(state=fate, promoted=promoted)


def _mark(item: Settlement) -> str:
    cause = "" if item.attempt is None else f"{item.attempt.kind} {item.attempt.code}"
    return fingerprint(item.reason, cause)


def _follow(work: Work, item: Settlement, after: str, key: str) -> list[StoredDelivery]:
    """R14: what an outcome does to the line of its key."""
    row = item.delivery
    if after == "due":
        return []
    if after in ("dead", "parked") and item.when_stuck != "skip":
        if item.when_stuck == "park-key":
            order.park_line(work, row.row, row.target, key)
        return []
    return order.leave(work, row.row, row.target, key)


def _close(work: Work, row: StoredDelivery, after: str, found: Row) -> str:
    """One delivery of the message has ended; when it was the last, so has the message."""
    accepted_at, left, worst, state, stage, route = found[5:11]
    left, worst = left - 1, max(worst, WORST[after])
    if left or stage or state != "open":
        # What ended before its deliveries did (set aside, let go) is kept from the end of the last one on (R10).
        later = work.now if not left and not stage else None
        work.db.execute(_OPEN, (left, worst, later, row.message))
        return str(state)
    work.db.execute(_MESSAGE, (0, worst, CLOSES[worst], work.now, row.message))
    work.entries.message(route, accepted_at, CLOSES[worst])
    return CLOSES[worst]


def record(work: Work, delivery: int, attempt: AttemptRecord) -> None:
    """A failed attempt, beside those before a release. Of very many, the first and the last are kept."""
    params = pack(attempt.params) if attempt.params else None
    known = work.db.execute("SELECT max(n) FROM attempt WHERE delivery = ?", (delivery,)).fetchone()[0]
    n = max(attempt.n, (known or 0) + 1)
    work.db.execute(
        _ATTEMPT, (delivery, n, attempt.at, work.node, attempt.kind, attempt.code, attempt.place, params, attempt.ms)
    )
    if n - LAST_ATTEMPTS > FIRST_ATTEMPTS:
        work.db.execute("DELETE FROM attempt WHERE delivery = ? AND n = ?", (delivery, n - LAST_ATTEMPTS))


def reopen(work: Work, message: int) -> None:
    """A delivery of a message that may have ended waits again, or ends in another way: the message's own state is made
    to fit its deliveries, and the books with it (R19)."""
    route, accepted_at, state, stage, reason = work.db.execute(
        "SELECT route, accepted_at, state, stage, reason FROM message WHERE id = ?", (message,)
    ).fetchone()
    counts = work.db.execute("SELECT state, count(*) FROM delivery WHERE message = ? GROUP BY 1", (message,)).fetchall()
    left = sum(n for name, n in counts if name in WAITING) + (1 if stage else 0)
    worst = max((WORST[name] for name, _ in counts if name in WORST), default=0)
    after = "open" if left else CLOSES[worst]
    # What planning set aside stays so, whatever becomes of the deliveries beside it, until a person acts.
    held = state in ("quarantined", "unmatched") or (state == "dead" and reason)
    if after == state or held:
        work.db.execute("UPDATE message SET open = ?, worst = ? WHERE id = ?", (left, worst, message))
        return
    work.db.execute(_MESSAGE, (left, worst, after, None if left else work.now, message))
    if state != "open":
        work.entries.message(route, accepted_at, state, -1)
    if after != "open":
        work.entries.message(route, accepted_at, after)
