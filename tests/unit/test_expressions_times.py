"""Timestamps and durations: RFC 3339 to the nanosecond, parts in a zone, dates by a format."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from expression_scope import SCOPE, error, finding, value
from hypothesis import given
from hypothesis import strategies as st

from esb.expressions import Environment, Moment, Span

NANO = "2026-03-01T02:10:00.123456789Z"


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("timestamp('2026-03-01T02:10:00Z')", datetime(2026, 3, 1, 2, 10, tzinfo=UTC)),
        ("timestamp('2026-03-01T02:10:00+02:00')", datetime(2026, 3, 1, 0, 10, tzinfo=UTC)),
        ("timestamp(0)", datetime(1970, 1, 1, tzinfo=UTC)),
        ("int(timestamp('1969-12-31T23:59:59.5Z'))", -1),
        ("now - timestamp('2026-03-01T00:10:00Z') == duration('2h')", True),
        ("now + duration('36h') > now", True),
        ("duration('1h30m') == duration(5400)", True),
        ("duration('-1.5s').getMilliseconds()", -500),
        ("duration('90m').getHours()", 1),
        ("string(duration('1h') + duration('1ms'))", "3600.001s"),
        ("now.getHours('Europe/Berlin')", 3),
        ("now.getDayOfWeek()", 0),
        ("now.getMonth() == 2 && now.getDate() == 1 && now.getDayOfMonth() == 0", True),
        ("string(timestamp('2026-03-01T02:10:00.120Z'))", "2026-03-01T02:10:00.12Z"),
        (f"string(timestamp('{NANO}'))", NANO),
        (f"timestamp('{NANO}') - timestamp('2026-03-01T02:10:00.123456788Z') == duration('1ns')", True),
        (f"timestamp('{NANO}') > timestamp('2026-03-01T02:10:00.123456788Z')", True),
        (f"timestamp('{NANO}') == timestamp('2026-03-01T02:10:00.123456Z')", False),
        ("duration('1ns') < duration('2ns')", True),
        ("string(-duration('1500ns'))", "-0.0000015s"),
        ("formatDate(now, '%d.%m.%Y %H:%M')", "01.03.2026 02:10"),
        ("formatDate(now, '%H:%M', 'Asia/Kathmandu')", "07:55"),
        ("now.formatDate('100%%')", "100%"),
        ("date('24.12.2026', '%d.%m.%Y')", datetime(2026, 12, 24, tzinfo=UTC)),
        ("date('24.12.2026 10:00', '%d.%m.%Y %H:%M', 'Europe/Berlin')", datetime(2026, 12, 24, 9, tzinfo=UTC)),
        ("date('2026-12-24T10:00:00+0100', '%Y-%m-%dT%H:%M:%S%z')", datetime(2026, 12, 24, 9, tzinfo=UTC)),
        ("string(date('10:00:00.123456789 24.12.2026', '%H:%M:%S.%f %d.%m.%Y'))", "2026-12-24T10:00:00.123456789Z"),
    ],
)
def test_times_are_read_written_and_worked_with(text: str, result: Any) -> None:
    assert value(text) == result


@pytest.mark.parametrize(
    "text",
    ["timestamp('24.12.2026')", "timestamp('2026-02-30T00:00:00Z')", "duration('1 hour')", "now.getHours('Mars')"],
)
def test_a_constant_that_is_no_time_is_found_before_any_message(text: str) -> None:
    assert finding(text).code == "E227"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("timestamp(body.text)", "M259"),
        ("duration(body.text)", "M259"),
        ("now.getHours(body.text)", "M259"),
        ("date(body.text, '%d.%m.%Y')", "M259"),
        ("date('24.12.2026', body.text)", "M259"),
        ("timestamp('9999-12-31T23:59:59.999999999Z') + duration('1ns')", "M255"),
        ("timestamp('0001-01-01T00:00:00Z') - duration('1ns')", "M255"),
        ("duration('200000000000s') + duration('200000000000s')", "M255"),
        ("timestamp(body.many)", "M255"),
        ("now + body.one", "M254"),
        ("date(body.one, '%d')", "M254"),
        ("formatDate(body.text, '%d')", "M254"),
        ("now.getHours(body.one)", "M254"),
    ],
)
def test_what_is_no_time_or_out_of_range_is_an_error(text: str, code: str) -> None:
    assert error(text, body={"text": "soon", "many": 2**60, "one": 1}).code == code


def test_dates_without_an_offset_stand_in_the_bus_zone() -> None:
    berlin = Environment(zone=ZoneInfo("Europe/Berlin"))
    read = berlin.compile("date('24.12.2026', '%d.%m.%Y')").evaluate({})
    assert read == datetime(2026, 12, 23, 23, tzinfo=UTC)
    assert berlin.compile("formatDate(now, '%H:%M')").evaluate(SCOPE) == "03:10"


def test_nanoseconds_are_values_of_datetime_that_keep_them() -> None:
    moment, span = value(f"timestamp('{NANO}')"), value("duration('1us') + duration('1ns')")
    assert isinstance(moment, Moment)
    assert moment.isoformat() == "2026-03-01T02:10:00.123456789+00:00"
    assert moment > datetime(2026, 3, 1, 2, 10, 0, 123456, UTC)
    assert datetime(2026, 3, 1, 2, 10, 0, 123456, UTC) < moment
    assert moment != datetime(2026, 3, 1, 2, 10, 0, 123456, UTC)
    assert hash(moment) == hash(value(f"timestamp('{NANO}')"))
    assert isinstance(span, Span)
    assert span > timedelta(microseconds=1)
    assert span != timedelta(microseconds=1)


@given(st.datetimes(timezones=st.just(UTC)), st.integers(0, 999))
def test_a_timestamp_is_read_as_it_was_written(moment: datetime, rest: int) -> None:
    text = f"{moment.year:04}-{moment:%m-%dT%H:%M:%S}.{moment.microsecond:06}{rest:03}Z"
    read = value("timestamp(body)", body=text)
    assert value("timestamp(string(timestamp(body))) == timestamp(body)", body=text) is True
    assert read == moment if rest == 0 else read > moment


@given(
    st.datetimes(min_value=datetime(1000, 1, 1), max_value=datetime(9000, 1, 1), timezones=st.just(UTC)),
    st.integers(0, 10**15),
)
def test_adding_a_duration_and_taking_it_away_gives_the_moment_back(moment: datetime, nanoseconds: int) -> None:
    span = value(f"duration('{nanoseconds}ns')")
    assert value("now + body - body == now && (now + body) - now == body", now=moment, body=span) is True
