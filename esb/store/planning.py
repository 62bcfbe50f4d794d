"""Planning after the commit: parts in chunks with their parent's place, and messages planned again (R5)."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from esb.errors import StoreError
from esb.store import ledger, order
from esb.store.account import WAITING
from esb.store.records import NewBody, NewMessage, Progress, StoredDelivery
from esb.store.rows import CLOSES, HELD, WORST, Draft, Numbers, add_deliveries, add_message, fingerprint
from esb.store.work import Work

_PARENT = """SELECT m.parts, m.stage, m.state, m.root, coalesce(m.edited, m.body), b.size, b.media, b.data, b.file,
m.trace, m.open FROM message m LEFT JOIN body b ON b.id = coalesce(m.edited, m.body) WHERE m.id = ?"""
_UPDATE = """UPDATE message SET stage = ?, state = ?, reason = ?, parts = ?, trace = ?, open = ?, worst = ?,
fingerprint = ?, closed_at = ? WHERE id = ?"""


def draft_parts(made: Sequence[NewMessage], parent: int, root: int | None, numbers: Numbers, now: float) -> Draft:
    """The rows of one chunk."""
    chunk = Draft(None, None)
    for new in made:
        add_message(chunk, new, numbers, now, parent=parent, root=root or parent)
    return chunk


def advance(work: Work, progress: Progress) -> list[StoredDelivery]:
    """One chunk: the rows it made and the parent's place, or neither. Raises StoreError when the parent is elsewhere,
    so that no row gets a second message. Gives what is due."""
    message = progress.message
    found = work.db.execute(_PARENT, (message.row,)).fetchone()
    if found is None:
        raise StoreError(f"message {message.uid} is gone")
    parts, stage, state, root, body, size, media, data, file, trace, _ = found
    _expect(progress, parts, stage, state)
    before: list[str] = []
    if message.stage == "release":
        progress, before = _missing(work.db, progress)
    chunk = draft_parts(progress.made, message.row, root, work.numbers, work.now)
    left = sum(1 for name in before if name in WAITING) + (1 if progress.stage else 0)
    worst = gravest = max((WORST[name] for name in before if name in WORST), default=0)
    if progress.deliveries:
        shared = NewBody(data=data, file=file, size=size, media=media)
        waiting, worst = add_deliveries(
            chunk, message, progress.deliveries, message.row, body, shared, work.numbers, work.now
        )
        left, worst = left + waiting, max(worst, gravest)
        alone = len(progress.deliveries) == 1 and not progress.stage and not before
        _only(chunk, message.row, alone=alone)
    notes = ledger.admit_handed(work, [chunk])
    after: str = progress.state
    if after == "open" and not left:
        after = CLOSES[worst]
    reason = progress.reason or notes.get(message.row, "")
    mark = fingerprint(reason) if after in HELD else None
    order.line_up(work.db, [chunk])
    work.insert([chunk], {message.row: message.accepted_at})
    made = max(parts, progress.next_index)
    trace = trace if progress.trace is None else progress.trace or None
    closed = None if after == "open" else work.now
    given = (progress.stage, after, reason, made, trace, left, worst, mark, closed, message.row)
    work.db.execute(_UPDATE, given)
    if after != "open":
        work.entries.message(message.route, message.accepted_at, after)
    return chunk.rows


def _missing(db: sqlite3.Connection, progress: Progress) -> tuple[Progress, list[str]]:
    """Of a message that is planned again, what was not planned the first time, and the states of what was: a target
    that has it, or will get it, gets no second one."""
    rows = db.execute("SELECT target, nr, state FROM delivery WHERE message = ?", (progress.message.row,)).fetchall()
    known = {(target, nr) for target, nr, _ in rows}
    uids = msgspec.json.encode([item.uid for item in progress.made])
    query = "SELECT uid FROM message WHERE uid IN (SELECT value FROM json_each(?))"
    handed = {uid for (uid,) in db.execute(query, (uids,))}
    kept = replace(
        progress,
        deliveries=[item for item in progress.deliveries if (item.target, item.nr) not in known],
        made=[item for item in progress.made if item.uid not in handed],
    )
    return kept, [state for _, _, state in rows]


def _expect(progress: Progress, parts: int, stage: str, state: str) -> None:
    message = progress.message
    begun = progress.next_index - sum(1 for new in progress.made if new.made == "part")
    split = any(new.made == "part" for new in progress.made)
    if state != "open" or stage != message.stage or (split and begun != parts):
        raise StoreError(f"message {message.uid} stands elsewhere: {parts} parts made, {state} {stage or 'planned'}")


def _only(chunk: Draft, row: int, *, alone: bool) -> None:
    """Whether a delivery is its message's only one is known from the plan, not from the message as it stood."""
    for delivery in chunk.rows:
        if delivery.message == row:
            delivery.alone = alone and delivery.order_key is None


def stage_again(db: sqlite3.Connection, row: int) -> Any:
    """Puts a message that ended in planning back to be planned anew."""
    return db.execute(
        "UPDATE message SET state = 'open', stage = 'release', reason = '', worst = 0, fingerprint = NULL,"
        " closed_at = NULL, open = 1 + (SELECT count(*) FROM delivery WHERE message = message.id"
        " AND state IN ('due', 'parked', 'forwarded')) WHERE id = ?",
        (row,),
    )
