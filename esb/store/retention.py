"""Letting go: first the bodies, then the journeys of closed messages; the books keep their counts as pruned (R10)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from esb.store import ledger, order
from esb.store.account import PRUNED, hour_of
from esb.store.rows import texts
from esb.store.work import Work

_ids = msgspec.json.Encoder().encode

CHUNK = 500
"""Messages of one transaction: a chunk must not hold up those who wait to be accepted."""
SPACE = 10_000_000_000
"""Bytes that are kept when nothing else is said, or a tenth of the disk when that is less."""
FREE_PAGES = 2000
"""Free pages that stay in the file for what comes next, and how many are given back at a time."""
FOLD_AFTER = 100 * 24
"""Hours after which the books are kept by the day."""
HOUR = 3600.0

_KEPT = "state NOT IN ('quarantined', 'unmatched', 'dead') AND open = 0"
_FULL = f"""SELECT id, parts FROM message WHERE route = ? AND closed_at IS NOT NULL AND body IS NOT NULL AND {_KEPT}
AND closed_at <= ? ORDER BY closed_at LIMIT ?"""
_BARE = f"""SELECT id, parts FROM message WHERE route = ? AND closed_at IS NOT NULL AND body IS NULL AND {_KEPT}
AND closed_at <= ? ORDER BY closed_at LIMIT ?"""
_DEAD = """SELECT id, parts FROM message WHERE state IN ('quarantined', 'unmatched', 'dead') AND state = ? AND route = ?
AND closed_at <= ? AND open = 0 ORDER BY id LIMIT ?"""
_FIRST = f"""SELECT min(closed_at) FROM message WHERE route = ? AND closed_at IS NOT NULL AND body IS NOT NULL
AND {_KEPT}"""
_FIRST_BARE = _FIRST.replace("body IS NOT NULL", "body IS NULL")
_PARTS_FULL = """SELECT 1 FROM message WHERE parent = ? AND made = 'part' AND (closed_at IS NULL OR body IS NOT NULL)
LIMIT 1"""
_PARTS = "SELECT 1 FROM message WHERE parent = ? AND made = 'part' LIMIT 1"
_OF = "(SELECT value FROM json_each(:ids))"
_BODIES = f"""SELECT id, file FROM body WHERE id IN (SELECT body FROM message WHERE id IN {_OF} UNION
SELECT edited FROM message WHERE id IN {_OF} UNION SELECT body FROM delivery WHERE message IN {_OF} UNION
SELECT edited FROM delivery WHERE message IN {_OF})"""


class Keep(Struct, frozen=True):
    """How long a route's closed messages stay, in seconds. `dead`: those that wait for a person; None: for ever."""

    body: float = 7 * 86400.0
    journey: float = 90 * 86400.0
    dead: float | None = None


class Pruned(Struct, frozen=True):
    """What one chunk let go, and whether more may be waiting."""

    bodies: int = 0
    journeys: int = 0
    more: bool = False


class Parents:
    """Messages whose parts are not gone yet: looked at again after an hour only, since they may have millions."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    @property
    def chunk(self) -> int:
        """How many to look up, so that those that wait for their parts never stand before all others."""
        return CHUNK + len(self._since)

    def wait(self, db: sqlite3.Connection, message: int, query: str, now: float) -> bool:
        """Whether this message has parts that must go first."""
        if now - self._since.get(message, -HOUR) < HOUR:
            return True
        if db.execute(query, (message,)).fetchone() is None:
            self._since.pop(message, None)
            return False
        self._since[message] = now
        return True


def prune_bodies(work: Work, route: str, before: float, parents: Parents) -> Pruned:
    """The bodies of a route's messages that ended before then."""
    limit = parents.chunk
    found = work.db.execute(_FULL, (route, before, limit)).fetchall()
    ready = [row for row, parts in found if not parts or not parents.wait(work.db, row, _PARTS_FULL, work.now)]
    _drop_bodies(work, ready)
    return Pruned(bodies=len(ready), more=len(found) == limit)


def prune_journeys(work: Work, route: str, before: float, parents: Parents) -> Pruned:
    """All rows of a route's messages that ended before then and have no body any more."""
    limit = parents.chunk
    found = work.db.execute(_BARE, (route, before, limit)).fetchall()
    ready = [row for row, parts in found if not parts or not parents.wait(work.db, row, _PARTS, work.now)]
    _drop_messages(work, ready)
    return Pruned(journeys=len(ready), more=len(found) == limit)


def prune_held(work: Work, route: str, before: float, parents: Parents) -> Pruned:
    """Dead, quarantined and unmatched messages that ended before then, all of them at once: only on demand (R10)."""
    gone = 0
    for state in ("dead", "quarantined", "unmatched"):
        found = work.db.execute(_DEAD, (state, route, before, parents.chunk)).fetchall()
        ready = [row for row, parts in found if not parts or not parents.wait(work.db, row, _PARTS, work.now)]
        _let_lines_go_on(work, ready)
        _drop_bodies(work, ready)
        _drop_messages(work, ready)
        gone += len(ready)
    return Pruned(journeys=gone, more=gone >= CHUNK)


def _let_lines_go_on(work: Work, messages: Sequence[int]) -> None:
    """A dead head of an order key that is let go no longer blocks its key."""
    rows = work.db.execute(
        f"SELECT id, target, order_key FROM delivery WHERE message IN {_OF} AND line IS NOT NULL",
        {"ids": _ids(messages)},
    ).fetchall()
    for row, target, key in rows:
        order.leave(work, row, target, key)


def _drop_bodies(work: Work, messages: Sequence[int]) -> None:
    if not messages:
        return
    given = {"ids": _ids(messages)}
    bodies = work.db.execute(_BODIES, given).fetchall()
    work.loose += [file for _, file in bodies if file is not None]
    work.db.execute(f"DELETE FROM body WHERE id IN {_OF}", {"ids": _ids([number for number, _ in bodies])})
    work.db.execute(f"UPDATE message SET body = NULL, edited = NULL WHERE id IN {_OF}", given)
    _keep_numbers(work)


def _drop_messages(work: Work, messages: Sequence[int]) -> None:
    """Everything of these messages goes; the books keep its counts."""
    if not messages:
        return
    db, given = work.db, {"ids": _ids(messages)}
    hours: dict[int, int] = {}
    ends: list[tuple[str, str]] = []
    rows = db.execute(f"SELECT id, uid, route, accepted_at, state FROM message WHERE id IN {_OF}", given)
    for row, uid, route, accepted_at, state in rows.fetchall():
        hours[row] = hour_of(accepted_at)
        ends.append((state, uid))
        work.entries.message(route, accepted_at, PRUNED + state)
    rows = db.execute(
        f"SELECT message, target, state, count(*) FROM delivery WHERE message IN {_OF} GROUP BY 1, 2, 3", given
    )
    for row, target, state, n in rows.fetchall():
        work.entries.delivery(target, hours[row] * HOUR, PRUNED + state, n)
    ledger.close(work, ends)
    tried = f"SELECT id FROM delivery WHERE message IN {_OF} AND attempts > 0"
    db.execute(f"DELETE FROM attempt WHERE delivery IN ({tried})", given)
    db.execute(f"DELETE FROM delivery WHERE message IN {_OF}", given)
    keyed = db.execute(f"SELECT id, keys FROM message WHERE id IN {_OF} AND keys IS NOT NULL", given).fetchall()
    db.executemany(
        "DELETE FROM keyed WHERE value = ? AND name = ? AND message = ?",
        [(value, name, row) for row, keys in keyed for name, value in texts(keys).items()],
    )
    db.execute(f"DELETE FROM message WHERE id IN {_OF}", given)
    _keep_numbers(work)


def _keep_numbers(work: Work) -> None:
    """The highest rows may be gone now: their numbers are not given out again."""
    numbers = work.numbers
    work.db.execute(
        "UPDATE node SET body = ?, message = ?, delivery = ?", (numbers.body, numbers.message, numbers.delivery)
    )


def oldest_route(db: sqlite3.Connection, routes: Sequence[str]) -> str | None:
    """The route whose closed bodies are the oldest; None when no closed message has one."""
    ages = [(db.execute(_FIRST, (route,)).fetchone()[0], route) for route in routes]
    known = [(at, route) for at, route in ages if at is not None]
    return min(known)[1] if known else None


def ripe(db: sqlite3.Connection, keeps: Mapping[str, Keep], now: float) -> list[str]:
    """The routes that have something to let go: asked of a reader, so that the others cost no transaction."""
    found: list[str] = []
    for route, keep in keeps.items():
        full = db.execute(_FIRST, (route,)).fetchone()[0]
        bare = db.execute(_FIRST_BARE, (route,)).fetchone()[0]
        if (
            (full is not None and full <= now - keep.body)
            or (bare is not None and bare <= now - keep.journey)
            or keep.dead is not None
        ):
            found.append(route)
    return found


def known_routes(db: sqlite3.Connection) -> list[str]:
    """Every route that a message of ours may name."""
    return [name for (name,) in db.execute("SELECT DISTINCT name FROM account WHERE book = 'messages'")]


def used(db: sqlite3.Connection) -> int:
    """Bytes that rows and bodies take."""
    pages, free, size = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    files = db.execute("SELECT coalesce(sum(size), 0) FROM body WHERE file IS NOT NULL").fetchone()[0]
    return int((pages - free) * size + files)


def default_space(folder: Path) -> int:
    """What the store may take when nothing else is said."""
    found = os.statvfs(folder)
    return min(SPACE, found.f_blocks * found.f_frsize // 10)


def tidy(db: sqlite3.Connection) -> None:
    """Gives free pages back to the file system, some at a time. Outside a transaction."""
    free = db.execute("PRAGMA freelist_count").fetchone()[0]
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    if free > max(FREE_PAGES, pages // 4):
        # execute() would give back one page only: it stops at the first row, and these rows have no columns.
        db.executescript(f"PRAGMA incremental_vacuum({FREE_PAGES})")


def checkpoint(db: sqlite3.Connection) -> None:
    """Copies the WAL into the file and empties it, unless a reader still looks at it."""
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def forget(work: Work) -> None:
    """What has its own time: ledger entries and crashes."""
    ledger.forget(work, 5000)
    work.db.execute("DELETE FROM crash WHERE at < ?", (work.now - 7 * 86400,))


def fold(work: Work) -> None:
    """Old entries of the books by the day instead of the hour: the sums stay."""
    before = hour_of(work.now) - FOLD_AFTER
    rows: Mapping[tuple[str, str, int, str], int] = {
        (book, name, hour, entry): n
        for book, name, hour, entry, n in work.db.execute(
            "SELECT book, name, hour, entry, n FROM account WHERE hour < ? AND hour % 24 <> 0 LIMIT 1000", (before,)
        )
    }
    for (book, name, hour, entry), n in rows.items():
        work.db.execute(
            "DELETE FROM account WHERE book = ? AND name = ? AND hour = ? AND entry = ?", (book, name, hour, entry)
        )
        work.db.execute(
            "INSERT INTO account VALUES (?, ?, ?, ?, ?) ON CONFLICT (book, name, hour, entry) DO UPDATE SET"
            " n = n + excluded.n",
            (book, name, hour - hour % 24, entry, n),
        )
