"""Answers that wait for an outcome: who waits, and what a settled message says to its sender (R6)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec

from esb.clock import Clock
from esb.ports import Receipt, Reply
from esb.table.model import ReplySpec

_json = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Reply).decode


def pack(reply: Reply) -> bytes:
    """A reply as it is kept in the ledger."""
    return _pack(reply)


def unpack(answer: bytes) -> Reply:
    """The kept reply."""
    return _unpack(answer)


def delivered(spec: ReplySpec, uid: str, receipt: Receipt | None) -> Reply:
    """What a sender hears when what it waits for was delivered."""
    if spec.kind == "from" and receipt is not None and receipt.reply is not None:
        return receipt.reply
    return Reply(status=spec.status, body=_json({"id": uid, "state": "delivered"}))


def failed(uid: str, state: str, reason: str) -> Reply:
    """What a sender hears when it will not be delivered: 502 with the id, never another 5xx."""
    said = {"type": "urn:esb:D460", "title": "not delivered", "status": 502, "code": "D460"}
    body = _json({**said, "id": uid, "state": state, "detail": reason[:200]})
    return Reply(status=502, body=body, media_type="application/problem+json")


def settled(uid: str, state: str, reason: str) -> Reply:
    """What a sender hears of a message that has ended already: 200 when it ended well, else 502 with the id."""
    if state in ("done", "dropped", "split"):
        return Reply(status=200, body=_json({"id": uid, "state": state}))
    return failed(uid, state, reason)


def still_open(uid: str) -> Reply:
    """What a sender hears when the time is over and the outcome is not known yet: accepted, and where to look."""
    return Reply(status=202, body=_json({"id": uid, "state": "open"}), headers={"location": f"/messages/{uid}"})


class Waiters:
    """Senders that wait, by message id. Several may wait for one message (a resend of a key in progress, R3)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[str, list[asyncio.Future[Reply]]] = {}

    @contextmanager
    def expect(self, uid: str) -> Iterator[asyncio.Future[Reply]]:
        """A future that `answer` resolves; forgotten at the end of the block."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(uid, []).append(future)
        try:
            yield future
        finally:
            self._waiting[uid].remove(future)
            if not self._waiting[uid]:
                del self._waiting[uid]

    async def within(self, future: asyncio.Future[Reply], uid: str, seconds: float) -> Reply:
        """The answer, or 202 when the time is over first."""
        clock: asyncio.Future[Any] = asyncio.ensure_future(self._clock.sleep(seconds))
        answer: asyncio.Future[Any] = future
        try:
            await asyncio.wait({answer, clock}, return_when=asyncio.FIRST_COMPLETED)
            return future.result() if future.done() else still_open(uid)
        finally:
            clock.cancel()

    def answer(self, uid: str, reply: Reply) -> None:
        """Tells everybody who waits for this message."""
        for future in self._waiting.get(uid, ()):
            if not future.done():
                future.set_result(reply)

    def tell(self, routes: Mapping[str, ReplySpec], row: Settling, reply: Reply | None, state: str) -> None:
        """One outcome is on disk: the waiting sender hears when its target has the message, or when all have, or when
        one is dead. `state` is the message's."""
        spec = answers(routes, row.route, row.target)
        if spec is None:
            return
        if reply is not None and (spec.target is not None or reply.status == 502 or state == "done"):
            self.answer(row.uid, reply)
        elif state != "open":
            self.answer(row.uid, settled(row.uid, state, ""))


class Settling(Protocol):
    """A delivery whose outcome is told."""

    uid: str
    route: str
    target: str


def answers(routes: Mapping[str, ReplySpec], route: str, target: str) -> ReplySpec | None:
    """The reply that a delivery of this route to this target may decide; None when nobody waits for it."""
    spec = routes.get(route)
    return spec if spec is not None and spec.kind != "stored" and spec.target in (None, target) else None
