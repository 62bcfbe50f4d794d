"""Opening what is pure in a table, to find what only shows then: contracts, stylesheets, maps, paths."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any, Protocol

from esb.errors import ConfigError, OptionError, Problem
from esb.table.lint import located
from esb.table.model import ComponentSpec, StepSpec, Table


class Opener(Protocol):
    """Opens one component of the table in its context; what it gives lives as long as `stack`."""

    async def __call__(self, spec: ComponentSpec, name: str, stack: AsyncExitStack, /) -> Any: ...


async def check_components(table: Table, opener: Opener) -> list[Problem]:
    """Opens and closes every step, with its codecs, maps and contracts (those alike once); nothing is started and no
    target or source is touched. Gives what they complain of, each at its place, by place."""
    found: list[Problem] = []
    tried: dict[str, ConfigError | None] = {}
    for place, spec in _steps(table):
        alike = f"{spec.component.name} {spec.folder} {spec.options}"
        if alike not in tried:
            tried[alike] = await _tried(spec, place, opener)
        error = tried[alike]
        if isinstance(error, OptionError):
            found += located(spec, error, table)
        elif error is not None:
            found += error.problems
    ordered = sorted(found, key=lambda problem: (problem.file or "", problem.line or 0, problem.column or 0))
    return list(dict.fromkeys(ordered))


async def _tried(spec: StepSpec, place: str, opener: Opener) -> ConfigError | None:
    async with AsyncExitStack() as stack:
        try:
            await opener(spec, place, stack)
        except ConfigError as error:
            return error
    return None


def _steps(table: Table) -> Iterator[tuple[str, StepSpec]]:
    """Every step that stands in the table, once, with the name of its place."""
    seen = set()
    for name, step in _all(table):
        if step.place not in seen:
            seen.add(step.place)
            yield f"{name}.{step.component.name}", step


def _all(table: Table) -> Iterator[tuple[str, StepSpec]]:
    for route in table.routes.values():
        lists = [route.do, *(case.do for case in route.cases), *(to.do for to in route.leads_to)]
        yield from ((f"route.{route.name}", step) for steps in lists for step in steps)
    for target in table.targets.values():
        yield from ((f"target.{target.name}", step) for step in target.do)
