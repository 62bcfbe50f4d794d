"""What is under way, in memory that outlives the process: a mapped file without fsync (R15).

A SIGKILL or an OOM kill leaves it in the page cache, so that the next start knows what the bus was doing when it died.
The ids of what is under way stand in slots; the head keeps the last row numbers that were committed, which tell a
store that lost its newest transactions.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from pathlib import Path

_HEAD = struct.Struct("<8sqq8x")
_SLOT = struct.Struct("<B7x16s8x")
_MAGIC = b"esbring1"
SLOTS = 8192
"""Things under way at once that are remembered; more than that are not (they cost a repeat count, never a message)."""
POISON = 3
"""Deaths of the process with one thing under way, after which that thing is set aside (R15)."""
KINDS = ("", "delivery", "claim", "body")
_NUMBER = {name: number for number, name in enumerate(KINDS)}
_EMPTY = b"\0" * _SLOT.size

Under = tuple[str, str]


def mark_of(key: int | str | bytes) -> bytes:
    """The 16 bytes that stand for an id: a row number itself, of anything else a hash."""
    if isinstance(key, int):
        return key.to_bytes(16, "little")
    data = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
    return hashlib.blake2b(data, digest_size=16).digest()


class Inflight:
    """The ring. `left_over` is what stood in it when it was opened, as (kind, mark)."""

    def __init__(self, path: Path) -> None:
        size = _HEAD.size + SLOTS * _SLOT.size
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            known = os.fstat(file).st_size == size
            os.ftruncate(file, 0 if not known else size)
            os.ftruncate(file, size)
            self._map = mmap.mmap(file, size)
        finally:
            os.close(file)
        self.left_over: list[tuple[str, bytes]] = []
        self.committed = (0, 0)
        magic, *numbers = _HEAD.unpack_from(self._map, 0)
        if known and magic == _MAGIC:
            self.committed = (numbers[0], numbers[1])
            self.left_over = self._read()
        self._free: list[int] = []

    def begin(self) -> None:
        """What was left over has been counted on disk: from here on the slots are for what begins now."""
        _HEAD.pack_into(self._map, 0, _MAGIC, *self.committed)
        self._map[_HEAD.size :] = bytes(SLOTS * _SLOT.size)
        self._free = [_HEAD.size + number * _SLOT.size for number in range(SLOTS - 1, -1, -1)]

    def _read(self) -> list[tuple[str, bytes]]:
        found = []
        for number in range(SLOTS):
            kind, mark = _SLOT.unpack_from(self._map, _HEAD.size + number * _SLOT.size)
            if 0 < kind < len(KINDS):
                found.append((KINDS[kind], mark))
        return found

    def enter(self, kind: str, key: int | str | bytes) -> int:
        """Something begins; gives the slot to `leave`. A microsecond, no system call."""
        if not self._free:
            return 0
        slot = self._free.pop()
        _SLOT.pack_into(self._map, slot, _NUMBER[kind], mark_of(key))
        return slot

    def leave(self, slot: int) -> None:
        """It has ended, well or not."""
        if slot:
            self._map[slot : slot + _SLOT.size] = _EMPTY
            self._free.append(slot)

    def holding(self, kind: str, key: int | str | bytes) -> Holding:
        """It is under way for as long as the block."""
        return Holding(self, kind, key)

    def commit(self, message: int, delivery: int) -> None:
        """These rows are on disk now."""
        known = self.committed
        if message > known[0] or delivery > known[1]:
            self.committed = (max(message, known[0]), max(delivery, known[1]))
            _HEAD.pack_into(self._map, 0, _MAGIC, *self.committed)

    def close(self) -> None:
        """A clean end: nothing is under way."""
        self._map[_HEAD.size :] = bytes(SLOTS * _SLOT.size)
        self._map.close()


class Holding:
    """The block of `Inflight.holding`. Not a generator: every message that comes in passes through one."""

    __slots__ = ("_key", "_kind", "_ring", "_slot")

    def __init__(self, ring: Inflight, kind: str, key: int | str | bytes) -> None:
        self._ring = ring
        self._kind = kind
        self._key = key
        self._slot = 0

    def __enter__(self) -> None:
        self._slot = self._ring.enter(self._kind, self._key)

    def __exit__(self, *error: object) -> None:
        self._ring.leave(self._slot)


def row_of(mark: bytes) -> int:
    """The row number that a delivery's mark stands for."""
    return int.from_bytes(mark, "little")
