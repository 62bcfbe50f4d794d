"""The planners of a table, for a bus that runs and for one that only explains."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from esb.blueprint import Draft
from esb.errors import ConfigError, Problem
from esb.pipeline import Planner
from esb.table.model import Table


async def planners_of(table: Table, draft: Draft, zone: ZoneInfo) -> dict[str, Planner]:
    """One for every route that this machine can run; raises ConfigError with all problems at once."""
    planners: dict[str, Planner] = {}
    problems: list[Problem] = []
    for spec in table.routes.values():
        if spec.name in table.stopped:
            continue
        try:
            blueprint = await draft.route(spec)
        except ConfigError as error:
            problems.extend(error.problems)
        else:
            planners[spec.name] = Planner(blueprint, table.var, zone, planners.get, table.bus.name)
    if problems:
        raise ConfigError(problems)
    return planners
