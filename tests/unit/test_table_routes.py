"""Routes, targets, steps and their short forms: names looked up, words told apart, positions inside texts."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace
from table_of_tests import BEGIN, HEAD, errors, loaded, registry, told

from esb.plugins import PluginFile, Registry
from esb.ports import Component
from esb.table.model import OutcomeSpec, ReplySpec
from esb.units import Duration, Rate

OPEN = '[route.a]\nfrom = { http = "POST /a" }\n'
"""The head of a route: what a test adds to `BEGIN + OPEN` begins in line 9."""
READ = 'do = [{ read = "json" }]\n'


# --- components ---------------------------------------------------------------------------------------------------


def test_exactly_one_key_names_a_component() -> None:
    assert errors(HEAD + '[target.two]\nhttp = "POST http://x/"\nfile = "out"\n[target.none]\nauth = "x"\n') == [
        '4:1 E202 target "two": "http" and "file" are both a target; keep one',
        '7:1 E201 target "none": this names no target; name one of amqp, file, http, memory',
        '8:8 E209 target "none": no auth named "x"; there is none',
    ]


UNKNOWN = {
    '[target.x]\nhtpp = "POST http://x/"': '5:1 E203 target "x": no target named "htpp"; did you mean "http"?',
    '[target.x]\ncsv = "out"': '5:1 E203 target "x": no target named "csv"; csv is a codec',
    '[target.x]\ntimer = "out"': '5:1 E203 target "x": no target named "timer"; timer is a source',
    '[target.x]\nhttp = "POST http://x/"\nconcurency = 2': (
        '6:1 E110 target "x": unknown key "concurency"; did you mean "concurrency"?'
    ),
    '[target.x]\nhttp = "POST http://x/"\nbatch = { count = 2 }': (
        '6:1 E150 target "x": "batch" is not in this version of esb; leave it out'
    ),
    '[target.x]\nhttp = 5': '5:8 E112 target "x": "http" is a whole number, not a text; write http = "5"',
    '[target.x]\nhttp = "POST http://x/"\nheaders = { a = 1, b = 2 }': (
        '6:17 E112 target "x": "a" is a whole number, not a text; write a = "1"'
    ),
    '[target.x]\nhttp = "POST http://x/"\nheaders = { Authorization = "Bearer abc" }': (
        '6:29 E172 target "x": a secret stands here itself; make an [auth.NAME] of it, with the secret by reference'
    ),
    '[target.x]\nhttp = "POST http://x/{body.id"': '5:23 E226 target "x": a { without its }; write {{ for a brace',
    '[target.x]\nhttp = "POST http://x/"\nok = "statu == 200"': (
        '6:7 E221 target "x": there is no variable "statu"; did you mean "status"?'
    ),
    '[target.x]\nfile = "out"\nname = "{status}.json"': (
        "6:10 E221 target \"x\": there is no variable \"status\"; status and reply are what a target's ok looks at"
    ),
    '[target.x]\nhttp = "POST http://x/"\norder_by = "{bdy.id}"': (
        '6:14 E221 target "x": there is no variable "bdy"; did you mean "body"?'
    ),
    '[target.X]\nhttp = "POST http://x/"': '4:9 E114 "X" cannot be a name',
    '[target.x]\nhttp = "POST http://x/"\nretry = "patint"': (
        '6:9 E208 target "x": no retry policy named "patint"; did you mean "patient"?'
    ),
    '[target.x]\nhttp = "POST http://x/"\nwhen_stuck = "skipp"': (
        '6:14 E113 target "x": "when_stuck" cannot be "skipp"; did you mean "skip"?'
    ),
    '[target.x]\nhttp = "POST http://x/"\nconcurrency = 0': (
        '6:15 E112 target "x": "concurrency" is 0; it must be 1 or more'
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), UNKNOWN.items())
def test_a_wrong_target_is_told_with_what_would_be_right(text: str, expected: str) -> None:
    found = errors(HEAD + text)
    assert any(line.startswith(expected) for line in found), found


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    name: str = ""
    level: int = 1


def _open(options: Nothing, context: Any) -> AbstractAsyncContextManager[Any]:
    return nullcontext(None)


def with_component(*added: Component[Any], plugins: Iterable[PluginFile] = ()) -> Registry:
    """The shipped plugins and these."""
    known = registry()
    components = {**known.components, **{(item.kind, item.name): item for item in added}}
    return replace(known, components=components, plugins=(*known.plugins, *plugins))


def test_a_missing_extra_is_told_with_the_line_to_type() -> None:
    sftp = Component(
        kind="target", name="sftp", about="", options=Nothing, main="name", open=_open, example="",
        needs={"no_such_module": "sftp"},
    )  # fmt: skip
    assert errors(HEAD + '[target.x]\nsftp = "host"\n', plugins=with_component(sftp)) == [
        '5:1 E204 target "x": "sftp" needs a package that is not installed; pip install \'esb[sftp]\''
    ]


def test_a_plugin_that_was_left_out_is_named_with_its_reason() -> None:
    left_out = PluginFile(name="target_sftp", refused="ImportError: no asyncssh")
    assert errors(HEAD + '[target.x]\nsftp = "host"\n', plugins=with_component(plugins=[left_out])) == [
        '5:1 E203 target "x": no target named "sftp"; the plugin target_sftp was left out: ImportError: no asyncssh'
    ]


def test_a_component_named_like_another_s_option_breaks_no_table() -> None:
    """Installing a plugin whose target is called `headers` must not break a table that has the option."""
    headers = Component(kind="target", name="headers", about="", options=Nothing, main="name", open=_open, example="")
    text = BEGIN + '[target.x]\nhttp = "POST http://x/"\nid_header = "I"\nheaders = { a = "1" }\n'
    assert loaded(text, plugins=with_component(headers)).targets["x"].component.name == "http"


def test_a_limit_has_a_short_and_a_long_form() -> None:
    def limit(text: str) -> tuple[Rate | None, int | None]:
        target = loaded(BEGIN + f"limit = {text}\n").targets["erp"]
        return target.limit, target.burst

    assert limit('"50/s"') == (Rate(50, 1), None)
    assert limit('{ rate = "300/m", burst = 100 }') == (Rate(300, 60), 100)
    assert errors(BEGIN + "limit = 50\n") == ['7:9 E112 target "erp": a rate needs its time; write "50/s"']
    assert errors(BEGIN + 'limit = { rate = "5", burst = 0 }\n') == [
        '7:31 E112 target "erp": burst is no whole number of 1 or more; write burst = 100'
    ]
    assert errors(BEGIN + "limit = { burst = 2, rte = 1 }\n") == [
        '7:22 E110 target "erp": unknown key "rte"; did you mean "rate"?'
    ]


# --- sources and replies ------------------------------------------------------------------------------------------


def test_a_route_has_one_source_or_several_and_may_be_handed_messages() -> None:
    text = '[route.a]\nfrom = [{ http = "POST /a" }, { file = "in", every = "5s" }, { route = true }]\nto = "erp"\n'
    route = loaded(BEGIN + text).routes["a"]
    assert [source.component.name for source in route.sources] == ["http", "file"]
    assert (route.from_route, route.sources[1].every) == (True, Duration(5))


SOURCES = {
    'from = "in"': '8:8 E112 route "a": from is not a table; write from = { http = "POST /orders" }',
    'from = { route = "b" }': '8:18 E112 route "a": route takes true; write from = { route = true }',
    'from = { route = true, every = "5s" }': '8:24 E110 route "a": unknown key "every"; what other routes hand over',
    'from = { fiel = "in" }': '8:10 E203 route "a": no source named "fiel"; did you mean "file"?',
    'from = { poll = "GET http://x/" }': '8:10 E150 route "a": "poll" is not in this version of esb',
    'from = { file = "in", window = "Mon" }': '8:23 E150 route "a": "window" is not in this version of esb',
    'from = { file = "in", evry = "5s" }': '8:23 E110 route "a": unknown key "evry"; did you mean "every"?',
    'from = { file = "in", every = 5 }': '8:31 E112 route "a": "every" is wrong: a duration needs its unit; write "5s"',
    'from = { file = "in", reply = "202 after stored" }': '8:23 E177 route "a": a file source has nobody to answer',
    'from = { http = "POST /a", auth = "partners" }': '8:35 E209 route "a": no auth named "partners"; there is none',
    'from = { http = "POST /a", listener = "tls" }': '8:40 E214 route "a": no listener named "tls"; there is default',
    "": '7:1 E162 route "a": no from says where its messages come from',
}


@pytest.mark.parametrize(("text", "expected"), SOURCES.items())
def test_a_wrong_source_is_told(text: str, expected: str) -> None:
    found = errors(BEGIN + f'[route.a]\n{text}\nto = "erp"\n')
    assert any(line.startswith(expected) for line in found), found


REPLIES: dict[str, ReplySpec] = {
    '"202 after stored"': ReplySpec("stored", 202),
    '"200 after delivered"': ReplySpec("delivered", 200),
    '"201 after delivered:erp"': ReplySpec("delivered", 201, "erp"),
    '"from:erp"': ReplySpec("from", 200, "erp"),
    '{ from = "erp", timeout = "5s", late = "deliver" }': ReplySpec("from", 200, "erp", 5.0, "deliver"),
    '{ answer = "200 after delivered", timeout = "1m" }': ReplySpec("delivered", 200, None, 60.0),
}


@pytest.mark.parametrize(("text", "expected"), REPLIES.items())
def test_a_reply_is_read_in_both_forms(text: str, expected: ReplySpec) -> None:
    route = loaded(BEGIN + f'[route.a]\nfrom = {{ http = "POST /a", reply = {text} }}\nto = "erp"\n').routes["a"]
    assert route.sources[0].reply == expected


WRONG_REPLIES = {
    '"202 aftr stored"': ("8:41 E143", "not a reply"),
    '"200 after deliverd"': ("8:47 E143", 'did you mean "delivered"?'),
    '"200 after delivered:erq"': ("8:57 E206", 'no target named "erq"; did you mean "erp"?'),
    '"from:erq"': ("8:42 E206", 'did you mean "erp"?'),
    '"500 after stored"': ("8:37 E143", "answers 2xx, not 500"),
    '"202 after stored please"': ("8:54 E143", "not a reply"),
    '"202"': ("8:37 E143", "not a reply"),
    "5": ("8:36 E143", "not a reply"),
    '{ from = "erp", timeout = 5 }': ("8:62 E112", 'write "5s"'),
    '{ from = "erq" }': ("8:46 E206", 'did you mean "erp"?'),
    '{ from = "erp", lat = "x" }': ("8:52 E110", 'did you mean "late"?'),
    '{ from = "erp", late = "drop" }': ("8:59 E113", "it is one of expire, deliver"),
    '{ answer = "202 after stored", timeout = "5s" }': ("8:77 E143", "waits for nobody"),
    '{ answer = "200 after delivered", late = "expire" }': ("8:77 E143", "late is for an answer"),
    '{ answer = "200 aftr delivered" }': ("8:52 E143", "not a reply"),
    '{ timeout = "5s" }': ("8:36 E143", 'write { from = "TARGET", timeout = "5s" }'),
}


@pytest.mark.parametrize(("text", "expected"), WRONG_REPLIES.items())
def test_a_wrong_reply_is_told_at_the_word_that_is_wrong(text: str, expected: tuple[str, str]) -> None:
    (line,) = errors(BEGIN + f'[route.a]\nfrom = {{ http = "POST /a", reply = {text} }}\nto = "erp"\n')
    assert line.startswith(expected[0])
    assert expected[1] in line


def test_an_answer_comes_from_a_target_that_the_route_leads_to() -> None:
    text = BEGIN + '[target.b]\nmemory = "b"\n[route.a]\nfrom = { http = "POST /a", reply = "from:b" }\nto = "erp"\n'
    assert errors(text) == [
        '10:36 E169 route "a": the answer waits for b, where no case and no to leads; it leads to erp'
    ]


# --- outcomes and cases -------------------------------------------------------------------------------------------

OUTCOMES = {
    'bad = "dead"': OutcomeSpec("dead"),
    'bad = "note"': OutcomeSpec("note"),
    'bad = "reply 422"': OutcomeSpec("reply", "", 422),
    'bad = "reply 409 not twice"': OutcomeSpec("reply", "not twice", 409),
    'bad = { reply = "400 no" }': OutcomeSpec("reply", "no", 400),
    'bad = { dead = "so bad" }': OutcomeSpec("dead", "so bad"),
}


@pytest.mark.parametrize(("text", "expected"), OUTCOMES.items())
def test_an_outcome_is_read_in_both_forms(text: str, expected: OutcomeSpec) -> None:
    assert loaded(BEGIN + OPEN + text + '\nto = "erp"\n').routes["a"].bad == expected


WRONG_OUTCOMES = {
    'bad = "parc"': ("9:7 E140", 'write "quarantine" or "reply 422 why" or "dead" or "note"'),
    'bad = "replay 422"': ("9:7 E140", 'did you mean "reply 422"?'),
    'bad = "reply 42"': ("9:14 E141", "a refusal begins with its status"),
    'bad = "reply 503"': ("9:14 E141", "a refusal is 400 to 499, not 503"),
    'bad = "dead because"': ("9:13 E140", 'write { dead = "because" }'),
    'bad = { dead = "" }': ("9:16 E142", 'write dead = "why"'),
    'unmatched = "drop"': ("9:13 E142", 'write { drop = "why" }'),
    'unmatched = "quarantine"': ("9:13 E140", 'write "park" or "dead" or { drop = "why" } or "reply 422 why"'),
    'unmatched = { drop = "x", park = "y" }': ("9:13 E140", "not an outcome that can stand here"),
    "unmatched = 5": ("9:13 E140", "not an outcome that can stand here"),
}


@pytest.mark.parametrize(("text", "expected"), WRONG_OUTCOMES.items())
def test_a_wrong_outcome_is_told_inside_its_text(text: str, expected: tuple[str, str]) -> None:
    (line,) = errors(BEGIN + OPEN + text + '\nto = "erp"\n')
    assert line.startswith(expected[0])
    assert expected[1] in line


def test_a_wrong_default_outcome_is_told_in_the_defaults() -> None:
    assert errors('esb = 1\n[defaults]\nowner = "x"\nbad = "parc"\nretry = "x"\n') == [
        '4:7 E140 not an outcome that can stand here; write "quarantine" or "reply 422 why" or "dead" or "note"',
        '5:10 E208 no retry policy named "x"; there is patient',
    ]


CASES = {
    """{ name = "x", when = 'true', to = "erp", drop = "x" }""": ("10:13 E165", 'case "x" has to and drop'),
    """{ name = "x", when = 'true' }""": ("10:13 E165", 'case "x" has no end'),
    """{ name = "x", when = 'true', to = [] }""": ("10:47 E165", 'case "x" leads nowhere'),
    """{ name = "x", to = "erp" }""": ("10:13 E166", "needs one of when and otherwise"),
    """{ when = 'true', otherwise = true, to = "erp" }""": ("10:13 E166", "needs one of when and otherwise"),
    """{ whn = 'true', otherwise = true, to = "erp" }""": ("10:15 E110", 'did you mean "when"?'),
    """{ when = 'true', drop = "" }""": ("10:37 E142", 'write drop = "why"'),
    """{ when = 'true', reply = "what" }""": ("10:39 E141", 'write reply = "422 why"'),
    """{ when = 'bdy.x', to = "erp" }""": ("10:23 E221", 'did you mean "body"?'),
    """{ when = 'true', to = ["erq"] }""": ("10:37 E206", 'did you mean "erp"?'),
    """{ when = 'true', to = [{ target = "erq", d = [] }] }""": ("10:48 E206", 'did you mean "erp"?'),
    """{ when = 'true', to = ["route:b"] }""": ("10:43 E212", 'no route named "b"; there is a'),
    """"x" """: ("10:13 E112", "a case is a table"),
}


@pytest.mark.parametrize(("text", "expected"), CASES.items())
def test_a_wrong_case_is_told(text: str, expected: tuple[str, str]) -> None:
    found = errors(BEGIN + OPEN + READ + f"cases = [   {text}]\n")
    assert any(line.startswith(expected[0]) and expected[1] in line for line in found), found


def test_a_case_after_the_otherwise_and_a_name_twice_are_told() -> None:
    text = """cases = [
  { name = "x", when = 'header.x == "1"', to = "erp" },
  { name = "x", otherwise = true, to = "erp" },
  { name = "y", when = 'header.x == "2"', to = "erp" },
]
"""
    assert errors(BEGIN + OPEN + text) == [
        '11:12 E164 route "a": two cases are named "x"; the name shows up in every list: make it tell them apart',
        '12:3 E163 route "a": case "y" stands after the otherwise and is never asked; put the otherwise last',
    ]


def test_decision_tables_come_later() -> None:
    assert errors(BEGIN + OPEN + 'cases = { table = "x.csv", on = "x" }\n') == [
        '9:1 E150 route "a": a decision table is not in this version of esb; leave it out'
    ]


ROUTES = {
    'to = "erp"\nmatch = "al"': '10:9 E113 route "a": "match" cannot be "al"; did you mean "all"?',
    'to = "erp"\nonce = 5': '10:8 E112 route "a": "once" is not a text; write once = "5"',
    'to = "erp"\nonce = "{body.x"': '10:9 E226 route "a": a { without its }',
    'to = "erp"\nkeys = { order = 5 }': '10:8 E112 route "a": keys is not a table of texts',
    'to = "erp"\nkeys = { order = "{bdy}" }': '10:20 E221 route "a": there is no variable "bdy"',
    'to = "erp"\nretain = "7d"': '10:10 E112 route "a": retain is not a table; write retain = { body = "7d"',
    'to = "erp"\nretain = { bdy = "7d" }': '10:12 E110 route "a": unknown key "bdy"; did you mean "body"?',
    'to = "erp"\nretry = "x"': '10:9 E208 route "a": no retry policy named "x"; there is patient',
    'to = "erp"\nexpires = "7 days"': '10:11 E112 route "a": "expires" is wrong: "7 days" is not a duration',
    'to = "erp"\nowner = " "': '7:1 E168 route "a": nobody owns it',
    'to = "erp"\nabuot = "x"': '10:1 E110 route "a": unknown key "abuot"; did you mean "about"?',
    'to = "erp"\ndo = { read = "json" }': '10:6 E112 route "a": do is not a list',
    "to = 5": '9:6 E112 route "a": not a target; write to = ["erp", { target = "bank", do = [...] }]',
    "to = []": '7:1 E167 route "a" leads nowhere',
}


@pytest.mark.parametrize(("text", "expected"), ROUTES.items())
def test_a_wrong_route_is_told(text: str, expected: str) -> None:
    found = errors(BEGIN + OPEN + text + "\n")
    assert any(line.startswith(expected) for line in found), found


def test_defaults_are_applied_where_a_route_says_nothing() -> None:
    text = (
        'esb = 1\n[defaults]\nowner = "a"\nbad = "dead"\nunmatched = { drop = "not ours" }\nonce_for = "1d"\n'
        'retain = { body = "1h" }\nretry = "own"\n[retry.own]\n[target.erp]\nmemory = "x"\n'
        + OPEN + 'to = "erp"\n[route.b]\nfrom = { http = "POST /b" }\nto = "erp"\nowner = "b"\nbad = "note"\n'
    )  # fmt: skip
    table = loaded(text)
    a, b = table.routes["a"], table.routes["b"]
    assert (a.owner, a.bad.kind, a.unmatched.reason, a.once_for, a.retain.body) == (
        "a", "dead", "not ours", Duration(86400), Duration(3600),
    )  # fmt: skip
    assert (b.owner, b.bad.kind) == ("b", "note")
    assert (table.targets["erp"].retry, table.targets["erp"].owner) == ("own", "a")


# --- steps --------------------------------------------------------------------------------------------------------

STEPS = {
    '{ raed = "json" }': ("9:9 E203", 'no step named "raed"; did you mean "read"?'),
    '{ read = "jsn" }': ("9:16 E205", 'no format named "jsn"; did you mean "json"?'),
    '{ read = "csv", delimeter = ";" }': ("9:23 E110", 'did you mean "delimiter"?'),
    '{ read = "csv", head = "2" }': ("9:30 E112", "write head = 2"),
    '{ read = "csv", bad = "reply" }': ("9:36 E141", "a refusal begins with its status"),
    '{ read = "csv", count = "int(source.foot[0]" }': ("9:35 E220", ""),
    '{ csv = ";" }': ("9:9 E203", 'write { read = "csv" } or { write = "csv" }'),
    '{ poll = "x" }': ("9:9 E150", '"poll" is not in this version'),
    "{ keep = 'true' }": ("9:7 E111", '"reason" is missing; add reason = ...'),
    "{ keep = 'tru', reason = \"x\" }": ("9:17 E221", 'no variable "tru"'),
    '{ read = "json", if = 5 }': ("9:29 E112", '"if" is not a text; write if = "5"'),
    "{ read = \"json\", if = 'header.x ==' }": ("9:41 E220", ""),
    '{ map = "nope" }': ("9:16 E207", 'no map named "nope"; there is none'),
    '{ use = "nope" }': ("9:15 E210", 'no steps named "nope"; there is none'),
    '"json"': ("9:7 E112", 'a step is a table; write { read = "json" }'),
    '{ log = "{bdy.x}" }': ("9:17 E221", 'did you mean "body"?'),
    "{ set = { \"body.x\" = 'bdy' } }": ("9:29 E221", 'did you mean "body"?'),
    '{ read = "json", delimiter = ";" }': ("9:24 E110", 'unknown key "delimiter"; there is '),
}


@pytest.mark.parametrize(("text", "expected"), STEPS.items())
def test_a_wrong_step_is_told(text: str, expected: tuple[str, str]) -> None:
    found = errors(BEGIN + OPEN + f'do = [{text}]\nto = "erp"\n')
    assert any(line.startswith(expected[0]) and expected[1] in line for line in found), found


def test_use_writes_out_the_steps_with_what_it_says_beside_the_name() -> None:
    text = (
        '[steps.reading]\ndo = [{ read = "json" }, { keep = \'body.a\', reason = "x", if = \'body.b\', bad = "dead" }]\n'
        + OPEN + "do = [{ use = \"reading\", if = 'header.x == \"1\"', bad = \"note\" }]\nto = \"erp\"\n"
    )  # fmt: skip
    read, keep = loaded(BEGIN + text).routes["a"].do
    assert (read.component.name, read.place) == ("read", ("steps", "reading", "do", 0))
    assert (read.condition, read.bad) == ('header.x == "1"', OutcomeSpec("note"))
    assert (keep.condition, keep.bad) == ('(header.x == "1") && (body.b)', OutcomeSpec("dead"))


def test_steps_that_use_themselves_are_told_by_name() -> None:
    text = (
        '[steps.a]\ndo = [{ use = "b" }]\n[steps.b]\ndo = [{ use = "a" }]\n'
        + OPEN
        + 'do = [{ use = "a" }]\nto = "erp"\n'
    )
    assert errors(BEGIN + text) == ['10:15 E211 steps "a" use themselves: a -> b -> a; leave one of them out']


def test_a_codec_s_options_reach_the_step_and_are_checked_as_its_own() -> None:
    route = loaded(BEGIN + OPEN + 'do = [{ read = "csv", delimiter = ";" }]\nto = "erp"\n').routes["a"]
    assert (route.do[0].options.format, route.do[0].options.codec_options) == ("csv", {"delimiter": ";"})


# --- maps ---------------------------------------------------------------------------------------------------------

MAPS = {
    "currency = 'EUR'": ("8:13 E221", 'for the text write { text = "EUR" }'),
    "x = 'body.a +'": ("8:14 E220", ""),
    "x = [1]": ("8:5 E174", "write CEL in quotes, a number, true or false"),
    "x = { text = 5 }": ("8:5 E174", 'write { text = "EUR" } or { each = CEL, map = "NAME" }'),
    "x = { each = 'body.l', map = 'lin' }": ("8:31 E207", 'no map named "lin"; did you mean "line"?'),
    "x = { each = 'bdy.l', map = 'line' }": ("8:15 E221", 'did you mean "body"?'),
    "x.y.z = 'bdy'": ("8:10 E221", 'did you mean "body"?'),
    "x = 'item.y'": ("8:6 E221", "item is the element in a map that an each uses"),
}


@pytest.mark.parametrize(("text", "expected"), MAPS.items())
def test_a_wrong_field_of_a_map_is_told(text: str, expected: tuple[str, str]) -> None:
    route = OPEN + 'do = [{ read = "json" }, { map = "order" }, { write = "json" }]\nto = "erp"\n'
    found = errors(BEGIN + f"[map.order]\n{text}\n[map.line]\nsku = 'item.sku'\n" + route)
    assert len(found) == 1, found
    assert found[0].startswith(expected[0]), found
    assert expected[1] in found[0]


def test_a_map_keeps_the_order_of_the_file() -> None:
    table = loaded(BEGIN + "[map.order]\nz = 1\na = 'body.a'\nm.n = true\n" + OPEN + 'to = "erp"\n')
    assert list(table.maps["order"].fields) == ["z", "a", "m"]


# --- tests of the table -------------------------------------------------------------------------------------------


def test_the_names_in_a_test_are_looked_up() -> None:
    case = 'cases = [{ name = "big", otherwise = true, to = "erp" }]\n'
    test = (
        '[[test]]\nname = "t"\nroute = "a"\ngiven = { text = "x" }\nanswers = { erq = ["200"] }\n'
        'expect = { case = "bgi", delivered = { bank = 1 } }\n'
    )
    assert told(BEGIN + OPEN + case + test) == [
        '14:13 E206 test "t": no target named "erq"; did you mean "erp"?',
        '15:20 E215 test "t": route "a" has no case "bgi"; did you mean "big"?',
        '15:40 E206 test "t": no target named "bank"; there is erp',
    ]


def test_what_a_test_does_not_know_is_told_at_its_key() -> None:
    test = (
        '[[test]]\nname = "t"\nroute = "a"\ngiven = { txet = "x" }\nexpect = { delivred = { erp = 1 }, colour = 1 }\n'
    )
    assert told(BEGIN + OPEN + 'to = "erp"\n' + test) == [
        '13:11 E110 test "t": given has an unknown key "txet"; did you mean "text"?',
        '14:12 E110 test "t": expect has an unknown key "delivred"; did you mean "delivered"?',
        '14:36 E110 test "t": expect has an unknown key "colour"; it is one of bodies, case, delivered, dropped, parts, '
        "reply, state, within",
    ]


TWICE = {
    'to = ["erp", "erp"]': '9:14 W308 route "a": "erp" stands here twice: it gets such a message twice',
    'to = ["erp"]\ncases = [{ otherwise = true, to = ["erp"] }]': (
        '10:36 W308 route "a": "erp" stands in the route\'s to, which every message goes to, and in case "case-1"'
    ),
    'cases = [{ name = "x", otherwise = true, to = ["erp", "erp"] }]': (
        '9:55 W308 route "a": "erp" stands here twice, and in case "x"'
    ),
    'to = ["route:b", "route:b"]': '9:18 W308 route "a": "route:b" stands here twice',
}
ONCE = [
    'to = ["erp", { target = "erp", do = [{ write = "json" }] }]',
    'cases = [{ when = "header.x == \'1\'", to = ["erp"] }, { otherwise = true, to = ["erp"] }]',
]


@pytest.mark.parametrize(("text", "expected"), TWICE.items())
def test_a_target_that_would_get_a_message_twice_is_told_r13(text: str, expected: str) -> None:
    other = '[route.b]\nfrom = { route = true }\nto = ["erp"]\n'
    (line,) = told(f"{BEGIN}{OPEN}{text}\n{other}")
    assert line.startswith(f"warning {expected}")


@pytest.mark.parametrize("text", ONCE)
def test_two_deliveries_that_differ_or_exclude_each_other_are_no_slip(text: str) -> None:
    assert [line for line in told(f"{BEGIN}{OPEN}{READ}{text}\n") if "W308" in line] == []


def test_a_test_without_a_name_is_told() -> None:
    found = errors(BEGIN + OPEN + 'to = "erp"\n[[test]]\nroute = "a"\ngvien = {}\n')
    assert [line.split(";")[0] for line in found] == [
        '10:1 E111 "name" is missing',
        '10:1 E111 "given" is missing',
        '10:1 E111 "expect" is missing',
        '12:1 E110 unknown key "gvien"',
    ]
