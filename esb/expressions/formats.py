"""`"%s has %d".format([name, count])`: cel-spec's format function."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from esb.errors import ExpressionError
from esb.expressions.conversions import to_string, write_decimal, write_double
from esb.expressions.operators import LONGEST, Mismatch
from esb.expressions.texts import too_long
from esb.expressions.values import NUMBERS, TypeName, said

_CLAUSE: Final = re.compile(r"%(?:(%)|(?:\.(\d+))?(.?))", re.DOTALL)
_WANTS: Final = {
    "d": "a whole number", "f": "a number", "e": "a number", "b": "a whole number, true or false",
    "o": "a whole number", "x": "a whole number, a text or bytes", "X": "a whole number, a text or bytes",
}  # fmt: skip


def formatted(value: Any, arguments: Any) -> str:
    """%s %d %f %.2f %e %b %o %x %X %%; raises ExpressionError where the values do not fit."""
    if type(value) is not str:
        raise Mismatch("format()", value)
    if not isinstance(arguments, (list, tuple)):
        raise Mismatch("format()", arguments, at=1)
    made: list[str] = []
    given = iter(arguments)
    place = size = 0
    for clause in _CLAUSE.finditer(value):
        made += (value[place : clause.start()], _filled(clause, given))
        place = clause.end()
        size += len(made[-1])
        if size > LONGEST:
            raise too_long("format()")
    return "".join([*made, value[place:]])


def _filled(clause: re.Match[str], given: Iterator[Any]) -> str:
    percent, precision, verb = clause.groups()
    if percent:
        return "%"
    if verb not in _WANTS and verb != "s":
        raise ExpressionError(f'format() knows no "{clause[0][:20]}", but %s %d %f %.2f %e %b %o %x %X %%', code="M259")
    if precision is not None and (verb not in "fe" or len(precision) > 3):
        raise ExpressionError(f'format(): "{clause[0][:20]}"; digits go with %f and %e, up to 999', code="M259")
    try:
        value = next(given)
    except StopIteration:
        raise ExpressionError("format() has more % than values in its list", code="M258") from None
    return shown(value) if verb == "s" else _spelled(verb, value, int(precision or 6))


def _spelled(verb: str, value: Any, precision: int) -> str:
    if verb in "xX" and isinstance(value, (str, bytes)):
        text = (value.encode() if isinstance(value, str) else value).hex()
        return text if verb == "x" else text.upper()
    if verb == "b" and type(value) is bool:
        return "1" if value else "0"
    if type(value) is bool or not isinstance(value, NUMBERS):
        raise ExpressionError(f"format(): %{verb} takes {_WANTS[verb]}, not {said(value)}", code="M254")
    if isinstance(value, float) and not math.isfinite(value) and verb in "dfe":
        return write_double(value)
    if verb in "fe":
        return f"{value:.{precision}{verb}}" if not isinstance(value, Decimal) else _fixed(value, precision, verb)
    if isinstance(value, int):
        return format(int(value), verb)
    if verb == "d" and value == int(value):
        return str(int(value))
    raise ExpressionError(f"format(): %{verb} takes {_WANTS[verb]}, not {said(value)}", code="M254")


def _fixed(value: Decimal, precision: int, verb: str) -> str:
    write_decimal(value)
    text = f"{value:.{precision}{verb}}"
    return re.sub(r"e([+-])(\d)$", r"e\g<1>0\2", text)


def shown(value: Any) -> str:
    """Any value as %s writes it."""
    if value is None:
        return "null"
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(shown(item) for item in value)}]"
    if isinstance(value, Mapping):
        pairs = sorted((shown(key), shown(item)) for key, item in value.items())
        return "{" + ", ".join(f"{key}: {item}" for key, item in pairs) + "}"
    if isinstance(value, TypeName):
        return value.name
    if isinstance(value, (str, bool, int, float, Decimal, datetime, timedelta)):
        return to_string(value)
    raise ExpressionError(f"format(): %s takes no {said(value).removeprefix('an ').removeprefix('a ')}", code="M254")
