"""A case list: the first true one, or all of them. Runs that compare one expression with constants become a lookup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from esb.errors import ExpressionError, MissingField
from esb.expressions.fields import not_bool
from esb.expressions.syntax import Call, ListOf, Literal_, Logic

if TYPE_CHECKING:
    from esb.expressions.programs import Program

SHORTEST = 3
"""Fewer cases than this in a run are asked one by one."""


class Choice(Struct, frozen=True):
    """The first true case (None: no one), and those that were false because a field was missing."""

    index: int | None
    missing: tuple[tuple[int, MissingField], ...] = ()


class Run(Struct, frozen=True):
    """Cases `start` to `end` (excluded) compare `subject` with constants: the first one of each."""

    start: int
    end: int
    subject: Program
    lookup: Mapping[str, int]


class Cases:
    """Pure; a thousand constant cases cost as much as ten."""

    def __init__(self, programs: Sequence[Program | None]) -> None:
        self.programs = tuple(programs)
        self._plan = tuple(_runs(self.programs))

    def choose(self, scope: Mapping[str, Any]) -> Choice:
        """Raises ExpressionError with the attribute `case` when a case fails other than by a missing field."""
        missing: list[tuple[int, MissingField]] = []
        for item in self._plan:
            if isinstance(item, int):
                if self._holds(item, scope, missing):
                    return Choice(item, tuple(missing)) if missing else _CHOICES(item)
                continue
            found = self._looked_up(item, scope, missing)
            if found is not None:
                return Choice(found, tuple(missing)) if missing else _CHOICES(found)
        return Choice(None, tuple(missing))

    def matching(self, scope: Mapping[str, Any]) -> list[int]:
        """Every true case, in order."""
        return [at for at in range(len(self.programs)) if self._holds(at, scope, [])]

    def _holds(self, at: int, scope: Mapping[str, Any], missing: list[tuple[int, MissingField]]) -> bool:
        program = self.programs[at]
        if program is None:
            return True
        try:
            value = program.evaluate(scope)
            if value is True or value is False:
                return bool(value)
            error = not_bool(value)
            error.text = program.text
            raise error
        except MissingField as gone:
            missing.append((at, gone))
            return False
        except ExpressionError as failed:
            failed.case = at  # type: ignore[attr-defined]
            raise

    def _looked_up(self, run: Run, scope: Mapping[str, Any], missing: list[tuple[int, MissingField]]) -> int | None:
        """A text is looked up; anything else is asked one by one, so that errors stay the same."""
        try:
            value = run.subject.evaluate(scope)
        except MissingField as gone:
            missing.extend((at, gone) for at in range(run.start, run.end))
            return None
        except ExpressionError as failed:
            failed.case = run.start  # type: ignore[attr-defined]
            raise
        if type(value) is str:
            return run.lookup.get(value)
        return next((at for at in range(run.start, run.end) if self._holds(at, scope, missing)), None)


_KNOWN: dict[int, Choice] = {}


def _CHOICES(index: int) -> Choice:
    found = _KNOWN.get(index)
    if found is None:
        found = _KNOWN[index] = Choice(index)
    return found


def _runs(programs: Sequence[Program | None]) -> list[int | Run]:
    """The case list as single cases and runs."""
    plan: list[int | Run] = []
    at = 0
    while at < len(programs):
        end, lookup, subject = _run(programs, at)
        program = programs[at]
        if end - at >= SHORTEST and program is not None and subject is not None:
            plan.append(Run(at, end, program._environment.part(program.text, subject), lookup))
            at = end
        else:
            plan.append(at)
            at += 1
    return plan


def _run(programs: Sequence[Program | None], start: int) -> tuple[int, dict[str, int], Any]:
    """How far the cases from `start` compare one subject with texts; the first case of each text."""
    lookup: dict[str, int] = {}
    subject: Any = None
    wanted = None
    at = start
    while at < len(programs):
        program = programs[at]
        found = None if program is None else comparison(program.tree)
        if found is None or program is None:
            break
        shape = program.text[found[0].start : found[0].end]
        if wanted is None:
            wanted, subject = shape, found[0]
        elif shape != wanted:
            break
        for constant in found[1]:
            lookup.setdefault(constant, at)
        at += 1
    return at, lookup, subject


def comparison(tree: Any) -> tuple[Any, tuple[str, ...]] | None:
    """`X == "a"`, `X in ["a", "b"]`, and || of those with one X: the subject and its texts."""
    match tree:
        case Call(function="_==_", arguments=(subject, Literal_(value=str(value)))):
            return subject, (value,)
        case Call(function="_in_", arguments=(subject, ListOf(items=items, optional=()))):
            values = tuple(item.value for item in items if isinstance(item, Literal_) and type(item.value) is str)
            return (subject, values) if len(values) == len(items) and values else None
        case Logic(operator="||", left=left, right=right):
            one, other = comparison(left), comparison(right)
            if one is None or other is None or not _same(one[0], other[0]):
                return None
            return one[0], (*one[1], *other[1])
        case _:
            return None


def _same(one: Any, other: Any) -> bool:
    """The same expression at two places."""
    return bool(_shape(one) == _shape(other))


def _shape(node: Any) -> Any:
    if isinstance(node, Struct):
        fields = [name for name in node.__struct_fields__ if name not in ("start", "end")]
        return (type(node).__name__, *(_shape(getattr(node, name)) for name in fields))
    if isinstance(node, tuple):
        return tuple(_shape(item) for item in node)
    return node
