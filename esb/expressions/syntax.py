"""An expression as a tree, and what can be wrong with its text. Offsets count characters from 0."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from esb.errors import EsbError


class Finding(Struct, frozen=True):
    """One thing wrong with an expression's text, and what would be right."""

    offset: int
    length: int
    code: str
    message: str
    hint: str = ""
    severity: str = "error"


class ExpressionProblems(EsbError):
    """The text is no expression. Carries every finding."""

    code = "E220"

    def __init__(self, text: str, findings: tuple[Finding, ...]) -> None:
        self.text = text
        self.findings = findings
        first = findings[0]
        said = f"{first.message} (at character {first.offset + 1} of {text!r:.60})"
        super().__init__(f"{said}; {first.hint}" if first.hint else said)


class Node(Struct, frozen=True, kw_only=True):
    """Where a part of the expression stands: from `start` to `end`."""

    start: int
    end: int


class Literal_(Node, frozen=True, kw_only=True, tag="literal"):
    """A constant; `digits` is how a double was written."""

    value: Any
    digits: str | None = None


class Name(Node, frozen=True, kw_only=True, tag="name"):
    name: str


class Select(Node, frozen=True, kw_only=True, tag="select"):
    """`operand.field`, or `operand.?field`."""

    operand: Any
    field: str
    optional: bool = False


class Index(Node, frozen=True, kw_only=True, tag="index"):
    operand: Any
    index: Any
    optional: bool = False


class Call(Node, frozen=True, kw_only=True, tag="call"):
    """`function(arguments)` or `operand.function(arguments)`; operators have names such as `_+_`."""

    function: str
    operand: Any = None
    arguments: tuple[Any, ...] = ()


class Logic(Node, frozen=True, kw_only=True, tag="logic"):
    operator: Literal["&&", "||"]
    left: Any
    right: Any


class Ternary(Node, frozen=True, kw_only=True, tag="ternary"):
    condition: Any
    yes: Any
    no: Any


class ListOf(Node, frozen=True, kw_only=True, tag="list"):
    """`optional` are the indexes of items written `?x`."""

    items: tuple[Any, ...]
    optional: tuple[int, ...] = ()


class MapOf(Node, frozen=True, kw_only=True, tag="map"):
    entries: tuple[tuple[Any, Any], ...]
    optional: tuple[int, ...] = ()


class Macro(Node, frozen=True, kw_only=True, tag="macro"):
    """`has`, a comprehension over `operand` with its variables, or a lazy function (`default`, `optional`)."""

    name: str
    operand: Any
    variables: tuple[str, ...] = ()
    arguments: tuple[Any, ...] = ()


def children(node: Any) -> tuple[Any, ...]:
    """The parts of a node, in order."""
    match node:
        case Select(operand=operand):
            return (operand,)
        case Index(operand=operand, index=index):
            return (operand, index)
        case Call(operand=operand, arguments=arguments):
            return arguments if operand is None else (operand, *arguments)
        case Logic(left=left, right=right):
            return (left, right)
        case Ternary(condition=condition, yes=yes, no=no):
            return (condition, yes, no)
        case ListOf(items=items):
            return items
        case MapOf(entries=entries):
            return tuple(part for entry in entries for part in entry)
        case Macro(operand=operand, arguments=arguments):
            return (operand, *arguments)
        case _:
            return ()
