"""What would make data into code is in no module (FAULTS 83): no way to build objects from what a message holds."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILDERS = {"pickle", "cPickle", "dill", "marshal", "shelve", "yaml", "jsonpickle"}
RUNNERS = {"eval", "exec", "compile", "__import__"}
ALLOWED = {
    ("esb/expressions/program.py", "exec"),
    ("esb/expressions/program.py", "compile"),
}
"""The one generator of code: from a parsed and checked expression of the table, never from a message."""


def dangers(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {item.name for item in node.names} & BUILDERS
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module} & BUILDERS
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found |= {node.func.id} & RUNNERS
    return found


@pytest.mark.parametrize("folder", ["esb", "plugins"])
def test_no_module_makes_code_or_objects_of_data_faults_83(folder: str) -> None:
    found = {
        (str(path.relative_to(ROOT)), word) for path in (ROOT / folder).rglob("*.py") for word in sorted(dangers(path))
    }
    assert found - ALLOWED == set()
