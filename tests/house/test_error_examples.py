"""The example of an error page is real: its files and its commands give exactly what the page shows, with its code.
Those of A and D codes need a bus: tests/acceptance/test_error_answers.py and test_error_attempts.py."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from documents import Command, blocks, commands, shows

from esb.cli import esb

PAGES = Path(__file__).resolve().parents[2] / "docs" / "errors"
SHOWN = sorted(page.stem for page in PAGES.glob("[!AD]*.md") if any(block.kind == "console" for block in blocks(page)))
WITHOUT = {
    "E100": "stands for the whole",
    "E900": "a fault of esb has no input",
    "M200": "the root of others",
    "M219": "found when the parts are made",
    "M221": "the check of the table finds it before, as E175",
    "M230": "the root of others",
    "M260": "takes as long as step_timeout",
    "M270": "needs a running bus: the job partner-keys-and-dedupe shows it",
    "M281": "the check of the table finds it before, as E179",
    "M283": "found when the parts are made",
    "M284": "needs a source",
    "M286": "no input is known that gives it",
    "M291": "found when the parts are made",
    "M295": "needs three deaths",
    "M296": "needs a source",
    "M297": "needs a broker",
}
"""Codes of tables and messages whose pages have no example that can be run, and why."""


def typed(command: Command) -> tuple[int, str]:
    """How it ends and what it prints: esb in this process, anything else in a shell."""
    line = re.sub(r"\s+# ends with \d$", "", command.text)
    if not line.startswith("esb "):
        said = subprocess.run(line, shell=True, capture_output=True, text=True)
        return said.returncode, said.stdout + said.stderr
    result = CliRunner().invoke(esb, shlex.split(line)[1:], prog_name="esb")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize("code", SHOWN)
def test_the_example_of_a_page_gives_what_the_page_shows(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    last = ""
    for block in blocks(PAGES / f"{code}.md"):
        if block.file:
            Path(block.file).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            Path(block.file).write_text(block.text)
        elif block.kind == "console":
            for command in commands(block):
                ended, last = typed(command)
                assert ended == command.code, f"{command.text}\n{last}"
                assert shows(last, command.shown), f"{command.text}\n{last}"
                assert not command.shown or len(last.splitlines()) == len(command.shown), last
    assert code in last


def test_every_code_of_a_table_or_a_message_has_an_example_or_a_reason_why_not() -> None:
    bare = {
        page.stem
        for page in PAGES.glob("[EMW]*.md")
        if page.stem not in SHOWN and "Wrong:\n\n```toml" not in page.read_text()
    }
    assert bare == WITHOUT.keys()
