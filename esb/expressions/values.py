"""The values of expressions that Python has no type for, and how a value's type is called in CEL and in words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
UINT_MAX: Final = 2**64 - 1
NUMBERS: Final = (int, float, Decimal)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO: Final = timedelta(microseconds=1)


class Uint(int):
    """An unsigned whole number of 64 bit."""

    __slots__ = ()


class Written(float):
    """A double as it was written: beside a decimal its digits count, not its nearest double."""

    __slots__ = ("digits",)
    digits: Decimal

    def __new__(cls, text: str) -> Written:
        made = super().__new__(cls, text)
        made.digits = Decimal(text)
        return made


class TypeName:
    """A type as a value: `type(1) == int`."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypeName) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name


class Optional:
    """A value that may be absent (cel-spec, optional types). A field of it is an optional again."""

    __slots__ = ("has_value", "value")

    def __init__(self, has_value: bool, value: Any = None) -> None:
        self.has_value = has_value
        self.value = value

    def __getitem__(self, key: Any) -> Optional:
        """`optional.field`: none where the value or the field is absent; TypeError where the value has no fields."""
        value = self.value
        if not self.has_value:
            return self
        if isinstance(value, Mapping):
            return Optional(True, value[key]) if key in value else NONE
        if isinstance(value, Optional):
            return value[key]
        raise TypeError(f"{said(value)} has no fields")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Optional) or other.has_value != self.has_value:
            return False
        return not self.has_value or bool(other.value == self.value)

    __hash__ = None  # type: ignore[assignment]  # values may be lists

    def __repr__(self) -> str:
        return f"optional({self.value!r})" if self.has_value else "optional.none()"


NONE: Final = Optional(False)


class Moment(datetime):
    """A timestamp with nanoseconds; datetime alone holds microseconds. `rest` is what is below one of those."""

    rest: int = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, datetime) and instant(self) == instant(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: date) -> bool:
        return instant(self) < instant(other)

    def __le__(self, other: date) -> bool:
        return instant(self) <= instant(other)

    def __gt__(self, other: date) -> bool:
        return instant(self) > instant(other)

    def __ge__(self, other: date) -> bool:
        return instant(self) >= instant(other)

    def __hash__(self) -> int:
        return hash(instant(self))

    def isoformat(self, sep: str = "T", timespec: str = "auto") -> str:
        """With nine digits where no shorter form is asked for."""
        text = super().isoformat(sep, timespec)
        if timespec != "auto":
            return text
        whole, zone = super().isoformat(sep, "microseconds")[:26], text[-6:]
        return f"{whole}{self.rest:03}{zone}"


class Span(timedelta):
    """A duration with nanoseconds; `rest` is what is below a microsecond (0 to 999)."""

    rest: int = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, timedelta) and length(self) == length(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: timedelta) -> bool:
        return length(self) < length(other)

    def __le__(self, other: timedelta) -> bool:
        return length(self) <= length(other)

    def __gt__(self, other: timedelta) -> bool:
        return length(self) > length(other)

    def __ge__(self, other: timedelta) -> bool:
        return length(self) >= length(other)

    def __hash__(self) -> int:
        return hash(length(self))


def instant(moment: date) -> int:
    """Nanoseconds since 1970; TypeError for a date without a time."""
    if not isinstance(moment, datetime):
        raise TypeError("a date has no instant")
    return (moment - _EPOCH) // _MICRO * 1000 + (moment.rest if isinstance(moment, Moment) else 0)


def length(span: timedelta) -> int:
    """A duration in nanoseconds."""
    micro = (span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds
    return micro * 1000 + (span.rest if isinstance(span, Span) else 0)


def moment_at(nanoseconds: int) -> datetime:
    """The timestamp so long after 1970; OverflowError outside the years 1 to 9999."""
    micro, rest = divmod(nanoseconds, 1000)
    plain = _EPOCH + timedelta(microseconds=micro)
    if not rest:
        return plain
    made = Moment(
        plain.year, plain.month, plain.day, plain.hour, plain.minute, plain.second, plain.microsecond, UTC
    )  # fmt: skip
    made.rest = rest
    return made


def span_of(nanoseconds: int) -> timedelta:
    """The duration so long; OverflowError beyond what timedelta holds."""
    micro, rest = divmod(nanoseconds, 1000)
    if not rest:
        return timedelta(microseconds=micro)
    made = Span(microseconds=micro)
    made.rest = rest
    return made


_NAMES: Final[dict[type, str]] = {
    int: "int",
    Uint: "uint",
    float: "double",
    Written: "double",
    bool: "bool",
    str: "string",
    bytes: "bytes",
    list: "list",
    tuple: "list",
    dict: "map",
    type(None): "null_type",
    Decimal: "decimal",
    datetime: "timestamp",
    Moment: "timestamp",
    timedelta: "duration",
    Span: "duration",
    TypeName: "type",
    Optional: "optional_type",
}
WORDS: Final = {
    "int": "a whole number",
    "uint": "an unsigned whole number",
    "double": "a double",
    "bool": "true or false",
    "string": "a text",
    "bytes": "bytes",
    "list": "a list",
    "map": "a map",
    "null_type": "null",
    "decimal": "a decimal",
    "timestamp": "a timestamp",
    "duration": "a duration",
    "type": "a type",
    "optional_type": "an optional",
    "dyn": "any value",
}
_PROTOBUF: Final = {"timestamp": "google.protobuf.Timestamp", "duration": "google.protobuf.Duration"}
TYPES: Final = {
    name: TypeName(name)
    for name in (*(kind for kind in WORDS if kind not in _PROTOBUF and kind != "dyn"), *_PROTOBUF.values())
}
"""What a name of a type means in an expression."""


def type_name(value: Any) -> str:
    """The name of a value's type, as Program.type has it."""
    found = _NAMES.get(type(value))
    if found is not None:
        return found
    if isinstance(value, Mapping):
        return "map"
    return next((name for kind, name in _NAMES.items() if isinstance(value, kind)), type(value).__name__)


def type_of(value: Any) -> TypeName:
    """`type(x)`."""
    name = type_name(value)
    return TypeName(_PROTOBUF.get(name, name))


def said(value: Any) -> str:
    """A value's type in words."""
    name = type_name(value)
    return WORDS.get(name, name)
