"""plan() with a voice: why a message goes where it goes. The same code as production (R20)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import msgspec
from msgspec import Struct, to_builtins

from esb.blueprint import Blueprint, Draft, ReadyStep
from esb.clock import Clock
from esb.cutting import Cut
from esb.errors import Closing, EsbError, Invalid, describe
from esb.ids import new_uid
from esb.message import Headers, Message, Scope
from esb.pipeline import Planner
from esb.planners import planners_of
from esb.plugins import Registry
from esb.ports import Codec
from esb.services import BusServices
from esb.stepping import Voice
from esb.store.records import NewBody, NewDelivery, NewMessage, OpenMessage
from esb.table.model import Table
from esb.watchdog import Watchdog


class Said(Struct, frozen=True):
    """One line of the explanation: `kind` is step, case, leaf, delivery or parts."""

    kind: str
    name: str
    text: str
    taken: bool = False


class Speaker(Voice):
    """Writes down what happens."""

    def __init__(self) -> None:
        self.lines: list[Said] = []

    def step(self, step: ReadyStep, before: Message, after: Sequence[Message] | BaseException | None) -> None:
        if after is None:
            text = "passed by: its if is false"
        elif isinstance(after, BaseException):
            text = f"{_named(after)} {describe(after)}"
        else:
            text = "done" if len(after) == 1 else f"{len(after)} messages"
        self.lines.append(Said("step", step.name, text, not isinstance(after, BaseException)))

    def cases(self, blueprint: Blueprint, scope: Scope, taken: Sequence[int]) -> None:
        for index, (case, program) in enumerate(zip(blueprint.cases, blueprint.router.programs, strict=True)):
            chosen = index in taken
            if program is None:
                self.lines.append(Said("case", case.spec.name, "otherwise", chosen))
                continue
            trace = program.trace(scope)
            self.lines.append(Said("case", case.spec.name, trace.error or _shown(trace.value), chosen))
            for leaf in trace.leaves:
                sides = "  ".join(f"{text} = {_shown(value)}" for text, value in leaf.sides if text != _shown(value))
                said = f"{leaf.error or _shown(leaf.value)}{'  decided' if leaf.decided else ''}"
                self.lines.append(
                    Said("leaf", leaf.text, f"{said}{'  (' + sides + ')' if sides else ''}", leaf.value is True)
                )

    def delivery(self, message: Message, delivery: NewDelivery) -> None:
        size = "the original bytes" if delivery.body is None else f"{delivery.body.size} bytes"
        order = f", order key {delivery.order_key}" if delivery.order_key is not None else ""
        values = "".join(f", {key} = {value}" for key, value in delivery.values.items())
        self.lines.append(Said("delivery", delivery.target, f"{size}{order}{values}", True))


def _named(error: BaseException) -> str:
    """Its code, which `esb check --explain` knows; the name of what has none."""
    return error.code if isinstance(error, EsbError) else f"{type(error).__name__}:"


def _shown(value: Any) -> str:
    text = to_builtins(value, enc_hook=str) if not isinstance(value, BaseException) else describe(value)
    shown = (
        f'"{text}"' if isinstance(text, str) else "true" if text is True else "false" if text is False else str(text)
    )
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


class Explanation(Struct, frozen=True):
    """The lines, what it comes to, and the once-key. `code` is that of the first error, "" when there is none."""

    lines: tuple[Said, ...]
    state: str
    reason: str
    key: str | None
    retries: tuple[tuple[str, str], ...] = ()
    code: str = ""


async def explain(
    table: Table, registry: Registry, clock: Clock, route: str, body: bytes, headers: dict[str, str]
) -> Explanation:
    """What this route does with this message. Nothing is stored and nothing sent; raises KeyError for no such route,
    Closing for one that this machine cannot run."""
    if route in table.stopped:
        raise Closing(f"route {route} is stopped: {table.stopped[route]}")
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(BusServices(table, registry, clock))
        draft = Draft(table, services.environment, services.open, stack)
        planners = await planners_of(table, draft, services.zone)
        json = services.codec("json", {})
        return await asyncio.to_thread(_explained, table, planners[route], json, clock, body, headers)


def _explained(
    table: Table, planner: Planner, json: Codec, clock: Clock, body: bytes, headers: dict[str, str]
) -> Explanation:
    now, speaker = clock.now(), Speaker()
    message = Message(
        uid=new_uid(now), route=planner.spec.name, accepted_at=now, body=body, raw=body, headers=Headers(headers)
    )
    try:
        plan = planner.plan(message, NewBody(data=body, size=len(body)), voice=speaker)
    except Invalid as refusal:
        return Explanation(tuple(speaker.lines), "refused", f"{refusal.status} {refusal}", None, code=refusal.code)
    new, code = plan.message, ""
    if new.stage:
        state, reason, targets = _parts(table, planner, json, message, body, speaker)
    else:
        state, reason, targets = new.state, new.reason, {delivery.target for delivery in new.deliveries}
        errors = msgspec.msgpack.decode(new.trace).get("errors", ()) if new.trace else ()
        code = errors[0]["code"] if errors and new.state != "open" else ""
    retries = tuple((name, _policy(table, new.route, name)) for name in sorted(targets))
    return Explanation(tuple(speaker.lines), state, reason, plan.key, retries, code)


def _parts(
    table: Table, planner: Planner, json: Codec, message: Message, body: bytes, speaker: Speaker
) -> tuple[str, str, set[str]]:
    """Cuts the body and plans every part, as the bus does after the commit: the first one in full, then how many come
    to the same. Gives the state and reason of the whole, and the targets that were met."""
    row = OpenMessage(
        row=0, uid=message.uid, made="source", route=message.route, caller="", accepted_at=message.accepted_at,
        stage="split", headers=message.headers, source=message.source, table_hash=table.hash, body=body, body_file=None,
        media="", size=len(body),
    )  # fmt: skip
    ears = First(speaker)
    cut = Cut(planner, row, json, Watchdog(float(table.bus.step_timeout)), ears)
    error = cut.start(0)
    fates: Counter[str] = Counter()
    first: dict[str, int] = {}
    targets: set[str] = set()
    finished = error is not None
    while not finished:
        made, error, finished = cut.chunk()
        for part in made:
            targets.update(delivery.target for delivery in part.deliveries)
            fate = _fate(part)
            fates[fate] += 1
            first.setdefault(fate, part.part or 0)
        finished = finished or error is not None
    for fate, n in fates.items():
        speaker.lines.append(Said("parts", f"{n} part{'s' if n > 1 else ''}, the first is {first[fate]}", fate, True))
    if error is not None:
        return "quarantined", f"{fates.total()} parts made: {error}", targets
    return "split", f"{fates.total()} parts", targets


def _fate(part: NewMessage) -> str:
    """What becomes of a part: its case and where it goes, or the state it ends in and why."""
    cases = msgspec.msgpack.decode(part.trace).get("cases", ()) if part.trace else ()
    case = f"case {', '.join(cases)}: " if cases else ""
    to = sorted(
        {delivery.target for delivery in part.deliveries} | {f"route {new.route}" for new in part.made_messages}
    )
    if to and part.state in ("open", "done"):
        return f"{case}to {', '.join(to)}"
    return f"{case}{part.state}{': ' + part.reason if part.reason else ''}"


class First(Voice):
    """Lets the first part be heard."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker
        self._uid = ""

    def _hears(self, message: Message) -> bool:
        self._uid = self._uid or message.uid
        return message.uid == self._uid

    def step(self, step: ReadyStep, before: Message, after: Sequence[Message] | BaseException | None) -> None:
        if self._hears(before):
            self._speaker.step(step, before, after)

    def cases(self, blueprint: Blueprint, scope: Scope, taken: Sequence[int]) -> None:
        if self._uid in ("", scope["message"]["id"]):
            self._speaker.cases(blueprint, scope, taken)

    def delivery(self, message: Message, delivery: NewDelivery) -> None:
        if self._hears(message):
            self._speaker.delivery(message, delivery)


def _policy(table: Table, route: str, target: str) -> str:
    """A retry policy in words: the route's own, else the target's."""
    policy = table.retry[table.routes[route].retry or table.targets[target].retry].transient
    often = "until" if policy.attempts == "forever" else f"{policy.attempts} times, at most until"
    return f"again after {policy.first}, times {policy.factor:g} up to {policy.cap}, {often} {policy.max_age} are over"
