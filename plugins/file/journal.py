"""Lines appended with effect once: beside the files stands which delivery wrote which bytes of which file."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from esb_plugins.file import folders
from esb_plugins.file.rolling import Names
from msgspec import Struct

REMEMBERED = 4000
"""Deliveries that a repeat is recognised of: more than a lane ever has under way."""

ANSWERED = "ok\n"
"""Behind an entry: its lines are whole in their file."""


class OtherHead(Exception):
    """A file begins with another head: these lines under it would be read as something that they are not."""

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.file = file


class Entry(Struct, frozen=True):
    """One delivery's lines: the file they stand in (by inode too: a reader may move it away), from where to where, how
    many lines the file has with them, and whose they are."""

    file: str
    inode: int
    start: int
    end: int
    lines: int
    name: str

    def line(self) -> str:
        file = quote_from_bytes(os.fsencode(self.file))
        return f"{self.inode} {self.start} {self.end} {self.lines} {file} {self.name}\n"


class Journal:
    """That of one name, whatever files it rolls into. An entry is on disk before its lines; they count when all of them
    are in the file.

    What a crash or a full disk left half is cut off before anything else is written, and never counts.
    """

    def __init__(self, folder: Path, name: str, names: Names | None = None) -> None:
        self._folder = folder
        self._name = name
        self._names = names
        self._journal = folder / kept_as(name)
        self._known: dict[str, Entry] = {}
        self._last: Entry | None = None
        self._torn: tuple[Path, int, int, int] | None = None
        self._read()

    def _read(self) -> None:
        """What an earlier run wrote."""
        text = self._journal.read_text() if self._journal.exists() else ""
        answered = text.endswith(ANSWERED)
        entries = [entry for line in text.splitlines() if (entry := _entry(line)) is not None]
        states = {file: _state(self._folder / file) for file in {entry.file for entry in entries}}
        for entry, following in zip(entries, [*entries[1:], None], strict=False):
            if _is_whole(entry, following, *states[entry.file], answered):
                self._known[entry.name] = entry
            else:
                self._known.pop(entry.name, None)
        self._cut_off(entries[-1] if entries else None)
        self._last = next(reversed(self._known.values()), None)
        self._rewrite()

    def _cut_off(self, last: Entry | None) -> None:
        if last is None:
            return
        inode, size = _state(self._folder / last.file)
        if last.inode == inode and last.start < size < last.end:
            _cut(self._folder / last.file, last.start)

    def _rewrite(self) -> None:
        kept = list(self._known.values())[-REMEMBERED // 2 :]
        self._known = {entry.name: entry for entry in kept}
        folders.write_over(self._journal, "".join([*(entry.line() for entry in kept), ANSWERED]).encode())

    def has(self, name: str) -> bool:
        """Whether this delivery's lines are in a file."""
        return name in self._known

    def append(self, name: str, data: bytes, *, head: int = 0, now: float = 0.0) -> Entry:
        """Writes lines, and the `head` bytes they begin with only where a file begins; on disk when it returns. `now`
        (seconds since the epoch) says which period it is.

        Raises OSError, and then no part of the lines counts, now or after a restart; OtherHead when the file has one.
        """
        self._mend()
        if len(self._known) >= REMEMBERED:
            self._rewrite()
        more = max(data.count(b"\n", head), 1)
        file = self._file(data[:head], more, now)
        place = self._folder / file
        _make(place)
        inode, start = _state(place)
        lines = data if start == 0 else data[head:]
        entry = Entry(file, inode, start, start + len(lines), self._lines(file, inode) + more, name)
        noted = _state(self._journal)[1]
        # Set before the first byte: what fails in between is cut off at the next call, or recognised at the next start.
        self._torn = (place, inode, start, noted)
        write_at(self._journal, entry.line().encode(), noted)
        write_at(place, lines, start)
        self._torn = None
        self._known[name] = self._last = entry
        self._answer()
        return entry

    def _answer(self) -> None:
        """Notes that the last lines are on disk, in case their file is moved away before the next start. Not fsynced: a
        note that is lost lets a delivery be repeated, and never lets one be left out."""
        with suppress(OSError), self._journal.open("a") as file:
            file.write(ANSWERED)

    def _file(self, head: bytes, more: int, now: float) -> str:
        """The file that the next lines go into."""
        if self._names is None:
            if not _begins(self._folder / self._name, head):
                raise OtherHead(self._name)
            return self._name
        period = self._names.period(now)
        number = None if self._last is None else self._names.number(self._last.file, period)
        if self._last is None or number is None:
            number = 1
        elif self._goes_on(self._last, self._names, head, more):
            return self._last.file
        else:
            number += 1
        while _state(self._folder / (file := self._names.name(period, number)))[1]:
            number += 1
        return file

    def _goes_on(self, last: Entry, names: Names, head: bytes, more: int) -> bool:
        """Whether the file of the last lines is there still, with room for more and under the same head."""
        inode, size = _state(self._folder / last.file)
        fits = inode == last.inode and size and not names.is_full(last.lines, more)
        return bool(fits) and _begins(self._folder / last.file, head)

    def _lines(self, file: str, inode: int) -> int:
        """How many lines a file has of ours."""
        last = self._last
        return last.lines if last is not None and (last.file, last.inode) == (file, inode) else 0

    def _mend(self) -> None:
        """Cuts off what a failed write left; raises OSError when even that fails, and nothing is written then."""
        if self._torn is None:
            return
        place, inode, start, noted = self._torn
        if _state(place)[0] == inode:
            _cut(place, start)
        _cut(self._journal, noted)
        self._torn = None


def kept_as(name: str) -> str:
    """What the journal of a file name is called."""
    return f".esb-{name}.journal"


def _is_whole(entry: Entry, following: Entry | None, inode: int, size: int, answered: bool) -> bool:
    """Lines that others were written over never came to be; of the last in this file their end must be there. A file
    that was moved away took its lines with it; whether the very last ones were among them, only their answer tells."""
    if following is not None and (following.file, following.inode) == (entry.file, entry.inode):
        return following.start >= entry.end
    return entry.end <= size if entry.inode == inode else following is not None or answered


def _entry(line: str) -> Entry | None:
    words = line.split(" ", 5)
    if len(words) != 6 or not all(word.isdigit() for word in words[:4]) or not words[5]:
        return None
    inode, start, end, lines = (int(word) for word in words[:4])
    return Entry(os.fsdecode(unquote_to_bytes(words[4])), inode, start, end, lines, words[5])


def _begins(path: Path, head: bytes) -> bool:
    """Whether a file begins so, or is still empty."""
    if not head or not _state(path)[1]:
        return True
    with path.open("rb") as file:
        return file.read(len(head)) == head


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
