"""How a value stands in a text, and how it is escaped for where that text goes."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import quote as percent

from esb.errors import ExpressionError
from esb.expressions.conversions import to_string
from esb.expressions.values import Optional, said

Quote = Literal["url", "header", "file"]
_REFUSED = {"header": "\r\n\0", "file": "/\\\0"}


def placeholder_value(value: Any, text: str, offset: int = 0) -> Any:
    """A placeholder's value with its type: that of an optional; null and none are errors."""
    if type(value) is Optional:
        value = value.value if value.has_value else None
    if value is None:
        raise ExpressionError(
            f"{{{text:.60}}} is null, and a template needs a value; default(x, ...) gives one",
            code="M261", text=text, offset=offset, place=text[:80],
        )  # fmt: skip
    return value


def placeholder_text(value: Any, quote: str | None, text: str, offset: int = 0) -> str:
    """A value as it stands in a text; raises ExpressionError where it cannot."""
    value = placeholder_value(value, text, offset)
    if not isinstance(value, (str, bool, int, float, Decimal, bytes, datetime, timedelta)):
        raise ExpressionError(
            f"{{{text:.60}}} is {said(value)}: it cannot stand in a text",
            code="M261", text=text, offset=offset, place=text[:80],
        )  # fmt: skip
    try:
        return escaped(to_string(value), quote, text, offset)
    except ExpressionError as error:
        error.text, error.offset = text, offset
        raise


def escaped(plain: str, quote: str | None, text: str, offset: int = 0) -> str:
    """`url` percent-encodes; `header` and `file` refuse what would mean something there."""
    if quote is None:
        return plain
    if quote == "url":
        return percent(plain, safe="")
    bad = next((letter for letter in plain if letter in _REFUSED[quote]), None)
    if bad is None and quote == "file" and (not plain or plain[0] in ".-"):
        bad = plain[:1]
    if bad is not None:
        where = "a header" if quote == "header" else "a file's name"
        shown = f"holds {bad!r}" if bad in _REFUSED[quote] else f"begins with {bad!r}"
        raise ExpressionError(
            f"{{{text:.60}}} {shown if plain else 'is empty'}: it cannot stand in {where}",
            code="M262", text=text, offset=offset, place=text[:80],
        )  # fmt: skip
    return plain
