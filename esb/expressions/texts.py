"""Text functions: by code point, the standard ones and cel-spec's strings extension."""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache
from typing import Any, Final

import re2

from esb.errors import BudgetExceeded, ExpressionError
from esb.expressions.operators import LONGEST, Mismatch, Unreadable
from esb.expressions.values import said

_LOWER: Final = {letter: letter + 32 for letter in range(ord("A"), ord("Z") + 1)}
_UPPER: Final = {letter: letter - 32 for letter in range(ord("a"), ord("z") + 1)}
_QUOTED: Final = str.maketrans(
    {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", "\\": r"\\", '"': r"\""}
)
_SPACES: Final = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"  # noqa: E501


def _count(value: Any, function: str) -> int:
    if type(value) is int:
        return value
    raise ExpressionError(f"{function} takes a whole number, not {said(value)}", code="M254")


def _place(text: str, value: Any, function: str) -> int:
    """A position in a text, its end included."""
    at = _count(value, function)
    if 0 <= at <= len(text):
        return at
    raise ExpressionError(f"{function}: there is no position {at}, the text has {len(text)} characters", code="M258")


def _no_text(function: str, *values: Any) -> Mismatch:
    at = next(place for place, value in enumerate(values) if type(value) is not str)
    return Mismatch(function, values[at], at=at)


def _texts(function: str, *values: Any) -> None:
    for value in values:
        if type(value) is not str:
            raise _no_text(f"{function}()", *values)


def contains(value: Any, part: Any) -> bool:
    """`text.contains(part)`."""
    if type(value) is not str or type(part) is not str:
        raise _no_text("contains()", value, part)
    return part in value


def starts_with(value: Any, part: Any) -> bool:
    """`text.startsWith(part)`."""
    if type(value) is not str or type(part) is not str:
        raise _no_text("startsWith()", value, part)
    return value.startswith(part)


def ends_with(value: Any, part: Any) -> bool:
    """`text.endsWith(part)`."""
    if type(value) is not str or type(part) is not str:
        raise _no_text("endsWith()", value, part)
    return value.endswith(part)


def char_at(value: Any, at: Any) -> str:
    """`text.charAt(at)`: the character there, `""` at the end."""
    _texts("charAt", value)
    place = _place(value, at, "charAt()")
    return str(value[place : place + 1])


def index_of(value: Any, part: Any, start: Any = 0) -> int:
    """`text.indexOf(part)`: where it first stands, from `start` on; -1 where it does not."""
    _texts("indexOf", value, part)
    return int(value.find(part, _place(value, start, "indexOf()")))


def last_index_of(value: Any, part: Any, start: Any = None) -> int:
    """`text.lastIndexOf(part)`: where it last begins, at `start` at the latest; -1 where it does not."""
    _texts("lastIndexOf", value, part)
    if start is None:
        return int(value.rfind(part))
    return int(value.rfind(part, 0, _place(value, start, "lastIndexOf()") + len(part)))


def substring(value: Any, start: Any, end: Any = None) -> str:
    """`text.substring(start, end)`: from `start` to right before `end`."""
    _texts("substring", value)
    first = _place(value, start, "substring()")
    last = len(value) if end is None else _place(value, end, "substring()")
    if first > last:
        raise ExpressionError(f"substring(): it would start at {first} and end before, at {last}", code="M258")
    return str(value[first:last])


def join(value: Any, separator: Any = "") -> str:
    """`list.join(", ")`."""
    if not isinstance(value, (list, tuple)):
        raise Mismatch("join()", value)
    if type(separator) is not str:
        raise Mismatch("join()", separator, at=1)
    for item in value:
        if type(item) is not str:
            raise ExpressionError(f"join() takes a list of texts, and this one holds {said(item)}", code="M254")
    if sum(map(len, value)) + len(separator) * len(value) > LONGEST:
        raise too_long("join()")
    return str(separator).join(value)


def too_long(function: str) -> BudgetExceeded:
    """A text that would fill the memory."""
    return BudgetExceeded(f"{function} would make a text of over {LONGEST} characters")


def split(value: Any, separator: Any, limit: Any = -1) -> list[str]:
    """`text.split(",")`, into at most `limit` parts."""
    _texts("split", value, separator)
    most = _count(limit, "split()")
    if most == 0:
        return []
    if separator == "":
        letters = list(value)
        return letters if most < 0 or len(letters) <= most else [*letters[: most - 1], "".join(letters[most - 1 :])]
    return list(value.split(separator, most - 1 if most > 0 else -1))


def replace(value: Any, part: Any, other: Any, limit: Any = -1) -> str:
    """`text.replace("a", "b")`, at most `limit` times."""
    _texts("replace", value, part, other)
    most = _count(limit, "replace()")
    found = value.count(part) if most < 0 else min(most, value.count(part))
    if len(value) + found * len(other) > LONGEST:
        raise too_long("replace()")
    return str(value.replace(part, other, most))


def lower_ascii(value: Any) -> str:
    """`text.lowerAscii()`: A to Z only."""
    _texts("lowerAscii", value)
    return str(value.lower() if value.isascii() else value.translate(_LOWER))


def upper_ascii(value: Any) -> str:
    """`text.upperAscii()`: a to z only."""
    _texts("upperAscii", value)
    return str(value.upper() if value.isascii() else value.translate(_UPPER))


def trim(value: Any) -> str:
    """`text.trim()`: without Unicode's white space at both ends."""
    _texts("trim", value)
    return str(value.strip(_SPACES))


def reverse(value: Any) -> str:
    """`text.reverse()`."""
    _texts("reverse", value)
    return str(value[::-1])


def quote(value: Any) -> str:
    """`strings.quote(text)`: as a literal in double quotes."""
    _texts("strings.quote", value)
    return f'"{value.translate(_QUOTED)}"'


@lru_cache(maxsize=1000)
def pattern(text: str) -> Any:
    """A compiled RE2 pattern; raises ExpressionError."""
    try:
        return re2.compile(text, _QUIET)
    except re2.error as error:
        said_so = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
        raise Unreadable(text, f"is no regular expression (RE2): {said_so.rpartition(': ')[0] or said_so}") from None


def _quiet() -> Any:
    options = re2.Options()
    options.log_errors = False
    return options


_QUIET: Final = _quiet()


def matches(value: Any, wanted: Any) -> bool:
    """`text.matches("^[A-Z]+$")`: RE2, so its time grows with the text alone, whatever the pattern."""
    if type(value) is not str or type(wanted) is not str:
        raise _no_text("matches()", value, wanted)
    return pattern(wanted).search(value) is not None


def encode_base64(value: Any) -> str:
    """`base64.encode(bytes)`."""
    if type(value) is not bytes:
        raise Mismatch("base64.encode()", value)
    return base64.b64encode(value).decode()


def decode_base64(value: Any) -> bytes:
    """`base64.decode(text)`, with or without padding."""
    _texts("base64.decode", value)
    try:
        return base64.b64decode(value.rstrip("=") + "=" * (-len(value.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Unreadable(value, "is no Base64") from None
