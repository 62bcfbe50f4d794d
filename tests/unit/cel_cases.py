"""cel-spec's conformance cases: their values as ours, their bindings as a scope, and how a case went."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from esb.errors import EsbError
from esb.expressions import Environment, Optional, Uint
from esb.expressions.functions import to_duration, to_timestamp
from esb.expressions.values import TypeName

OFFERED = [
    "basic",
    "comparisons",
    "conversions",
    "fields",
    "fp_math",
    "integer_math",
    "lists",
    "logic",
    "macros",
    "namespace",
    "optionals",
    "parse",
    "plumbing",
    "string",
    "string_ext",
    "timestamps",
    "math_ext",
]
"""The suites that the engine offers; of math_ext only greatest and least."""
MATH = ("math.greatest", "math.least")
PROTOBUF = ("TestAllTypes", "google.protobuf", "proto2", "proto3", "GlobalEnum", "NestedTestAllTypes", "objectValue")


class NeedsProtobuf(Exception):
    """The case is about messages or enums, which the engine does not have."""


def load(corpora: Path) -> Iterator[dict[str, Any]]:
    yield from json.loads((corpora / "cel" / "conformance.json").read_text())


def offered(case: dict[str, Any]) -> bool:
    if case["suite"] not in OFFERED:
        return False
    return case["suite"] != "math_ext" or any(name in case["expr"] for name in MATH)


def value_of(given: dict[str, Any]) -> Any:
    """One `Value` of the suite."""
    ((kind, value),) = given.items() or (("nullValue", None),)
    match kind:
        case "int64Value":
            return int(value)
        case "uint64Value":
            return Uint(int(value))
        case "doubleValue":
            return float(str(value).replace("Infinity", "inf"))
        case "stringValue" | "boolValue":
            return value
        case "bytesValue":
            return base64.b64decode(value)
        case "nullValue":
            return None
        case "typeValue":
            return TypeName(value)
        case "listValue":
            return [value_of(item) for item in value.get("values", [])]
        case "mapValue":
            return {value_of(entry["key"]): value_of(entry["value"]) for entry in value.get("entries", [])}
        case "objectValue":
            return _object(value)
        case _:
            raise NeedsProtobuf(kind)


def _object(value: dict[str, Any]) -> Any:
    name = value.get("@type", "").rpartition("/")[2]
    if name == "google.protobuf.Timestamp":
        return to_timestamp(value["value"])
    if name == "google.protobuf.Duration":
        return to_duration(value["value"])
    raise NeedsProtobuf(name)


def same(one: Any, other: Any) -> bool:
    """Equal in value and type."""
    if isinstance(one, Optional):
        one = one.value if one.has_value else one
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (one != one and other != other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return len(one) == len(other) and all(_holds(other, key, item) for key, item in one.items())
    if isinstance(one, (datetime, timedelta, Decimal)):
        return bool(one == other)
    return type(one) is type(other) and bool(one == other)


def _holds(other: dict[Any, Any], key: Any, item: Any) -> bool:
    return any(same(name, key) and same(value, item) for name, value in other.items())


def run(case: dict[str, Any]) -> str:
    """ "" when the case goes as stated, else why not; raises NeedsProtobuf."""
    if any(word in json.dumps(case) for word in PROTOBUF) and not _only_times(case):
        raise NeedsProtobuf(case["name"])
    bindings = {name: value_of(item["value"]) for name, item in case.get("bindings", {}).items() if "value" in item}
    environment = Environment(variables=frozenset(bindings), zone=UTC)
    wants_error = "evalError" in case or "error" in case or "anyEvalErrors" in case
    try:
        got = environment.compile(case["expr"]).evaluate(bindings)
    except EsbError as error:
        return "" if wants_error else f"raised {error}"
    if wants_error:
        return f"gave {got!r:.60} where an error is stated"
    wanted = value_of(case["value"]) if "value" in case else True
    return "" if same(got, wanted) else f"gave {got!r:.60}, not {wanted!r:.60}"


def _only_times(case: dict[str, Any]) -> bool:
    """Timestamps and durations are wrapped in protobuf's words, and are offered."""
    text = json.dumps(case)
    for word in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
        text = text.replace(word, "")
    text = text.replace("objectValue", "")
    return not any(word in text for word in PROTOBUF)
