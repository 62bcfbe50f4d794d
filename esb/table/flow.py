"""What a message is on its way through a route: bytes or a tree, changed or not; and what cannot come true of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from esb.table.language import Language
from esb.table.model import CaseSpec, RouteSpec, StepSpec, Table, ToSpec
from esb.table.notes import Notes


class Body(Struct, frozen=True):
    """What the body is for certain: `bytes` as they came, a `tree`, `mapped` (no format any more), `written` (bytes
    whose tree is still seen), or `unknown`. `changed` says that it is no longer what was read as `format`."""

    kind: Literal["bytes", "tree", "mapped", "written", "unknown"] = "bytes"
    format: str = ""
    changed: bool = False


class Flow:
    """Walks one route, from its source to every target."""

    def __init__(self, table: Table, route: RouteSpec, notes: Notes, language: Language) -> None:
        self._table = table
        self._route = route
        self._notes = notes
        self._language = language

    def check(self) -> None:
        route = self._route
        body = self._through(route.do, Body())
        for to in route.to:
            self._to(to, body)
        for case in route.cases:
            self._case(case, body)

    def _case(self, case: CaseSpec, body: Body) -> None:
        body = self._through(case.do, body)
        for to in case.to:
            self._to(to, body)

    def _to(self, to: ToSpec, body: Body) -> None:
        target = self._table.targets.get(to.target or "")
        body = self._through(to.do, body)
        body = self._through(target.do if target else (), body)
        self._written(to, body)

    def _through(self, steps: Sequence[StepSpec], body: Body) -> Body:
        for step in steps:
            after = _after(step, body)
            body = after if step.condition is None or after == body else Body("unknown")
        return body

    def _written(self, to: ToSpec, body: Body) -> None:
        """A mapped body needs a write; a changed one is written by the last read."""
        name = to.target or f"route:{to.route}"
        front = f'route "{self._route.name}": '
        if body.kind == "mapped":
            said = f"{front}a mapped body for {name} has no write"
            self._notes.add(to.place, "E175", said, 'put { write = "json" } after the map')
        elif body.kind == "tree" and body.changed:
            said = f"{front}the changed body for {name} is written as {body.format}, as it was read"
            self._notes.warn(to.place, "W301", said, f'say so with {{ write = "{body.format}" }}')


def _after(step: StepSpec, body: Body) -> Body:
    """What the body is after a step that ran."""
    options = step.options
    match step.component.name:
        case "read":
            return Body("tree", str(getattr(options, step.component.main)))
        case "write":
            return Body("written")
        case "map" if getattr(options, "into", None) is None:
            return Body("mapped")
        case "map":
            return replace(body, changed=True)
        case "set" | "remove":
            paths = getattr(options, step.component.main)
            return replace(body, changed=True) if any(str(path).startswith("body") for path in paths) else body
        case "check" | "keep" | "log" | "split":
            return body
        case _:
            return Body("unknown")
