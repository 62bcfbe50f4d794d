"""Numbers: 64-bit whole numbers with range errors, exact decimals, doubles, and what mixes with what."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from expression_scope import error, value
from hypothesis import given
from hypothesis import strategies as st

from esb.expressions import Uint

D = Decimal


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("7 / 2", 3),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("7u % 4u", Uint(3)),
        ("int('007')", 7),
        ("int(' 12 '.trim())", 12),
        ("int(3.99)", 3),
        ("int(decimal('-3.99'))", -3),
        ("uint('42')", Uint(42)),
        ("double('1.5')", 1.5),
        ("double(decimal('0.1'))", 0.1),
        ("0x10 + 1", 17),
        ("1 == 1.0 && 1u == 1 && 2.5 > 2", True),
        ("1 == 2 || 'a' == 'b'", False),
        ("math.greatest(1, 2.5, 3u)", Uint(3)),
        ("math.least([4, 2, 8])", 2),
        ("math.greatest(decimal('1.5'), 1.25, 1)", D("1.5")),
    ],
)
def test_whole_numbers_and_doubles_follow_the_spec(text: str, result: Any) -> None:
    assert value(text) == result
    assert type(value(text)) is type(result)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("decimal('0.1') + decimal('0.2') == decimal('0.3')", True),
        ("decimal('10.10') + 1", D("11.10")),
        ("1 - decimal('0.9')", D("0.1")),
        ("decimal('1.10') * 3", D("3.30")),
        ("decimal('1') / 3", D("0.3333333333333333333333333333333333")),
        ("decimal('7.5') % 2", D("1.5")),
        ("-decimal('1.50')", D("-1.50")),
        ("decimal(0.1)", D("0.1")),
        ("decimal(1) / 8", D("0.125")),
        ("decimal(' 12.50 ')", D("12.50")),
        ("decimal('1e3')", D("1e3")),
        ("decimal('123456789012345678901234567890') + 1", D("123456789012345678901234567891")),
        ("body.price * 1.19", D("12.0190")),
        ("1.19 * body.price", D("12.0190")),
        ("body.price == 10.1 && body.price >= 10.10 && 10.2 > body.price", True),
        ("body.price > 10 && body.price < 11u", True),
        ("round(body.price * 1.19, 2)", D("12.02")),
        ("round('2.345', 2)", D("2.35")),
        ("roundEven('2.345', 2)", D("2.34")),
        ("round(2)", D("2")),
        ("floor('-2.5')", -3),
        ("ceil(body.price)", 11),
        ("string(body.price)", "10.10"),
        ("string(decimal('1e3'))", "1000"),
        ("body.big > 9223372036854775807", True),
        ("[body.price].exists(p, p == 10.1)", True),
    ],
)
def test_decimals_are_exact(text: str, result: Any) -> None:
    found = value(text, body={"price": D("10.10"), "big": D(2**70)})
    assert found == result
    assert type(found) is type(result)
    assert str(found) == str(result)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("9223372036854775807 + body.one", "M255"),
        ("-9223372036854775808 - body.one", "M255"),
        ("4611686018427387904 * (body.one + 1)", "M255"),
        ("-9223372036854775808 / -body.one", "M255"),
        ("-(body.one - 9223372036854775807 - 2)", "M255"),
        ("uint(0 - body.one)", "M255"),
        ("0u - uint(body.one)", "M255"),
        ("int(double(body.one) * 1e30)", "M255"),
        ("int(body.big)", "M255"),
        ("int(body.huge)", "M255"),
        ("body.one / 0", "M257"),
        ("body.one % 0", "M257"),
        ("decimal(body.one) / 0", "M257"),
        ("body.price + double(body.one)", "M256"),
        ("body.price == double(body.one)", "M256"),
        ("body.price < double(body.one)", "M256"),
        ("[body.price].exists(p, p == double(body.one))", "M256"),
        ("body.one * 1.5", "M254"),
        ("body.one + 1u", "M254"),
        ("body.price * decimal('1e9999')", "M255"),
        ("string(decimal('1e5000'))", "M255"),
        ("decimal(body.text)", "M259"),
        ("decimal(body.nan)", "M259"),
        ("decimal(body.score)", "M259"),
        ("int(body.text)", "M259"),
        ("double(body.text)", "M259"),
        ("decimal(double('inf') * double(body.one))", "M259"),
        ("round(body.one, 1000)", "M254"),
        ("body.yes < 1", "M254"),
        ("body.yes + 1", "M254"),
    ],
)
def test_what_is_out_of_range_or_not_exact_is_an_error(text: str, code: str) -> None:
    body = {
        "one": 1, "big": D(2**70), "price": D("10.1"), "text": "12 EUR", "nan": "NaN", "score": "1_000", "yes": True,
        "huge": D("1e999999"),
    }  # fmt: skip
    assert error(text, body=body).code == code


def test_a_double_literal_is_a_plain_double_wherever_no_decimal_is_beside_it() -> None:
    given = value(
        "[1.5, dyn(1.5), optional.of(1.5).value(), default(body.x, 1.5), -(1.5), math.least(1.5, 2.5)]", body={}
    )
    assert [type(item) for item in given] == [float] * 6


def test_a_number_is_never_a_truth() -> None:
    assert value("body.yes == 1", body={"yes": True}) is False
    assert value("body.one == true", body={"one": 1}) is False
    assert value("body.yes in [1]", body={"yes": True}) is False
    assert value("body.list == [true]", body={"list": [1]}) is False
    assert value("[1, true][1] == body.yes", body={"yes": True}) is True


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4), st.integers(-(2**62), 2**62))
def test_adding_and_taking_away_gives_the_same_digits_back(price: Decimal, count: int) -> None:
    found = value("(body.price + body.count - body.count) == body.price", body={"price": price, "count": count})
    assert found is True


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1).filter(bool))
def test_quotient_and_remainder_fit_together(one: int, other: int) -> None:
    if (one, other) != (-(2**63), -1):
        assert value("(body.a / body.b) * body.b + body.a % body.b", body={"a": one, "b": other}) == one
