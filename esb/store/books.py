"""The two books, messages and deliveries: each entry is written in the transaction of the thing it counts (R19)."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping

from msgspec import Struct

MADE = ("source", "part", "gathered", "replay", "route")
CLOSED = ("done", "quarantined", "unmatched", "dropped", "dead", "expired", "split", "gathered", "superseded")
PLANNED = ("planned", "adopted")
ENDED = ("delivered", "dead", "expired", "dropped", "superseded", "adopted away")
WAITING = ("due", "parked", "forwarded")

_WRITE = """INSERT INTO account (book, name, hour, entry, n) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (book, name, hour, entry) DO UPDATE SET n = n + excluded.n"""


class Entries:
    """What one transaction adds to the books, summed up before it is written."""

    def __init__(self) -> None:
        self._sums: Counter[tuple[str, str, int, str]] = Counter()

    def add(self, book: str, name: str, created: float, entry: str, n: int = 1) -> None:
        """`n` things of this entry, on the hour of their creation."""
        self._sums[(book, name, int(created) // 3600, entry)] += n

    def move(self, book: str, name: str, created: float, before: str, after: str) -> None:
        """One thing goes from one entry to another; reopening is the same the other way round."""
        if before != after:
            self.add(book, name, created, before, -1)
            self.add(book, name, created, after, 1)

    def write(self, db: sqlite3.Connection) -> None:
        rows = [(*key, n) for key, n in self._sums.items() if n]
        if rows:
            db.executemany(_WRITE, rows)
        self._sums.clear()


def made_entry(made: str) -> str:
    """The entry that counts a message in. (A message gathered *from* others and one that was absorbed differ.)"""
    return f"made {made}"


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


def account(db: sqlite3.Connection) -> Account:
    """Sums and recount in one read transaction."""
    written: Counter[tuple[str, str, str]] = Counter()
    pruned: Counter[tuple[str, str, str]] = Counter()
    for book, name, entry, n in db.execute("SELECT book, name, entry, sum(n) FROM account GROUP BY 1, 2, 3"):
        if entry.startswith("pruned "):
            pruned[(book, name, entry.removeprefix("pruned "))] += n
        else:
            written[(book, name, entry)] += n
    counted = Counter(recount(db))
    keys = sorted(set(written) | set(counted) | set(pruned))
    differences = tuple(
        f"{book} of {name}: {written[key]} {entry} written, {counted[key]} counted, {pruned[key]} pruned"
        for key in keys
        for book, name, entry in [key]
        if written[key] != counted[key] + pruned[key]
    )
    return Account(tuple(_sums(written)), differences)


def recount(db: sqlite3.Connection) -> dict[tuple[str, str, str], int]:
    """The rows themselves, as entries."""
    counted: Counter[tuple[str, str, str]] = Counter()
    for route, made, state, n in db.execute("SELECT route, made, state, count(*) FROM message GROUP BY 1, 2, 3"):
        counted[("messages", route, made_entry(made))] += n
        counted[("messages", route, state)] += n
    for target, state, n in db.execute("SELECT target, state, count(*) FROM delivery GROUP BY 1, 2"):
        counted[("deliveries", target, "planned")] += n
        counted[("deliveries", target, state)] += n
    return counted


def _sums(written: Mapping[tuple[str, str, str], int]) -> Iterable[Sums]:
    named: dict[tuple[str, str], dict[str, int]] = {}
    for (book, name, entry), n in written.items():
        if n:
            named.setdefault((book, name), {})[entry] = n
    for (book, name), entries in sorted(named.items()):
        came = [made_entry(made) for made in MADE] if book == "messages" else PLANNED
        closed = CLOSED if book == "messages" else ENDED
        left = ("open",) if book == "messages" else WAITING
        yield Sums(book, name, entries, *(sum(entries.get(key, 0) for key in keys) for keys in (came, closed, left)))
