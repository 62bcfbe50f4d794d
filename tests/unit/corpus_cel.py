"""cel-spec's conformance cases: their values as ours, their bindings as a scope, and how each one went."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from msgspec import Struct

from esb.errors import EsbError
from esb.expressions import Environment, Optional, Uint
from esb.expressions.conversions import to_duration, to_timestamp
from esb.expressions.values import TypeName

OFFERED = (
    "basic", "comparisons", "conversions", "fields", "fp_math", "integer_math", "lists", "logic", "macros", "macros2",
    "namespace", "optionals", "parse", "plumbing", "string", "string_ext", "timestamps", "math_ext", "bindings_ext",
    "encoders_ext",
)  # fmt: skip
"""The suites that the engine offers; of math_ext only greatest and least."""
_MATH = ("math.greatest", "math.least")
_TIMES = ("google.protobuf.Timestamp", "google.protobuf.Duration")
_PROTOBUF = ("TestAllTypes", "google.protobuf.", "GlobalEnum", "TestRequired", "objectValue", "enumValue", "@type")


class Outcome(Struct, frozen=True):
    """How a case went: `passed`, `failed` with the reason, or `protobuf` (it needs what is not offered)."""

    suite: str
    name: str
    expression: str
    state: str
    reason: str = ""


@cache
def outcomes(corpora: Path) -> tuple[Outcome, ...]:
    """Every case of the suites that are offered."""
    return tuple(run(case) for case in cases(corpora) if offered(case))


def cases(corpora: Path) -> Iterator[dict[str, Any]]:
    """All cases of the corpus."""
    yield from json.loads((corpora / "cel" / "conformance.json").read_text())


def offered(case: Mapping[str, Any]) -> bool:
    """Of math_ext there is greatest and least."""
    suite = case["suite"]
    if suite == "math_ext":
        return any(name in case["expr"] for name in _MATH)
    return suite in OFFERED


def needs_protobuf(case: Mapping[str, Any]) -> bool:
    """Messages, enums and wrappers; timestamps and durations are ours, whatever they are wrapped in."""
    text = json.dumps({key: value for key, value in case.items() if key != "container"})
    for name in _TIMES:
        text = text.replace(f"type.googleapis.com/{name}", "").replace(name, "")
    text = text.replace('"objectValue": {"@type": ""', "")
    return any(word in text for word in _PROTOBUF)


def value_of(given: Mapping[str, Any]) -> Any:
    """One `Value` of the corpus."""
    ((kind, value),) = given.items()
    match kind:
        case "int64Value":
            return int(value)
        case "uint64Value":
            return Uint(int(value))
        case "doubleValue":
            return float(str(value).replace("Infinity", "inf"))
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
            convert = to_timestamp if value["@type"].endswith("Timestamp") else to_duration
            return convert(value["value"])
        case _:
            return value


def alike(one: Any, other: Any) -> bool:
    """Equal in value and in type."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (one != one and other != other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return len(one) == len(other) and all(
            any(alike(key, known) and alike(value, found) for known, found in other.items())
            for key, value in one.items()
        )
    if isinstance(one, (datetime, timedelta, Decimal)):
        return type(one) is type(other) and bool(one == other)
    return type(one) is type(other) and bool(one == other)


def run(case: Mapping[str, Any]) -> Outcome:
    """Compiles and evaluates one case; where the corpus says not to check, it is not."""
    names = case["suite"], case["name"], case["expr"]
    if needs_protobuf(case):
        return Outcome(*names, "protobuf")
    reason = _run(case)
    return Outcome(*names, "failed" if reason else "passed", reason)


def _run(case: Mapping[str, Any]) -> str:
    scope = {name: value_of(given["value"]) for name, given in case.get("bindings", {}).items()}
    checked = not case.get("disableCheck", False)
    variables = frozenset(scope) | frozenset(_declared(case))
    environment = Environment(variables=variables, container=case.get("container", ""), checked=checked)
    try:
        got = environment.compile(case["expr"]).evaluate(scope)
    except EsbError as error:
        return "" if "evalError" in case else f"raises {error}"
    if "evalError" in case:
        return f"gives {got!r:.60} where an error is stated"
    typed = case.get("typedResult", {}).get("result")
    wanted = value_of(case.get("value") or typed or {"boolValue": True})
    got = got.value if isinstance(got, Optional) and got.has_value else got
    return "" if alike(got, wanted) else f"gives {got!r:.60} instead of {wanted!r:.60}"


def _declared(case: Mapping[str, Any]) -> Iterator[str]:
    for item in case.get("typeEnv", []):
        if "ident" in item:
            yield item["name"]
