"""The house has floors: a module imports its own or a lower one, never up, and never inside a function."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FLOORS = {
    0: "errors message clock units spelling ids paths masking",
    1: "expressions ports hookspecs admission plugins",
    2: "table routing retry contracts mapping auth secrets conversion",
    3: "blueprint stepping pipeline planners store broker",
    4: "crew replies intake relay forwarding receipts inbox brokered dispatch gate deadlines cutting splitting sources pauses services threads watchdog",
    5: "bus testing fixtures explain tabletest conformance",
    6: "admin cli",
}
FLOOR = {name: number for number, names in FLOORS.items() for name in names.split()}
DOORS = {
    "aiosqlite": {"store"},
    "aio_pika": {"broker"},  # and esb_plugins.amqp, which speaks to the brokers of other systems
    "uvloop": {"cli"},
    "pluggy": {"hookspecs", "admission", "plugins"},
}


def modules() -> list[Path]:
    return sorted((ROOT / "esb").rglob("*.py"))


def subject(path: Path) -> str:
    """`esb/store/writer.py` belongs to `store`, `esb/bus.py` to `bus`."""
    parts = path.relative_to(ROOT / "esb").parts
    return parts[0] if len(parts) > 1 else parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> list[tuple[str, int]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found


def climbs(path: Path, tree: ast.AST) -> list[str]:
    """Every import of a higher floor."""
    here = subject(path)
    if here == "__init__":
        return []
    said = []
    for name, line in imports(tree):
        parts = name.split(".")
        if parts[0] == "esb" and len(parts) > 1 and FLOOR.get(parts[1], 0) > FLOOR.get(here, 0):
            said.append(f"{path.relative_to(ROOT)}:{line} imports {name} from a higher floor")
        if name in ("esb", "esb.__init__"):
            said.append(f"{path.relative_to(ROOT)}:{line} imports the face")
    return said


def inner(path: Path, tree: ast.AST) -> list[str]:
    """Every import of esb inside a function (the command line may be late, to start quickly)."""
    if subject(path) == "cli":
        return []
    said = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            said += [
                f"{path.relative_to(ROOT)}:{line} imports {name} inside {node.name}"
                for name, line in imports(node)
                if name.split(".")[0] == "esb"
            ]
    return said


def test_every_module_has_a_floor() -> None:
    homeless = {subject(path) for path in modules()} - set(FLOOR) - {"__init__"}
    assert homeless == set()


def test_no_module_imports_a_higher_floor() -> None:
    assert [fault for path in modules() for fault in climbs(path, ast.parse(path.read_text()))] == []


def test_no_module_imports_esb_inside_a_function() -> None:
    assert [fault for path in modules() for fault in inner(path, ast.parse(path.read_text()))] == []


@pytest.mark.parametrize("library", sorted(DOORS))
def test_a_heavy_library_has_one_door(library: str) -> None:
    users = {
        subject(path)
        for path in modules()
        for name, _ in imports(ast.parse(path.read_text()))
        if name.split(".")[0] == library
    }
    assert users <= DOORS[library]


def test_plugins_import_the_face_only() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sorted((ROOT / "plugins").rglob("*.py"))
        for name, line in imports(ast.parse(path.read_text()))
        if name.startswith("esb.") and name.count(".") > 1
    ]
    assert faults == []


def test_the_rules_catch_an_import_up_the_stairs() -> None:
    tree = ast.parse("from esb.bus import Bus\ndef f():\n    from esb.store import Store\n")
    path = ROOT / "esb" / "retry.py"
    assert len(climbs(path, tree)) == 2
    assert len(inner(path, tree)) == 1
