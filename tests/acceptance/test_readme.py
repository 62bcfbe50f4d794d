"""The second block of the README, typed by somebody who has the wheel and an empty folder."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
from documents import ROOT, Said, Terminal, blocks, reading

SECOND = blocks(ROOT / "README.md")[2]
"""The drawing between the two is a block without a language."""


def test_the_second_block_is_the_one_that_the_project_promises() -> None:
    kinds = [block.kind for block in blocks(ROOT / "README.md")]
    assert kinds[:3] == ["sh", "", "sh"]
    wanted = "esb init shop\ncd shop\nesb run &\nesb send orders sample.xml\nesb status\nesb dead list\n"
    assert SECOND.text == wanted


def next_of(text: str) -> str:
    """The command that was told last."""
    told = re.findall(r"next: (.+)$", text, re.MULTILINE)
    assert told, f"no next command in\n{text}"
    return str(told[-1]).strip()


def log_of_the_bus(terminal: Terminal) -> str:
    """What `esb run &` said: it comes when it comes."""
    text, deadline = "", time.monotonic() + 20
    while "next:" not in text and time.monotonic() < deadline:
        text += terminal.type("sleep 0.1").text
    return text


def test_the_wheel_is_what_runs(installed: Path, tmp_path: Path) -> None:
    look = "import esb, esb_plugins, esb_errors; print(esb.__file__, esb_plugins.__file__, esb_errors.__path__[0])"
    said = subprocess.run(
        [installed / "python", "-I", "-c", look], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    places = said.stdout.split()
    assert len(places) == 3
    assert [place for place in places if not Path(place).is_relative_to(installed.parent / "lib")] == []
    assert [place for place in places if Path(place).is_relative_to(ROOT)] == []


@pytest.mark.timeout(120)
def test_the_second_block_runs_in_an_empty_folder_and_each_command_says_what_to_type_next(
    installed: Path, tmp_path: Path
) -> None:
    with reading(tmp_path, installed) as reader:
        assert reader.terminal.type("command -v esb").text.strip() == str(installed / "esb")
        told: dict[str, str] = {}
        log = ""
        for line in SECOND.text.splitlines():
            said: Said = reader.terminal.type(line)
            assert said.code == 0, f"{line}\n{said.text}"
            assert "Traceback" not in said.text
            log += said.text
            if line not in ("cd shop", "esb run &"):
                own = "\n".join(text for text in said.text.splitlines() if " INFO " not in text)
                told[line] = next_of(own)
        log = log if "INFO esb next:" in log else log + log_of_the_bus(reader.terminal)
        told["esb run &"] = next_of("\n".join(text for text in log.splitlines() if " INFO " in text))
        assert told["esb init shop"].startswith("cd shop;")
        assert re.fullmatch(r"esb messages show [0-9a-f-]{36}", told["esb send orders sample.xml"])
        for line, following in told.items():
            typed = following.removeprefix("cd shop; ").removesuffix("; esb run &")
            said = reader.terminal.type(typed)
            assert said.code == 0, f"{line} told to type {typed}, which ends with {said.code}\n{said.text}"
        assert (tmp_path / "shop" / "out" / "order-4711.json").is_file()


def test_what_runs_after_the_block_is_the_bus_until_it_is_stopped(installed: Path, tmp_path: Path) -> None:
    with reading(tmp_path, installed) as reader:
        for line in ("esb init shop", "cd shop", "esb run &", "esb send orders sample.xml"):
            assert reader.terminal.type(line).code == 0
        assert reader.terminal.type("kill %1; wait %1").code == 0
        said = reader.terminal.type("esb status")
        assert said.code == 0
        assert "stopped" in said.text
