"""Where each key and value of a TOML text stands. Reads valid TOML only: tomli has parsed it before."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

Path = tuple[str | int, ...]

_BLANK: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_BASIC: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL: Final = re.compile(r"'[^'\n]*'")
_LONG_BASIC: Final = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}', re.DOTALL)
_LONG_LITERAL: Final = re.compile(r"'''(?:[^']|'(?!''))*'{3,5}", re.DOTALL)
_PLAIN: Final = re.compile(r"\d{4}-\d\d-\d\d[ Tt]\d\d:\d\d[^\s,\]}#]*|[^\s,\]}#]+")
_ESCAPE: Final = re.compile(r'\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[btnfre"\\]|[ \t]*\r?\n[ \t\r\n]*)')


class Spot(Struct, frozen=True):
    """Offsets (in characters) of a key and of its value."""

    key: int
    value: int


class Positions:
    """The spots of one text by path. Lines and columns count from 1."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._spots: dict[Path, Spot] = {}
        self._lines = [0, *(found.end() for found in re.finditer("\n", text))]
        self._counts: dict[Path, int] = {}
        self._read()

    def __contains__(self, path: Path) -> bool:
        return path in self._spots

    @property
    def paths(self) -> Iterator[Path]:
        return iter(self._spots)

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
            escape = _ESCAPE.match(text, place) if quote == '"' else None
            place = escape.end() if escape else place + 1
        return place

    def _read(self) -> None:
        place, here = 0, ()
        text = self._text
        end = len(text)
        base: Path = here
        while (place := self._skip(place)) < end:
            if text.startswith("[[", place):
                base, place = self._header(place, 2)
            elif text[place] == "[":
                base, place = self._header(place, 1)
            else:
                place = self._pair(place, base)

    def _skip(self, place: int) -> int:
        found = _BLANK.match(self._text, place)
        assert found is not None
        return found.end()

    def _spaces(self, place: int) -> int:
        found = _SPACE.match(self._text, place)
        assert found is not None
        return found.end()

    def _header(self, place: int, brackets: int) -> tuple[Path, int]:
        """`[a.b]` or `[[a.b]]`: a table in an array goes into its last element."""
        begin = place
        names, place = self._key(self._spaces(place + brackets))
        path: Path = ()
        for name in names[:-1]:
            path = self._last((*path, name))
        path = (*path, names[-1])
        if brackets == 2:
            self._spots.setdefault(path, Spot(begin, begin))
            index = self._counts.get(path, -1) + 1
            self._counts[path] = index
            path = (*path, index)
        for length in range(1, len(path)):
            self._spots.setdefault(path[:length], Spot(begin, begin))
        self._spots.setdefault(path, Spot(begin, begin))
        return path, self._spaces(place) + brackets

    def _last(self, path: Path) -> Path:
        return (*path, self._counts[path]) if path in self._counts else path

    def _key(self, place: int) -> tuple[list[str], int]:
        """A dotted key."""
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

    def _pair(self, place: int, base: Path) -> int:
        """`key = value`; gives the offset behind it."""
        begin = place
        names, place = self._key(place)
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
        if word[0] in "xuU":
            return chr(int(word[1:], 16))
        return _SIMPLE.get(word, "")

    return _ESCAPE.sub(one, text)
