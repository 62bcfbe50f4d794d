"""Other people's TOML: what is invalid is refused as a routing table, what is valid is placed rightly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli
from table_of_tests import registry

from esb.table.load import check
from esb.table.positions import Path as Spot
from esb.table.positions import Positions

pytestmark = pytest.mark.corpus


def cases(corpora: Path, kind: str) -> list[Path]:
    return sorted((corpora / "toml-test" / "tests" / kind).rglob("*.toml"))


def test_every_invalid_file_is_refused_with_a_line(corpora: Path) -> None:
    files = cases(corpora, "invalid")
    for file in files:
        errors = [problem for problem in check(file, registry()) if problem.severity == "error"]
        assert errors, file
        assert all(problem.line is not None and problem.line >= 1 for problem in errors), file
        assert all(problem.column is not None and problem.column >= 1 for problem in errors), file
        assert check(file, registry()) == check(file, registry()), "the same verdict twice"
    assert len(files) >= 500


def test_no_valid_file_makes_the_loader_fail(corpora: Path) -> None:
    """They are TOML and no routing tables: unknown keys are told, nothing crashes."""
    files = cases(corpora, "valid")
    for file in files:
        assert check(file, registry()), file
    assert len(files) >= 260


def test_the_paths_of_every_valid_file_are_those_that_tomli_reads(corpora: Path) -> None:
    for file in cases(corpora, "valid"):
        text = file.read_bytes().decode("utf-8-sig")
        assert set(Positions(text).paths) == set(paths(tomli.loads(text))), file


def test_every_text_of_every_valid_file_is_placed_character_by_character(corpora: Path) -> None:
    for file in cases(corpora, "valid"):
        text = file.read_bytes().decode("utf-8-sig")
        spots = Positions(text)
        starts = [0, *(index + 1 for index, letter in enumerate(text) if letter == "\n")]
        for path, value in texts(tomli.loads(text)):
            for offset, letter in enumerate(value):
                place = spots.inside(path, offset)
                assert place is not None
                at = starts[place[0] - 1] + place[1] - 1
                seen = "\n" if text.startswith("\r\n", at) else text[at]
                assert seen in (letter, "\\"), (file, path, offset)


def paths(value: Any, above: Spot = ()) -> Iterator[Spot]:
    """Every path of a tree."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*above, key)
        yield from paths(item, (*above, key))


def texts(value: Any, above: Spot = ()) -> Iterator[tuple[Spot, str]]:
    """Every text of a tree with its path."""
    if isinstance(value, str):
        yield above, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from texts(item, (*above, key))
