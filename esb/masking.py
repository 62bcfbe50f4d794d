"""What of a value may be seen in logs and errors: little of it, on one line, and nothing of a secret."""

from __future__ import annotations

import re
from typing import Any, Final

LONGEST: Final = 40
"""Characters of a value that are shown at most."""

_SECRET: Final = re.compile(r"password|token|authorization|iban|(?<![a-z])(?:card|ssn)", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """A field whose name says that its value is nobody's business."""
    return _SECRET.search(name) is not None


def one_line(text: str, longest: int = LONGEST) -> str:
    """The text on one line: control characters as escapes, so that no message forges a line; cut to its length."""
    cut = text if len(text) <= longest else f"{text[:longest]}..."
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in cut)


def shown(value: Any, name: str = "") -> str:
    """A value as an error may show it; `***` for a field named like a secret, the kind for what has parts."""
    if is_secret(name):
        return "***"
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return f'"{one_line(value)}"'
    return "null" if value is None else one_line(str(value).lower() if isinstance(value, bool) else str(value))
