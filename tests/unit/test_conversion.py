"""Every format into every other."""

from __future__ import annotations

from typing import Any

import pytest
from codecs_of_tests import csv_codec, json_codec, xml_codec

from esb.conversion import convert
from esb.errors import EncodeError

XML = b"<Orders><Order><id>1</id><note>a</note></Order><Order><id>2</id><note/></Order></Orders>"
JSON = b'{"Orders":{"Order":[{"id":"1","note":"a"},{"id":"2","note":""}]}}'
CSV = b"id,note\r\n1,a\r\n2,\r\n"
ROWS = b'[{"id":"1","note":"a"},{"id":"2","note":""}]'

CODECS: dict[str, Any] = {"xml": xml_codec(declaration=False), "json": json_codec(), "csv": csv_codec()}


@pytest.mark.parametrize(
    ("source", "target", "body", "made"),
    [
        ("xml", "json", XML, JSON),
        ("json", "xml", JSON, XML),
        ("csv", "json", CSV, ROWS),
        ("json", "csv", ROWS, CSV),
        ("json", "csv", b'{"rows":' + ROWS + b"}", CSV),
        ("xml", "csv", XML, CSV),
        ("json", "csv", JSON, CSV),
        ("csv", "xml", CSV, b"<rows><row><id>1</id><note>a</note></row><row><id>2</id><note/></row></rows>"),
        ("json", "xml", b"[1,2]", b"<document><item>1</item><item>2</item></document>"),
        ("json", "xml", b'{"a":1,"b":2}', b"<document><a>1</a><b>2</b></document>"),
        ("json", "xml", b'{"a":[1,2]}', b"<document><a>1</a><a>2</a></document>"),
        ("json", "xml", b'"x"', b"<document>x</document>"),
        ("json", "csv", b'{"id":1,"note":"a"}', b"id,note\r\n1,a\r\n"),
        ("json", "csv", b'[{"id":1,"note":"a"}]', b"id,note\r\n1,a\r\n"),
        ("json", "json", b'{"a" : 1.50}', b'{"a":1.50}'),
        ("csv", "csv", CSV, CSV),
        ("xml", "xml", b"<!-- x -->\n<a  b='1'/>", b'<!-- x -->\n<a b="1"/>'),
    ],
)
def test_a_document_crosses_without_losing_a_value(source: str, target: str, body: bytes, made: bytes) -> None:
    assert convert(body, CODECS[source], CODECS[target]) == made


def test_options_on_either_side_count() -> None:
    reader = csv_codec(delimiter=";", null="-")
    assert convert(b"a;b\n1;-\n", reader, xml_codec(root="Rows", nulls="omit", declaration=False)) == (
        b"<Rows><row><a>1</a></row></Rows>"
    )


@pytest.mark.parametrize("body", [b'{"a":{"b":[1]},"c":2}', b'{"a":[{"b":[1]}]}', b"[1]", b'{"a":[[1]]}'])
def test_what_has_no_form_in_the_target_is_refused(body: bytes) -> None:
    with pytest.raises(EncodeError):
        convert(body, CODECS["json"], CODECS["csv"])
