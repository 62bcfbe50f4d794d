"""The command line: exit codes, JSON, columns, and that nothing a sender wrote steers a terminal."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from esb.cli import ABOUT, COMMANDS, esb
from esb.cli.asking import plain
from esb.cli.logs import Json, Text

SECRETS = """
[secrets]
there = "env:CLI_THERE"
gone = "env:CLI_GONE"
"""


def call(*words: str, text: str | None = None) -> Result:
    return CliRunner().invoke(esb, list(words), input=text, prog_name="esb")


@pytest.fixture
def shop(tmp_path: Path) -> str:
    """The table of a fresh starter project."""
    assert call("init", str(tmp_path / "shop")).exit_code == 0
    return str(tmp_path / "shop" / "routes.toml")


def every_command() -> list[tuple[str, click.Command]]:
    """All commands and the commands under them."""
    context = click.Context(esb)
    found: list[tuple[str, click.Command]] = []
    for name in COMMANDS:
        command = esb.get_command(context, name)
        assert command is not None
        found.append((name, command))
        if isinstance(command, click.Group):
            found += [(f"{name} {verb}", under) for verb, under in command.commands.items()]
    return found


@pytest.mark.parametrize(("name", "command"), every_command(), ids=[name for name, _ in every_command()])
def test_every_command_says_what_it_does_and_shows_an_example(name: str, command: click.Command) -> None:
    assert command.help
    assert (command.epilog or "").startswith(f"Example: esb {name.split()[0]}")


def test_every_command_is_in_the_list() -> None:
    said = call("--help").output
    assert COMMANDS.keys() == ABOUT.keys()
    assert all(f"  {name} " in said for name in COMMANDS)


def test_a_slip_in_a_command_s_name_is_2_and_names_the_right_one() -> None:
    said = call("chekc")
    assert said.exit_code == 2
    assert 'did you mean "check"?' in said.output


def test_the_list_of_commands_is_shown_without_loading_what_a_bus_needs() -> None:
    heavy = "'aiohttp', 'lxml', 'uvloop', 'rich', 'jinja2', 'sqlite3'"
    look = f"import sys, esb.cli; print([name for name in ({heavy}) if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_a_fresh_project_is_right_and_passes_its_own_test(shop: str) -> None:
    assert call("check", "-f", shop).exit_code == 0
    said = call("test", "-f", shop)
    assert said.exit_code == 0
    assert "1 passed, 0 failed" in said.output


def test_init_writes_into_no_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    assert call("init", str(tmp_path)).exit_code == 2
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_wrong_table_is_2_with_every_error_at_its_place(shop: str) -> None:
    table = Path(shop)
    table.write_text(table.read_text().replace("read =", "raed =").replace('to = ["out"]', 'to = ["owt"]'))
    said = call("check", "-f", shop, "--json")
    assert said.exit_code == 2
    problems = json.loads(said.stdout)
    assert len(problems) >= 2
    assert {"file", "line", "column", "code", "message", "hint"} <= problems[0].keys()
    assert call("run", "-f", shop).exit_code == 2


def test_a_code_is_explained_and_an_unknown_one_is_2() -> None:
    assert "E181" in call("check", "--explain", "e181").output
    assert call("check", "--explain", "E999").exit_code == 2


def test_a_bus_that_is_not_there_is_3(shop: str) -> None:
    for words in (["status"], ["account"], ["pause", "target", "out", "--reason", "x"], ["probe", "out"]):
        assert call(*words, "-f", shop).exit_code == 3, words


def test_a_discard_without_its_reason_is_2(shop: str) -> None:
    said = call("dead", "discard", "some-id", "-f", shop)
    assert said.exit_code == 2
    assert "--reason" in said.output


def test_a_key_s_name_that_the_keys_file_cannot_hold_is_2(shop: str) -> None:
    Path(shop).write_text(Path(shop).read_text() + '\n[auth.partners]\napi-key = "file:partners.keys"\n')
    said = call("key", "new", "partners", "Smith, Jones", "-f", shop)
    assert (said.exit_code, isinstance(said.exception, SystemExit)) == (2, True)
    assert "E181" in said.output
    assert call("key", "new", "partners", "acme", "--expires", "soon", "-f", shop).exit_code == 2
    over = call("key", "new", "partners", "acme", "--expires", "2020-01-01", "-f", shop)
    assert over.exit_code == 2
    assert "is over: the key would let nobody in" in over.output


def test_a_key_ends_with_its_last_day_or_at_a_time(shop: str) -> None:
    Path(shop).write_text(Path(shop).read_text() + '\n[auth.partners]\napi-key = "file:partners.keys"\n')
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for ends in (f"{datetime.now(UTC):%Y-%m-%d}", f"{tomorrow:%Y-%m-%dT%H:%M}"):
        said = call("key", "new", "partners", "acme", "--expires", ends, "-f", shop)
        assert (said.exit_code, said.exception) == (0, None)


def test_an_expression_prints_json_with_money_exact() -> None:
    said = call("eval", "decimal(body.total) * 3", "--input", "-", text='{"total": "1.10"}')
    assert (said.exit_code, said.stdout) == (0, "3.30\n")


def test_an_expression_s_slip_is_2_and_its_failure_on_a_message_is_1() -> None:
    assert call("eval", "body.").exit_code == 2
    assert call("eval", "body.none", "--input", "-", text="{}").exit_code == 1


def test_a_trace_gives_the_value_of_a_leaf() -> None:
    said = call("eval", "body.n > 3 || body.n < 1", "--trace", "--input", "-", text='{"n": 5}')
    assert said.exit_code == 0
    assert "body.n > 3" in json.dumps(json.loads(said.stdout))


def test_a_file_is_carried_from_csv_to_json_and_bad_data_is_1() -> None:
    said = call("convert", "--from", "csv", "--to", "json", "--from-opt", "delimiter=;", "-", text="a;b\n1;x\n")
    assert said.exit_code == 0
    assert '"a":"1"' in said.stdout.replace(" ", "")
    assert call("convert", "--from", "json", "--to", "xml", "-", text='{"a": 1, "a": 2}').exit_code == 1


def test_explain_tells_the_case_its_leaves_the_retries_and_the_once_key(shop: str) -> None:
    said = call("explain", "orders", "--input", str(Path(shop).with_name("sample.xml")), "-f", shop)
    assert said.exit_code == 0
    for word in ("closed: false", "body.Order.Customer", "rest: otherwise", "again after", "once: 4711"):
        assert word in said.output
    assert call("explain", "ordres", "--input", "-", "-f", shop, text="x").exit_code == 2


def test_explain_plans_every_part_of_a_split_and_shows_the_first(shop: str) -> None:
    Path(shop).write_text(
        Path(shop).read_text()
        + """
[route.rows]
from = { file = "rows", match = "*.csv" }
do = [{ read = "csv" }, { split = "rows" }, { set = { "body.n" = 'int(body.n)' } }, { write = "json" }]
to = ["plain"]
[target.plain]
file = "plain"
name = "{message.id}"
"""
    )
    said = call("explain", "rows", "--input", "-", "-f", shop, text="n\n1\nnope\n3\n4,5\n")
    assert said.exit_code == 0, said.output
    assert said.output.count("step     set: done") == 1
    assert "2 parts, the first is 1: to plain" in said.output
    assert "the first is 2: quarantined" in said.output
    assert "line 5 has 2 cells" in said.output
    assert "=> split 4 parts" in said.output


def test_a_condition_that_is_certainly_no_condition_is_found_by_check(shop: str) -> None:
    for slip in ("'\"x\"'", "'1 + 2'", "'size(body.Order)'"):
        text = Path(shop).read_text()
        Path(shop).write_text(
            text + f"[route.x]\nfrom = {{ memory = 'x' }}\ncases = [{{ when = {slip}, to = ['out'] }}]\n"
        )
        said = call("check", "-f", shop)
        assert (said.exit_code, "E224" in said.output) == (2, True), said.output
        Path(shop).write_text(text)


def test_a_plugin_file_with_a_slip_is_told_in_one_line(tmp_path: Path) -> None:
    for name, text in (("slip", "def x(:\n"), ("gone", "import nothing_of_that_name\n")):
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        path.chmod(0o644)
        said = call("plugin", "check", str(path))
        assert (said.exit_code, said.output.count("E132"), len(said.output.splitlines()) < 4) == (1, 1, True)


def test_explain_names_the_code_of_what_went_wrong(shop: str) -> None:
    said = call("explain", "orders", "--input", "-", "-f", shop, text="<Order")
    assert said.exit_code == 1
    assert "step     read: M210 not XML" in said.output
    assert "=> refused M210 422" in said.output


def test_a_plugin_whose_hook_fails_is_named(shop: str) -> None:
    plugin = "from esb import Component, hook\n\n\n@hook\ndef esb_steps():\n    return [Component(kind='step')]\n"
    path = Path(shop).parent / "adapters" / "stamp.py"
    path.write_text(plugin)
    path.chmod(0o644)
    said = call("check", "-f", shop)
    assert said.exit_code == 2
    assert "E135 stamp: its esb_steps failed: TypeError" in said.output


def test_a_secret_that_is_not_there_is_2_with_its_code(shop: str) -> None:
    table = Path(shop)
    admin = '[bus]\nadmin = "127.0.0.1:9"\nadmin_key = "secret:gone"\n'
    table.write_text(table.read_text().replace("[bus]\n", admin) + SECRETS)
    said = call("status", "-f", shop)
    assert said.exit_code == 2
    assert 'E180 secret "gone"' in said.output


def test_secrets_are_listed_without_their_values(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLI_THERE", "hunter2-hunter2")
    Path(shop).write_text(Path(shop).read_text() + SECRETS)
    listed, checked = call("secrets", "list", "-f", shop), call("secrets", "check", "-f", shop)
    assert (listed.exit_code, checked.exit_code) == (0, 1)
    assert "there\tenv:CLI_THERE\tthere" in listed.output
    assert "hunter2" not in listed.output + checked.output


def test_control_letters_are_made_visible() -> None:
    assert plain("a\x1b[31m\r\nb\u202e") == "a\\x1b[31m\\r\\nb\\u202e"


@pytest.mark.parametrize("form", [Text(), Json()])
def test_nothing_a_sender_wrote_breaks_a_log_line(form: logging.Formatter) -> None:
    record = logging.LogRecord("esb", logging.INFO, "", 0, "said %s", ("a\r\nFAKE\x1b[31m",), None)
    line = form.format(record)
    assert "\n" not in line
    assert "\x1b" not in line


def test_an_error_s_own_words_cannot_steer_a_terminal_either() -> None:
    try:
        raise ValueError("bad \x1b[2J body\rFAKE")
    except ValueError:
        record = logging.LogRecord("esb", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    line = Text().format(record)
    assert "\x1b" not in line
    assert "\r" not in line


def test_check_tells_missing_contracts_beside_other_errors(shop: str) -> None:
    table = Path(shop)
    table.write_text(
        table.read_text()
        + '\n[route.more]\nfrom = { memory = "more" }\ndo = [{ read = "json" }, { check = "no.json" }]\n'
        'to = ["nobody"]\n'
    )
    said = call("check", "-f", shop)
    assert said.exit_code == 2
    assert "E206" in said.output and "no.json" in said.output, said.output
