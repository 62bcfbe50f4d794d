"""The functions of expressions: cel-spec's standard ones, its string, math and optional extensions, and our own."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

import re2
from msgspec import Struct

from esb.errors import ExpressionError
from esb.expressions import operators, texts
from esb.expressions.values import INT_MAX, INT_MIN, NONE, TYPES, Optional, TypeName, Uint, said, type_name


class Function(Struct, frozen=True):
    """How a name is called: as `f(a, b)`, as `a.f(b)`, or both; `least` and `most` count the receiver."""

    name: str
    call: Callable[..., Any]
    least: int
    most: int
    style: str = "both"
    gives: str = "dyn"
    needs_scope: bool = False


_TIMESTAMP: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)")
_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|µs|ns|m|s)")
_SECONDS: Final[Mapping[str, Decimal]] = {
    "h": Decimal(3600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
    "us": Decimal("0.000001"),
    "ns": Decimal("1e-9"),
}
_OFFSET: Final = re.compile(r"([+-]?)(\d\d):(\d\d)")


def wrong(value: Any, function: str) -> ExpressionError:
    return ExpressionError(f"{function}() of {said(value)}: no such conversion", code="M254")


def size(value: Any) -> int:
    if isinstance(value, (str, bytes, list, tuple, Mapping)):
        return len(value)
    raise ExpressionError(f"size of {said(value)}: it wants a text, bytes, a list or a map", code="M254")


def to_int(value: Any) -> int:
    kind = type(value)
    if kind is int:
        return int(value)
    if kind is Uint:
        return operators.number(int(value))
    if kind is float:
        if not INT_MIN < value < INT_MAX:
            raise ExpressionError("the double is over 64 bit", code="M255")
        return int(value)
    if kind is Decimal:
        return operators.number(int(value))
    if kind is str:
        if not re.fullmatch(r"[+-]?\d{1,40}", value, re.ASCII):
            raise ExpressionError(f'"{value[:40]}" is no whole number', code="M259")
        return operators.number(int(value))
    if isinstance(value, datetime):
        return int((value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1))
    raise wrong(value, "int")


def to_uint(value: Any) -> Uint:
    kind = type(value)
    if kind is Uint:
        return value  # type: ignore[no-any-return]
    if kind is int:
        return operators.unsigned(value)
    if kind is float:
        if not 0 <= value < 2.0**64:
            raise ExpressionError("the double is no unsigned whole number of 64 bit", code="M255")
        return Uint(int(value))
    if kind is Decimal:
        return operators.unsigned(int(value))
    if kind is str and re.fullmatch(r"\+?\d{1,40}", value, re.ASCII):
        return operators.unsigned(int(value))
    raise wrong(value, "uint")


def to_double(value: Any) -> float:
    if type(value) is not bool and isinstance(value, (int, float, Decimal)):
        return float(value)
    if type(value) is str:
        if re.fullmatch(
            r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?(NaN|Inf(inity)?|nan|inf(inity)?)", value, re.ASCII
        ):
            return float(value)
        raise ExpressionError(f'"{value[:40]}" is no number', code="M259")
    raise wrong(value, "double")


def to_decimal(value: Any) -> Decimal:
    """Exact: a text by its digits, a whole number as it is, a double by its shortest digits."""
    kind = type(value)
    if kind is Decimal:
        return value  # type: ignore[no-any-return]
    if kind is int or kind is Uint:
        return Decimal(int(value))
    if kind is float:
        return operators.exactly(repr(value))
    if kind is str:
        if not re.fullmatch(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?\s*", value, re.ASCII):
            raise ExpressionError(f'"{value[:40]}" is no number', code="M259")
        return operators.exactly(value.strip())
    raise wrong(value, "decimal")


def to_string(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind is bool:
        return "true" if value else "false"
    if isinstance(value, (int, float, Decimal, datetime, timedelta)):
        return texts.plain(value)
    if kind is bytes:
        try:
            return value.decode("utf-8")  # type: ignore[no-any-return]
        except UnicodeDecodeError:
            raise ExpressionError("the bytes are not UTF-8", code="M259") from None
    raise wrong(value, "string")


def to_bytes(value: Any) -> bytes:
    if type(value) is bytes:
        return value
    if type(value) is str:
        return value.encode("utf-8")
    raise wrong(value, "bytes")


def to_bool(value: Any) -> bool:
    if type(value) is bool:
        return value
    if type(value) is str:
        if value in ("true", "True", "TRUE", "t", "1"):
            return True
        if value in ("false", "False", "FALSE", "f", "0"):
            return False
        raise ExpressionError(f'"{value[:40]}" is neither true nor false', code="M259")
    raise wrong(value, "bool")


def to_timestamp(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if type(value) is int:
        try:
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value)
        except OverflowError:
            raise ExpressionError("the timestamp is out of range", code="M255") from None
    if type(value) is str:
        found = _TIMESTAMP.fullmatch(value)
        if found is not None:
            return _moment(found)
        raise ExpressionError(f'"{value[:40]}" is no timestamp; it looks like 2026-03-01T02:10:00Z', code="M259")
    raise wrong(value, "timestamp")


def _moment(found: re.Match[str]) -> datetime:
    year, month, day, hour, minute, second = (int(found[number]) for number in range(1, 7))
    fraction = int((found[7] or "").ljust(6, "0")[:6])
    zone: tzinfo = UTC if found[8] in "Zz" else offset_zone(found[8])
    try:
        return datetime(year, month, day, hour, minute, second, fraction, zone).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ExpressionError(f'"{found[0]}" is no moment: {error}', code="M259") from None


def to_duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if type(value) is int:
        return (
            operators.duration(timedelta(seconds=value)) if abs(value) < 10**12 else operators.duration(timedelta.max)
        )
    if type(value) is str:
        return operators.duration(_span(value))
    raise wrong(value, "duration")


def _span(text: str) -> timedelta:
    sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    parts = _DURATION.findall(rest)
    if rest == "0":
        return timedelta(0)
    if not parts or "".join(count + unit for count, unit in parts) != rest:
        raise ExpressionError(f'"{text[:40]}" is no duration; it looks like "1h30m"', code="M259")
    seconds = sum((Decimal(count) * _SECONDS.get(unit, _SECONDS["us"]) for count, unit in parts), Decimal(0))
    if seconds > 10**12:
        raise ExpressionError("the duration is out of range", code="M255")
    return sign * timedelta(microseconds=int(seconds * 1_000_000))


def to_type(value: Any) -> TypeName:
    return TYPES.get(type_name(value)) or TypeName(type_name(value))


@lru_cache(maxsize=1000)
def _pattern(text: str) -> Any:
    try:
        return re2.compile(text)
    except re2.error as error:
        raise ExpressionError(f"no regular expression (RE2): {error}", code="M259") from None


def matches(value: Any, pattern: Any) -> bool:
    """RE2: linear in the text, whatever the pattern."""
    if type(value) is not str or type(pattern) is not str:
        raise ExpressionError(f"matches of {said(value)} by {said(pattern)}: it wants texts", code="M254")
    return _pattern(pattern).search(value) is not None


@lru_cache(maxsize=100)
def zone(name: str) -> tzinfo:
    """A zone by name or offset; raises ExpressionError."""
    if _OFFSET.fullmatch(name):
        return offset_zone(name)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ExpressionError(f'no time zone "{name[:40]}"', code="M259") from None


def offset_zone(text: str) -> tzinfo:
    found = _OFFSET.fullmatch(text)
    assert found is not None
    span = timedelta(hours=int(found[2]), minutes=int(found[3]))
    try:
        return timezone(-span if found[1] == "-" else span)
    except ValueError:
        raise ExpressionError(f'no offset "{text}"', code="M259") from None


def _getter(
    name: str, of_moment: Callable[[datetime], int], of_span: Callable[[timedelta], int] | None
) -> Callable[..., int]:
    def get(value: Any, where: Any = None) -> int:
        if isinstance(value, datetime):
            return of_moment(value.astimezone(zone(where) if where is not None else UTC))
        if isinstance(value, timedelta) and of_span is not None and where is None:
            return of_span(value)
        raise ExpressionError(f"{name} of {said(value)}: no such operation", code="M254")

    return get


def _whole(value: timedelta, unit: timedelta) -> int:
    """Whole units, cut towards zero."""
    return (
        int(value / unit)
        if abs(value) < timedelta(days=3650)
        else (abs(value) // unit) * (1 if value > timedelta(0) else -1)
    )


GETTERS: Final[Mapping[str, Callable[..., int]]] = {
    name: _getter(name, moment, span)
    for name, moment, span in (
        ("getFullYear", lambda at: at.year, None),
        ("getMonth", lambda at: at.month - 1, None),
        ("getDate", lambda at: at.day, None),
        ("getDayOfMonth", lambda at: at.day - 1, None),
        ("getDayOfWeek", lambda at: at.isoweekday() % 7, None),
        ("getDayOfYear", lambda at: at.timetuple().tm_yday - 1, None),
        ("getHours", lambda at: at.hour, lambda span: _whole(span, timedelta(hours=1))),
        ("getMinutes", lambda at: at.minute, lambda span: _whole(span, timedelta(minutes=1))),
        ("getSeconds", lambda at: at.second, lambda span: _whole(span, timedelta(seconds=1))),
        ("getMilliseconds", lambda at: at.microsecond // 1000, lambda span: abs(span).microseconds // 1000),
    )
}


def greatest(*values: Any) -> Any:
    return _extreme("math.greatest", values, 1)


def least(*values: Any) -> Any:
    return _extreme("math.least", values, -1)


def _extreme(name: str, values: tuple[Any, ...], sign: int) -> Any:
    items = values[0] if len(values) == 1 and isinstance(values[0], list) else values
    if not items:
        raise ExpressionError(f"{name} of nothing", code="M254")
    best = items[0]
    for item in items:
        if type(item) is bool or not isinstance(item, (int, float, Decimal)):
            raise ExpressionError(f"{name} of {said(item)}: it wants numbers", code="M254")
        if operators.compare(item, best, name) == sign:
            best = item
    return best


def rounded(value: Any, places: Any = 0) -> Decimal:
    """A decimal with so many places, half to even."""
    if type(places) is not int or not 0 <= places <= 100:
        raise ExpressionError("round wants 0 to 100 places", code="M254")
    return to_decimal(value).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN, context=operators.EXACT)


def floor(value: Any) -> int:
    return operators.number(math.floor(to_decimal(value)))


def ceil(value: Any) -> int:
    return operators.number(math.ceil(to_decimal(value)))


def optional_of(value: Any) -> Optional:
    return Optional(True, value)


def optional_of_non_zero(value: Any) -> Optional:
    zero = value is None or (not value and not isinstance(value, (datetime, timedelta))) or value == timedelta(0)
    return NONE if zero else Optional(True, value)


def _optional(value: Any, function: str) -> Optional:
    if isinstance(value, Optional):
        return value
    raise ExpressionError(f"{function} of {said(value)}: it wants an optional", code="M254")


def has_value(value: Any) -> bool:
    return _optional(value, "hasValue").has_value


def value_of(value: Any) -> Any:
    found = _optional(value, "value")
    if not found.has_value:
        raise ExpressionError("value() of an optional that has none", code="M258")
    return found.value


def or_value(value: Any, other: Any) -> Any:
    found = _optional(value, "orValue")
    return found.value if found.has_value else other


def or_other(value: Any, other: Any) -> Optional:
    return value if _optional(value, "or").has_value else _optional(other, "or")


def date_of(value: Any, form: Any, where: Any = None) -> datetime:
    """A text by a strptime format; without an offset in it, in that zone (UTC)."""
    if type(value) is not str or type(form) is not str:
        raise ExpressionError("date wants a text and a format such as '%d.%m.%Y'", code="M254")
    try:
        moment = datetime.strptime(value, form)
    except ValueError:
        raise ExpressionError(f'"{value[:40]}" is no date of the form {form[:40]}', code="M259") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC if where is None else zone(where))
    return moment.astimezone(UTC)


def format_date(value: Any, form: Any, where: Any = None) -> str:
    """A timestamp as a text by a strftime format."""
    if not isinstance(value, datetime) or type(form) is not str:
        raise ExpressionError(f"formatDate of {said(value)}: it wants a timestamp and a format", code="M254")
    return value.astimezone(UTC if where is None else zone(where)).strftime(form)


def _standard() -> list[Function]:
    conversions = {
        "int": to_int, "uint": to_uint, "double": to_double, "string": to_string, "bytes": to_bytes, "bool": to_bool,
        "timestamp": to_timestamp, "duration": to_duration, "decimal": to_decimal,
    }  # fmt: skip
    found = [Function(name, call, 1, 1, "global", name) for name, call in conversions.items()]
    found += [
        Function("type", to_type, 1, 1, "global", "type"),
        Function("dyn", lambda value: value, 1, 1, "global"),
        Function("size", size, 1, 1, "both", "int"),
        Function("matches", matches, 2, 2, "both", "bool"),
        Function("round", rounded, 1, 2, "global", "decimal"),
        Function("floor", floor, 1, 1, "global", "int"),
        Function("ceil", ceil, 1, 1, "global", "int"),
        Function("date", date_of, 2, 3, "global"),
        Function("formatDate", format_date, 2, 3, "both", "string"),
        Function("math.greatest", greatest, 1, 1000, "global"),
        Function("math.least", least, 1, 1000, "global"),
        Function("optional.of", optional_of, 1, 1, "global"),
        Function("optional.ofNonZeroValue", optional_of_non_zero, 1, 1, "global"),
        Function("optional.none", lambda: NONE, 0, 0, "global"),
        Function("hasValue", has_value, 1, 1, "method", "bool"),
        Function("value", value_of, 1, 1, "method"),
        Function("orValue", or_value, 2, 2, "method"),
        Function("or", or_other, 2, 2, "method"),
        Function("strings.quote", texts.quote, 1, 1, "global", "string"),
    ]
    found += [Function(name, call, 1, 2, "method", "int") for name, call in GETTERS.items()]
    found += [Function(name, call, least, most, "method", gives) for name, call, least, most, gives in texts.METHODS]
    return found


STANDARD: Final[Mapping[str, Function]] = {function.name: function for function in _standard()}
