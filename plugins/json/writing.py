"""A plain tree to JSON text: every digit of a Decimal, keys in the tree's order, and nothing that JSON cannot say."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from itertools import islice
from math import isfinite
from typing import Any, Final, Literal, NoReturn

import msgspec
from esb_plugins.json.nesting import deeper

from esb import EncodeError, spell_moment

_PLAIN: Final = frozenset({str, int, bool, type(None), Decimal})
_MANY: Final = 5_000_000
"""Objects and lists of one tree; one with more is looked through with its depth (it may contain itself)."""

_encode: Final = msgspec.json.Encoder(decimal_format="number").encode
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")


class Writer:
    """Writes whole documents. Raises EncodeError that names the field."""

    def __init__(
        self, *, encoding: str = "utf-8", nulls: Literal["keep", "omit"] = "keep", indent: int = 0, depth: int = 100
    ) -> None:
        self._encoding = encoding
        self._utf8 = codecs.lookup(encoding).name == "utf-8"
        self._omit = nulls == "omit"
        self._indent = indent
        self._depth = depth

    def write(self, tree: Any) -> bytes:
        """The same tree gives the same bytes."""
        try:
            if self._omit or not _is_plain(tree):
                tree = self._form(tree, "body", self._depth)
            said = _encode(tree)
            if deeper(said, self._depth) or b"NaN" in said or b"Infinity" in said:
                self._form(tree, "body", self._depth)
        except RecursionError:
            raise _too_deep("body") from None
        except UnicodeEncodeError as error:
            message = f"half of a surrogate pair in a text: {error.object[error.start] if error.object else ''!r}"
            raise EncodeError(message, code="M225") from None
        if self._indent:
            said = msgspec.json.format(said, indent=self._indent)
        return said if self._utf8 else self._recoded(said)

    def _recoded(self, said: bytes) -> bytes:
        """In another encoding; characters that it lacks are written as `\\u` escapes, which every reader undoes."""
        text = said.decode()
        try:
            return text.encode(self._encoding)
        except UnicodeEncodeError:
            return _NOT_ASCII.sub(_escaped, text).encode(self._encoding)

    def _form(self, value: Any, place: str, depth: int) -> Any:
        """The value in types whose JSON form is certain."""
        if value is None or isinstance(value, (str, bool)):
            return value
        if isinstance(value, Mapping):
            return self._object(value, place, _deeper(depth, place))
        if isinstance(value, (list, tuple)):
            depth = _deeper(depth, place)
            return [self._form(item, f"{place}[{index}]", depth) for index, item in enumerate(value)]
        if isinstance(value, Decimal):
            return value if value.is_finite() else _refuse_number(value, place)
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value) if isfinite(value) else _refuse_number(value, place)
        if isinstance(value, (date, timedelta)):
            return spell_moment(value)
        raise EncodeError(f"JSON has no form for {_kind(value)}", place=place)

    def _object(self, value: Mapping[Any, Any], place: str, depth: int) -> dict[str, Any]:
        formed = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise EncodeError(f"JSON names are texts, this one is {_kind(key)}: {key!r}", code="M224", place=place)
            if item is not None or not self._omit:
                formed[key] = self._form(item, f"{place}.{key}", depth)
        return formed


def _is_plain(tree: Any) -> bool:
    """Whether the encoder's own forms are right for everything in it; only a look."""
    containers: list[Any] = [(tree,)]
    for container in islice(containers, _MANY):  # grows while it is walked
        values: Any = container
        if type(container) is dict:
            try:
                "".join(container)  # raises for a name that is no text, faster than asking each for its type
            except TypeError:
                return False
            values = container.values()
        for value in values:
            kind = type(value)
            if kind not in _PLAIN:
                if kind is not dict and kind is not list:
                    return False
                containers.append(value)
    return len(containers) < _MANY


def _deeper(depth: int, place: str) -> int:
    if depth <= 0:
        raise _too_deep(place)
    return depth - 1


def _too_deep(place: str) -> EncodeError:
    short = place if len(place) < 80 else place[:79] + "…"
    return EncodeError("nested deeper than the option depth allows", code="M214", place=short)


def _refuse_number(value: float | Decimal, place: str) -> NoReturn:
    raise EncodeError(f"JSON has no number {value}", code="M226", place=place)


def _escaped(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def _kind(value: object) -> str:
    return "bytes" if isinstance(value, bytes) else f"a {type(value).__name__}"
