"""How numbers and moments are spelled in text formats: every digit, no exponent, RFC 3339."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from math import isfinite
from typing import Final

LARGEST_EXPONENT: Final = 10_000
"""A decimal is written out in full; one that would need more zeros than this is refused."""


def spell_number(value: int | float | Decimal) -> str:
    """Exact digits, trailing zeros kept: `1.50`, never `1.5E0`. Raises ValueError for NaN, infinity and giants."""
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} is no number")
        if abs(int(value.as_tuple().exponent)) > LARGEST_EXPONENT:
            raise ValueError(f"{value} is too large, or too small, to be written out")
        return f"{value:f}"
    if isinstance(value, float):
        if not isfinite(value):
            raise ValueError(f"{value} is no number")
        return repr(float(value))
    return str(int(value))


def spell_moment(value: date | timedelta) -> str:
    """RFC 3339 with an offset (UTC where the value has none); a duration in seconds, as CEL writes it: `90s`."""
    if isinstance(value, timedelta):
        microseconds = Decimal(value // timedelta(microseconds=1))
        seconds = f"{microseconds / 1_000_000:f}"
        return (seconds.rstrip("0").rstrip(".") if "." in seconds else seconds) + "s"
    if not isinstance(value, datetime):
        return value.isoformat()
    moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return moment.isoformat().replace("+00:00", "Z")
