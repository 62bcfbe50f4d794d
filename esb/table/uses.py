"""Which routes and targets of a table use what a plugin brings. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from esb.plugins import PluginFile, Registry
from esb.table.model import ComponentSpec, RouteSpec, Table, TargetSpec


class Uses(Struct, frozen=True):
    """The names of routes and targets, sorted."""

    routes: Sequence[str] = ()
    targets: Sequence[str] = ()


def uses(table: Table, registry: Registry) -> Mapping[str, Uses]:
    """By the name of each plugin; a route uses what the targets it leads to use. A refused one is used by what is
    stopped for want of it."""
    return {plugin.name: _uses(table, plugin) for plugin in registry.plugins}


def _uses(table: Table, plugin: PluginFile) -> Uses:
    if plugin.refused:
        mark = f"the plugin {plugin.name} was left out"
        return Uses(_with(mark, table.stopped), _with(mark, table.absent))
    brought = set(plugin.components)
    targets = sorted(name for name, target in table.targets.items() if brought & _asked_by_target(target, plugin))
    routes = [
        name
        for name, route in table.routes.items()
        if brought & _asked_by_route(route, plugin) or any(to.target in targets for to in route.leads_to)
    ]
    return Uses(sorted(routes), targets)


def _with(mark: str, reasons: Mapping[str, str]) -> Sequence[str]:
    return sorted(name for name, why in reasons.items() if mark in why)


def _asked_by_route(route: RouteSpec, plugin: PluginFile) -> set[str]:
    steps = [*route.do, *(step for case in route.cases for step in case.do)]
    steps += [step for to in route.leads_to for step in to.do]
    texts = [route.once, *route.keys.values(), *(case.when for case in route.cases)]
    return {*_named([*route.sources, *steps]), *_called([*route.sources, *steps, *texts], plugin)}


def _asked_by_target(target: TargetSpec, plugin: PluginFile) -> set[str]:
    return {*_named([target, *target.do]), *_called([target.options, target.order_by, *target.do], plugin)}


def _named(specs: Iterable[ComponentSpec]) -> Iterator[str]:
    """`step read`, `codec json` of each."""
    for spec in specs:
        yield f"{spec.component.kind} {spec.component.name}"
        if spec.component.name in ("read", "write"):
            yield f"codec {getattr(spec.options, spec.component.main)}"


def _called(asked: Iterable[object], plugin: PluginFile) -> Iterator[str]:
    """`function xpath` where a text says it: a value's repr has every text of it."""
    functions = [name.removeprefix("function ") for name in plugin.components if name.startswith("function ")]
    said = " ".join(map(repr, asked)) if functions else ""
    for name in functions:
        if re.search(rf"\b{name}\(", said):
            yield f"function {name}"
