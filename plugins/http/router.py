"""Which route a request is for: literal segments beat parameters. Pure."""

from __future__ import annotations

import re
from typing import Final, Generic, TypeVar
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from esb import OptionError

T = TypeVar("T")
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_CALL: Final = re.compile(r"([A-Z]+(?:\s*,\s*[A-Z]+)*)\s+(/\S*)")
_PARAMETER: Final = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)\}")


class Pattern(Struct, frozen=True):
    """`GET,POST /orders/{plant}`: methods, and segments that are a text or a parameter's name in a tuple."""

    methods: tuple[str, ...]
    segments: tuple[str | tuple[str], ...]

    @property
    def shape(self) -> tuple[str | None, ...]:
        """What makes two patterns the same: the names of parameters do not."""
        return tuple(part if isinstance(part, str) else None for part in self.segments)

    def match(self, segments: list[str]) -> dict[str, str] | None:
        """The parameters' values, or None."""
        values: dict[str, str] = {}
        for part, given in zip(self.segments, segments, strict=True):
            if isinstance(part, str):
                if part != given:
                    return None
            elif not given:
                return None
            else:
                values[part[0]] = given
        return values


def parse_pattern(text: str) -> Pattern:
    """Reads the value of `http` on a source; raises OptionError."""
    found = _CALL.fullmatch(text.strip())
    if found is None:
        raise OptionError("http", f'"{text}" is no method and path', 'write "POST /orders"')
    methods = tuple(method.strip() for method in found[1].split(","))
    for method in methods:
        if method not in METHODS:
            raise OptionError("http", f'"{method}" is not a method', f"methods are {', '.join(METHODS)}")
    if "?" in found[2] or "#" in found[2]:
        raise OptionError("http", "a path has no query", "read it in expressions as source.query.NAME")
    segments = tuple(_segment(part) for part in found[2][1:].split("/"))
    names = [part[0] for part in segments if isinstance(part, tuple)]
    if len(names) != len(set(names)):
        raise OptionError("http", "the path names a parameter twice")
    return Pattern(methods, segments)


def _segment(part: str) -> str | tuple[str]:
    found = _PARAMETER.fullmatch(part)
    if found is not None:
        return (found[1],)
    if "{" in part or "}" in part:
        raise OptionError("http", f'"{part}" mixes text and a parameter', 'a parameter is a whole segment: "/x/{id}"')
    return decode(part)


def decode(part: str) -> str:
    """A segment of a path without its percent signs; raises UnicodeDecodeError when it is not UTF-8."""
    return unquote_to_bytes(part).decode() if "%" in part else part


class Router(Generic[T]):
    """Patterns and what they lead to. Looking up a path without parameters costs one dict lookup."""

    def __init__(self) -> None:
        self._literal: dict[tuple[str, ...], dict[str, T]] = {}
        self._patterns: list[tuple[Pattern, T]] = []

    def add(self, pattern: Pattern, goal: T) -> None:
        """Raises OptionError when a method of this path leads somewhere already."""
        for known, _ in self._patterns:
            both = set(known.methods) & set(pattern.methods)
            if both and known.shape == pattern.shape:
                raise OptionError("http", f"{min(both)} of this path is served by another route on this listener")
        self._patterns.append((pattern, goal))
        self._patterns.sort(key=lambda item: [part is None for part in item[0].shape])
        self._index()

    def remove(self, goal: T, pattern: Pattern | None = None) -> None:
        """What leads there; of a goal with many, only this pattern's."""
        self._patterns = [item for item in self._patterns if item[1] != goal or pattern not in (None, item[0])]
        self._index()

    def _index(self) -> None:
        self._literal = {}
        for pattern, goal in self._patterns:
            literal = tuple(part for part in pattern.segments if isinstance(part, str))
            if len(literal) == len(pattern.segments):
                self._literal.setdefault(literal, {}).update(dict.fromkeys(pattern.methods, goal))

    def find(self, method: str, path: str) -> tuple[T, dict[str, str]] | set[str]:
        """The goal and the path's parameters; or the methods that the path has (none: there is no such path).
        Raises UnicodeDecodeError when the path is not UTF-8."""
        segments = [decode(part) for part in path[1:].split("/")]
        literal = self._literal.get(tuple(segments), {})
        if method in literal:
            return literal[method], {}
        allowed = set(literal)
        for pattern, goal in self._patterns:
            if len(pattern.segments) != len(segments):
                continue
            values = pattern.match(segments)
            if values is None:
                continue
            if method in pattern.methods:
                return goal, values
            allowed.update(pattern.methods)
        return allowed
