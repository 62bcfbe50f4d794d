"""Texts with `{CEL}` in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from esb.expressions.program import Program
from esb.expressions.wording import placeholder_value


class TemplateProgram:
    """A compiled template: texts and programs in order. `constant` is the text of one that has no placeholder."""

    __slots__ = ("constant", "segments", "text")

    def __init__(self, text: str, segments: tuple[str | Program, ...]) -> None:
        self.text: Final = text
        self.segments: Final = segments
        plain = [segment for segment in segments if isinstance(segment, str)]
        self.constant: Final = "".join(plain) if len(plain) == len(segments) else None

    def fill(self, scope: Mapping[str, Any], quote: str | None = None) -> Any:
        """The text, each value escaped for where it goes; exactly one placeholder, unquoted, gives the value itself.

        Raises MissingField or ExpressionError; a null is one too.
        """
        if self.constant is not None:
            return self.constant
        if len(self.segments) == 1 and quote is None:
            program = self.segments[0]
            assert isinstance(program, Program)
            return placeholder_value(program.evaluate(scope), program.text, program.offset)
        return "".join(
            [segment if isinstance(segment, str) else segment.text_value(scope, quote) for segment in self.segments]
        )
