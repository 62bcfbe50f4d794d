"""The language on a message's tree: fields, macros, optionals, and what a field's absence does."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from expression_scope import BODY, ENVIRONMENT, SCOPE, error, value

from esb.errors import MissingField
from esb.expressions import Environment, Optional
from esb.message import Headers, Message, Scope


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ('body.Order.Country == "DE"', True),
        ('body.Order["@id"]', "4711"),
        ('body.Order["Ship-To"].Name', "Ada"),
        ("body.Order.`Ship-To`.Name", "Ada"),
        ("body.Order.Lines.Line[1].Sku", "B"),
        ("size(body.Order.Lines.Line)", 2),
        ('body.Order.Lines.Line.map(l, l.Sku + "!")', ["A!", "B!"]),
        ('body.Order.Lines.Line.filter(l, has(l.Qty)).map(l, {"sku": l.Sku, "n": int(l.Qty)})', [{"sku": "A", "n": 3}]),
        ("body.Order.Lines.Line.map(l, has(l.Qty), l.Sku)", ["A"]),
        ('body.Order.Lines.Line.exists_one(l, l.Sku == "B")', True),
        ("body.Order.Lines.Line.transformList(i, l, string(i) + l.Sku)", ["0A", "1B"]),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v * 2)", {"a": 2, "b": 4}),
        ("cel.bind(n, body.Order.count, n * n)", 25),
        ("[1, 2].map(a, [3, 4].map(b, a * b))", [[3, 4], [6, 8]]),
        ("[[1, 2], [3]].all(row, row.exists(x, x > 1))", True),
        ('body.Order.Country in ["DE", "AT", "CH"]', True),
        ('body.Order.count in ["5"]', False),
        ("body.Order.count in [4, 5]", True),
        ('"@id" in body.Order', True),
        ('body.Order.paid ? "yes" : "no"', "yes"),
        ("body.Order.note == null", True),
        ("type(body.Order.price) == decimal && type(now) == google.protobuf.Timestamp", True),
        ('"a,b".split(",").map(x, x.upperAscii()).join("-")', "A-B"),
        ('r"\\d" + "\\u00e9"', "\\dé"),
        ("base64.encode(raw)", "PE9yZGVyLz4="),
        ("today", "2026-03-01"),
        ("message.route + string(var.limit)", "orders100"),
        ("1 in {1: true}", True),
        ("{2: 'two', true: 'yes'}[true]", "yes"),
    ],
)
def test_an_expression_gives_its_value(text: str, given: Any) -> None:
    assert value(text) == given
    assert type(value(text)) is type(given)


def test_an_absent_header_is_an_empty_text_and_has_tells_the_truth() -> None:
    assert value('header["x-nope"]') == ""
    assert value("header.nope == ''")
    assert not value('has(header["x-nope"])')
    assert value('has(header["x-channel"]) && header["x-channel"] == "edi"')
    assert value('header[?"x-nope"].orValue("none")') == "none"
    assert value('default(header["x-nope"], "none")') == "none"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("body.Order.Totl == 1", "body.Order.Totl"),
        ("body.Ordr.Total == 1", "body.Ordr"),
        ('body.Order["@nr"]', 'body.Order["@nr"]'),
        ("body.Order.note.text", "body.Order.note.text"),
        ("body.Order.Empty.Line", "body.Order.Empty.Line"),
        ("body.Order.Lines.Line[7].Sku", "body.Order.Lines.Line[7]"),
        ("body.Order.Lines.Line.map(l, l.Qty)", "l.Qty"),
        ("part.index > 1", "part.index"),
        ("var.missing", "var.missing"),
        ('body.Order[var.none + "x"]', "var.none"),
    ],
)
def test_a_field_that_is_not_there_is_named_with_its_path(text: str, place: str) -> None:
    missing = error(text)
    assert isinstance(missing, MissingField)
    assert missing.place == place
    assert missing.code == "M251"
    assert str(missing).startswith(f"{place} is missing")
    assert missing.errors[0].place == place


def test_a_missing_field_says_what_was_near() -> None:
    assert str(error("body.Order.Totl")) == 'body.Order.Totl is missing; did you mean "Total"?'
    assert str(error("body.Order.lines.Line")) == 'body.Order.lines is missing; did you mean "Lines"?'
    assert "counted from 0" in str(error("body.Order.Lines.Line[2]"))


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("body.Order.zip == '1' || true", True),
        ("true || body.Order.zip == '1'", True),
        ("body.Order.zip == '1' && false", False),
        ("int(body.Order.Country) > 1 && false", False),
        ("!(body.Order.zip == '1' && false)", True),
        ("[1, 2, 'x'].exists(n, n > 1)", True),
        ("['x', 1, 2].all(n, n > 1)", False),
    ],
)
def test_an_error_counts_only_where_nothing_else_decides(text: str, given: bool) -> None:
    assert value(text) is given


def test_of_two_errors_the_first_in_the_text_is_raised() -> None:
    assert isinstance(error("body.Order.zip == '1' && int(body.Order.Country) > 1"), MissingField)
    assert error("int(body.Order.Country) > 1 && body.Order.zip == '1'").code == "M259"
    assert isinstance(error("body.Order.zip == '1' || false || int(body.Order.Country) > 1"), MissingField)


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("body.?Order.?zip.orValue('none')", "none"),
        ("body[?'Order'].hasValue()", True),
        ("body.Order.?Country.optMap(c, c + '!').value()", "DE!"),
        ("body.?Order.?a.?b.?c.hasValue()", False),
        ("body.Order.Lines.Line[?9].or(body.Order.Lines.Line[?0]).value().Sku", "A"),
        ("[?body.Order.?zip, ?body.Order.?Country]", ["DE"]),
        ("{?'zip': body.Order.?zip, 'c': 1}", {"c": 1}),
        ("default(body.Order.zip, 'none')", "none"),
        ("default(body.Order.note, 'none')", "none"),
        ("default(body.Order.Country, 'none')", "DE"),
        ("default(body.?Order.?zip, 'none')", "none"),
        ("default(body.Order.Lines.Line[1].Qty, '0')", "0"),
        ("{'zip': optional(body.Order.zip), 'c': optional(body.Order.Country)}", {"c": "DE"}),
        ("[optional(body.Order.zip), 1]", [1]),
    ],
)
def test_what_may_be_absent_is_asked_for_without_an_error(text: str, given: Any) -> None:
    assert value(text) == given


def test_optional_leaves_out_what_is_missing_and_keeps_null() -> None:
    assert not value("optional(body.Order.zip)").has_value
    assert value("optional(body.Order.note)") == Optional(True, None)
    assert value("optional(body.Order.Country)") == Optional(True, "DE")


def test_default_and_optional_hide_a_missing_field_and_nothing_else() -> None:
    assert error("default(int(body.Order.Country), 1)").code == "M259"
    assert error("optional(body.Order.Country.Name)").code == "M254"


def test_the_tree_is_never_copied() -> None:
    lines = BODY["Order"]["Lines"]["Line"]
    assert value("body.Order.Lines.Line") is lines
    assert value("body.Order.Lines.Line.filter(l, true)")[0] is lines[0]
    assert value("default(body.Order.Lines, {})") is BODY["Order"]["Lines"]


def test_a_plugins_function_gets_its_arguments_and_the_scope_where_it_wants_it() -> None:
    def double(number: int) -> int:
        return number * 2

    class Raw:
        wants_scope = True

        def __call__(self, scope: dict[str, Any], start: int) -> bytes:
            return bytes(scope["raw"][start:])

    environment = Environment({"double": double, "rest": Raw()})
    assert environment.compile("double(body.Order.count) + 1").evaluate(SCOPE) == 11
    assert environment.compile("body.Order.count.double()").evaluate(SCOPE) == 10
    assert environment.compile("rest(1)").evaluate(SCOPE) == b"Order/>"


def test_a_function_that_fails_is_an_error_of_the_expression_and_says_where_it_failed() -> None:
    def broken() -> None:
        raise ValueError("no table")

    program = Environment({"broken": broken}).compile("1 == 1 && broken() == 2")
    with pytest.raises(Exception, match=r"broken\(\): ValueError: no table") as caught:
        program.evaluate({})
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.offset == 10  # type: ignore[attr-defined]


def test_the_scope_of_a_message_serves_its_rare_variables_when_asked() -> None:
    message = Message(uid="u", route="r", accepted_at=0.0, body={"a": 1}, raw=b"", headers=Headers())
    scope = Scope(message, {}, ZoneInfo("Europe/Berlin"))
    text = 'now == timestamp(0) && today == "1970-01-01" && message.id == "u" && body.a == 1'
    assert ENVIRONMENT.compile(text).evaluate(scope) is True


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("body.a == 1", "bool"),
        ("size(body.a)", "int"),
        ("body.a", "dyn"),
        ("'a' + body.b", "string"),
        ("decimal(body.a) * 2", "decimal"),
        ("now + duration('1h')", "timestamp"),
        ("[1]", "list"),
        ("{'a': 1}", "map"),
        ("header.x", "string"),
        ("body.?a", "optional_type"),
        ("body.a ? 1 : 2", "int"),
        ("body.a ? 1 : 'b'", "dyn"),
    ],
)
def test_the_type_is_known_as_far_as_it_can_be(text: str, kind: str) -> None:
    assert ENVIRONMENT.compile(text).type == kind


def test_the_fields_that_are_read_are_known() -> None:
    text = 'body.Order.Lines.Line.exists(l, l.Sku == header["x-sku"]) && has(body.note) && [body.a].map(b, b)[0] == source.name'
    assert ENVIRONMENT.compile(text).fields == {
        "body.Order.Lines.Line",
        "body.Order.Lines.Line.Sku",
        'header["x-sku"]',
        "body.note",
        "body.a",
        "source.name",
    }


def test_a_decimal_is_found_among_literals_by_their_digits() -> None:
    assert value("body.price in [10.5, 3]", body={"price": Decimal("10.50")}) is True
    assert value("body.price == 10.5 && 10.5 == body.price", body={"price": Decimal("10.50")}) is True
