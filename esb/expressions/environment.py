"""What the expressions of one table may use, and the way from a text to a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Any, Final

from esb.expressions.cases import Cases
from esb.expressions.checker import Checker
from esb.expressions.functions import STANDARD, Function, of_dates, of_plugins
from esb.expressions.lexer import fault
from esb.expressions.parser import parse, parse_placeholder
from esb.expressions.program import Program
from esb.expressions.syntax import ExpressionProblems, Finding
from esb.expressions.templates import TemplateProgram

VARIABLES: Final = frozenset(
    ("body", "raw", "header", "source", "part", "parent", "message", "now", "today", "var", "item", "status", "reply")
)
_TYPES: Final = {"header": "map", "now": "timestamp", "today": "string"}
LONGEST: Final = 20_000
"""How many characters an expression may have."""


class Environment:
    """Variables, functions, a budget of steps and the bus's zone. Programs are kept by their text."""

    def __init__(
        self,
        functions: Mapping[str, Callable[..., Any]] = {},
        budget: int = 1_000_000,
        zone: tzinfo = UTC,
        variables: frozenset[str] | None = None,
        *,
        container: str = "",
        checked: bool = True,
    ) -> None:
        self.budget: Final = budget
        self.zone: Final = zone
        self.variables: Final = VARIABLES if variables is None else variables
        self.functions: Final[Mapping[str, Function]] = {**STANDARD, **of_dates(zone), **of_plugins(functions)}
        self._container = container
        self._checked = checked
        self._programs: dict[str, Program] = {}
        self._templates: dict[str, TemplateProgram] = {}

    def compile(self, text: str) -> Program:
        """Raises ExpressionProblems with every finding."""
        program = self._programs.get(text)
        if program is None:
            _limited(text)
            tree, findings = self._typed(text, parse(text))
            if findings:
                raise ExpressionProblems(text, findings)
            program = self._programs[text] = Program(text, tree, self.functions, self.budget)
        return program

    def _typed(self, text: str, tree: Any) -> tuple[Any, tuple[Finding, ...]]:
        checker = Checker(text, self.functions, self.variables, _TYPES, self._container)
        typed = checker.check(tree)
        if not self._checked:
            return typed, ()
        return typed, tuple(sorted(checker.findings, key=lambda finding: finding.offset))

    def compile_template(self, text: str) -> TemplateProgram:
        """A text with `{CEL}` in it; the offsets of findings count in the whole text."""
        template = self._templates.get(text)
        if template is None:
            _limited(text)
            template = self._templates[text] = TemplateProgram(text, self._segments(text))
        return template

    def _segments(self, text: str) -> tuple[str | Program, ...]:
        segments: list[str | Program] = []
        findings: list[Finding] = []
        plain, place = "", 0
        while place < len(text):
            letter = text[place]
            if letter not in "{}":
                end = min((found for mark in "{}" if (found := text.find(mark, place)) >= 0), default=len(text))
                plain, place = plain + text[place:end], end
            elif text[place : place + 2] == letter * 2:
                plain, place = plain + letter, place + 2
            elif letter == "}":
                raise fault(text, place, place + 1, "a } without its {", "write }} for a brace", "E226")
            else:
                tree, end = parse_placeholder(text, place + 1)
                typed, wrong = self._typed(text, tree)
                findings += wrong
                segments += [plain] if plain else []
                segments.append(self._placeholder(text, place + 1, end, typed))
                plain, place = "", end + 1
        if findings:
            raise ExpressionProblems(text, tuple(findings))
        return (*segments, plain) if plain or not segments else tuple(segments)

    def _placeholder(self, text: str, start: int, end: int, tree: Any) -> Program:
        """Its errors show the placeholder's own text; offsets at run time count in that."""
        inner = text[start:end]
        try:
            return self.compile(inner)
        except ExpressionProblems:
            return Program(text, tree, self.functions, self.budget, start)

    def compile_cases(self, texts: Sequence[str | None]) -> Cases:
        """A case list; None stands for otherwise. Raises ExpressionProblems of the first case that has any."""
        return Cases([None if text is None else self.compile(text) for text in texts])


def _limited(text: str) -> None:
    if len(text) > LONGEST:
        raise fault(text, LONGEST, len(text), f"an expression of over {LONGEST} characters", "", "E225")
