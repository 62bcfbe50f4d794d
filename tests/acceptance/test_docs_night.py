"""What `docs/3am.md`, `docs/commands.md` and every other page and error page tell to type within a sentence is typed in a
bad night: it runs, and ends as it should."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from bad_night import Night, bad_night
from click.testing import CliRunner
from documents import ROOT, Terminal, blocks, commands

from esb.cli import esb

DOCS = ROOT / "docs"
NIGHT = DOCS / "3am.md"
PAGES = [ROOT / "README.md", *sorted(path for path in DOCS.rglob("*.md") if path != NIGHT)]
ENDS = {
    "esb doctor": 1,
    "esb doctor --json": 1,
    "esb probe TARGET": 1,
    "esb restore nightly": 3,
    "esb restore SRC": 3,
    "esb dead list --fail-if-any": 1,
    "esb reclaim erp": 2,
    'esb key new partners "Smith, Jones"': 2,
}
"""What does not end with 0 in such a night: something is wrong, a target is away, something is dead, the name that a page
shows as wrong, a restore over the store that is there, and a broker where there is none."""
NOT_HERE = {
    "esb run": "the bus runs; every other test of documents begins with it",
    "esb run -f routes.toml": "the same",
    "esb run --broker amqp://...": "needs a broker; tests/broker and `make demo-rabbit` run it",
    "esb run --workers 4": "tests/acceptance/test_workers.py runs it",
    "esb run --last-good": "has a test of its own below",
    "esb tail": "ends with Ctrl-C; with --count it is typed",
    "esb COMMAND --help": "every command's help is asked for by the test of the reference",
}
"""What is not typed as it stands, and why."""


def names_only(line: str) -> bool:
    """Whether a sentence names a command that nobody types without more words: `esb dead show`."""
    context = click.Context(esb)
    command: click.Command | None = esb
    words = line.split()[1:]
    while words and isinstance(command, click.Group):
        command = command.get_command(context, words.pop(0))
    if words or command is None:
        return False
    lone = isinstance(command, click.Group) and not command.invoke_without_command
    return lone or any(item.required for item in command.params)


def inline(page: Path) -> list[str]:
    """Commands within sentences and tables, `new NAME` after `esb plugin list` not among them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(found.replace("\\|", "|").split()) for found in re.findall(r"`(esb [a-zA-Z][^`]*)`", text)]


def told() -> list[str]:
    """Everything but 3am, each once; what takes all that is held comes last."""
    found = [line for page in PAGES for line in inline(page)]
    found += [item.text for block in blocks(DOCS / "commands.md") if block.kind == "sh" for item in commands(block)]
    once = dict.fromkeys(line for line in found if line not in NOT_HERE and not names_only(line))
    return sorted(
        once, key=lambda line: ("drain" in line, "--all" in line or "--target" in line, "plugin check" in line)
    )


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    with bad_night(tmp_path_factory.mktemp("night")) as made:
        yield made


def typed(night: Night, line: str) -> str:
    """What a command of a page prints, run in this process; it ends as it should."""
    words = shlex.split(re.sub(r"\s+(>|#) ?.*", "", night.filled(line)))
    said = CliRunner().invoke(esb, words[1:], prog_name="esb")
    assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
    assert said.exit_code == ENDS.get(line, 0), f"{shlex.join(words)} ended with {said.exit_code}\n{said.output}"
    return said.output


def test_the_page_for_three_in_the_morning(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of it, in its order."""
    monkeypatch.chdir(night.folder)
    lines = [line for line in inline(NIGHT) if line not in NOT_HERE]
    assert len(lines) > 15
    said = {}
    for line in lines:
        text = typed(night, line)
        said.setdefault(line, text)
    assert "! target.bank is down: login refused" in said["esb status"]
    assert re.search(r"bad\s+target\.bank", said["esb doctor"])
    assert re.search(r"3\s+crm", said["esb waiting"])
    assert "cannot be reached" in said["esb probe TARGET"]
    assert "resumed target" in said["esb resume target TARGET"]
    assert "paused route orders" in said["esb pause route ROUTE --reason WHY"]
    assert "14" in said["esb dead list"].split()
    assert "balanced" in said["esb account"].splitlines()
    assert "done" in said["esb messages --key order=4711"]
    assert "decision" in said["esb messages show ID"]
    assert "case     order: true" in said["esb explain ROUTE --input FILE"]
    typed(night, "esb resume route orders")
    assert "not XML" in (night.folder / "drop" / "bad" / "away.xml.reason.txt").read_text()


def test_the_broken_table_of_three_in_the_morning(tmp_path: Path) -> None:
    """`esb check` says 2, and `esb run --last-good` runs the last one that ran, loudly."""
    terminal = Terminal(tmp_path)
    try:
        for line in ("esb init shop", "cd shop", "esb run &", "esb send orders sample.xml", "kill %1; wait %1"):
            assert terminal.type(line).code == 0, line
        assert terminal.type("sed -i 's/read =/raed =/' routes.toml; esb check").code == 2
        assert terminal.type("esb run").code == 2
        loud = terminal.type("esb run --last-good & until test -S var/admin.sock; do sleep 0.1; done").text
        for _ in range(200):
            if "next: esb status" in loud:
                break
            loud += terminal.type("sleep 0.1").text
        assert "THE TABLE ON DISK IS INVALID" in loud
        assert terminal.type("curl -s --fail --unix-socket var/admin.sock http://esb/ready").code == 0
    finally:
        terminal.close()


@pytest.mark.parametrize("line", told())
def test_a_command_of_a_page_runs(night: Night, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(night.folder)
    typed(night, line)


def test_what_is_not_typed_still_stands_somewhere() -> None:
    found = {line for page in [*PAGES, NIGHT] for line in inline(page)}
    found |= {item.text for block in blocks(DOCS / "commands.md") if block.kind == "sh" for item in commands(block)}
    assert NOT_HERE.keys() - found == set()
