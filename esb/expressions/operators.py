"""What the operators do: 64-bit whole numbers with range errors, comparisons across number types, exact decimals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Context, Decimal, DecimalException, localcontext
from typing import Any, Final, NoReturn

from esb.errors import ExpressionError
from esb.expressions.values import INT_MAX, INT_MIN, UINT_MAX, Optional, Uint, said

EXACT: Final = Context(prec=1000)
"""Sums, differences and products of decimals are exact up to a thousand digits."""
DIVIDED: Final = Context(prec=34)
"""Quotients have 34 digits, as decimal128 has."""
_NUMBERS: Final = (int, Uint, float, Decimal)
_DURATION: Final = timedelta(microseconds=2**63 // 1000)
"""64 bit of nanoseconds, about 292 years (as cel-go has it)."""


def no_such(operator: str, left: Any, right: Any) -> NoReturn:
    """The types do not go together; says what would."""
    if isinstance(left, str) != isinstance(right, str) and isinstance(
        left if isinstance(right, str) else right, _NUMBERS
    ):
        raise ExpressionError(
            f"{said(left)} {operator} {said(right)}: no such operation; write int(...) or decimal(...) around the text",
            code="M254",
        )
    raise ExpressionError(f"{said(left)} {operator} {said(right)}: no such operation", code="M254")


def number(value: int) -> int:
    """A result within 64 bit; raises ExpressionError."""
    if INT_MIN <= value <= INT_MAX:
        return value
    raise ExpressionError("the whole number is over 64 bit; write decimal(...)", code="M255")


def unsigned(value: int) -> Uint:
    if 0 <= value <= UINT_MAX:
        return Uint(value)
    raise ExpressionError("the unsigned whole number is out of range", code="M255")


def duration(value: timedelta) -> timedelta:
    if -_DURATION <= value <= _DURATION:
        return value
    raise ExpressionError("the duration is out of range", code="M255")


def _computed(left: Any, right: Any) -> NoReturn:
    raise ExpressionError(
        "a decimal and a double do not mix exactly; write decimal(...) around the double", code="M256"
    )


def _exact(left: Any, right: Any, context: Context, work: str) -> Decimal:
    """Two operands of which one is a decimal."""
    if isinstance(left, float) or isinstance(right, float):
        _computed(left, right)
    if not isinstance(left, _NUMBERS) or not isinstance(right, _NUMBERS) or type(left) is bool or type(right) is bool:
        no_such(work, left, right)
    one, other = Decimal(left), Decimal(right)
    try:
        match work:
            case "+":
                return context.add(one, other)
            case "-":
                return context.subtract(one, other)
            case "*":
                return context.multiply(one, other)
            case "/":
                if not other:
                    raise ExpressionError("division by zero", code="M257")
                return context.divide(one, other)
            case _:
                if not other:
                    raise ExpressionError("modulus by zero", code="M257")
                return context.remainder(one, other)
    except DecimalException as error:
        raise ExpressionError(f"the decimal cannot be worked out: {type(error).__name__}", code="M255") from error


def add(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is type(right):
        if kind is int:
            return number(left + right)
        if kind is str or kind is list or kind is bytes or kind is float:
            return left + right
        if kind is Uint:
            return unsigned(int(left) + int(right))
        if kind is timedelta:
            return duration(left + right)
    if kind is Decimal or type(right) is Decimal:
        return _exact(left, right, EXACT, "+")
    if isinstance(left, datetime) and isinstance(right, timedelta):
        return _moment(left, right)
    if isinstance(left, timedelta) and isinstance(right, datetime):
        return _moment(right, left)
    if isinstance(left, list) and isinstance(right, list):
        return [*left, *right]
    no_such("+", left, right)


def _moment(moment: datetime, span: timedelta) -> datetime:
    try:
        return moment + span
    except OverflowError:
        raise ExpressionError("the timestamp is out of range", code="M255") from None


def subtract(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is type(right):
        if kind is int:
            return number(left - right)
        if kind is float:
            return left - right
        if kind is Uint:
            return unsigned(int(left) - int(right))
        if kind is timedelta:
            return duration(left - right)
    if kind is Decimal or type(right) is Decimal:
        return _exact(left, right, EXACT, "-")
    if isinstance(left, datetime) and isinstance(right, datetime):
        return duration(left - right)
    if isinstance(left, datetime) and isinstance(right, timedelta):
        return _moment(left, -right)
    no_such("-", left, right)


def multiply(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is type(right):
        if kind is int:
            return number(left * right)
        if kind is float:
            return left * right
        if kind is Uint:
            return unsigned(int(left) * int(right))
    if kind is Decimal or type(right) is Decimal:
        return _exact(left, right, EXACT, "*")
    no_such("*", left, right)


def divide(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is type(right):
        if kind is int or kind is Uint:
            if right == 0:
                raise ExpressionError("division by zero", code="M257")
            size = abs(int(left)) // abs(int(right))
            value = size if (left < 0) == (right < 0) else -size
            return number(value) if kind is int else unsigned(value)
        if kind is float:
            return _float_divide(left, right)
    if kind is Decimal or type(right) is Decimal:
        return _exact(left, right, DIVIDED, "/")
    no_such("/", left, right)


def _float_divide(left: float, right: float) -> float:
    if right:
        return left / right
    if math.isnan(left) or left == 0:
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


def modulo(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is type(right) and (kind is int or kind is Uint):
        if right == 0:
            raise ExpressionError("modulus by zero", code="M257")
        value = abs(int(left)) % abs(int(right))
        return kind(-value if left < 0 else value)
    if kind is Decimal or type(right) is Decimal:
        return _exact(left, right, EXACT, "%")
    no_such("%", left, right)


def negate(value: Any) -> Any:
    kind = type(value)
    if kind is int:
        return number(-value)
    if kind is float or kind is Decimal:
        return -value
    if kind is timedelta:
        return duration(-value)
    raise ExpressionError(f"- {said(value)}: no such operation", code="M254")


def invert(value: Any) -> bool:
    if type(value) is bool:
        return not value
    raise ExpressionError(f"! {said(value)}: it wants true or false", code="M254")


def equal(left: Any, right: Any) -> bool:
    """Numbers by value across their types; other values of different types are never equal (cel-spec)."""
    kind = type(left)
    if kind is type(right):
        if kind is list:
            return len(left) == len(right) and all(map(equal, left, right))
        if kind is dict:
            return _same_map(left, right)
        if kind is Optional and left.has_value and right.has_value:
            return equal(left.value, right.value)
        return bool(left == right)
    if kind is bool or type(right) is bool:
        return False
    if isinstance(left, _NUMBERS) and isinstance(right, _NUMBERS):
        if (kind is Decimal or type(right) is Decimal) and (kind is float or type(right) is float):
            _computed(left, right)
        return bool(left == right)
    if isinstance(left, datetime) and isinstance(right, datetime):
        return left == right
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return _same_map(left, right)
    return False


def _same_map(left: Mapping[Any, Any], right: Mapping[Any, Any]) -> bool:
    return len(left) == len(right) and all(key in right and equal(value, right[key]) for key, value in left.items())


def different(left: Any, right: Any) -> bool:
    return not equal(left, right)


def compare(left: Any, right: Any, operator: str) -> int:
    """-1, 0 or 1; 2 when a NaN is among them."""
    kind = type(left)
    other = type(right)
    if kind is not bool and other is not bool and isinstance(left, _NUMBERS) and isinstance(right, _NUMBERS):
        if (kind is Decimal or other is Decimal) and (kind is float or other is float):
            _computed(left, right)
        if left != left or right != right:
            return 2
    elif not (kind is other and kind in (str, bytes, bool, timedelta)) and not (
        isinstance(left, datetime) and isinstance(right, datetime)
    ):
        no_such(operator, left, right)
    return int(left > right) - int(left < right)


def less(left: Any, right: Any) -> bool:
    return compare(left, right, "<") == -1


def less_equal(left: Any, right: Any) -> bool:
    return compare(left, right, "<=") in (-1, 0)


def greater(left: Any, right: Any) -> bool:
    return compare(left, right, ">") == 1


def greater_equal(left: Any, right: Any) -> bool:
    return compare(left, right, ">=") in (0, 1)


def contained(item: Any, container: Any) -> bool:
    if isinstance(container, (list, tuple)):
        return any(equal(item, other) for other in container)
    if isinstance(container, Mapping):
        return find_key(container, item) is not MISSING
    raise ExpressionError(f"in {said(container)}: it wants a list or a map", code="M254")


MISSING: Final = object()


def find_key(container: Mapping[Any, Any], key: Any) -> Any:
    """The value under a key, or MISSING; numbers are the same key whatever their type, but true is not 1."""
    kind = type(key)
    if kind is float and key.is_integer():
        key = int(key)
    try:
        if key in container:
            if kind is str or not container:
                return container[key]
            found = next(item for item in container if item == key and (type(item) is bool) == (kind is bool))
            return container[found]
    except (TypeError, StopIteration):
        return MISSING
    return MISSING


def index(operand: Any, key: Any) -> Any:
    """`operand[key]`; raises KeyError where a map has no such key."""
    if isinstance(operand, Mapping):
        if type(key) is str and hasattr(type(operand), "__missing__"):
            return operand[key]
        if not isinstance(key, (str, int, float, Decimal)):
            raise ExpressionError(f"{said(key)} is no key of a map", code="M254")
        found = find_key(operand, key)
        if found is MISSING:
            raise KeyError(key)
        return found
    if isinstance(operand, (list, tuple)):
        return operand[_position(operand, key)]
    if isinstance(operand, Optional):
        return operand if not operand.has_value else Optional(True, index(operand.value, key))
    raise ExpressionError(f"{said(operand)}[...]: it wants a list or a map", code="M254")


def _position(operand: Any, key: Any) -> int:
    if type(key) is bool or not isinstance(key, (int, float)) or (isinstance(key, float) and not key.is_integer()):
        raise ExpressionError(f"{said(key)} is no position in a list", code="M254")
    if not 0 <= key < len(operand):
        raise ExpressionError(f"there is no item {key}: the list has {len(operand)}, counted from 0", code="M258")
    return int(key)


def exactly(digits: str) -> Decimal:
    """A decimal from its digits; raises ExpressionError."""
    with localcontext(EXACT):
        try:
            value = Decimal(digits)
        except DecimalException:
            raise ExpressionError(f'"{digits[:40]}" is no number', code="M259") from None
    if not value.is_finite():
        raise ExpressionError(f'"{digits[:40]}" is no finite number', code="M259")
    return value
