"""`key secrets`: made and listed, never shown."""

from __future__ import annotations

from pathlib import Path

import click

from esb.auth import new_key
from esb.cli.asking import Failed, json_option, load_table, show, table_of, table_option
from esb.errors import EsbError
from esb.secrets import Secrets


@click.group(epilog="Example: esb key new partners acme")
def key() -> None:
    """API keys of callers."""


@key.command("new", epilog="Example: esb key new partners acme >> keys, then give acme the key")
@click.argument("auth")
@click.argument("name")
@click.option("--expires", default="", help="2027-01-01")
@table_option
def new(auth: str, name: str, expires: str, file: Path | None) -> None:
    """Make a key for a caller of [auth.AUTH]: its line goes into the keys file; the key is shown this once."""
    table, _ = load_table(file)
    spec = table.auth.get(auth)
    if spec is None or spec.kind != "api-key":
        raise Failed(f'there is no [auth.{auth}] with api-key = "file:..."', 2)
    text, line = new_key(name, expires)
    path = table.folder / spec.value.removeprefix("file:")
    with path.open("a") as keys:
        keys.write(line + "\n")
    path.chmod(0o600)
    click.echo(text)
    click.echo(f"added to {path}; the key is not kept anywhere: give it to {name} now", err=True)


@click.group(invoke_without_command=True, epilog="Example: esb secrets")
@table_option
@json_option
def secrets(file: Path | None, as_json: bool) -> None:
    """Every secret of the table: where it comes from and whether it can be read; never its value."""
    table, _ = load_table(file)
    reader = Secrets(table.secrets, table.folder)
    rows = []
    for name, reference in table.secrets.items():
        try:
            reader.read(f"secret:{name}")
            state = "there"
        except EsbError as error:
            state = str(error)
        rows.append({"name": name, "from": reference, "state": state})
    show(
        {"secrets": rows},
        as_json,
        lambda said: table_of([list(row.values()) for row in rows], ["name", "from", "state"]),
    )
    if any(row["state"] != "there" for row in rows):
        raise SystemExit(1)
