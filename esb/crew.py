"""Several workers on one machine: who owns a key (R27), who runs a source that one alone may run (R28), and how a
message gets from the worker that received it to its owner."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from esb.errors import Busy, Closing, Conflict, EsbError, Invalid, MessageError, StoreError
from esb.ports import Accepted, Incoming, Outcome, Reply
from esb.store.records import Acceptance, NewMessage

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks at a lease that another worker has."""
AWAY = 2.0
"""Seconds that a sender is told to wait when the owner of its key is away."""
MOST = 1 << 30
"""Bytes of one frame between workers at most."""


class Passed(Struct, frozen=True, kw_only=True):
    """What one worker asks another: to accept a message of a route, or how the planning of one ended (`planned`)."""

    route: str = ""
    source: str = ""
    body: bytes = b""
    headers: Mapping[str, str] = {}
    about: Mapping[str, Any] = {}
    once: str | None = None
    claim: str | None = None
    caller: str = ""
    media_type: str = ""
    planned: str | None = None


class Answer(Struct, frozen=True, kw_only=True):
    """Accepted, an outcome, or the refusal (`kind` is its class)."""

    id: str = ""
    duplicate: bool = False
    reply: Reply | None = None
    outcome: Outcome | None = None
    kind: str = ""
    code: str = ""
    text: str = ""
    status: int = 422
    retry_after: float = AWAY


_encode = msgspec.msgpack.Encoder(enc_hook=str).encode
_passed = msgspec.msgpack.Decoder(Passed).decode
_answer = msgspec.msgpack.Decoder(Answer).decode

Take = Callable[[Passed], Awaitable[Accepted]]
Planned = Callable[[str], Awaitable[Outcome]]


class Crew:
    """The workers of one bus, seen from one of them: `number` of `count`. `folder` is the group's, in which each worker
    has a folder of its own; the owner of a key is the same for all of them (rendezvous hashing)."""

    def __init__(self, number: int, count: int, folder: Path) -> None:
        self.number = number
        self.count = count
        self._folder = folder

    def place(self, number: int) -> Path:
        """The folder of a worker's store."""
        return place(self._folder, number)

    def owner(self, key: str) -> int:
        """Whose key this is."""
        return max(range(1, self.count + 1), key=lambda number: hashlib.sha256(f"{number} {key}".encode()).digest())

    def elsewhere(self, acceptance: Acceptance) -> int | None:
        """Which other worker must accept this; None where it may be this one."""
        key = key_of(acceptance)
        owner = self.number if key is None else self.owner(key)
        return None if owner == self.number else owner

    @asynccontextmanager
    async def lease(self, name: str) -> AsyncIterator[None]:
        """The block runs in one worker at a time; it ends with the process, however that ends (flock)."""
        file = self._folder / "leases" / hashlib.sha256(name.encode()).hexdigest()[:32]
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await _until_locked(descriptor)
            yield
        finally:
            os.close(descriptor)

    # Handing over

    async def pass_on(self, owner: int, passed: Passed) -> Answer:
        """What the owner says, when it has committed. Raises Busy while it is away: nothing is accepted then."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.place(owner) / "crew.sock"))
        except OSError as error:
            raise Busy(f"worker {owner}, which owns this key, is away", retry_after=AWAY) from error
        try:
            await _write(writer, _encode(passed))
            return _answer(await _read(reader))
        except (OSError, asyncio.IncompleteReadError) as error:
            raise StoreError(f"worker {owner} ended before it answered: resend") from error
        finally:
            writer.close()

    @asynccontextmanager
    async def serving(self, take: Take, planned: Planned) -> AsyncIterator[None]:
        """Other workers are answered for as long as the block."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError, asyncio.IncompleteReadError):
                await _write(writer, _encode(await _answered(_passed(await _read(reader)), take, planned)))
            writer.close()

        path = self.place(self.number) / "crew.sock"
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(serve, str(path))
        finally:
            os.umask(before)
        try:
            yield
        finally:
            server.close()
            path.unlink(missing_ok=True)


def place(folder: Path, number: int) -> Path:
    """Where worker `number` of a bus has its store."""
    return folder / "workers" / str(number)


def key_of(acceptance: Acceptance) -> str | None:
    """What must meet in one worker: deliveries of one order key, messages of one once-key. What is planned only after
    the commit goes by its route."""
    message = acceptance.message
    keyed = (item for item in message.deliveries if item.order_key is not None)
    ordered = next((f"{item.target} {item.order_key}" for item in keyed), None)
    if ordered is not None:
        return f"order {ordered}"
    if message.stage and acceptance.claim is None:
        return f"route {message.route}"
    if acceptance.key is not None:
        return f"once {message.route} {message.caller} {acceptance.key}"
    return next((f"once {made.route} {made.caller} {made.once}" for made in _handed(message) if made.once), None)


def _handed(message: NewMessage) -> list[NewMessage]:
    return [made for item in message.made_messages for made in (item, *_handed(item))]


def passed(route: str, source: str, incoming: Incoming, body: bytes) -> Passed:
    """A message as another worker gets it."""
    return Passed(
        route=route,
        source=source,
        body=body,
        headers=dict(incoming.headers),
        about=incoming.about,
        once=incoming.once,
        claim=incoming.claim,
        caller=incoming.caller,
        media_type=incoming.media_type,
    )


def incoming(item: Passed) -> Incoming:
    """The message again."""
    return Incoming(
        body=item.body,
        headers=item.headers,
        about=item.about,
        once=item.once,
        claim=item.claim,
        caller=item.caller,
        media_type=item.media_type,
    )


def accepted(answer: Answer, planned: Callable[[], Awaitable[Outcome]] | None) -> Accepted:
    """The owner's answer as this worker's own; raises its refusal."""
    if answer.kind:
        raise _refusal(answer)
    return Accepted(id=answer.id, duplicate=answer.duplicate, reply=answer.reply, planned=planned)


def _refusal(answer: Answer) -> EsbError:
    match answer.kind:
        case "Busy":
            return Busy(answer.text, retry_after=answer.retry_after)
        case "Closing":
            return Busy(f"the owner of this key stops: {answer.text}", retry_after=AWAY)
        case "Conflict":
            return Conflict(answer.text, code=answer.code)
        case "Invalid":
            return Invalid(answer.text, code=answer.code, status=answer.status)
        case "MessageError":
            return MessageError(answer.text, code=answer.code)
        case _:
            return StoreError(answer.text, code=answer.code)


async def _answered(item: Passed, take: Take, planned: Planned) -> Answer:
    try:
        if item.planned is not None:
            return Answer(outcome=await planned(item.planned))
        found = await take(item)
        return Answer(id=found.id, duplicate=found.duplicate, reply=found.reply)
    except EsbError as error:
        kinds = (Busy, Closing, Conflict, Invalid, MessageError)
        kind = next((kind.__name__ for kind in kinds if isinstance(error, kind)), "StoreError")
        return Answer(
            kind=kind,
            code=error.code,
            text=str(error),
            status=getattr(error, "status", 422),
            retry_after=getattr(error, "retry_after", AWAY),
        )


async def _until_locked(descriptor: int) -> None:
    """Asks again and again: a wait inside flock() could not be cancelled."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            await asyncio.sleep(LOOK)


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(len(data).to_bytes(4, "big") + data)
    await writer.drain()


async def _read(reader: asyncio.StreamReader) -> bytes:
    size = int.from_bytes(await reader.readexactly(4), "big")
    if size > MOST:
        raise OSError(f"a frame of {size} bytes")
    return await reader.readexactly(size)
