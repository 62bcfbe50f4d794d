"""A tree into a Python function: one statement a line, so that a traceback's line leads back to the character."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from decimal import Decimal
from types import CodeType
from typing import Any, Final

from esb.errors import BudgetExceeded, MissingField, StepTimeout
from esb.expressions import fields, operators
from esb.expressions.functions import Function
from esb.expressions.syntax import (
    Call,
    ExpressionProblems,
    Finding,
    Index,
    ListOf,
    Literal_,
    Logic,
    Macro,
    MapOf,
    Name,
    Select,
    Ternary,
)
from esb.expressions.values import NONE, TYPES, Optional, Uint

FILE: Final = "<expression>"
_OPERATORS: Final[Mapping[str, Callable[..., Any]]] = {
    "_+_": operators.add,
    "_-_": operators.subtract,
    "_*_": operators.multiply,
    "_/_": operators.divide,
    "_%_": operators.modulo,
    "_==_": operators.equal,
    "_!=_": operators.different,
    "_<_": operators.less,
    "_<=_": operators.less_equal,
    "_>_": operators.greater,
    "_>=_": operators.greater_equal,
    "_in_": operators.contained,
    "-_": operators.negate,
    "!_": operators.invert,
}
_QUICK: Final = {"_==_": "==", "_!=_": "!=", "_<_": "<", "_<=_": "<=", "_>_": ">", "_>=_": ">="}
_BASE: Final[Mapping[str, Any]] = {
    "walk": fields.walk,
    "item": fields.item,
    "elements": fields.elements,
    "not_bool": fields.not_bool,
    "over": fields.over_budget,
    "weigh": fields.weigh,
    "has_field": fields.has_field,
    "optional_field": fields.optional_field,
    "need_optional": fields.need_optional,
    "build_map": fields.build_map,
    "build_list": fields.build_list,
    "variable": fields.variable,
    "STOPS": (BudgetExceeded, StepTimeout),
    "MissingField": MissingField,
    "Optional": Optional,
    "NONE": NONE,
    "Decimal": Decimal,
    "Exception": Exception,
    "KeyError": KeyError,
    "str": str,
    "int": int,
    "type": type,
    "__builtins__": {},
}


class Compiled:
    """The function, and the offset in the expression of each of its lines."""

    def __init__(self, code: CodeType, names: dict[str, Any], offsets: list[int]) -> None:
        space = dict(_BASE)
        space.update(names)
        exec(code, space)
        self.run: Callable[[Mapping[str, Any], int], Any] = space["run"]
        self._offsets = offsets

    def offset(self, error: BaseException) -> int:
        """Where in the expression an error arose."""
        trace, found = error.__traceback__, 0
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == FILE:
                found = self._offsets[min(trace.tb_lineno, len(self._offsets)) - 1]
            trace = trace.tb_next
        return found


def compile_tree(text: str, tree: Any, functions: Mapping[str, Function], variables: frozenset[str]) -> Compiled:
    """Raises ExpressionProblems when Python cannot nest as deep as the expression does."""
    writer = Writer(functions, variables)
    result = writer.node(tree)
    writer.line(f"return {result}", tree.start)
    source = "\n".join(["def run(s, n):", *writer.lines])
    try:
        code = compile(source, FILE, "exec")
    except (SyntaxError, RecursionError, MemoryError):
        finding = Finding(tree.start, tree.end - tree.start, "E220", "nested too deeply", "name parts of it in a map")
        raise ExpressionProblems(text, (finding,)) from None
    return Compiled(code, writer.names, [0, *writer.offsets])


class Writer:
    """Writes the statements of one function. Each `_...` method gives the name that holds its node's value."""

    def __init__(self, functions: Mapping[str, Function], variables: frozenset[str]) -> None:
        self.lines: list[str] = []
        self.offsets: list[int] = []
        self.names: dict[str, Any] = {}
        self._functions = functions
        self._variables = variables
        self._locals: dict[str, str] = {}
        self._depth = 1
        self._count = 0
        self._loops = 0

    def line(self, text: str, offset: int) -> None:
        self.lines.append("    " * self._depth + text if self._depth < 90 else "\t" * 200 + text)
        self.offsets.append(offset)

    @contextmanager
    def _block(self, text: str, offset: int) -> Any:
        self.line(text, offset)
        self._depth += 1
        yield
        self._depth -= 1

    def _new(self) -> str:
        self._count += 1
        return f"t{self._count}"

    def _set(self, text: str, offset: int) -> str:
        name = self._new()
        self.line(f"{name} = {text}", offset)
        return name

    def _constant(self, value: Any) -> str:
        name = f"k{len(self.names)}"
        self.names[name] = value
        return name

    def node(self, node: Any) -> str:
        match node:
            case Literal_():
                return self._literal(node.value)
            case Name():
                return self._name(node)
            case Select():
                return self._select(node)
            case Index():
                return self._index(node)
            case Logic():
                return self._logic(node)
            case Ternary():
                return self._ternary(node)
            case ListOf():
                return self._list(node)
            case MapOf():
                return self._map(node)
            case Macro():
                return self._macro(node)
            case _:
                return self._call(node)

    def _literal(self, value: Any) -> str:
        if value is None or type(value) is bool or (type(value) is int and value >= 0):
            return repr(value)
        return self._constant(value)

    def _name(self, node: Name) -> str:
        name = node.name
        if name in self._locals:
            return self._locals[name]
        name = name.lstrip(".")
        if name not in self._variables and name in TYPES:
            return self._constant(TYPES[name])
        return self._set(f"variable(s, {name!r})", node.start)

    def _root(self, node: Any) -> tuple[str, str] | None:
        """The Python text of a variable and its name, for the quick path of a chain of fields."""
        if isinstance(node, Name) and (node.name in self._locals or node.name.lstrip(".") in self._variables):
            if node.name in self._locals:
                return self._locals[node.name], node.name
            name = node.name.lstrip(".")
            return f"s[{name!r}]", name
        return None

    def _select(self, node: Select) -> str:
        dotted = self._dotted(node)
        if dotted is not None:
            return dotted
        if node.optional:
            return self._set(f"optional_field({self.node(node.operand)}, {node.field!r})", node.start)
        keys: list[str] = []
        base: Any = node
        while (key := _constant_key(base)) is not None and self._dotted(base) is None:
            keys.insert(0, key)
            base = base.operand
        root = self._root(base)
        text, shown = root if root is not None else (self.node(base), "it")
        result = self._new()
        with self._block("try:", node.start):
            self.line(f"{result} = {text}{''.join(f'[{key!r}]' for key in keys)}", node.start)
        with self._block("except Exception:", node.start):
            base_text = f"variable(s, {shown!r})" if text.startswith("s[") else text
            self.line(f"{result} = walk({base_text}, {tuple(keys)!r}, {shown!r})", node.start)
        return result

    def _dotted(self, node: Any) -> str | None:
        """A qualified name that is a variable, a type or a constant as a whole."""
        name = qualified(node)
        if name is None or "." not in name.lstrip("."):
            return None
        if name.split(".")[0] in self._locals:
            return None
        name = name.lstrip(".")
        if name in self._variables:
            return self._set(f"s[{name!r}]", node.start)
        return self._constant(TYPES[name]) if name in TYPES else None

    def _index(self, node: Index) -> str:
        if node.optional:
            operand, index = self.node(node.operand), self.node(node.index)
            return self._set(f"optional_field({operand}, {index})", node.start)
        if _constant_key(node) is not None:
            return self._select(node)  # type: ignore[arg-type]
        operand, index = self.node(node.operand), self.node(node.index)
        return self._set(f"item({operand}, {index}, {shown_path(node.operand)!r})", node.index.start)

    def _logic(self, node: Logic) -> str:
        """Absorbs an error of one side when the other decides (cel-spec, logical operators)."""
        decides = "False" if node.operator == "&&" else "True"
        other = "True" if node.operator == "&&" else "False"
        result, error = self._new(), self._new()
        self.line(f"{error} = None", node.start)
        with self._block("try:", node.start):
            self.line(f"{result} = {self.node(node.left)}", node.left.start)
        with self._block("except STOPS:", node.start):
            self.line("raise", node.start)
        with self._block("except Exception as caught:", node.start):
            self.line(f"{error} = caught", node.start)
            self.line(f"{result} = None", node.start)
        with self._block(f"if {result} is not {decides}:", node.start):
            right = self.node(node.right)
            with self._block(f"if {right} is {decides}:", node.start):
                self.line(f"{result} = {decides}", node.start)
            with self._block(f"elif {error} is not None:", node.left.start):
                self.line(f"raise {error}", node.left.start)
            with self._block(f"elif {result} is not {other}:", node.left.start):
                self.line(f"raise not_bool({result})", node.left.start)
            with self._block(f"elif {right} is not {other}:", node.right.start):
                self.line(f"raise not_bool({right})", node.right.start)
        return result

    def _ternary(self, node: Ternary) -> str:
        condition, result = self.node(node.condition), self._new()
        with self._block(f"if {condition} is True:", node.start):
            self.line(f"{result} = {self.node(node.yes)}", node.yes.start)
        with self._block(f"elif {condition} is False:", node.start):
            self.line(f"{result} = {self.node(node.no)}", node.no.start)
        with self._block("else:", node.start):
            self.line(f"raise not_bool({condition})", node.condition.start)
        return result

    def _list(self, node: ListOf) -> str:
        if not node.optional:
            return self._set(f"[{', '.join([self.node(item) for item in node.items])}]", node.start)
        items = ", ".join([self.node(item) for item in node.items])
        return self._set(f"build_list([{items}], {self._constant(frozenset(node.optional))})", node.start)

    def _map(self, node: MapOf) -> str:
        keys = [key.value for key, _ in node.entries if isinstance(key, Literal_) and type(key.value) is str]
        if len(set(keys)) == len(node.entries) and not node.optional:
            pairs = [f"{key.value!r}: {self.node(value)}" for key, value in node.entries]
            return self._set(f"{{{', '.join(pairs)}}}", node.start)
        entries = [f"({self.node(key)}, {self.node(value)})" for key, value in node.entries]
        listed = ", ".join(entries) + ("," if len(entries) == 1 else "")
        return self._set(f"build_map(({listed}), {self._constant(frozenset(node.optional))})", node.start)

    def _call(self, node: Call) -> str:
        if node.function in _OPERATORS:
            return self._operator(node)
        function, given = self._resolved(node)
        arguments = [self.node(argument) for argument in given]
        if function.needs_scope:
            arguments.insert(0, "s")
        result = self._set(f"{self._constant(function.call)}({', '.join(arguments)})", node.start)
        self._weigh(result, node)
        return result

    def _resolved(self, node: Call) -> tuple[Function, tuple[Any, ...]]:
        """The function a call means: `math.greatest(x)` is no method of a variable math."""
        if node.operand is None:
            return self._functions[node.function.lstrip(".")], node.arguments
        name = qualified(node.operand)
        whole = f"{name}.{node.function}" if name is not None else ""
        if whole in self._functions and name not in self._locals:
            return self._functions[whole], node.arguments
        return self._functions[node.function], (node.operand, *node.arguments)

    def _weigh(self, result: str, node: Any) -> None:
        """Inside a loop, what is made counts by its size."""
        if self._loops:
            self.line(f"n -= weigh({result})", node.start)

    def _operator(self, node: Call) -> str:
        quick = self._quick(node)
        if quick is not None:
            return quick
        operands = [self.node(argument) for argument in node.arguments]
        operands = self._written(node.arguments, operands)
        function = self._constant(_OPERATORS[node.function])
        result = self._set(f"{function}({', '.join(operands)})", node.start)
        if node.function in ("_+_", "_*_"):
            self._weigh(result, node)
        return result

    def _written(self, arguments: tuple[Any, ...], operands: list[str]) -> list[str]:
        """A double literal beside a decimal is read by its written digits."""
        if len(operands) != 2:
            return operands
        for at, other in ((0, 1), (1, 0)):
            argument = arguments[at]
            if isinstance(argument, Literal_) and argument.digits is not None:
                exact = self._constant(operators.exactly(argument.digits))
                operands[at] = f"({exact} if type({operands[other]}) is Decimal else {operands[at]})"
        return operands

    def _quick(self, node: Call) -> str | None:
        """A comparison with a text or whole-number literal: one type test before the general way."""
        if node.function == "_in_":
            return self._quick_in(node)
        sign = _QUICK.get(node.function)
        literal = node.arguments[-1]
        if sign is None or not isinstance(literal, Literal_) or type(literal.value) not in (str, int):
            return None
        left = self.node(node.arguments[0])
        right = self.node(literal)
        kind = "str" if type(literal.value) is str else "int"
        general = self._constant(_OPERATORS[node.function])
        return self._set(f"{left} {sign} {right} if type({left}) is {kind} else {general}({left}, {right})", node.start)

    def _quick_in(self, node: Call) -> str | None:
        item, container = node.arguments
        if not isinstance(container, ListOf) or container.optional or not container.items:
            return None
        values = [entry.value for entry in container.items if isinstance(entry, Literal_) and type(entry.value) is str]
        if len(values) != len(container.items):
            return None
        left = self.node(item)
        listed, known = self._constant(values), self._constant(frozenset(values))
        general = self._constant(operators.contained)
        return self._set(f"{left} in {known} if type({left}) is str else {general}({left}, {listed})", node.start)

    def _macro(self, node: Macro) -> str:
        match node.name:
            case "has":
                field = node.operand
                return self._set(f"has_field({self.node(field.operand)}, {field.field!r})", node.start)
            case "default":
                return self._default(node)
            case "optional":
                return self._optional(node)
            case "optMap" | "optFlatMap":
                return self._opt_map(node)
            case _:
                return self._comprehension(node)

    def _default(self, node: Macro) -> str:
        result = self._new()
        with self._block("try:", node.start):
            self.line(f"{result} = {self.node(node.operand)}", node.start)
        with self._block("except MissingField:", node.start):
            self.line(f"{result} = None", node.start)
        with self._block(f"if {result} is None:", node.start):
            self.line(f"{result} = {self.node(node.arguments[0])}", node.start)
        return result

    def _optional(self, node: Macro) -> str:
        result = self._new()
        with self._block("try:", node.start):
            self.line(f"{result} = Optional(True, {self.node(node.operand)})", node.start)
        with self._block("except MissingField:", node.start):
            self.line(f"{result} = NONE", node.start)
        return result

    @contextmanager
    def _bound(self, variable: str) -> Any:
        """A comprehension's variable, which hides one of the same name around it."""
        before = self._locals.get(variable)
        local = self._new()
        self._locals[variable] = local
        yield local
        if before is None:
            del self._locals[variable]
        else:
            self._locals[variable] = before

    def _opt_map(self, node: Macro) -> str:
        operand = self._set(f"need_optional({self.node(node.operand)})", node.start)
        result = self._set("NONE", node.start)
        with self._block(f"if {operand}.has_value:", node.start), self._bound(node.variables[0]) as local:
            self.line(f"{local} = {operand}.value", node.start)
            made = self.node(node.arguments[0])
            wrapped = f"Optional(True, {made})" if node.name == "optMap" else f"need_optional({made})"
            self.line(f"{result} = {wrapped}", node.start)
        return result

    def _comprehension(self, node: Macro) -> str:
        operand = self.node(node.operand)
        start = {"all": "True", "exists": "False", "exists_one": "0", "existsOne": "0"}.get(node.name, "[]")
        result = self._set(start, node.start)
        error = self._set("None", node.start)
        self._loops += 1
        with (
            self._bound(node.variables[0]) as local,
            self._block(f"for {local} in elements({operand}):", node.operand.start),
        ):
            self.line("n -= 1", node.start)
            with self._block("if n < 0:", node.start):
                self.line("over()", node.start)
            self._turn(node, local, result, error)
        self._loops -= 1
        if node.name in ("all", "exists"):
            with self._block(f"if {error} is not None:", node.start):
                self.line(f"raise {error}", node.start)
        if node.name in ("exists_one", "existsOne"):
            return self._set(f"{result} == 1", node.start)
        return result

    def _turn(self, node: Macro, local: str, result: str, error: str) -> None:
        """One turn of the loop."""
        if node.name in ("all", "exists"):
            self._absorbing_turn(node, result, error)
            return
        test = self.node(node.arguments[0])
        if node.name == "map" and len(node.arguments) == 1:
            self.line(f"{result}.append({test})", node.start)
            self._weigh(test, node)
            return
        with self._block(f"if {test} is True:", node.start):
            if node.name == "filter":
                self.line(f"{result}.append({local})", node.start)
            elif node.name == "map":
                self.line(f"{result}.append({self.node(node.arguments[1])})", node.start)
            else:
                self.line(f"{result} += 1", node.start)
        with self._block(f"elif {test} is not False:", node.start):
            self.line(f"raise not_bool({test})", node.arguments[0].start)

    def _absorbing_turn(self, node: Macro, result: str, error: str) -> None:
        """all and exists: a turn that decides absorbs the errors of the others."""
        decides = "False" if node.name == "all" else "True"
        other = "True" if node.name == "all" else "False"
        with self._block("try:", node.start):
            test = self._set(self.node(node.arguments[0]), node.arguments[0].start)
        with self._block("except STOPS:", node.start):
            self.line("raise", node.start)
        with self._block("except Exception as caught:", node.start):
            self.line(f"{error} = caught", node.start)
            self.line("continue", node.start)
        with self._block(f"if {test} is {decides}:", node.start):
            self.line(f"{result} = {decides}", node.start)
            self.line(f"{error} = None", node.start)
            self.line("break", node.start)
        with self._block(f"if {test} is not {other}:", node.start):
            self.line(f"{error} = not_bool({test})", node.start)


def _constant_key(node: Any) -> str | None:
    """The key of a field that is known beforehand."""
    if isinstance(node, Select) and not node.optional:
        return node.field
    if (
        isinstance(node, Index)
        and not node.optional
        and isinstance(node.index, Literal_)
        and type(node.index.value) is str
    ):
        value: str = node.index.value
        return value
    return None


def qualified(node: Any) -> str | None:
    """`a.b.c` as one name."""
    if isinstance(node, Name):
        return node.name
    if isinstance(node, Select) and not node.optional:
        inner = qualified(node.operand)
        return None if inner is None else f"{inner}.{node.field}"
    return None


def shown_path(node: Any) -> str:
    """A field's path for people; `it` for what has no name."""
    keys: list[str] = []
    while (key := _constant_key(node)) is not None:
        keys.insert(0, key)
        node = node.operand
    return fields.path_text(node.name, keys) if isinstance(node, Name) else "it"


__all__ = ["Compiled", "Uint", "compile_tree", "qualified", "shown_path"]
