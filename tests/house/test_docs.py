"""What the pages show is true: every table passes `esb check`, every command exists, every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from esb.cli import COMMANDS, esb
from esb.plugins import load_plugins
from esb.table.load import read

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# A table with adapters of its own, as in the plugin guide, is run with them by tests/acceptance/test_docs_commands.py.
TABLES = [
    (f"{page.relative_to(ROOT)}:{number}", block)
    for page in PAGES
    for number, block in enumerate(re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL), 1)
    if re.search(r"^esb = 1", block, re.MULTILINE) and page.parent.name != "errors" and "plugins = " not in block
]
LINES = [
    (f"{page.relative_to(ROOT)}", line)
    for page in PAGES
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", page.read_text(), re.DOTALL)
    for line in (shown.removeprefix("$ ") for shown in block.splitlines())
    if line.startswith("esb ")
]
REGISTRY = load_plugins()


@pytest.mark.parametrize(("place", "block"), TABLES, ids=[place for place, _ in TABLES])
def test_a_table_on_a_page_passes_the_check(place: str, block: str, tmp_path: Path) -> None:
    (tmp_path / "routes.toml").write_text(block)
    _, problems = read(tmp_path / "routes.toml", REGISTRY, {})
    assert [str(problem) for problem in problems if problem.severity == "error"] == []


@pytest.mark.parametrize(("page", "line"), LINES)
def test_a_command_on_a_page_exists_with_its_options(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    words = words[: next((at for at, word in enumerate(words) if word in ("|", ">", ">>", "&")), len(words))]
    context = click.Context(esb)
    command: click.Command | None = esb
    rest = words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest[0])
        if found is None:
            break
        command, rest = found, rest[1:]
    assert command is not None and command is not esb, line
    known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    assert {word.split("=")[0] for word in rest if word.startswith("--")} <= known, line


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_a_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_there_are_nine_jobs_and_every_command_has_its_page() -> None:
    assert len(list((ROOT / "docs" / "jobs").glob("*.md"))) == 10
    text = (ROOT / "docs" / "commands.md").read_text()
    assert [name for name in COMMANDS if name not in text] == []
