"""A checked tree into a Python function: one line for what can fail, so that a traceback's line names the part.

A field is read by plain subscription, a comparison with a literal is Python's own where the types allow it, and an
error is explained only when it happens (see failures): the usual case pays for nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final

from esb.errors import BudgetExceeded, StepTimeout
from esb.expressions import access, operators
from esb.expressions.comparing import comparison
from esb.expressions.functions import Function
from esb.expressions.looping import loop
from esb.expressions.syntax import (
    Call,
    Constant,
    Index,
    ListOf,
    Logic,
    Macro,
    MapOf,
    Name,
    Select,
    Ternary,
)
from esb.expressions.values import NONE, Optional, Written

FILE: Final = "<expression>"
STOPS: Final = (BudgetExceeded, StepTimeout, MemoryError)
"""What no && or || absorbs."""
_BLOCKS: Final = 10
"""Python allows 20 blocks in each other; what is deeper becomes a function of its own."""
_SPACE: Final[Mapping[str, Any]] = {
    "__builtins__": {},
    **{function.__name__: function for function in access.FUNCTIONS},
    **{function.__name__: function for function in operators.FUNCTIONS},
    "Meter": operators.Meter,
    **{kind.__name__: kind for kind in (Exception, type, str, int, list, dict, bool, Decimal, Optional)},
    "NONE": NONE,
    "STOPS": STOPS,
}
_ARITHMETIC: Final = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "%": "modulo"}


class Line:
    """One line of Python; `node` is the part that may fail there, `base` the name its chain of fields begins with."""

    __slots__ = ("base", "node", "text")

    def __init__(self, text: str, node: Any = None, base: str = "") -> None:
        self.text = text
        self.node = node
        self.base = base


class Writer:
    """Writes the functions of one expression. `value` gives a Python expression for a node's value, to be used once;
    `atom` one that is a name or a literal."""

    def __init__(self, functions: Mapping[str, Function]) -> None:
        self.space: dict[str, Any] = dict(_SPACE)
        self.written: list[Line] = []
        self.locals: dict[str, str] = {}
        self.loops = 0
        self.metered = False
        self._functions = functions
        self._lines: list[Line] = []
        self._indent = 1
        self._blocks = 0
        self._count = 0

    def program(self, tree: Any) -> str:
        """The source of a module whose `run(s)` is the expression; `written` are its lines."""
        result = self.value(tree)
        self.line(f"return {result}")
        head = [Line("def run(s):")]
        if self.metered:
            head.append(Line(" m = Meter(budget)"))
        self.written += [*head, *self._lines]
        return "\n".join(line.text for line in self.written)

    # -- lines

    def line(self, text: str, node: Any = None, base: str = "") -> None:
        """One more line; `node` where it may fail."""
        self._lines.append(Line(" " * self._indent + text, node, base))

    def new(self, letter: str = "t") -> str:
        """A name that is not used yet."""
        self._count += 1
        return f"{letter}{self._count}"

    def set(self, text: str, node: Any, base: str = "") -> str:
        """A name for what `text` gives, where that may fail."""
        name = self.new()
        self.line(f"{name} = {text}", node, base)
        return name

    def constant(self, value: Any) -> str:
        """A name for a constant."""
        name = self.new("k")
        self.space[name] = value
        return name

    def meter(self) -> str:
        """The name of the steps' meter."""
        self.metered = True
        return "m"

    @contextmanager
    def indented(self, text: str, *, block: bool = False) -> Iterator[None]:
        """Lines under `text`; a `block` counts to Python's limit."""
        self.line(text)
        self._indent += 1
        self._blocks += block
        yield
        self._indent -= 1
        self._blocks -= block

    def throw(self, error: str) -> None:
        """Raises what a name holds; the name lets go of it, or error, traceback and frame would hold each other."""
        with self.indented("try:"):
            self.line(f"raise {error}")
        with self.indented("finally:"):
            self.line(f"{error} = None")

    @contextmanager
    def guarded(self) -> Iterator[list[Line]]:
        """Lines that get a try around them if any of them may fail; the list given is filled when it does."""
        outer, self._lines = self._lines, []
        self._indent += 1
        self._blocks += 1
        fails: list[Line] = []
        yield fails
        self._indent -= 1
        self._blocks -= 1
        inner, self._lines = self._lines, outer
        if any(line.node is not None for line in inner):
            fails.append(inner[0])
            self.line("try:")
            self._lines += inner
            with self.indented("except STOPS:"):
                self.line("raise")
        else:
            self._lines += [Line(line.text[1:]) for line in inner]

    @contextmanager
    def bound(self, names: Mapping[str, str]) -> Iterator[None]:
        """The variables of a macro, and the Python names that hold them."""
        before = self.locals
        self.locals = {**before, **names}
        yield
        self.locals = before

    # -- nodes

    def atom(self, node: Any) -> str:
        """A name or a literal for the node's value."""
        text = self.value(node)
        if text.isidentifier() or isinstance(node, Constant):
            return text
        return self.set(text, None)

    def named(self, node: Any) -> str:
        """A name for the node's value, also of a literal: Python warns of `1["a"]` and `1 is None`."""
        return self.constant(node.value) if isinstance(node, Constant) else self.atom(node)

    def value(self, node: Any) -> str:
        """A Python expression that cannot fail and is used once."""
        match node:
            case Constant():
                return self._constant(node.value)
            case Name():
                return self._name(node)
            case Select():
                return self._select(node)
            case Index():
                return self._index(node)
            case Call():
                return self._call(node)
            case ListOf():
                return self._list(node)
            case MapOf():
                return self._map(node)
        if self._blocks >= _BLOCKS or self._indent > 4 * _BLOCKS:
            return self._apart(node)
        match node:
            case Logic():
                return self._logic(node)
            case Ternary():
                return self._ternary(node)
            case Macro():
                return loop(self, node)
        raise AssertionError(node)

    def _apart(self, node: Any) -> str:
        """A function of its own for what stands too deep in others."""
        name = self.new("p")
        outer = self._lines, self._indent, self._blocks
        self._lines, self._indent, self._blocks = [], 1, 0
        result = self.value(node)
        self.line(f"return {result}")
        given = ", ".join(["s", self.meter(), *dict.fromkeys(self.locals.values())])
        self.written += [Line(f"def {name}({given}):"), *self._lines]
        self._lines, self._indent, self._blocks = outer
        return self.set(f"{name}({given})", node)

    def _constant(self, value: Any) -> str:
        if value is None or type(value) in (bool, str):
            return repr(value)
        if type(value) is int:
            return str(value) if value >= 0 else f"({value})"
        return self.constant(value)

    def written_constant(self, node: Any) -> str:
        """An operand: a double literal keeps its digits."""
        if isinstance(node, Constant) and node.digits is not None and type(node.value) is float:
            return self.constant(Written(node.digits))
        return self.atom(node)

    def _name(self, node: Name) -> str:
        if node.local:
            return self.locals[node.name]
        return self.set(f"s[{node.name!r}]", node)

    def _select(self, node: Select) -> str:
        if node.optional:
            return self.set(f"pick({self.atom(node.operand)}, {node.field!r})", node)
        fields: list[str] = []
        base: Any = node
        while isinstance(base, Select) and not base.optional:
            fields.insert(0, f"[{base.field!r}]")
            base = base.operand
        whole = isinstance(base, Name) and not base.local
        start = f"s[{base.name!r}]" if whole else self.named(base)
        return self.set(start + "".join(fields), node, "" if whole else start)

    def _index(self, node: Index) -> str:
        operand, index = self.named(node.operand), self.atom(node.index)
        if node.optional:
            return self.set(f"pick_item({operand}, {index})", node)
        if isinstance(node.index, Constant) and type(node.index.value) is int and node.index.value >= 0:
            quick = f"{operand}[{index}] if type({operand}) is list else item({operand}, {index})"
            return self.set(quick, node, operand)
        return self.set(f"item({operand}, {index})", node, operand)

    def _list(self, node: ListOf) -> str:
        items = f"[{', '.join([self.atom(item) for item in node.items])}]"
        if not node.optional:
            return items
        return self.set(f"build_list({items}, {self.constant(frozenset(node.optional))})", node)

    def _map(self, node: MapOf) -> str:
        keys = [key.value for key, _ in node.entries if isinstance(key, Constant) and type(key.value) is str]
        pairs = [(self.atom(key), self.atom(value)) for key, value in node.entries]
        if len(set(keys)) == len(node.entries) and not node.optional:
            return f"{{{', '.join(f'{key}: {value}' for key, value in pairs)}}}"
        entries = "".join(f"({key}, {value}), " for key, value in pairs)
        return self.set(f"build_map(({entries}), {self.constant(frozenset(node.optional))})", node)

    def _call(self, node: Call) -> str:
        if node.name in _ARITHMETIC:
            return self._arithmetic(node)
        if node.name == "!":
            return f"(not {self.condition(node.arguments[0])})"
        if node.name == "-_":
            return self.set(f"negate({self.written_constant(node.arguments[0])})", node)
        compared = comparison(self, node)
        if compared is not None:
            return compared
        function = self._functions.get(node.name)
        given = self.written_constant if function is not None and function.by_digits else self.atom
        arguments = [given(argument) for argument in node.arguments]
        if function is None or not function.fits(len(arguments)):
            return self.set(f"unknown({node.name!r})", node)
        called = f"{self.constant(function.call)}({', '.join(['s'] * function.wants_scope + arguments)})"
        return self.set(f"{self.meter()}.made({called})" if function.sized else called, node)

    def _arithmetic(self, node: Call) -> str:
        left, right = (self.written_constant(argument) for argument in node.arguments)
        made = f"{_ARITHMETIC[node.name]}({left}, {right})"
        sized = self.loops and node.name == "+" and node.type in ("dyn", "string", "bytes", "list")
        return self.set(f"{self.meter()}.made({made})" if sized else made, node)

    # -- conditions

    def condition(self, node: Any) -> str:
        """A name for a value that is certainly true or false."""
        text = self.value(node)
        if node.type == "bool":
            return text
        name = text if text.isidentifier() else self.set(text, None)
        with self.indented(f"if {name} is not True and {name} is not False:"):
            self.line(f"not_bool({name})", node)
        return name

    def _logic(self, node: Logic) -> str:
        """An error of one part counts only where no other part decides (cel-spec, logical operators)."""
        result, error = self.new("r"), self.new("x")
        going_on = result if node.operator == "&&" else f"not {result}"
        neutral = "True" if node.operator == "&&" else "False"
        start = len(self._lines)
        absorbed = False
        for place, part in enumerate(node.parts):
            if place:
                with self.indented(f"if {going_on}:"):
                    absorbed |= self._part(part, result, error, neutral)
            else:
                absorbed |= self._part(part, result, error, neutral)
        if absorbed:
            self._lines.insert(start, Line(f"{' ' * self._indent}{error} = None"))
            with self.indented(f"if {error} is not None:"):
                with self.indented(f"if {going_on}:"):
                    self.throw(error)
                self.line(f"{error} = None")
        return result

    def _part(self, part: Any, result: str, error: str, neutral: str) -> bool:
        with self.guarded() as fails:
            self.line(f"{result} = {self.condition(part)}")
        if fails:
            with self.indented("except Exception as e:"):
                with self.indented(f"if {error} is None:"):
                    self.line(f"{error} = e")
                self.line(f"{result} = {neutral}")
        return bool(fails)

    def _ternary(self, node: Ternary) -> str:
        result, condition = self.new("r"), self.condition(node.condition)
        with self.indented(f"if {condition}:"):
            self.line(f"{result} = {self.value(node.yes)}")
        with self.indented("else:"):
            self.line(f"{result} = {self.value(node.no)}")
        return result
