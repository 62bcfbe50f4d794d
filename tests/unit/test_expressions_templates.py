"""Texts with `{CEL}` in them: typed values, plain texts, and the escaping of the place they go to."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import pytest
from expression_scope import ENVIRONMENT, SCOPE
from hypothesis import given
from hypothesis import strategies as st

from esb.errors import ExpressionError, MissingField
from esb.expressions import ExpressionProblems, Program

COMPILE = ENVIRONMENT.compile_template


def fill(text: str, quote: str | None = None, **more: Any) -> Any:
    return COMPILE(text).fill({**SCOPE, **more}, quote)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{body.Order.count}", 5),
        ("{body.Order.price}", Decimal("10.10")),
        ("{body.Order.paid}", True),
        ("{body.Order.Lines.Line[0]}", {"Sku": "A", "Qty": "3"}),
        ("{raw}", b"<Order/>"),
        ("{now}", datetime(2026, 3, 1, 2, 10, tzinfo=UTC)),
        ("{body.?Order.?Country}", "DE"),
    ],
)
def test_exactly_one_placeholder_gives_the_value_with_its_type(text: str, result: Any) -> None:
    assert fill(text) == result
    assert type(fill(text)) is type(result)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("order {body.Order.count}", "order 5"),
        ("{body.Order.price} EUR", "10.10 EUR"),
        (" {body.Order.paid}", " true"),
        ("{now}.", "2026-03-01T02:10:00Z."),
        ("{duration('90s')}!", "90s!"),
        ("{raw}\n", "<Order/>\n"),
        ("{double('2.50')};", "2.5;"),
        ("a{{b}}c", "a{b}c"),
        ("{{{body.Order.count}}}", "{5}"),
        ("{{}}", "{}"),
        ("no placeholder", "no placeholder"),
        ("", ""),
        ("{ {'a': '}'}['a'] }{\"{\"}", "}{"),
        ("{'it\\'s'} {body.Order.Country}", "it's DE"),
        ("{body.Order.Country}{body.Order.count}", "DE5"),
    ],
)
def test_other_templates_give_text(text: str, result: str) -> None:
    assert fill(text) == result


def test_a_template_without_placeholder_is_constant() -> None:
    assert COMPILE("a{{b}}").constant == "a{b}"
    assert COMPILE("").constant == ""
    assert COMPILE("{body.x}").constant is None
    assert COMPILE("a{body.x}").constant is None


def test_the_segments_are_texts_and_programs_in_order() -> None:
    first, second, third = COMPILE("a{body.Order.count}{{b").segments
    assert (first, third) == ("a", "{b")
    assert isinstance(second, Program)
    assert second.text == "body.Order.count"
    assert second.text_value(SCOPE, "url") == "5"


def test_a_url_percent_encodes_each_value_and_leaves_the_text_around_alone() -> None:
    url = "https://a.example/o/{body.id}?q={body.q}"
    assert fill(url, "url", body={"id": "a/b c", "q": "x&y=ü"}) == "https://a.example/o/a%2Fb%20c?q=x%26y%3D%C3%BC"


@given(st.text())
def test_a_url_gives_every_text_back(text: str) -> None:
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        filled = fill("/{body}/", "url", body=text)
        assert unquote(filled) == f"/{text}/"
        assert filled.count("/") == 2


@pytest.mark.parametrize("text", ["a\rb", "a\nb", "a\0b"])
def test_a_header_refuses_line_breaks_and_nul(text: str) -> None:
    with pytest.raises(ExpressionError, match="cannot stand in a header") as caught:
        fill("x-{body}", "header", body=text)
    assert caught.value.code == "M262"


@pytest.mark.parametrize("text", ["../x", "a/b", "a\\b", "a\0b", ".hidden", "-rf", ""])
def test_a_file_name_refuses_what_would_lead_elsewhere(text: str) -> None:
    with pytest.raises(ExpressionError, match="cannot stand in a file's name") as caught:
        fill("o-{body}.xml", "file", body=text)
    assert caught.value.code == "M262"
    assert fill("o-{body}.xml", "file", body="4711.b") == "o-4711.b.xml"


@pytest.mark.parametrize("quote", [None, "url", "header", "file"])
def test_null_and_what_is_no_text_are_errors(quote: str | None) -> None:
    for text in ("x{body.Order.note}", "x{body.?Order.?zip}", "x{body.Order}", "x{[1]}"):
        with pytest.raises(ExpressionError) as caught:
            fill(text, quote)
        assert caught.value.code == "M261"


def test_null_alone_is_an_error_and_a_missing_field_says_so() -> None:
    with pytest.raises(ExpressionError, match=r"\{body.Order.note\} is null, and a template needs a value"):
        fill("{body.Order.note}")
    with pytest.raises(MissingField, match=r"body.Order.zip is missing"):
        fill("{body.Order.zip}")
    assert fill("{default(body.Order.zip, 'none')}") == "none"


@pytest.mark.parametrize(
    ("text", "code", "offset", "hint"),
    [
        ("a}b", "E226", 1, "write }} for a brace"),
        ("a{b", "E226", 1, "write {{ for a brace"),
        ("a{}", "E226", 1, "write {{}} for the braces"),
        ("abc {body.x = 1}", "E220", 12, "compare with =="),
        ("{body.x} {boddy.x}", "E221", 10, 'did you mean "body"?'),
        ("{{ {len(body.x)}", "E222", 4, "write size(x)"),
        ("{body.x 1}", "E220", 8, ""),
    ],
)
def test_the_offsets_of_findings_count_in_the_whole_text(text: str, code: str, offset: int, hint: str) -> None:
    with pytest.raises(ExpressionProblems) as caught:
        COMPILE(text)
    (found,) = caught.value.findings
    assert (found.code, found.offset, found.hint) == (code, offset, hint)


def test_every_placeholder_is_checked() -> None:
    with pytest.raises(ExpressionProblems) as caught:
        COMPILE("{Body.x} and {size(body.x) == 'a'}")
    assert [found.offset for found in caught.value.findings] == [1, 14]
