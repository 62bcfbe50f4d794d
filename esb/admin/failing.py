"""The bytes at the point where planning a message failed: it is planned once more, which changes nothing (R20)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from esb.admin.advice import error_class
from esb.blueprint import ReadyStep
from esb.bus import Bus
from esb.errors import MessageError
from esb.message import Headers, Message, hops_of
from esb.pipeline import Planner
from esb.stepping import Voice
from esb.store import Opened
from esb.store.records import NewBody

_HARMFUL = ("fault", "timeout", "poison")
"""Error classes of a message that is not planned again only to be looked at."""


class Witness(Voice):
    """Remembers the message as the last step left it, or as the failing one was given it."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self._failed = False

    def step(self, step: ReadyStep, before: Message, after: Sequence[Message] | BaseException | None) -> None:
        if isinstance(after, BaseException):
            self.message, self._failed = before, True
        elif after and not self._failed:
            self.message = after[-1]


async def at_failing_point(bus: Bus, found: Opened, data: bytes) -> bytes | None:
    """What a message of these bytes was where it failed; None where that cannot be told: a part of a split, one that
    does harm, a table that can no longer be built."""
    journey = found.journey
    if journey.message.made == "part" or error_class(found) in _HARMFUL:
        return None
    planner = await bus.planner(journey.message.route, journey.table_hash)
    if planner is None:
        return None
    json = bus.services.codec("json", {})
    message = _first(found, data)
    try:
        return await bus.watchdog.threaded(
            f"route {message.route}", len(data), _planned, planner, message, NewBody(data=data), json
        )
    except MessageError:
        return None


def _planned(planner: Planner, message: Message, body: NewBody, json: Any) -> bytes:
    witness = Witness(message)
    planner.plan(message, body, may_refuse=False, voice=witness)
    return _bytes(witness.message, json)


def _bytes(message: Message, json: Any) -> bytes:
    """In its own format where that has a form for it, else as JSON."""
    if isinstance(message.body, bytes):
        return message.body
    if not message.changed:
        return message.raw
    for codec in (message.codec, json):
        try:
            if codec is not None:
                data: bytes = codec.encode(message.body, message.memory if codec is message.codec else None)
                return data
        except MessageError:
            continue
    return message.raw


def _first(found: Opened, data: bytes) -> Message:
    """The stored message as its route saw it first."""
    journey = found.journey
    return Message(
        uid=journey.message.uid,
        route=journey.message.route,
        accepted_at=journey.message.accepted_at,
        body=data,
        raw=data,
        headers=Headers(journey.headers),
        source=journey.source,
        media_type=journey.media,
        hops=hops_of(journey.headers),
        caller=journey.caller,
    )
