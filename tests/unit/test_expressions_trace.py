"""Trace: the value of every leaf, and which one decided."""

from __future__ import annotations

import pytest
from expression_scope import ENVIRONMENT, SCOPE
from generated_cel import BODY, expression
from hypothesis import given, settings
from hypothesis import strategies as st

from esb.errors import ExpressionError
from esb.expressions import Environment, Trace


def trace(text: str) -> Trace:
    return ENVIRONMENT.compile(text).trace(SCOPE)


@pytest.mark.parametrize(
    ("text", "value", "leaves"),
    [
        ("body.Order.count > 3 && body.Order.Country == 'AT'", False, [(True, False), (False, True)]),
        ("body.Order.count > 3 && body.Order.Country == 'DE'", True, [(True, True), (True, True)]),
        ("body.Order.count > 9 || body.Order.paid", True, [(False, False), (True, True)]),
        ("body.Order.count > 9 || !body.Order.paid", False, [(False, True), (True, True)]),
        ("body.Order.paid ? body.Order.count : body.Order.note", 5, [(True, True), (5, True), (None, False)]),
        ("body.Order.Lines.Line.exists(l, l.Sku == 'B')", True, [(True, True)]),
        ("(body.Order.paid || true) && (false || body.Order.count == 5)", True, [(True, True), (True, False), (False, False), (True, True)]),
    ],
)  # fmt: skip
def test_the_leaves_have_their_values_and_say_which_decided(
    text: str, value: object, leaves: list[tuple[object, bool]]
) -> None:
    found = trace(text)
    assert (found.value, found.error) == (value, None)
    assert [(leaf.value, leaf.decided) for leaf in found.leaves] == leaves


def test_a_leaf_is_shown_as_it_is_written_with_the_values_of_its_sides() -> None:
    first, second = trace("body.Order.count > var.limit && body.Order.Country in ['DE']").leaves
    assert (first.text, first.offset) == ("body.Order.count > var.limit", 0)
    assert first.sides == (("body.Order.count", 5), ("var.limit", 100))
    assert second.sides == (("body.Order.Country", "DE"), ("['DE']", ["DE"]))
    assert second.offset == 32


def test_a_missing_field_is_the_error_of_its_leaf_and_decides_where_nothing_else_does() -> None:
    found = trace("body.Order.zip == '1' && body.Order.paid")
    assert found.value is None
    assert found.error == "body.Order.zip is missing"
    assert [(leaf.error, leaf.decided) for leaf in found.leaves] == [("body.Order.zip is missing", True), (None, False)]
    ((_, side), _) = found.leaves[0].sides
    assert isinstance(side, ExpressionError)


def test_an_absorbed_error_does_not_decide() -> None:
    found = trace("body.Order.zip == '1' || body.Order.paid")
    assert found.value is True
    assert [leaf.decided for leaf in found.leaves] == [False, True]


@given(st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_a_trace_gives_the_value_that_evaluating_gives_and_some_leaf_decided(seed: int) -> None:
    program = Environment(checked=False).compile(expression(seed, 3))
    scope = {"body": BODY}
    found = program.trace(scope)
    try:
        value, error = program.evaluate(scope), None
    except ExpressionError as failed:
        value, error = None, str(failed)
    assert (found.value, found.error) == (value, error)
    assert any(leaf.decided for leaf in found.leaves)
