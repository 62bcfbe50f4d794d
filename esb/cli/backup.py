"""`esb backup` and `esb restore`: a copy of the store, and a store of a copy (R29)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from esb.cli.asking import Failed, ask, json_option, load_table, show, table_option, then
from esb.errors import StoreError
from esb.store import backup as copies


@click.command(epilog="Example: esb backup plant-1.copy")
@click.argument("folder", type=click.Path(path_type=Path))
@table_option
@json_option
def backup(folder: Path, file: Path | None, as_json: bool) -> None:
    """Copy the store, bodies included, into a new folder: of one moment, while the bus works on."""
    answer = ask(file, "POST", "/backup", {"place": str(folder.absolute())})
    show(answer, as_json, lambda said: click.echo(said["place"]))
    then(answer)


@click.command(epilog="Example: esb restore plant-1.copy")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@table_option
@json_option
def restore(folder: Path, file: Path | None, as_json: bool) -> None:
    """Make the store of a copy, where there is none. Every target is paused: what went out since the copy was made goes
    out a second time, with the same id, once you resume it."""
    table, _ = load_table(file)
    try:
        made = copies.restore(folder.absolute(), table.data, list(table.targets))
    except StoreError as error:
        raise Failed(f"{error.code} {error}", 1) from error
    when = None if made.made is None else datetime.fromtimestamp(made.made, UTC).isoformat(timespec="seconds")
    answer: dict[str, Any] = {
        "node": made.node,
        "generation": made.generation,
        "copied": when,
        "may_repeat": made.may_repeat,
        "next": "esb run",
    }
    show(answer, as_json, _told)
    then(answer)


def _told(answer: Any) -> None:
    click.echo(f"restored {answer['node']}, generation {answer['generation']}, as it was at {answer['copied']}")
    for target, count in answer["may_repeat"].items():
        click.echo(f"{target}: {count} deliveries may go out a second time: esb resume target {target}")
