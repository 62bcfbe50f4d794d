"""The functions of expressions: cel-spec's standard ones, its string, math and optional extensions, and our own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct

from esb.errors import ExpressionError
from esb.expressions import conversions, formats, texts, times
from esb.expressions.operators import Mismatch, exact, number
from esb.expressions.values import NONE, WORDS, Optional, Written, length, type_of


class Function(Struct, frozen=True):
    """How a name is called: as `f(a, b)` ("call"), as `a.f(b)` ("method"), or both.

    `takes` are the types of the arguments, the receiver first, several with `|`; those after `least` may be left out.
    `gives` is the type of the result. A `sized` result counts as steps. `by_digits`: a double literal is given as it is
    written. A function that `wants_scope` gets it first.
    """

    name: str
    call: Callable[..., Any]
    takes: tuple[str, ...]
    gives: str = "dyn"
    least: int = -1
    style: str = "call"
    sized: bool = False
    by_digits: bool = False
    wants_scope: bool = False
    open: bool = False

    def fits(self, count: int) -> bool:
        """Whether it can be called with so many arguments."""
        least = len(self.takes) if self.least < 0 else self.least
        return count >= least and (self.open or count <= len(self.takes))


def size(value: Any) -> int:
    """`size(x)`: characters, bytes, items or entries."""
    if isinstance(value, (str, bytes, list, tuple, Mapping)):
        return len(value)
    raise Mismatch("size()", value)


def greatest(*values: Any) -> Any:
    """`math.greatest(a, b, ...)`, or of a list."""
    return _extreme("math.greatest()", values, False)


def least(*values: Any) -> Any:
    """`math.least(a, b, ...)`, or of a list."""
    return _extreme("math.least()", values, True)


def _extreme(name: str, values: tuple[Any, ...], smallest: bool) -> Any:
    items = values[0] if len(values) == 1 and isinstance(values[0], (list, tuple)) else values
    if not items:
        raise ExpressionError(f"{name} of an empty list", code="M258")
    best = items[0]
    for item in items:
        if type(item) is bool or not isinstance(item, (int, float, Decimal)):
            raise Mismatch(name, item)
        exactly = isinstance(item, Decimal) or isinstance(best, Decimal)
        one, other = exact(item, best, "and") if exactly else (item, best)
        if (one < other) if smallest else (one > other):
            best = item
    return float(best) if type(best) is Written else best


def floor(value: Any) -> int:
    """`floor(x)`: the whole number at or below."""
    return number(math.floor(_small(value, "floor()")))


def ceil(value: Any) -> int:
    """`ceil(x)`: the whole number at or above."""
    return number(math.ceil(_small(value, "ceil()")))


def _small(value: Any, name: str) -> Decimal:
    found = conversions.to_decimal(value)
    if found.adjusted() > 30:
        raise ExpressionError(f"{name}: the number is over 64 bit", code="M255")
    return found


def optional_of(value: Any) -> Optional:
    """`optional.of(x)`."""
    return Optional(True, value)


def optional_of_non_zero(value: Any) -> Optional:
    """`optional.ofNonZeroValue(x)`: none for null, 0, false, and what is empty."""
    if isinstance(value, timedelta):
        zero = length(value) == 0
    elif isinstance(value, Optional):
        zero = not value.has_value
    else:
        zero = not isinstance(value, datetime) and not value
    return NONE if zero else Optional(True, value)


def _optional(value: Any, function: str) -> Optional:
    if type(value) is Optional:
        return value
    raise Mismatch(f"{function}()", value)


def has_value(value: Any) -> bool:
    """`a.?b.hasValue()`."""
    return _optional(value, "hasValue").has_value


def value_of(value: Any) -> Any:
    """`a.?b.value()`; raises ExpressionError where there is none."""
    found = _optional(value, "value")
    if not found.has_value:
        raise ExpressionError("value() of an optional that has none; orValue(x) gives x then", code="M258")
    return found.value


def or_value(value: Any, other: Any) -> Any:
    """`a.?b.orValue("")`."""
    found = _optional(value, "orValue")
    return found.value if found.has_value else other


def or_other(value: Any, other: Any) -> Optional:
    """`a.?b.or(a.?c)`."""
    found = _optional(value, "or")
    return found if found.has_value else _optional(other, "or")


def _method(name: str, call: Callable[..., Any], takes: str, gives: str, least: int = -1, **more: Any) -> Function:
    return Function(name, call, tuple(takes.split()), gives, least, "method", **more)


_PLAIN: Final = "string|bytes|bool|int|uint|double|decimal|timestamp|duration"
_NUMBER: Final = "int|uint|double|decimal"
_MEASURED: Final = "string|bytes|list|map"
_CONVERSIONS: Final = {
    "int": (conversions.to_int, f"string|{_NUMBER}|timestamp"),
    "uint": (conversions.to_uint, f"string|{_NUMBER}"),
    "double": (conversions.to_double, f"string|{_NUMBER}"),
    "decimal": (conversions.to_decimal, f"string|{_NUMBER}"),
    "string": (conversions.to_string, _PLAIN),
    "bytes": (conversions.to_bytes, "string|bytes"),
    "bool": (conversions.to_bool, "string|bool"),
    "timestamp": (conversions.to_timestamp, "string|int|timestamp"),
    "duration": (conversions.to_duration, "string|int|duration"),
}
_LIST: Final = [
    *(
        Function(name, call, (takes,), name, by_digits=name == "decimal")
        for name, (call, takes) in _CONVERSIONS.items()
    ),
    Function("type", type_of, ("dyn",), "type"),
    Function("dyn", lambda value: value, ("dyn",)),
    Function("size", size, (_MEASURED,), "int", style="both"),
    Function("matches", texts.matches, ("string", "string"), "bool", style="both"),
    Function("round", conversions.round_half_up, (f"string|{_NUMBER}", "int"), "decimal", 1, by_digits=True),
    Function("roundEven", conversions.round_half_even, (f"string|{_NUMBER}", "int"), "decimal", 1, by_digits=True),
    Function("floor", floor, (f"string|{_NUMBER}",), "int", by_digits=True),
    Function("ceil", ceil, (f"string|{_NUMBER}",), "int", by_digits=True),
    Function("math.greatest", greatest, (f"{_NUMBER}|list",), "dyn", 1, by_digits=True, open=True),
    Function("math.least", least, (f"{_NUMBER}|list",), "dyn", 1, by_digits=True, open=True),
    Function("optional.of", optional_of, ("dyn",), "optional_type"),
    Function("optional.ofNonZeroValue", optional_of_non_zero, ("dyn",), "optional_type"),
    Function("optional.none", lambda: NONE, (), "optional_type"),
    Function("strings.quote", texts.quote, ("string",), "string", sized=True),
    Function("base64.encode", texts.encode_base64, ("bytes",), "string", sized=True),
    Function("base64.decode", texts.decode_base64, ("string",), "bytes", sized=True),
    _method("hasValue", has_value, "optional_type", "bool"),
    _method("value", value_of, "optional_type", "dyn"),
    _method("orValue", or_value, "optional_type dyn", "dyn"),
    _method("or", or_other, "optional_type optional_type", "optional_type"),
    _method("contains", texts.contains, "string string", "bool"),
    _method("startsWith", texts.starts_with, "string string", "bool"),
    _method("endsWith", texts.ends_with, "string string", "bool"),
    _method("charAt", texts.char_at, "string int", "string"),
    _method("indexOf", texts.index_of, "string string int", "int", 2),
    _method("lastIndexOf", texts.last_index_of, "string string int", "int", 2),
    _method("join", texts.join, "list string", "string", 1, sized=True),
    _method("split", texts.split, "string string int", "list", 2, sized=True),
    _method("replace", texts.replace, "string string string int", "string", 3, sized=True),
    _method("substring", texts.substring, "string int int", "string", 2, sized=True),
    _method("lowerAscii", texts.lower_ascii, "string", "string", sized=True),
    _method("upperAscii", texts.upper_ascii, "string", "string", sized=True),
    _method("trim", texts.trim, "string", "string", sized=True),
    _method("reverse", texts.reverse, "string", "string", sized=True),
    _method("format", formats.formatted, "string list", "string", sized=True),
    *(_method(name, get, "timestamp|duration string", "int", 1) for name, get in times.GETTERS.items()),
]
STANDARD: Final[Mapping[str, Function]] = {function.name: function for function in _LIST}


def of_dates(zone: tzinfo) -> dict[str, Function]:
    """Dates by a format, in the bus's zone."""
    dates = times.Dates(zone)
    return {
        "date": Function("date", dates.read, ("string", "string", "string"), "timestamp", 2),
        "formatDate": Function("formatDate", dates.write, ("timestamp", "string", "string"), "string", 2, "both"),
    }


def of_plugins(functions: Mapping[str, Callable[..., Any]]) -> dict[str, Function]:
    """Functions that plugins bring: called with whatever they are given, as `f(x)` or `x.f()`."""
    return {
        name: Function(
            name, call, (), least=0, style="both", open=True, wants_scope=bool(getattr(call, "wants_scope", False))
        )
        for name, call in functions.items()
    }


def takes(value: str, accepted: str) -> bool:
    """Whether a static type may be given where these are taken."""
    return value == "dyn" or accepted == "dyn" or value in accepted.split("|")


def words(accepted: str) -> str:
    """Types in words: `a text or bytes`."""
    shown = [WORDS.get(name, name) for name in accepted.split("|")]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"
