"""Compiled expressions: one environment for a table, one program for a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, tzinfo
from decimal import Decimal
from typing import Any, Final

from esb.errors import EsbError, ExpressionError
from esb.expressions.checker import Checker, paths
from esb.expressions.compiler import Compiled, compile_tree
from esb.expressions.functions import STANDARD, Function
from esb.expressions.parser import parse
from esb.expressions.syntax import ExpressionProblems
from esb.expressions.trace import Leaf, Trace, leaves_of
from esb.expressions.values import Optional

VARIABLES: Final = frozenset(
    [
        "body",
        "raw",
        "header",
        "source",
        "part",
        "parent",
        "message",
        "now",
        "today",
        "var",
        "item",
        "status",
        "reply",
        "namespaces",
        "state",
    ]
)


class Program:
    """One compiled expression. Pure: the same scope gives the same value."""

    __slots__ = ("_budget", "_compiled", "_environment", "_run", "fields", "text", "tree", "type")

    def __init__(self, text: str, tree: Any, kind: str, compiled: Compiled, environment: Environment) -> None:
        self.text = text
        self.tree = tree
        self.type = kind
        self.fields = frozenset(paths(tree))
        self._compiled = compiled
        self._run = compiled.run
        self._budget = environment.budget
        self._environment = environment

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """The value; raises MissingField, BudgetExceeded or ExpressionError with the text and the offset in it."""
        try:
            return self._run(scope, self._budget)
        except EsbError as error:
            if isinstance(error, ExpressionError) and not error.text:
                error.text, error.offset = self.text, self._compiled.offset(error)
            raise
        except RecursionError as error:
            raise self._failed("nested too deeply", error) from None
        except Exception as error:
            raise self._failed(f"{type(error).__name__}: {error}", error) from error

    def _failed(self, message: str, error: BaseException) -> ExpressionError:
        return ExpressionError(message, text=self.text, offset=self._compiled.offset(error))

    def text_value(self, scope: Mapping[str, Any], quote: str | None = None) -> str:
        """The value as a placeholder's text (see templates.placeholder_text)."""
        return self._environment.placeholder_text(self.evaluate(scope), quote, self.text)

    def trace(self, scope: Mapping[str, Any]) -> Trace:
        """The value of every leaf, and which one decided."""
        value, error = self._tried(scope)
        leaves = tuple(
            Leaf(text=self.text[node.start : node.end], offset=node.start, decided=decided, **self._leaf(node, scope))
            for node, decided in leaves_of(self.tree, lambda node: self._value(node, scope))
        )
        return Trace(value=value, error=None if error is None else str(error), leaves=leaves)

    def _tried(self, scope: Mapping[str, Any]) -> tuple[Any, EsbError | None]:
        try:
            return self.evaluate(scope), None
        except EsbError as error:
            return None, error

    def _value(self, node: Any, scope: Mapping[str, Any]) -> Any:
        """The value of a part, or the error as a value."""
        part = self._environment.part(self.text, node)
        value, error = part._tried(scope)
        return value if error is None else error

    def _leaf(self, node: Any, scope: Mapping[str, Any]) -> dict[str, Any]:
        value = self._value(node, scope)
        sides = tuple(
            (self.text[side.start : side.end], self._value(side, scope))
            for side in (getattr(node, "arguments", ()) if getattr(node, "function", "")[:1] == "_" else ())
        )
        failed = isinstance(value, EsbError)
        return {"value": None if failed else value, "error": str(value) if failed else None, "sides": sides}


class Environment:
    """What expressions may use: variables, functions, a budget of steps, the bus's zone. Programs are kept by text."""

    def __init__(
        self,
        functions: Mapping[str, Callable[..., Any]] = {},
        budget: int = 1_000_000,
        zone: tzinfo = UTC,
        variables: frozenset[str] | None = None,
    ) -> None:
        self.budget = budget
        self.zone = zone
        self.variables = VARIABLES if variables is None else variables
        self.functions: dict[str, Function] = dict(STANDARD)
        for name, call in functions.items():
            wants = bool(getattr(call, "wants_scope", False))
            self.functions[name] = Function(name, call, 0, 100, "both", needs_scope=wants)
        self._programs: dict[str, Program] = {}
        self._templates: dict[str, Any] = {}

    def compile(self, text: str) -> Program:
        """Raises ExpressionProblems with every finding."""
        program = self._programs.get(text)
        if program is None:
            tree = parse(text)
            checker = Checker(text, self.functions, self.variables)
            kind = checker.check(tree)
            if checker.findings:
                raise ExpressionProblems(text, tuple(sorted(checker.findings, key=lambda found: found.offset)))
            program = self.part(text, tree, kind)
            self._programs[text] = program
        return program

    def part(self, text: str, tree: Any, kind: str = "dyn") -> Program:
        """A part of a checked expression as a program of its own."""
        return Program(text, tree, kind, compile_tree(text, tree, self.functions, self.variables), self)

    def compile_template(self, text: str) -> TemplateProgram:
        """A text with `{CEL}` in it; offsets of findings count in the whole text."""
        found = self._templates.get(text)
        if found is None:
            found = self._templates[text] = TemplateProgram(text, segments(text, self))
        made: TemplateProgram = found
        return made

    def compile_cases(self, texts: Sequence[str | None]) -> Cases:
        """A case list; None stands for otherwise."""
        return Cases([None if text is None else self.compile(text) for text in texts])

    def placeholder_text(self, value: Any, quote: str | None, text: str) -> str:
        return placeholder_text(value, quote, text)


def exact(value: Any) -> Any:
    """A result as a message holds it: no optionals, no unsigned type."""
    if isinstance(value, Optional):
        return exact(value.value) if value.has_value else None
    return Decimal(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value


# At the end: a template and a case list are made of programs, and an environment makes them.
from esb.expressions.cases import Cases  # noqa: E402
from esb.expressions.templates import TemplateProgram, placeholder_text, segments  # noqa: E402
