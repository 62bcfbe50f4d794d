"""Small tables for tests of the loader: what is wrong with them, each problem as `line:column CODE message; hint`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent

from esb.errors import Problem
from esb.plugins import Registry, load_plugins
from esb.table.load import check, load
from esb.table.model import Table

HEAD = 'esb = 1\n[defaults]\nowner = "tests@example.org"\n'
TARGETS = '[target.erp]\nhttp = "POST http://127.0.0.1:9/orders"\nid_header = "Idempotency-Key"\n'
"""A head of three lines and a target of three: what a test adds begins in line 7."""
BEGIN = HEAD + TARGETS


@cache
def registry() -> Registry:
    """The shipped plugins, loaded once for all tests."""
    return load_plugins()


def written(folder: Path, text: str, **files: str) -> Path:
    """The table's file in a folder, beside others (`routes_d__a="..."` is routes.d/a.toml)."""
    for name, content in files.items():
        path = folder / (name.replace("__", "/").replace("_d/", ".d/") + ".toml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(content))
    file = folder / "routes.toml"
    file.write_bytes(dedent(text).encode())
    return file


def found(text: str, *, plugins: Registry | None = None, **files: str) -> list[Problem]:
    """All problems of a table."""
    with TemporaryDirectory() as folder:
        return check(written(Path(folder), text, **files), plugins or registry())


def told(text: str, *, plugins: Registry | None = None, **files: str) -> list[str]:
    """The same as lines, without the folder: `7:1 E110 ...`; warnings begin with `warning`."""
    said = []
    for problem in found(text, plugins=plugins, **files):
        name = Path(problem.file or "").name
        place = (
            f"{problem.line}:{problem.column}" if name == "routes.toml" else f"{name}:{problem.line}:{problem.column}"
        )
        hint = f"; {problem.hint}" if problem.hint else ""
        mark = "" if problem.severity == "error" else "warning "
        said.append(f"{mark}{place} {problem.code} {problem.message}{hint}")
    return said


def errors(text: str, *, plugins: Registry | None = None, **files: str) -> list[str]:
    """The errors alone."""
    return [line for line in told(text, plugins=plugins, **files) if not line.startswith("warning")]


def loaded(text: str, *, plugins: Registry | None = None, **files: str) -> Table:
    """The table of a text; raises ConfigError."""
    with TemporaryDirectory() as folder:
        return load(written(Path(folder), text, **files), plugins or registry())
