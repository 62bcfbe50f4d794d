"""An expression as a tree, and what can be wrong with its text. Offsets count characters from 0."""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct

from esb.errors import EsbError

DEEPEST: Final = 120
"""How many parts may stand in each other, so that no walk over a tree runs out of stack."""


class Finding(Struct, frozen=True):
    """One thing wrong with an expression's text, and what would be right."""

    offset: int
    length: int
    code: str
    message: str
    hint: str = ""
    severity: str = "error"


class ExpressionProblems(EsbError):
    """The text is no expression. Carries every finding, in the order of the text."""

    code = "E220"

    def __init__(self, text: str, findings: tuple[Finding, ...]) -> None:
        self.text = text
        self.findings = findings
        first = findings[0]
        self.code = first.code
        said = f"{first.message} (at character {first.offset + 1} of {text:.60})"
        super().__init__(f"{said}; {first.hint}" if first.hint else said)


class Node(Struct, frozen=True, kw_only=True):
    """Where a part of the expression stands, from `start` to `end`, and its type as far as it is known."""

    start: int
    end: int
    depth: int = 1
    type: str = "dyn"


class Constant(Node, frozen=True, kw_only=True):
    """A literal; `digits` is how a double was written."""

    value: Any
    digits: str | None = None


class Name(Node, frozen=True, kw_only=True):
    """A variable; `rooted` when it is written with a leading dot. `local` is set for a macro's variable."""

    name: str
    rooted: bool = False
    local: bool = False


class Select(Node, frozen=True, kw_only=True):
    """`operand.field`, or `operand.?field`; `operand["field"]` is the same."""

    operand: Any
    field: str
    optional: bool = False


class Index(Node, frozen=True, kw_only=True):
    """`operand[index]`, or `operand[?index]`."""

    operand: Any
    index: Any
    optional: bool = False


class Call(Node, frozen=True, kw_only=True):
    """`name(arguments)` or `operand.name(arguments)`; operators are called as they are written: `+`, `!`, `in`."""

    name: str
    operand: Any = None
    arguments: tuple[Any, ...] = ()


class Logic(Node, frozen=True, kw_only=True):
    """A chain of && or of ||."""

    operator: Literal["&&", "||"]
    parts: tuple[Any, ...]


class Ternary(Node, frozen=True, kw_only=True):
    """`condition ? yes : no`."""

    condition: Any
    yes: Any
    no: Any


class ListOf(Node, frozen=True, kw_only=True):
    """`[...]`; `optional` are the indexes of items written `?x`."""

    items: tuple[Any, ...]
    optional: tuple[int, ...] = ()


class MapOf(Node, frozen=True, kw_only=True):
    """`{...}`; `optional` are the indexes of entries written `?key: x`."""

    entries: tuple[tuple[Any, Any], ...]
    optional: tuple[int, ...] = ()


class Macro(Node, frozen=True, kw_only=True):
    """`has`, `default`, `optional`, `bind`, or a loop over `operand` with its variables."""

    name: str
    operand: Any
    variables: tuple[str, ...] = ()
    arguments: tuple[Any, ...] = ()


def children(node: Any) -> tuple[Any, ...]:
    """The parts of a node, in the order of the text."""
    match node:
        case Select(operand=operand):
            return (operand,)
        case Index(operand=operand, index=index):
            return (operand, index)
        case Call(operand=operand, arguments=arguments):
            return arguments if operand is None else (operand, *arguments)
        case Logic(parts=parts):
            return parts
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


def path_of(node: Any) -> str | None:
    """`body.Order["@id"]` for a chain of fields that starts with a variable, else None."""
    names: list[str] = []
    while isinstance(node, Select) and not node.optional:
        names.append(field_text(node.field))
        node = node.operand
    if not isinstance(node, Name):
        return None
    return node.name + "".join(reversed(names))


def field_text(field: str) -> str:
    """A field as it is written after its map."""
    return f".{field}" if field.isidentifier() and field.isascii() else f'["{field}"]'


def same(one: Any, other: Any) -> bool:
    """The same expression at two places."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Node):
        fields = [name for name in one.__struct_fields__ if name not in ("start", "end", "type")]
        return all(same(getattr(one, name), getattr(other, name)) for name in fields)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
