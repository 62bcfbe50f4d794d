"""The usual slips in TOML: each is told at its very place, with what would be right."""

from __future__ import annotations

import pytest
from table_of_tests import BEGIN, told

from esb.errors import ConfigError
from esb.table.syntax import decoded, parse

SLIPS = {
    'name: "x"': ("1:5", "with an equals sign"),
    "[bus]\nname : x\n": ("2:6", "with an equals sign"),
    "durable = yes": ("1:11", "write true or false"),
    "x = { a = True }": ("1:11", "write true or false"),
    "a = null": ("1:5", "TOML has no null"),
    "timeout = 30s": ("1:13", 'quote a value with its unit: "30s"'),
    "x = { timeout = 1h30m, b = 1 }": ("1:18", "quote a value with its unit"),
    "limit = 50/s": ("1:11", "quote a value with its unit"),
    "sizes = [5MB]": ("1:11", "quote a value with its unit"),
    "jitter = 5%": ("1:11", "quote a value with its unit"),
    'a = { @id = "x" }': ("1:7", 'quote a name with @ in it: "@id"'),
    "a = @id": ("1:5", 'quote a name with @ in it: "@id"'),
    "soap:Body = 1": ("1:5", 'quote a name with a colon in it: "soap:Body"'),
    "a = { soap:Body = 1 }": ("1:11", 'quote a name with a colon in it: "soap:Body"'),
    'a = "\\d+"': ("1:8", "use single quotes, '\\d'"),
    'p = "C:\\in"': ("1:10", "use single quotes"),
    'p = "C:\\Users\\x"': ("1:10", "use single quotes"),
    "r = 'customer's order'": ("1:15", "an apostrophe ends a text in single quotes"),
    "a = { r = 'customer's order', b = 1 }": ("1:21", "an apostrophe ends a text in single quotes"),
    'when = "x == "EU""': ("1:15", "put a text with quotes in it in single quotes"),
    'once = "{body.Order["@id"]}"': ("1:22", "put a text with quotes in it in single quotes"),
    'cases = [\n  { name = "a", to = ["x"] }\n  { name = "b", to = ["y"] },\n]': ("3:3", "a comma is missing between two tables"),
    'to = ["a" "b"]': ("1:11", "a comma is missing between two values"),
    "a = { b = 1 c = 2 }": ("1:13", "a comma is missing before this key"),
    "a = {\n b = 1\n c = 2 }": ("3:2", "a comma is missing before this key"),
    "x = erp": ("1:5", "quote a text"),
    "to = [erp]": ("1:7", "quote a text"),
    "from = { file = /data/in }": ("1:17", "quote a text"),
    "do = [{ keep = body.x == 1 }]": ("1:16", "put an expression in single quotes"),
    "x = “a”": ("1:5", "typographic quotes"),
    'x = "a",': ("1:8", "no comma or semicolon ends a line"),
    'x = "a";': ("1:8", "no comma or semicolon ends a line"),
    "x =": ("1:4", "the value is missing"),
    "x = [1,\n2\n[route.b]\n": ("3:1", "the [ of line 1 has no ]"),
    "x = { a = 1\n[route.b]\n": ("2:1", "the { of line 1 has no }"),
    'a = 1\nx = """abc\n': ("2:1", "it begins here and has no end"),
    "// hello\n": ("1:1", "a comment begins with #"),
    'a = "x" // c': ("1:9", "a comment begins with #"),
    "a = 1\n<<<<<<< HEAD\n": ("2:1", "a merge conflict was left here"),
    "[route.orders\nx = 1": ("1:14", "the header has no ]"),
    "[route.my route]\n": ("1:11", "a name is made of a-z 0-9 _ -"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SLIPS.items(), ids=[text[:30] for text in SLIPS])
def test_a_slip_is_told_at_its_place_with_what_would_be_right(text: str, expected: tuple[str, str]) -> None:
    with pytest.raises(ConfigError) as raised:
        parse(text, "routes.toml")
    (problem,) = raised.value.problems
    assert (problem.code, f"{problem.line}:{problem.column}") == ("E101", expected[0])
    assert expected[1] in problem.hint


TWICE = {
    "[route.a]\nx = 1\n[route.b]\n[route.a]\nx = 2": ("4:1", "the table [route.a] is defined twice", "1:8"),
    "[a]\nx = 1\ny = 2\nx = 3": ("4:1", 'the key "x" is defined twice', "2:1"),
    "[[c]]\nx = 1\n[[c]]\nx = 1\nx = 2": ("5:1", 'the key "x" is defined twice', "4:1"),
    "[[c]]\n[c.d]\nx = 1\n[c.d]": ("4:1", "the table [c.d] is defined twice", "2:4"),
    "a.b = 1\na = 2\n": ("2:1", 'the key "a" is defined twice', "1:1"),
    "a = { b = 1, c = 2, b = 3 }": ("1:21", 'the key "b" is defined twice', "1:7"),
    "[x]\na = { b = 1 }\n[x.a]\nc = 1": ("3:1", "the table [x.a] is defined twice", "2:1"),
}


@pytest.mark.parametrize(("text", "expected"), TWICE.items())
def test_what_is_defined_twice_is_told_with_both_places(text: str, expected: tuple[str, str, str]) -> None:
    with pytest.raises(ConfigError) as raised:
        parse(text, "routes.toml")
    (problem,) = raised.value.problems
    assert (f"{problem.line}:{problem.column}", problem.message) == expected[:2]
    assert f"it stands already at {expected[2]}:" in problem.hint


def test_bytes_that_are_no_utf8_are_told_with_line_and_column() -> None:
    with pytest.raises(ConfigError) as raised:
        decoded(b'a = 1\nb = "\xff"\n', "routes.toml")
    (problem,) = raised.value.problems
    assert (problem.code, problem.line, problem.column) == ("E102", 2, 6)


def test_a_byte_order_mark_is_tolerated() -> None:
    text = BEGIN + '[route.orders]\nfrom = { http = "POST /orders" }\nto = ["erp"]\n'
    assert told("\ufeff" + text) == []


def test_a_very_deep_table_is_refused_and_does_not_crash() -> None:
    with pytest.raises(ConfigError):
        parse("a = " + "[" * 5000 + "]" * 5000, "routes.toml")


def test_a_windows_path_that_became_a_tab_is_told() -> None:
    text = BEGIN + '[route.orders]\nfrom = { http = "POST /orders" }\nabout = "C:\\temp"\nto = ["erp"]\n'
    assert [line[:17] for line in told(text)] == ["warning 9:9 W303 "]


LANDED = {
    '[route.a]\nfrom = { http = "POST /a" }\n[route.a.retain]\nbody = "7d"\nto = "erp"\n': (
        '11:1 E110 route "a": unknown key "to"; it landed in [route.a.retain]; it belongs to [route.a], above that header'
    ),
    '[route.a]\nfrom = { http = "POST /a" }\n[[route.a.cases]]\notherwise = true\nto = "erp"\nunmatched = "dead"\n': (
        '12:1 E110 route "a": unknown key "unmatched"; it landed in [[route.a.cases]]; it belongs to [route.a], '
        "above that header"
    ),
    '[bus.outbox]\nrows = 5\ndata = "x"\n': (
        '9:1 E110 unknown key "data"; it landed in [bus.outbox]; it belongs to [bus], above that header'
    ),
    '[bus]\ninclude = ["x.toml"]\n': (
        '8:1 E110 unknown key "include"; it landed in [bus]; it belongs to the top of the file, above that header'
    ),
}


@pytest.mark.parametrize(("text", "expected"), LANDED.items())
def test_a_key_that_landed_in_the_table_above_it_is_told_where_it_belongs(text: str, expected: str) -> None:
    assert expected in told(BEGIN + text)
