"""Tables that somebody hit with a hammer: the check never fails itself, and every fault has a place in the file."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from table_of_tests import registry

from esb.table.load import check

ROOT = Path(__file__).resolve().parents[2]
TOKEN = re.compile(r'"[^"\n]*"|\'[^\'\n]*\'|[\w.-]+|\s+|.')
STRANGE = ['{', '}', '[', ']', '=', ',', 'true', '5', '-1', '1.5', 'nan', 'inf', '2020-01-01', '00:00:00', '""', '"x"', "'body.x'", '{}', '[]', '[[', '.', '"\\u0000"', '[{}]', '[[1]]', '{a=1}']  # fmt: skip


def tables() -> list[str]:
    """The shipped tables, and those of the error pages."""
    found = [(ROOT / "routes.toml").read_text(), (ROOT / "esb" / "table" / "starter" / "routes.toml").read_text()]
    for page in sorted((ROOT / "docs" / "errors").glob("*.md")):
        found += [f"esb = 1\n{block}" for block in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)]
    return found


TABLES = tables()
WORDS = sorted({token for table in TABLES for token in TOKEN.findall(table) if token.strip()})


def mutated(chance: random.Random) -> str:
    """A table with one to three of its words gone, replaced, added or swapped."""
    tokens = TOKEN.findall(chance.choice(TABLES))
    for _ in range(chance.choice((1, 1, 2, 3))):
        at = chance.randrange(len(tokens))
        what = chance.randrange(5)
        if what == 0:
            tokens[at] = ""
        elif what == 1:
            tokens[at] = chance.choice(WORDS)
        elif what == 2:
            tokens[at] = chance.choice(STRANGE)
        elif what == 3:
            tokens[at] += chance.choice(STRANGE)
        else:
            other = chance.randrange(len(tokens))
            tokens[at], tokens[other] = tokens[other], tokens[at]
    return "".join(tokens)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_stands_in_a_table_its_faults_are_told_at_their_places(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    file = tmp_path / "routes.toml"
    for _ in range(150):
        text = mutated(chance)
        file.write_text(text)
        lines = text.split("\n")
        for problem in check(file, registry()):
            assert problem.file == str(file)
            assert problem.line is not None and 1 <= problem.line <= len(lines) + 1, (text, problem)
            width = len(lines[min(problem.line, len(lines)) - 1])
            assert problem.column is not None and 1 <= problem.column <= width + 2, (text, problem)
            assert problem.message
            assert re.fullmatch(r"[EW]\d{3}", problem.code)
