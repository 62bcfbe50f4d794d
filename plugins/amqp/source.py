"""The amqp source: takes messages from a queue of another system and acknowledges them when they are stored."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

import msgspec
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from esb_plugins.amqp.connection import LOST, check_address, connect, ours
from msgspec import Struct

from esb import (
    Accept,
    Busy,
    Closing,
    Component,
    Context,
    DeliveryError,
    Incoming,
    MessageError,
    OptionError,
    Secret,
    StoreError,
)

log = logging.getLogger(__name__)

AGAIN = 1.0
"""Seconds before what could not be stored is offered again."""
FIRST, CAP = 0.5, 30.0
"""Seconds between two tries to connect: at first, and at most."""
MOST = 100
"""Messages of one commit at most."""
LONGEST = 16_384
"""Characters of the longest header that is kept."""
DECLARED: dict[str, Any] = {"x-queue-type": "quorum"}

_encode = msgspec.json.Encoder(enc_hook=str).encode


class AmqpSource(Struct, frozen=True, forbid_unknown_fields=True):
    """`declare` makes the queue (durable, quorum) and binds it to `exchange` by each of `bindings`; without it nothing
    is declared. `refused` is what becomes of a message that the route refuses for good: it stays in the queue's care,
    unacknowledged, or is rejected, which sends it to the queue's dead letter exchange and drops it where there is
    none."""

    url: str
    queue: str
    user: str = "guest"
    password: Secret | None = None
    prefetch: int = 100
    refused: Literal["keep", "reject"] = "keep"
    declare: bool = False
    exchange: str | None = None
    bindings: list[str] = []
    ca: str | None = None
    cert: str | None = None
    key: str | None = None


class AmqpConsumer:
    """Consumes over one connection after the other."""

    def __init__(self, options: AmqpSource, context: Context) -> None:
        self._options = options
        self._context = context
        self._kept = 0

    async def run(self, accept: Accept) -> None:
        """Runs until cancelled."""
        pause = FIRST
        while True:
            try:
                async with self._consuming() as (channel, arrived):
                    pause = FIRST
                    self._context.health("up")
                    await self._take(channel, arrived, accept)
                reason = "the connection was lost"
            except asyncio.CancelledError:
                if ours():
                    raise
                reason = "the connection was lost"
            except (DeliveryError, *LOST, TimeoutError) as error:
                reason = str(error) or type(error).__name__
            self._context.health("down", f"queue {self._options.queue}: {reason}")
            await self._context.clock.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, CAP)

    @asynccontextmanager
    async def _consuming(self) -> AsyncIterator[tuple[AbstractChannel, asyncio.Queue[AbstractIncomingMessage | None]]]:
        """What arrives, and None when the connection or the consumer is gone."""
        connection = await connect(self._options, self._context)
        try:
            arrived: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()
            channel = await connection.channel(publisher_confirms=False)
            channel.close_callbacks.add(lambda *_: arrived.put_nowait(None))
            await channel.set_qos(prefetch_count=self._options.prefetch)
            queue = await self._queue(channel)
            await queue.consume(arrived.put)
            watching = asyncio.ensure_future(self._watch(channel, queue, arrived))
            try:
                yield channel, arrived
            finally:
                watching.cancel()
        finally:
            with suppress(*LOST, TimeoutError):
                async with asyncio.timeout(2):
                    await connection.close()

    async def _queue(self, channel: AbstractChannel) -> AbstractQueue:
        options = self._options
        if not options.declare:
            return await channel.get_queue(options.queue, ensure=True)
        queue = await channel.declare_queue(options.queue, durable=True, arguments=DECLARED)
        for binding in options.bindings:
            await queue.bind(options.exchange or "", binding)
        return queue

    async def _watch(self, channel: AbstractChannel, queue: AbstractQueue, arrived: asyncio.Queue[Any]) -> None:
        """A queue that is deleted ends its consumer without a word on an open channel."""
        underlay: Any = await channel.get_underlay_channel()
        while underlay.consumers:
            await self._context.clock.sleep(AGAIN)
        arrived.put_nowait(None)

    async def _take(self, channel: AbstractChannel, arrived: asyncio.Queue[Any], accept: Accept) -> None:
        """Whatever has arrived while the last commit ran is the next one. Returns when the channel is gone."""
        ended = False
        while not ended:
            batch = [await arrived.get()]
            while not arrived.empty() and len(batch) < MOST:
                batch.append(arrived.get_nowait())
            ended = None in batch
            messages = [message for message in batch if message is not None]
            if messages and not ended:
                await self._offer(messages, accept)

    async def _offer(self, messages: Sequence[AbstractIncomingMessage], accept: Accept) -> None:
        """Until each is stored or refused for good; nothing is put back into the queue in a loop."""
        left = list(messages)
        while left:
            outcomes = await accept.many([self._incoming(message) for message in left])
            again: list[AbstractIncomingMessage] = []
            stored: list[AbstractIncomingMessage] = []
            wait = AGAIN
            for message, outcome in zip(left, outcomes, strict=True):
                match outcome:
                    case MessageError() as error:
                        await self._refuse(message, f"{error.code} {error}")
                    case Closing():
                        await asyncio.Event().wait()
                    case Busy() | StoreError() as error:
                        wait = max(wait, getattr(error, "retry_after", AGAIN))
                        again.append(message)
                    case Exception() as error:
                        raise error
                    case _:
                        stored.append(message)
            await self._acknowledge(stored, whole=len(stored) == len(messages))
            left = again
            if left:
                log.info("%d messages of queue %s wait for room", len(left), self._options.queue)
                await self._context.clock.sleep(wait)

    async def _acknowledge(self, stored: Sequence[AbstractIncomingMessage], *, whole: bool) -> None:
        """All at once where nothing before them is left open on this channel."""
        if whole and not self._kept:
            await stored[-1].ack(multiple=True)
            return
        for message in stored:
            await message.ack()

    async def _refuse(self, message: AbstractIncomingMessage, reason: str) -> None:
        if self._options.refused == "reject":
            log.warning("a message of queue %s is rejected: %s", self._options.queue, reason)
            await message.reject(requeue=False)
            return
        self._kept += 1
        said = f"{self._kept} refused and not acknowledged, the last one: {reason}"
        self._context.health("degraded", f"queue {self._options.queue}: {said}")

    def _incoming(self, message: AbstractIncomingMessage) -> Incoming:
        """The message as the bus takes it. One with a message id is known again when it comes once more (R2)."""
        digest = hashlib.sha256(message.body).hexdigest()
        return Incoming(
            body=message.body,
            headers=_headers(message.headers),
            about={
                "queue": self._options.queue,
                "exchange": message.exchange or "",
                "routing_key": message.routing_key or "",
                "redelivered": bool(message.redelivered),
                "message_id": message.message_id or "",
                "correlation_id": message.correlation_id or "",
                "reply_to": message.reply_to or "",
                "type": message.type or "",
                "content_type": message.content_type or "",
                "timestamp": message.timestamp,
            },
            claim=f"{self._options.queue}/{message.message_id}/{digest}" if message.message_id else None,
            media_type=message.content_type or "",
        )


def _headers(given: Mapping[str, Any]) -> dict[str, str]:
    """Texts as they are, everything else as JSON; what is longer than any header stays behind."""
    made: dict[str, str] = {}
    for name, value in given.items():
        text = value if isinstance(value, str) else _text(value)
        if len(text) <= LONGEST and not any(mark in f"{name}{text}" for mark in "\r\n\0"):
            made[str(name)] = text
        else:
            log.info("the header %.60s is left behind: %d characters", name, len(text))
    return made


def _text(value: Any) -> str:
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "backslashreplace")
    return _encode(value).decode()


def check_options(options: AmqpSource) -> None:
    """Raises OptionError for what can be wrong before anything is opened."""
    check_address(options)
    if not 1 <= options.prefetch <= 65_535:
        raise OptionError("prefetch", f"is {options.prefetch}", "it is 1 to 65535", code="E242")
    if options.bindings and not (options.declare and options.exchange):
        hint = 'write declare = true and exchange = "NAME" beside it'
        raise OptionError("bindings", "only a queue that is declared is bound", hint, code="E242")


@asynccontextmanager
async def _open(options: AmqpSource, context: Context) -> AsyncIterator[AmqpConsumer]:
    yield AmqpConsumer(options, context)


SOURCE = Component(
    kind="source",
    name="amqp",
    about="Messages from a queue of an AMQP 0-9-1 broker, acknowledged when they are stored",
    options=AmqpSource,
    main="url",
    open=_open,
    check=check_options,
    example='from = { amqp = "amqp://mq.example.org:5672/shop", queue = "orders" }',
)
