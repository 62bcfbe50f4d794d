"""A store that is a copy says so until its first start, which makes it another generation and holds it (R29)."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime

from msgspec import Struct

from esb.store.dead_letters import Act, note
from esb.store.work import Work

log = logging.getLogger(__name__)

RESTORE = "restore"
"""Who paused what stands still after a restore."""
_COPY, _BUS = "copy", "bus"
_MARK = "INSERT OR IGNORE INTO pause (scope, name, reason, by) VALUES (?, '', ?, ?)"
_HOLD = """INSERT INTO pause (scope, name, reason, by) VALUES (?, ?, ?, ?) ON CONFLICT (scope, name) DO UPDATE SET
reason = excluded.reason, until = NULL, by = excluded.by WHERE until IS NOT NULL"""


class Copied(Struct, frozen=True):
    """What a copy holds that the store it was made of may have done since: `deliveries` that wait, `messages` whose
    planning was not finished."""

    taken: str
    deliveries: int
    messages: int

    def __str__(self) -> str:
        planned = f", and {self.messages} messages are not planned to the end" if self.messages else ""
        return (
            f"restored from a copy of {self.taken}: {self.deliveries} deliveries wait and may repeat{planned};"
            " what was accepted later is not in it"
        )


def mark(db: sqlite3.Connection, at: float) -> None:
    """This file is a copy, of then where it does not say so already."""
    db.execute(_MARK, (_COPY, datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds"), RESTORE))


def copied(db: sqlite3.Connection) -> Copied | None:
    """What stands in a copy that was not started yet; None for any other store."""
    found = db.execute("SELECT reason FROM pause WHERE scope = ?", (_COPY,)).fetchone()
    if found is None:
        return None
    deliveries = db.execute("SELECT count(*) FROM delivery WHERE state IN ('due', 'forwarded')").fetchone()[0]
    messages = db.execute("SELECT count(*) FROM message WHERE stage <> ''").fetchone()[0]
    return Copied(found[0], deliveries, messages)


def take_over(work: Work) -> None:
    """The first start of a copy: another generation, and a pause of the whole bus. The moment is part of the number, so
    that two restores of one backup are two generations."""
    found = copied(work.db)
    if found is None:
        return
    log.error("the store is %s", found)
    work.db.execute("UPDATE node SET generation = max(generation + 1, ?)", (int(work.now),))
    # What the broker had when the copy was made has had its outcome: nothing of it comes back to a copy (R23).
    work.db.execute("UPDATE delivery SET state = 'due', due = ?, maybe_sent = 1 WHERE state = 'forwarded'", (work.now,))
    work.db.execute("DELETE FROM pause WHERE scope = ?", (_COPY,))
    work.db.execute(_MARK, (_BUS, str(found), RESTORE))
    note(work, Act(what="restore", actor="bus", why=str(found)), "store")


def hold(work: Work, things: Iterable[tuple[str, str]]) -> None:
    """The pause of the whole bus becomes one of each (scope, name), so that a person may let go one by one. What a
    person has paused without an end stays theirs."""
    found = work.db.execute("SELECT reason FROM pause WHERE scope = ?", (_BUS,)).fetchone()
    if found is None:
        return
    work.db.executemany(_HOLD, [(scope, name, found[0], RESTORE) for scope, name in things])
    work.db.execute("DELETE FROM pause WHERE scope = ?", (_BUS,))
