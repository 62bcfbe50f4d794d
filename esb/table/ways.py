"""Ways through a table that no message takes, or takes for ever."""

from __future__ import annotations

from esb.expressions.syntax import Constant
from esb.table.language import Language
from esb.table.model import CaseSpec, RouteSpec, Table, ToSpec
from esb.table.notes import Notes


class Ways:
    """Cases that are never asked, and routes that hand to each other in a circle."""

    def __init__(self, table: Table, notes: Notes, language: Language) -> None:
        self._table = table
        self._notes = notes
        self._language = language

    def check(self) -> None:
        seen: set[str] = set()
        for route in self._table.routes.values():
            self._unasked(route)
            self._circle(route, seen)

    def _unasked(self, route: RouteSpec) -> None:
        """A case behind one that takes the same, or everything (what stands behind an otherwise was told before)."""
        if route.match != "first":
            return
        asked: dict[str, CaseSpec] = {}
        always: CaseSpec | None = None
        for case in route.cases:
            same = always or asked.get(" ".join((case.when or "").split()))
            if case.when is not None and same is not None:
                said = (
                    f'route "{route.name}": case "{case.name}" is never asked: "{same.name}" takes the same before it'
                )
                self._notes.add(case.place, "E163", said, "leave it out, or put it first")
            elif case.when is not None:
                asked[" ".join(case.when.split())] = case
                always = case if self._is_true(case.when) else always

    def _is_true(self, text: str) -> bool:
        program = self._language.program(text)
        return program is not None and isinstance(program.tree, Constant) and program.tree.value is True

    def _circle(self, route: RouteSpec, seen: set[str]) -> None:
        """A circle of `to` that no case can leave."""
        path: list[ToSpec] = []
        names = [route.name]
        while (to := self._handed(names[-1])) is not None and to.route not in names:
            path.append(to)
            names.append(str(to.route))
        if to is None or to.route != route.name or route.name in seen:
            return
        seen.update(names)
        circle = " -> ".join([*names, route.name])
        said = f'route "{route.name}": every message goes round for ever ({circle}) and ends dead after 16 hops'
        self._notes.warn((path or [to])[0].place, "W307", said, "lead one of them elsewhere, or on by a case")

    def _handed(self, name: str) -> ToSpec | None:
        route = self._table.routes.get(name)
        return None if route is None else next((to for to in route.to if to.route is not None), None)
