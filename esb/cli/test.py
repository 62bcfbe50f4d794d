"""`esb test`."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import click
from msgspec import to_builtins

from esb.cli.asking import Failed, json_option, load_table, show, table_option
from esb.errors import ConfigError


@click.command(epilog="Example: esb test")
@table_option
@json_option
def test(file: Path | None, as_json: bool) -> None:
    """Run the table's own tests: no broker, no network. Ends with 1 when one fails."""
    from esb.tabletest import run_tests

    logging.disable(logging.WARNING)
    table, registry = load_table(file)
    try:
        results = asyncio.run(run_tests(table, registry))
    except ConfigError as error:
        raise Failed(str(error), 2) from error
    show([to_builtins(result) for result in results], as_json, _told)
    if any(result.failures for result in results):
        raise SystemExit(1)


def _told(answer: Any) -> None:
    for result in answer:
        click.echo(f"{'FAILED' if result['failures'] else 'ok':<7}{result['name']}")
        for failure in result["failures"]:
            click.echo(f"       {failure}")
    failed = sum(bool(result["failures"]) for result in answer)
    click.echo(f"{len(answer) - failed} passed, {failed} failed")
