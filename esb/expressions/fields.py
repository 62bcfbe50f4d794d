"""Reading fields at run time, off the quick path: what is missing is named, with what was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from esb.errors import BudgetExceeded, ExpressionError, MissingField
from esb.expressions import operators
from esb.expressions.values import NONE, Optional, said

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def path_text(base: str, keys: Sequence[Any]) -> str:
    """`body.Order["@id"]`."""
    shown = base
    for key in keys:
        if isinstance(key, str):
            shown += f".{key}" if _PLAIN.fullmatch(key) else f'["{key}"]'
        else:
            shown += f"[{key}]"
    return shown


def missing(path: str, key: Any, container: Any) -> NoReturn:
    """Raises MissingField with a did-you-mean from the keys that are there."""
    hint = ""
    if isinstance(container, Mapping) and isinstance(key, str):
        near = difflib.get_close_matches(key, [name for name in container if isinstance(name, str)], n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
    raise MissingField(f"{path} is missing{hint}", place=path)


def walk(value: Any, keys: Sequence[Any], base: str) -> Any:
    """Follows keys one by one; raises MissingField or ExpressionError naming the first that cannot be followed."""
    for at, key in enumerate(keys):
        path = path_text(base, keys[: at + 1])
        if isinstance(value, Optional):
            value = _within(value, key)
        elif isinstance(value, Mapping):
            found = operators.find_key(value, key)
            if found is operators.MISSING:
                missing(path, key, value)
            value = found
        elif value is None:
            missing(path, key, value)
        elif isinstance(value, (list, tuple)) and not isinstance(key, str):
            value = item(value, key, path_text(base, keys[:at]))
        else:
            here = path_text(base, keys[:at])
            raise ExpressionError(f"{here} is {said(value)}: it has no field {key!r}", code="M254", place=path)
    return value


def _within(value: Optional, key: Any) -> Optional:
    if not value.has_value:
        return NONE
    return optional_field(value.value, key)


def item(operand: Any, key: Any, base: str) -> Any:
    """`operand[key]` for a key that is worked out; raises MissingField, ExpressionError."""
    try:
        return operators.index(operand, key)
    except KeyError:
        missing(path_text(base, [key]), key, operand)
    except ExpressionError as error:
        if error.code == "M258":
            raise MissingField(str(error), place=path_text(base, [key])) from None
        if operand is None:
            missing(path_text(base, [key]), key, operand)
        raise


def optional_field(operand: Any, key: Any) -> Optional:
    """`operand.?key`: none where it is not there."""
    if isinstance(operand, Optional):
        return _within(operand, key)
    if isinstance(operand, Mapping):
        found = operators.find_key(operand, key)
        return NONE if found is operators.MISSING else Optional(True, found)
    if isinstance(operand, (list, tuple)):
        ok = isinstance(key, int) and 0 <= key < len(operand)
        return Optional(True, operand[key]) if ok else NONE
    if operand is None:
        return NONE
    raise ExpressionError(f"{said(operand)} has no fields", code="M254")


def has_field(operand: Any, key: str) -> bool:
    """has(operand.key)."""
    if isinstance(operand, Optional):
        return _within(operand, key).has_value
    if isinstance(operand, Mapping):
        return key in operand
    if operand is None:
        return False
    raise ExpressionError(f"has() of {said(operand)}: it has no fields", code="M254")


def elements(operand: Any) -> Iterable[Any]:
    """What a comprehension runs over: a list's items, a map's keys."""
    if isinstance(operand, (list, tuple, Mapping)):
        return operand
    raise ExpressionError(f"{said(operand)}: a comprehension wants a list or a map", code="M254")


def not_bool(value: Any) -> ExpressionError:
    return ExpressionError(f"{said(value)} where true or false is wanted", code="M253")


def over_budget() -> NoReturn:
    raise BudgetExceeded("the expression takes more steps than its budget allows; narrow what it runs over")


def weigh(value: Any) -> int:
    """What a value made in a loop costs of the budget."""
    return len(value) // 16 if isinstance(value, (str, bytes, list, dict)) else 0


def build_map(entries: Sequence[tuple[Any, Any]], optional: frozenset[int]) -> dict[Any, Any]:
    """A map literal whose keys are worked out."""
    made: dict[Any, Any] = {}
    for at, (key, value) in enumerate(entries):
        if type(key) is float or not isinstance(key, (str, int)):
            raise ExpressionError(f"{said(key)} is no key of a map", code="M254")
        if operators.find_key(made, key) is not operators.MISSING:
            raise ExpressionError(f"the key {key!r} stands twice", code="M259")
        if at in optional:
            if not isinstance(value, Optional):
                raise ExpressionError(f"?key wants an optional, not {said(value)}", code="M254")
            if not value.has_value:
                continue
            value = value.value
        made[key] = value
    return made


def build_list(items: Sequence[Any], optional: frozenset[int]) -> list[Any]:
    """A list literal with `?x` among its items."""
    made: list[Any] = []
    for at, value in enumerate(items):
        if at not in optional:
            made.append(value)
        elif not isinstance(value, Optional):
            raise ExpressionError(f"?item wants an optional, not {said(value)}", code="M254")
        elif value.has_value:
            made.append(value.value)
    return made


def need_optional(value: Any) -> Optional:
    if isinstance(value, Optional):
        return value
    raise ExpressionError(f"{said(value)} where an optional is wanted", code="M254")


def variable(scope: Mapping[str, Any], name: str) -> Any:
    """A variable that is not in this scope at this moment."""
    try:
        return scope[name]
    except KeyError:
        raise MissingField(f"{name} is not there at this moment", place=name) from None
