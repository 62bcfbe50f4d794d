"""What is under way, in a memory-mapped ring without fsync: after a SIGKILL the page cache still knows it (R15)."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

SLOTS = 4096
_SLOT = struct.Struct("<BQ")
_KINDS = {"delivery": 1, "claim": 2, "body": 3}
_NAMES = {number: name for name, number in _KINDS.items()}
POISON = 3
"""Crashes with the same thing under way after which it is put aside."""


class Inflight:
    """A slot a thing: entered before it is tried, left afterwards. Costs under a microsecond."""

    def __init__(self, path: Path) -> None:
        size = SLOTS * _SLOT.size
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, size)
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self.left_over = tuple(self._read())
        self._map[:] = bytes(size)
        self._free = list(range(SLOTS))

    def _read(self) -> Iterator[tuple[str, int]]:
        for slot in range(SLOTS):
            kind, number = _SLOT.unpack_from(self._map, slot * _SLOT.size)
            if kind in _NAMES:
                yield _NAMES[kind], number

    def enter(self, kind: str, number: int) -> int:
        """Notes that this is tried now; gives the slot for `leave` (-1 when the ring is full: not noted)."""
        if not self._free:
            return -1
        slot = self._free.pop()
        _SLOT.pack_into(self._map, slot * _SLOT.size, _KINDS[kind], number)
        return slot

    def leave(self, slot: int) -> None:
        if slot >= 0:
            _SLOT.pack_into(self._map, slot * _SLOT.size, 0, 0)
            self._free.append(slot)

    def close(self) -> None:
        self._map.close()
