"""XML: a plain tree by local names, hostile documents refused, and the form that is written."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any

import pytest
from codecs_of_tests import cut, json_codec, xml_codec
from esb_plugins.xml import esb_codecs, open_codec
from esb_plugins.xml.parts import Elements
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from plugin_context import FakeServices, make_context, options_of
from xml_trees import contents, documents

from esb import Codec, DecodeError, EncodeError, OptionError, Part

XSI = "http://www.w3.org/2001/XMLSchema-instance"
ORDER = b"""<?xml version="1.0" encoding="UTF-8"?>
<o:Order xmlns:o="urn:x:order" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" id="4711">
  <o:Customer><o:Name>a<!-- -->dmin &amp; co</o:Name><o:Note xsi:nil="true"/></o:Customer>
  <o:Lines>
    <o:Line nr="1"><o:Sku>007</o:Sku></o:Line>
  </o:Lines>
  <o:Total cur="EUR">10.50</o:Total>
  <o:Empty/>
</o:Order>
"""


@given(documents)
def test_what_is_written_is_read_as_the_same_tree(tree: Any) -> None:
    codec = xml_codec(nulls="nil")
    written = codec.encode(tree)
    assert codec.decode(written).tree == tree
    assert codec.encode(codec.decode(written).tree) == written


@given(documents, st.sampled_from(["utf-16", "windows-1252", "utf-8"]), st.integers(0, 3), st.booleans())
def test_encodings_and_forms_keep_the_tree(tree: Any, encoding: str, indent: int, long: bool) -> None:
    writer = xml_codec(nulls="nil", encoding=encoding, indent=indent, empty="long" if long else "short")
    assert xml_codec().decode(writer.encode(tree)).tree == tree


@given(documents)
def test_crossing_into_json_and_back_keeps_every_value(tree: Any) -> None:
    codec, over = xml_codec(nulls="nil"), json_codec()
    body = codec.encode(tree)
    assert codec.encode(over.decode(over.encode(codec.decode(body).tree)).tree) == body


@given(documents)
def test_jsonml_is_written_as_the_very_same_elements(tree: Any) -> None:
    body = xml_codec(nulls="nil").encode(tree)
    codec = xml_codec(mode="jsonml")
    jsonml = codec.decode(body).tree
    assert json.loads(json.dumps(jsonml)) == jsonml
    assert codec.decode(codec.encode(jsonml)).tree == jsonml


@given(st.lists(contents, max_size=5), st.integers(1, 60))
def test_elements_are_streamed_as_they_are_read_whole(items: list[Any], size: int) -> None:
    codec = xml_codec(nulls="nil", arrays=["all.list.item"])
    tree = {"all": {"@a": "1", "before": "x", "list": {"@b": "2", "item": items}, "after": {"list": "y"}}}
    parts = list(codec.parts(cut(codec.encode(tree), size), "all.list.item"))
    assert [part.tree for part in parts if isinstance(part, Part)] == items
    assert [codec.decode_part(part.raw).tree for part in parts] == items
    for part in parts:
        assert isinstance(part, Part)
        assert part.outer == {"all": {"@a": "1", "before": "x", "list": {"@b": "2"}}}


def test_an_order_is_a_tree_of_local_names_and_texts() -> None:
    assert xml_codec().decode(ORDER).tree == {
        "Order": {
            "@id": "4711",
            "Customer": {"Name": "admin & co", "Note": None},
            "Lines": {"Line": {"@nr": "1", "Sku": "007"}},
            "Total": {"@cur": "EUR", "#text": "10.50"},
            "Empty": "",
        }
    }


def test_arrays_and_types_are_declared_by_path() -> None:
    codec = xml_codec(
        arrays=["Order.Lines.Line", "Order.Lines.Line.Sku"],
        types={"Order.Total": "decimal", "Order.@id": "int", "Order.Lines.Line.@nr": "int"},
        nulls="nil",
    )
    order = codec.decode(ORDER).tree["Order"]
    assert order["Lines"] == {"Line": [{"@nr": 1, "Sku": ["007"]}]}
    assert (order["@id"], str(order["Total"]["#text"])) == (4711, "10.50")
    assert codec.decode(codec.encode({"Order": order})).tree == {"Order": order}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("int", " 7 ", 7),
        ("int", "-9223372036854775809", Decimal("-9223372036854775809")),
        ("decimal", "1.50", Decimal("1.50")),
        ("decimal", ".5", Decimal("0.5")),
        ("bool", "1", True),
        ("bool", "false", False),
        ("text", " 7 ", " 7 "),
    ],
)
def test_typed_leaves_are_exact(kind: str, text: str, value: Any) -> None:
    found = xml_codec(types={"a.b": kind}).decode(f"<a><b>{text}</b></a>".encode()).tree["a"]["b"]
    assert (found, type(found), str(found)) == (value, type(value), str(value))


@pytest.mark.parametrize(
    ("kind", "text"), [("int", "1.0"), ("int", ""), ("decimal", "1e5"), ("decimal", "NaN"), ("bool", "yes")]
)
def test_a_leaf_of_another_type_is_refused_with_its_path(kind: str, text: str) -> None:
    with pytest.raises(DecodeError) as caught:
        xml_codec(types={"a.b": kind}).decode(f"<a>\n<b>{text}</b></a>".encode())
    assert (caught.value.code, caught.value.place, caught.value.line) == ("M293", "body.a.b", 2)


def test_with_prefixes_names_carry_those_of_the_table() -> None:
    codec = xml_codec({"p": "urn:x:order"}, prefixes=True)
    assert codec.decode(ORDER).tree["p:Order"]["p:Customer"] == {"p:Name": "admin & co", "p:Note": None}
    body = b'<a xmlns:p="u1" xmlns:q="u2"><p:x>1</p:x><q:x p:y="2" y="3">4</q:x></a>'
    codec = xml_codec({"m": "u1"}, prefixes=True, namespaces={"n": "u2"})
    tree = codec.decode(body).tree
    assert tree == {"a": {"m:x": "1", "n:x": {"@m:y": "2", "@y": "3", "#text": "4"}}}
    assert codec.decode(codec.encode(tree)).tree == tree
    with pytest.raises(DecodeError, match=r'"urn:x:order", which has no prefix under \[namespaces\]') as caught:
        codec.decode(ORDER)
    assert caught.value.code == "M292"


def test_siblings_that_differ_only_by_namespace_are_refused_without_prefixes() -> None:
    with pytest.raises(DecodeError, match="write prefixes = true") as caught:
        xml_codec().decode(b'<a xmlns:p="u1"><x/><b><x/><p:x/></b></a>')
    assert (caught.value.code, caught.value.place) == ("M211", "body.a.b")
    assert xml_codec().decode(b'<a xmlns:p="u1"><x/><b><p:x/></b></a>').tree == {"a": {"x": "", "b": {"x": ""}}}


def test_names_of_two_namespaces_in_different_places_cost_no_more() -> None:
    codec = xml_codec()
    body = b'<a xmlns:p="u1"><x/><b>' + b"<p:x/>" * 50_000 + b"</b></a>"
    started = time.perf_counter()
    for _ in range(2):
        assert len(codec.decode(body).tree["a"]["b"]["x"]) == 50_000
    assert time.perf_counter() - started < 2


def test_attributes_that_differ_only_by_namespace_keep_the_prefix_of_the_document() -> None:
    body = b'<a xmlns:p="u1" xmlns:q="u2" p:x="1" q:x="2" p:z="4" x="3"/>'
    codec = xml_codec(lossy=["comments"])
    decoded = codec.decode(body)
    assert decoded.tree == {"a": {"@p:x": "1", "@q:x": "2", "@z": "4", "@x": "3"}}
    changed = {"a": {"@p:x": "1", "@q:x": "9", "@z": "4", "@x": "3"}}
    assert codec.decode(codec.encode(changed, decoded.memory)).tree == changed


def test_mixed_content_keeps_its_text_in_one_piece() -> None:
    body = b"<p>one <b>two</b> three<i/></p>"
    assert xml_codec().decode(body).tree == {"p": {"b": "two", "i": "", "#text": "one  three"}}
    assert xml_codec(mode="jsonml").decode(body).tree == [
        "p", {}, "one ", ["b", {}, "two"], " three", ["i", {}],
    ]  # fmt: skip


def test_nil_is_null_wherever_it_stands() -> None:
    body = f'<a xmlns:xsi="{XSI}"><b xsi:nil="1" x="2"/><c xsi:nil="false">t</c><d xsi:nil=" true "> </d></a>'
    assert xml_codec().decode(body.encode()).tree == {"a": {"b": {"@x": "2", "#text": None}, "c": "t", "d": None}}
    with pytest.raises(DecodeError, match="says xsi:nil and has content"):
        xml_codec().decode(f'<a xmlns:xsi="{XSI}" xsi:nil="true">x</a>'.encode())
    with pytest.raises(DecodeError, match="says xsi:nil and has content"):
        xml_codec().decode(f'<a xmlns:xsi="{XSI}" xsi:nil="true"><b/></a>'.encode())


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"<!DOCTYPE a><a/>", "M216"),
        (b'<?xml version="1.0"?>\n<!-- x --><!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "M216"),
        (b'\xef\xbb\xbf<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "M216"),
        ("<!DOCTYPE a><a/>".encode("utf-16"), "M216"),
        (b"<a>&nbsp;</a>", "M210"),
        (b"<p:a/>", "M210"),
        (b"<a/><b/>", "M210"),
        (b"<a/>x", "M210"),
        (b"<a><b></a>", "M210"),
        (b"", "M210"),
        (b"text", "M210"),
        (b"<a>\0</a>", "M213"),
        (b"<a>\xff</a>", "M213"),
        ("<a>\ufffe</a>".encode(), "M213"),
        (b"<a>&#0;</a>", "M213"),
        (b"<a>&#xFFFE;</a>", "M213"),
        ("<a/>".encode("utf-16-le"), "M213"),
        ("<a/>".encode("utf-32"), "M213"),
        (b'<?xml version="1.0" encoding="UTF-16"?><a/>', "M213"),
        (b'<?xml version="1.0" encoding="UTF-7"?><a>+ADw-b/+AD4-</a>', "M213"),
        (b'<?xml version="1.0" encoding="x-unknown"?><a/>', "M213"),
        (b'<?xml version="1.0" encoding="iso-2022-jp"?><a/>', "M213"),
        (b'\xef\xbb\xbf<?xml version="1.0" encoding="iso-8859-1"?><a/>', "M213"),
        ('<?xml version="1.0" encoding="utf-8"?><a/>'.encode("utf-16"), "M213"),
        (b'<?xml version="1.0" encoding="us-ascii"?><a>\xe9</a>', "M213"),
        (b"<a>" * 110 + b"</a>" * 110, "M214"),
        (b"<a>" * 300 + b"</a>" * 300, "M214"),
        (b"<a " + b" ".join(b'b%d="1"' % number for number in range(257)) + b"/>", "M215"),
        (b"<a>" + b"x" * 11_000_000 + b"</a>", "M215"),
    ],
)
def test_a_fault_is_refused_with_its_code_and_line(body: bytes, code: str) -> None:
    with pytest.raises(DecodeError) as caught:
        xml_codec().decode(body)
    assert (caught.value.code, caught.value.line or 1) == (code, 2 if b"\n<!--" in body else 1)


def test_the_word_doctype_inside_the_root_is_a_text_like_any_other() -> None:
    assert xml_codec().decode(b"<a><![CDATA[<!DOCTYPE html>]]></a>").tree == {"a": "<!DOCTYPE html>"}


def test_two_hundred_thousand_attributes_are_refused_at_once() -> None:
    body = b"<a " + b" ".join(b'b%d="1"' % number for number in range(200_000)) + b"/>"
    started = time.perf_counter()
    for codec in (xml_codec(), xml_codec(mode="jsonml")):
        with pytest.raises(DecodeError, match="over 256 attributes"):
            codec.decode(body)
        with pytest.raises(DecodeError, match=r"over 256 attributes|over 1 MB"):
            list(codec.parts(cut(body, 5000), "a.b"))
    assert time.perf_counter() - started < 2


def test_many_equal_signs_in_texts_are_no_attributes() -> None:
    text = "a=\"1\" b='2' " * 2000
    body = f"<a><b c='=>'/>{text}<![CDATA[<x {text}>]]><!-- <y {text}> --></a>".encode()
    assert xml_codec().decode(body).tree["a"]["#text"].count("=") == 8000
    assert list(xml_codec().parts(cut(body, 999), "a.d")) == []


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b'<?xml version="1.0" encoding="windows-1252"?><a>\x80</a>', None),
        ('<?xml version="1.0" encoding="utf-16"?><a>\u20ac</a>'.encode("utf-16"), None),
        ("<a>\u20ac</a>".encode("utf-16"), None),
        ('<?xml version="1.0" encoding="utf-8"?><a>\u20ac</a>'.encode("utf-8-sig"), None),
        (b"<a>\x80</a>", "windows-1252"),
        (b'<?xml version="1.0" encoding="utf-8"?><a>\x80</a>', "windows-1252"),
    ],
)
def test_an_encoding_is_known_by_mark_declaration_or_route(body: bytes, encoding: str | None) -> None:
    options = {} if encoding is None else {"encoding": encoding}
    assert xml_codec(**options).decode(body).tree == {"a": "\u20ac"}
    codec = xml_codec(**options)
    wrapped = body.replace(b"<a>", b"<d><a>").replace(b"</a>", b"</a></d>")
    if b"\0" not in body:
        for size in (1, 10, 1000):
            (part,) = codec.parts(cut(wrapped, size), "d.a")
            assert isinstance(part, Part)
            assert part.tree == codec.decode_part(part.raw).tree == "\u20ac"


def test_limits_are_options() -> None:
    deep = b"<a><b><c><d>1</d></c></b></a>"
    assert xml_codec(depth=3).decode(deep).tree
    with pytest.raises(DecodeError, match="deeper than 2 levels") as caught:
        xml_codec(depth=2).decode(deep)
    assert caught.value.code == "M214"
    with pytest.raises(DecodeError, match="over 3 attributes"):
        xml_codec(max_attributes=3).decode(b'<a b="1" c="2" d="3" e="4"/>')
    with pytest.raises(DecodeError, match="over 1kB"):
        xml_codec(max_size="1kB").decode(b"<a>" + b" " * 1000 + b"</a>")


@pytest.mark.parametrize(
    ("options", "tree", "body"),
    [
        ({}, {"a": {"@x": '<"\n', "b": ["1", 2, True, Decimal("1.50")]}},
         b'<a x="&lt;&quot;&#10;"><b>1</b><b>2</b><b>true</b><b>1.50</b></a>'),
        ({}, {"a": {"b": "x]]>\r", "c": ""}}, b"<a><b>x]]&gt;&#13;</b><c/></a>"),
        ({"empty": "long"}, {"a": {"c": ""}}, b"<a><c></c></a>"),
        ({"root": "Order"}, {"x": 1, "y": [1, 2]}, b"<Order><x>1</x><y>1</y><y>2</y></Order>"),
        ({"root": "Order"}, {"Order": {"x": 1}}, b"<Order><x>1</x></Order>"),
        ({"root": "Order"}, "text", b"<Order>text</Order>"),
        ({"nulls": "nil"}, {"a": {"b": None}},
         b'<a xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><b xsi:nil="true"/></a>'),
        ({"nulls": "omit"}, {"a": {"b": None, "@c": None, "d": 1}}, b"<a><d>1</d></a>"),
        ({"nulls": "empty"}, {"a": {"b": None, "@c": None}}, b'<a c=""><b/></a>'),
        ({"namespaces": {"default": "urn:pay"}}, {"Pay": {"b:Amt": {"@b:ccy": "EUR", "#text": 1}, "x": "1"}},
         b'<Pay xmlns="urn:pay" xmlns:b="urn:b"><b:Amt b:ccy="EUR">1</b:Amt><x>1</x></Pay>'),
        ({"indent": 2}, {"a": {"b": {"c": "1"}, "d": {"#text": "m", "e": "2"}, "f": []}},
         b"<a>\n  <b>\n    <c>1</c>\n  </b>\n  <d>m<e>2</e></d>\n</a>\n"),
    ],
)  # fmt: skip
def test_a_tree_is_written_as_the_options_say(options: dict[str, Any], tree: Any, body: bytes) -> None:
    assert xml_codec({"b": "urn:b"}, declaration=False, **options).encode(tree) == body


def test_the_declaration_names_the_encoding() -> None:
    assert xml_codec().encode({"a": "\u20ac"}) == b'<?xml version="1.0" encoding="UTF-8"?>\n<a>\xe2\x82\xac</a>'
    written = xml_codec(encoding="latin-1").encode({"a": "\xe9\u20ac"})
    assert written == b'<?xml version="1.0" encoding="ISO-8859-1"?>\n<a>\xe9&#8364;</a>'
    assert etree.fromstring(xml_codec(encoding="cp1252").encode({"a": "\u20ac"})).text == "\u20ac"


@pytest.mark.parametrize(
    ("tree", "code", "place"),
    [
        ({}, "M223", "body"),
        ({"a": 1, "b": 2}, "M223", "body"),
        ({"a": [1, 2]}, "M223", "body"),
        ([1], "M223", "body"),
        ({"@a": 1}, "M223", "body"),
        ({"a": {"b": None}}, "M294", "body.a.b"),
        ({"a": {"@b": None}}, "M294", "body.a.@b"),
        ({"a": {"1b": 1}}, "M224", "body.a.1b"),
        ({"a": {"b c": 1}}, "M224", "body.a.b c"),
        ({"a": {"": 1}}, "M224", "body.a."),
        ({"a": {"p:b": 1}}, "M224", "body.a.p:b"),
        ({"a": {"@xmlns": "u"}}, "M224", "body.a.@xmlns"),
        ({"a": {"@xmlns:b": "u"}}, "M224", "body.a.@xmlns:b"),
        ({"a": {1: 1}}, "M224", "body.a"),
        ({"a": "\x01"}, "M225", "body.a"),
        ({"a": {"@b": "\ud800"}}, "M225", "body.a.@b"),
        ({"a": float("nan")}, "M226", "body.a"),
        ({"a": {"@b": [1]}}, "M227", "body.a.@b"),
        ({"a": {"b": [[1]]}}, "M220", "body.a.b"),
        ({"a": {"b": 1, "c": {"d": Decimal("1E+99999")}}}, "M226", "body.a.c.d"),
        ({"a": b"x"}, "M220", "body.a"),
    ],
)
def test_what_xml_cannot_say_is_refused_by_its_place(tree: Any, code: str, place: str) -> None:
    with pytest.raises(EncodeError) as caught:
        xml_codec().encode(tree)
    assert (caught.value.code, caught.value.place) == (code, place)


def test_two_roots_are_named() -> None:
    with pytest.raises(EncodeError, match='would stand "a", "b"; write root = "NAME"'):
        xml_codec().encode({"a": 1, "b": 2})


def test_a_name_that_the_encoding_lacks_is_refused() -> None:
    with pytest.raises(EncodeError) as caught:
        xml_codec(encoding="ascii").encode({"\xe4": 1})
    assert caught.value.code == "M225"


@pytest.mark.parametrize("size", [1, 13, 1000])
def test_a_part_stands_on_its_own_with_the_namespaces_in_scope(size: int) -> None:
    body = b"""<o:Orders xmlns:o="urn:o" xmlns="urn:d" day="1"><Head>h</Head><Head>i</Head><Lines>
<Line n="1"><Sku>A</Sku></Line> <!-- x -->
<Line><Sku o:n="2" n="2" m="x"/></Line><Other/>
<Line/></Lines><Tail>t</Tail></o:Orders>"""
    codec = xml_codec(arrays=["Orders.Lines.Line.Sku"], types={"Orders.Lines.Line.Sku.@m": "int"})
    parts = list(codec.parts(cut(body, size), "Orders.Lines.Line"))
    assert [part.line for part in parts] == [2, 3, 4]
    first, bad, last = parts
    assert isinstance(first, Part)
    assert isinstance(last, Part)
    assert first.raw == b'<Line xmlns="urn:d" xmlns:o="urn:o" n="1"><Sku>A</Sku></Line>'
    assert first.tree == codec.decode_part(first.raw).tree == {"@n": "1", "Sku": ["A"]}
    assert (last.tree, last.outer) == ("", {"Orders": {"@day": "1", "Head": ["h", "i"], "Lines": {}}})
    assert not isinstance(bad, Part)
    with pytest.raises(DecodeError, match="is no int"):
        codec.decode_part(bad.raw)


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("body", "path", "made", "code"),
    [
        (b"<a><b>1</b><b>2</b><b></a>", "a.b", 2, "M210"),
        (b"<a><b>1</b><b>2", "a.b", 1, "M210"),
        (b"<a><b>1</b></a><a/>", "a.b", 1, "M210"),
        (b"<a><b>1</b>&x;</a>", "a.b", 1, "M210"),
        (b"<x/>", "a.b", 0, "M219"),
        (b"<a><x/></a>", "a.b.c", 0, "M219"),
        (b"<a/>", "", 0, "M219"),
        (b"", "a.b", 0, "M210"),
        (b"<!-- <a> --><!DOCTYPE a><a/>", "a.b", 0, "M216"),
        (b"<?x <a> ?>\n<!DOCTYPE a><a/>", "a.b", 0, "M216"),
        (b"<a><b>" + b"<c>" * 120 + b"</c>" * 120 + b"</b><b/>", "a.b", 2, "M210"),
    ],
)
def test_a_broken_stream_ends_with_its_error(size: int, body: bytes, path: str, made: int, code: str) -> None:
    found: list[Any] = []
    with pytest.raises(DecodeError) as caught:
        found.extend(xml_codec().parts(cut(body, size), path))
    assert (len(found), caught.value.code) == (made, code)


def test_an_empty_container_has_no_parts() -> None:
    assert list(xml_codec().parts([b"<a><l/></a>"], "a.l.x")) == []
    assert list(xml_codec().parts([b"<a/>"], "a.x")) == []


def test_the_same_names_elsewhere_are_no_parts() -> None:
    body = b"<a><x><l><b>0</b></l></x><l><b>1<a><l><b>9</b></l></a></b></l><l><b>2</b></l></a>"
    trees = [part.tree for part in xml_codec().parts(cut(body, 3), "a.l.b") if isinstance(part, Part)]
    assert trees == [{"a": {"l": {"b": "9"}}, "#text": "1"}, "2"]


def test_what_is_declared_of_a_path_holds_for_a_part_of_that_name() -> None:
    body = b"<a><l><b><c>1</c></b></l></a>"
    for arrays in (["a.l.b.c"], ["b.c"], ["x.b.c"]):
        codec = xml_codec(arrays=arrays)
        (part,) = codec.parts([body], "a.l.b")
        assert isinstance(part, Part)
        assert part.tree == codec.decode_part(part.raw).tree == {"c": ["1"]}


def test_much_that_is_no_part_before_the_first_one_is_refused() -> None:
    body = b"<a>" + b"<x>1</x>" * 600_000 + b"<b/></a>"
    with pytest.raises(DecodeError, match="over 4 MB before the first element") as caught:
        list(xml_codec().parts(cut(body, 65536), "a.b"))
    assert caught.value.code == "M215"


def test_what_is_read_of_a_stream_is_let_go() -> None:
    codec = xml_codec()
    walk = Elements(codec._tree_reader, "a.b", encoding=None, content=codec._reader.content, memory=bytes)
    body = b"<a>" + b"<b>1</b><x><y/><y/></x>" * 50_000 + b"<x>" + b"<z/>" * 50_000 + b"</x></a>"
    most = 0
    for number, _ in enumerate(walk.parts(cut(body, 65536), 256)):
        if number % 1000 == 0:
            assert walk._root is not None
            most = max(most, len(walk._root))
    assert number == 49_999
    assert most < 10_000


@pytest.mark.parametrize(
    ("option", "value"), [("depth", 0), ("depth", 251), ("max_attributes", 0), ("indent", -1), ("mode", "jsonml")]
)
def test_bad_options_are_named(option: str, value: Any) -> None:
    given = {option: value, **({"arrays": ["a"]} if option == "mode" else {})}
    with pytest.raises(OptionError) as caught:
        open_codec(options_of(esb_codecs()[0], **given), make_context(FakeServices()))
    assert caught.value.option == option


async def test_it_opens_as_a_codec_with_the_namespaces_of_the_table() -> None:
    component = esb_codecs()[0]
    async with component.open(options_of(component), make_context(FakeServices())) as codec:
        assert isinstance(codec, Codec)
