"""What a message is on its way through a route, and what cannot come true of it."""

from __future__ import annotations

import pytest
from table_of_tests import BEGIN, errors, told

OPEN = "[map.erp]\nid = 'body.id'\n[route.a]\nfrom = { http = \"POST /a\" }\n"
"""What a test adds to `BEGIN + OPEN` begins in line 11."""


def flow(do: str, rest: str = 'to = "erp"', *, warnings: bool = False) -> list[str]:
    """What is told of a route with these steps."""
    text = BEGIN + OPEN + f"do = [{do}]\n{rest}\n"
    return told(text) if warnings else errors(text)


RIGHT = [
    "",
    '{ read = "json" }',
    '{ read = "json" }, { map = "erp" }, { write = "json" }',
    '{ read = "json" }, { write = "json" }, { keep = \'body.id == 1\', reason = "x" }',
    '{ read = "json" }, { write = "xml", root = "a" }, { read = "xml" }',
    '{ read = "json", if = \'header.x == "1"\' }, { keep = \'body.id == 1\', reason = "x" }',
    "{ keep = 'size(raw) > 1', reason = \"x\" }",
    "{ set = { \"header.x\" = '1' } }",
    '{ read = "json", bad = "reply 422" }, { split = "body", whole = true }, { map = "erp" }, { write = "json" }',
]


@pytest.mark.parametrize("do", RIGHT)
def test_steps_that_fit_each_other_are_right(do: str) -> None:
    assert flow(do) == [] or do.startswith('{ read = "json", bad')


UNREAD = {
    "{ keep = 'body.id == 1', reason = \"x\" }": "11:17 E178 route \"a\": this asks for body.id, and nothing has read the body",
    "{ keep = 'body[\"@id\"] == 1', reason = \"x\" }": '11:17 E178 route "a": this asks for body["@id"]',
    '{ map = "erp" }, { write = "json" }': '11:15 E178 route "a": the map asks for body.id',
    "{ set = { \"body.x\" = '1' } }": '11:28 E178 route "a": body.x is a field of a tree',
    '{ remove = ["body.x"] }': '11:18 E178 route "a": body.x is a field of a tree',
    '{ write = "json" }': '11:17 E178 route "a": write wants a tree',
    '{ split = "rows" }': '11:17 E178 route "a": split wants a tree',
    '{ log = "{body.id}" }': '11:17 E178 route "a": this asks for body.id',
    '{ log = "x", if = \'body.x\' }': '11:26 E178 route "a": this asks for body.x',
}  # fmt: skip


@pytest.mark.parametrize(("do", "expected"), UNREAD.items())
def test_what_asks_for_a_field_before_any_read_is_told(do: str, expected: str) -> None:
    found = flow(do)
    assert any(line.startswith(expected) for line in found), found


AFTER = {
    'cases = [{ when = \'body.x == 1\', to = "erp" }, { otherwise = true, to = "erp" }]': "12:20 E178",
    'to = "erp"\nonce = "{body.id}"': "13:10 E178",
    'to = "erp"\nkeys = { order = "{body.id}" }': "13:20 E178",
    'to = [{ target = "erp", do = [{ write = "json" }] }]': "12:41 E178",
    'to = "out"\n[target.out]\nfile = "out"\nname = "{body.id}.json"': '12:6 E178 route "a": out asks for body.id',
}


@pytest.mark.parametrize(("rest", "expected"), AFTER.items())
def test_cases_keys_and_targets_that_ask_an_unread_body_are_told(rest: str, expected: str) -> None:
    found = flow("", rest)
    assert any(line.startswith(expected) for line in found), found
    assert flow('{ read = "json" }', rest.replace('write = "json"', 'log = "x"')) == []


def test_once_is_asked_after_the_leading_read_and_check_and_before_any_other_step() -> None:
    assert flow('{ log = "x" }, { read = "json" }', 'to = "erp"\nonce = "{body.id}"') == [
        '13:10 E178 route "a": this asks for body.id, and nothing has read the body; put { read = "json" } (or xml, csv) before it'
    ]


def test_a_body_that_is_read_twice_is_told() -> None:
    assert flow('{ read = "json" }, { read = "json" }') == [
        '11:35 E179 route "a": the body is a tree already; leave this read out, or put a write before it'
    ]


def test_a_mapped_body_without_a_write_is_an_error_for_each_target() -> None:
    rest = 'to = ["erp", { target = "erp", do = [{ write = "json" }] }]'
    assert flow('{ read = "json" }, { map = "erp" }', rest) == [
        '12:7 E175 route "a": a mapped body for erp has no write; put { write = "json" } after the map'
    ]


def test_a_changed_body_without_a_write_is_said_to_be_written_as_it_was_read() -> None:
    for change in ("{ set = { \"body.x\" = '1' } }", '{ remove = ["body.x"] }', '{ map = "erp", into = "body.erp" }'):
        assert flow(f'{{ read = "xml" }}, {change}', warnings=True) == [
            'warning 12:6 W301 route "a": the changed body for erp is written as xml, as it was read; '
            'say so with { write = "xml" }'
        ]
    assert flow('{ read = "xml" }, { set = { "header.x" = \'1\' } }', warnings=True) == []


LATE = {
    '{ read = "csv", bad = "reply 422" }, { split = "rows" }': ("11:29 E176", ""),
    '{ read = "csv" }, { split = "rows" }, { log = "x", bad = "reply 422" }': ("11:64 E176", ""),
    '{ read = "csv" }, { log = "x", bad = "reply 422" }, { split = "rows" }': ("", ""),
    '{ read = "csv" }, { split = "rows" }': ("12:13 E176", 'unmatched = "reply 422"\ncases = [{ when = \'true\', to = "erp" }]'),
    '{ read = "csv" },  { split = "rows" }': ("12:35 E176", "cases = [{ when = 'true', reply = \"422 no\" }]"),
    '{ read = "csv" },   { split = "rows" }': ("13:7 E176", 'to = "erp"\nbad = "reply 422"'),
}  # fmt: skip


@pytest.mark.parametrize(("do", "expected"), LATE.items())
def test_after_a_split_nobody_can_be_refused_any_more_r1(do: str, expected: tuple[str, str]) -> None:
    found = flow(do, expected[1] or 'to = "erp"')
    assert [line[: len(expected[0])] for line in found] == ([expected[0]] if expected[0] else [])


def test_a_key_from_the_body_keeps_a_csv_from_streaming_so_that_its_read_may_refuse() -> None:
    assert flow('{ read = "csv", bad = "reply 422" }, { split = "rows" }', 'to = "erp"\nonce = "{sha(raw)}"') != []
    assert flow('{ read = "csv", bad = "reply 422" }, { split = "rows" }', 'to = "erp"\nonce = "{size(raw)}"') == []


def test_a_route_that_is_handed_messages_says_so() -> None:
    inner = '[route.b]\nfrom = { http = "POST /b" }\nto = "erp"\n'
    assert flow("", 'to = "route:b"\n' + inner) == [
        '12:6 E183 route "a": route "b" takes nothing from other routes; give [route.b] from = { route = true }'
    ]
    assert flow("", 'to = "route:b"\n' + inner.replace('http = "POST /b"', "route = true")) == []


def test_a_target_that_cannot_tell_a_repeat_is_said_r16() -> None:
    def warned(target: str) -> list[str]:
        return told(BEGIN + OPEN + f'do = [{{ read = "json" }}]\nto = "t"\n[target.t]\n{target}\n')

    assert warned('http = "POST http://x/"') == [
        'warning 13:9 W302 target "t" cannot tell a repeat after a lost answer; write id_header = "Idempotency-Key" if it '
        'looks at such a header, or give it a retry policy with unknown = { as = "park" }'
    ]
    assert warned('http = "POST http://x/"\nid_header = "X-Id"') == []
    assert warned('http = "POST http://x/"\nretry = "p"\n[retry.p]\nunknown = { as = "park" }') == []
    assert warned('memory = "x"') == []


def test_steps_that_several_routes_share_are_told_once() -> None:
    text = (
        BEGIN + '[steps.s]\ndo = [{ read = "json" }, { keep = \'bdy\', reason = "x" }]\n'
        '[route.a]\nfrom = { http = "POST /a" }\ndo = [{ use = "s" }]\nto = "erp"\n'
        '[route.b]\nfrom = { http = "POST /b" }\ndo = [{ use = "s" }]\nto = "erp"\n'
    )
    assert [line[:9] for line in told(text)] == ["8:36 E221"]


def test_a_route_with_a_step_that_could_not_be_made_is_not_told_what_follows_from_it() -> None:
    assert [line.split()[1] for line in flow('{ raed = "json" }, { map = "erp" }')] == ["E203"]


def test_two_routes_on_one_method_and_path_are_told() -> None:
    text = BEGIN + OPEN + 'to = "erp"\n[route.b]\nfrom = { http = "POST /a" }\nto = "erp"\n'
    (line,) = errors(text)
    assert line.startswith('13:17 E182 route "b": ')
    assert "route a" in line


def test_two_routes_on_the_same_files_are_told() -> None:
    taken = BEGIN + '[route.a]\nfrom = { file = "drop", match = "*.xml" }\ndo = [{ read = "xml" }]\nto = "erp"\n'
    second = '[route.b]\nfrom = { file = "%s", match = "%s" }\ndo = [{ read = "xml" }]\nto = "erp"\n'
    (line,) = errors(taken + second % ("./drop/", "*.xml"))
    assert 'E182 route "b": *.xml in folder drop is taken by route a' in line
    assert errors(taken + second % ("drop", "*.csv")) == []


def test_a_case_that_takes_what_another_took_is_told() -> None:
    cases = "cases = [{ name = 'a', when = '%s', to = \"erp\" }, { name = 'b', when = '%s', to = \"erp\" }]"
    same = 'header.x  == "1"', 'header.x == "1"'
    (line,) = flow("", cases % same)
    assert line.endswith(
        'route "a": case "b" is never asked: "a" takes the same before it; leave it out, or put it first'
    )
    (line,) = flow("", cases % ("true", 'header.x == "1"'))
    assert "E163" in line
    assert flow("", cases % ('header.x == "2"', 'header.x == "1"')) == []
    assert flow("", cases % same + '\nmatch = "all"') == []


def test_routes_that_hand_everything_to_each_other_are_told_once() -> None:
    b = '[route.b]\nfrom = { route = true }\nto = "route:a"\n'
    text = BEGIN + '[route.a]\nfrom = [{ memory = "x" }, { route = true }]\nto = ["erp", "route:b"]\n'
    assert told(text + b) == [
        'warning 9:14 W307 route "a": every message goes round for ever (a -> b -> a) and ends dead after 16 hops; '
        "lead one of them elsewhere, or on by a case"
    ]
    assert told(text + b.replace("route:a", "erp")) == []
    assert [line[:15] for line in told(text.replace("route:b", "route:a"))] == ["warning 9:14 W3"]


def test_a_login_in_a_url_is_a_secret_in_the_table() -> None:
    for url in ("https://user:pass@shop.example.org/", "https://shop.example.org/?a=1&api_key=abc"):
        found = errors(BEGIN + f'[target.x]\nhttp = "POST {url}"\nid_header = "I"\n')
        assert any(line.startswith('8:8 E172 target "x": a secret stands here itself') for line in found)
    assert errors(BEGIN + '[target.x]\nhttp = "POST https://shop.example.org/?token={body.t}"\nid_header = "I"\n') == []


def test_an_option_for_the_other_direction_is_told() -> None:
    found = flow('{ read = "json", indent = 2 }, { write = "xml", root = "a", types = {} }', warnings=True)
    assert [line[:21] for line in found if "W309" in line] == ["warning 11:24 W309 ro", "warning 11:67 W309 ro"], found


TESTS = {
    'given = { text = "{}", file = "no.json" }\nexpect = { case = "x" }': ["given has a file and a text", "no file no.json"],
    'given = { text = "{}" }\nexpect = {}': ["it expects nothing"],
    'given = { text = "{}" }\nexpect = { state = "dun" }': ['no message ends as "dun"'],
    'given = { text = "{}" }\nexpect = { parts = 1 }\nanswers = { erp = ["foo"] }': ['"foo" is no answer'],
    'given = { text = "{}" }\nexpect = { parts = 1 }\nanswers = { erp = "200" }': ["answers are not a list of texts"],
}  # fmt: skip


@pytest.mark.parametrize(("test", "expected"), TESTS.items())
def test_a_test_that_cannot_be_run_or_cannot_fail_is_told(test: str, expected: list[str]) -> None:
    rest = f'to = "erp"\n[[test]]\nname = "t"\nroute = "a"\n{test}'
    found = [line for line in flow("", rest) if "E189" in line]
    assert len(found) == len(expected), found
    assert all(any(text in line for line in found) for text in expected), found
