"""Which cases of a route are true for a message: names and reasons, no effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from esb.errors import MissingField
from esb.table.model import CaseSpec


class Chosen(Protocol):
    @property
    def index(self) -> int | None: ...

    @property
    def missing(self) -> Sequence[tuple[int, MissingField]]: ...


class Cases(Protocol):
    """A compiled case list (esb.expressions.Cases)."""

    def choose(self, scope: Mapping[str, Any], /) -> Chosen: ...

    def matching(self, scope: Mapping[str, Any], /) -> tuple[Sequence[int], Sequence[tuple[int, MissingField]]]: ...

    @property
    def programs(self) -> Sequence[Any]: ...


class Routed(Struct, frozen=True):
    """The cases that apply, by index, and those that were false because a field was missing, with its name."""

    cases: tuple[int, ...]
    missing: tuple[tuple[int, str], ...] = ()


class Router:
    """The decision of one route: `first` takes the first true case, `all` every one."""

    def __init__(self, cases: Cases, specs: Sequence[CaseSpec], match: str) -> None:
        self._cases = cases
        self.programs = cases.programs
        self._all = match == "all"
        self._single = tuple(Routed((index,)) for index in range(len(specs)))
        self._none = Routed(())

    def route(self, scope: Mapping[str, Any]) -> Routed:
        """Raises ExpressionError (with the attribute `case`) when a case fails other than by a missing field."""
        if self._all:
            matching, gone = self._cases.matching(scope)
            return Routed(tuple(matching), _named(gone))
        chosen = self._cases.choose(scope)
        if not chosen.missing:
            return self._none if chosen.index is None else self._single[chosen.index]
        return Routed(() if chosen.index is None else (chosen.index,), _named(chosen.missing))


def _named(missing: Sequence[tuple[int, MissingField]]) -> tuple[tuple[int, str], ...]:
    return tuple((index, error.place or str(error)) for index, error in missing)
