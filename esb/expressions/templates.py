"""Texts with `{CEL}` in them: where the placeholders are, and how their values are written and escaped."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import quote as percent

from msgspec.structs import replace

from esb.errors import ExpressionError, MissingField
from esb.expressions import texts
from esb.expressions.lexer import fault, tokens
from esb.expressions.syntax import ExpressionProblems
from esb.expressions.values import Optional, said

if TYPE_CHECKING:
    from esb.expressions.programs import Environment, Program


class TemplateProgram:
    """A compiled template: plain texts and programs, in order. `constant` is the text of one without placeholders."""

    __slots__ = ("constant", "segments", "text")

    def __init__(self, text: str, found: tuple[str | Program, ...]) -> None:
        self.text = text
        self.segments = found
        plain = all(isinstance(segment, str) for segment in found)
        self.constant = "".join(str(segment) for segment in found) if plain else None

    def fill(self, scope: Mapping[str, Any], quote: str | None = None) -> Any:
        """The text; exactly one placeholder and no quoting gives the value with its type.

        Raises MissingField or ExpressionError, also for null.
        """
        if len(self.segments) == 1 and quote is None and not isinstance(self.segments[0], str):
            value = self.segments[0].evaluate(scope)
            return unwrapped(value, self.text)
        return "".join(
            segment if isinstance(segment, str) else segment.text_value(scope, quote) for segment in self.segments
        )


def unwrapped(value: Any, text: str) -> Any:
    """A placeholder's value: an optional's own; null or none are errors."""
    if isinstance(value, Optional):
        value = value.value if value.has_value else None
    if value is None:
        raise MissingField(f"{{{text}}} is null: a template needs a value", text=text, place=text)
    return value


def segments(text: str, environment: Environment) -> tuple[str | Program, ...]:
    """Splits a template; the CEL lexer finds each placeholder's end, so braces and texts inside it are no matter."""
    found: list[str | Program] = []
    plain: list[str] = []
    place = 0
    while place < len(text):
        letter = text[place]
        if text.startswith(("{{", "}}"), place):
            plain.append(letter)
            place += 2
        elif letter == "{":
            end = _end(text, place)
            if plain:
                found.append("".join(plain))
                plain = []
            found.append(_program(text, place + 1, end, environment))
            place = end + 1
        elif letter == "}":
            raise fault(text, place, place + 1, "a } without its {", "write }} for a brace", "E226")
        else:
            plain.append(letter)
            place += 1
    if plain or not found:
        found.append("".join(plain))
    return tuple(found)


def _end(text: str, start: int) -> int:
    end = tokens(text, start + 1, until="}")[-1].end
    if text[end : end + 1] != "}":
        raise fault(text, start, start + 1, "a { without its }", "write {{ for a brace", "E226")
    return end


def _program(text: str, start: int, end: int, environment: Environment) -> Program:
    inner = text[start:end]
    if not inner.strip():
        raise fault(text, start - 1, end + 1, "an empty placeholder", "write {{}} for the braces", "E226")
    try:
        return environment.compile(inner)
    except ExpressionProblems as problems:
        moved = tuple(replace(found, offset=found.offset + start) for found in problems.findings)
        raise ExpressionProblems(text, moved) from None


def placeholder_text(value: Any, quote: str | None, text: str) -> str:
    """A value as it stands in a text, escaped for where that text goes."""
    value = unwrapped(value, text)
    if isinstance(value, str):
        plain = value
    elif isinstance(value, (bool, int, float, Decimal, datetime, timedelta)):
        plain = texts.plain(value)
    else:
        raise ExpressionError(f"{{{text}}} is {said(value)}: it cannot stand in a text", code="M254", text=text)
    return escaped(plain, quote, text)


def escaped(plain: str, quote: str | None, text: str) -> str:
    """`url` percent-encodes, `header` and `file` refuse what would mean something there."""
    match quote:
        case "url":
            return percent(plain, safe="")
        case "header":
            if any(letter in plain for letter in "\r\n\0"):
                raise ExpressionError(
                    f"{{{text}}} holds a line break or NUL: it cannot be a header", code="M261", text=text
                )
        case "file":
            if not plain or plain[0] in ".-" or any(letter in plain for letter in "/\\\0"):
                raise ExpressionError(
                    f"{{{text}}} cannot be part of a file's name: {plain[:40]!r}", code="M262", text=text
                )
    return plain
