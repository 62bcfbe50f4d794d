"""`[[test]]` of the table, run: a whole bus in memory whose targets always answer."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from esb.errors import EsbError, Invalid
from esb.plugins import Registry
from esb.ports import Outcome
from esb.table.model import Table, TestSpec
from esb.testing import Double, Harness, running_table


class Result(Struct, frozen=True):
    """How one test went: `failures` say what was expected and what came."""

    name: str
    route: str
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.failures


async def run_tests(table: Table, registry: Registry) -> list[Result]:
    """Every test of the table, each on a bus and a store of its own."""
    return [await run_test(table, registry, spec) for spec in table.tests]


async def run_test(table: Table, registry: Registry, spec: TestSpec) -> Result:
    """One test."""
    with tempfile.TemporaryDirectory() as folder:
        async with running_table(table, registry, Path(folder)) as harness:
            for name, answers in spec.answers.items():
                harness.targets[name].answer(*answers)
            return Result(spec.name, spec.route, tuple(await _failures(table, harness, spec)))


async def _failures(table: Table, harness: Harness, spec: TestSpec) -> list[str]:
    try:
        body = given_body(table, spec.given)
    except OSError as error:
        return [f"given: {error}"]
    headers = {str(name): str(value) for name, value in dict(spec.given.get("header", {})).items()}
    try:
        accepted = await harness.send(spec.route, body, headers=headers, claim="test")
    except Invalid as refusal:
        return _refused(spec, refusal)
    except EsbError as error:
        return [f"refused: {error.code} {error}"]
    if "reply" in spec.expect:
        status = 202 if accepted.reply is None else accepted.reply.status
        if status != spec.expect["reply"]:
            return [f"reply: expected {spec.expect['reply']}, it was {status}"]
    assert accepted.planned is not None
    outcome = await accepted.planned()
    await harness.settled()
    return await _compare(harness, spec, accepted.id, outcome)


def given_body(table: Table, given: Mapping[str, Any]) -> bytes:
    """`{ file = }` beside the table, or `{ text = }`."""
    if "file" in given:
        return (table.folder / str(given["file"])).read_bytes()
    return str(given.get("text", "")).encode()


def _refused(spec: TestSpec, refusal: Invalid) -> list[str]:
    wanted = spec.expect.get("reply")
    if wanted == refusal.status:
        return []
    expected = f"expected a reply of {wanted}" if wanted else "it was expected to be accepted"
    return [f"refused with {refusal.status}: {refusal}; {expected}"]


async def _compare(harness: Harness, spec: TestSpec, uid: str, outcome: Outcome) -> list[str]:
    journey = await harness.bus.store.journey(uid)
    assert journey is not None
    expect, failures = spec.expect, []
    trace = msgspec.msgpack.decode(journey.trace) if journey.trace else {}
    cases = list(trace.get("cases", ()))
    if "case" in expect and [expect["case"]] != cases:
        failures.append(f"case: expected {expect['case']}, it was {', '.join(cases) or 'none'}")
    message = journey.message
    if "dropped" in expect and (message.state, message.reason) != ("dropped", expect["dropped"]):
        failures.append(f"dropped: expected {expect['dropped']!r}, it is {message.state} {message.reason!r}")
    if "state" in expect and message.state != expect["state"]:
        failures.append(f"state: expected {expect['state']}, it is {message.state} {message.reason!r}")
    if "parts" in expect and outcome.parts != expect["parts"]:
        failures.append(f"parts: expected {expect['parts']}, there were {outcome.parts}")
    if "delivered" in expect:
        failures += _delivered(harness.targets, expect["delivered"], message)
    for name, bodies in dict(expect.get("bodies", {})).items():
        failures += _bodies(harness.targets[name], bodies)
    return failures


def _delivered(targets: Mapping[str, Double], wanted: Mapping[str, int], message: Any) -> list[str]:
    got = {name: len(double.taken) for name, double in targets.items() if double.taken}
    if got == {name: count for name, count in wanted.items() if count}:
        return []
    why = f" (it is {message.state}: {message.reason})" if message.reason else ""
    return [f"delivered: expected {dict(wanted)}, it was {got}{why}"]


def _bodies(double: Double, wanted: Any) -> list[str]:
    """A text must be the body exactly; a table must be a part of its JSON."""
    items = wanted if isinstance(wanted, list) else [wanted]
    if len(items) != len(double.bodies):
        return [f"bodies of {double.name}: expected {len(items)}, there were {len(double.bodies)}"]
    failures = []
    for number, (item, body) in enumerate(zip(items, double.bodies, strict=True), 1):
        same = body == item.encode() if isinstance(item, str) else _within(item, _json(body))
        if not same:
            failures.append(
                f"body {number} of {double.name}:\n  expected {item}\n  it was   {body.decode(errors='replace')}"
            )
    return failures


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _within(part: Any, whole: Any) -> bool:
    """Every key of `part` stands in `whole` with that value."""
    if isinstance(part, Mapping):
        return isinstance(whole, Mapping) and all(
            key in whole and _within(value, whole[key]) for key, value in part.items()
        )
    return bool(part == whole)
