"""An expression with a voice: the value of each of its leaves, and which of them decided."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct

from esb.expressions.syntax import Call, Logic, Ternary


class Leaf(Struct, frozen=True, kw_only=True):
    """One leaf: its text and place, its value or error, the values of a comparison's sides, whether it decided."""

    text: str
    offset: int
    value: Any = None
    error: str | None = None
    decided: bool = False
    sides: tuple[tuple[str, Any], ...] = ()


class Trace(Struct, frozen=True, kw_only=True):
    value: Any
    error: str | None
    leaves: tuple[Leaf, ...]


def leaves_of(tree: Any, value_of: Callable[[Any], Any]) -> Iterator[tuple[Any, bool]]:
    """The leaves in order; those are marked that the whole value came from."""
    marked = {id(node) for node in _deciding(tree, value_of)}
    for node in _leaves(tree):
        yield node, id(node) in marked


def _leaves(node: Any) -> Iterator[Any]:
    match node:
        case Logic(left=left, right=right):
            yield from _leaves(left)
            yield from _leaves(right)
        case Ternary(condition=condition, yes=yes, no=no):
            for part in (condition, yes, no):
                yield from _leaves(part)
        case Call(function="!_", arguments=(inner,)):
            yield from _leaves(inner)
        case _:
            yield node


def _deciding(node: Any, value_of: Callable[[Any], Any]) -> Iterator[Any]:
    match node:
        case Logic(operator=operator, left=left, right=right):
            decides = operator == "||"
            for side in (left, right):
                if value_of(side) is decides:
                    yield from _deciding(side, value_of)
                    return
            for side in (left, right):
                if not isinstance(value_of(side), bool):
                    yield from _deciding(side, value_of)
                    return
            yield from _deciding(left, value_of)
            yield from _deciding(right, value_of)
        case Ternary(condition=condition, yes=yes, no=no):
            yield from _deciding(condition, value_of)
            yield from _deciding(yes if value_of(condition) is True else no, value_of)
        case Call(function="!_", arguments=(inner,)):
            yield from _deciding(inner, value_of)
        case _:
            yield node
