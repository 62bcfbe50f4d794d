"""What can be known of an expression before a message: names, numbers of arguments, types that cannot go together."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from esb.expressions.compiler import qualified
from esb.expressions.functions import Function
from esb.expressions.syntax import (
    Call,
    Finding,
    ListOf,
    Literal_,
    Logic,
    Macro,
    MapOf,
    Name,
    Select,
    Ternary,
    children,
)
from esb.expressions.values import TYPES, type_name

_NUMBERS: Final = {"int", "uint", "double", "decimal"}
_COMPARES: Final = {"_<_", "_<=_", "_>_", "_>=_"}
_SUMS: Final = {"_+_", "_-_", "_*_", "_/_", "_%_"}
_CLOSED: Final = {*_NUMBERS, "string", "bytes", "list"}
_SIGN: Final = {"!_": "!", "-_": "-"}


class Checker:
    """Collects findings and the type of each part."""

    def __init__(self, text: str, functions: Mapping[str, Function], variables: frozenset[str]) -> None:
        self._text = text
        self._functions = functions
        self._variables = variables
        self.findings: list[Finding] = []

    def check(self, node: Any, bound: frozenset[str] = frozenset()) -> str:
        """The type of a node ("dyn" where it depends on the message); what is wrong is noted."""
        match node:
            case Literal_(value=value):
                return type_name(value)
            case Name():
                return self._name(node, bound)
            case Select():
                return self._select(node, bound)
            case Logic():
                return self._logic(node, bound)
            case Ternary():
                return self._ternary(node, bound)
            case Call():
                return self._call(node, bound)
            case Macro():
                return self._macro(node, bound)
            case ListOf() | MapOf():
                for part in children(node):
                    self.check(part, bound)
                return "list" if isinstance(node, ListOf) else "map"
            case _:
                for part in children(node):
                    self.check(part, bound)
                return "dyn"

    def _note(self, node: Any, code: str, message: str, hint: str = "") -> None:
        self.findings.append(Finding(node.start, max(node.end - node.start, 1), code, message, hint))

    def _name(self, node: Name, bound: frozenset[str]) -> str:
        name = node.name.lstrip(".")
        if node.name in bound or name in self._variables:
            return "dyn"
        if name in TYPES:
            return "type"
        hint = closest(name, [*self._variables, *bound])
        self._note(node, "E221", f'no variable "{name}"', hint or f'for the text write "{name}"')
        return "dyn"

    def _select(self, node: Select, bound: frozenset[str]) -> str:
        name = qualified(node)
        if name is not None and name.split(".")[0] not in bound and name.lstrip(".") in {*self._variables, *TYPES}:
            return "dyn"
        kind = self.check(node.operand, bound)
        if kind not in ("dyn", "map", "optional_type"):
            self._note(node, "E223", f"a {kind} has no field {node.field}")
        return "dyn"

    def _logic(self, node: Logic, bound: frozenset[str]) -> str:
        for side in (node.left, node.right):
            kind = self.check(side, bound)
            if kind not in ("dyn", "bool"):
                self._note(side, "E223", f"{node.operator} wants true or false, not a {kind}")
        return "bool"

    def _ternary(self, node: Ternary, bound: frozenset[str]) -> str:
        kind = self.check(node.condition, bound)
        if kind not in ("dyn", "bool"):
            self._note(node.condition, "E223", f"?: wants true or false, not a {kind}")
        yes, no = self.check(node.yes, bound), self.check(node.no, bound)
        return yes if yes == no else "dyn"

    def _call(self, node: Call, bound: frozenset[str]) -> str:
        if node.function.startswith("_") or node.function in _SIGN:
            return self._operator(node, bound)
        function = self._resolved(node, bound)
        for argument in node.arguments:
            self.check(argument, bound)
        if function is None:
            return "dyn"
        return function.gives

    def _resolved(self, node: Call, bound: frozenset[str]) -> Function | None:
        if node.operand is not None:
            name = qualified(node.operand)
            whole = self._functions.get(f"{name}.{node.function}") if name is not None else None
            if whole is not None and name not in bound:
                self._count(node, whole, len(node.arguments))
                return whole
            self.check(node.operand, bound)
        function = self._functions.get(node.function.lstrip("."))
        if function is None:
            hint = closest(node.function, self._functions)
            self._note(node, "E222", f"no function {node.function}()", hint)
            return None
        if function.style == ("global" if node.operand is not None else "method"):
            form = f"x.{function.name}(...)" if function.style == "method" else f"{function.name}(x)"
            self._note(node, "E222", f"{node.function} is not called like this", f"write {form}")
            return None
        self._count(node, function, len(node.arguments) + (node.operand is not None))
        return function

    def _count(self, node: Call, function: Function, given: int) -> None:
        if not function.least <= given <= function.most:
            wanted = str(function.least) if function.least == function.most else f"{function.least} to {function.most}"
            if given < function.least:
                self._note(node, "E224", f"{function.name}() lacks an argument", f"it takes {wanted}")
            else:
                self._note(node, "E224", f"{function.name}() has too many arguments", f"it takes {wanted}")

    def _operator(self, node: Call, bound: frozenset[str]) -> str:
        kinds = [self.check(argument, bound) for argument in node.arguments]
        sign = node.function.strip("_") or node.function
        if self._hyphen(node):
            return "dyn"
        if node.function == "!_":
            self._want(node, kinds[0], {"bool"}, "!")
            return "bool"
        if node.function == "-_":
            return kinds[0]
        if "dyn" not in kinds and not _together(node.function, *kinds):
            self._clash(node, sign, kinds)
        if node.function in _SUMS:
            return kinds[0] if kinds[0] == kinds[1] and kinds[0] in _CLOSED else "dyn"
        return "bool"

    def _want(self, node: Call, kind: str, wanted: set[str], sign: str) -> None:
        if kind not in wanted and kind != "dyn":
            self._note(node, "E223", f"{sign} wants true or false, not a {kind}")

    def _clash(self, node: Call, sign: str, kinds: list[str]) -> None:
        hint = ""
        if "string" in kinds and set(kinds) & _NUMBERS:
            text = node.arguments[kinds.index("string")]
            hint = f"write int({self._text[text.start : text.end]})"
        self._note(node, "E223", f"{kinds[0]} {sign} {kinds[1]}: no such operation", hint)

    def _hyphen(self, node: Call) -> bool:
        """`body.Ship-To` reads as a difference: the right side is a name that nobody knows."""
        if node.function != "_-_":
            return False
        left, right = node.arguments
        first = right
        while isinstance(first, Select):
            first = first.operand
        if not isinstance(left, Select) or not isinstance(first, Name) or first.name in self._variables:
            return False
        self.findings = [found for found in self.findings if found.offset != first.start]
        base = self._text[left.start : left.operand.end]
        field = self._text[left.end - len(left.field) : first.end]
        self._note(node, "E225", f"{field} is read as a difference", f'write {base}["{field}"]')
        return True

    def _macro(self, node: Macro, bound: frozenset[str]) -> str:
        if node.name == "has":
            self.check(node.operand.operand, bound)
            return "bool"
        kind = self.check(node.operand, bound)
        inner = bound | set(node.variables)
        if node.variables and node.name not in ("optMap", "optFlatMap") and kind not in ("dyn", "list", "map"):
            self._note(node.operand, "E223", f"{node.name} wants a list or a map, not a {kind}")
        for argument in node.arguments:
            self.check(argument, inner)
        if node.name in ("all", "exists", "exists_one", "existsOne"):
            return "bool"
        return "list" if node.name in ("map", "filter") else "dyn"


def _together(function: str, left: str, right: str) -> bool:
    """Whether an operator takes two values of these types."""
    if function == "_in_":
        return right in ("list", "map")
    if function in ("_==_", "_!=_"):
        return (
            left == right
            or {left, right} <= _NUMBERS
            or "null_type" in (left, right)
            or "optional_type" in (left, right)
        )
    if {left, right} <= _NUMBERS:
        return function in _COMPARES or left == right or "decimal" in (left, right)
    moments = {"timestamp", "duration", "google.protobuf.Timestamp", "google.protobuf.Duration"}
    if left in moments or right in moments:
        return {left, right} <= moments
    if function in _COMPARES:
        return left == right and left in ("string", "bytes", "bool")
    return function == "_+_" and left == right and left in ("string", "bytes", "list")


def closest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f'did you mean "{near[0]}"?' if near else ""


def paths(node: Any, bound: frozenset[str] = frozenset()) -> Iterable[str]:
    """The fields that an expression reads, dotted, from its variables."""
    name = qualified(node)
    if name is not None and name.split(".")[0] not in bound:
        yield name
        return
    inner = bound | set(node.variables) if isinstance(node, Macro) else bound
    for part in children(node):
        yield from paths(part, inner)
