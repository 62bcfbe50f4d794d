"""What a message is on its way through a route: bytes or a tree, changed or not; and what cannot come true of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from esb.table.language import Language
from esb.table.leaves import leaves
from esb.table.model import CaseSpec, Place, RouteSpec, StepSpec, Table, ToSpec
from esb.table.notes import Notes
from esb.units import Expression, Template


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
        self._front = f'route "{route.name}": '

    def check(self) -> None:
        route = self._route
        body = self._through(route.do, Body())
        self._identity()
        for to in route.to:
            self._to(to, body)
        for case in route.cases:
            self._case(case, body)

    def _case(self, case: CaseSpec, body: Body) -> None:
        if case.when is not None:
            self._asks(case.when, (*case.place, "when"), body, template=False)
        body = self._through(case.do, body)
        for to in case.to:
            self._to(to, body)

    def _to(self, to: ToSpec, body: Body) -> None:
        target = self._table.targets.get(to.target or "")
        body = self._through(to.do, body)
        if target is None:
            return self._written(to, body)
        body = self._through(target.do, body)
        texts = [value for _, value in leaves(target.options) if isinstance(value, Template)]
        for text in [*texts, *([target.order_by] if target.order_by is not None else [])]:
            field = self._field(text, body, template=True)
            if field:
                said = f"{self._front}{target.name} asks for {field}, and nothing has read the body"
                self._notes.add(to.place, "E178", said, 'put { read = "json" } (or xml, csv) into do')
        return self._written(to, body)

    def _identity(self) -> None:
        """`once` and `keys` see the message after the leading read and check steps, and before any other."""
        route, body = self._route, Body()
        for step in route.do:
            if step.component.name not in ("read", "check"):
                break
            body = _after(step, body)
        if route.once is not None:
            place = next((source.place for source in route.sources if source.once is route.once), route.place)
            self._asks(route.once, (*place, "once"), body, template=True)
        for name, text in route.keys.items():
            self._asks(text, (*route.place, "keys", name), body, template=True)

    def _through(self, steps: Sequence[StepSpec], body: Body) -> Body:
        for step in steps:
            if step.condition is not None:
                self._asks(step.condition, (*step.place, "if"), body, template=False)
            self._fits(step, body)
            after = _after(step, body)
            body = after if step.condition is None or after == body else Body("unknown")
        return body

    def _fits(self, step: StepSpec, body: Body) -> None:
        """A step that cannot work on what the body is."""
        name = step.component.name
        main = getattr(step.options, step.component.main)
        where: Place = (*step.place, name)
        if name == "read" and body.kind in ("tree", "mapped"):
            said = f"{self._front}the body is a tree already"
            self._notes.add(where, "E179", said, "leave this read out, or put a write before it")
        if body.kind != "bytes":
            return
        if name in ("write", "split"):
            self._unread(where, f"{name} wants a tree")
        elif name == "map":
            self._mapped(str(main), where, body)
        elif name in ("set", "remove"):
            for path in main:
                if str(path).startswith("body"):
                    self._unread((*where, path) if name == "set" else where, f"{path} is a field of a tree")
        for path, value in leaves(step.options):
            if isinstance(value, Template | Expression):
                first: Place = (name,) if path[0] == step.component.main else path[:1]
                here: Place = (*step.place, *first, *path[1:])
                self._asks(value, here, body, template=isinstance(value, Template))

    def _mapped(self, name: str, place: Place, body: Body) -> None:
        """A map of something that nothing has read."""
        spec = self._table.maps.get(name)
        for _, value in leaves({} if spec is None else spec.fields):
            field = self._field(value, body, template=False) if isinstance(value, str) else ""
            if field:
                return self._unread(place, f"the map asks for {field}")
        return None

    def _unread(self, place: Place, why: str, offset: int | None = None) -> None:
        said = f"{self._front}{why}, and nothing has read the body"
        self._notes.add(place, "E178", said, 'put { read = "json" } (or xml, csv) before it', offset=offset)

    def _asks(self, text: str, place: Place, body: Body, *, template: bool) -> None:
        if field := self._field(text, body, template=template):
            at = text.find(field)
            self._unread(place, f"this asks for {field}", text.find("body") if at < 0 else at)

    def _field(self, text: str, body: Body, *, template: bool) -> str:
        """A field of the body that a text asks for while the body is bytes, or ""."""
        if body.kind != "bytes" or "body" not in text:
            return ""
        fields = [field for program in self._language.programs(text, template) for field in sorted(program.fields)]
        return next((field for field in fields if field.startswith(("body.", "body["))), "")

    def _written(self, to: ToSpec, body: Body) -> None:
        """A mapped body needs a write; a changed one is written by the last read."""
        name = to.target or f"route {to.route}"
        if body.kind == "mapped":
            said = f"{self._front}a mapped body for {name} has no write"
            self._notes.add(to.place, "E175", said, 'put { write = "json" } after the map')
        elif body.kind == "tree" and body.changed:
            said = f"{self._front}the changed body for {name} is written as {body.format}, as it was read"
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
