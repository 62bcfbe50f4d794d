"""What goes wrong on a message: the code, the place in the text, and a sentence that says what would be right."""

from __future__ import annotations

import pytest
from expression_scope import ENVIRONMENT, SCOPE, error

from esb.errors import ExpressionError, MissingField


@pytest.mark.parametrize(
    ("text", "code", "offset", "said"),
    [
        ("body.Order.count > 1 && body.Order.Totl > 3", "M251", 35, 'body.Order.Totl is missing; did you mean "Total"?'),
        ("body.Order.Country > 3", "M254", 0, "body.Order.Country is a text; write int(body.Order.Country)"),
        ("3 < body.Order.Total", "M254", 4, "body.Order.Total is a text; write decimal(body.Order.Total)"),
        ("body.Order.price < body.Order.Total", "M254", 19, "body.Order.Total is a text; write decimal(body.Order.Total)"),
        (
            "body.Order.Country + 1",
            "M254",
            0,
            "body.Order.Country is a text; write int(body.Order.Country), or string(1) to join texts",
        ),
        ("body.Order.count * 1.5", "M254", 0, "body.Order.count is a whole number and 1.5 a double: write decimal(body.Order.count)"),
        (
            "body.Order.price * double(body.Order.count)",
            "M256",
            19,
            "double(body.Order.count) is a double: beside a decimal it is not exact; write decimal(double(body.Order.count))",
        ),
        (
            "body.Order.Lines.Line.Sku == 'A'",
            "M254",
            22,
            "body.Order.Lines.Line is a list: it has no field Sku; take one with body.Order.Lines.Line[0], or all with"
            " body.Order.Lines.Line.map(x, x.Sku)",
        ),
        ("body.Order.count.size", "M254", 17, "body.Order.count is a whole number: it has no field size"),
        ("raw.Order", "M254", 4, "raw is bytes: it has no field Order; a read step makes a tree of it"),
        ("int(body.Order.Country)", "M259", 0, '"DE" is no whole number'),
        ("int(body.Order.Total)", "M259", 0, '"12000.50" is no whole number; decimal(...) reads it'),
        ("int(body.Order.Empty)", "M259", 0, "an empty text is no whole number"),
        ("body.Order.Country.startsWith(body.Order.count)", "M254", 30, "body.Order.count is a whole number: startsWith() does not take it"),
        ("body.Order.count.contains('5')", "M254", 0, "body.Order.count is a whole number: contains() does not take it"),
        ("string(body.Order.Lines)", "M254", 7, "body.Order.Lines is a map: string() does not take it"),
        ("body.Order.note + 1", "M254", 0, "body.Order.note is null: + does not take it"),
        ("body.Order.count && true", "M253", 0, "body.Order.count is a whole number, where true or false is wanted"),
        ("body.Order.Country ? 1 : 2", "M253", 0, "body.Order.Country is a text, where true or false is wanted"),
        ("!body.Order.count", "M253", 1, "body.Order.count is a whole number, where true or false is wanted"),
        ("[1].filter(x, body.Order.count)", "M253", 14, "body.Order.count is a whole number, where true or false is wanted"),
        (
            "'D' in body.Order.Country",
            "M254",
            7,
            "body.Order.Country is a text: in looks into lists and maps; write body.Order.Country.contains('D')",
        ),
        ("body.Order.count.map(x, x)", "M254", 0, "body.Order.count is a whole number: a loop goes over lists and maps"),
        ("body.Order.Lines.Line['x']", "M254", 22, "body.Order.Lines.Line is a list: it has no field x; take one with"
         " body.Order.Lines.Line[0], or all with body.Order.Lines.Line.map(x, x.x)"),
        ("1 / (body.Order.count - 5)", "M257", 0, "/ by zero"),
        ("body.?Order.?zip.value()", "M258", 0, "value() of an optional that has none; orValue(x) gives x then"),
        ("body.Order.Country.matches(body.Order.Country + '(')", "M259", 0, '"DE(" is no regular expression (RE2): missing )'),
        ("'%d'.format([body.Order.Country])", "M254", 0, "format(): %d takes a whole number, not a text"),
        ("'%s %s'.format([1])", "M258", 0, "format() has more % than values in its list"),
        ("{body.Order.Country: 1, 'DE': 2}", "M258", 0, 'the key "DE" stands twice'),
        ("'abc'.substring(2, body.Order.count)", "M258", 0, "substring(): there is no position 5, the text has 3 characters"),
    ],
)  # fmt: skip
def test_an_error_says_what_is_wrong_where_and_what_would_be_right(
    text: str, code: str, offset: int, said: str
) -> None:
    failed = error(text)
    assert (failed.code, failed.offset, str(failed)) == (code, offset, said)
    assert failed.text == text


def test_an_error_inside_a_loop_has_the_place_of_the_part_that_failed() -> None:
    failed = error("body.Order.Lines.Line.map(l, l.Sku).exists(s, int(s) > 1)")
    assert (failed.code, failed.offset) == ("M259", 46)


def test_the_error_of_a_part_that_was_absorbed_is_explained_when_it_counts_after_all() -> None:
    failed = error("(body.Order.zip == '1' || false) && body.Order.paid")
    assert isinstance(failed, MissingField)
    assert (failed.place, failed.offset) == ("body.Order.zip", 12)


def test_an_error_of_the_first_item_that_failed_is_the_one_of_a_loop() -> None:
    failed = error("[{'a': 1}, {'b': 1}, {'c': 1}].exists(m, m.a == 2)")
    assert str(failed) == "m.a is missing"


def test_a_variable_that_this_moment_does_not_have_is_named() -> None:
    with pytest.raises(ExpressionError, match="there is no status here"):
        ENVIRONMENT.compile("status == 200").evaluate(SCOPE)


def test_a_foreign_error_keeps_its_code() -> None:
    from esb.errors import DecodeError
    from esb.expressions import Environment

    def refuse() -> None:
        raise DecodeError("no XML", code="M218", line=3)

    program = Environment({"refuse": refuse}).compile("refuse() == 1")
    with pytest.raises(ExpressionError, match="no XML") as caught:
        program.evaluate({})
    assert caught.value.code == "M218"


def test_values_are_cut_and_never_quoted_whole() -> None:
    failed = error("int(body)", body="x" * 1000)
    assert len(str(failed)) < 80


def test_a_value_of_a_field_named_like_a_secret_is_not_shown() -> None:
    assert str(error("int(body.token)", body={"token": "hunter2"})) == "*** is no whole number"
    assert str(error("decimal(body.cardNumber)", body={"cardNumber": "4111x"})) == "*** is no number"


def test_what_is_shown_of_a_value_stays_on_one_line() -> None:
    assert str(error("int(body.x)", body={"x": "1\n2026 ERROR forged"})) == '"1\\n2026 ERROR forged" is no whole number'
