"""What keeps an expression from running away: steps, sizes, depth, and who may stop it."""

from __future__ import annotations

import gc
import time

import pytest
from expression_scope import ENVIRONMENT, SCOPE, error, finding, value

from esb.errors import BudgetExceeded, ExpressionError, StepTimeout
from esb.expressions import Environment, ExpressionProblems

LONG = {"items": list(range(1000)), "text": "x" * 10_000}


@pytest.mark.parametrize(
    "text",
    [
        "body.items.map(a, body.items.map(b, body.items.map(c, 1)))",
        "body.items.exists(a, body.items.exists(b, body.items.exists(c, false)))",
        "body.items.all(a, body.items.all(b, body.items.all(c, c > -1))) || true",
        "default(body.items.map(a, body.items.map(b, body.items)).filter(x, body.items.map(b, b) == x), 1)",
        "body.items.map(a, body.items == body.items).map(a, body.items == body.items)",
        "body.items.map(a, body.text.replace('x', 'yyyyyyyyyyyy'))",
        "body.items.map(a, body.items.map(b, body.text + body.text))",
        "body.items.map(a, body.items + body.items).map(a, a + a)",
        "body.items.map(a, body.text.split(''))",
    ],
)
def test_the_budget_stops_what_runs_away_and_nothing_absorbs_that(text: str) -> None:
    begun = time.perf_counter()
    failed = error(text, body=LONG)
    assert isinstance(failed, BudgetExceeded)
    assert failed.code == "M252"
    assert failed.text == text
    assert time.perf_counter() - begun < 5


def test_a_text_cannot_grow_beyond_what_memory_holds() -> None:
    text = "'a'"
    for _ in range(30):
        text = f"{text}.replace('a', 'aaaaaaaaaa')"
    begun = time.perf_counter()
    assert isinstance(error(text), BudgetExceeded)
    assert time.perf_counter() - begun < 5


def test_the_budget_is_the_environments_and_starts_anew_with_each_evaluation() -> None:
    small = Environment(budget=100).compile("body.items.map(a, a).size() > 0")
    with pytest.raises(BudgetExceeded, match="over 100 steps"):
        small.evaluate({"body": LONG})
    exact = Environment(budget=1000).compile("body.items.map(a, a).size() > 0")
    for _ in range(5):
        assert exact.evaluate({"body": LONG}) is True


def test_no_pattern_can_hang() -> None:
    begun = time.perf_counter()
    assert value("body.matches('^(a+)+$')", body="a" * 5000 + "b") is False
    assert time.perf_counter() - begun < 1


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000,
        "(" * 60 + "1" + ")" * 60,
        "[" * 60 + "]" * 60,
        "!" * 1000 + "true",
        "-" * 1000 + "1",
        "body" + ".a" * 500,
        "+".join(["body.a"] * 500),
        " ".join(["body.a ? 1 :"] * 500) + " 2",
        "{1:" * 60 + "1" + "}" * 60,
        "1+" * 15_000 + "1",
    ],
)
def test_what_is_too_deep_or_too_long_is_a_finding(text: str) -> None:
    assert finding(text).code == "E225"


def test_what_is_within_the_limits_compiles_and_runs() -> None:
    assert value("(" * 49 + "7" + ")" * 49) == 7
    assert value("!" * 100 + "true") is True
    assert value("+".join(["body"] * 100), body=1) == 100
    assert value(" || ".join(f"body == {number}" for number in range(1000)), body=999) is True
    assert value(" ".join(f"body == {number} ? {number} :" for number in range(100)) + " -1", body=99) == 99


def test_deep_nesting_of_every_kind_runs() -> None:
    text = "body.paid"
    for depth in range(40):
        operator = "&&" if depth % 2 else "||"
        text = f"({text} {operator} {'true' if depth % 2 else 'body.zip'})"
    assert value(text, body={"paid": True}) is True
    loops = "x0 == 1 && x19 == 2"
    for depth in reversed(range(20)):
        loops = f"[1, 2].exists(x{depth}, {loops})"
    assert value(loops) is True
    ternaries = "1"
    for _ in range(40):
        ternaries = f"(body ? {ternaries} : 0)"
    assert value(ternaries, body=True) == 1


def test_a_value_that_is_too_deep_to_compare_is_an_error() -> None:
    def deep() -> dict[str, object]:
        tree: dict[str, object] = {}
        for _ in range(50_000):
            tree = {"a": tree}
        return tree

    assert "nested too deeply" in str(error("body.a == body.b", body={"a": deep(), "b": deep()}))


def test_a_step_that_was_stopped_is_not_absorbed() -> None:
    def stopped() -> bool:
        raise StepTimeout("over 2 s")

    environment = Environment({"stopped": stopped})
    for text in (
        "stopped() || true",
        "[1].exists(x, stopped()) || true",
        "default(stopped(), 1)",
        "optional(stopped())",
    ):
        program = environment.compile(text)
        with pytest.raises(StepTimeout):
            program.evaluate({})
        with pytest.raises(StepTimeout):
            program.trace({})


@pytest.mark.parametrize(
    "text",
    [
        "body.zip == '1'",
        "body.zip == '1' && body.town == '2'",
        "body.lines.exists(l, l.zip == 1)",
        "(body.zip == 1 && true) || body.lines.exists(l, l.zip == 1) || false",
        "default(body.zip, 1)",
        "int('x' + body.s)",
        "body.n > 'x'",
    ],
)
def test_an_error_leaves_no_garbage_behind(text: str) -> None:
    program = ENVIRONMENT.compile(text)
    scope = {"body": {"lines": [{}, {}], "s": "y", "n": 1}}

    def fail() -> None:
        try:
            program.evaluate(scope)
        except ExpressionError as failed:
            str(failed)

    fail()
    gc.collect()
    gc.disable()
    try:
        fail()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_checking_an_expression_compiles_nothing() -> None:
    program = Environment().compile("body.a == 1")
    assert program._failures is None
    assert program.evaluate({"body": {"a": 1}}) is True
    assert program._failures is not None


def test_a_text_is_compiled_once() -> None:
    environment = Environment()
    assert environment.compile("body.a == 1") is environment.compile("body.a == 1")
    assert environment.compile_template("{body.a}") is environment.compile_template("{body.a}")


def test_an_expression_that_was_refused_is_refused_again() -> None:
    environment = Environment()
    for _ in range(2):
        with pytest.raises(ExpressionProblems):
            environment.compile("body.a = 1")


def test_a_scope_is_only_read() -> None:
    before = repr(SCOPE)
    value("body.Order.Lines.Line.map(l, {'a': l}).filter(m, has(m.a)) + [1]")
    assert repr(SCOPE) == before
