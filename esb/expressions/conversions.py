"""Conversions between types: int(), uint(), double(), decimal(), string(), bytes(), bool(), timestamp(), duration()."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, DecimalException
from typing import Any, Final

from esb.errors import ExpressionError
from esb.expressions.operators import EXACT, Mismatch, Unreadable, moment, number, span, unsigned
from esb.expressions.times import SECOND, read_duration, read_timestamp, write_duration, write_timestamp
from esb.expressions.values import INT_MAX, INT_MIN, Uint, Written, instant

_WHOLE: Final = re.compile(r"[+-]?\d{1,40}", re.ASCII)
_DOUBLE: Final = re.compile(
    r"[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|NaN|nan|Inf(?:inity)?|inf(?:inity)?)", re.ASCII
)
_DECIMAL: Final = re.compile(r"[ \t\r\n]*[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?[ \t\r\n]*", re.ASCII)
_LONGEST: Final = 1000
_TRUE: Final = frozenset(("true", "True", "TRUE", "t", "1"))
_FALSE: Final = frozenset(("false", "False", "FALSE", "f", "0"))


def to_int(value: Any) -> int:
    """`int(x)`: towards zero; raises ExpressionError outside 64 bit."""
    kind = type(value)
    if kind is str:
        if value.isdecimal() and value.isascii() and len(value) < 19:
            return int(value)
        if _WHOLE.fullmatch(value) is None:
            raise Unreadable(
                value, f"is no whole number{'; decimal(...) reads it' if _DECIMAL.fullmatch(value) else ''}"
            )
        return number(int(value))
    if kind is int:
        return number(value)
    if kind is Uint:
        return number(int(value))
    if isinstance(value, float):
        if not INT_MIN < value < INT_MAX:
            raise ExpressionError("the double is over 64 bit", code="M255")
        return int(value)
    if kind is Decimal:
        return number(_whole(value))
    if isinstance(value, datetime):
        return instant(value) // SECOND
    raise Mismatch("int()", value)


def _whole(value: Decimal) -> int:
    if value.adjusted() > 30:
        raise ExpressionError("the decimal is over 64 bit", code="M255")
    return int(value)


def to_uint(value: Any) -> Uint:
    """`uint(x)`."""
    kind = type(value)
    if kind is Uint:
        return Uint(value)
    if kind is int:
        return unsigned(value)
    if isinstance(value, float):
        if not 0 <= value < 2.0**64:
            raise ExpressionError("the double is below 0 or over 64 bit", code="M255")
        return Uint(int(value))
    if kind is Decimal:
        return unsigned(_whole(value))
    if kind is str:
        if _WHOLE.fullmatch(value) is None:
            raise Unreadable(value, "is no whole number")
        return unsigned(int(value))
    raise Mismatch("uint()", value)


def to_double(value: Any) -> float:
    """`double(x)`."""
    if type(value) is str:
        if _DOUBLE.fullmatch(value) is None:
            raise Unreadable(value, "is no number")
        return float(value)
    if type(value) is not bool and isinstance(value, (int, float, Decimal)):
        return float(value)
    raise Mismatch("double()", value)


def to_decimal(value: Any) -> Decimal:
    """`decimal(x)`, exact: a text and a double by their digits, a whole number as it is."""
    kind = type(value)
    if kind is str:
        return read_decimal(value)
    if kind is Decimal:
        return Decimal(value)
    if kind is int or kind is Uint:
        return Decimal(value)
    if isinstance(value, float):
        made = value.digits if isinstance(value, Written) else Decimal(repr(value))
        if not made.is_finite():
            raise ExpressionError(f"{value} is no decimal", code="M259")
        return made
    raise Mismatch("decimal()", value)


def read_decimal(text: str) -> Decimal:
    """All digits of a text, spaces around them allowed; raises ExpressionError."""
    try:
        made = Decimal(text)
    except DecimalException:
        raise Unreadable(text, "is no number") from None
    if not made.is_finite() or "_" in text or not text.isascii() or len(text) > _LONGEST:
        raise Unreadable(text, "is no number")
    return made


def write_decimal(value: Decimal) -> str:
    """All digits, without an exponent; raises ExpressionError beyond a thousand zeros."""
    if not -_LONGEST < value.adjusted() < _LONGEST:
        raise ExpressionError("the decimal has over 1000 digits", code="M255")
    return f"{value:f}"


def write_double(value: float) -> str:
    """The shortest digits that read as the same double, as JavaScript writes them."""
    text = repr(float(value))
    if text in ("nan", "inf", "-inf"):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[text]
    return text.removesuffix(".0")


def to_string(value: Any) -> str:
    """`string(x)`: as JSON and RFC 3339 write it."""
    kind = type(value)
    if kind is str:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if kind is Decimal:
        return write_decimal(value)
    if isinstance(value, float):
        return write_double(value)
    if isinstance(value, datetime):
        return write_timestamp(value)
    if isinstance(value, timedelta):
        return write_duration(value)
    if kind is bytes:
        try:
            return str(value, "utf-8")
        except UnicodeDecodeError:
            raise ExpressionError("the bytes are not UTF-8", code="M259") from None
    raise Mismatch("string()", value)


def to_bytes(value: Any) -> bytes:
    """`bytes(x)`: a text as UTF-8."""
    if type(value) is bytes:
        return value
    if type(value) is str:
        return value.encode("utf-8", "surrogatepass")
    raise Mismatch("bytes()", value)


def to_bool(value: Any) -> bool:
    """`bool(x)`."""
    if type(value) is bool:
        return value
    if type(value) is str:
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
        raise Unreadable(value, "is neither true nor false")
    raise Mismatch("bool()", value)


def to_timestamp(value: Any) -> datetime:
    """`timestamp(x)`: RFC 3339, or whole seconds since 1970."""
    if isinstance(value, datetime):
        return value
    if type(value) is int:
        return moment(value * SECOND)
    if type(value) is str:
        return read_timestamp(value)
    raise Mismatch("timestamp()", value)


def to_duration(value: Any) -> timedelta:
    """`duration(x)`: `1h30m`, or whole seconds."""
    if isinstance(value, timedelta):
        return value
    if type(value) is int:
        return span(value * SECOND)
    if type(value) is str:
        return read_duration(value)
    raise Mismatch("duration()", value)


def _rounded(rounding: str) -> Callable[..., Decimal]:
    def rounded(value: Any, places: Any = 0) -> Decimal:
        if type(places) is not int or not 0 <= places <= 100:
            raise ExpressionError("places are a whole number from 0 to 100", code="M254")
        try:
            return to_decimal(value).quantize(Decimal(1).scaleb(-places), rounding=rounding, context=_QUANTIZED)
        except DecimalException:
            raise ExpressionError("the decimal has over 1000 digits", code="M255") from None

    return rounded


_QUANTIZED: Final = EXACT.copy()
_QUANTIZED.traps = {**EXACT.traps, **dict.fromkeys([name for name in EXACT.traps if name.__name__ == "Inexact"], False)}
round_half_up: Final = _rounded(ROUND_HALF_UP)
round_half_even: Final = _rounded(ROUND_HALF_EVEN)
