"""Every code has a page, and every page a code: `esb check --explain CODE` answers for all of them, and what a page shows
as wrong and as right is."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from esb.clock import SystemClock
from esb.errors import Problem
from esb.plugins import load_plugins
from esb.services import BusServices
from esb.table.explanations import explanation
from esb.table.load import read
from esb.table.opening import check_components

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "errors"
CODE = re.compile(r'"([AEMDSCW]\d{3})"')
SHOWN = re.compile(r"(Wrong|Right):\n\n```toml\n(.*?)```", re.DOTALL)
FILE = re.compile(r"`(contracts/\S+)`:\n\n```json\n(.*?)```", re.DOTALL)
TABLES = [
    (page.stem, word, block) for page in sorted(PAGES.glob("*.md")) for word, block in SHOWN.findall(page.read_text())
]
SAYS = [
    (page.stem, *found)
    for page in sorted(PAGES.glob("*.md"))
    for found in re.findall(
        r"Wrong:\n\n```toml\n(.*?)```\n\n`esb check` says:\n\n```text\n(.*?)```", page.read_text(), re.DOTALL
    )
]
REGISTRY = load_plugins()


def codes() -> set[str]:
    files = [*(ROOT / "esb").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    return {code for file in files for code in CODE.findall(file.read_text())}


def whole(block: str, code: str) -> str:
    """A table of what a page shows: the head, the target erp and an owner are added where the block leaves them out."""
    if block.startswith("esb = 1") or code == "E106":
        return block
    owner = "" if "[defaults]" in block else '[defaults]\nowner = "team@example.org"\n'
    target = "" if "[target.erp]" in block or '"erp"' not in block else '[target.erp]\nmemory = "erp"\n'
    return f"esb = 1\n{owner}{target}{block}"


def problems(folder: Path, page: str, text: str) -> list[Problem]:
    """What `esb check` says."""
    for name, content in FILE.findall(page):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    (folder / "routes.toml").write_text(text)
    table, found = read(folder / "routes.toml", REGISTRY, {})
    if table is None or any(problem.severity == "error" for problem in found):
        return found

    async def opened() -> list[Problem]:
        async with BusServices(table, REGISTRY, SystemClock()) as services:
            return await check_components(table, services.open)

    return [*found, *asyncio.run(opened())]


def test_every_code_has_a_page() -> None:
    assert sorted(codes() - {page.stem for page in PAGES.glob("*.md")}) == []


def test_every_page_has_its_code_and_a_title_and_says_what_to_do() -> None:
    for page in PAGES.glob("*.md"):
        lines = page.read_text().splitlines()
        assert re.fullmatch(rf"# {page.stem} \S.*", lines[0]), page
        assert len(lines) > 3, page
        assert "hat to do" in page.read_text() or "Nothing to do" in page.read_text(), page


def said(found: list[Problem], code: str, text: str, shown: str) -> list[str]:
    """The problems as `esb check` prints them, with the lines counted from the first one that the page shows."""
    above = text[: text.index(shown)].count("\n")
    lines = [
        replace(item, file="routes.toml", line=None if item.line is None else max(1, item.line - above))
        for item in found
    ]
    return [f"{item}{' (warning)' if item.severity != 'error' else ''}" for item in lines]


@pytest.mark.parametrize(("code", "block", "shown"), SAYS, ids=[code for code, _, _ in SAYS])
def test_what_the_check_says_of_a_wrong_table_stands_on_its_page(
    code: str, block: str, shown: str, tmp_path: Path
) -> None:
    text = whole(block, code)
    page = (PAGES / f"{code}.md").read_text()
    assert "\n".join(said(problems(tmp_path, page, text), code, text, block)) == shown.rstrip("\n")


def test_every_wrong_table_has_what_the_check_says_of_it() -> None:
    assert sorted({code for code, word, _ in TABLES if word == "Wrong"} - {code for code, _, _ in SAYS}) == []


@pytest.mark.parametrize(("code", "word", "block"), TABLES, ids=[f"{code} {word.lower()}" for code, word, _ in TABLES])
def test_what_a_page_shows_fails_and_passes_as_it_says(code: str, word: str, block: str, tmp_path: Path) -> None:
    found = [problem.code for problem in problems(tmp_path, (PAGES / f"{code}.md").read_text(), whole(block, code))]
    if word == "Wrong":
        assert set(found) == {code}
    elif code != "E203":  # its right form names a contract that a page has no room for
        assert found == []


def test_the_command_explains_a_code_and_knows_no_other() -> None:
    assert (explanation("E203") or "").startswith("# E203")
    assert explanation("E999") is None
    assert explanation("../x") is None
