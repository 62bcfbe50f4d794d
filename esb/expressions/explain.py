"""An expression with a voice: the value of each of its leaves, and which of them decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from msgspec import Struct

from esb.errors import ExpressionError
from esb.expressions.syntax import Call, Logic, Ternary

_COMPARED = frozenset(("==", "!=", "<", "<=", ">", ">=", "in"))


class Leaf(Struct, frozen=True, kw_only=True):
    """One leaf: what is written, where, its value or its error, and whether the whole value came from it.

    A comparison has its sides: what is written, and its value or its ExpressionError.
    """

    text: str
    offset: int
    value: Any = None
    error: str | None = None
    decided: bool = False
    sides: tuple[tuple[str, Any], ...] = ()


class Trace(Struct, frozen=True, kw_only=True):
    """The value of an expression or its error, and its leaves in the order of the text."""

    value: Any
    error: str | None
    leaves: tuple[Leaf, ...]


class Traced(Protocol):
    """What tracing needs of a program."""

    @property
    def text(self) -> str: ...

    @property
    def tree(self) -> Any: ...

    def evaluate(self, scope: Mapping[str, Any]) -> Any: ...

    def part(self, node: Any) -> Traced: ...


def trace_of(program: Traced, scope: Mapping[str, Any]) -> Trace:
    """Evaluates the whole and each leaf; raises nothing of the expression's."""
    values = Values(program, scope)
    value, error = values.of(program.tree)
    decided = {id(node) for node in _deciding(program.tree, values)}
    leaves = tuple(values.leaf(node, id(node) in decided) for node in _leaves(program.tree))
    return Trace(value=value, error=_said(error), leaves=leaves)


class Values:
    """The values of the parts of one expression in one scope, each worked out once."""

    def __init__(self, program: Traced, scope: Mapping[str, Any]) -> None:
        self._program = program
        self._scope = scope
        self._known: dict[int, tuple[Any, ExpressionError | None]] = {}

    def of(self, node: Any) -> tuple[Any, ExpressionError | None]:
        """A part's value, or its error."""
        if id(node) not in self._known:
            part = self._program if node is self._program.tree else self._program.part(node)
            try:
                self._known[id(node)] = part.evaluate(self._scope), None
            except ExpressionError as error:
                self._known[id(node)] = None, error
        return self._known[id(node)]

    def leaf(self, node: Any, decided: bool) -> Leaf:
        """What is to be said about one leaf."""
        value, error = self.of(node)
        compared = isinstance(node, Call) and node.name in _COMPARED
        sides = tuple((self._written(part), self._either(part)) for part in node.arguments) if compared else ()
        return Leaf(
            text=self._written(node),
            offset=node.start,
            value=value,
            error=_said(error),
            decided=decided,
            sides=sides,
        )

    def _either(self, node: Any) -> Any:
        value, error = self.of(node)
        return value if error is None else error

    def _written(self, node: Any) -> str:
        return self._program.text[node.start : node.end]


def _said(error: ExpressionError | None) -> str | None:
    return None if error is None else str(error)


def _leaves(node: Any) -> Iterator[Any]:
    match node:
        case Logic(parts=parts):
            for part in parts:
                yield from _leaves(part)
        case Ternary(condition=condition, yes=yes, no=no):
            for part in (condition, yes, no):
                yield from _leaves(part)
        case Call(name="!", arguments=(inner,)):
            yield from _leaves(inner)
        case _:
            yield node


def _deciding(node: Any, values: Values) -> Iterator[Any]:
    """The leaves that the value of this part came from."""
    match node:
        case Logic(operator=operator, parts=parts):
            decisive = operator == "||"
            winner = next((part for part in parts if values.of(part)[0] is decisive), None)
            if winner is None:
                winner = next((part for part in parts if not isinstance(values.of(part)[0], bool)), None)
            for part in parts if winner is None else (winner,):
                yield from _deciding(part, values)
        case Ternary(condition=condition, yes=yes, no=no):
            yield from _deciding(condition, values)
            chosen = values.of(condition)[0]
            if isinstance(chosen, bool):
                yield from _deciding(yes if chosen else no, values)
        case Call(name="!", arguments=(inner,)):
            yield from _deciding(inner, values)
        case _:
            yield node
