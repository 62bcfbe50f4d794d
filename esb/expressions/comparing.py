"""Comparisons as Python: its own operators where the types allow it, one type test before ours where they may not."""

from __future__ import annotations

from typing import Any, Final, Protocol

from esb.expressions.syntax import Call, Constant, ListOf
from esb.expressions.values import Written

_OURS: Final = {"<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal"}
_EXACT: Final = frozenset(("int", "uint", "decimal"))


class Compiler(Protocol):
    """What comparisons need of the compiler."""

    def atom(self, node: Any) -> str: ...

    def value(self, node: Any) -> str: ...

    def named(self, node: Any) -> str: ...

    def constant(self, value: Any) -> str: ...

    def written_constant(self, node: Any) -> str: ...

    def set(self, text: str, node: Any, base: str = "") -> str: ...

    def meter(self) -> str: ...


def comparison(compiler: Compiler, node: Call) -> str | None:
    """The comparison's value; None when the call is none."""
    if node.name in ("==", "!="):
        return _equality(compiler, node)
    if node.name in _OURS:
        return _order(compiler, node)
    return _in(compiler, node) if node.name == "in" else None


def _equality(compiler: Compiler, node: Call) -> str:
    left, right = node.arguments
    if isinstance(left, Constant) and not isinstance(right, Constant):
        left, right = right, left
    sign = node.name
    if isinstance(right, Constant):
        value = right.value
        if value is None or type(value) is bool:
            return f"({compiler.named(left)} {'is' if sign == '==' else 'is not'} {value})"
        if type(value) is str or (type(value) is int and value not in (0, 1)) or _natively(left, right):
            return f"({compiler.value(left)} {sign} {compiler.atom(right)})"
        if type(value) is int:
            one, other = compiler.atom(left), compiler.atom(right)
            negative = "" if sign == "==" else "not "
            return compiler.set(
                f"{one} {sign} {other} if type({one}) is int else {negative}equal({one}, {other}, None)", node
            )
    if _natively(left, right):
        return f"({compiler.value(left)} {sign} {compiler.value(right)})"
    one, other = compiler.written_constant(left), compiler.written_constant(right)
    negative = "" if sign == "==" else "not "
    general = f"{negative}equal({one}, {other}, {compiler.meter()})"
    return compiler.set(f"{one} {sign} {other} if type({one}) is str else {general}", node)


def _natively(left: Any, right: Any) -> bool:
    """Types for which Python's comparison is cel-spec's."""
    one, other = left.type, right.type
    return (one in _EXACT and other in _EXACT) or (one == other and one in ("string", "bytes", "double", "bool"))


def _order(compiler: Compiler, node: Call) -> str:
    left, right = node.arguments
    if _natively(left, right):
        return f"({compiler.value(left)} {node.name} {compiler.value(right)})"
    one, other = compiler.written_constant(left), compiler.written_constant(right)
    for mine, its, constant in ((left, one, right), (right, other, left)):
        if mine.type == "decimal" and isinstance(constant, Constant) and constant.digits is not None:
            digits = compiler.constant(Written(constant.digits).digits)
            pair = (its, digits) if mine is left else (digits, its)
            return f"({pair[0]} {node.name} {pair[1]})"
    general = f"{_OURS[node.name]}({one}, {other})"
    for its, constant in ((one, right), (other, left)):
        if isinstance(constant, Constant) and type(constant.value) in (str, int):
            kind = type(constant.value).__name__
            return compiler.set(f"{one} {node.name} {other} if type({its}) is {kind} else {general}", node)
    return compiler.set(general, node)


def _in(compiler: Compiler, node: Call) -> str:
    item, container = node.arguments
    if isinstance(container, ListOf) and container.items and not container.optional:
        values = [_constant(entry) for entry in container.items if isinstance(entry, Constant)]
        kinds = {type(value) for value in values}
        if len(values) == len(container.items) and len(kinds) == 1 and kinds <= {str, int}:
            return _among(compiler, node, values, kinds.pop())
        if len(values) == len(container.items):
            listed = compiler.constant(values)
            return compiler.set(f"contained({compiler.written_constant(item)}, {listed}, {compiler.meter()})", node)
    return compiler.set(
        f"contained({compiler.written_constant(item)}, {compiler.atom(container)}, {compiler.meter()})", node
    )


def _among(compiler: Compiler, node: Call, values: list[Any], kind: type) -> str:
    """An item among literals of one type: a lookup."""
    name, known = compiler.atom(node.arguments[0]), compiler.constant(frozenset(values))
    if kind is str:
        return f"({name} in {known} if type({name}) is str else False)"
    listed = compiler.constant(values)
    general = f"contained({name}, {listed}, {compiler.meter()})"
    return compiler.set(f"{name} in {known} if type({name}) is int else {general}", node)


def _constant(node: Constant) -> Any:
    return Written(node.digits) if node.digits is not None and type(node.value) is float else node.value
