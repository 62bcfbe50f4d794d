"""`key secrets`: made and listed, never shown."""

from __future__ import annotations

from pathlib import Path

import click

from esb.auth import moment, new_key
from esb.cli.asking import Failed, json_option, load_table, show, table_of, table_option
from esb.clock import SystemClock
from esb.errors import ConfigError, EsbError
from esb.secrets import Secrets


@click.group(epilog="Example: esb key new partners acme")
def key() -> None:
    """API keys of callers."""


@key.command("new", epilog="Example: esb key new partners acme")
@click.argument("auth")
@click.argument("name")
@click.option("--expires", default="", help="The day it ends, such as 2027-01-01; none if not given.")
@table_option
@json_option
def new(auth: str, name: str, expires: str, file: Path | None, as_json: bool) -> None:
    """Make a key for a caller of [auth.AUTH]: its line goes into the keys file; the key is shown this once."""
    table, _ = load_table(file)
    spec = table.auth.get(auth)
    if spec is None or spec.kind != "api-key":
        raise Failed(f'there is no [auth.{auth}] with api-key = "file:..."', 2)
    try:
        text, line = new_key(name, expires)
    except ConfigError as error:
        raise Failed(str(error), 2) from error
    except ValueError as error:
        raise Failed(f"{expires!r} is no date; write one like 2027-01-01", 2) from error
    if expires and moment(expires) <= SystemClock().now():
        raise Failed(f"{expires} is over: the key would let nobody in", 2)
    path = table.folder / spec.value.removeprefix("file:")
    with path.open("a") as keys:
        keys.write(line + "\n")
    path.chmod(0o600)
    show({"key": text, "name": name, "file": path}, as_json, lambda said: click.echo(said["key"]))
    click.echo(f"added to {path}; the key is not kept anywhere: give it to {name} now", err=True)


@click.group(invoke_without_command=True, epilog="Example: esb secrets check")
@table_option
@json_option
@click.pass_context
def secrets(context: click.Context, file: Path | None, as_json: bool) -> None:
    """Every secret of the table: where it comes from and whether it can be read; never its value."""
    context.obj = file
    if context.invoked_subcommand is None:
        _tell(file, as_json, must_be_there=True)


@secrets.command("list", epilog="Example: esb secrets list --json")
@table_option
@json_option
@click.pass_context
def listed(context: click.Context, file: Path | None, as_json: bool) -> None:
    """Every secret, where it comes from, whether it can be read."""
    _tell(file or context.obj, as_json, must_be_there=False)


@secrets.command("check", epilog="Example: esb secrets check")
@table_option
@json_option
@click.pass_context
def checked(context: click.Context, file: Path | None, as_json: bool) -> None:
    """Every secret, as in `list`; ends with 1 when one cannot be read."""
    _tell(file or context.obj, as_json, must_be_there=True)


def _tell(file: Path | None, as_json: bool, *, must_be_there: bool) -> None:
    table, _ = load_table(file)
    reader = Secrets(table.secrets, table.folder)
    rows = [
        {"name": name, "from": reference, "state": _state(reader, name)} for name, reference in table.secrets.items()
    ]
    show(
        {"secrets": rows},
        as_json,
        lambda said: table_of([list(row.values()) for row in rows], ["name", "from", "state"]),
    )
    if must_be_there and any(row["state"] != "there" for row in rows):
        raise SystemExit(1)


def _state(reader: Secrets, name: str) -> str:
    try:
        reader.read(f"secret:{name}")
    except EsbError as error:
        return str(error)
    return "there"
