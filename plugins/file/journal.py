"""Lines appended with effect once: beside the file stands which delivery wrote which bytes of it."""

from __future__ import annotations

import os
from pathlib import Path

from esb_plugins.file import folders

REMEMBERED = 4000
"""Deliveries that a repeat is recognised of: more than a lane ever has under way."""


class Journal:
    """One file's. An entry, `end id`, is on disk before its line; it counts when the file is that long."""

    def __init__(self, place: Path, journal: Path) -> None:
        self._place = place
        self._journal = journal
        self._known: dict[str, int] = {}
        self._length = place.stat().st_size if place.exists() else 0
        self._read()

    def _read(self) -> None:
        """What an earlier run wrote: whole lines are remembered, half of one is cut off."""
        lines = self._journal.read_text().splitlines() if self._journal.exists() else []
        start = 0
        for line in lines[-REMEMBERED:]:
            end, _, name = line.partition(" ")
            if not end.isdigit() or not name:
                continue
            if int(end) <= self._length:
                self._known[name] = int(end)
                start = int(end)
        if start and lines and start < self._length and self._half(lines[-1]):
            os.truncate(self._place, start)
            self._length = start
        self._rewrite()

    def _half(self, last: str) -> bool:
        """The last entry's line did not come to its end."""
        end = last.partition(" ")[0]
        return end.isdigit() and int(end) > self._length

    def _rewrite(self) -> None:
        kept = list(self._known.items())[-REMEMBERED // 2 :]
        self._known = dict(kept)
        folders.write_over(self._journal, "".join(f"{end} {name}\n" for name, end in kept).encode())

    def has(self, name: str) -> bool:
        """Whether this delivery's line is in the file."""
        return name in self._known

    def append(self, name: str, line: bytes) -> int:
        """Writes the line and returns where it begins; on disk when it returns."""
        if len(self._known) >= REMEMBERED:
            self._rewrite()
        start, end = self._length, self._length + len(line)
        _write(self._journal, f"{end} {name}\n".encode(), None)
        _write(self._place, line, start)
        self._known[name] = end
        self._length = end
        return start


def _write(path: Path, data: bytes, at: int | None) -> None:
    """Data at an offset (None: at the end), fsynced; a new file's folder too."""
    fresh = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "r+b") as file:
        if at is None:
            file.seek(0, os.SEEK_END)
        else:
            file.seek(at)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if fresh:
        folders.sync(path.parent)
