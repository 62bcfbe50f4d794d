"""Every code has a page, and every page a code: `esb check --explain CODE` answers for all of them."""

from __future__ import annotations

import re
from pathlib import Path

from esb.table.explanations import explanation

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "errors"
CODE = re.compile(r'"([AEMDSCW]\d{3})"')


def codes() -> set[str]:
    files = [*(ROOT / "esb").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    return {code for file in files for code in CODE.findall(file.read_text())}


def test_every_code_has_a_page() -> None:
    assert sorted(codes() - {page.stem for page in PAGES.glob("*.md")}) == []


def test_every_page_has_its_code_and_a_title_and_says_what_to_do() -> None:
    for page in PAGES.glob("*.md"):
        lines = page.read_text().splitlines()
        assert re.fullmatch(rf"# {page.stem} \S.*", lines[0]), page
        assert len(lines) > 3, page


def test_the_command_explains_a_code_and_knows_no_other() -> None:
    assert (explanation("E203") or "").startswith("# E203")
    assert explanation("E999") is None
    assert explanation("../x") is None
