"""Lines appended with effect once: beside the file stands which delivery wrote which bytes of it."""

from __future__ import annotations

import os
from pathlib import Path

from esb_plugins.file import folders
from msgspec import Struct

REMEMBERED = 4000
"""Deliveries that a repeat is recognised of: more than a lane ever has under way."""


class Entry(Struct, frozen=True):
    """One line: the file it stands in (by inode: a reader may move it away), from where to where, and whose it is."""

    inode: int
    start: int
    end: int
    name: str

    def line(self) -> str:
        return f"{self.inode} {self.start} {self.end} {self.name}\n"


class Journal:
    """One file's. An entry is on disk before its line; the line counts when all of it is in the file.

    What a crash or a full disk left half is cut off before anything else is written, and never counts.
    """

    def __init__(self, place: Path, journal: Path) -> None:
        self._place = place
        self._journal = journal
        self._known: dict[str, Entry] = {}
        self._torn: tuple[int, int, int] | None = None
        self._read()

    def _read(self) -> None:
        """What an earlier run wrote."""
        text = self._journal.read_text() if self._journal.exists() else ""
        entries = [entry for line in text.splitlines() if (entry := _entry(line)) is not None]
        inode, size = _state(self._place)
        for entry, following in zip(entries, [*entries[1:], None], strict=False):
            if _is_whole(entry, following, inode, size):
                self._known[entry.name] = entry
            else:
                self._known.pop(entry.name, None)
        last = entries[-1] if entries else None
        if last is not None and last.inode == inode and last.start < size < last.end:
            _cut(self._place, last.start)
        self._rewrite()

    def _rewrite(self) -> None:
        kept = list(self._known.values())[-REMEMBERED // 2 :]
        self._known = {entry.name: entry for entry in kept}
        folders.write_over(self._journal, "".join(entry.line() for entry in kept).encode())

    def has(self, name: str) -> bool:
        """Whether this delivery's line is in the file."""
        return name in self._known

    def append(self, name: str, line: bytes) -> int:
        """Writes the line and returns where it begins; on disk when it returns. Raises OSError, and then no part of the
        line counts, now or after a restart."""
        self._mend()
        if len(self._known) >= REMEMBERED:
            self._rewrite()
        _make(self._place)
        inode, start = _state(self._place)
        entry = Entry(inode, start, start + len(line), name)
        noted = _state(self._journal)[1]
        # Set before the first byte: what fails in between is cut off at the next call, or recognised at the next start.
        self._torn = (inode, start, noted)
        write_at(self._journal, entry.line().encode(), noted)
        write_at(self._place, line, start)
        self._torn = None
        self._known[name] = entry
        return start

    def _mend(self) -> None:
        """Cuts off what a failed write left; raises OSError when even that fails, and nothing is written then."""
        if self._torn is None:
            return
        inode, start, noted = self._torn
        if _state(self._place)[0] == inode:
            _cut(self._place, start)
        _cut(self._journal, noted)
        self._torn = None


def _is_whole(entry: Entry, following: Entry | None, inode: int, size: int) -> bool:
    """A line that another one was written over never came to be; of the last in this file its end must be there. A file
    that was moved away took its lines with it, and all but a torn last one were answered for."""
    if following is not None and following.inode == entry.inode:
        return following.start >= entry.end
    return entry.inode != inode or entry.end <= size


def _entry(line: str) -> Entry | None:
    words = line.split(" ", 3)
    if len(words) != 4 or not all(word.isdigit() for word in words[:3]) or not words[3]:
        return None
    return Entry(int(words[0]), int(words[1]), int(words[2]), words[3])


def _state(path: Path) -> tuple[int, int]:
    """Inode and size; zeros for what is not there."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return 0, 0
    return state.st_ino, state.st_size


def _make(path: Path) -> None:
    """The file, empty when it was not there; links are not followed."""
    fresh = not path.exists()
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644))
    if fresh:
        folders.sync(path.parent)


def _cut(path: Path, length: int) -> None:
    """Shortens a file, on disk when it returns; one that is shorter stays as it is."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_size > length:
            os.ftruncate(descriptor, length)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_at(path: Path, data: bytes, at: int) -> None:
    """Data at an offset, fsynced."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "r+b") as file:
        file.seek(at)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
