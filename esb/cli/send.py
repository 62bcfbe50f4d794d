"""`esb send`."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import click

from esb.cli.asking import ask, json_option, show, table_option, then

STARTING = 5.0
"""Seconds that a bus may take to start: `esb run &` and `esb send` may be typed in one go."""


def headers_option(command: Any) -> Any:
    """`--header k=v`, as often as wanted."""
    return click.option("--header", "-H", "headers", multiple=True, help="NAME=VALUE, as often as wanted.")(command)


def headers_of(given: tuple[str, ...]) -> dict[str, str]:
    """Headers as a mapping; ends with 2 on a word without `=`."""
    pairs = [item.partition("=") for item in given]
    if any(not mark for _, mark, _ in pairs):
        raise click.UsageError("a header is NAME=VALUE")
    return {name.lower(): value for name, _, value in pairs}


@click.command(epilog="Example: esb send orders sample.xml")
@click.argument("route")
@click.argument("body", type=click.File("rb"))
@headers_option
@table_option
@json_option
def send(route: str, body: Any, headers: tuple[str, ...], file: Path | None, as_json: bool) -> None:
    """Send a file (- for standard input) into a route of the running bus; one that is just starting is waited for.

    Ends with 1 when it is refused."""
    data = base64.b64encode(body.read()).decode()
    asked = {"route": route, "body": data, "headers": headers_of(headers), "name": Path(body.name).name}
    answer = ask(file, "POST", "/inject", asked, local=False, patience=STARTING)
    show(answer, as_json, _sent)
    then(answer)


def _sent(answer: Any) -> None:
    click.echo(f"{answer['id']}{' (known already)' if answer['duplicate'] else ''}")
    if answer["reply"] is not None:
        click.echo(f"answer {answer['reply']['status']}: {(answer['reply']['body'] or {}).get('text', '')}")
