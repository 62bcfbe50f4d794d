"""What went wrong, and where: an exception of a compiled function becomes one of ours, with text, place and advice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from esb.errors import ExpressionError, MessageError, MissingField, Problem
from esb.expressions.access import Absent, NotBool
from esb.expressions.compiler import Line
from esb.expressions.operators import Inexactly, Mismatch, Unreadable
from esb.expressions.spelling import closest
from esb.expressions.syntax import Call, Index, Macro, Name, Select
from esb.expressions.values import NUMBERS, said
from esb.masking import is_secret

_CONTAINERS = "lists and maps"
_TAKES = {
    "+": "numbers, texts, lists, timestamps and durations", "-": "numbers, timestamps and durations",
    "*": "numbers", "/": "numbers", "%": "whole numbers and decimals",
    "<": "two numbers or two texts", "<=": "two numbers or two texts",
    ">": "two numbers or two texts", ">=": "two numbers or two texts",
}  # fmt: skip


class AbsentField(MissingField):
    """A field that is not there. What it says (and the near names) is worked out only when somebody asks."""

    def __init__(self, text: str, offset: int, place: str, owner: Any, field: Any) -> None:
        Exception.__init__(self)
        self.text = text
        self.offset = offset
        self.place = place
        self._owner = owner
        self._field = field

    def __str__(self) -> str:
        owner, field = self._owner, self._field
        if isinstance(owner, Mapping):
            hint = closest(str(field), [key for key in owner if isinstance(key, str)][:200])
            return f"{self.place} is missing{f'; {hint}' if hint else ''}"
        if isinstance(owner, (list, tuple)):
            return f"{self.place} is missing: the list has {len(owner)} items, counted from 0"
        return f"{self.place} is missing: what should hold it is {'null' if owner is None else 'empty'}"

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The one finding."""
        return (Problem(self.code, str(self), place=self.place),)

    @errors.setter
    def errors(self, value: tuple[Problem, ...]) -> None:
        raise AttributeError("a missing field says what it says")


class Failures:
    """Explains the exceptions of one compiled expression."""

    def __init__(self, text: str, lines: Sequence[Line], space: Mapping[str, Any]) -> None:
        self._text = text
        self._lines = lines
        self._space = space

    def missing(self, error: Exception, scope: Mapping[str, Any]) -> None:
        """Returns when the error is a missing field; raises any other, explained."""
        found = self.explained(error, scope)
        if not isinstance(found, MissingField):
            raise found

    def explained(self, error: Exception, scope: Mapping[str, Any]) -> ExpressionError:
        """The error as one of ours, with the text and the offset of the part that failed."""
        if isinstance(error, ExpressionError) and error.text == self._text:
            return error
        found = self._found(error, scope)
        if found.__cause__ is None:
            error.__traceback__ = None  # its frames hold it
        return found

    def _found(self, error: Exception, scope: Mapping[str, Any]) -> ExpressionError:
        line, local = self._place(error.__traceback__)
        node = line.node
        if isinstance(error, (KeyError, TypeError, IndexError)) and isinstance(node, (Select, Index, Name)):
            return self._unreachable(node, line.base, local, scope, error)
        if isinstance(error, Absent):
            return self._absent(node, error.owner, error.key)
        if isinstance(error, Mismatch):
            return self._mismatch(error, node)
        if isinstance(error, Unreadable) and node is not None and is_secret(self._text[node.start : node.end]):
            return self._failed(f"*** {error.rest}", node.start, error.code)
        if isinstance(error, NotBool) and node is not None:
            message = f"{self._said(node)} is {said(error.value)}, where true or false is wanted"
            return self._failed(message, node.start, "M253", self._said(node))
        offset = node.start if node is not None else 0
        if isinstance(error, ExpressionError):
            error.text, error.offset = self._text, offset
            return error
        if isinstance(error, RecursionError):
            return self._failed("the value is nested too deeply", offset)
        if isinstance(error, MessageError):
            return self._failed(str(error), offset, error.code)
        name = f"{node.name}(): " if isinstance(node, Call) else ""
        unforeseen = self._failed(f"{name}{type(error).__name__}: {str(error)[:200]}", offset)
        unforeseen.__cause__ = error  # a function's own fault: who mends it wants to see where
        return unforeseen

    def _failed(self, message: str, offset: int, code: str = "M250", place: str = "") -> ExpressionError:
        return ExpressionError(message, code=code, text=self._text, offset=offset, place=place)

    def _place(self, trace: TracebackType | None) -> tuple[Line, Mapping[str, Any]]:
        """The innermost line of this expression, and what its names held."""
        line, local = Line(""), {}
        while trace is not None:
            if trace.tb_frame.f_globals is self._space and self._lines[trace.tb_lineno - 1].node is not None:
                line, local = self._lines[trace.tb_lineno - 1], trace.tb_frame.f_locals
            trace = trace.tb_next
        return line, local

    # -- fields

    def _unreachable(
        self, node: Any, base: str, local: Mapping[str, Any], scope: Mapping[str, Any], error: Exception
    ) -> ExpressionError:
        """Walks a chain of fields again, up to the one that cannot be read."""
        steps: list[Any] = []
        while isinstance(node, Select) and not node.optional:
            steps.insert(0, node)
            node = node.operand
        if isinstance(node, Name) and not base:
            try:
                value = scope[node.name]
            except KeyError:
                return self._failed(f"there is no {node.name} here", node.start, place=node.name)
        else:
            value = local.get(base)
        if not steps:
            return self._absent(node, value, getattr(getattr(node, "index", None), "value", None))
        for step in steps:
            try:
                value = value[step.field]
            except KeyError:
                return self._absent(step, value, step.field)
            except TypeError:
                return self._no_fields(step, value)
        return self._failed(f"{type(error).__name__}: {error}", node.start)

    def _absent(self, node: Any, owner: Any, key: Any) -> MissingField:
        if isinstance(node, (Select, Index)):
            return AbsentField(self._text, self._field_offset(node), self._said(node), owner, key)
        return AbsentField(self._text, node.start, self._said(node), owner, key)

    def _no_fields(self, node: Select, owner: Any) -> ExpressionError:
        """null and an empty text (XML's empty element) hold no fields: those are missing."""
        if owner is None or owner == "":
            return self._absent(node, owner, node.field)
        path, holder = self._said(node), self._said(node.operand)
        hint = ""
        if isinstance(owner, (list, tuple)):
            hint = f"; take one with {holder}[0], or all with {holder}.map(x, x.{node.field})"
        elif isinstance(owner, bytes):
            hint = "; a read step makes a tree of it"
        message = f"{holder} is {said(owner)}: it has no field {node.field}{hint}"
        return self._failed(message, self._field_offset(node), "M254", path)

    def _field_offset(self, node: Select | Index) -> int:
        offset = int(node.operand.end)
        while offset < len(self._text) - 1 and self._text[offset] in " .?[()\n\t\r":
            offset += 1
        return offset

    def _said(self, node: Any) -> str:
        written = self._text[node.start : node.end].strip()
        return written if len(written) <= 80 else f"{written[:77]}..."

    # -- types

    def _mismatch(self, error: Mismatch, node: Any) -> ExpressionError:
        values, operator = error.values, error.operator
        parts = (node,) if operator in ("loop", "?") else _operands(node)
        if len(parts) == len(values) == 2:
            return self._two(error, parts)
        part = parts[error.at] if error.at < len(parts) else node
        holder = self._said(part)
        if operator in ("[]", "[?]", ".?", "loop", "has()"):
            what = {"loop": f"a loop goes over {_CONTAINERS}", "has()": "it has no fields", ".?": "it has no fields"}
            message = f"{holder} is {said(values[0])}: {what.get(operator, 'it has no such items')}"
        else:
            message = f"{holder} is {said(values[0])}: {operator.removesuffix('_')} does not take it"
        return self._failed(message, part.start, "M254", holder)

    def _two(self, error: Mismatch, parts: Sequence[Any]) -> ExpressionError:
        operator, values = error.operator, error.values
        for at, other in ((0, 1), (1, 0)):
            if type(values[at]) is str and type(values[other]) is not bool and isinstance(values[other], NUMBERS):
                whole = isinstance(values[other], int) and not _has_fraction(values[at])
                wanted = "int" if whole else "decimal"
                holder = self._said(parts[at])
                hint = f"write {wanted}({holder})"
                if operator == "+":
                    hint += f", or string({self._said(parts[other])}) to join texts"
                return self._failed(f"{holder} is a text; {hint}", parts[at].start, "M254", holder)
        for at in (0, 1):
            if isinstance(error, Inexactly) and isinstance(values[at], float):
                holder = self._said(parts[at])
                message = f"{holder} is a double: beside a decimal it is not exact; write decimal({holder})"
                return self._failed(message, parts[at].start, "M256", holder)
            if values[at] is None:
                holder = self._said(parts[at])
                return self._failed(f"{holder} is null: {operator} does not take it", parts[at].start, "M254", holder)
        if operator == "in":
            message = f"{self._said(parts[1])} is {said(values[1])}: in looks into lists and maps"
            if type(values[1]) is str:
                message += f"; write {self._said(parts[1])}.contains({self._said(parts[0])})"
            return self._failed(message, parts[1].start, "M254", self._said(parts[1]))
        for at, other in ((0, 1), (1, 0)):
            if type(values[at]) is int and isinstance(values[other], float):
                holder = self._said(parts[at])
                message = f"{holder} is a whole number and {self._said(parts[other])} a double: write decimal({holder})"
                return self._failed(message, parts[at].start, "M254", holder)
        one, two = (f"{self._said(part)} is {said(value)}" for part, value in zip(parts, values, strict=True))
        message = f"{one} and {two}: {operator} takes {_TAKES.get(operator, 'two of one type')}"
        return self._failed(message, parts[0].start, "M254", self._said(parts[0]))


def _has_fraction(text: str) -> bool:
    return "." in text


def _operands(node: Any) -> tuple[Any, ...]:
    """The parts whose values a mismatch is about."""
    match node:
        case Call(arguments=arguments):
            return tuple(arguments)
        case Macro(operand=operand):
            return (operand,)
        case Select(operand=operand) | Index(operand=operand):
            return (operand,)
        case _:
            return (node,)
