"""Which fields an expression reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from esb.expressions.syntax import Index, Macro, Name, Select, children, field_text

_ROOTS = frozenset(("body", "header", "parent", "part", "source", "message", "var", "item", "raw"))


def fields_of(tree: Any) -> frozenset[str]:
    """`body.Order.Total`, `header["x-channel"]`: the longest paths, those of a loop's variable under its list."""
    return frozenset(_read(tree, {}))


def _path(node: Any, known: Mapping[str, str | None]) -> str | None:
    steps: list[str] = []
    while isinstance(node, (Select, Index)):
        if isinstance(node, Select):
            steps.insert(0, field_text(node.field))
        node = node.operand
    if not isinstance(node, Name):
        return None
    root = known.get(node.name) if node.local else node.name
    return None if root is None else root + "".join(steps)


def _read(node: Any, known: Mapping[str, str | None]) -> Iterator[str]:
    match node:
        case Select() | Index() | Name():
            path = _path(node, known)
            if path is not None and path.split(".")[0].split("[")[0] in _ROOTS:
                yield path
            while isinstance(node, (Select, Index)):
                if isinstance(node, Index):
                    yield from _read(node.index, known)
                node = node.operand
            if not isinstance(node, Name):
                yield from _read(node, known)
        case Macro(operand=operand, variables=variables, arguments=arguments):
            yield from _read(operand, known)
            under = _path(operand, known)
            inner = {**known, **dict.fromkeys(variables), **({variables[-1]: under} if variables else {})}
            for argument in arguments:
                yield from _read(argument, inner)
        case _:
            for part in children(node):
                yield from _read(part, known)
