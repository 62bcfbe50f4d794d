"""CSV: cells as they stand, rows by name, and every doubt with its line."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import chain
from typing import Any

import pytest
from codecs_of_tests import csv_codec, cut, json_codec
from esb_plugins.csv import esb_codecs, open_codec
from hypothesis import assume, given
from hypothesis import strategies as st
from plugin_context import FakeServices, make_context, options_of

from esb import BadPart, Codec, DecodeError, EncodeError, OptionError, Part

letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
cells = st.text(letters, max_size=8) | st.text(',;"\\\n\r\t #N', max_size=5)
names = cells.filter(lambda name: name.strip() != "")


@st.composite
def tables(draw: st.DrawFn, values: st.SearchStrategy[Any] = cells) -> list[dict[str, Any]]:
    columns = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    rows = draw(st.lists(st.tuples(*[values] * len(columns)), min_size=1, max_size=4))
    return [dict(zip(columns, row, strict=True)) for row in rows]


dialects = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from(",;\t|"),
        "quote": st.sampled_from(['"', "'"]),
        "escape": st.sampled_from(["", "\\"]),
        "newline": st.sampled_from(["\r\n", "\n", "\r"]),
        "encoding": st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]),
        "comment": st.sampled_from(["", "#"]),
    }
)


@given(tables(), dialects)
def test_what_is_written_is_read_as_the_same_rows(rows: list[dict[str, str]], dialect: dict[str, str]) -> None:
    codec = csv_codec(**dialect)
    written = codec.encode({"rows": rows})
    assert codec.decode(written).tree == {"rows": rows}
    assert codec.encode(codec.decode(written).tree) == written


@given(tables(st.none() | cells), st.sampled_from(["NULL", "", "-"]))
def test_with_a_word_for_it_null_and_the_same_text_stay_apart(rows: list[dict[str, Any]], null: str) -> None:
    assume(null != "" or len(rows[0]) > 1)
    codec = csv_codec(null=null)
    assert codec.decode(codec.encode(rows)).tree == {"rows": rows}


@given(tables(), st.sampled_from([",", ";"]))
def test_without_quotes_a_table_is_the_same_or_refused(rows: list[dict[str, str]], delimiter: str) -> None:
    codec = csv_codec(quote="", escape="\\", delimiter=delimiter)
    try:
        written = codec.encode(rows)
    except EncodeError as error:
        assert error.code == "M225"
        return
    assert codec.decode(written).tree == {"rows": rows}


@given(tables())
def test_crossing_into_json_and_back_keeps_every_cell(rows: list[dict[str, str]]) -> None:
    codec, over = csv_codec(), json_codec()
    body = codec.encode(rows)
    assert codec.encode(over.decode(over.encode(codec.decode(body).tree)).tree) == body


@given(tables(), dialects, st.integers(1, 30))
def test_rows_are_streamed_as_they_are_read_whole(
    rows: list[dict[str, str]], dialect: dict[str, str], size: int
) -> None:
    codec = csv_codec(**dialect)
    parts = list(codec.parts(cut(codec.encode(rows), size), "rows"))
    assert [part.tree for part in parts if isinstance(part, Part)] == rows
    assert [codec.decode_part(part.raw).tree for part in parts] == rows


def test_nothing_is_inferred() -> None:
    tree = csv_codec().decode(b"id,price,when\n007,10.50,2026-01-02\n").tree
    assert tree == {"rows": [{"id": "007", "price": "10.50", "when": "2026-01-02"}]}


def test_a_bom_blank_lines_and_all_line_ends_are_tolerated() -> None:
    body = b'\xef\xbb\xbfa,b\r\n1,2\n\n3,4\r5,"6\r\n7"'
    assert csv_codec().decode(body).tree["rows"] == [
        {"a": "1", "b": "2"}, {"a": "3", "b": "4"}, {"a": "5", "b": "6\r\n7"},
    ]  # fmt: skip


def test_what_stands_around_the_table_is_kept_apart() -> None:
    codec = csv_codec(delimiter=";", skip_first=1, head=1, foot=1, comment="#")
    body = b'exported by "x\nH;4711\n# a note\nid;qty\n1;2\n#3;4\n5;6\nT;2\n'
    decoded = codec.decode(body)
    assert decoded.tree == {"rows": [{"id": "1", "qty": "2"}, {"id": "5", "qty": "6"}]}
    assert decoded.about == {"head": [["H", "4711"]], "foot": [["T", "2"]]}
    parts = list(codec.parts(cut(body, 7), "rows"))
    assert [part.line for part in parts] == [5, 7]
    assert [part.raw for part in parts] == [b"id;qty\n1;2\n", b"id;qty\n5;6\n"]
    assert isinstance(parts[0], Part)
    assert (parts[0].about, parts[0].outer) == ({"head": [["H", "4711"]]}, {"rows": []})


def test_without_a_header_the_columns_are_declared() -> None:
    codec = csv_codec(header=False, columns=["a", "b"])
    assert codec.decode(b"1,2\n").tree == {"rows": [{"a": "1", "b": "2"}]}
    assert codec.decode(b"").tree == {"rows": []}
    assert codec.encode({"a": "1", "b": "2"}) == b"1,2\r\n"
    assert [part.raw for part in codec.parts([b"1,2\n3,4"], "rows")] == [b"1,2\n", b"3,4"]


def test_declared_columns_are_what_the_header_must_say_in_any_order() -> None:
    codec = csv_codec(columns=["a", "b"])
    assert codec.decode(b"b,a\n1,2\n").tree == {"rows": [{"b": "1", "a": "2"}]}
    with pytest.raises(DecodeError, match='lacks "b" and has "c" besides') as caught:
        codec.decode(b"a,c\n")
    assert caught.value.code == "M218"


@pytest.mark.parametrize(
    ("body", "code", "line"),
    [
        (b"a,b\n1,2\n3\n", "M217", 3),
        (b'a,b\n"1\n1",2\n3,4,5\n', "M217", 4),
        (b'a,b\n1,2\n3,"4\n5,6\n', "M210", 3),
        (b'a,b\n1,"2"3\n', "M210", 2),
        (b"a,b,a\n", "M211", 1),
        (b"a, ,b\n", "M218", 1),
        (b"", "M218", 1),
        (b"\n\n", "M218", 2),
        (b"a,b\n1,\0\n", "M213", 2),
        (b"a,b\n1,2\n\xff,3\n", "M213", 3),
        ("a,b\n1,2\n".encode("utf-16"), "M213", 1),
        ("a,b\n1,2\n".encode("utf-16-le"), "M213", 1),
    ],
)
def test_a_fault_is_refused_with_its_line(body: bytes, code: str, line: int) -> None:
    with pytest.raises(DecodeError) as caught:
        csv_codec().decode(body)
    assert (caught.value.code, caught.value.line) == (code, line)


def test_blank_lines_may_be_errors() -> None:
    with pytest.raises(DecodeError, match="line 3 is blank"):
        csv_codec(blank="error").decode(b"a\n1\n\n2\n")


@pytest.mark.parametrize("size", [1, 6, 1000])
def test_a_ragged_or_badly_quoted_row_is_bad_alone(size: int) -> None:
    body = b'a,b\n1,2\n3\n"4"x,5\n6,"7\n8"\n9,10,11\n12,13\n'
    parts = list(csv_codec().parts(cut(body, size), "rows"))
    assert [part.line for part in parts] == [2, 3, 4, 5, 7, 8]
    bad = [part for part in parts if isinstance(part, BadPart)]
    assert [part.raw for part in bad] == [b"a,b\n3\n", b'a,b\n"4"x,5\n', b"a,b\n9,10,11\n"]
    for part in bad:
        with pytest.raises(DecodeError):
            csv_codec().decode_part(part.raw)


@pytest.mark.parametrize(
    ("body", "made", "code"),
    [
        (b'a,b\n1,2\n3,"4\n5,6\n', 1, "M210"),
        (b'a,b\n1,2\n3,"4\n5"x,6\n7,8\n', 1, "M210"),
        (b"a,a\n1,2\n", 0, "M211"),
        (b"a,b\n1,2\n\xff", 1, "M213"),
    ],
)
def test_where_rows_can_no_longer_be_told_apart_the_stream_ends(body: bytes, made: int, code: str) -> None:
    found: list[Any] = []
    with pytest.raises(DecodeError) as caught:
        found.extend(csv_codec().parts(cut(body, 4), "rows"))
    assert (len(found), caught.value.code) == (made, code)


def test_an_open_quote_does_not_swallow_a_large_file() -> None:
    chunks = (b'1,"2\n' if number == 3 else b"1,2\n" for number in range(1_000_000))
    found: list[Any] = []
    with pytest.raises(DecodeError, match="begins on line 5 is over 50000 characters") as caught:
        found.extend(csv_codec(max_row="50kB").parts(chain([b"a,b\n"], chunks), "rows"))
    assert (len(found), caught.value.code, caught.value.line) == (3, "M215", 5)


def test_large_fields_and_many_columns_are_read() -> None:
    assert csv_codec().decode(b"a\n" + b"x" * 200_000).tree["rows"][0]["a"] == "x" * 200_000
    wide = ",".join(f"c{number}" for number in range(10_000)).encode()
    assert len(csv_codec().decode(wide + b"\n" + wide).tree["rows"][0]) == 10_000
    with pytest.raises(DecodeError, match='names "c1" twice'):
        csv_codec().decode(wide + b",c1\n")


def test_a_split_takes_rows_and_nothing_else() -> None:
    with pytest.raises(DecodeError, match='only "rows"') as caught:
        list(csv_codec().parts([b"a\n1\n"], "lines"))
    assert caught.value.code == "M219"


async def test_control_totals_must_agree() -> None:
    component = esb_codecs()[0]
    services = FakeServices(
        expressions={
            "int(source.foot[0][1])": lambda message: int(message.source["foot"][0][1]),
            "decimal(source.foot[0][2])": lambda message: Decimal(message.source["foot"][0][2]),
        }
    )
    options = options_of(
        component, foot=1, count="int(source.foot[0][1])", sum={"b": "decimal(source.foot[0][2])"}, decimal=","
    )
    async with component.open(options, make_context(services)) as codec:
        assert codec.whole
        body = b'a,b\n1,"2,50"\n2,"0,25"\nT,2,2.75\n'
        assert len(codec.decode(body).tree["rows"]) == 2
        assert len(list(codec.parts(cut(body, 3), "rows"))) == 2
        for wrong in (body.replace(b"T,2", b"T,3"), body.replace(b"2.75", b"2.76")):
            with pytest.raises(DecodeError, match="control total") as caught:
                codec.decode(wrong)
            assert caught.value.code == "M291"
            with pytest.raises(DecodeError, match="control total"):
                list(codec.parts(cut(wrong, 3), "rows"))
        with pytest.raises(DecodeError, match="line 3: b is no number to add up: 'x'"):
            codec.decode(body.replace(b'"0,25"', b"x"))


@pytest.mark.parametrize(
    ("options", "tree", "body"),
    [
        ({}, {"rows": [{"a": 1, "b": True}]}, b"a,b\r\n1,true\r\n"),
        ({}, [{"a": Decimal("1.50"), "b": None}], b"a,b\r\n1.50,\r\n"),
        ({"decimal": ","}, {"a": Decimal("1.50"), "b": 2.5, "c": "1.5"}, b'a,b,c\r\n"1,50","2,5",1.5\r\n'),
        ({"true": "J", "false": "N"}, {"a": True, "b": False, "c": "true"}, b"a,b,c\r\nJ,N,true\r\n"),
        ({"null": "NULL"}, {"a": None, "b": "NULL"}, b'a,b\r\nNULL,"NULL"\r\n'),
        ({}, {"a": datetime(2026, 1, 2, 3, tzinfo=UTC)}, b"a\r\n2026-01-02T03:00:00Z\r\n"),
        ({"dates": "%d.%m.%Y"}, {"a": date(2026, 1, 2)}, b"a\r\n02.01.2026\r\n"),
        ({"newline": "\n", "delimiter": ";"}, {"a": "x;y", "b": 'q"'}, b'a;b\n"x;y";"q"""\n'),
        ({"columns": ["b", "a"]}, [{"a": "1", "b": "2"}, {"a": "3"}], b"b,a\r\n2,1\r\n,3\r\n"),
        ({"columns": ["a"]}, {"rows": []}, b"a\r\n"),
        ({"encoding": "windows-1252"}, {"a": "\u20ac"}, b"a\r\n\x80\r\n"),
        ({"encoding": "ascii", "unmappable": "replace"}, {"a": "\u20ac"}, b"a\r\n?\r\n"),
        ({"formula": "quote"}, {"a": "=1+1", "b": "-5", "c": "@x", "d": -1}, b"a,b,c,d\r\n'=1+1,-5,'@x,-1\r\n"),
        ({}, {"a": "=1+1"}, b"a\r\n=1+1\r\n"),
    ],
)
def test_values_are_written_as_the_options_say(options: dict[str, Any], tree: Any, body: bytes) -> None:
    assert csv_codec(**options).encode(tree) == body


@pytest.mark.parametrize(
    ("options", "tree", "code", "place"),
    [
        ({}, {"a": [1]}, "M227", "body.rows[0].a"),
        ({}, [{"a": "1"}, {"a": {"b": 1}}], "M227", "body.rows[1].a"),
        ({}, [{"a": 1}, {"b": 1}], "M228", "body.rows[1]"),
        ({}, [{"a": 1, "b": 2}, {"a": 1}], "M228", "body.rows[1]"),
        ({"columns": ["a"]}, {"a": 1, "b": 2}, "M228", "body.rows[0]"),
        ({}, [], "M228", "body.rows"),
        ({}, "text", "M220", "body"),
        ({}, ["x"], "M220", "body.rows[0]"),
        ({}, {"": 1}, "M224", "body.rows[0]"),
        ({}, {"a": float("inf")}, "M226", "body.rows[0].a"),
        ({}, {"a": b"x"}, "M220", "body.rows[0].a"),
        ({}, {"a": "\0"}, "M225", "body.rows[0]"),
        ({"encoding": "ascii"}, [{"a": "x"}, {"a": "\u20ac"}], "M225", "body.rows[1].a"),
        ({"formula": "refuse"}, {"a": "=cmd|' /C calc'!A0"}, "M229", "body.rows[0].a"),
        ({"null": ""}, {"a": None}, "M294", "body.rows[0]"),
        ({"quote": ""}, {"a": "x,y"}, "M225", "body.rows[0]"),
    ],
)
def test_what_csv_cannot_say_is_refused_by_its_column(
    options: dict[str, Any], tree: Any, code: str, place: str
) -> None:
    with pytest.raises(EncodeError) as caught:
        csv_codec(**options).encode(tree)
    assert (caught.value.code, caught.value.place) == (code, place)


def test_a_header_that_is_wanted_once_is_announced_in_the_media_type() -> None:
    codec = csv_codec(header="once")
    assert codec.media_type == "text/csv; header=present"
    assert codec.encode({"a": "1"}) == b"a\r\n1\r\n"


def test_the_original_bytes_go_on_only_in_the_same_dialect() -> None:
    assert csv_codec().keeps(csv_codec())
    assert not csv_codec().keeps(csv_codec(delimiter=";"))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("delimiter", ""),
        ("delimiter", ";;"),
        ("delimiter", "\n"),
        ("quote", ","),
        ("escape", '"'),
        ("head", -1),
        ("header", False),
        ("columns", ["a", "a"]),
        ("columns", ["a", " "]),
    ],
)
def test_bad_options_are_named(option: str, value: Any) -> None:
    with pytest.raises(OptionError) as caught:
        open_codec(options_of(esb_codecs()[0], **{option: value}), make_context(FakeServices()))
    assert caught.value.option == option


def test_an_encoding_that_hides_characters_is_no_option() -> None:
    with pytest.raises(Exception, match="no encoding for messages"):
        options_of(esb_codecs()[0], encoding="utf-7")


async def test_it_opens_as_a_codec() -> None:
    component = esb_codecs()[0]
    async with component.open(options_of(component), make_context(FakeServices())) as codec:
        assert isinstance(codec, Codec)
