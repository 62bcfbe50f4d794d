"""`esb check`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click
import msgspec

from esb.cli.asking import Failed, json_option, plugins_of, table_option
from esb.errors import ConfigError, Problem, as_values
from esb.plugins import Registry
from esb.table.load import read
from esb.table.model import Table
from esb.table.places import find_table


@click.command(epilog="Example: esb check --json; esb check --explain E203")
@table_option
@json_option
@click.option("--explain", "code", help="What a code means and what to do.")
def check(file: Path | None, as_json: bool, code: str | None) -> None:
    """Say everything that is wrong with the table, at once: file:line:column CODE what; what would be right.

    Ends with 2 when there is an error; a warning alone ends with 0."""
    if code is not None:
        _explain(code)
        return
    try:
        place = find_table(file, os.environ)
        registry = plugins_of(place)
        table, problems = read(place, registry, {})
    except ConfigError as error:
        table, problems, registry = None, list(error.problems), None
    if table is not None and registry is not None:
        lines = {(problem.file, problem.line) for problem in _errors(problems)}
        more = asyncio.run(opened(table, registry))
        problems += [problem for problem in more if (problem.file, problem.line) not in lines]
        problems.sort(key=lambda problem: (problem.file or "", problem.line or 0, problem.column or 0))
    if as_json:
        click.echo(msgspec.json.encode(as_values(problems)).decode())
    else:
        for problem in problems:
            click.echo(f"{problem}{' (warning)' if problem.severity != 'error' else ''}")
    errors = _errors(problems)
    if errors:
        raise SystemExit(2)
    if not as_json and table is not None:
        click.echo(f"{place}: {len(table.routes)} routes, {len(table.targets)} targets, no errors", err=True)


def _errors(problems: list[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.severity == "error"]


async def opened(table: Table, registry: Registry) -> list[Problem]:
    """What only shows when steps are opened: contracts, stylesheets, maps. Nothing is started."""
    from esb.clock import SystemClock
    from esb.services import BusServices
    from esb.table.language import late_environment
    from esb.table.opening import check_components

    async with BusServices(table, registry, SystemClock()) as services:
        services.environment = late_environment(table, registry)
        return await check_components(table, services.open)


def _explain(code: str) -> None:
    from esb.table.explanations import explanation

    text = explanation(code.upper())
    if text is None:
        raise Failed(f"there is no code {code}", 2)
    click.echo(text)
