"""The fields of the body that an expression asks for, each where it stands in the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from esb.expressions.syntax import Call, Constant, Index, Macro, Name, Select, children

_GUARDS: Final = frozenset({"has", "default", "optional"})


class Asked(NamedTuple):
    """A chain of fields below `body`: the keys, where each begins in the text, and whether the expression can do with
    its being missing (`has`, `.?`). `negated` stands under `!` or beside `!=`."""

    keys: tuple[str, ...]
    offsets: tuple[int, ...]
    guarded: bool
    negated: bool


def asked(tree: Any) -> list[Asked]:
    """Every longest chain; a loop's variable stands for what its list holds."""
    return list(_walk(tree, {}, guarded=False, negated=False))


Known = Mapping[str, tuple[str, ...] | None]


def _walk(node: Any, known: Known, *, guarded: bool, negated: bool) -> Iterator[Asked]:
    match node:
        case Select() | Index() | Name():
            yield from _chain(node, known, guarded=guarded, negated=negated)
        case Macro(name=name, operand=operand, variables=variables, arguments=arguments):
            yield from _walk(operand, known, guarded=guarded or name in _GUARDS, negated=False)
            keys = _keys(operand, known)
            inner = {**known, **dict.fromkeys(variables), **({variables[-1]: keys} if variables else {})}
            for argument in arguments:
                yield from _walk(argument, inner, guarded=guarded, negated=False)
        case Call(name=name):
            for part in children(node):
                yield from _walk(part, known, guarded=guarded, negated=name in ("!", "!="))
        case _:
            for part in children(node):
                yield from _walk(part, known, guarded=guarded, negated=False)


def _chain(node: Any, known: Known, *, guarded: bool, negated: bool) -> Iterator[Asked]:
    keys: list[str] = []
    offsets: list[int] = []
    while isinstance(node, (Select, Index)):
        guarded = guarded or node.optional
        if isinstance(node, Select):
            keys.insert(0, node.field)
            offsets.insert(0, node.operand.end + (2 if node.optional else 1))
        else:
            yield from _walk(node.index, known, guarded=False, negated=False)
            if not _counted(node):
                yield from _walk(node.operand, known, guarded=guarded, negated=False)
                return
        node = node.operand
    if not isinstance(node, Name):
        yield from _walk(node, known, guarded=guarded, negated=False)
        return
    above = known.get(node.name) if node.local else (() if node.name == "body" else None)
    if above is not None and keys:
        yield Asked((*above, *keys), (*(node.start for _ in above), *offsets), guarded, negated)


def _counted(node: Index) -> bool:
    """Whether it takes an item of a list by its number."""
    return isinstance(node.index, Constant) and isinstance(node.index.value, int)


def _keys(node: Any, known: Known) -> tuple[str, ...] | None:
    """The path of a list that a loop goes over."""
    keys: list[str] = []
    while isinstance(node, (Select, Index)):
        if isinstance(node, Select):
            keys.insert(0, node.field)
        elif not _counted(node):
            return None
        node = node.operand
    if not isinstance(node, Name):
        return None
    above = known.get(node.name) if node.local else (() if node.name == "body" else None)
    return None if above is None else (*above, *keys)
