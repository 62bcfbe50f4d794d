"""The values of expressions that Python has no type for, and what is said about types in messages."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
UINT_MAX: Final = 2**64 - 1


class Uint(int):
    """An unsigned whole number of 64 bit."""

    __slots__ = ()


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
    """A value that may be absent (cel-spec, optional types)."""

    __slots__ = ("has_value", "value")

    def __init__(self, has_value: bool, value: Any = None) -> None:
        self.has_value = has_value
        self.value = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Optional) or other.has_value != self.has_value:
            return False
        return not self.has_value or bool(other.value == self.value)

    def __hash__(self) -> int:
        return hash((self.has_value, repr(self.value)))

    def __repr__(self) -> str:
        return f"optional({self.value!r})" if self.has_value else "optional.none()"


NONE: Final = Optional(False)

_NAMES: Final[dict[type, str]] = {
    int: "int",
    Uint: "uint",
    float: "double",
    bool: "bool",
    str: "string",
    bytes: "bytes",
    list: "list",
    tuple: "list",
    dict: "map",
    type(None): "null_type",
    Decimal: "decimal",
    datetime: "google.protobuf.Timestamp",
    timedelta: "google.protobuf.Duration",
    TypeName: "type",
    Optional: "optional_type",
}
_WORDS: Final = {
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
    "google.protobuf.Timestamp": "a timestamp",
    "google.protobuf.Duration": "a duration",
    "type": "a type",
    "optional_type": "an optional",
}
TYPES: Final = {name: TypeName(name) for name in _WORDS}


def type_name(value: Any) -> str:
    """The CEL name of a value's type."""
    found = _NAMES.get(type(value))
    if found is not None:
        return found
    return next((name for kind, name in _NAMES.items() if isinstance(value, kind)), type(value).__name__)


def said(value: Any) -> str:
    """A value's type in words."""
    return _WORDS.get(type_name(value), type_name(value))
