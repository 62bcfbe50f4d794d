"""Space on the disk: a reserve that is given back when the disk is full, so that outcomes can still be written (R9)."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path

from esb.errors import StoreFull

log = logging.getLogger(__name__)

RESERVE = 64_000_000
"""Bytes kept back for the day the disk fills."""
LOOK_AGAIN = 1.0
"""Seconds between two looks at the disk."""


class Space:
    """Whether there is room on the disk. `floor` are the free bytes (beside the reserve) under which nothing new is
    accepted: a transaction and its copy into the file must still fit."""

    def __init__(self, folder: Path, reserve: int = RESERVE) -> None:
        self._folder = folder
        self._file = folder / "reserve"
        self._size = reserve
        self.floor = reserve // 4
        self._looked = 0.0
        self.full = False

    def prepare(self) -> None:
        """Sets the reserve aside, where there is room for it."""
        if not self._size:
            self._file.unlink(missing_ok=True)
            return
        if self._file.exists() and self._file.stat().st_size == self._size:
            return
        self._file.unlink(missing_ok=True)
        if self.free() < self._size + self.floor:
            self.full = True
            return
        try:
            with self._file.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size)
        except OSError:
            self._file.unlink(missing_ok=True)

    def free(self) -> int:
        """Bytes left on the disk."""
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    def refusal(self) -> StoreFull | None:
        """Why nothing new is accepted now; looks at the disk once a second, and resumes by itself."""
        now = time.monotonic()
        if now - self._looked >= LOOK_AGAIN:
            self._looked = now
            self._look()
        return StoreFull(f"the disk of {self._folder} is full") if self.full else None

    def _look(self) -> None:
        free = self.free()
        if not self.full and free < self.floor:
            log.critical("only %d MB left on the disk of the store: nothing new is accepted", free // 1_000_000)
            self.full = True
        elif self.full and free >= self.floor * 2 + (0 if self._file.exists() else self._size):
            self.full = False
            self.prepare()
            log.warning("there is space on the disk of the store again: accepting goes on")

    def filled(self) -> bool:
        """SQLite met a full disk: nothing new is accepted, and the reserve is given back. False when it was already."""
        self.full = True
        self._looked = time.monotonic()
        with contextlib.suppress(FileNotFoundError):
            self._file.unlink()
            log.critical("the disk of the store is full: the reserve is given back; outcomes are still written")
            return True
        return False
