"""The face is a list: what is not in `esb.__all__` is ours to change."""

from __future__ import annotations

import tomllib
from pathlib import Path

import esb
from esb import errors, hookspecs
from esb.admission import HOOKS
from esb.plugins import load_plugins

ROOT = Path(__file__).resolve().parents[2]


def test_the_face_is_sorted_and_complete() -> None:
    assert list(esb.__all__) == sorted(esb.__all__)
    assert all(hasattr(esb, name) for name in esb.__all__)


def test_every_hook_is_documented_and_known_to_the_loader() -> None:
    specs = {name for name in vars(hookspecs) if name.startswith("esb_")}
    assert specs == {*HOOKS, "esb_functions"}
    assert all(getattr(hookspecs, name).__doc__ for name in specs)


def test_every_error_class_is_one_tree_with_a_code_of_its_own() -> None:
    classes = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, Exception)]
    assert all(issubclass(item, errors.EsbError) for item in classes)
    assert all(item.__doc__ for item in classes)


def test_every_package_is_shipped() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {str(path.parent.relative_to(ROOT)).replace("/", ".") for path in (ROOT / "esb").rglob("__init__.py")}
    plugins = {str(path.parent.relative_to(ROOT)).replace("/", ".") for path in (ROOT / "plugins").rglob("__init__.py")}
    found |= {name.replace("plugins", "esb_plugins", 1) for name in plugins}
    assert found <= set(told)


def test_shipped_plugins_are_never_refused() -> None:
    assert [plugin.name for plugin in load_plugins().plugins if plugin.refused] == []
