"""Which types go together under which operator, as far as they are known before any message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from esb.expressions.syntax import Constant
from esb.expressions.values import WORDS

NUMERIC: Final = frozenset(("int", "uint", "double", "decimal"))
_ORDERED: Final = frozenset(("string", "bytes", "bool", "timestamp", "duration"))
_TIMES: Final[Mapping[tuple[str, str, str], str]] = {
    ("+", "timestamp", "duration"): "timestamp",
    ("+", "duration", "timestamp"): "timestamp",
    ("+", "duration", "duration"): "duration",
    ("-", "timestamp", "timestamp"): "duration",
    ("-", "timestamp", "duration"): "timestamp",
    ("-", "duration", "duration"): "duration",
}
CONVERSION: Final = {"int": "int", "uint": "uint", "double": "double", "decimal": "decimal", "string": "string"}


def result(operator: str, left: Any, right: Any) -> str | None:
    """The type of `left operator right`; None where the types clash."""
    one, other = left.type, right.type
    if operator in ("==", "!="):
        return "bool" if _comparable(left, right) or "null_type" in (one, other) else None
    if operator in ("<", "<=", ">", ">="):
        return "bool" if _comparable(left, right) and _orderable(one) and _orderable(other) else None
    if operator == "in":
        return "bool" if other in ("list", "map", "dyn") else None
    return _computed(operator, left, right)


def _orderable(kind: str) -> bool:
    return kind == "dyn" or kind in NUMERIC or kind in _ORDERED


def _comparable(left: Any, right: Any) -> bool:
    one, other = left.type, right.type
    if "dyn" in (one, other) or one == other:
        return True
    return one in NUMERIC and other in NUMERIC and _exactly(left, right)


def _exactly(left: Any, right: Any) -> bool:
    """A decimal goes with a double only where that is a literal."""
    return all(
        not (one.type == "decimal" and other.type == "double") or is_written(other)
        for one, other in ((left, right), (right, left))
    )


def is_written(node: Any) -> bool:
    """A double literal: its digits are known."""
    return isinstance(node, Constant) and node.digits is not None


def _computed(operator: str, left: Any, right: Any) -> str | None:
    one: str = left.type
    other: str = right.type
    if "dyn" in (one, other):
        known = other if one == "dyn" else one
        return _with_unknown(operator, known)
    if (operator, one, other) in _TIMES:
        return _TIMES[operator, one, other]
    if operator == "+" and one == other and one in ("string", "bytes", "list"):
        return one
    if one not in NUMERIC or other not in NUMERIC:
        return None
    if "decimal" in (one, other):
        return "decimal" if _exactly(left, right) else None
    return one if one == other and not (operator == "%" and one == "double") else None


def _with_unknown(operator: str, known: str) -> str | None:
    """What a known type and any value give: the same type where nothing else is possible."""
    if known == "dyn" or known in NUMERIC:
        return "decimal" if known == "decimal" else "dyn"
    if operator == "+" and known in ("string", "bytes", "list"):
        return known
    return "dyn" if operator in "+-" and known in ("timestamp", "duration") else None


def advice(operator: str, left: Any, right: Any, text: str) -> str:
    """What would be right where the types clash."""
    one, other = left.type, right.type
    if operator == "in":
        return f"write {shown(right, text)}.contains({shown(left, text)})" if other == "string" else ""
    for node, kind, wanted in ((left, one, other), (right, other, one)):
        if kind == "string" and wanted in NUMERIC and not isinstance(node, Constant):
            return f"write {CONVERSION[wanted]}({shown(node, text)})"
        if kind == "double" and wanted == "decimal":
            return f"write decimal({shown(node, text)})"
        if kind == "int" and wanted == "double":
            return f"write double({shown(node, text)}), or decimal({shown(node, text)}) for exact digits"
        if operator == "+" and kind == "string" and wanted in ("int", "uint", "double", "decimal", "bool", "timestamp"):
            node = right if node is left else left
            return f"write string({shown(node, text)})"
    return ""


def shown(node: Any, text: str) -> str:
    """A part of the expression as it is written."""
    written = text[node.start : node.end]
    return written if len(written) <= 60 else f"{written[:57]}..."


def words(kind: str) -> str:
    """A type in words."""
    return WORDS.get(kind, kind)
