"""Where each key and value of a TOML text stands. Reads valid TOML only: tomli has parsed it before."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

Path = tuple[str | int, ...]

_BLANK: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_BASIC: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL: Final = re.compile(r"'[^'\n]*'")
_LONG_BASIC: Final = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}', re.DOTALL)
_LONG_LITERAL: Final = re.compile(r"'''(?:[^']|'(?!''))*'{3,5}", re.DOTALL)
_PLAIN: Final = re.compile(r"\d{4}-\d\d-\d\d[ Tt]\d\d:\d\d[^\s,\]}#]*|[^\s,\]}#]+")
_ESCAPE: Final = re.compile(r'\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[btnfre"\\])')
_FOLD: Final = re.compile(r"(?:\\[ \t]*\r?\n[ \t\r\n]*)+")
"""A backslash at a line's end, which takes the line end and the blanks after it away."""


class Spot(NamedTuple):
    """Offsets (in characters) of a key and of its value. A table that has a header of its own begins at its bracket."""

    key: int
    value: int


class Positions:
    """The spots of one text by path. Lines and columns count from 1. `base` is the table in which the text ends,
    `begun` the offset of its last statement. A `broken` text is read as far as it goes."""

    def __init__(self, text: str, *, broken: bool = False) -> None:
        self._text = text
        self._spots: dict[Path, Spot] = {}
        self._lines = [0, *(found.end() for found in re.finditer("\n", text))]
        self._counts: dict[Path, int] = {}
        self._headers: set[Path] = set()
        self.base: Path = ()
        self.begun = 0
        with suppress(*((AssertionError, IndexError) if broken else ())):
            self._read()

    def __contains__(self, path: Path) -> bool:
        return path in self._spots

    @property
    def paths(self) -> Iterator[Path]:
        return iter(self._spots)

    def has_header(self, path: Path) -> bool:
        """Whether this table was opened by a `[header]`."""
        return path in self._headers

    def where(self, path: Path, *, key: bool = False) -> tuple[int, int] | None:
        """Line and column of a value (or its key); of the nearest place above for a path that is not there."""
        for length in range(len(path), 0, -1):
            spot = self._spots.get(path[:length])
            if spot is not None:
                exact = length == len(path)
                return self.line(spot.value if exact and not key else spot.key)
        return None

    def inside(self, path: Path, offset: int) -> tuple[int, int] | None:
        """Line and column of the character `offset` of a text value, escapes and long strings considered."""
        spot = self._spots.get(path)
        if spot is None:
            return self.where(path)
        return self.line(self._within(spot.value, offset))

    def line(self, offset: int) -> tuple[int, int]:
        """The line and column of an offset."""
        line = bisect_right(self._lines, offset)
        return line, offset - self._lines[line - 1] + 1

    def next_path(self, statement: str) -> Path:
        """The path that a header or `key = value` would have after this text."""
        bare = statement.lstrip("[")
        names, _ = Positions(bare, broken=True)._key(len(bare) - len(bare.lstrip(" \t")))
        if len(bare) == len(statement):
            return (*self.base, *names)
        path: Path = ()
        for name in names[:-1]:
            path = self._last((*path, name))
        return (*path, names[-1])

    def _within(self, start: int, offset: int) -> int:
        text = self._text
        quote = text[start : start + 1]
        if quote not in ("'", '"'):
            return start
        long = text.startswith(quote * 3, start)
        place = start + (3 if long else 1)
        if long and text.startswith(("\n", "\r\n"), place):
            place = text.index("\n", place) + 1
        for _ in range(offset):
            place = self._character(self._unfolded(place, quote), quote)
        return self._unfolded(place, quote)

    def _unfolded(self, place: int, quote: str) -> int:
        fold = _FOLD.match(self._text, place) if quote == '"' else None
        return fold.end() if fold else place

    def _character(self, place: int, quote: str) -> int:
        """The offset behind one character of a string: an escape and a line end of two count as one."""
        escape = _ESCAPE.match(self._text, place) if quote == '"' else None
        if escape:
            return escape.end()
        return place + (2 if self._text.startswith("\r\n", place) else 1)

    def _read(self) -> None:
        place, text, end = 0, self._text, len(self._text)
        while (place := self._skip(place)) < end:
            self.begun = place
            if text.startswith("[[", place):
                place = self._header(place, 2)
            elif text[place] == "[":
                place = self._header(place, 1)
            else:
                place = self._pair(place, self.base)

    def _skip(self, place: int) -> int:
        found = _BLANK.match(self._text, place)
        assert found is not None
        return found.end()

    def _spaces(self, place: int) -> int:
        found = _SPACE.match(self._text, place)
        assert found is not None
        return found.end()

    def _header(self, begin: int, brackets: int) -> int:
        """`[a.b]` or `[[a.b]]`: a table in an array goes into its last element."""
        first = self._spaces(begin + brackets)
        names, place = self._key(first)
        path: Path = ()
        for name in names[:-1]:
            path = self._last((*path, name))
        path = (*path, names[-1])
        if brackets == 2:
            self._spots.setdefault(path, Spot(first, begin))
            index = self._counts.get(path, -1) + 1
            self._counts[path] = index
            path = (*path, index)
        for length in range(1, len(path)):
            self._spots.setdefault(path[:length], Spot(first, begin))
        self._spots.setdefault(path, Spot(begin if brackets == 2 else self._last_name(first, place), begin))
        self._headers.add(path)
        self.base = path
        return self._spaces(place) + brackets

    def _last_name(self, first: int, end: int) -> int:
        """Where the last name of a dotted key begins."""
        place = first
        while True:
            after = self._spaces(self._name(place)[1])
            if after >= end or self._text[after] != ".":
                return place
            place = self._spaces(after + 1)

    def _last(self, path: Path) -> Path:
        return (*path, self._counts[path]) if path in self._counts else path

    def _key(self, place: int) -> tuple[list[str], int]:
        """A dotted key, and the offset behind it."""
        names: list[str] = []
        while True:
            name, place = self._name(place)
            names.append(name)
            after = self._spaces(place)
            if self._text[after : after + 1] != ".":
                return names, place
            place = self._spaces(after + 1)

    def _name(self, place: int) -> tuple[str, int]:
        text = self._text
        if text[place] == '"':
            found = _BASIC.match(text, place)
            assert found is not None
            return unescape(found[0][1:-1]), found.end()
        if text[place] == "'":
            found = _LITERAL.match(text, place)
            assert found is not None
            return found[0][1:-1], found.end()
        found = _BARE.match(text, place)
        assert found is not None, text[place : place + 20]
        return found[0], found.end()

    def _pair(self, begin: int, base: Path) -> int:
        """`key = value`; gives the offset behind it."""
        names, place = self._key(begin)
        place = self._skip(self._spaces(place) + 1)
        path: Path = (*base, *names)
        for length in range(len(base) + 1, len(path)):
            self._spots.setdefault(path[:length], Spot(begin, begin))
        self._spots[path] = Spot(begin, place)
        return self._value(place, path)

    def _value(self, place: int, path: Path) -> int:
        text = self._text
        match text[place]:
            case "{":
                return self._inline(place + 1, path)
            case "[":
                return self._array(place + 1, path)
            case '"':
                pattern = _LONG_BASIC if text.startswith('"""', place) else _BASIC
            case "'":
                pattern = _LONG_LITERAL if text.startswith("'''", place) else _LITERAL
            case _:
                pattern = _PLAIN
        found = pattern.match(text, place)
        assert found is not None, text[place : place + 20]
        return found.end()

    def _inline(self, place: int, path: Path) -> int:
        while True:
            place = self._skip(place)
            if self._text[place] == "}":
                return place + 1
            if self._text[place] == ",":
                place += 1
                continue
            place = self._pair(place, path)

    def _array(self, place: int, path: Path) -> int:
        index = 0
        while True:
            place = self._skip(place)
            if self._text[place] == "]":
                return place + 1
            if self._text[place] == ",":
                place += 1
                continue
            item: Path = (*path, index)
            self._spots[item] = Spot(place, place)
            place = self._value(place, item)
            index += 1


_SIMPLE: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b", '"': '"', "\\": "\\"}


def unescape(text: str) -> str:
    """A basic string's content."""

    def one(found: re.Match[str]) -> str:
        word = found[0][1:]
        return chr(int(word[1:], 16)) if word[0] in "xuU" else _SIMPLE[word]

    return _ESCAPE.sub(one, text)
