"""The single values in a component's options or in a map, each with its path."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

import msgspec
from msgspec import Struct

from esb.units import Expression, Secret, Template


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every value of a table or list by the keys that stand in the file; of a Struct those fields that may hold an
    expression, a template or a secret."""
    if isinstance(value, Struct):
        for name, encoded in _telling(type(value)):
            yield from leaves(getattr(value, name), (*path, encoded))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    elif path:
        yield path, value


@cache
def _telling(kind: type[Struct]) -> tuple[tuple[str, str], ...]:
    """Fields that may hold an expression, a template or a secret: name and key."""
    return tuple(
        (field.name, field.encode_name) for field in msgspec.structs.fields(kind) if _holds(field.type, (kind,))
    )


def _holds(kind: Any, seen: tuple[type[Struct], ...]) -> bool:
    """`seen` are the Structs around it: one may hold itself."""
    if kind is Any:
        return True
    if isinstance(kind, type) and issubclass(kind, (Expression, Template, Secret)):
        return True
    if isinstance(kind, type) and issubclass(kind, Struct):
        inner = () if kind in seen else msgspec.structs.fields(kind)
        return any(_holds(field.type, (*seen, kind)) for field in inner)
    return any(_holds(part, seen) for part in get_args(kind))
