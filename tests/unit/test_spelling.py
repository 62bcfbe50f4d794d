"""Numbers and moments have one spelling in every text format, and encodings one name."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from esb.spelling import spell_moment, spell_number
from esb.units import Encoding, decode_option


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (True, "1"),
        (Decimal("1.50"), "1.50"),
        (Decimal("1E+3"), "1000"),
        (Decimal("1E-7"), "0.0000001"),
        (Decimal("-0.0"), "-0.0"),
        (0.1, "0.1"),
        (1e22, "1e+22"),
    ],
)
def test_numbers_keep_every_digit(value: Any, text: str) -> None:
    assert spell_number(value) == text


@pytest.mark.parametrize(
    "value", [Decimal("NaN"), Decimal("Infinity"), float("nan"), float("-inf"), Decimal("1E+99999")]
)
def test_what_is_no_number_or_a_giant_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"no number|written out"):
        spell_number(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=timezone(timedelta(hours=-5))), "2026-01-02T03:04:05.000600-05:00"),
        (datetime(2026, 1, 2), "2026-01-02T00:00:00Z"),
        (date(2026, 1, 2), "2026-01-02"),
        (timedelta(minutes=1), "60s"),
        (timedelta(0), "0s"),
        (timedelta(microseconds=-1500), "-0.0015s"),
        (timedelta(days=100), "8640000s"),
    ],
)
def test_moments_are_rfc_3339_and_durations_seconds(value: Any, text: str) -> None:
    assert spell_moment(value) == text


@pytest.mark.parametrize(
    ("given", "name"), [("UTF-8", "utf-8"), ("latin1", "iso8859-1"), ("windows-1252", "cp1252"), ("utf-16", "utf-16")]
)
def test_an_encoding_is_known_by_any_of_its_names(given: str, name: str) -> None:
    assert decode_option(Encoding, given) == name


@pytest.mark.parametrize("given", ["utf-7", "iso-2022-jp", "hz", "punycode", "rot13", "base64", "x-unknown", "", 5])
def test_an_encoding_that_hides_characters_or_is_none_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="write for example"):
        decode_option(Encoding, given)
