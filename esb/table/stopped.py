"""What this machine cannot run of a right table: routes and targets that need a plugin which was left out, or a package
that is not installed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from esb.table.model import MapSpec, Place, RouteSpec, StepSpec, TargetSpec


def stopped_routes(
    routes: Mapping[str, RouteSpec],
    targets: Mapping[str, TargetSpec | None],
    maps: Mapping[str, MapSpec],
    lacking: Mapping[Place, str],
) -> dict[str, str]:
    """Why each route that needs something of `lacking` (by the table that needs it, such as ("target", "erp")) does not
    run: itself, a target it leads to, steps or a map it uses, a route it hands over to."""
    if not lacking:
        return {}
    found: dict[str, str] = {}
    for name, route in routes.items():
        why = next((lacking[place] for place in _needs(route, targets, maps) if place in lacking), None)
        if why is not None:
            found[name] = why
    while more := _handing(routes, found):
        found |= more
    return found


def _handing(routes: Mapping[str, RouteSpec], stopped: Mapping[str, str]) -> dict[str, str]:
    """Routes that run, but for one they hand over to."""
    return {
        name: f"it hands over to route {following}, which is stopped: {stopped[following]}"
        for name, route in routes.items()
        if name not in stopped
        for following in (to.route for to in route.leads_to)
        if following is not None and following in stopped
    }


def _needs(route: RouteSpec, targets: Mapping[str, TargetSpec | None], maps: Mapping[str, MapSpec]) -> Iterator[Place]:
    """Every table that planning a message of the route looks into."""
    yield route.place
    for step in steps_of(route, targets):
        yield step.place[:2]
        if step.component.name == "map":
            yield from _maps(str(getattr(step.options, step.component.main)), maps, set())
    for to in route.leads_to:
        if to.target is not None:
            yield ("target", to.target)


def steps_of(route: RouteSpec, targets: Mapping[str, TargetSpec | None]) -> Iterator[StepSpec]:
    """Every step that a message of the route may meet before it is a delivery."""
    yield from route.do
    for case in route.cases:
        yield from case.do
    for to in route.leads_to:
        yield from to.do
        target = targets.get(to.target or "")
        yield from () if target is None else target.do


def _maps(name: str, maps: Mapping[str, MapSpec], seen: set[str]) -> Iterator[Place]:
    """A map, and those that its fields use."""
    if name in maps and name not in seen:
        seen.add(name)
        yield maps[name].place
        for inner in _inner(maps[name].fields):
            yield from _maps(inner, maps, seen)


def _inner(fields: Mapping[str, Any]) -> Iterator[str]:
    for value in fields.values():
        if isinstance(value, Mapping):
            if isinstance(value.get("map"), str) and "each" in value:
                yield value["map"]
            yield from _inner(value)
