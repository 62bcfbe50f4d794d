"""plan(): all that a message will cause, before anything has happened. Pure, so that explain, test and production
run the same code (R20)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from esb.blueprint import Blueprint, ReadyCase, ReadyTo
from esb.errors import Invalid, MessageError, describe
from esb.ids import derived_uid
from esb.message import HOPS_HEADER, Headers, Message, Scope
from esb.stepping import FAULTS, STATES, Ending, Steps, Trace, Voice, Walk
from esb.store.records import Made, MessageState, NewBody, NewDelivery, NewMessage
from esb.store.rows import HELD
from esb.table.model import OutcomeSpec

HOPS = 16
"""How many routes may hand a message on before it is a loop."""


class Plan(Struct, frozen=True):
    """What to commit, and the once-key it is recognised by."""

    message: NewMessage
    key: str | None = None


def _gravest(fates: Sequence[tuple[MessageState, str] | None]) -> tuple[MessageState, str] | None:
    """What waits for a person comes before what is only let go; None: no fate but the deliveries'."""
    told = [fate for fate in fates if fate is not None]
    return next((fate for fate in told if fate[0] in HELD), told[0] if told else None)


_encode = msgspec.msgpack.Encoder().encode


class Planner:
    """Plans for one route. `routes` finds the planner of a route that is handed over to."""

    def __init__(
        self,
        blueprint: Blueprint,
        var: Mapping[str, Any],
        zone: ZoneInfo,
        routes: Callable[[str], Planner | None],
        group: str = "",
    ) -> None:
        self.blueprint = blueprint
        self.spec = blueprint.spec
        self._var = var
        self._zone = zone
        self._routes = routes
        self._group = group
        self._steps = Steps(blueprint.spec.bad, self.scope)
        self._traces = {case.spec.name: _encode(Trace(cases=(case.spec.name,))) for case in blueprint.cases}
        self._plain = _encode(Trace())

    def scope(self, message: Message) -> Scope:
        """The variables of an expression over this message."""
        scope = Scope(message, self._var, self._zone)
        if self.blueprint.namespaces:
            scope["namespaces"] = self.blueprint.namespaces
        return scope

    def plan(
        self,
        message: Message,
        body: NewBody,
        *,
        made: Made = "source",
        may_refuse: bool = True,
        once: str | None = None,
        voice: Voice | None = None,
    ) -> Plan:
        """Everything the message causes, up to a split (R1).

        Raises Invalid when the route refuses (`reply 4xx`) and `may_refuse`; any other fate is a state of the plan.
        """
        walk = Walk(Trace(), [], [], {}, {}, message.raw, message.headers, voice)
        key: str | None = once
        keys: dict[str, str] = {}
        stage = ""
        try:
            message, key, keys, stage = self._prefix(message, once, walk)
        except Ending as ending:
            return Plan(self._ended(message, body, made, ending, walk), key)
        except Invalid as refusal:
            return Plan(self._refused(message, body, made, refusal, walk, may_refuse), key)
        except FAULTS as error:
            return Plan(self._ended(message, body, made, self._steps.fault(error), walk), key)
        return Plan(self._planned(message, body, made, keys, stage, walk, may_refuse), key)

    def _planned(
        self,
        message: Message,
        body: NewBody,
        made: Made,
        keys: Mapping[str, str],
        stage: str,
        walk: Walk,
        may_refuse: bool,
    ) -> NewMessage:
        """From the end of the prefix to the deliveries; nothing more when a split waits (`stage`)."""
        if stage:
            return self._record(message, body, made, "open", "", walk, keys=keys, stage=stage)
        try:
            rest = self._rest(message, walk)
            state, reason = self._deliver_all(rest, walk)
        except Ending as ending:
            return self._ended(message, body, made, ending, walk, keys)
        except Invalid as refusal:
            return self._refused(message, body, made, refusal, walk, may_refuse)
        except FAULTS as error:
            return self._ended(message, body, made, self._steps.fault(error), walk, keys)
        return self._record(message, body, made, state, reason, walk, keys=keys)

    def part(
        self, message: Message, body: NewBody, uid: str, trace: Trace, last: bool, voice: Voice | None = None
    ) -> NewMessage:
        """One part of a split, planned from the step after it. Never refuses: the parent was accepted already."""
        assert self.blueprint.split_at is not None and trace.part is not None
        walk = Walk(trace, [], [], {}, {}, message.raw, message.headers, voice)
        index = trace.part[0]
        try:
            rest = self._steps.run(self.blueprint.steps[self.blueprint.split_at + 1 :], [message], walk)
            state, reason = self._deliver_all(rest, walk)
        except Ending as ending:
            return self._ended(message, body, "part", ending, walk, parent=uid, part=index, last=last)
        except Invalid as refusal:
            refused = Ending("quarantined", str(refusal), refusal.errors)
            return self._ended(message, body, "part", refused, walk, parent=uid, part=index, last=last)
        except FAULTS as error:
            fault = self._steps.fault(error)
            return self._ended(message, body, "part", fault, walk, parent=uid, part=index, last=last)
        return self._record(message, body, "part", state, reason, walk, parent=uid, part=index, last=last)

    def bad_part(
        self, message: Message, body: NewBody, uid: str, trace: Trace, last: bool, error: Exception
    ) -> NewMessage:
        """A part that could not be read: quarantined by itself, the others go on."""
        assert trace.part is not None
        walk = Walk(trace, [], [], {}, {}, message.raw, message.headers)
        errors = error.errors if isinstance(error, MessageError) else ()
        ending = Ending("quarantined", describe(error), errors)
        return self._ended(message, body, "part", ending, walk, parent=uid, part=trace.part[0], last=last)

    def before_split(self, message: Message) -> Message:
        """The message as the split sees it: the steps before it run again (they are pure)."""
        assert self.blueprint.split_at is not None
        walk = Walk(Trace(), [], [], {}, {}, message.raw, message.headers)
        before = self._steps.run(self.blueprint.steps[: self.blueprint.split_at], [message], walk)
        return before[0]

    def _prefix(
        self, message: Message, once: str | None, walk: Walk
    ) -> tuple[Message, str | None, dict[str, str], str]:
        """Leading reads and checks, then once and keys (their moment), then on to a split where there is one."""
        blueprint = self.blueprint
        if message.hops > HOPS:
            raise Ending("dead", f"loop: more than {HOPS} hops")
        leading = 0 if blueprint.streaming else blueprint.once_at
        message = self._steps.run(blueprint.steps[:leading], [message], walk)[0] if leading else message
        key: str | None = once
        keys: dict[str, str] = {}
        if blueprint.once is not None or blueprint.keys:
            key, keys = self._identify(message, once)
        if key is not None:
            message = message.with_(uid=derived_uid(self._group, self.spec.name, message.caller, key))
        if blueprint.split_at is None:
            return message, key, keys, ""
        if not blueprint.streaming:
            self._steps.run(blueprint.steps[leading : blueprint.split_at], [message], walk)
        return message, key, keys, f"split:{blueprint.split_at}"

    def _identify(self, message: Message, once: str | None) -> tuple[str | None, dict[str, str]]:
        """The once-key and the business keys; a field they need and do not find is bad data."""
        scope = self.scope(message)
        try:
            key = once if self.blueprint.once is None else str(self.blueprint.once.fill(scope))
            return key, {name: str(text.fill(scope)) for name, text in self.blueprint.keys.items()}
        except MessageError as error:
            raise self._steps.bad(error, None) from error

    def _rest(self, message: Message, walk: Walk) -> list[Message]:
        if self.blueprint.once_at == len(self.blueprint.steps):
            return [message]
        return self._steps.run(self.blueprint.steps[self.blueprint.once_at :], [message], walk)

    def _deliver_all(self, messages: list[Message], walk: Walk) -> tuple[MessageState, str]:
        """Routes each message; the state is "open" with deliveries or hand-overs, else why there is none."""
        fate = _gravest([self._route(message, walk) for message in messages])
        if fate is None:
            return ("open", "") if walk.deliveries else ("done", "")
        if walk.deliveries and fate[0] not in HELD:
            return "open", fate[1]
        return fate

    def _route(self, message: Message, walk: Walk) -> tuple[MessageState, str] | None:
        """Cases, then targets. Gives the state that a case without `to` (or no case at all) asks for."""
        blueprint = self.blueprint
        self._to_all(blueprint.always, message, walk)
        if not blueprint.cases:
            return None
        taken = self._cases(message, walk)
        if not taken:
            return self._outcome(self.spec.unmatched, "no case is true")
        return _gravest([self._case(case, message, walk) for case in taken])

    def _cases(self, message: Message, walk: Walk) -> list[ReadyCase]:
        scope = self.scope(message)
        try:
            routed = self.blueprint.router.route(scope)
        except MessageError as error:
            index = getattr(error, "case", None)
            walk.trace.step = "cases" if index is None else f"case {self.blueprint.cases[index].spec.name}"
            raise self._steps.bad(error, None) from error
        if walk.voice is not None:
            walk.voice.cases(self.blueprint, scope, routed.cases)
        taken = [self.blueprint.cases[index] for index in routed.cases]
        walk.trace.cases = tuple([case.spec.name for case in taken])
        if routed.missing:
            walk.trace.missing = {self.blueprint.cases[index].spec.name: field for index, field in routed.missing}
        return taken

    def _case(self, case: ReadyCase, message: Message, walk: Walk) -> tuple[MessageState, str] | None:
        if case.spec.outcome is not None:
            return self._outcome(case.spec.outcome, f"case {case.spec.name}")
        for after in self._steps.run(case.steps, [message], walk) if case.steps else (message,):
            self._to_all(case.to, after, walk)
        return None

    def _outcome(self, outcome: OutcomeSpec, why: str) -> tuple[MessageState, str]:
        if outcome.kind == "reply":
            raise Invalid(outcome.reason or why, code="M240", status=outcome.status)
        return STATES.get(outcome.kind, "unmatched"), outcome.reason or why

    def _to_all(self, items: Sequence[ReadyTo], message: Message, walk: Walk) -> None:
        for to in items:
            for after in self._steps.run(to.steps, [message], walk) if to.steps else (message,):
                if to.route is not None:
                    self._hand_over(to.route, after, walk)
                else:
                    self._deliver(to, after, walk)

    def _deliver(self, to: ReadyTo, message: Message, walk: Walk) -> None:
        target = to.target
        assert target is not None
        for after in self._steps.run(target.steps, [message], walk) if target.steps else (message,):
            body, media = self._content(after, walk)
            values, order_key = self._values(to, after)
            number = walk.numbers.get(target.name, 0) + 1
            walk.numbers[target.name] = number
            limits = [life for life in (self.spec.expires, target.expires) if life is not None]
            delivery = NewDelivery(
                target=target.name,
                nr=number,
                body=body,
                due=after.accepted_at,
                order_key=order_key,
                values=values,
                headers=None if after.headers is walk.headers else after.headers,
                media=media,
                head=after.head,
                expires=after.accepted_at + min(limits) if limits else None,
            )
            walk.deliveries.append(delivery)
            if walk.voice is not None:
                walk.voice.delivery(after, delivery)

    def _values(self, to: ReadyTo, message: Message) -> tuple[Mapping[str, str], str | None]:
        target = to.target
        assert target is not None
        if not target.placeholders and target.order_by is None:
            return {}, None
        scope = self.scope(message)
        try:
            values = {item.key: item.program.text_value(scope, item.quote) for item in target.placeholders}
            return values, None if target.order_by is None else str(target.order_by.fill(scope))
        except MessageError as error:
            raise self._steps.bad(error, None) from error

    def _content(self, message: Message, walk: Walk) -> tuple[NewBody | None, str]:
        """The bytes for a target; None shares the message's own. The same message is encoded once."""
        known = walk.bodies.get(id(message.body))
        if known is not None and known[0] is message.body:
            return known[1], known[2]
        data = message.body if type(message.body) is bytes else self._bytes(message)
        shared = data is message.raw or data == walk.original
        body = None if shared else NewBody(data=data, size=len(data), media=message.media_type)
        walk.bodies[id(message.body)] = (message.body, body, message.media_type)
        return body, message.media_type

    def _bytes(self, message: Message) -> bytes:
        if not message.changed:
            return message.raw
        if message.codec is None:
            error = MessageError("a mapped body has no format", code="M221", place="write")
            raise self._steps.bad(error, None)
        try:
            data: bytes = message.codec.encode(message.body, message.memory)
        except MessageError as error:
            raise self._steps.bad(error, None) from error
        return data

    def _hand_over(self, route: str, message: Message, walk: Walk) -> None:
        """The message enters another route in the same commit, as bytes."""
        planner = self._routes(route)
        if planner is None:
            raise Ending("dead", f"there is no route {route}")
        if message.hops >= HOPS:
            raise Ending("dead", f"loop: more than {HOPS} hops")
        number = walk.numbers.get(f"route:{route}", 0) + 1
        walk.numbers[f"route:{route}"] = number
        body, media = self._content(message, walk)
        data = message.raw if body is None else body.data
        assert data is not None
        handed = Message(
            uid=derived_uid(message.uid, "route", route, str(number)),
            route=route,
            accepted_at=message.accepted_at,
            body=data,
            raw=data,
            headers=Headers({**message.headers, HOPS_HEADER: str(message.hops + 1)}),
            source=message.source,
            media_type=media,
            hops=message.hops + 1,
            caller=message.caller,
        )
        new = NewBody(data=data, size=len(data), media=media)
        plan = planner.plan(handed, new, made="route", may_refuse=False)
        made = plan.message
        if plan.key is not None:
            made = replace(made, once=plan.key, once_for=float(planner.spec.once_for))
        walk.handed.append(made)

    def _ended(
        self,
        message: Message,
        body: NewBody,
        made: Made,
        ending: Ending,
        walk: Walk,
        keys: Mapping[str, str] = {},
        **place: Any,
    ) -> NewMessage:
        walk.deliveries.clear()
        walk.handed.clear()
        walk.trace.errors = ending.errors
        return self._record(message, body, made, ending.state, ending.reason, walk, keys=keys, **place)

    def _refused(
        self, message: Message, body: NewBody, made: Made, refusal: Invalid, walk: Walk, may_refuse: bool
    ) -> NewMessage:
        if may_refuse:
            raise refusal
        return self._ended(message, body, made, Ending("quarantined", str(refusal), refusal.errors), walk)

    def _record(
        self, message: Message, body: NewBody, made: Made, state: MessageState, reason: str, walk: Walk, **more: Any
    ) -> NewMessage:
        lives = self.spec.expires
        return NewMessage(
            uid=message.uid,
            made=made,
            route=self.spec.name,
            accepted_at=message.accepted_at,
            body=body,
            headers=message.headers,
            source=message.source,
            caller=message.caller,
            state=state,
            reason=reason,
            trace=self._trace(walk.trace, state),
            table_hash=self.blueprint.table_hash,
            expires=None if lives is None else message.accepted_at + lives,
            deliveries=walk.deliveries,
            made_messages=walk.handed,
            **more,
        )

    def _trace(self, trace: Trace, state: MessageState) -> bytes:
        """Compact; the usual ones were encoded beforehand."""
        if state == "open" and not (trace.missing or trace.notes or trace.part):
            if len(trace.cases) == 1:
                return self._traces[trace.cases[0]]
            if not trace.cases:
                return self._plain
        if state in ("open", "done"):
            trace.step = ""
        return _encode(trace)
