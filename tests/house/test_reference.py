"""docs/table.md says what the code says; every component's example is accepted by `esb check`."""

from __future__ import annotations

from pathlib import Path

import pytest

from esb.conformance import Examination
from esb.plugins import load_plugins
from esb.table.reference import page

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = load_plugins()


def test_the_page_is_fresh() -> None:
    """`make docs` writes it anew."""
    assert (ROOT / "docs" / "table.md").read_text() == page(REGISTRY)


@pytest.mark.parametrize("key", sorted(REGISTRY.components), ids=lambda key: "-".join(key))
def test_a_component_says_its_name_one_line_and_its_options(key: tuple[str, str]) -> None:
    component = REGISTRY.components[key]  # type: ignore[index]
    assert component.name == key[1]
    assert component.about and "\n" not in component.about
    assert component.main in component.options.__struct_fields__
    assert component.example


def test_the_conformance_kit_knows_every_kind() -> None:
    assert {kind for kind, _ in REGISTRY.components} == {"source", "target", "step", "codec"}
    assert Examination(REGISTRY.components["target", "file"], REGISTRY).findings == []
