"""JSON: exact values, one reading of every text, and the items of a stream."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from codecs_of_tests import cut, json_codec
from esb_plugins.json import Options, esb_codecs, open_codec
from esb_plugins.json.reading import Reader
from hypothesis import given
from hypothesis import strategies as st
from plugin_context import FakeServices, make_context

from esb import BadPart, Codec, DecodeError, EncodeError, OptionError, Part

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
decimals = st.decimals(allow_nan=False, allow_infinity=False).filter(lambda number: abs(number.adjusted()) < 300)
leaves = st.none() | st.booleans() | st.integers() | st.integers(-(2**63), 2**63 - 1) | decimals | texts
trees = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))


def digits(tree: Any) -> Any:
    """A tree whose numbers are texts, so that 1.0 and 1.00 differ."""
    if isinstance(tree, dict):
        return {key: digits(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [digits(value) for value in tree]
    return str(tree) if isinstance(tree, (int, Decimal)) and not isinstance(tree, bool) else tree


@given(trees)
def test_what_is_written_is_read_as_the_same_tree(tree: Any) -> None:
    codec = json_codec()
    written = codec.encode(tree)
    assert codec.decode(written).tree == tree
    assert digits(codec.decode(written).tree) == digits(tree)
    assert codec.encode(codec.decode(written).tree) == written


@given(trees, st.sampled_from(["utf-16", "windows-1252", "ascii", "iso-8859-15", "utf-8"]), st.integers(0, 4))
def test_every_encoding_and_indent_keeps_the_tree(tree: Any, encoding: str, indent: int) -> None:
    codec = json_codec(encoding=encoding, indent=indent)
    assert codec.decode(codec.encode(tree)).tree == tree


marks = st.sampled_from(
    [*'{}[]":, \n\\', "null", "true", "NaN", "1", "-", "0.50", "1e5", "\\u00e9", "\\ud800", '"a"', '"a":']
)


@given(st.lists(marks, max_size=14).map("".join) | st.text('{}[]",:\\u0d81eE.+-truefalsn \t', max_size=20))
def test_the_quick_way_and_the_thorough_way_read_alike(text: str) -> None:
    reader = Reader()

    def thorough() -> Any:
        return reader._read(text.encode(), reader._careful, escapes=True)

    outcomes = []
    for read in (lambda: reader.read(text.encode()), thorough):
        try:
            outcomes.append(repr(read()))
        except DecodeError as error:
            outcomes.append(error.code)
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        (b"1.10", Decimal("1.10")),
        (b"1.000000000000000005", Decimal("1.000000000000000005")),
        (b"9223372036854775807", 2**63 - 1),
        (b"9223372036854775808", Decimal(2**63)),
        (b"-9223372036854775808", -(2**63)),
        (b"-9223372036854775809", Decimal(-(2**63) - 1)),
        (b"1e2", Decimal("1E+2")),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b"\xef\xbb\xbf[]", []),
    ],
)
def test_numbers_and_characters_are_read_exactly(text: bytes, tree: Any) -> None:
    found = json_codec().decode(text).tree
    assert found == tree
    assert type(found) is type(tree)
    assert str(found) == str(tree)


@pytest.mark.parametrize(
    ("text", "code", "line", "offset", "place"),
    [
        (b'{"a": 1,\n "b": {"c": 1, "c": 2}}', "M211", 2, 24, "body.b.c"),
        (b'{"x": [1, {"a b": NaN}]}', "M212", 1, 18, 'body.x[1]["a b"]'),
        (b"[-Infinity]", "M212", 1, 1, "body[0]"),
        (b"[1e400000]", "M212", 1, 1, "body[0]"),
        (b"[1, " + b"9" * 1001 + b"]", "M212", 1, 4, "body[1]"),
        (b'{"a": "\\ud800"}', "M213", 1, 7, "body.a"),
        (b'"\xc0\xaf"', "M213", 1, 1, "line 1"),
        (b'\n"\xff"', "M213", 2, 2, "line 2"),
        ("{}".encode("utf-16"), "M213", 1, 0, "line 1"),
        (b"[" * 100_000, "M214", 1, None, "line 1"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "M214", 1, None, "line 1"),
        (b"{} {}", "M210", 1, 3, "line 1"),
        (b'{"a":\n{"b":tru}}', "M210", 2, 11, "body.a.b"),
        (b"", "M210", 1, 0, "line 1"),
        (b"[1,]", "M210", 1, 3, "body[0]"),
        (b'"\t"', "M210", 1, 1, "body"),
    ],
)
def test_a_fault_is_refused_with_its_code_and_place(
    text: bytes, code: str, line: int, offset: int | None, place: str
) -> None:
    with pytest.raises(DecodeError) as caught:
        json_codec().decode(text)
    error = caught.value
    assert (error.code, error.line, error.offset) == (code, line, offset)
    assert error.place in (place, "body")


def test_a_key_that_stands_twice_may_be_allowed_by_the_route() -> None:
    codec = json_codec(duplicates="last")
    assert codec.decode(b'{"a": 1.5, "a": 2}').tree == {"a": 2}
    assert codec.decode(b'{"a": 1e2, "a": 2}').tree == {"a": 2}
    with pytest.raises(DecodeError, match="NaN"):
        codec.decode(b'{"a": 1, "a": NaN}')


def test_brackets_in_texts_do_not_count_as_depth() -> None:
    deep = {"a": '\\"' + "[" * 500, "b": ["]" * 3, "\\", "{"] * 60}
    codec = json_codec(depth=3)
    assert codec.decode(codec.encode(deep)).tree == deep


def test_limits_are_options() -> None:
    assert json_codec(max_number=2000).decode(b"9" * 2000).tree == Decimal("9" * 2000)
    with pytest.raises(DecodeError, match="max_number"):
        json_codec(max_number=20).decode(b"9" * 21)
    with pytest.raises(DecodeError, match="over 1kB") as caught:
        json_codec(max_size="1kB").decode(b" " * 1001)
    assert caught.value.code == "M215"


def test_a_fault_far_inside_a_large_document_is_still_named() -> None:
    keys = b"{" + b",".join(b'"%d":0' % number for number in range(150_000)) + b"}"
    assert len(json_codec().decode(keys).tree) == 150_000
    with pytest.raises(DecodeError, match='key "7" stands there twice') as caught:
        json_codec().decode(keys[:-1] + b',"7":1}')
    assert caught.value.code == "M211"
    with pytest.raises(DecodeError, match="NaN is no JSON number") as caught:
        json_codec().decode(keys[:-1] + b',"x":NaN}')
    assert caught.value.code == "M212"


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"b": 1, "a": [True, None]}, b'{"b":1,"a":[true,null]}'),
        ([Decimal("1.10"), Decimal("1E+400"), 1e22, 0.1], b"[1.10,1E+400,1e22,0.1]"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), b'"2026-01-02T03:04:05Z"'),
        (datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2))), b'"2026-01-02T00:00:00+02:00"'),
        (date(2026, 1, 2), b'"2026-01-02"'),
        ([timedelta(seconds=90), timedelta(milliseconds=1500)], b'["90s","1.5s"]'),
        ({"t": (1, 2)}, b'{"t":[1,2]}'),
    ],
)
def test_values_have_one_form(tree: Any, text: bytes) -> None:
    assert json_codec().encode(tree) == text


def test_nulls_may_be_left_out() -> None:
    assert json_codec(nulls="omit").encode({"a": None, "b": [None, {"c": None}]}) == b'{"b":[null,{}]}'


@pytest.mark.parametrize(
    ("tree", "code", "place"),
    [
        ({"a": [1, float("nan")]}, "M226", "body.a[1]"),
        ({"a": Decimal("Infinity")}, "M226", "body.a"),
        ({"a": b"x"}, "M220", "body.a"),
        ({"a": {1: 2}}, "M224", "body.a"),
        (["\ud800"], "M225", ""),
    ],
)
def test_what_json_cannot_say_is_refused_with_its_place(tree: Any, code: str, place: str) -> None:
    with pytest.raises(EncodeError) as caught:
        json_codec().encode(tree)
    assert (caught.value.code, caught.value.place) == (code, place)


def test_a_tree_that_is_too_deep_is_refused_when_writing() -> None:
    tree: Any = 1
    for _ in range(5000):
        tree = [tree]
    with pytest.raises(EncodeError) as caught:
        json_codec().encode(tree)
    assert caught.value.code == "M214"


@given(st.lists(trees, max_size=6), st.integers(1, 40), st.integers(0, 2))
def test_items_are_streamed_as_they_are_read_whole(items: list[Any], size: int, indent: int) -> None:
    codec = json_codec(indent=indent)
    body = codec.encode({"before": {"x": ["]", 1]}, "data": {"n": 1, "items": items, "after": "}"}, "last": []})
    parts = list(codec.parts(cut(body, size), "data.items"))
    assert [part.tree for part in parts if isinstance(part, Part)] == codec.decode(body).tree["data"]["items"]
    for part in parts:
        assert isinstance(part, Part)
        assert codec.decode_part(part.raw).tree == part.tree
        assert part.outer == {"before": {"x": ["]", 1]}, "data": {"n": 1, "items": []}}


@given(st.lists(trees, max_size=5), st.integers(1, 30), st.sampled_from(["utf-16", "utf-8", "iso-8859-15"]))
def test_a_document_that_is_an_array_is_streamed_in_any_encoding(items: list[Any], size: int, encoding: str) -> None:
    codec = json_codec(encoding=encoding)
    parts = list(codec.parts(cut(codec.encode(items), size), ""))
    assert [part.tree for part in parts if isinstance(part, Part)] == items
    assert [codec.decode_part(part.raw).tree for part in parts] == items


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_bad_item_is_bad_alone(size: int) -> None:
    body = b'{"d":[\n{"a":1},\n{"a":1,"a":2},\n{"a":tru},\n [1] ]}\n'
    parts = list(json_codec().parts(cut(body, size), "d"))
    assert [part.line for part in parts] == [2, 3, 4, 5]
    assert [type(part) for part in parts] == [Part, BadPart, BadPart, Part]
    assert isinstance(parts[1], BadPart)
    assert isinstance(parts[1].error, DecodeError)
    assert (parts[1].raw, parts[1].error.code, parts[1].error.line) == (b'{"a":1,"a":2}', "M211", 3)


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize(
    ("body", "path", "made", "code"),
    [
        (b'{"d":[1,2],"d":3}', "d", 2, "M211"),
        (b'{"d":[1,2], "e":NaN}', "d", 2, "M212"),
        (b'{"d":[1,2}', "d", 2, "M210"),
        (b'{"d":[1,2,]}', "d", 2, "M210"),
        (b'{"d":[1 2]}', "d", 1, "M210"),
        (b'{"d":[1,2]} x', "d", 2, "M210"),
        (b'{"d":[1,{"a":"', "d", 1, "M210"),
        (b'{"d":[1,', "d", 1, "M210"),
        (b'{"d":3}', "d", 0, "M219"),
        (b'{"e":[]}', "d", 0, "M219"),
        (b'{"d":{"x":1}}', "d.e", 0, "M219"),
        (b"{}", "", 0, "M219"),
        (b'{"e":[1}', "d", 0, "M210"),
        (b"", "", 0, "M210"),
        (b'{"a":NaN,"d":[1]}', "d", 0, "M212"),
        (b"[" * 5000, "", 0, "M214"),
        (b'[["' + b"x" * 100, "", 0, "M210"),
    ],
)
def test_a_broken_stream_ends_with_its_error(size: int, body: bytes, path: str, made: int, code: str) -> None:
    found = []
    with pytest.raises(DecodeError) as caught:
        found.extend(json_codec().parts(cut(body, size), path))
    assert (len(found), caught.value.code) == (made, code)


def test_a_bom_is_no_part_of_a_stream() -> None:
    assert [part.raw for part in json_codec().parts(cut(b"\xef\xbb\xbf[1, 2]", 1), "")] == [b"1", b"2"]


def test_the_original_bytes_go_on_only_in_the_same_encoding() -> None:
    assert json_codec().keeps(json_codec(depth=5))
    assert not json_codec().keeps(json_codec(encoding="utf-16"))


@pytest.mark.parametrize(
    ("option", "value"), [("depth", 0), ("depth", 201), ("max_number", 5), ("max_number", 5000), ("indent", -1)]
)
def test_bad_options_are_named(option: str, value: int) -> None:
    with pytest.raises(OptionError) as caught:
        open_codec(Options(**{option: value}), make_context(FakeServices()))
    assert caught.value.option == option


async def test_it_opens_as_a_codec() -> None:
    component = esb_codecs()[0]
    async with component.open(component.options(), make_context(FakeServices())) as codec:
        assert isinstance(codec, Codec)
        assert json.loads(codec.encode({"a": 1})) == {"a": 1}
