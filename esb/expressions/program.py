"""One compiled expression: evaluate it, trace it, put its value into a text."""

from __future__ import annotations

from collections.abc import Mapping
from types import CodeType
from typing import Any, Final

from esb.errors import ExpressionError
from esb.expressions.compiler import FILE, STOPS, Writer
from esb.expressions.explain import Trace, trace_of
from esb.expressions.failures import Failures
from esb.expressions.functions import Function
from esb.expressions.reading import fields_of
from esb.expressions.values import said
from esb.expressions.wording import placeholder_text


class Program:
    """One compiled expression. Pure: the same scope gives the same value; the scope and its trees are never copied."""

    __slots__ = ("_budget", "_failures", "_fields", "_functions", "_parts", "_run", "offset", "text", "tree", "type")

    def __init__(self, text: str, tree: Any, functions: Mapping[str, Function], budget: int, offset: int = 0) -> None:
        self.text: Final = text
        self.tree: Final = tree
        self.type: Final[str] = tree.type
        self.offset = offset
        self._functions = functions
        self._budget = budget
        self._failures: Failures | None = None
        self._fields: frozenset[str] | None = None
        self._run = self._first
        self._parts: dict[int, Program] = {}

    @property
    def fields(self) -> frozenset[str]:
        """The paths of the message's fields that it reads: `body.Order.Total`, `header["x-channel"]`."""
        if self._fields is None:
            self._fields = fields_of(self.tree)
        return self._fields

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """The value. Raises MissingField, BudgetExceeded or ExpressionError, with the text and the offset in it."""
        try:
            return self._run(scope)
        except Exception as error:
            failed = self._explained(error, scope)
        try:
            raise failed  # out here, so that it does not hold the frames of what it explains
        finally:
            del failed  # or it and this frame would hold each other

    def _first(self, scope: Mapping[str, Any]) -> Any:
        """The function is written when it is first needed: checking five hundred routes needs none."""
        writer = Writer(self._functions)
        source = writer.program(self.tree)
        space = writer.space
        failures = Failures(self.text, writer.written, space)
        space |= {"budget": self._budget, "missing": failures.missing, "explained": failures.explained}
        code: CodeType = compile(source, FILE, "exec")
        exec(code, space)
        self._failures = failures
        self._run = space["run"]
        return self._run(scope)

    def _explained(self, error: Exception, scope: Mapping[str, Any]) -> Exception:
        if isinstance(error, STOPS) and not isinstance(error, ExpressionError):
            return error
        if self._failures is None:
            return ExpressionError(f"it cannot be compiled: {type(error).__name__}: {error}", text=self.text)
        return self._failures.explained(error, scope).with_traceback(None)

    def not_bool(self, value: Any) -> ExpressionError:
        """What to raise where this should have been true or false."""
        message = f"{self.text:.60} is {said(value)}, where true or false is wanted"
        return ExpressionError(message, code="M253", text=self.text, place=self.text[:80])

    def text_value(self, scope: Mapping[str, Any], quote: str | None = None) -> str:
        """The value as a text of a placeholder, escaped for where it goes; null is an error."""
        return placeholder_text(self.evaluate(scope), quote, self.text, self.offset)

    def part(self, node: Any) -> Program:
        """A part of this expression as a program of its own."""
        found = self._parts.get(id(node))
        if found is None:
            found = Program(self.text, node, self._functions, self._budget, node.start)
            self._parts[id(node)] = found
        return found

    def trace(self, scope: Mapping[str, Any]) -> Trace:
        """The value with the value of every leaf, and which one decided."""
        return trace_of(self, scope)
