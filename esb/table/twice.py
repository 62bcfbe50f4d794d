"""What a route would hand to one target twice without a word: named in one list again, or in `to` and in a case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from esb.table.model import RouteSpec, ToSpec
from esb.table.notes import Notes

_HINT = 'leave one out; where two deliveries are meant give one steps of its own: { target = "NAME", do = [...] }'


def check_twice(route: RouteSpec, notes: Notes) -> None:
    """Warns of each item that repeats another one, its own steps included."""
    for to, first in _repeats(route.to, ()):
        _warn(route, to, f"{_named(to)} {first}", notes)
    for case in route.cases:
        for to, first in _repeats(case.to, route.to):
            _warn(route, to, f'{_named(to)} {first}, and in case "{case.name}"', notes)


def _repeats(items: Sequence[ToSpec], always: Sequence[ToSpec]) -> Iterator[tuple[ToSpec, str]]:
    """Each item that stands among the earlier ones or in those of the whole route, and where its first one is."""
    for index, to in enumerate(items):
        if any(_same(to, other) for other in items[:index]):
            yield to, "stands here twice"
        elif any(_same(to, other) for other in always):
            yield to, "stands in the route's to, which every message goes to"


def _same(one: ToSpec, other: ToSpec) -> bool:
    return (one.target, one.route) == (other.target, other.route) and _steps(one) == _steps(other)


def _steps(to: ToSpec) -> list[tuple[str, Any, str | None]]:
    return [(step.component.name, step.options, step.condition) for step in to.do]


def _named(to: ToSpec) -> str:
    return f'"{to.target}"' if to.target is not None else f'"route:{to.route}"'


def _warn(route: RouteSpec, to: ToSpec, said: str, notes: Notes) -> None:
    notes.warn(to.place, "W308", f'route "{route.name}": {said}: it gets such a message twice', _HINT)
