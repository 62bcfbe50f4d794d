"""How much waits, for each target and in all: counted along with the commits, never by scanning (R9)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from msgspec import Struct

from esb.errors import Busy

RETRY_AFTER = 10.0
"""Seconds that a sender is told to wait when a backlog is full."""


class Limits(Protocol):
    """What the store holds before sources refuse."""

    @property
    def rows(self) -> int: ...

    @property
    def size(self) -> int: ...


class Room(Struct, frozen=True):
    """How many rows and bytes may wait."""

    rows: int = 10_000_000
    size: int = 10_000_000_000


class Backlog:
    """Rows and bytes that wait, by target and in all. A target may hold a quarter of the whole, or what it is given."""

    def __init__(self, limits: Limits) -> None:
        self.rows: dict[str, int] = {}
        self.size: dict[str, int] = {}
        self.all_rows = 0
        self.all_size = 0
        self._whole = Room(limits.rows, limits.size)
        self._share = Room(max(limits.rows // 4, 1), max(limits.size // 4, 1))
        self._given: dict[str, Room] = {}

    def limit(self, target: str, rows: int | None, size: int | None) -> None:
        """A limit of its own for this target; None: the usual one."""
        self._given[target] = Room(rows or self._share.rows, size or self._share.size)

    def start(self, waiting: Mapping[str, tuple[int, int]]) -> None:
        """What waits when the store is opened, or opened anew."""
        self.rows, self.size, self.all_rows, self.all_size = {}, {}, 0, 0
        for target, (rows, size) in waiting.items():
            self.add(target, rows, size)

    def add(self, target: str, rows: int, size: int) -> None:
        """A commit changed what waits."""
        self.rows[target] = self.rows.get(target, 0) + rows
        self.size[target] = self.size.get(target, 0) + size
        self.all_rows += rows
        self.all_size += size

    def full(self, target: str) -> bool:
        """Whether this target may take nothing more for now."""
        room = self._given.get(target, self._share)
        return self.rows.get(target, 0) >= room.rows or self.size.get(target, 0) >= room.size

    def refusal(self, targets: Collection[str]) -> Busy | None:
        """Why a message for these targets is not taken now."""
        if self.all_rows >= self._whole.rows or self.all_size >= self._whole.size:
            return Busy(f"the outbox is full: {self.all_rows} deliveries wait", retry_after=RETRY_AFTER)
        for target in targets:
            if self.full(target):
                text = f"the backlog of target {target} is full: {self.rows.get(target, 0)} deliveries wait"
                return Busy(text, retry_after=RETRY_AFTER)
        return None
