"""`esb plugin`: list, write, check."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from esb.cli.asking import Failed, json_option, load_table, paths, plugins_of, show, table_of, table_option
from esb.cli.drafts import DRAFTS
from esb.errors import ConfigError
from esb.plugins import PluginFile
from esb.table.places import find_table
from esb.table.uses import Uses, uses


@click.group(epilog="Example: esb plugin list")
def plugin() -> None:
    """Plugins: what there is, a new one, and whether one keeps the laws."""


@plugin.command("list", epilog="Example: esb plugin list --json")
@table_option
@json_option
def listed(file: Path | None, as_json: bool) -> None:
    """Every plugin: its version and plugin API, whether it is active or why it was refused, what it brings, which
    routes and targets of the table use it, its file and package."""
    used: Mapping[str, Uses] = {}
    try:
        table, registry = load_table(file)
        used = uses(table, registry)
    except Failed:
        registry = plugins_of(find_table(file, os.environ))
    rows = [_row(item, used.get(item.name, Uses())) for item in registry.plugins]
    show({"plugins": rows}, as_json, _listed)


def _row(item: PluginFile, used: Uses) -> dict[str, Any]:
    return {
        "name": item.name, "file": item.file, "distribution": item.distribution, "hash": item.hash[:12],
        "version": item.version, "api": item.api, "state": "refused" if item.refused else "active",
        "refused": item.refused, "components": list(item.components), "routes": list(used.routes),
        "targets": list(used.targets),
    }  # fmt: skip


def _listed(answer: Any) -> None:
    rows = [
        [
            item["name"], item["version"], item["api"], item["state"], ", ".join(item["components"]),
            " ".join(item["routes"]), " ".join(item["targets"]), item["distribution"] or item["file"], item["hash"],
            item["refused"],
        ]
        for item in answer["plugins"]
    ]  # fmt: skip
    heads = ["plugin", "version", "api", "state", "brings", "routes", "targets", "from", "hash", "refused"]
    table_of(rows, heads)


@plugin.command("new", epilog="Example: esb plugin new fax")
@click.argument("name")
@click.option("--kind", type=click.Choice(sorted(DRAFTS)), default="target", help="What it brings.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("adapters"), help="Where it is written.")
@json_option
def new(name: str, kind: str, folder: Path, as_json: bool) -> None:
    """Write one working plugin with its test: a target that appends each message to a file, a source that takes a
    message a line, or a step that stamps each message."""
    if not name.isidentifier() or not name.islower():
        raise Failed(f"{name!r} cannot be a plugin's name: lower-case letters, digits and _", 2)
    folder.mkdir(mode=0o755, exist_ok=True)
    draft, test = DRAFTS[kind]
    made = {folder / f"{name}.py": draft, folder / f"test_{name}.py": test}
    for path, text in made.items():
        if path.exists():
            raise Failed(f"{path} is there already", 2)
        path.write_text(text.replace("NAME", name).replace("CLASS", name.title().replace("_", "")))
        path.chmod(0o644)
    show({"files": list(made)}, as_json, paths)
    click.echo(f"next: esb plugin check {folder / name}.py", err=True)


@plugin.command("check", epilog="Example: esb plugin check adapters/fax.py")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@json_option
def check(path: Path, as_json: bool) -> None:
    """Hold one file to the laws of a plugin, with no test written. Ends with 1 when it breaks one."""
    from esb.conformance import examine

    try:
        findings = asyncio.run(examine(path))
    except ConfigError as error:
        raise Failed(str(error), 1) from error
    rows = [{"component": item.component, "law": item.law, "kept": item.kept, "said": item.said} for item in findings]
    show({"findings": rows}, as_json, _checked)
    if not all(item.kept for item in findings):
        raise SystemExit(1)


def _checked(answer: Any) -> None:
    rows = [
        ["ok" if item["kept"] else "BROKEN", item["component"], item["law"], item["said"]]
        for item in answer["findings"]
    ]
    table_of(rows, ["", "component", "law", "what was seen"])
