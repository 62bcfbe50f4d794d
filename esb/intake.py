"""From a source to the outbox: accept() plans a message, commits all it causes, and only then returns."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from esb.clock import Clock
from esb.crew import Crew, Passed, accepted, passed
from esb.errors import Closing, EsbError, Invalid, StoreError
from esb.ids import claimed_uid, new_uid
from esb.message import HOPS_HEADER, Headers, Message
from esb.pipeline import Plan, Planner
from esb.ports import Accepted, Incoming, Outcome, Reply
from esb.replies import Waiters, settled, unpack
from esb.store import Store
from esb.store.inflight import POISON
from esb.store.records import Acceptance, NewBody, NewDelivery, NewMessage, Stored
from esb.table.model import ReplySpec
from esb.watchdog import Watchdog

INLINE = 65_536
"""Bodies up to this many bytes live in the row (R7)."""

OFF_LOOP = 262_144
"""Bodies over this many bytes are decoded in a thread (R18)."""


class Counters(Protocol):
    """What intake counts beside the books (floor 6 shows it)."""

    def accepted(self, route: str, seconds: float, /) -> None: ...

    def duplicate(self, route: str, /) -> None: ...

    def refused(self, route: str, code: str, /) -> None: ...


class Door(Struct, frozen=True, kw_only=True):
    """What every intake of one bus shares. `planned` waits until a message is planned wholly; plans are made under the
    `watchdog`'s eyes (R18); `open` is false once the bus stops; `crew` are the workers beside this one."""

    store: Store
    clock: Clock
    waiters: Waiters
    counters: Counters
    planned: Callable[[str], Awaitable[Outcome]]
    watchdog: Watchdog
    open: Callable[[], bool]
    crew: Crew | None = None


def _bodies(message: NewMessage) -> list[NewBody]:
    return [item.body for item in message.deliveries if item.body is not None]


async def _planned_at(crew: Crew, owner: int, uid: str) -> Outcome:
    """How the planning ended at the worker that has the message."""
    answer = await crew.pass_on(owner, Passed(planned=uid))
    if answer.outcome is None:
        raise StoreError(answer.text or f"worker {owner} does not know {uid}")
    return answer.outcome


class Intake:
    """The `accept` of one source: `name` is its own, where a route has several."""

    def __init__(self, planner: Planner, reply: ReplySpec, door: Door, name: str = "") -> None:
        self._planner = planner
        self._route = planner.spec.name
        self._reply = reply
        self._door = door
        self._targets = planner.blueprint.targets
        self._name = name or f"route.{self._route}"
        self._owner = f"route {self._route}"

    async def __call__(self, message: Incoming, /) -> Accepted:
        """On disk when it returns; raises Busy, Closing, a MessageError (refused) or StoreError (unknown)."""
        started = self._door.clock.now()
        try:
            return await self._take(message, await self._ready(message, started), started)
        except EsbError as error:
            self._door.counters.refused(self._route, error.code)
            raise

    async def many(self, messages: Sequence[Incoming], /) -> Sequence[Accepted | Exception]:
        """Several messages: planned side by side, accepted in their order, one commit; outcomes in order."""
        started = self._door.clock.now()
        ready = await asyncio.gather(*(self._ready(item, started) for item in messages), return_exceptions=True)
        taken = await asyncio.gather(
            *(self._outcome(item, made, started) for item, made in zip(messages, ready, strict=True)),
            return_exceptions=True,
        )
        return [self._counted(result) for result in taken]

    async def _outcome(self, message: Incoming, ready: Acceptance | BaseException, started: float) -> Accepted:
        if isinstance(ready, BaseException):
            raise ready
        return await self._take(message, ready, started)

    def _counted(self, result: Accepted | BaseException) -> Accepted | Exception:
        if isinstance(result, EsbError):
            self._door.counters.refused(self._route, result.code)
        if isinstance(result, BaseException) and not isinstance(result, Exception):
            raise result
        return result

    async def _ready(self, message: Incoming, started: float) -> Acceptance:
        self._admit()
        return await self._prepare(message, started)

    async def _take(self, message: Incoming, acceptance: Acceptance, started: float) -> Accepted:
        """From what is planned to what is on disk: here, or at the worker that owns the key (R27)."""
        owner = None if self._door.crew is None else self._door.crew.elsewhere(acceptance)
        if owner is not None:
            return await self._elsewhere(owner, message, acceptance)
        if self._reply.kind == "stored":
            stored, reply = await self._door.store.accept(acceptance), None
        else:
            stored, reply = await self._commit_and_wait(acceptance)
        if stored.duplicate:
            self._door.counters.duplicate(self._route)
        else:
            self._door.counters.accepted(self._route, self._door.clock.now() - started)
        planned = None if message.claim is None else partial(self._door.planned, stored.uid)
        return Accepted(id=stored.uid, duplicate=stored.duplicate, reply=reply, planned=planned)

    async def _elsewhere(self, owner: int, message: Incoming, acceptance: Acceptance) -> Accepted:
        """The raw message goes to its owner, which plans and commits it; what was kept of it here is let go."""
        crew, store = self._door.crew, self._door.store
        assert crew is not None
        kept = acceptance.message.body
        body = await store.kept(kept)
        store.bodies.remove([item.file for item in (kept, *_bodies(acceptance.message)) if item.file is not None])
        answer = await crew.pass_on(owner, passed(self._route, self._name, message, body))
        planned = None if message.claim is None else partial(_planned_at, crew, owner, answer.id)
        return accepted(answer, planned)

    def _admit(self) -> None:
        if not self._door.open():
            raise Closing("the bus is stopping")
        busy = self._door.store.room(self._targets)
        if busy is not None:
            raise busy

    async def _prepare(self, incoming: Incoming, now: float) -> Acceptance:
        """The plan of a message and what it is recognised by; nothing durable but a large body's file yet."""
        given = incoming.body
        if type(given) is bytes and len(given) <= INLINE:
            body, data = NewBody(data=given, size=len(given), media=incoming.media_type), given
        else:
            body, data = await self._large(incoming)
        message = self._message(incoming, data, now)
        payload = body.sha256 or hashlib.sha256(data).digest()
        kind, key = ("claim", incoming.claim) if incoming.claim is not None else ("body", payload)
        self._refuse_poison(kind, key)
        with self._door.store.inflight.holding(kind, key):
            plan = await self._plan(message, body, incoming.once)
        new = await self._keep_large(plan.message)
        return Acceptance(
            message=new,
            key=plan.key,
            sender_key=None if incoming.once == plan.key else incoming.once,
            claim=incoming.claim,
            payload=payload,
            once_for=float(self._planner.spec.once_for),
            source=self._name,
            checkpoint=None if incoming.checkpoint is None else (self._name, incoming.checkpoint),
        )

    def _refuse_poison(self, kind: str, key: str | bytes) -> None:
        """What the process died of again and again is refused for good (R15)."""
        deaths = self._door.store.crashed(kind, key)
        if deaths >= POISON:
            raise Invalid(f"poison: the process died {deaths} times while this was being planned", code="M295")

    async def _large(self, incoming: Incoming) -> tuple[NewBody, bytes]:
        """A body that is kept in a file, and its bytes where planning looks at them."""
        given = incoming.body
        kept = await self._door.store.keep(given)
        kept = replace(kept, media=incoming.media_type)
        if kept.data is not None:
            return kept, kept.data
        if isinstance(given, bytes):
            return kept, given
        if self._planner.blueprint.opaque:
            return kept, b""
        return kept, await self._door.store.kept(kept)

    def _message(self, incoming: Incoming, data: bytes, now: float) -> Message:
        headers = Headers()
        hops = 0
        for name, value in incoming.headers.items():
            lowered = name.lower()
            if not lowered.startswith("esb-"):
                headers[lowered] = value
            elif lowered == HOPS_HEADER and value.isdigit():
                hops = int(value[:4])
        if hops:
            headers[HOPS_HEADER] = str(hops)
        uid = new_uid(now) if incoming.claim is None else claimed_uid(self._route, incoming.claim)
        return Message(
            uid=uid,
            route=self._route,
            accepted_at=now,
            body=data,
            raw=data,
            headers=headers,
            source=incoming.about,
            media_type=incoming.media_type,
            hops=hops,
            caller=incoming.caller,
        )

    async def _plan(self, message: Message, body: NewBody, once: str | None) -> Plan:
        blueprint, watchdog = self._planner.blueprint, self._door.watchdog
        if blueprint.blocking or (body.size > OFF_LOOP and not blueprint.opaque):
            return await watchdog.threaded(self._owner, body.size, self._planner.plan, message, body, once=once)
        return watchdog.guard(self._owner, self._planner.plan, message, body, once=once)

    async def _keep_large(self, message: NewMessage) -> NewMessage:
        """Planned bodies that are large become files before the rows that name them."""
        if all(delivery.body is None or delivery.body.size <= INLINE for delivery in message.deliveries):
            return message
        return replace(message, deliveries=[await self._kept(delivery) for delivery in message.deliveries])

    async def _kept(self, delivery: NewDelivery) -> NewDelivery:
        body = delivery.body
        if body is None or body.data is None or body.size <= INLINE:
            return delivery
        return replace(delivery, body=replace(await self._door.store.keep(body.data), media=body.media))

    def _with_reply(self, acceptance: Acceptance) -> Acceptance:
        """A delivery that a sender waits for ends with its request, unless `late = "deliver"` (R6)."""
        reply = self._reply
        if reply.kind != "from" or reply.late == "deliver":
            return acceptance
        message = acceptance.message
        ends = message.accepted_at + reply.timeout
        deliveries = [
            replace(delivery, expires=ends) if delivery.target == reply.target else delivery
            for delivery in message.deliveries
        ]
        return replace(acceptance, message=replace(message, deliveries=deliveries))

    async def _commit_and_wait(self, acceptance: Acceptance) -> tuple[Stored, Reply]:
        """The route's answer: the kept one, or what the deliveries come to within the time. The wait begins before the
        commit, so that no outcome is missed."""
        uid = acceptance.message.uid
        with self._door.waiters.expect(uid) as future:
            stored = await self._door.store.accept(self._with_reply(acceptance))
            if stored.answer is not None:
                return stored, unpack(stored.answer)
            if stored.duplicate and stored.state != "open":
                return stored, settled(uid, stored.state, "")
            over = not acceptance.message.deliveries or acceptance.message.state != "open"
            if not stored.duplicate and not acceptance.message.stage and over:
                return stored, settled(uid, acceptance.message.state, acceptance.message.reason)
            if stored.uid == uid or stored.duplicate:
                return stored, await self._door.waiters.within(future, uid, self._reply.timeout)
        # A key used anew after its time: the message got an id of its own while it was committed.
        with self._door.waiters.expect(stored.uid) as future:
            state = await self._door.store.message_state(stored.uid)
            if state is not None and state.state != "open":
                return stored, settled(stored.uid, state.state, state.reason)
            return stored, await self._door.waiters.within(future, stored.uid, self._reply.timeout)
