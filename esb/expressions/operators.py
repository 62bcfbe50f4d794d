"""What the operators do: 64-bit whole numbers with range errors, comparisons across number types, exact decimals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal, DecimalException, Inexact, InvalidOperation
from decimal import Overflow as DecimalOverflow
from decimal import Underflow as DecimalUnderflow
from operator import ge, gt, le, lt
from typing import Any, Final

from esb.errors import BudgetExceeded, ExpressionError
from esb.expressions.values import (
    INT_MAX,
    INT_MIN,
    NUMBERS,
    UINT_MAX,
    Optional,
    Uint,
    Written,
    instant,
    length,
    moment_at,
    said,
    span_of,
)
from esb.masking import one_line

_TRAPS: Final = [InvalidOperation, DecimalOverflow, DecimalUnderflow]
EXACT: Final = Context(prec=1000, rounding=ROUND_HALF_EVEN, Emin=-9999, Emax=9999, traps=[*_TRAPS, Inexact])
"""Sums, differences and products of decimals are exact, up to a thousand digits; beyond that they are an error."""
DIVIDED: Final = Context(prec=34, rounding=ROUND_HALF_EVEN, Emin=-9999, Emax=9999, traps=_TRAPS)
"""Quotients have 34 digits, as decimal128 has."""
PARSED: Final = Context(prec=1000, Emin=MIN_EMIN, Emax=MAX_EMAX)
_SPAN: Final = 315_576_000_000 * 10**9
LONGEST: Final = 50_000_000
"""How long a text or a list may become that an expression makes."""


class Mismatch(ExpressionError):
    """The types do not go together. `operator`, `values` and which argument (`at`) let the message name the fields."""

    code = "M254"

    def __init__(self, operator: str, *values: Any, at: int = 0) -> None:
        shown = f" {operator} ".join(map(said, values)) if len(values) > 1 else f"{operator} {said(values[0])}"
        super().__init__(f"{shown}: no such operation")
        self.operator = operator
        self.values = values
        self.at = at


class Inexactly(Mismatch):
    """A decimal beside a double whose digits nobody wrote."""

    code = "M256"


class Unreadable(ExpressionError):
    """A text that is no number, moment or pattern. Its beginning is shown, unless its field is named like a secret."""

    code = "M259"

    def __init__(self, value: str, rest: str) -> None:
        super().__init__(f'"{one_line(value)}" {rest}' if value else f"an empty text {rest}")
        self.rest = rest


class Meter:
    """The steps that are left to one evaluation."""

    __slots__ = ("budget", "left")

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.left = budget

    def take(self, steps: int) -> None:
        """Raises BudgetExceeded when there are not so many left."""
        self.left -= steps
        if self.left < 0:
            raise BudgetExceeded(f"the expression takes over {self.budget} steps")

    def made(self, value: Any) -> Any:
        """What an operation made counts by its size; gives it back."""
        if isinstance(value, (str, bytes)):
            self.take(len(value) >> 6)
        elif isinstance(value, list):
            self.take(len(value))
        return value


def number(value: int) -> int:
    """A result within 64 bit; raises ExpressionError."""
    if INT_MIN <= value <= INT_MAX:
        return value
    raise ExpressionError("the whole number is over 64 bit; decimal(...) has no such limit", code="M255")


def unsigned(value: int) -> Uint:
    """A result within 64 bit without a sign; raises ExpressionError."""
    if 0 <= value <= UINT_MAX:
        return Uint(value)
    raise ExpressionError("the unsigned whole number is below 0 or over 64 bit", code="M255")


def span(nanoseconds: int) -> timedelta:
    """A duration within cel-spec's range; raises ExpressionError."""
    if -_SPAN <= nanoseconds <= _SPAN:
        return span_of(nanoseconds)
    raise ExpressionError("the duration is out of range: over 10000 years", code="M255")


def moment(nanoseconds: int) -> datetime:
    """A timestamp within the years 1 to 9999; raises ExpressionError."""
    try:
        return moment_at(nanoseconds)
    except OverflowError:
        raise ExpressionError("the timestamp is out of range: years are 1 to 9999", code="M255") from None


def exact(left: Any, right: Any, operator: str) -> tuple[Decimal, Decimal]:
    """Two numbers of which one is a decimal, as decimals."""
    if type(left) is Written:
        left = left.digits
    if type(right) is Written:
        right = right.digits
    if not isinstance(left, NUMBERS) or not isinstance(right, NUMBERS) or type(left) is bool or type(right) is bool:
        raise Mismatch(operator, left, right)
    if isinstance(left, float) or isinstance(right, float):
        raise Inexactly(operator, left, right)
    return Decimal(left), Decimal(right)


_WORK: Final[Mapping[str, Callable[[Decimal, Decimal], Decimal]]] = {
    "+": EXACT.add, "-": EXACT.subtract, "*": EXACT.multiply, "/": DIVIDED.divide, "%": EXACT.remainder,
}  # fmt: skip


def _decimal(left: Any, right: Any, operator: str) -> Decimal:
    one, other = exact(left, right, operator)
    if operator in "/%" and not other:
        raise ExpressionError(f"{operator} by zero", code="M257")
    try:
        return _WORK[operator](one, other)
    except DecimalException:
        raise ExpressionError(f"the decimal of {operator} has over 1000 digits", code="M255") from None


def add(left: Any, right: Any) -> Any:
    """`left + right`."""
    kind, other = type(left), type(right)
    if kind is other:
        if kind is int:
            return number(left + right)
        if kind is str or kind is bytes or kind is list:
            return joined(left, right)
        if kind is Uint:
            return unsigned(int(left) + int(right))
    if kind is Decimal or other is Decimal:
        return _decimal(left, right, "+")
    if isinstance(left, float) and isinstance(right, float):
        return float(left) + float(right)
    if isinstance(left, (datetime, timedelta)) and isinstance(right, (datetime, timedelta)):
        return _later(left, right)
    if isinstance(left, list) and isinstance(right, list):
        return joined(left, right)
    raise Mismatch("+", left, right)


def joined(left: Any, right: Any) -> Any:
    """Two texts or lists in a row."""
    if len(left) + len(right) > LONGEST:
        raise BudgetExceeded(f"{said(left)} would become longer than {LONGEST}")
    return left + right


def _later(left: datetime | timedelta, right: datetime | timedelta) -> datetime | timedelta:
    if isinstance(left, datetime):
        if isinstance(right, datetime):
            raise Mismatch("+", left, right)
        return moment(instant(left) + length(right))
    if isinstance(right, datetime):
        return moment(length(left) + instant(right))
    return span(length(left) + length(right))


def subtract(left: Any, right: Any) -> Any:
    """`left - right`."""
    kind, other = type(left), type(right)
    if kind is other:
        if kind is int:
            return number(left - right)
        if kind is Uint:
            return unsigned(int(left) - int(right))
    if kind is Decimal or other is Decimal:
        return _decimal(left, right, "-")
    if isinstance(left, float) and isinstance(right, float):
        return float(left) - float(right)
    if isinstance(left, datetime) and isinstance(right, datetime):
        return span(instant(left) - instant(right))
    if isinstance(left, datetime) and isinstance(right, timedelta):
        return moment(instant(left) - length(right))
    if isinstance(left, timedelta) and isinstance(right, timedelta):
        return span(length(left) - length(right))
    raise Mismatch("-", left, right)


def multiply(left: Any, right: Any) -> Any:
    """`left * right`."""
    kind, other = type(left), type(right)
    if kind is other:
        if kind is int:
            return number(left * right)
        if kind is Uint:
            return unsigned(int(left) * int(right))
    if kind is Decimal or other is Decimal:
        return _decimal(left, right, "*")
    if isinstance(left, float) and isinstance(right, float):
        return float(left) * float(right)
    raise Mismatch("*", left, right)


def divide(left: Any, right: Any) -> Any:
    """`left / right`: whole numbers towards zero, decimals with 34 digits."""
    kind, other = type(left), type(right)
    if kind is other and (kind is int or kind is Uint):
        if right == 0:
            raise ExpressionError("/ by zero", code="M257")
        size = abs(int(left)) // abs(int(right))
        return number(size if (left < 0) == (right < 0) else -size) if kind is int else unsigned(size)
    if kind is Decimal or other is Decimal:
        return _decimal(left, right, "/")
    if isinstance(left, float) and isinstance(right, float):
        return _float_divide(float(left), float(right))
    raise Mismatch("/", left, right)


def _float_divide(left: float, right: float) -> float:
    if right:
        return left / right
    if math.isnan(left) or left == 0 or math.isnan(right):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


def modulo(left: Any, right: Any) -> Any:
    """`left % right`: the sign is that of the left."""
    kind, other = type(left), type(right)
    if kind is other and (kind is int or kind is Uint):
        if right == 0:
            raise ExpressionError("% by zero", code="M257")
        value = abs(int(left)) % abs(int(right))
        return kind(-value if left < 0 else value)
    if kind is Decimal or other is Decimal:
        return _decimal(left, right, "%")
    raise Mismatch("%", left, right)


def negate(value: Any) -> Any:
    """`-value`."""
    kind = type(value)
    if kind is int:
        return number(-value)
    if kind is float or kind is Written:
        return -float(value)
    if kind is Decimal:
        return value.copy_negate()
    if isinstance(value, timedelta):
        return span(-length(value))
    raise Mismatch("-", value)


def equal(left: Any, right: Any, meter: Meter) -> bool:
    """Numbers by value across their types; other values of different types are never equal (cel-spec)."""
    kind, other = type(left), type(right)
    if kind is str or other is str:
        return bool(left == right)
    if kind is bool or other is bool:
        return left is right
    if isinstance(left, NUMBERS) and isinstance(right, NUMBERS):
        if kind is Decimal or other is Decimal:
            left, right = exact(left, right, "==")
        return bool(left == right)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        meter.take(len(left))
        return len(left) == len(right) and all(equal(one, two, meter) for one, two in zip(left, right, strict=True))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        meter.take(len(left))
        return len(left) == len(right) and all(_entry(key, value, right, meter) for key, value in left.items())
    if kind is Optional and other is Optional and left.has_value and right.has_value:
        return equal(left.value, right.value, meter)
    return bool(left == right)


def _entry(key: Any, value: Any, right: Mapping[Any, Any], meter: Meter) -> bool:
    found = find(right, key)
    return found is not ABSENT and equal(value, found, meter)


def contained(item: Any, container: Any, meter: Meter) -> bool:
    """`item in container`: an item of a list, a key of a map."""
    if isinstance(container, (list, tuple)):
        meter.take(len(container) >> 3)
        if type(item) is str:
            return item in container
        return any(equal(item, other, meter) for other in container)
    if isinstance(container, Mapping):
        return find(container, item) is not ABSENT
    raise Mismatch("in", item, container)


ABSENT: Final = object()


def find(container: Mapping[Any, Any], key: Any) -> Any:
    """The value under a key, or ABSENT; numbers are one key whatever their type, but true is not 1."""
    if type(key) is str:
        return container.get(key, ABSENT)
    if not isinstance(key, (bool, int, float, Decimal)) or key not in container:
        return ABSENT
    flag = type(key) is bool
    if not flag and key not in (0, 1):
        return container[key]
    return next((value for known, value in container.items() if known == key and (type(known) is bool) is flag), ABSENT)


_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {"<": lt, "<=": le, ">": gt, ">=": ge}


def _ordered(left: Any, right: Any, operator: str) -> bool:
    kind, other = type(left), type(right)
    if isinstance(left, NUMBERS) and isinstance(right, NUMBERS) and (kind is bool) is (other is bool):
        if kind is Decimal or other is Decimal:
            left, right = exact(left, right, operator)
        elif isinstance(left, float) != isinstance(right, float):
            left, right = float(left), float(right)  # as cel-spec compares a whole number with a double
    elif (kind is not other or kind not in (str, bytes)) and not _times(left, right):
        raise Mismatch(operator, left, right)
    return _ORDERS[operator](left, right)


def _times(left: Any, right: Any) -> bool:
    return (isinstance(left, datetime) and isinstance(right, datetime)) or (
        isinstance(left, timedelta) and isinstance(right, timedelta)
    )


def less(left: Any, right: Any) -> bool:
    """`left < right`."""
    return _ordered(left, right, "<")


def less_equal(left: Any, right: Any) -> bool:
    """`left <= right`."""
    return _ordered(left, right, "<=")


def greater(left: Any, right: Any) -> bool:
    """`left > right`."""
    return _ordered(left, right, ">")


def greater_equal(left: Any, right: Any) -> bool:
    """`left >= right`."""
    return _ordered(left, right, ">=")


FUNCTIONS: Final = (
    add, subtract, multiply, divide, modulo, negate, equal, contained, less, less_equal, greater, greater_equal,
)  # fmt: skip
"""What compiled expressions call by name."""
