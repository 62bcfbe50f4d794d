"""What was meant: near names, names of other languages, hyphens in fields."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from esb.expressions.functions import Function
from esb.expressions.syntax import Call, Constant, Index, Name, Select, path_of

_CONSTANTS: Final = {
    "True": "true", "TRUE": "true", "False": "false", "FALSE": "false", "None": "null", "nil": "null",
    "undefined": "null", "NULL": "null", "Null": "null", "headers": "header", "msg": "body", "payload": "body",
}  # fmt: skip
_FUNCTIONS: Final = {
    "len": "size", "length": "size", "count": "size", "lower": "lowerAscii", "toLowerCase": "lowerAscii",
    "lowercase": "lowerAscii", "upper": "upperAscii", "toUpperCase": "upperAscii", "uppercase": "upperAscii",
    "strip": "trim", "str": "string", "toString": "string", "text": "string", "float": "double", "number": "decimal",
    "integer": "int", "boolean": "bool", "includes": "contains", "starts_with": "startsWith", "begins": "startsWith",
    "ends_with": "endsWith", "match": "matches", "regex": "matches", "regexp": "matches", "find": "indexOf",
    "substr": "substring", "slice": "substring", "any": "exists", "some": "exists", "every": "all", "isset": "has",
    "exist": "has", "coalesce": "default", "ifnull": "default", "parseInt": "int", "parseFloat": "decimal",
    "datetime": "timestamp", "strftime": "formatDate", "strptime": "date", "concat": "+", "max": "math.greatest",
    "min": "math.least", "if": "? :",
}  # fmt: skip
_MACROS: Final = ("has", "all", "exists", "exists_one", "map", "filter", "default", "optional")


def closest(name: str, known: Iterable[str]) -> str:
    """`did you mean "x"?`, or nothing."""
    listed = list(known)
    lowered = {item.lower(): item for item in listed}
    if name.lower() in lowered:
        return f'did you mean "{lowered[name.lower()]}"?'
    near = difflib.get_close_matches(name, listed, n=1, cutoff=0.7)
    return f'did you mean "{near[0]}"?' if near else ""


def name_hint(name: str, known: Iterable[str]) -> str:
    """What an unknown variable may have meant."""
    if name in _CONSTANTS:
        return f"write {_CONSTANTS[name]}"
    return closest(name, known) or f'a text is written "{name}", a field body.{name}'


def function_hint(node: Call, found: Function | None, known: Mapping[str, Function], text: str) -> str:
    """What an unknown function may have meant, or how a known one is called."""
    if found is not None and node.operand is None and node.arguments:
        first, *rest = (text[argument.start : argument.end] for argument in node.arguments)
        return f"write {first:.40}.{node.name}({', '.join(rest):.40})"
    if found is not None and node.operand is not None:
        listed = ", ".join(text[part.start : part.end] for part in (node.operand, *node.arguments))
        return f"write {node.name}({listed:.60})"
    meant = _FUNCTIONS.get(node.name, "")
    if meant in known:
        return usage(known[meant])
    return f"write {meant}" if meant else closest(node.name, [*known, *_MACROS])


def usage(function: Function) -> str:
    """How a function is written, as its docstring has it."""
    said = (function.call.__doc__ or "").strip()
    return f"write {said.split('`')[1]}" if said.startswith("`") else f"write {function.name}(...)"


def hyphenated(node: Call, text: str, known: Iterable[str]) -> tuple[int, int, str] | None:
    """`body.Ship-To` is a subtraction: where it stands and how the field is written, when To is no variable."""
    parts: list[Any] = []
    left: Any = node
    while isinstance(left, Call) and left.name == "-" and left.operand is None and len(left.arguments) == 2:
        left, right = left.arguments
        parts.insert(0, right)
    names = [_root(part) for part in parts]
    if not isinstance(left, Select) or left.optional or all(name is None or name in known for name in names):
        return None
    end = left.end
    for part in parts:
        if part.start != end + 1 or text[end] != "-" or (_root(part) is None and not isinstance(part, Constant)):
            return None
        end = part.end
    last, owner = _root_end(parts[-1]), path_of(left.operand) or text[left.operand.start : left.operand.end]
    field = left.field + text[left.end : last]
    return left.start, end, f'{owner}["{field}"]{text[last:end]}'


def _root(node: Any) -> str | None:
    """The name a chain of fields begins with."""
    while isinstance(node, (Select, Index)):
        node = node.operand
    return node.name if isinstance(node, Name) else None


def _root_end(node: Any) -> int:
    while isinstance(node, (Select, Index)):
        node = node.operand
    return int(node.end)
