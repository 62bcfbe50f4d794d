"""What only shows when the whole table is read: expressions, steps that do not fit each other, replies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct

from esb.errors import OptionError
from esb.expressions import Environment, ExpressionProblems
from esb.plugins import Registry
from esb.table.model import ComponentSpec, Place, RouteSpec, StepSpec, Table, TargetSpec, ToSpec
from esb.table.notes import Notes, closest, route_of
from esb.units import Expression, Secret, Template


class Lint:
    """One table, looked over."""

    def __init__(self, table: Table, registry: Registry, notes: Notes) -> None:
        self._table = table
        self._notes = notes
        self._seen: dict[tuple[str, bool], ExpressionProblems | None] = {}
        self._claims: dict[tuple[str, str, str], Place] = {}
        try:
            zone = ZoneInfo(table.bus.time_zone)
        except (KeyError, ValueError, OSError):
            hint = "write a name such as Europe/Berlin"
            notes.add(("bus", "time_zone"), "E173", f'no time zone "{table.bus.time_zone}"', hint)
            zone = ZoneInfo("UTC")
        self._environment = Environment(functions=registry.functions, budget=table.bus.budget, zone=zone)

    def run(self) -> None:
        table = self._table
        if not table.bus.broker == "embedded":
            self._notes.add(("bus", "broker"), "E151", "this version of esb has the embedded broker only", '"embedded"')
        for name, spec in table.maps.items():
            self._map(spec.fields, ("map", name))
        for target in table.targets.values():
            self._target(target)
        for route in table.routes.values():
            self._route(route)

    def _target(self, spec: TargetSpec) -> None:
        self._options(spec)
        self._steps(spec.do)
        if spec.order_by is not None:
            self._template(spec.order_by, (*spec.place, "order_by"))

    def _route(self, route: RouteSpec) -> None:
        for source in route.sources:
            self._options(source)
        if route.once is not None:
            self._template(route.once, self._once_place(route))
        for name, text in route.keys.items():
            self._template(text, (*route.place, "keys", name))
        self._steps(route.do)
        for case in route.cases:
            if case.when is not None:
                self._expression(case.when, (*case.place, "when"))
            self._steps(case.do)
            self._to(case.to)
        self._to(route.to)
        self._fit(route)

    def _once_place(self, route: RouteSpec) -> Place:
        place: Place = (*route.place, "once")
        found = self._notes.atlas.source(place)
        if found is not None and found[1] in found[0].positions:
            return place
        return next(((*source.place, "once") for source in route.sources if source.once is not None), place)

    def _to(self, items: Sequence[ToSpec]) -> None:
        for item in items:
            self._steps(item.do)

    def _steps(self, steps: Sequence[StepSpec]) -> None:
        for step in steps:
            self._options(step)
            if step.condition is not None:
                self._expression(step.condition, (*step.place, "if"))

    def _options(self, spec: ComponentSpec) -> None:
        """Every expression, template and secret among a component's options."""
        for path, value in leaves(spec.options):
            place = self._option_place(spec, path)
            if isinstance(value, Template):
                self._template(value, place)
            elif isinstance(value, Expression):
                self._expression(value, place)
            elif isinstance(value, Secret):
                self._secret(value, place)
        self._names(spec)
        self._component(spec)

    def _component(self, spec: ComponentSpec) -> None:
        """What the component itself finds wrong with its options, and what another place has claimed already."""
        component, front = spec.component, route_of(spec.place)
        try:
            if component.check is not None:
                component.check(spec.options)
            claims = () if component.claims is None else component.claims(spec.options)
        except OptionError as error:
            for problem in error.problems:
                place = self._option_place(spec, (problem.place,) if problem.place else ())
                self._notes.add(place, problem.code, f"{front}{problem.message}", problem.hint, offset=error.offset)
            return
        for claim in claims:
            first = self._claims.setdefault((component.kind, component.name, claim), spec.place)
            if first != spec.place:
                place = self._option_place(spec, (component.main,))
                said = f"{front}{claim} is taken by {' '.join(str(part) for part in first[:2])}"
                self._notes.add(place, "E182", said, "change one of them")

    def _option_place(self, spec: ComponentSpec, path: tuple[str | int, ...]) -> Place:
        if path and path[0] == spec.component.main:
            path = (spec.component.name, *path[1:])
        return (*spec.place, *path)

    def _secret(self, value: Secret, place: Place) -> None:
        name = value.removeprefix("secret:")
        if name not in self._table.secrets:
            self._notes.add(place, "E213", f'no secret named "{name}"', closest(name, self._table.secrets))

    def _names(self, spec: ComponentSpec) -> None:
        """Options that name another table: map = "x"; listener = "x"."""
        options = spec.options
        if spec.component.name == "map" and spec.component.kind == "step":
            name = getattr(options, spec.component.main)
            if name not in self._table.maps:
                hint = closest(name, self._table.maps)
                self._notes.add((*spec.place, "map"), "E207", f'{route_of(spec.place)}no map named "{name}"', hint)
        listener = getattr(options, "listener", None)
        if isinstance(listener, str) and listener not in self._table.listeners:
            hint = closest(listener, self._table.listeners)
            self._notes.add((*spec.place, "listener"), "E214", f'no listener named "{listener}"', hint)

    def _map(self, fields: Mapping[str, Any], place: Place) -> None:
        """A string is CEL, `{ text = }` a text, `{ each = CEL, map = NAME }` a list."""
        for key, value in fields.items():
            here: Place = (*place, key)
            if isinstance(value, str):
                self._expression(value, here)
            elif isinstance(value, Mapping):
                self._map_form(value, here)
            elif not isinstance(value, (bool, int, float)):
                self._notes.add(
                    here, "E174", f"{route_of(place)}{key} is no value of a map", "CEL in quotes, a number, true"
                )

    def _map_form(self, value: Mapping[str, Any], place: Place) -> None:
        if set(value) == {"text"} and isinstance(value["text"], str):
            return
        if set(value) == {"each", "map"}:
            self._expression(value["each"], (*place, "each"))
            if value["map"] not in self._table.maps:
                hint = closest(str(value["map"]), self._table.maps)
                self._notes.add((*place, "map"), "E207", f'{route_of(place)}no map named "{value["map"]}"', hint)
            return
        if set(value) & {"text", "each", "map"}:
            hint = '{ text = "EUR" } or { each = CEL, map = "NAME" }'
            self._notes.add(place, "E174", f"{route_of(place)}not a form of a map's field", hint)
            return
        self._map(value, place)

    def _expression(self, text: str, place: Place) -> None:
        self._compile(text, place, self._environment.compile, False)

    def _template(self, text: str, place: Place) -> None:
        if "{" in text or "}" in text:
            self._compile(text, place, self._environment.compile_template, True)

    def _compile(self, text: str, place: Place, compile: Callable[[str], object], template: bool) -> None:
        key = (text, template)
        if key not in self._seen:
            try:
                compile(text)
            except ExpressionProblems as problems:
                self._seen[key] = problems
            else:
                self._seen[key] = None
        found = self._seen[key]
        for finding in found.findings if found is not None else ():
            front = route_of(place)
            self._notes.add(
                place, finding.code, f"{front}{finding.message}", self._hinted(finding.hint, text, place),
                offset=finding.offset, severity=finding.severity,
            )  # fmt: skip

    def _hinted(self, hint: str, text: str, place: Place) -> str:
        """In a map a bare word is often meant as a text."""
        if place[0] == "map" and text.isidentifier():
            return f'for the text write {{ text = "{text}" }}'
        return hint

    def _fit(self, route: RouteSpec) -> None:
        """What reaches the targets: a mapped body needs a write; a changed one is written by the last read."""
        for to in [*route.to, *(item for case in route.cases for item in case.to)]:
            case = next((case for case in route.cases if to in case.to), None)
            target = self._table.targets.get(to.target or "")
            steps = [*route.do, *(case.do if case else ()), *to.do, *(target.do if target else ())]
            self._written(steps, to, route)

    def _written(self, steps: Sequence[StepSpec], to: ToSpec, route: RouteSpec) -> None:
        state, read = "bytes", ""
        for step in steps:
            match step.component.name:
                case "read":
                    state, read = "tree", str(getattr(step.options, step.component.main))
                case "write" | "xslt":
                    state = "bytes"
                case "map":
                    state = "changed" if getattr(step.options, "into", None) else "mapped"
                case "set" | "remove":
                    state = "changed" if state == "tree" else state
        name = to.target or f"route:{to.route}"
        if state == "mapped":
            hint = '{ write = "json" } after the map'
            self._notes.add(to.place, "E175", f'route "{route.name}": a mapped body for {name} has no write', hint)
        elif state == "changed" and read:
            said = f'route "{route.name}": the changed body for {name} is written as {read}, as it was read'
            hint = f'say so with {{ write = "{read}" }}'
            self._notes.add(to.place, "W301", said, hint, severity="warning")


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every single value of a component's options with its path."""
    if isinstance(value, Struct):
        for name, encoded in zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True):
            yield from leaves(getattr(value, name), (*path, encoded))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, (list, tuple)) and not isinstance(value, str):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value
