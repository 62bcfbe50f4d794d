"""`xpath()` on XML that was not decoded."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from esb_plugins.xml import esb_functions

from esb import DecodeError, ExpressionError, MissingField
from esb.expressions import Environment

RAW = b'<o:Order xmlns:o="urn:o" id="7"><o:Total>1<!-- x -->0.50</o:Total><o:L>1</o:L><o:L>2</o:L></o:Order>'
xpath = esb_functions()["xpath"]


def scope(raw: bytes = RAW) -> dict[str, Any]:
    return {"raw": raw, "namespaces": {"p": "urn:o"}, "body": raw, "header": {}, "source": {}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("//p:Total", "10.50"),
        ("/p:Order/@id", "7"),
        ("//p:L", ["1", "2"]),
        ("//p:L/text()", ["1", "2"]),
        ("count(//p:L)", 2),
        ("sum(//p:L) div 2", Decimal("1.5")),
        ("boolean(//p:X)", False),
        ("string(//p:X)", ""),
    ],
)
def test_what_is_found_is_a_text_a_list_a_number_or_a_truth(path: str, value: Any) -> None:
    found = xpath(scope(), path)
    assert (found, type(found)) == (value, type(value))


def test_nothing_found_is_a_missing_field() -> None:
    with pytest.raises(MissingField, match="nothing at //p:X"):
        xpath(scope(), "//p:X")


@pytest.mark.parametrize("path", ["//[", "//q:L", 3, "number('x')", "document('x')"])
def test_a_path_that_is_none_is_an_error_of_the_expression(path: Any) -> None:
    with pytest.raises(ExpressionError):
        xpath(scope(), path)


def test_what_is_no_xml_or_has_a_doctype_is_refused() -> None:
    for raw in (b"{}", b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'):
        with pytest.raises(DecodeError):
            xpath(scope(raw), "//a")


def test_it_is_a_function_of_expressions() -> None:
    environment = Environment(esb_functions())
    assert environment.compile('decimal(xpath("//p:Total")) > 10').evaluate(scope()) is True
    assert environment.compile('xpath("//p:L")[1]').evaluate(scope()) == "2"
    with pytest.raises(MissingField):
        environment.compile('xpath("//p:X") == "1"').evaluate(scope())


def test_the_same_document_is_parsed_once() -> None:
    first = xpath._root(RAW)
    assert xpath._root(RAW) is first
    assert xpath._root(bytes(bytearray(RAW))) is not first
