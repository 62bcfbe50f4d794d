"""Case lists: the first true one, all of them, what was missing, and runs of comparisons as a lookup."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest
from expression_scope import ENVIRONMENT
from hypothesis import given
from hypothesis import strategies as st

from esb.errors import ExpressionError
from esb.expressions import Environment, Uint
from esb.expressions.cases import Run


def choose(texts: list[str | None], body: Any) -> Any:
    return ENVIRONMENT.compile_cases(texts).choose({"body": body})


def test_the_first_true_case_wins() -> None:
    texts = ["body.n > 10", "body.n > 5", "body.n > 1", None]
    assert choose(texts, {"n": 7}).index == 1
    assert choose(texts, {"n": 0}).index == 3
    assert choose(texts[:3], {"n": 0}).index is None


def test_all_true_cases_come_in_order() -> None:
    cases = ENVIRONMENT.compile_cases(["body.n > 1", "body.n > 5", "body.zip == 1", None])
    assert cases.matching({"body": {"n": 3}})[0] == [0, 3]


def test_a_missing_field_makes_its_case_false_and_is_told() -> None:
    choice = choose(["body.zip == '1'", "body.n > 10", "body.town.name == 'x'", None], {"n": 1})
    assert choice.index == 3
    assert [(index, error.place) for index, error in choice.missing] == [(0, "body.zip"), (2, "body.town")]


def test_a_missing_field_that_is_absorbed_is_none() -> None:
    choice = choose(["body.zip == '1' || body.n == 1", None], {"n": 1})
    assert (choice.index, choice.missing) == (0, ())


def test_any_other_error_stops_and_names_its_case() -> None:
    for texts, index in ((["body.n == 2", "int(body.s) > 1", None], 1), (["body.n", None], 0)):
        with pytest.raises(ExpressionError) as caught:
            choose(texts, {"n": 1, "s": "x"})
        assert caught.value.case == index  # type: ignore[attr-defined]
        assert caught.value.text == texts[index]


def test_what_is_neither_true_nor_false_is_an_error_of_its_case() -> None:
    with pytest.raises(ExpressionError, match="body.n is a whole number, where true or false is wanted") as caught:
        choose(["body.n"], {"n": 1})
    assert caught.value.code == "M253"


RUNS = [
    'body.code == "A"',
    'body.code in ["B", "C"]',
    '"D" == body.code',
    'body.code == "A" || body.code == "E"',
    "body.code == 7 || body.code in [8, 9]",
]


def test_a_run_of_comparisons_with_literals_is_one_lookup() -> None:
    cases = ENVIRONMENT.compile_cases([*RUNS, "body.n > 1", *RUNS, None])
    plan = cases._plan
    assert [type(step) for step in plan] == [Run, int, Run, int]


@pytest.mark.parametrize(
    ("code", "first", "every"),
    [
        ("A", 0, [0, 3]),
        ("B", 1, [1]),
        ("D", 2, [2]),
        ("E", 3, [3]),
        (7, 4, [4]),
        (Decimal("7.0"), 4, [4]),
        (7.0, 4, [4]),
        (Uint(9), 4, [4]),
        ("7", None, []),
        (True, None, []),
        (None, None, []),
        (["A"], None, []),
        ({"A": 1}, None, []),
        ("Z", None, []),
    ],
)
def test_a_lookup_finds_what_the_comparisons_would(code: Any, first: int | None, every: list[int]) -> None:
    cases = ENVIRONMENT.compile_cases(list(RUNS))
    assert cases.choose({"body": {"code": code}}).index == first
    assert cases.matching({"body": {"code": code}})[0] == every


@given(
    st.lists(
        st.sampled_from([*RUNS, "body.code == 'B'", "body.code in [1, 'A']", "body.n == 1", "body.code == true", None])
    ),
    st.sampled_from(["A", "B", "C", "E", 1, 7, 8.0, Decimal(9), True, None, [], "x"]),
    st.booleans(),
)
def test_a_case_list_chooses_what_its_expressions_say_one_by_one(
    texts: list[str | None], code: Any, there: bool
) -> None:
    scope = {"body": {"code": code, "n": 1} if there else {"n": 2}}
    true: list[int] = []
    missing: list[int] = []
    for index, text in enumerate(texts):
        try:
            if text is None or ENVIRONMENT.compile(text).evaluate(scope) is True:
                true.append(index)
        except ExpressionError:
            missing.append(index)
    cases = ENVIRONMENT.compile_cases(texts)
    choice = cases.choose(scope)
    first = true[0] if true else None
    assert choice.index == first
    assert [index for index, _ in choice.missing] == [index for index in missing if first is None or index < first]
    assert cases.matching(scope)[0] == true


def test_where_the_field_of_a_run_is_missing_every_case_of_it_is_false() -> None:
    choice = ENVIRONMENT.compile_cases([*RUNS, None]).choose({"body": {}})
    assert choice.index == 5
    assert [(index, error.place) for index, error in choice.missing] == [(n, "body.code") for n in range(5)]


def test_an_error_in_the_subject_of_a_run_names_its_first_case() -> None:
    cases = ENVIRONMENT.compile_cases(["false", *(f"int(body.s) == {n}" for n in range(5)), None])
    assert cases.choose({"body": {"s": "4"}}).index == 5
    with pytest.raises(ExpressionError, match="no whole number") as caught:
        cases.choose({"body": {"s": "x"}})
    assert caught.value.case == 1  # type: ignore[attr-defined]


def test_a_thousand_comparisons_cost_about_as_much_as_ten() -> None:
    scope = {"body": {"partner": "P9"}}
    took: dict[int, float] = {}
    for count in (10, 1000):
        cases = Environment().compile_cases([f'body.partner == "P{number}"' for number in reversed(range(count))])
        rounds = []
        for _ in range(7):
            begun = time.perf_counter()
            for _ in range(500):
                assert cases.choose(scope).index == count - 10
            rounds.append(time.perf_counter() - begun)
        took[count] = min(rounds)
    assert took[1000] < 4 * took[10]
