"""The answers that pages of A codes show: their routes, put together in one bus, give them to the calls of the pages."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import ROOT, blocks, commands, free_port, shows
from house_process import House

PAGES = [page for page in sorted((ROOT / "docs" / "errors").glob("A*.md")) if blocks(page)]
HEAD = """
esb = 1
[bus]
http = "127.0.0.1:{port}"
[defaults]
owner = "you@example.org"
[target.out]
memory = "out"
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of the bus."""
    folder, found = tmp_path_factory.mktemp("answers"), free_port()
    routes = "".join(block.text for page in PAGES for block in blocks(page) if block.kind == "toml")
    (folder / "routes.toml").write_text(HEAD.format(port=found) + routes)
    for name, text in {"partners.keys": "", "hook.key": "0123456789abcdef0123456789abcdef"}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    house = House(folder)
    house.start()
    try:
        asyncio.run(house.ready(found))
        yield found
    finally:
        house.stop()


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_a_call_gets_the_answer_that_its_page_shows(page: Path, port: int) -> None:
    (command,) = [item for block in blocks(page) if block.kind == "console" for item in commands(block)]
    line = re.sub(r":8080\b", f":{port}", command.text)
    said = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=20)
    assert said.returncode == 0, said.stderr
    assert shows(said.stdout, command.shown), said.stdout
    assert f'"code":"{page.stem}"' in said.stdout


def test_there_are_nine_of_them() -> None:
    assert len(PAGES) == 9
