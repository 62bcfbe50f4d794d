"""Timestamps and durations of expressions: reading, writing, their parts in a zone, and dates by a format."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from esb.expressions.operators import Mismatch, Unreadable, moment, span
from esb.expressions.values import instant, length

_TIMESTAMP: Final = re.compile(
    r"(\d{4,5}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|µs|μs|ns|m|s)", re.ASCII)
_UNITS: Final = {
    "h": 3600 * 10**9,
    "m": 60 * 10**9,
    "s": 10**9,
    "ms": 10**6,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ns": 1,
}
_OFFSET: Final = re.compile(r"([+-]?)(\d\d):(\d\d)", re.ASCII)
_FRACTION: Final = re.compile(r"(?<=:\d\d)[.,](\d{1,9})", re.ASCII)
SECOND: Final = 10**9


def read_timestamp(text: str) -> datetime:
    """RFC 3339, up to nanoseconds; raises ExpressionError."""
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        raise Unreadable(text, 'is no timestamp: 2026-03-01T02:10:00Z is one; date(text, "%d.%m.%Y") reads others')
    day, clock, fraction, where = found.groups()
    try:
        plain = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=UTC)
    except ValueError as error:
        raise Unreadable(text, f"is no moment: {error}") from None
    nanoseconds = instant(plain) + int((fraction or "").ljust(9, "0"))
    return moment(nanoseconds - (0 if where in "Zz" else _offset(where) * SECOND))


def write_timestamp(value: datetime) -> str:
    """RFC 3339 in UTC, with as many digits of a second as there are."""
    nanoseconds = instant(value)
    plain = value.astimezone(UTC)
    rest = nanoseconds % SECOND
    digits = f".{rest:09}".rstrip("0") if rest else ""
    return (
        f"{plain.year:04}-{plain.month:02}-{plain.day:02}T{plain.hour:02}:{plain.minute:02}:{plain.second:02}{digits}Z"
    )


def read_duration(text: str) -> timedelta:
    """`1h30m`, `-1.5s`, `250ms`; raises ExpressionError."""
    sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    parts = _PART.findall(rest)
    if rest == "0":
        return timedelta(0)
    if not parts or "".join(count + unit for count, unit in parts) != rest or len(rest) > 100:
        raise Unreadable(text, "is no duration: 1h30m is one")
    return span(sign * sum(int(Decimal(count) * _UNITS[unit]) for count, unit in parts))


def write_duration(value: timedelta) -> str:
    """In seconds, as protobuf's JSON has it: `5400s`, `0.25s`."""
    nanoseconds = length(value)
    whole, rest = divmod(abs(nanoseconds), SECOND)
    digits = f".{rest:09}".rstrip("0") if rest else ""
    return f"{'-' if nanoseconds < 0 else ''}{whole}{digits}s"


def _offset(text: str) -> int:
    found = _OFFSET.fullmatch(text)
    if found is None or int(found[2]) > 23 or int(found[3]) > 59:
        raise Unreadable(text, "is no offset: +02:00 is one")
    seconds = int(found[2]) * 3600 + int(found[3]) * 60
    return -seconds if found[1] == "-" else seconds


@lru_cache(maxsize=100)
def zone(name: str) -> tzinfo:
    """A zone by name or offset; raises ExpressionError."""
    if _OFFSET.fullmatch(name):
        return timezone(timedelta(seconds=_offset(name)))
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise Unreadable(name, "is no time zone: Europe/Berlin is one, +02:00 too") from None


def _getter(name: str, of_moment: Callable[[datetime], int], of_span: int | None = None) -> Callable[..., int]:
    """A part of a timestamp in a zone (UTC), or of a duration as a whole number of `of_span` nanoseconds."""

    def get(value: Any, where: Any = None) -> int:
        if isinstance(value, datetime):
            if where is not None and type(where) is not str:
                raise Mismatch(f"{name}()", where, at=1)
            return of_moment(value.astimezone(UTC if where is None else zone(where)))
        if of_span is not None and where is None and isinstance(value, timedelta):
            whole = length(value)
            return -(-whole // of_span) if whole < 0 else whole // of_span
        raise Mismatch(f"{name}()", value)

    return get


def _milliseconds(value: Any, where: Any = None) -> int:
    if isinstance(value, timedelta) and where is None:
        whole = length(value)
        part = abs(whole) % SECOND // 10**6
        return -part if whole < 0 else part
    return _getter("getMilliseconds", lambda at: at.microsecond // 1000)(value, where)


GETTERS: Final = {
    "getFullYear": _getter("getFullYear", lambda at: at.year),
    "getMonth": _getter("getMonth", lambda at: at.month - 1),
    "getDate": _getter("getDate", lambda at: at.day),
    "getDayOfMonth": _getter("getDayOfMonth", lambda at: at.day - 1),
    "getDayOfWeek": _getter("getDayOfWeek", lambda at: at.isoweekday() % 7),
    "getDayOfYear": _getter("getDayOfYear", lambda at: at.timetuple().tm_yday - 1),
    "getHours": _getter("getHours", lambda at: at.hour, 3600 * SECOND),
    "getMinutes": _getter("getMinutes", lambda at: at.minute, 60 * SECOND),
    "getSeconds": _getter("getSeconds", lambda at: at.second, SECOND),
    "getMilliseconds": _milliseconds,
}


class Dates:
    """Dates by a format of strftime, in the zone of the bus where the text names none."""

    def __init__(self, home: tzinfo) -> None:
        self._home = home

    def _zone(self, where: Any, function: str) -> tzinfo:
        if where is None:
            return self._home
        if type(where) is not str:
            raise Mismatch(function, where, at=2)
        return zone(where)

    def read(self, value: Any, form: Any, where: Any = None) -> datetime:
        """`date("24.12.2026", "%d.%m.%Y")`: that moment; a format with %z takes the offset from the text."""
        if type(value) is not str or type(form) is not str:
            raise Mismatch("date()", *((form,) if type(value) is str else (value,)), at=int(type(value) is str))
        text, fraction = value, ""
        if "%f" in form and (found := _FRACTION.search(value)) and len(found[1]) > 6:
            text, fraction = value[: found.start(1) + 6] + value[found.end() :], found[1][6:]
        try:
            plain = datetime.strptime(text, form)
            if plain.tzinfo is None:
                plain = plain.replace(tzinfo=self._zone(where, "date()"))
            return moment(instant(plain) + int(fraction.ljust(3, "0") or "0"))
        except (ValueError, re.error):
            raise Unreadable(value, f'is no date of the form "{form[:40]}"') from None

    def write(self, value: Any, form: Any, where: Any = None) -> str:
        """`formatDate(now, "%d.%m.%Y %H:%M")`: in the bus's zone, or in the one named."""
        if not isinstance(value, datetime) or type(form) is not str:
            moment_given = isinstance(value, datetime)
            raise Mismatch("formatDate()", form if moment_given else value, at=int(moment_given))
        return write_date(value.astimezone(self._zone(where, "formatDate()")), form)


def write_date(value: datetime, form: str) -> str:
    """strftime with four digits of the year everywhere (C writes 1 for the year 1)."""
    form = re.sub(r"%%|%Y", lambda found: found[0] if found[0] == "%%" else f"{value.year:04}", form)
    try:
        return value.strftime(form)
    except ValueError as error:
        raise Unreadable(form, f"is no format of a date: {error}") from None
