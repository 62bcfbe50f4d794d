"""What only shows when the whole table is read: names, expressions, secrets, and what components say themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from esb.errors import OptionError, Problem
from esb.plugins import Registry
from esb.table import keys
from esb.table.answers import Answers
from esb.table.draft import Draft
from esb.table.fields import Fields
from esb.table.flow import Flow
from esb.table.language import Language
from esb.table.leaves import leaves
from esb.table.logins import check_reference
from esb.table.model import ComponentSpec, Place, RouteSpec, SourceSpec, StepSpec, Table, TargetSpec
from esb.table.notes import Notes, closest, route_of
from esb.table.twice import check_twice
from esb.table.ways import Ways
from esb.units import Expression, Secret, Template

_LOGIN: Final = re.compile(
    r"://[^/@\s{}]+:[^/@\s{}]+@|[?&](?:token|password|secret|api_?key|sig)=[^&{}\s]+", re.IGNORECASE
)
"""A URL with a login or a key in it."""


class Lint:
    """One table, looked over; the draft has the expressions beside components' options."""

    def __init__(
        self,
        table: Table,
        registry: Registry,
        notes: Notes,
        draft: Draft,
    ) -> None:
        self._table = table
        self._notes = notes
        self._draft = draft
        self._language = Language(table, registry, notes)
        self._fields = Fields(table, notes, self._language)
        self._claims: dict[tuple[str, str, str], Place] = {}
        self._seen: set[Place] = set()
        self._headed: set[Place] = set()

    def run(self) -> None:
        for said in self._draft.said:
            self._language.check(said.text, said.place, template=said.template)
        for place, found in self._draft.catalogue.codecs:
            self._texts(found.options, place, "", "")
            if found.component.heads is not None and found.component.heads(found.options):
                self._headed.add(place)
        for target in self._table.targets.values():
            self._target(target)
        for route in self._table.routes.values():
            self._route(route)
        self._language.maps()
        Ways(self._table, self._notes, self._language).check()

    def _target(self, spec: TargetSpec) -> None:
        self._component(spec)
        self._steps(spec.do)
        self._repeats(spec)
        self._varies("order_by", spec.order_by, spec.place)
        self._login(spec, inbound=False)

    def _route(self, route: RouteSpec) -> None:
        for source in route.sources:
            self._component(source)
            self._varies("once", source.once, source.place)
            self._login(source, inbound=True)
        if all(source.once is not route.once for source in route.sources):
            self._varies("once", route.once, route.place)
        self._steps(route.do)
        for case in route.cases:
            self._steps(case.do)
            for to in case.to:
                self._steps(to.do)
        for to in route.to:
            self._steps(to.do)
        check_twice(route, self._notes)
        if route.name in self._table.stopped:
            return
        targets = {("target", to.target) for to in route.leads_to}
        if not ({route.place} | targets) & self._draft.broken:
            Flow(self._table, route, self._notes, self._language, self._fields, self._headed).check()
        Answers(self._table, route, self._notes).check()

    def _varies(self, key: str, text: str | None, place: Place) -> None:
        """A key that is the same for every message makes one of all of them."""
        if text is not None and "{" not in text.replace("{{", ""):
            said = f'{route_of(place)}{key} is "{text}" for every message'
            self._notes.add((*place, key), "E187", said, f'an expression stands in braces: {key} = "{{{text}}}"')

    def _login(self, spec: SourceSpec | TargetSpec, *, inbound: bool) -> None:
        """Callers show keys; calls log in."""
        auth = None if spec.auth is None else self._table.auth.get(spec.auth)
        if auth is None or (auth.kind == "api-key") == inbound:
            return
        said = f"{route_of(spec.place)}[auth.{auth.name}] is a login for calls, and lets nobody in"
        hint = 'for callers write [auth.NAME] with api-key = "file:FILE"'
        if not inbound:
            said = f"{route_of(spec.place)}[auth.{auth.name}] lists the keys of callers, and logs in nowhere"
            hint = "for calls write bearer, basic, oauth2 or header"
        self._notes.add((*spec.place, "auth"), "E188", said, hint)

    def _steps(self, steps: Sequence[StepSpec]) -> None:
        """Steps that several routes use stand in one place: they are looked at once."""
        for step in steps:
            if step.place not in self._seen:
                self._seen.add(step.place)
                self._component(step)

    def _component(self, spec: ComponentSpec) -> None:
        component = spec.component
        self._texts(spec.options, spec.place, component.main, component.name)
        self._names(spec)
        self._own(spec)

    def _texts(self, options: Any, place: Place, main: str, name: str) -> None:
        """Every expression, template and secret among options."""
        for path, value in leaves(options):
            here: Place = (*place, name if path[0] == main else path[0], *path[1:])
            if isinstance(value, Template):
                self._language.check(value, here, template=True)
                self._literal(value, here)
            elif isinstance(value, Expression):
                self._language.check(value, here, template=False, scope="answer" if here[-1] == "ok" else "message")
            elif isinstance(value, Secret):
                check_reference(value, self._table.secrets, here, self._notes)

    def _literal(self, value: Template, place: Place) -> None:
        """A header or a URL that logs in, with its secret in the table."""
        if self._language.is_literal_secret(str(place[-1]), value) or _LOGIN.search(value):
            hint = "make an [auth.NAME] of it, with the secret by reference"
            self._notes.add(place, "E172", f"{route_of(place)}a secret stands here itself", hint)

    def _names(self, spec: ComponentSpec) -> None:
        """Options that name another table: map = "x"; listener = "x"."""
        if spec.component.kind == "step" and spec.component.name == "map":
            name = getattr(spec.options, spec.component.main)
            self._language.mapped(name)
            self._known(name, self._table.maps, (*spec.place, "map"), "map", "E207")
        listener = getattr(spec.options, "listener", None)
        if isinstance(listener, str):
            self._known(listener, self._table.listeners, (*spec.place, "listener"), "listener", "E214")

    def _known(self, name: str, known: Mapping[str, Any], place: Place, what: str, code: str) -> None:
        if name not in known:
            said = f'{route_of(place)}no {what} named "{name}"'
            self._notes.add(place, code, said, closest(name, known), offset=0)

    def _own(self, spec: ComponentSpec) -> None:
        """What the component itself finds wrong with its options, and what another place has claimed already."""
        component = spec.component
        try:
            if component.check is not None:
                component.check(spec.options)
            claims = () if component.claims is None else component.claims(spec.options)
        except OptionError as error:
            self._notes.problems += located(spec, error, self._table)
            return
        for claim in claims:
            first = self._claims.setdefault((component.kind, component.name, claim), spec.place)
            if first != spec.place:
                said = f"{route_of(spec.place)}{claim} is taken by {' '.join(str(part) for part in first[:2])}"
                self._notes.add((*spec.place, component.name), "E182", said, "change one of them")

    def _repeats(self, spec: TargetSpec) -> None:
        """R16: an unknown outcome is repeated; a target that cannot tell a repeat acts twice. Where it has headers
        the delivery id travels in one."""
        component = spec.component
        policy = self._table.retry.get(spec.retry)
        named = spec.id_header is not None or "headers" not in keys.fields(component.options)
        knows = component.idempotent == "yes" or (component.idempotent == "by id" and named)
        if policy is None or policy.unknown.as_ == "park" or knows:
            return
        said = f'target "{spec.name}" cannot tell a repeat after a lost answer'
        hint = "expect one"
        if component.idempotent == "by id":
            hint = 'write id_header = "Idempotency-Key" if it looks at such a header'
        hint += ', or give it a retry policy with unknown = { as = "park" }'
        self._notes.warn(spec.place, "W302", said, hint, key=True)


def located(spec: ComponentSpec, error: OptionError, table: Table) -> list[Problem]:
    """A component's own complaint at the place of the option in the file."""
    front = route_of(spec.place)
    path = [part for part in error.option.split(".") if part] or [spec.component.main]
    name = spec.component.name if path[0] == spec.component.main else path[0]
    found: list[Problem] = []
    for problem in error.problems:
        told = Problem(problem.code, f"{front}{problem.message}", problem.hint, severity=problem.severity)
        found.append(table.locate((*spec.place, name, *path[1:]), told, error.offset))
    return found
