"""Files, settings and names of a table: every fault at once, each at its place."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace
from table_of_tests import BEGIN, HEAD, TARGETS, errors, loaded, registry, told, written

from esb.errors import ConfigError, Problem
from esb.plugins import PluginFile
from esb.table.load import check, load

ROUTE = '[route.orders]\nfrom = { http = "POST /orders" }\nto = ["erp"]\n'


def test_a_right_table_has_nothing_to_be_told_of() -> None:
    assert told(BEGIN + ROUTE) == []


def test_all_faults_are_told_at_once_by_place() -> None:
    text = 'esb = 2\nrout = 1\n[defaluts]\n[bus]\nname = "Plant 1"\ndrain = 30\nbudget = "12"\n' + TARGETS + ROUTE
    assert told(text) == [
        "1:7 E106 this esb reads format 1, not 2; this esb is older than the table",
        '2:1 E110 unknown table or key "rout"; did you mean "route"?',
        '3:2 E110 unknown table or key "defaluts"; did you mean "defaults"?',
        '5:8 E114 "Plant 1" cannot be a name; names are a-z 0-9 _ -, at most 48, and begin with a-z or 0-9',
        '6:9 E112 "drain" is wrong: a duration needs its unit; write "30s"',
        '7:10 E112 "budget" is a text, not a whole number; write budget = 12',
        '11:1 E168 route "orders": nobody owns it; write owner = "team@example.org" here or under [defaults]',
    ]


def test_load_raises_every_error_and_keeps_warnings_to_itself(tmp_path: Path) -> None:
    target = BEGIN.replace('id_header = "Idempotency-Key"\n', "")
    file = written(tmp_path, target + ROUTE)
    assert [problem.severity for problem in check(file, registry())] == ["warning"]
    assert load(file, registry()).routes.keys() == {"orders"}
    file.write_text(target + "[route.a]\n[route.b]\n")
    with pytest.raises(ConfigError) as raised:
        load(file, registry())
    assert {problem.code for problem in raised.value.problems} == {"E162", "E167"}
    assert {problem.file for problem in raised.value.problems} == {str(file)}


def test_a_table_that_is_not_there_is_an_error_and_no_crash(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="E103"):
        load(tmp_path / "routes.toml", registry())


SETTINGS = {
    'start = "lastgood"': '"start" cannot be "lastgood"; did you mean "last-good"?',
    'hide = "iban"': '"hide" is a text, not a list; write hide = ["iban"]',
    'http = "8080"': '"8080" is not an address to listen on; write "127.0.0.1:8080", or ":8080" for every interface',
    'http = "127.0.0.1:99999"': '"127.0.0.1:99999" is not an address',
    'time_zone = "Europe/Berln"': 'no time zone "Europe/Berln"',
    'broker = "rabbit://x"': '"rabbit://x" is no broker',
    'admin = "127.0.0.1:9000"': "the admin API on TCP needs a key",
    'admin = "127.0.0.1:9000"\nadmin_key = "abc"': "a secret stands here itself",
    'admin = "127.0.0.1:9000"\nadmin_key = "secret:x"': 'no secret named "x"',
    "outbox = { rows = 0 }": '"rows" is 0; it must be 1 or more',
    'outbox = { rows = "many", sice = "5MB" }': 'unknown key "sice"; did you mean "size"?',
    'step_timout = "1s"': 'unknown key "step_timout"; did you mean "step_timeout"?',
    'outbox = { size = 5 }': '"size" is wrong: a size needs its unit; write "5B"',
    "name = 5": '"name" is a whole number, not a text; write name = "5"',
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SETTINGS.items())
def test_a_wrong_setting_is_told_with_the_right_spelling(text: str, expected: str) -> None:
    (line,) = [line for line in errors(BEGIN + ROUTE + "[bus]\n" + text) if expected in line]
    assert line.startswith("11:" if "admin_key" not in text else "12:")


RETRY = {
    'transient = { attempts = "forevr" }': ("7:26", 'cannot be "forevr"; did you mean "forever"?'),
    "transient = { first = 2 }": ("7:23", 'a duration needs its unit; write "2s"'),
    'transient = { jitter = "20" }': ("7:24", '"20" is not a share; write for example "20%"'),
    "transient = { factor = 0.5 }": ("7:24", "it must be 1 or more"),
    "transient = { attempts = 0 }": ("7:26", "it must be 1 or more"),
    'permanent = { pause_after = "20" }': ("7:29", 'write "20 in a row" or "never"'),
    'unknown = { as = "parc" }': ("7:18", 'did you mean "park"?'),
    "trottled = {}": ("7:1", 'did you mean "throttled"?'),
}


@pytest.mark.parametrize(("text", "expected"), RETRY.items())
def test_a_wrong_retry_policy_is_told_at_its_value(text: str, expected: tuple[str, str]) -> None:
    (line,) = errors(HEAD + '[retry.own]\n# "forever", "20%"\n\n' + text)
    assert line.startswith(expected[0] + " ")
    assert 'retry "own": ' in line
    assert expected[1] in line


def test_a_retry_policy_keeps_the_defaults_of_what_it_leaves_out() -> None:
    table = loaded(
        BEGIN + ROUTE + '[retry.own]\ntransient = { attempts = 3, factor = 1.5 }\nunknown = { as = "park" }\n'
    )
    own = table.retry["own"]
    assert (own.transient.attempts, own.transient.factor, float(own.transient.first)) == (3, 1.5, 2.0)
    assert own.unknown.as_ == "park"
    assert table.retry["patient"].unknown.as_ == "transient"


def test_a_listener_named_default_is_the_one_of_bus_http() -> None:
    table = loaded(BEGIN + ROUTE + '[bus]\nhttp = "127.0.0.1:7777"\n[listener.default]\nmax_body = "1MB"\n')
    assert table.listeners["default"].bind == "127.0.0.1:7777"
    assert table.listeners["default"].max_body == 1_000_000
    assert errors(HEAD + "[listener.tls]\nmax_bdy = 5\n") == [
        '4:11 E111 listener "tls": "bind" is missing; add bind = ...',
        '5:1 E110 listener "tls": unknown key "max_bdy"; did you mean "max_body"?',
    ]


def test_fractions_of_the_table_are_exact_and_dates_are_texts() -> None:
    table = loaded(BEGIN + ROUTE + "[var]\nvat = 0.19\nsince = 2026-01-02\nnested = { list = [1.10] }\n")
    assert table.var == {"vat": Decimal("0.19"), "since": "2026-01-02", "nested": {"list": [Decimal("1.10")]}}
    assert errors(BEGIN + ROUTE + "[var]\nx = nan\n") == [
        "11:5 E112 NaN is no number that a message can hold; write a number with digits"
    ]


def test_namespaces_are_prefixes_with_texts() -> None:
    assert errors(HEAD + '[namespaces]\no = "urn:o"\nxmlns = "x"\n"a b" = "x"\np = 5\n') == [
        '6:1 E114 "xmlns" cannot be a prefix; a prefix begins with a letter and is not xml or xmlns',
        '7:1 E114 "a b" cannot be a prefix; a prefix begins with a letter and is not xml or xmlns',
        '8:5 E112 the namespace of "p" is not a text; write o = "urn:example:order"',
    ]


def test_a_value_where_a_table_belongs_is_told() -> None:
    assert errors(HEAD + '[[route]]\nname = "x"\n[target]\nhttp = "POST http://x/"\n') == [
        "4:3 E112 route is not a table; write [route.NAME]",
        '7:1 E115 "http" stands in [target], which holds only tables of its own; put it under a [target.NAME]',
    ]


def test_what_later_versions_have_is_told_by_name() -> None:
    text = BEGIN + ROUTE + "[lookup.x]\ncsv = 'x.csv'\n[[topic]]\n"
    assert [line[:9] for line in errors(text)] == ["10:2 E150", "12:3 E150"]
    assert "is not in this version of esb" in errors(text)[0]


# --- several files ------------------------------------------------------------------------------------------------


def test_includes_are_merged_and_each_fault_names_its_own_file() -> None:
    text = BEGIN.replace("esb = 1\n", 'esb = 1\ninclude = ["routes.d/*.toml"]\n')
    one = '[route.one]\nfrom = { http = "POST /1" }\nto = ["erp"]\n'
    two = '[route.two]\nfrom = { http = "POST /2" }\nto = ["erq"]\n'
    assert told(text, routes_d__one=one, routes_d__two=two) == [
        'two.toml:3:8 E206 route "two": no target named "erq"; did you mean "erp"?'
    ]
    assert loaded(text, routes_d__one=one).routes["one"].owner == "tests@example.org"


def test_a_name_in_two_files_is_told_with_both_places() -> None:
    text = 'include = ["a.toml"]\n' + BEGIN + ROUTE
    (line,) = told(text, a=ROUTE)
    assert line.startswith('a.toml:1:8 E105 route "orders" is defined twice; the first stands in ')
    assert line.endswith("routes.toml:8:8")


def test_the_bus_and_the_defaults_stand_in_the_main_file_only() -> None:
    text = 'include = ["a.toml"]\n' + BEGIN + ROUTE
    assert told(text, a='include = ["b.toml"]\n[bus]\n[defaults]\nowner = "x"\n') == [
        "a.toml:1:1 E104 no file includes further ones; move it to routes.toml",
        "a.toml:2:2 E104 [bus] stands in the main file only; move it to routes.toml",
        "a.toml:3:2 E104 [defaults] stands in the main file only; move it to routes.toml",
    ]
    assert told(text, a="esb = 1\n") == []
    assert told(text, a="esb = 2\n") == [
        "a.toml:1:1 E106 this esb reads format 1, not 2; write esb = 1, or leave it out"
    ]


def test_an_include_that_is_not_there_is_an_error_and_a_pattern_may_match_nothing() -> None:
    assert told('include = ["a.toml", "b/*.toml"]\n' + BEGIN + ROUTE) == [
        '1:12 E103 there is no file "a.toml"; it counts from this file\'s folder'
    ]


def test_a_syntax_error_in_each_of_two_includes_is_told_for_both() -> None:
    text = 'include = ["a.toml", "b.toml"]\n' + BEGIN + ROUTE
    assert [line[:15] for line in told(text, a="x = yes", b="y = no")] == ["a.toml:1:5 E101", "b.toml:1:5 E101"]


def test_relative_paths_count_from_the_file_they_stand_in(tmp_path: Path) -> None:
    text = 'include = ["routes.d/a.toml"]\n' + BEGIN + ROUTE
    inner = '[secrets]\nx = "file:keys/x"\ny = "env:Y"\n[route.a]\nfrom = { file = "drop" }\nto = "erp"\n'
    table = load(written(tmp_path, text, routes_d__a=inner), registry())
    assert table.routes["a"].sources[0].folder == tmp_path / "routes.d"
    assert table.routes["orders"].sources[0].folder is None
    assert table.secrets == {"x": f"file:{tmp_path}/routes.d/keys/x", "y": "env:Y"}


def test_tests_of_all_files_are_joined_and_keep_their_places() -> None:
    test = '[[test]]\nname = "x"\nroute = "orders"\ngiven = { text = "" }\nexpect = { parts = 0 }\n'
    bad = '[[test]]\nname = "y"\nroute = "orderz"\ngiven = { text = "" }\nexpect = { parts = 0 }\n'
    text = 'include = ["a.toml"]\n' + BEGIN + ROUTE + test
    assert told(text, a=test + bad) == ['a.toml:8:10 E212 test "y": no route named "orderz"; did you mean "orders"?']


def test_an_older_table_is_loaded_from_its_kept_texts(tmp_path: Path) -> None:
    file = written(tmp_path, 'include = ["a.toml"]\n' + BEGIN + ROUTE, a="[var]\nx = 1\n")
    first = load(file, registry())
    file.write_text("broken")
    (tmp_path / "a.toml").unlink()
    again = load(file, registry(), text_overrides=first.text)
    assert (again.hash, again.var) == (first.hash, {"x": 1})


def test_the_hash_covers_includes_contracts_maps_and_local_plugins_and_no_place(tmp_path: Path) -> None:
    def hashed(name: str, *, include: str = "", contract: str = "{}", plugin: str = "") -> str:
        folder = tmp_path / name
        (folder / "contracts").mkdir(parents=True)
        (folder / "contracts" / "order@1.json").write_text(contract)
        plugins = replace(registry(), plugins=(*registry().plugins, PluginFile(name="own", hash=plugin)))
        file = written(folder, 'include = ["a.toml"]\n' + BEGIN + ROUTE, a=include)
        return load(file, plugins).hash

    same = hashed("one")
    assert hashed("two") == same
    assert len({same, hashed("3", include="[var]\nx = 1"), hashed("4", contract="[]"), hashed("5", plugin="ab")}) == 4


def test_a_table_locates_a_place_and_an_offset_in_it(tmp_path: Path) -> None:
    file = written(tmp_path, BEGIN + ROUTE)
    table = load(file, registry())
    placed = table.locate(("route", "orders", "from", "http"), Problem("E120", "wrong"), 5)
    assert (placed.file, placed.line, placed.column) == (str(file), 8, 23)


# --- secrets and logins -------------------------------------------------------------------------------------------

LOGINS = {
    '[secrets]\nx = "hunter2"': ("5:5 E170", "the secret itself never stands here"),
    '[secrets]\nx = "env:"': ("5:5 E170", 'write "env:NAME"'),
    '[auth.x]\nbearer = "abc"': ("5:10 E172", 'write bearer = "secret:NAME" and declare NAME under [secrets]'),
    '[auth.x]\nbearer = "secret:nope"': ("5:18 E213", 'no secret named "nope"'),
    '[auth.x]\nbasic = true\nuser = "u"': ("4:7 E111", '"password" is missing; add password = "secret:NAME"'),
    '[auth.x]\nbasic = true\npassword = "secret:p"\n[secrets]\np = "env:P"': ("4:7 E111", '"user" is missing'),
    '[auth.x]\nheader = "X-Key"': ("4:7 E111", '"secret" is missing'),
    '[auth.x]\noauth2 = "https://x/token"\nid = "me"\nsecret = "s3cret"': ("7:10 E172", "a secret stands here itself"),
    '[auth.x]\noauth2 = "https://x/token"\nidd = "me"\nsecret = "env:X"': ("6:1 E110", 'did you mean "id"?'),
    '[auth.x]\napi-key = "abc"': ("5:11 E170", "the keys stand in a file"),
    "[auth.x]\nbearer = 5": ("5:10 E112", '"bearer" is not a text'),
    '[auth.x]\nscope = "x"': ("4:7 E171", "names no way to log in; it has exactly one of bearer"),
    '[auth.x]\nbearer = "secret:a"\nbasic = true': ("4:7 E171", "has bearer and basic"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), LOGINS.items())
def test_a_wrong_login_is_told_and_no_secret_stands_in_the_table(text: str, expected: tuple[str, str]) -> None:
    found = errors(HEAD + text)
    assert any(line.startswith(expected[0]) and expected[1] in line for line in found), found
    assert not any("hunter2" in line or "s3cret" in line for line in found)


def test_right_logins_are_read() -> None:
    text = (
        BEGIN
        + ROUTE
        + '[secrets]\np = "env:P"\n[auth.a]\nbearer = "secret:p"\n[auth.b]\nbasic = "me"\npassword = "secret:p"\n'
        '[auth.c]\nheader = "X-Key"\nvalue = "secret:p"\n[auth.d]\napi-key = "file:keys"\n'
        '[auth.e]\noauth2 = "https://x/token"\nid = "me"\nsecret = "secret:p"\nscope = "w"\n'
    )
    auth = loaded(text).auth
    assert (auth["a"].kind, auth["a"].value) == ("bearer", "secret:p")
    assert (auth["b"].user, auth["b"].password) == ("me", "secret:p")
    assert (auth["c"].value, auth["c"].secret) == ("X-Key", "secret:p")
    assert auth["d"].value == "file:keys"
    assert (auth["e"].id, auth["e"].secret, auth["e"].scope) == ("me", "secret:p", "w")
