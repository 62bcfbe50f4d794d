"""Random expressions give what another CEL engine gives: Rust's cel, by the package common-expression-language."""

from __future__ import annotations

from typing import Any

import cel
import pytest
from generated_cel import BODY, expression
from hypothesis import given, settings
from hypothesis import strategies as st

from esb.errors import ExpressionError
from esb.expressions import Environment, ExpressionProblems
from esb.expressions.values import type_name

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


_SOUP = st.lists(
    st.sampled_from(
        [
            "body",
            "header",
            ".",
            "?",
            "[",
            "]",
            "(",
            ")",
            "{",
            "}",
            ",",
            ":",
            "&&",
            "||",
            "!",
            "-",
            "+",
            "*",
            "/",
            "%",
            "==",
            "!=",
            "<",
            ">",
            "<=",
            "in",
            "1",
            "2u",
            "1.5",
            "0x1F",
            "'a'",
            '"b"',
            "b'c'",
            "r'\\d'",
            "true",
            "null",
            "has",
            "all",
            "exists",
            "map",
            "filter",
            "size",
            "int",
            "decimal",
            "default",
            "optional",
            "cel.bind",
            "x",
            "text",
            "numbers",
            "lines",
            "`a-b`",
            ".?",
            "[?",
            "?x",
            "now",
            "string",
            "format",
            "math.greatest",
            "optional.of",
            "orValue",
            "optMap",
            "dyn",
            "type",
            "'",
            '"',
            "\\",
            "@",
            "#",
            "é",
            "//",
            "{{",
            "}}",
            "=",
            "and",
            "not",
            "if",
            "=>",
            "9223372036854775807",
            "date",
        ]
    )
)


@given(_SOUP, st.sampled_from(["", " "]))
@settings(max_examples=500, deadline=None)
def test_tokens_in_a_row_are_an_expression_or_have_findings_within_the_text(words: list[str], between: str) -> None:
    text = between.join(words)
    for compiled in (Environment().compile, Environment(checked=False).compile, Environment().compile_template):
        try:
            compiled(text)
        except ExpressionProblems as problems:
            assert problems.findings
            assert all(0 <= found.offset <= len(text) and found.length > 0 for found in problems.findings)


@given(st.integers(0, 2**48))
@settings(max_examples=300, deadline=None)
def test_a_value_is_of_the_type_that_was_known_before_and_an_error_has_its_place(seed: int) -> None:
    text = expression(seed)
    program = ENVIRONMENT.compile(text)
    try:
        value = program.evaluate(SCOPE)
    except ExpressionError as failed:
        assert failed.text == text
        assert 0 <= failed.offset <= len(text)
        assert str(failed)
    else:
        assert program.type in ("dyn", type_name(value))
