"""What a message is on its way through a route: bytes or a tree, changed or not; and what cannot come true of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from esb.expressions.signatures import words
from esb.table.fields import Fields, Known, Text
from esb.table.language import Language
from esb.table.leaves import leaves
from esb.table.model import CaseSpec, ComponentSpec, Place, RouteSpec, StepSpec, Table, ToSpec
from esb.table.notes import Notes
from esb.units import Expression, Template


class Body(Struct, frozen=True):
    """What the body is for certain: `bytes` as they came, a `tree`, `mapped` (no format any more), `written` (bytes
    whose tree is still seen), or `unknown`. `changed` says that it is no longer what was read as `format`; `known` what
    its fields are; `head` that some of it is to stand once in a file that joins several."""

    kind: Literal["bytes", "tree", "mapped", "written", "unknown"] = "bytes"
    format: str = ""
    changed: bool = False
    known: Known | None = None
    head: bool = False


class Flow:
    """Walks one route, from its source to every target. `headed` are the places of reads and writes whose format has a
    head apart."""

    def __init__(
        self,
        table: Table,
        route: RouteSpec,
        notes: Notes,
        language: Language,
        fields: Fields,
        headed: Collection[Place],
    ) -> None:
        self._table = table
        self._route = route
        self._notes = notes
        self._language = language
        self._fields = fields
        self._headed = headed
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
            self._condition(case.when, (*case.place, "when"))
        body = self._through(case.do, body)
        for to in case.to:
            self._to(to, body)

    def _to(self, to: ToSpec, body: Body) -> None:
        target = self._table.targets.get(to.target or "")
        body = self._through(to.do, body)
        if target is None:
            return self._written(to, body)
        body = self._through(target.do, body)
        texts = [(text, place) for text, place in texts_of(target) if isinstance(text, Template)]
        texts += [(target.order_by, (*target.place, "order_by"))] if target.order_by is not None else []
        for text, place in texts:
            if field := self._field(text, body, template=True):
                said = f"{self._front}{target.name} asks for {field}, and nothing has read the body"
                self._notes.add(to.place, "E178", said, 'put { read = "json" } (or xml, csv) into do')
            self._named(text, place, body, template=True)
        return self._written(to, body)

    def _identity(self) -> None:
        """`once` and `keys` see the message after the leading read and check steps, and before any other."""
        route, body = self._route, Body()
        for step in route.do:
            if step.component.name not in ("read", "check"):
                break
            body = self._after(step, body)
        if route.once is not None:
            place = next((source.place for source in route.sources if source.once is route.once), route.place)
            self._asks(route.once, (*place, "once"), body, template=True)
        for name, text in route.keys.items():
            self._asks(text, (*route.place, "keys", name), body, template=True)

    def _through(self, steps: Sequence[StepSpec], body: Body) -> Body:
        for step in steps:
            if step.condition is not None:
                self._asks(step.condition, (*step.place, "if"), body, template=False)
                self._condition(step.condition, (*step.place, "if"))
            self._fits(step, body)
            after = self._after(step, body)
            body = after if step.condition is None or after == body else Body("unknown", head=after.head)
        return body

    def _after(self, step: StepSpec, body: Body) -> Body:
        after = _after(step, body)
        known = None if body.known is None else body.known.after(step)
        if step.component.name == "read" and body.kind != "bytes":
            known = None  # what was written is read again: the names may have another root now
        main = getattr(step.options, step.component.main)
        if step.component.name == "check" and not self._only_noted(step):
            known = self._fields.contracted(str(main)) or known
        elif step.component.name == "map" and after.kind == "mapped":
            known = self._fields.mapped(str(main))
        if step.component.name == "write":
            after = replace(after, head=step.place in self._headed)
        return replace(after, known=known)

    def _only_noted(self, step: StepSpec) -> bool:
        """Whether a message that breaks the contract goes on."""
        return (step.bad or self._route.bad).kind == "note"

    def _fits(self, step: StepSpec, body: Body) -> None:
        """A step that cannot work on what the body is."""
        name = step.component.name
        main = getattr(step.options, step.component.main)
        where: Place = (*step.place, name)
        if name == "read" and body.kind in ("tree", "mapped"):
            said = f"{self._front}the body is a tree already"
            self._notes.add(where, "E179", said, "leave this read out, or put a write before it")
        if name == "read" and step.place in self._headed:
            said = f"{self._front}a head that stands once is for a write"
            self._notes.add((*step.place, "header"), "E186", said, "write header = true, or false")
        if body.kind == "bytes":
            self._unfit(step, name, main, where)
        if name == "map":
            self._mapped(str(main), where, body)
        if body.kind == "bytes" or body.known is not None:
            for text, place in texts_of(step):
                self._asks(text, place, body, template=isinstance(text, Template))

    def _unfit(self, step: StepSpec, name: str, main: Any, where: Place) -> None:
        """What cannot be done with bytes."""
        if name in ("write", "split"):
            self._unread(where, f"{name} wants a tree")
        elif name in ("set", "remove"):
            for path in main:
                if str(path).startswith("body"):
                    self._unread((*where, path) if name == "set" else where, f"{path} is a field of a tree")

    def _mapped(self, name: str, place: Place, body: Body) -> None:
        """The fields that a map asks for."""
        spec = self._table.maps.get(name)
        told = False
        for path, value in leaves({} if spec is None else spec.fields):
            if isinstance(value, str) and path[-1] not in ("text", "map"):
                field = self._field(value, body, template=False)
                if field and not told:
                    self._unread(place, f"the map asks for {field}")
                    told = True
                self._named(value, ("map", name, *path), body, template=False)

    def _unread(self, place: Place, why: str, offset: int | None = None) -> None:
        said = f"{self._front}{why}, and nothing has read the body"
        self._notes.add(place, "E178", said, 'put { read = "json" } (or xml, csv) before it', offset=offset)

    def _asks(self, text: str, place: Place, body: Body, *, template: bool) -> None:
        if field := self._field(text, body, template=template):
            at = text.find(field)
            self._unread(place, f"this asks for {field}", text.find("body") if at < 0 else at)
        self._named(text, place, body, template=template)

    def _condition(self, text: str, place: Place) -> None:
        """What is asked for true or false must not be certain to be something else."""
        for program in self._language.programs(text, False):
            if program.type not in ("bool", "dyn"):
                said = f"{self._front}a condition is true or false, and this is {words(program.type)}"
                self._notes.add(place, "E224", said, "compare it with something: == and >, or has(...)")

    def _named(self, text: str, place: Place, body: Body, *, template: bool) -> None:
        """Fields that are not among those that a contract or a map gives."""
        if body.known is not None:
            self._fields.check(Text(text, place, template, self._front), body.known)

    def _field(self, text: str, body: Body, *, template: bool) -> str:
        """A field of the body that a text asks for while the body is bytes, or ""."""
        if body.kind != "bytes" or "body" not in text:
            return ""
        fields = [field for program in self._language.programs(text, template) for field in sorted(program.fields)]
        return next((field for field in fields if field.startswith(("body.", "body["))), "")

    def _written(self, to: ToSpec, body: Body) -> None:
        """A mapped body needs a write; a changed one is written by the last read."""
        name = to.target or f"route {to.route}"
        target = self._table.targets.get(to.target or "")
        if body.head and not (target and target.component.heads and target.component.heads(target.options)):
            said = f'{self._front}header = "once" for {name}, which does not join bodies in one file'
            self._notes.add(to.place, "E186", said, "give a file target append = true, or write header = true")
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


def texts_of(spec: ComponentSpec) -> Iterator[tuple[Template | Expression, Place]]:
    """The expressions and templates among a component's options, each with its place."""
    for path, value in leaves(spec.options):
        if isinstance(value, (Template, Expression)):
            first = spec.component.name if path[0] == spec.component.main else path[0]
            yield value, (*spec.place, first, *path[1:])
