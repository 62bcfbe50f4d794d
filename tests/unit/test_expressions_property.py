"""Random expressions give what another CEL engine gives: Rust's cel, by the package common-expression-language."""

from __future__ import annotations

from typing import Any

import cel
import pytest
from generated_cel import BODY, expression
from hypothesis import given, settings
from hypothesis import strategies as st

from esb.errors import ExpressionError
from esb.expressions import Environment

FAILED = "an error"
ENVIRONMENT = Environment(variables=frozenset({"body"}), checked=False)
SCOPE = {"body": BODY}


def ours(text: str) -> Any:
    try:
        return ENVIRONMENT.compile(text).evaluate(SCOPE)
    except ExpressionError:
        return FAILED


def theirs(text: str) -> Any:
    try:
        return cel.evaluate(text, SCOPE)
    except (ValueError, TypeError, RuntimeError, KeyError, IndexError, ArithmeticError):
        return FAILED


def absorbed(text: str, mine: Any, other: Any) -> bool:
    """The other engine lets an error of an earlier item of `all` and `exists` win over a later one that decides."""
    return other == FAILED and mine != FAILED and (".all(" in text or ".exists(" in text)


@given(st.integers(0, 2**48))
@settings(max_examples=600, deadline=None)
def test_a_random_expression_gives_what_the_other_engine_gives(seed: int) -> None:
    text = expression(seed)
    mine, other = ours(text), theirs(text)
    assert (mine, type(mine)) == (other, type(other)) or absorbed(text, mine, other), text


@pytest.mark.parametrize(
    ("text", "mine", "other"),
    [
        pytest.param("size('ü€')", 2, 5, id="the size of a text counts characters, theirs counts octets of UTF-8"),
        pytest.param("string(true)", "true", FAILED, id="string() takes true and false, theirs does not"),
        pytest.param("-(-9223372036854775808)", FAILED, -(2**63), id="a minus may overflow, theirs does not notice"),
        pytest.param("!!body.one", FAILED, 1, id="! takes true or false only, theirs drops two of them unseen"),
        pytest.param("0.0 / 0.0 >= 1.0", False, FAILED, id="comparing with NaN is false, theirs fails"),
        pytest.param("[1, 'a'].exists(v, v == 'a' || 1)", True, FAILED, id="a later item decides over an error before"),
        pytest.param("dyn(1) == 1.0", True, True, id="numbers are compared across their types by both"),
    ],
)
def test_the_known_differences_are_these(text: str, mine: Any, other: Any) -> None:
    assert ours(text) == mine
    assert theirs(text) == other


def test_the_keys_of_a_map_come_in_its_order_and_theirs_in_any() -> None:
    assert ours("body.map.map(k, k)") == ["key", "count"]
    assert sorted(theirs("body.map.map(k, k)")) == ["count", "key"]
