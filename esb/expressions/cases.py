"""A case list: the first true one, or all of them. Runs that compare one expression with literals are a lookup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from esb.errors import ExpressionError, MissingField
from esb.expressions.program import Program
from esb.expressions.syntax import Call, Constant, ListOf, Logic, same
from esb.expressions.values import NUMBERS

_SHORTEST: Final = 3
"""Fewer comparisons in a row are asked one by one."""


class Choice(Struct, frozen=True):
    """The first true case (None: no one), and the cases before it that were false because a field was missing."""

    index: int | None
    missing: tuple[tuple[int, MissingField], ...] = ()


class Run(Struct, frozen=True):
    """The cases from `start` to before `end` compare `subject` with literals: `places` are the cases of each."""

    start: int
    end: int
    subject: Program
    places: Mapping[Any, tuple[int, ...]]

    def find(self, value: Any) -> tuple[int, ...]:
        """The cases that are true for the subject's value, in order."""
        if type(value) is str or (isinstance(value, NUMBERS) and type(value) is not bool):
            return self.places.get(value, ())
        return ()


class Cases:
    """A compiled case list. Pure; a thousand comparisons with literals cost as much as ten."""

    def __init__(self, programs: Sequence[Program | None]) -> None:
        self.programs = tuple(programs)
        self._plan = tuple(_planned(self.programs))
        self._single = tuple(Choice(index) for index in range(len(programs)))

    def choose(self, scope: Mapping[str, Any]) -> Choice:
        """The first true case. Raises ExpressionError with the attribute `case` when one fails otherwise than by a
        missing field."""
        missing: list[tuple[int, MissingField]] = []
        for step in self._plan:
            if not isinstance(step, Run):
                if self._holds(step, scope, missing):
                    return Choice(step, tuple(missing)) if missing else self._single[step]
            else:
                found = self._found(step, scope, missing)
                if found:
                    return Choice(found[0], tuple(missing)) if missing else self._single[found[0]]
        return Choice(None, tuple(missing))

    def matching(self, scope: Mapping[str, Any]) -> tuple[list[int], list[tuple[int, MissingField]]]:
        """Every true case, in order, and those that were false for a missing field. Raises as `choose` does."""
        found: list[int] = []
        missing: list[tuple[int, MissingField]] = []
        for step in self._plan:
            if isinstance(step, Run):
                found += self._found(step, scope, missing)
            elif self._holds(step, scope, missing):
                found.append(step)
        return found, missing

    def _holds(self, index: int, scope: Mapping[str, Any], missing: list[tuple[int, MissingField]]) -> bool:
        program = self.programs[index]
        if program is None:
            return True
        try:
            value = program.evaluate(scope)
            if type(value) is bool:
                return value
            raise program.not_bool(value)
        except MissingField as gone:
            missing.append((index, gone))
            return False
        except ExpressionError as error:
            raise _of_case(error, index) from error.__cause__

    def _found(self, run: Run, scope: Mapping[str, Any], missing: list[tuple[int, MissingField]]) -> tuple[int, ...]:
        try:
            return run.find(run.subject.evaluate(scope))
        except MissingField as gone:
            missing += [(index, gone) for index in range(run.start, run.end)]
            return ()
        except ExpressionError as error:
            raise _of_case(error, run.start) from error.__cause__


def _of_case(error: ExpressionError, index: int) -> ExpressionError:
    error.case = index  # type: ignore[attr-defined]  # read by routing, which knows the case's name
    return error


def _planned(programs: Sequence[Program | None]) -> list[int | Run]:
    """The list as single cases and runs, in order."""
    compared = [None if program is None else comparison(program.tree) for program in programs]
    plan: list[int | Run] = []
    start = 0
    while start < len(programs):
        end = start
        first = compared[start]
        while first is not None and end < len(programs) and (other := compared[end]) and same(first[0], other[0]):
            end += 1
        if end - start < _SHORTEST:
            plan.append(start)
            start += 1
            continue
        plan.append(_run(programs, compared[start:end], start))
        start = end
    return plan


def _run(programs: Sequence[Program | None], compared: Sequence[Any], start: int) -> Run:
    places: dict[Any, tuple[int, ...]] = {}
    for index, (_, values) in enumerate(compared, start):
        for value in values:
            before = places.get(value, ())
            if index not in before:
                places[value] = (*before, index)
    program = programs[start]
    assert program is not None
    return Run(start, start + len(compared), program.part(compared[0][0]), places)


def comparison(tree: Any) -> tuple[Any, tuple[Any, ...]] | None:
    """`X == "a"`, `X in ["a", "b"]`, and || of those with one X: the subject and its literals."""
    match tree:
        case Call(name="==", arguments=(Constant(value=value), subject)) if _looked_up(value):
            return None if isinstance(subject, Constant) else (subject, (value,))
        case Call(name="==", arguments=(subject, Constant(value=value))) if _looked_up(value):
            return subject, (value,)
        case Call(name="in", arguments=(subject, ListOf(items=items, optional=()))):
            values = tuple(item.value for item in items if isinstance(item, Constant) and _looked_up(item.value))
            return (subject, values) if len(values) == len(items) and values else None
        case Logic(operator="||", parts=parts):
            found = [comparison(part) for part in parts]
            first = found[0]
            if first is None or not all(part is not None and same(first[0], part[0]) for part in found):
                return None
            return first[0], tuple(value for part in found if part is not None for value in part[1])
        case _:
            return None


def _looked_up(value: Any) -> bool:
    """Texts and whole numbers: their keys are found as CEL compares them."""
    return type(value) is str or (isinstance(value, int) and type(value) is not bool)
