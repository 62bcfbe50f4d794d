"""Order by key (R14): only the head of a key's line is due; whoever ends or leaves lets the next one step up."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from esb.store.records import Stored, StoredDelivery
from esb.store.rows import Draft, Row, fingerprint
from esb.store.work import Work

STANDS, STUCK = 1, 2
"""A row in its key's line; a stuck head whose line parks (`when_stuck = "park-key"`)."""

_BEFORE = """SELECT max(line), max(seq) FROM delivery WHERE target = ? AND order_key = ? AND line IS NOT NULL"""
_NEXT = """SELECT id, state, due FROM delivery WHERE target = ? AND order_key = ? AND line IS NOT NULL
ORDER BY seq LIMIT 1"""
_PARK = """UPDATE delivery SET state = 'parked', error = ?, fingerprint = ? WHERE target = ? AND order_key = ?
AND line IS NOT NULL AND state = 'due' AND due IS NULL"""
_STUCK = f"""SELECT id, order_key FROM delivery WHERE target = ? AND line = {STANDS} AND state IN ('dead', 'parked')
AND seq = (SELECT min(seq) FROM delivery h WHERE h.target = delivery.target AND h.order_key = delivery.order_key
AND h.line IS NOT NULL)"""
BEHIND = "key-stuck: an earlier delivery of this key is stuck"

# Places in a delivery's row as `rows.add_deliveries` builds it.
_ID, _TARGET, _STATE, _DUE, _KEY, _SEQ, _LINE, _ERROR, _PRINT = 0, 2, 4, 5, 6, 7, 8, 13, 14


def line_up(db: sqlite3.Connection, drafts: Sequence[Draft]) -> None:
    """Gives ordered deliveries of these drafts their places: behind what stands before, on disk or in this batch."""
    lines: dict[tuple[str, str], tuple[int, int]] = {}
    for item in drafts:
        if not item.ordered:
            continue
        waits: set[int] = set()
        for place, row in enumerate(item.deliveries):
            if row[_KEY] is None or row[_STATE] not in ("due", "parked"):
                continue
            line = (row[_TARGET], row[_KEY])
            before = lines.get(line)
            if before is None:
                stands, last = db.execute(_BEFORE, line).fetchone()
                before = (stands or 0, last or 0)
            # Numbers are given out before a transaction: one that commits late must not stand before an earlier one.
            seq = max(row[_ID], before[1] + 1)
            lines[line] = (max(before[0], STANDS), seq)
            item.deliveries[place] = _placed(row, before[0], seq)
            if before[0]:
                waits.add(row[_ID])
        if waits:
            _only_due(item, waits)


def _placed(row: Row, before: int, seq: int) -> Row:
    """The row in its line: due as the head, else waiting, else parked behind a stuck one."""
    cells = list(row)
    cells[_SEQ] = seq
    cells[_LINE] = STANDS
    if before:
        cells[_DUE] = None
    if before == STUCK and row[_STATE] == "due":
        cells[_STATE], cells[_ERROR], cells[_PRINT] = "parked", BEHIND, fingerprint(BEHIND)
    return tuple(cells)


def _only_due(item: Draft, waits: set[int]) -> None:
    item.rows = [row for row in item.rows if row.row not in waits]
    if isinstance(item.outcome, Stored):
        before = item.outcome
        item.outcome = Stored(uid=before.uid, state=before.state, message=before.message, deliveries=item.rows)


def leave(work: Work, row: int, target: str, key: str) -> list[StoredDelivery]:
    """A row has left the line; the next one, if it only waited, is due now."""
    work.db.execute("UPDATE delivery SET line = NULL WHERE id = ?", (row,))
    return step_up(work, target, key)


def step_up(work: Work, target: str, key: str) -> list[StoredDelivery]:
    """The head of the line is due when it only waited for its turn; gives it then."""
    head = work.db.execute(_NEXT, (target, key)).fetchone()
    if head is None or head[1] != "due" or head[2] is not None:
        return []
    work.db.execute("UPDATE delivery SET due = ? WHERE id = ?", (work.now, head[0]))
    return work.read((head[0],))


def park_line(work: Work, row: int, target: str, key: str) -> int:
    """The stuck head parks all that stand behind it, and all that come later; gives how many it parked now."""
    work.db.execute("UPDATE delivery SET line = ? WHERE id = ?", (STUCK, row))
    parked = work.db.execute(_PARK, (BEHIND, fingerprint(BEHIND), target, key))
    return parked.rowcount


def heed(work: Work, target: str, when_stuck: str) -> int:
    """What stands stuck at the head of a line, after a death or under another table, is dealt with as the target says
    now; gives for how many lines."""
    stuck = work.db.execute(_STUCK, (target,)).fetchall()
    for row, key in stuck:
        if when_stuck == "skip":
            leave(work, row, target, key)
        else:
            park_line(work, row, target, key)
    return len(stuck)


def last_place(work: Work, target: str, key: str | None) -> int:
    """A place behind all that stand in a line."""
    last = work.db.execute(_BEFORE, (target, key)).fetchone()[1] or 0
    return max(work.numbers.next_delivery(), last + 1)


def is_head(db: sqlite3.Connection, row: int, target: str, key: str) -> bool:
    """Whether nothing stands before this row in its line."""
    head = db.execute(_NEXT, (target, key)).fetchone()
    return head is None or head[0] == row
