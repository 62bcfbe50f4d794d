"""Where in a JSON text a fault stands: line, byte offset and field path. Only looked up once something is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from esb import DecodeError

MOST: Final = 200_000
"""Tokens that are looked at for the exact place: a verdict must not take long, even on a hostile body."""

_TOKEN: Final = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*")|([{}\[\],:])|([^\s{}\[\],:"]+)', re.DOTALL)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONSTANTS: Final = ("NaN", "Infinity", "-Infinity")


class _Level:
    """One open object or array: the keys seen and the one (or the index) we are at."""

    __slots__ = ("index", "key", "keys")

    def __init__(self, *, array: bool) -> None:
        self.index = 0 if array else -1
        self.key = ""
        self.keys: set[str] = set()


class _Token(NamedTuple):
    offset: int
    text: str
    levels: list[_Level]
    is_key: bool


def find_fault(text: str, max_number: int, *, duplicates: bool = True) -> DecodeError | None:
    """The first duplicate key, NaN or Infinity, or number over the limit. None where there is none, or no hope."""
    for token in _tokens(text):
        if token.is_key:
            level, key = token.levels[-1], _unquoted(token.text)
            if duplicates and key in level.keys:
                return _fault(text, token, "M211", f"the key {_short(key)} stands there twice")
            level.keys.add(key)
        elif token.text in _CONSTANTS:
            return _fault(text, token, "M212", f"{token.text} is no JSON number")
        elif token.text[0] in "-0123456789" and _too_long(token.text, max_number):
            return _fault(text, token, "M212", f"a number of over {max_number} digits (option max_number)")
    return None


def place_of(text: str, position: int) -> tuple[int, int, str]:
    """(line, byte offset, field path) of a character."""
    path = ""
    for token in _tokens(text):
        if token.offset > position:
            break
        path = _path(token.levels)
    line = text.count("\n", 0, position) + 1
    return line, len(text[:position].encode("utf-8", "surrogatepass")), path


def _tokens(text: str) -> Iterator[_Token]:
    """Strings that are keys, numbers and words, each with the levels it stands in. Tolerates any text."""
    levels: list[_Level] = []
    wants_key = False
    for match in islice(_TOKEN.finditer(text), MOST):
        string, mark, word = match.groups()
        if mark is None:
            is_key = wants_key and string is not None
            if is_key:
                levels[-1].key = _unquoted(string)
            yield _Token(match.start(), string or word, levels, is_key)
            wants_key = wants_key and not is_key
        elif mark in "{[":
            levels.append(_Level(array=mark == "["))
            wants_key = mark == "{"
        elif mark in "}]":
            if levels:
                levels.pop()
            wants_key = False
        elif mark == "," and levels:
            wants_key = levels[-1].index < 0
            if not wants_key:
                levels[-1].index += 1


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return text[1:-1]


def _too_long(text: str, limit: int) -> bool:
    exponent = text.lower().partition("e")[2]
    digits = exponent.lstrip("+-0")
    return len(text) > limit or len(digits) > 9 or bool(digits.isdigit() and int(digits) > limit)


def _fault(text: str, token: _Token, code: str, message: str) -> DecodeError:
    line = text.count("\n", 0, token.offset) + 1
    offset = len(text[: token.offset].encode("utf-8", "surrogatepass"))
    return DecodeError(f"{message} (line {line})", code=code, line=line, offset=offset, place=_path(token.levels))


def _path(levels: list[_Level]) -> str:
    """`body.lines[2].sku`, as an expression would write it."""
    said = "body"
    for level in levels:
        if level.index >= 0:
            said += f"[{level.index}]"
        elif _NAME.fullmatch(level.key):
            said += f".{level.key}"
        elif level.key:
            said += f"[{_short(level.key)}]"
    return said


def _short(key: str) -> str:
    return json.dumps(key if len(key) <= 40 else key[:39] + "…", ensure_ascii=False)
