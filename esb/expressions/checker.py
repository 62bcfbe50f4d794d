"""What can be known before any message: names, numbers of arguments, types; and names resolved to what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any, Final

from msgspec.structs import replace

from esb.errors import ExpressionError
from esb.expressions import functions, signatures
from esb.expressions.functions import Function
from esb.expressions.spelling import function_hint, hyphenated, name_hint, usage
from esb.expressions.syntax import (
    Call,
    Constant,
    Finding,
    Index,
    ListOf,
    Logic,
    Macro,
    MapOf,
    Name,
    Select,
    Ternary,
    path_of,
)
from esb.expressions.texts import pattern
from esb.expressions.times import zone
from esb.expressions.values import TYPES, type_name

OPERATORS: Final = frozenset(("==", "!=", "<", "<=", ">", ">=", "in", "+", "-", "*", "/", "%", "!", "-_"))
_FOLDED: Final = frozenset(("int", "uint", "double", "decimal", "timestamp", "duration", "bool"))
"""Conversions of a literal: done once, and what they refuse is an error of the text."""
_LOOPS: Final = {
    "all": "bool", "exists": "bool", "exists_one": "bool", "filter": "list", "map": "list",
    "transformList": "list", "transformMap": "map", "optMap": "optional_type", "optFlatMap": "optional_type",
}  # fmt: skip


class Checker:
    """One text being checked: `check` gives its tree with types and resolved names, `findings` what is wrong."""

    def __init__(
        self,
        text: str,
        known: Mapping[str, Function],
        variables: frozenset[str],
        types: Mapping[str, str],
        container: str = "",
    ) -> None:
        self.text = text
        self.findings: list[Finding] = []
        self._functions = known
        self._variables = variables
        self._types = types
        self._container = container
        self._locals: dict[str, str] = {}

    def find(self, node: Any, code: str, message: str, hint: str = "") -> None:
        """One more finding."""
        self.findings.append(Finding(node.start, max(node.end - node.start, 1), code, message, hint))

    def check(self, node: Any) -> Any:
        """The node with types and resolved names."""
        match node:
            case Constant(value=value):
                return replace(node, type=type_name(value))
            case Name():
                return self._name(node)
            case Select():
                return self._select(node)
            case Index():
                return self._index(node)
            case Call():
                return self._call(node)
            case Logic(parts=parts):
                return replace(node, parts=tuple(self._condition(part, node.operator) for part in parts), type="bool")
            case Ternary():
                return self._ternary(node)
            case ListOf(items=items):
                optional = self._left_out(items, node.optional)
                return replace(node, items=self._items(items, node.optional), optional=optional, type="list")
            case MapOf():
                return self._map(node)
            case Macro():
                return self._macro(node)
        raise AssertionError(node)

    def _condition(self, node: Any, operator: str) -> Any:
        made = self.check(node)
        if made.type not in ("bool", "dyn"):
            said = signatures.shown(node, self.text)
            self.find(node, "E224", f"{operator} takes true or false, and {said} is {signatures.words(made.type)}")
        return made

    def _ternary(self, node: Ternary) -> Any:
        condition, yes, no = self._condition(node.condition, "? :"), self.check(node.yes), self.check(node.no)
        return replace(node, condition=condition, yes=yes, no=no, type=yes.type if yes.type == no.type else "dyn")

    # -- names

    def _name(self, node: Name) -> Any:
        name = node.name
        if name in self._locals and not node.rooted:
            return replace(node, local=True, type=self._locals[name])
        for whole in self._candidates(name, node.rooted):
            if whole in self._variables:
                return replace(node, name=whole, type=self._types.get(whole, "dyn"))
        if name in TYPES:
            return Constant(start=node.start, end=node.end, value=TYPES[name], type="type")
        hint = name_hint(name, [*self._variables, *self._locals])
        self.find(node, "E221", f'there is no variable "{name}"', hint)
        return node

    def _candidates(self, name: str, rooted: bool) -> list[str]:
        """The name within its container, then in the containers around that (cel-spec, name resolution)."""
        around = [] if rooted or not self._container else self._container.split(".")
        return [".".join([*around[:count], name]) for count in range(len(around), -1, -1)]

    def _select(self, node: Select) -> Any:
        qualified = self._qualified(node)
        if qualified is not None:
            return qualified
        operand = self.check(node.operand)
        if operand.type not in ("map", "dyn", "optional_type"):
            said = signatures.shown(node.operand, self.text)
            self.find(node, "E224", f"{said} is {signatures.words(operand.type)}: it has no fields")
        optional = node.optional or operand.type == "optional_type"
        of_header = isinstance(operand, Name) and not operand.local and self._types.get(operand.name) == "map"
        return replace(node, operand=operand, type="optional_type" if optional else "string" if of_header else "dyn")

    def _qualified(self, node: Select) -> Any:
        """`a.b.c` as one name where there is such a variable or type: the longest one counts."""
        steps: list[str] = []
        root: Any = node
        while isinstance(root, Select) and not root.optional and root.field.isidentifier():
            steps.insert(0, root.field)
            root = root.operand
        if not isinstance(root, Name) or (root.name in self._locals and not root.rooted):
            return None
        whole = ".".join([root.name, *steps])
        for candidate in self._candidates(whole, root.rooted):
            if candidate in self._variables:
                return Name(start=node.start, end=node.end, name=candidate)
        if whole in TYPES:
            return Constant(start=node.start, end=node.end, value=TYPES[whole], type="type")
        return None

    def _index(self, node: Index) -> Any:
        operand, index = self.check(node.operand), self.check(node.index)
        if operand.type not in ("list", "map", "dyn", "optional_type"):
            said = signatures.shown(node.operand, self.text)
            self.find(node, "E224", f"{said} is {signatures.words(operand.type)}: it has no items")
        optional = node.optional or operand.type == "optional_type"
        return replace(node, operand=operand, index=index, type="optional_type" if optional else "dyn")

    # -- calls

    def _call(self, node: Call) -> Any:
        if node.name in OPERATORS and node.operand is None:
            return self._operator(node)
        function, given = self._meant(node)
        arguments = tuple(self.check(argument) for argument in given)
        if function is None:
            return replace(node, operand=None, arguments=arguments)
        return self._folded(replace(node, name=function.name, operand=None, arguments=arguments, type=function.gives))

    def _meant(self, node: Call) -> tuple[Function | None, tuple[Any, ...]]:
        """The function a call means, and its arguments with the receiver first; None where there is none that fits."""
        if node.operand is None:
            found, given = self._functions.get(node.name), node.arguments
            style = "call"
        else:
            found, given = self._namespaced(node), node.arguments
            style = "call"
            if found is None:
                found, given, style = self._functions.get(node.name), (node.operand, *node.arguments), "method"
        if found is None or found.style not in (style, "both"):
            hint = function_hint(node, found, self._functions, self.text)
            self.find(node, "E222", f'there is no function "{node.name}"' + (" for this" if found else ""), hint)
            return None, given
        if not found.fits(len(given)):
            self.find(node, "E223", f"{found.name}() takes {_counts(found)}", usage(found))
            return None, given
        return found, given

    def _namespaced(self, node: Call) -> Function | None:
        path = path_of(node.operand)
        root = "" if path is None else path.split(".")[0]
        if path is None or root in self._locals or root in self._variables:
            return None
        return self._functions.get(f"{path}.{node.name}")

    def _folded(self, node: Call) -> Any:
        """The types of the arguments; a conversion of a literal becomes what it gives."""
        function = self._functions[node.name]
        for argument, accepted in zip(node.arguments, function.takes, strict=False):
            if not functions.takes(argument.type, accepted):
                said = signatures.shown(argument, self.text)
                wanted = functions.words(accepted)
                message = f"{function.name}() takes {wanted}, and {said} is {signatures.words(argument.type)}"
                self.find(argument, "E224", message)
                return node
        constants = [argument.value for argument in node.arguments if isinstance(argument, Constant)]
        try:
            if node.name in _FOLDED and len(constants) == 1 == len(node.arguments):
                value = function.call(_written(node.arguments[0]) if node.name == "decimal" else constants[0])
                return Constant(start=node.start, end=node.end, value=value, type=function.gives)
            self._constant_arguments(node)
        except ExpressionError as error:
            self.find(node.arguments[-1], "E227", str(error))
        return node

    def _constant_arguments(self, node: Call) -> None:
        last = node.arguments[-1] if node.arguments else None
        if not isinstance(last, Constant) or type(last.value) is not str or len(node.arguments) < 2:
            return
        if node.name == "matches":
            pattern(last.value)
        elif self._functions[node.name].takes[0] == "timestamp|duration":
            zone(last.value)

    def _operator(self, node: Call) -> Any:
        hyphen = hyphenated(node, self.text, self._variables | self._locals.keys()) if node.name == "-" else None
        if hyphen is not None:
            start, end, wanted = hyphen
            length = max(end - start, 1)
            self.findings.append(Finding(start, length, "E221", "a - in a name is read as minus", f"write {wanted}"))
            return node
        arguments = tuple(self.check(argument) for argument in node.arguments)
        made = replace(node, arguments=arguments)
        if len(arguments) == 1:
            return self._sign(made)
        left, right = arguments
        kind = signatures.result(node.name, left, right)
        if kind is None:
            one, other = signatures.words(left.type), signatures.words(right.type)
            hint = signatures.advice(node.name, left, right, self.text)
            self.find(node, "E224", f"{one} {node.name} {other} does not go together", hint)
        return replace(made, type=kind or "dyn")

    def _sign(self, node: Call) -> Any:
        kind = node.arguments[0].type
        accepted = ("bool", "dyn") if node.name == "!" else ("int", "double", "decimal", "duration", "dyn")
        if kind not in accepted:
            self.find(node, "E224", f"{node.name[0]} of {signatures.words(kind)}")
        return replace(node, type="bool" if node.name == "!" else kind)

    # -- lists, maps, macros

    def _items(self, items: tuple[Any, ...], optional: tuple[int, ...]) -> tuple[Any, ...]:
        made = tuple(self.check(item) for item in items)
        for place in optional:
            self._optional(made[place])
        return made

    def _left_out(self, values: tuple[Any, ...], optional: tuple[int, ...]) -> tuple[int, ...]:
        """Items and entries written `?x`, and those that are `optional(x)`: they are left out when there is no x."""
        ours = [place for place, value in enumerate(values) if isinstance(value, Macro) and value.name == "optional"]
        return tuple(sorted({*optional, *ours}))

    def _optional(self, node: Any) -> None:
        if node.type not in ("optional_type", "dyn"):
            said = signatures.shown(node, self.text)
            self.find(node, "E224", f"? takes an optional, and {said} is {signatures.words(node.type)}")

    def _map(self, node: MapOf) -> Any:
        entries = tuple((self.check(key), self.check(value)) for key, value in node.entries)
        for key, _ in entries:
            if key.type not in ("string", "int", "uint", "bool", "dyn"):
                said = signatures.words(key.type)
                self.find(key, "E224", f"a key is a text, a whole number, true or false, not {said}")
        for place in node.optional:
            self._optional(entries[place][1])
        optional = self._left_out(tuple(value for _, value in entries), node.optional)
        return replace(node, entries=entries, optional=optional, type="map")

    @contextmanager
    def _bound(self, variables: Mapping[str, str]) -> Any:
        before = self._locals
        self._locals = {**before, **variables}
        yield
        self._locals = before

    def _macro(self, node: Macro) -> Any:
        operand = self.check(node.operand)
        made = replace(node, operand=operand)
        match node.name:
            case "has":
                if not isinstance(operand, Select):
                    self.find(node, "E224", "has() looks for a field", "has(body.note)")
                return replace(made, type="bool")
            case "optional":
                return replace(made, type="optional_type")
            case "default":
                other = self.check(node.arguments[0])
                return replace(made, arguments=(other,), type=operand.type if operand.type == other.type else "dyn")
            case "bind":
                with self._bound({node.variables[0]: operand.type}):
                    body = self.check(node.arguments[0])
                return replace(made, arguments=(body,), type=body.type)
        return self._loop(made)

    def _loop(self, node: Macro) -> Any:
        accepted = ("optional_type", "dyn") if node.name.startswith("opt") else ("list", "map", "dyn")
        kind = node.operand.type
        if kind not in accepted:
            said = f"{signatures.shown(node.operand, self.text)} is {signatures.words(kind)}"
            self.find(node.operand, "E224", f"{node.name} goes over a list or a map, and {said}")
        with self._bound(dict.fromkeys(node.variables, "dyn")):
            arguments = tuple(self.check(argument) for argument in node.arguments)
        conditions = arguments if _LOOPS[node.name] == "bool" or node.name == "filter" else arguments[:-1]
        for argument in conditions:
            if argument.type not in ("bool", "dyn"):
                said = signatures.shown(argument, self.text)
                self.find(argument, "E224", f"{node.name} asks for true or false, and {said} is not")
        return replace(node, arguments=arguments, type=_LOOPS[node.name])


def _written(node: Constant) -> Any:
    """A double literal converts by its digits."""
    return node.digits if node.digits is not None and node.type == "double" else node.value


def _counts(function: Function) -> str:
    least = len(function.takes) if function.least < 0 else function.least
    shift = 1 if function.style == "method" else 0
    low, high = least - shift, len(function.takes) - shift
    counted = f"{low} or more" if function.open else f"{low}" if low == high else f"{low} to {high}"
    return f"{counted} argument{'' if counted == '1' else 's'}"
