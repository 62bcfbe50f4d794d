"""Words for quantities."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esb.units import Duration, Percent, Rate, Secret, Size, Template, UrlTemplate, decode_option, encode_option


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2s", 2), ("250ms", 0.25), ("1h30m", 5400), ("7d", 604800), ("2w", 1209600), ("1.5m", 90), ("0s", 0)],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize(
    ("given", "hint"),
    [(30, 'write "30s"'), ("30", 'write "30s"'), ("30 sec", "is not a duration"), ("1s2", "is not"), (True, "not a")],
)
def test_a_duration_without_its_unit_is_told_the_right_spelling(given: object, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        Duration.parse(given)


@pytest.mark.parametrize(("text", "size"), [("5MB", 5_000_000), ("5MiB", 5_242_880), ("1.5kB", 1500), ("7B", 7)])
def test_a_size_is_bytes(text: str, size: int) -> None:
    assert Size.parse(text) == size


@pytest.mark.parametrize("given", ["5", 5, "5mb", "MB", "-1MB"])
def test_a_size_without_its_unit_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match="size"):
        Size.parse(given)


def test_a_rate_is_a_count_in_a_time() -> None:
    assert Rate.parse("300/m").per_second == 5
    assert str(Rate.parse("50/s")) == "50/s"


@pytest.mark.parametrize("given", ["0/s", "50", 50, "50/x"])
def test_a_rate_without_its_time_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match="rate"):
        Rate.parse(given)


def test_a_percent_is_a_share() -> None:
    assert Percent.parse("20%") == 0.2
    assert str(Percent.parse("20%")) == "20%"


@given(st.integers(min_value=0, max_value=10**9))
def test_a_duration_printed_reads_back_as_itself(milliseconds: int) -> None:
    duration = Duration(milliseconds / 1000)
    assert Duration.parse(str(duration)) == pytest.approx(float(duration))


@given(st.integers(min_value=0, max_value=10**12))
def test_a_size_printed_reads_back_as_itself(count: int) -> None:
    assert Size.parse(str(Size(count))) == count


def test_a_literal_secret_is_refused_and_a_reference_never_prints() -> None:
    with pytest.raises(ValueError, match="by reference"):
        decode_option(Secret, "hunter2")
    secret = decode_option(Secret, "secret:erp")
    assert "erp" not in repr(secret)
    assert encode_option(secret) == "***"


def test_a_template_keeps_the_type_that_says_how_it_is_escaped() -> None:
    assert type(decode_option(UrlTemplate, "http://x/{body.id}")) is UrlTemplate
    assert isinstance(decode_option(UrlTemplate, "x"), Template)
