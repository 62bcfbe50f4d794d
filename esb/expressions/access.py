"""Fields, items, and what loops go over: the parts of a tree that compiled expressions reach for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, NoReturn

from esb.errors import ExpressionError
from esb.expressions.operators import ABSENT, Meter, Mismatch, find
from esb.expressions.values import NONE, Optional, said
from esb.masking import shown


class Absent(Exception):
    """No such item or key: `owner` is where it was looked for."""

    def __init__(self, owner: Any, key: Any) -> None:
        super().__init__(key)
        self.owner = owner
        self.key = key


class NotBool(ExpressionError):
    """A condition that is neither true nor false."""

    code = "M253"

    def __init__(self, value: Any) -> None:
        super().__init__(f"{said(value)} where true or false is wanted")
        self.value = value


def item(operand: Any, key: Any) -> Any:
    """`operand[key]`; raises Absent or Mismatch."""
    if isinstance(operand, Mapping):
        if type(key) is str and hasattr(operand, "__missing__"):
            return operand[key]
        if not isinstance(key, (str, bool, int, float, Decimal)):
            raise Mismatch("[]", key)
        found = find(operand, key)
        if found is ABSENT:
            raise Absent(operand, key)
        return found
    if isinstance(operand, (list, tuple)):
        place = position(key)
        if not 0 <= place < len(operand):
            raise Absent(operand, place)
        return operand[place]
    if type(operand) is Optional:
        return pick_item(operand, key)
    raise Mismatch("[]", operand)


def position(key: Any) -> int:
    """A place in a list: a whole number, whatever its type."""
    if type(key) is not bool and isinstance(key, (int, float, Decimal)) and key == int(key):
        return int(key)
    raise Mismatch("[]", key)


def pick(operand: Any, field: str) -> Optional:
    """`operand.?field`: none where it is absent."""
    if isinstance(operand, Mapping):
        return Optional(True, operand[field]) if field in operand else NONE
    if type(operand) is Optional:
        return pick(operand.value, field) if operand.has_value else operand
    raise Mismatch(".?", operand)


def pick_item(operand: Any, key: Any) -> Optional:
    """`operand[?key]`: none where it is absent."""
    if type(operand) is Optional:
        return pick_item(operand.value, key) if operand.has_value else operand
    if isinstance(operand, (list, tuple)):
        place = position(key)
        return Optional(True, operand[place]) if 0 <= place < len(operand) else NONE
    if isinstance(operand, Mapping):
        found = find(operand, key)
        return NONE if found is ABSENT else Optional(True, found)
    raise Mismatch("[?]", operand)


def has_field(operand: Any, field: str) -> bool:
    """`has(operand.field)`."""
    if isinstance(operand, Mapping):
        return field in operand
    if type(operand) is Optional:
        return operand.has_value and has_field(operand.value, field)
    if operand is None or operand == "":
        return False
    raise Mismatch("has()", operand)


def items(operand: Any, meter: Meter) -> Any:
    """What a loop goes over: the items of a list, the keys of a map. As many steps are taken."""
    if isinstance(operand, (list, tuple)):
        meter.take(len(operand))
        return operand
    if isinstance(operand, Mapping):
        meter.take(len(operand))
        return list(operand)
    raise Mismatch("loop", operand)


def pairs(operand: Any, meter: Meter) -> Iterable[tuple[Any, Any]]:
    """What a loop with two variables goes over: index and item, key and value."""
    if isinstance(operand, (list, tuple)):
        meter.take(len(operand))
        return enumerate(operand)
    if isinstance(operand, Mapping):
        meter.take(len(operand))
        return list(operand.items())
    raise Mismatch("loop", operand)


def not_bool(value: Any) -> NoReturn:
    """A condition is true or false, nothing else."""
    raise NotBool(value)


def need_optional(value: Any) -> Optional:
    """An optional, where only that goes."""
    if type(value) is Optional:
        return value
    raise Mismatch("?", value)


def opened(value: Any) -> Any:
    """The value of an optional, None for none; anything else as it is."""
    if type(value) is Optional:
        return value.value if value.has_value else None
    return value


def closed(value: Any) -> Optional:
    """An optional of a value; one that is an optional stays itself."""
    return value if type(value) is Optional else Optional(True, value)


def build_list(values: list[Any], optional: frozenset[int]) -> list[Any]:
    """`[a, ?b]`."""
    made: list[Any] = []
    for place, value in enumerate(values):
        if place not in optional:
            made.append(value)
        elif need_optional(value).has_value:
            made.append(value.value)
    return made


_KEYS: Final = (str, bool, int)


def build_map(entries: tuple[tuple[Any, Any], ...], optional: frozenset[int]) -> dict[Any, Any]:
    """`{a: b, ?c: d}`; raises ExpressionError for a key twice or of a wrong type."""
    made: dict[Any, Any] = {}
    for place, (key, value) in enumerate(entries):
        if not isinstance(key, _KEYS):
            raise ExpressionError(f"a key is a text, a whole number, true or false, not {said(key)}", code="M254")
        if find(made, key) is not ABSENT:
            raise ExpressionError(f"the key {shown(key)} stands twice", code="M258")
        if key in made:
            raise ExpressionError("a map cannot have both 1 and true, or 0 and false, as keys", code="M258")
        if place not in optional:
            made[key] = value
        elif need_optional(value).has_value:
            made[key] = value.value
    return made


def unknown(name: str) -> NoReturn:
    """A function that is not there (only where nothing was checked)."""
    raise ExpressionError(f'there is no function "{name}"')


FUNCTIONS: Final = (
    item, pick, pick_item, has_field, items, pairs, not_bool, need_optional, opened, closed, build_list, build_map,
    unknown,
)  # fmt: skip
"""What compiled expressions call by name."""
