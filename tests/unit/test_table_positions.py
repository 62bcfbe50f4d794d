"""Where keys and values stand in a TOML text."""

from __future__ import annotations

import pytest
import tomli

from esb.table.positions import Positions

TEXT = """\
a = 1
b.c = "x"
[t.u]
k = { v = [1, "two", { w = 3 }] }
[[list]]
n = "first"
[[list]]
n = "second"
[list.sub]
deep = 'here'
"quoted key" = true
"""


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        (("a",), (1, 5), (1, 1)),
        (("b",), (2, 1), (2, 1)),
        (("b", "c"), (2, 7), (2, 1)),
        (("t", "u"), (3, 1), (3, 4)),
        (("t", "u", "k"), (4, 5), (4, 1)),
        (("t", "u", "k", "v"), (4, 11), (4, 7)),
        (("t", "u", "k", "v", 1), (4, 15), (4, 15)),
        (("t", "u", "k", "v", 2, "w"), (4, 28), (4, 24)),
        (("list", 0, "n"), (6, 5), (6, 1)),
        (("list", 1), (7, 1), (7, 1)),
        (("list", 1, "n"), (8, 5), (8, 1)),
        (("list", 1, "sub", "deep"), (10, 8), (10, 1)),
        (("list", 1, "sub", "quoted key"), (11, 16), (11, 1)),
    ],
)
def test_every_key_and_value_has_its_line_and_column(
    path: tuple[str | int, ...], value: tuple[int, int], key: tuple[int, int]
) -> None:
    spots = Positions(TEXT)
    assert spots.where(path) == value
    assert spots.where(path, key=True) == key


def test_what_is_not_there_stands_at_the_key_above_it() -> None:
    assert Positions(TEXT).where(("t", "u", "missing", 3)) == (3, 4)
    assert Positions(TEXT).where(("nowhere",)) is None


def test_a_table_with_a_header_of_its_own_is_told_from_an_inline_one() -> None:
    spots = Positions(TEXT)
    assert spots.has_header(("t", "u"))
    assert spots.has_header(("list", 1))
    assert not spots.has_header(("t", "u", "k"))


STRINGS = {
    "plain": 's = "a b"',
    "escapes": r's = "a\tb\u00e4\x41\U0001F600\"z\\"',
    "literal": r"s = 'a\tb\'",
    "long": 's = """\nfirst\nsecond "" end"""',
    "long with escapes": 's = """a\\u00e4\n\\"""b"""',
    "folded": 's = """a \\\n   \n  b\\\n c"""',
    "long literal": "s = '''\nit's\nhere'''",
    "quotes at the end": 's = """a"""""',
    "line ends of two characters": 's = """\r\na\r\nb"""',
    "umlauts before": "x = 'äöü'\ns = 'ß€'",
}


@pytest.mark.parametrize("text", STRINGS.values(), ids=STRINGS.keys())
def test_an_offset_into_a_text_is_the_place_of_that_very_character(text: str) -> None:
    value = tomli.loads(text)["s"]
    spots = Positions(text)
    lines = text.split("\n")
    for offset, letter in enumerate(value):
        place = spots.inside(("s",), offset)
        assert place is not None
        line, column = place
        rest = "\n".join([lines[line - 1][column - 1 :], *lines[line:]])
        seen = "\n" if rest.startswith("\r\n") else rest[0]
        assert seen == letter or (seen == "\\" and '"' in text)


def test_the_end_of_a_text_is_its_closing_quote() -> None:
    assert Positions('s = "abc"').inside(("s",), 3) == (1, 9)


def test_a_broken_text_is_read_as_far_as_it_goes() -> None:
    spots = Positions('[a]\nx = 1\n[b]\ny = "no end', broken=True)
    assert ("a", "x") in spots
    assert spots.base == ("b",)
    assert spots.begun == 14
