"""`esb explain`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click
from msgspec import to_builtins

from esb.cli.asking import Failed, json_option, load_table, plain, show, table_option
from esb.cli.send import headers_of, headers_option
from esb.clock import SystemClock
from esb.errors import Closing, ConfigError


@click.command(epilog="Example: esb explain orders --input order.xml -H x-channel=edi")
@click.argument("route")
@click.option(
    "--input", "body", type=click.File("rb"), required=True, help="The message's body (- for standard input)."
)
@headers_option
@table_option
@json_option
def explain(route: str, body: Any, headers: tuple[str, ...], file: Path | None, as_json: bool) -> None:
    """Why a message goes where it goes: steps, cases with every leaf's value, deliveries. Nothing is stored or sent."""
    from esb.explain import explain as explained

    table, registry = load_table(file)
    if route not in table.routes:
        raise Failed(f"there is no route {route}; there is {', '.join(table.routes)}", 2)
    try:
        answer = asyncio.run(explained(table, registry, SystemClock(), route, body.read(), headers_of(headers)))
    except (ConfigError, Closing) as error:
        raise Failed(str(error), 2) from error
    show(to_builtins(answer), as_json, _told)
    if answer.state == "refused":
        raise SystemExit(1)


def _told(answer: Any) -> None:
    for line in answer["lines"]:
        mark = "*" if line["taken"] else " "
        indent = "      " if line["kind"] == "leaf" else "  "
        click.echo(f"{indent}{mark} {line['kind']:<9}{plain(line['name'])}: {plain(line['text'])}")
    for target, policy in answer["retries"]:
        click.echo(f"    when {target} is down: {policy}")
    if answer["key"] is not None:
        click.echo(f"    once: {plain(answer['key'])}")
    click.echo(" ".join(["=>", *filter(None, (answer["state"], answer["code"], plain(answer["reason"])))]))
