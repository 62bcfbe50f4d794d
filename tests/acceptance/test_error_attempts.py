"""The attempts that pages of D codes show: one bus has their targets, whose system answers as each page says, and
`esb messages show` prints the page's line."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from documents import ROOT, Neighbour, blocks, commands, free_port, shows
from house_process import House

from esb.cli import esb

PAGES = [page for page in sorted((ROOT / "docs" / "errors").glob("D*.md")) if blocks(page)]
HEAD = """
esb = 1
[bus]
http = "127.0.0.1:{port}"
[defaults]
owner = "you@example.org"
"""
ROUTE = """
[route.{name}]
from = {{ http = "POST /{name}" }}
do = [{{ read = "json" }}]
to = ["{name}"]
"""
MESSAGE = json.dumps({"id": "4711", "host": "169.254.169.254"}).encode()


@dataclass
class Attempts:
    """A running bus with the targets of all pages, and the id of the message that went to each."""

    folder: Path
    ids: dict[str, str]


def name_of(page: Path) -> str:
    return str(re.findall(r"^\[target\.(\w+)\]", page.read_text(), re.MULTILINE)[0])


def answer(path: str, body: bytes) -> tuple[int, bytes]:
    """The system behind the targets: it answers with the status that its path names; `/silent` keeps its caller waiting."""
    if path == "/silent":
        time.sleep(2)
    status = int(path[1:]) if path[1:].isdigit() else 200
    return status, {422: b"no such article", 200: b'{"success": false}'}.get(status, b"")


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attempts]:
    folder, port, system = tmp_path_factory.mktemp("attempts"), free_port(), Neighbour()
    system.answer = answer
    table = HEAD.format(port=port)
    for page in PAGES:
        table += "".join(block.text for block in blocks(page) if block.kind == "toml")
        table += ROUTE.format(name=name_of(page))
    table = table.replace("127.0.0.1:9001", f"127.0.0.1:{system.port}")
    (folder / "routes.toml").write_text(table.replace("127.0.0.1:9009", f"127.0.0.1:{free_port()}"))
    (folder / "letters").mkdir()
    (folder / "letters" / "4711.json").write_text("something else")
    house = House(folder)
    with system.there():
        house.start()
        try:
            asyncio.run(house.ready(port))
            yield Attempts(folder, {name_of(page): posted(port, name_of(page)) for page in PAGES})
        finally:
            house.stop()


def posted(port: int, name: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", MESSAGE, timeout=10) as said:
        return str(json.loads(said.read())["id"])


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_an_attempt_ends_as_its_page_shows(page: Path, attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(attempts.folder)
    (command,) = [item for block in blocks(page) if block.kind == "console" for item in commands(block)]
    line = re.sub(r"\bID\b", attempts.ids[name_of(page)], command.text)
    deadline = time.monotonic() + 15
    while True:
        said = CliRunner().invoke(esb, shlex.split(line)[1:], prog_name="esb")
        assert said.exit_code == 0, said.output
        if shows(said.output, command.shown) or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    assert shows(said.output, command.shown), said.output
    assert f" {page.stem} " in " ".join(command.shown)
