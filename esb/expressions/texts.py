"""Text functions: by code point, cel-spec's strings extension, and how values print."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from esb.errors import ExpressionError
from esb.expressions.values import Optional, TypeName, said


def plain(value: Any) -> str:
    """A number, moment or span as JSON and RFC 3339 write it."""
    if type(value) is bool:
        return "true" if value else "false"
    if isinstance(value, float):
        return _double(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        moment = value.astimezone(UTC)
        text = f"{moment.year:04}-{moment:%m-%dT%H:%M:%S}"
        fraction = f".{moment.microsecond:06}".rstrip("0") if moment.microsecond else ""
        return f"{text}{fraction}Z"
    if isinstance(value, timedelta):
        micro = value // timedelta(microseconds=1)
        whole, rest = divmod(abs(micro), 1_000_000)
        digits = f".{rest:06}".rstrip("0") if rest else ""
        return f"{'-' if micro < 0 else ''}{whole}{digits}s"
    return str(int(value)) if isinstance(value, int) else str(value)


def _double(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value)) if value or not math.copysign(1, value) < 0 else "-0"
    return repr(value)


def _text(value: Any, function: str) -> str:
    if type(value) is str:
        return value
    raise ExpressionError(f"{function} of {said(value)}: it wants a text", code="M254")


def _count(value: Any, function: str) -> int:
    if type(value) is int:
        return value
    raise ExpressionError(f"{function} with {said(value)}: it wants a whole number", code="M254")


def _either(value: Any, function: str) -> Any:
    if type(value) in (str, bytes):
        return value
    raise ExpressionError(f"{function} of {said(value)}: it wants a text", code="M254")


def contains(value: Any, part: Any) -> bool:
    return bool(_text(part, "contains") in _text(value, "contains"))


def starts_with(value: Any, part: Any) -> bool:
    return _text(value, "startsWith").startswith(_text(part, "startsWith"))


def ends_with(value: Any, part: Any) -> bool:
    return _text(value, "endsWith").endswith(_text(part, "endsWith"))


def char_at(value: Any, at: Any) -> str:
    text, place = _text(value, "charAt"), _count(at, "charAt")
    if not 0 <= place <= len(text):
        raise ExpressionError(f"charAt({place}): the text has {len(text)} characters", code="M258")
    return text[place : place + 1]


def index_of(value: Any, part: Any, start: Any = 0) -> int:
    text, place = _text(value, "indexOf"), _count(start, "indexOf")
    if not 0 <= place <= len(text):
        raise ExpressionError(f"indexOf from {place}: the text has {len(text)} characters", code="M258")
    return text.find(_text(part, "indexOf"), place)


def last_index_of(value: Any, part: Any, start: Any = None) -> int:
    text, wanted = _text(value, "lastIndexOf"), _text(part, "lastIndexOf")
    if start is None:
        return text.rfind(wanted)
    place = _count(start, "lastIndexOf")
    if not 0 <= place <= len(text):
        raise ExpressionError(f"lastIndexOf from {place}: the text has {len(text)} characters", code="M258")
    return text.rfind(wanted, 0, place + len(wanted))


def join(value: Any, separator: Any = "") -> str:
    if not isinstance(value, list):
        raise ExpressionError(f"join of {said(value)}: it wants a list of texts", code="M254")
    return _text(separator, "join").join(_text(item, "join") for item in value)


def split(value: Any, separator: Any, limit: Any = -1) -> list[str]:
    text, mark, most = _text(value, "split"), _text(separator, "split"), _count(limit, "split")
    if most == 0:
        return []
    if mark == "":
        letters = list(text)
        return letters if most < 0 or len(letters) <= most else [*letters[: most - 1], "".join(letters[most - 1 :])]
    return text.split(mark, most - 1 if most > 0 else -1)


def replace(value: Any, part: Any, other: Any, limit: Any = -1) -> str:
    text = _text(value, "replace")
    return text.replace(_text(part, "replace"), _text(other, "replace"), _count(limit, "replace"))


def substring(value: Any, start: Any, end: Any = None) -> str:
    text, first = _text(value, "substring"), _count(start, "substring")
    last = len(text) if end is None else _count(end, "substring")
    if not 0 <= first <= last <= len(text):
        raise ExpressionError(f"substring({first}, {last}): the text has {len(text)} characters", code="M258")
    return text[first:last]


def lower_ascii(value: Any) -> str:
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in _text(value, "lowerAscii"))


def upper_ascii(value: Any) -> str:
    return "".join(chr(ord(c) - 32) if "a" <= c <= "z" else c for c in _text(value, "upperAscii"))


def reverse(value: Any) -> str:
    return _text(value, "reverse")[::-1]


def trim(value: Any) -> str:
    return _text(value, "trim").strip()


def quote(value: Any) -> str:
    """A text as a literal that no other program misreads."""
    escapes = {
        "\a": "\\a",
        "\b": "\\b",
        "\f": "\\f",
        "\n": "\\n",
        "\r": "\\r",
        "\t": "\\t",
        "\v": "\\v",
        "\\": "\\\\",
        '"': '\\"',
    }
    return '"' + "".join(escapes.get(c, c) for c in _text(value, "quote")) + '"'


def formatted(value: Any, arguments: Any) -> str:
    """`"%s has %d".format([name, count])`: %s %d %f %.2f %e %b %o %x %X %%."""
    text = _text(value, "format")
    if not isinstance(arguments, list):
        raise ExpressionError(f"format with {said(arguments)}: it wants a list", code="M254")
    made: list[str] = []
    given = iter(arguments)
    place = 0
    while (found := text.find("%", place)) >= 0:
        made.append(text[place:found])
        place, said_so = _clause(text, found + 1, given)
        made.append(said_so)
    return "".join([*made, text[place:]])


def _clause(text: str, place: int, given: Any) -> tuple[int, str]:
    if text[place : place + 1] == "%":
        return place + 1, "%"
    precision = 6
    if text[place : place + 1] == ".":
        digits = ""
        place += 1
        while text[place : place + 1].isdigit():
            digits += text[place]
            place += 1
        precision = int(digits or "0")
    verb = text[place : place + 1]
    if verb not in "sdfebxXo" or not verb:
        raise ExpressionError(f'format: unknown "%{verb}"; there is %s %d %f %e %b %o %x %X %%', code="M259")
    try:
        argument = next(given)
    except StopIteration:
        raise ExpressionError("format: more % than values in the list", code="M259") from None
    return place + 1, _spelled(verb, argument, precision)


def _spelled(verb: str, value: Any, precision: int) -> str:
    if verb == "s":
        return shown(value)
    if verb in "xX" and isinstance(value, (str, bytes)):
        raw = value.encode() if isinstance(value, str) else value
        return raw.hex() if verb == "x" else raw.hex().upper()
    if verb == "b" and type(value) is bool:
        return "1" if value else "0"
    if type(value) is bool or not isinstance(value, (int, float, Decimal)):
        raise ExpressionError(f"format: %{verb} of {said(value)}: it wants a number", code="M254")
    if isinstance(value, float) and not math.isfinite(value):
        return _double(value)
    if verb in "fe":
        return _fixed(value, precision) if verb == "f" else f"{value:.{precision}e}"
    if verb == "d":
        return plain(value)
    if not isinstance(value, int):
        raise ExpressionError(f"format: %{verb} of {said(value)}: it wants a whole number", code="M254")
    return format(int(value), verb)


def _fixed(value: Any, precision: int) -> str:
    exact = value if isinstance(value, Decimal) else Decimal(value)
    return f"{exact.quantize(Decimal(1).scaleb(-precision), rounding=ROUND_HALF_EVEN):f}"


def shown(value: Any) -> str:
    """Any value as format's %s writes it."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list):
        return f"[{', '.join(shown(item) for item in value)}]"
    if isinstance(value, Mapping):
        pairs = sorted((shown(key), shown(item)) for key, item in value.items())
        return "{" + ", ".join(f"{key}: {item}" for key, item in pairs) + "}"
    if isinstance(value, (TypeName, Optional)):
        return repr(value)
    return plain(value)


METHODS: Final[tuple[tuple[str, Callable[..., Any], int, int, str], ...]] = (
    ("contains", contains, 2, 2, "bool"),
    ("startsWith", starts_with, 2, 2, "bool"),
    ("endsWith", ends_with, 2, 2, "bool"),
    ("charAt", char_at, 2, 2, "string"),
    ("indexOf", index_of, 2, 3, "int"),
    ("lastIndexOf", last_index_of, 2, 3, "int"),
    ("join", join, 1, 2, "string"),
    ("split", split, 2, 3, "list"),
    ("replace", replace, 3, 4, "string"),
    ("substring", substring, 2, 3, "string"),
    ("lowerAscii", lower_ascii, 1, 1, "string"),
    ("upperAscii", upper_ascii, 1, 1, "string"),
    ("trim", trim, 1, 1, "string"),
    ("reverse", reverse, 1, 1, "string"),
    ("format", formatted, 2, 2, "string"),
)
