"""`backup restore`: a copy of the store, and the way back."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from esb.cli.asking import Failed, ask, json_option, load_table, show, table_option, then
from esb.clock import SystemClock
from esb.errors import StoreError
from esb.store import Restored
from esb.store import restore as put_back


@click.command(epilog="Example: esb backup nightly")
@click.argument("place", metavar="DEST", type=click.Path(path_type=Path))
@table_option
@json_option
def backup(place: Path, file: Path | None, as_json: bool) -> None:
    """Copy the store, as of one moment and with its large bodies, into the folder DEST, which is made. The bus goes on
    meanwhile; a running bus writes the copy itself, so that it needs the right to. A stopped one's store is copied too.
    """
    answer = ask(file, "POST", "/backup", {"place": str(place.absolute())})
    show(answer, as_json, lambda said: click.echo(f"{said['backup']}: {said['bytes']} bytes"))
    then(answer)


@click.command(epilog="Example: esb restore nightly")
@click.argument("place", metavar="SRC", type=click.Path(path_type=Path))
@table_option
@json_option
def restore(place: Path, file: Path | None, as_json: bool) -> None:
    """Put a backup where the table's `data` says, while no bus runs and no store is there. The next start is paused as
    a whole, and says how many deliveries may repeat; `esb resume bus` lets it go on. Ends with 3 where it
    cannot be done.
    """
    table, _ = load_table(file)
    try:
        made = put_back(place, table.data, SystemClock().now())
    except StoreError as error:
        raise Failed(f"{error.code} {error}", 3) from error
    answer = {**msgspec.to_builtins(made), "data": str(table.data), "next": "esb run, then esb resume bus"}
    show(answer, as_json, lambda said: _told(made, table.data))
    then(answer)


def _told(made: Restored, data: Path) -> None:
    click.echo(f"{data} is {made.copied}")
    click.echo("the books balance" if made.balanced else "THE BOOKS DO NOT BALANCE: esb account says where")
