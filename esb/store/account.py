"""The two books, messages and deliveries: each entry is written in the transaction of the thing it counts (R19)."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping

from msgspec import Struct

MADE = {
    "source": "accepted",
    "part": "made part",
    "gathered": "made gathered",
    "replay": "made replay",
    "route": "made route",
}
"""How a message came in, and its entry: a message gathered from others and one that was absorbed are two things."""
CLOSED = ("done", "quarantined", "unmatched", "dropped", "dead", "expired", "split", "gathered", "superseded")
PLANNED = ("planned", "adopted")
ENDED = ("delivered", "dead", "expired", "dropped", "superseded", "adopted away")
WAITING = ("due", "parked", "forwarded")
PRUNED = "pruned "

_WRITE = """INSERT INTO account (book, name, hour, entry, n) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (book, name, hour, entry) DO UPDATE SET n = n + excluded.n"""
_WAIT = """INSERT INTO waiting (target, rows, bytes) VALUES (?, ?, ?)
ON CONFLICT (target) DO UPDATE SET rows = rows + excluded.rows, bytes = bytes + excluded.bytes"""

Entry = tuple[str, str, int, str]


def hour_of(created: float) -> int:
    """Entries stand on the hour of the creation of what they count."""
    return int(created) // 3600


class Entries:
    """What one transaction adds to the books and to the backlog, summed up before it is written."""

    __slots__ = ("sums", "waits")

    def __init__(self) -> None:
        self.sums: dict[Entry, int] = {}
        self.waits: dict[str, list[int]] = {}

    def message(self, route: str, created: float, entry: str, n: int = 1) -> None:
        self._add(("messages", route, hour_of(created), entry), n)

    def delivery(self, target: str, created: float, entry: str, n: int = 1) -> None:
        self._add(("deliveries", target, hour_of(created), entry), n)

    def _add(self, key: Entry, n: int) -> None:
        self.sums[key] = self.sums.get(key, 0) + n

    def moved(self, target: str, created: float, size: int, before: str, after: str) -> None:
        """A delivery goes from one state to another; back again, it writes the reverse."""
        if before in WAITING:
            if after not in WAITING:
                self.wait(target, -1, -size)
                self.delivery(target, created, after)
            return
        self.delivery(target, created, before, -1)
        if after in WAITING:
            self.wait(target, 1, size)
        else:
            self.delivery(target, created, after)

    def wait(self, target: str, rows: int, size: int) -> None:
        """So many more (or fewer) deliveries wait for this target."""
        counts = self.waits.get(target)
        if counts is None:
            self.waits[target] = [rows, size]
        else:
            counts[0] += rows
            counts[1] += size

    def write(self, db: sqlite3.Connection) -> None:
        """Into the transaction; the backlog's sums stay here for the store's memory."""
        rows = [(*key, n) for key, n in self.sums.items() if n]
        if rows:
            db.executemany(_WRITE, rows)
        if self.waits:
            db.executemany(_WAIT, [(target, *counts) for target, counts in self.waits.items()])


class Sums(Struct, frozen=True):
    """One book of one route or target: what came in, what it came to, and what is left."""

    book: str
    name: str
    entries: Mapping[str, int]
    came: int
    closed: int
    left: int

    @property
    def balanced(self) -> bool:
        return self.came == self.closed + self.left


class Account(Struct, frozen=True):
    """The books. `differences` names every entry whose recount (plus what was pruned) is not its sum."""

    sums: tuple[Sums, ...]
    differences: tuple[str, ...]

    @property
    def balanced(self) -> bool:
        return not self.differences and all(item.balanced for item in self.sums)


def account(db: sqlite3.Connection, since: float | None = None) -> Account:
    """Sums and recount, of everything or of what was created on that day and since (old entries stand by the day);
    call it inside one read transaction."""
    hour = -1 if since is None else hour_of(since) // 24 * 24
    written, pruned = _written(db, hour)
    counted = recount(db, 0.0 if since is None else hour * 3600.0)
    came = {key: counted.pop(key) for key in list(counted) if key[2] == ""}
    differences = [*_came_differs(written, pruned, came), *_state_differs(written, pruned, counted)]
    left = {key: n for key, n in counted.items() if key[2] in ("open", *WAITING)}
    return Account(tuple(_sums(written, left)), tuple(differences))


def account_now(db: sqlite3.Connection, since: float | None = None) -> Account:
    """The books, recounted in a read transaction of its own."""
    db.execute("BEGIN")
    try:
        return account(db, since)
    finally:
        db.execute("ROLLBACK")


Counts = Counter[tuple[str, str, str]]


def _written(db: sqlite3.Connection, hour: int) -> tuple[Counts, Counts]:
    written: Counts = Counter()
    pruned: Counts = Counter()
    rows = db.execute("SELECT book, name, entry, sum(n) FROM account WHERE hour >= ? GROUP BY 1, 2, 3", (hour,))
    for book, name, entry, n in rows:
        if entry.startswith(PRUNED):
            pruned[(book, name, entry.removeprefix(PRUNED))] += n
        else:
            written[(book, name, entry)] += n
    return written, pruned


def recount(db: sqlite3.Connection, since: float = 0.0) -> Counts:
    """The rows themselves by state, and under "" all of them."""
    counted: Counts = Counter()
    messages = "SELECT route, state, count(*) FROM message WHERE accepted_at >= ? GROUP BY 1, 2"
    deliveries = "SELECT target, state, count(*) FROM delivery GROUP BY 1, 2"
    if since:
        deliveries = """SELECT d.target, d.state, count(*) FROM delivery d JOIN message m ON m.id = d.message
        WHERE m.accepted_at >= ? GROUP BY 1, 2"""
    for book, query, given in (("messages", messages, (since,)), ("deliveries", deliveries, (since,) if since else ())):
        for name, state, n in db.execute(query, given):
            counted[(book, name, state)] += n
            counted[(book, name, "")] += n
    return counted


def _came_differs(written: Counts, pruned: Counts, came: Mapping[tuple[str, str, str], int]) -> Iterable[str]:
    """What came in against all rows, gone ones included."""
    names = {(book, name) for book, name, _ in (*written, *came)}
    for book, name in sorted(names):
        entries = tuple(MADE.values()) if book == "messages" else PLANNED
        said = sum(written[(book, name, entry)] for entry in entries)
        gone = sum(n for key, n in pruned.items() if key[:2] == (book, name))
        there = came.get((book, name, ""), 0)
        if said != there + gone:
            yield f"{book} of {name}: {said} came in, {there} counted, {gone} pruned"


def _state_differs(written: Counts, pruned: Counts, counted: Counts) -> Iterable[str]:
    """Each end against the rows that ended so."""
    for book, closed in (("messages", CLOSED), ("deliveries", ENDED)):
        keys = {key for key in (*written, *pruned, *counted) if key[0] == book and key[2] in closed}
        for key in sorted(keys):
            if written[key] != counted[key] + pruned[key]:
                yield f"{book} of {key[1]}: {written[key]} {key[2]}, {counted[key]} counted, {pruned[key]} pruned"


def _sums(written: Counts, left: Mapping[tuple[str, str, str], int]) -> Iterable[Sums]:
    named: dict[tuple[str, str], dict[str, int]] = {}
    for (book, name, entry), n in (*written.items(), *left.items()):
        if n:
            named.setdefault((book, name), {})[entry] = n
    for (book, name), entries in sorted(named.items()):
        came: Iterable[str] = MADE.values() if book == "messages" else PLANNED
        closed = CLOSED if book == "messages" else ENDED
        rest = ("open",) if book == "messages" else WAITING
        counts = (sum(entries.get(key, 0) for key in keys) for keys in (came, closed, rest))
        yield Sums(book, name, entries, *counts)
