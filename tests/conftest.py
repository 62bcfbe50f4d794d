"""What every test may use: where the corpora lie, and which tests are left out where they are absent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from rabbit import Rabbit, rabbit

ROOT = Path(__file__).resolve().parent.parent
CORPORA = Path(os.environ.get("ESB_CORPORA", ROOT.parent / "shared" / "corpora"))


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault("ESB_CORPORA", str(CORPORA))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Corpus tests need the corpora; soak tests need somebody with an evening."""
    chosen = config.getoption("-m") or ""
    left_out = [item for item in items if item.get_closest_marker("soak") and "soak" not in chosen]
    if not CORPORA.is_dir():
        corpus = [item for item in items if item.get_closest_marker("corpus")]
        if corpus:
            print(f"\ncorpora: {CORPORA} is not there, {len(corpus)} corpus tests are left out (set ESB_CORPORA)")
        left_out += corpus
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    """A RabbitMQ of these tests' own. Who kills or stops it starts it again."""
    with rabbit(tmp_path_factory.mktemp("broker")) as node:
        yield node


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of other people's test files."""
    return CORPORA
