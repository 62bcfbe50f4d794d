"""The amqp target: publishes to an exchange of another system, with confirms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from esb_plugins.amqp.connection import LOST, check_address, connect, ours, translated
from msgspec import Struct

from esb import (
    Component,
    Context,
    Delivery,
    Duration,
    HeaderTemplate,
    MaybeSent,
    OptionError,
    Receipt,
    Rejected,
    Secret,
    Template,
)


class AmqpTarget(Struct, frozen=True, forbid_unknown_fields=True):
    """`exchange` "" is the default one, whose routing key is a queue's name. The delivery id is the `message_id`."""

    url: str
    routing_key: Template
    exchange: str = ""
    headers: dict[str, HeaderTemplate] = {}
    user: str = "guest"
    password: Secret | None = None
    persistent: bool = True
    priority: int | None = None
    expiration: Duration | None = None
    correlation_id: Template | None = None
    reply_to: str | None = None
    type: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None


class AmqpPublisher:
    """One channel that many deliveries use at once; opened anew when it was lost."""

    def __init__(self, options: AmqpTarget, context: Context) -> None:
        self._options = options
        self._context = context
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._exchange: AbstractExchange | None = None
        self._opening = asyncio.Lock()

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Returns when the broker has confirmed. Raises Unavailable, Unauthorized, Rejected, MaybeSent."""
        exchange = await self._ready()
        key = delivery.values.get("routing_key", self._options.routing_key)
        if len(key.encode()) > 255:
            raise Rejected(f'the routing key "{key[:60]}..." has over 255 bytes', code="D486")
        message = await self._message(delivery)
        where = f'exchange "{self._options.exchange}" with routing key "{key}"'
        try:
            await exchange.publish(message, routing_key=key, mandatory=True)
        except asyncio.CancelledError as error:
            if ours():
                raise
            await self._drop()
            raise MaybeSent(f"{where}: the connection was lost before the confirm", code="D484") from error
        except LOST as error:
            failure = translated(error, where)
            if not isinstance(error, aio_pika.exceptions.DeliveryError):
                await self._drop()
            raise failure from error
        return Receipt(note=f"confirmed by {where}")

    async def _message(self, delivery: Delivery) -> aio_pika.Message:
        options = self._options
        headers = {name: delivery.values.get(f"headers.{name}", text) for name, text in options.headers.items()}
        headers["esb-hops"] = str(delivery.hops + 1)
        if self._context.id_header:
            headers[self._context.id_header] = delivery.id
        correlation = None if options.correlation_id is None else delivery.values.get("correlation_id")
        return aio_pika.Message(
            await delivery.body(),
            headers=dict(headers),
            content_type=delivery.media_type or None,
            message_id=delivery.id,
            correlation_id=correlation if correlation is not None else options.correlation_id,
            reply_to=options.reply_to,
            type=options.type,
            priority=options.priority,
            expiration=None if options.expiration is None else float(options.expiration),
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT
            if options.persistent
            else aio_pika.DeliveryMode.NOT_PERSISTENT,
            timestamp=delivery.created,
        )

    async def _ready(self) -> AbstractExchange:
        async with self._opening:
            if self._exchange is None or self._channel is None or self._channel.is_closed:
                await self._drop()
                self._connection = await connect(self._options, self._context)
                self._channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
                self._exchange = await self._find(self._channel)
            return self._exchange

    async def _find(self, channel: AbstractChannel) -> AbstractExchange:
        """The exchange, which must be there: nothing is declared."""
        if not self._options.exchange:
            return channel.default_exchange
        try:
            return await channel.get_exchange(self._options.exchange, ensure=True)
        except LOST as error:
            await self._drop()
            raise translated(error, f'exchange "{self._options.exchange}"') from error

    async def _drop(self) -> None:
        connection, self._connection, self._channel, self._exchange = self._connection, None, None, None
        if connection is not None:
            with suppress(*LOST, TimeoutError):
                async with asyncio.timeout(2):
                    await connection.close()

    async def reach(self) -> str:
        """Connects, logs in, and looks for the exchange. Raises DeliveryError."""
        await self._ready()
        await self._drop()
        named = f', exchange "{self._options.exchange}" is there' if self._options.exchange else ""
        return f"{self._options.url} takes connections{named}"


def check_options(options: AmqpTarget) -> None:
    """Everything about the options that can be wrong before the first message."""
    check_address(options)
    if options.priority is not None and not 0 <= options.priority <= 255:
        raise OptionError("priority", f"is {options.priority}", "it is 0 to 255", code="E242")


@asynccontextmanager
async def _open(options: AmqpTarget, context: Context) -> AsyncIterator[AmqpPublisher]:
    publisher = AmqpPublisher(options, context)
    try:
        yield publisher
    finally:
        await publisher._drop()


async def _probe(options: AmqpTarget, context: Context) -> str:
    return await AmqpPublisher(options, context).reach()


TARGET = Component(
    kind="target",
    name="amqp",
    about="Publishes to an exchange of an AMQP 0-9-1 broker, confirmed and persistent",
    options=AmqpTarget,
    main="url",
    open=_open,
    check=check_options,
    probe=_probe,
    example='[target.events]\namqp = "amqp://mq.example.org/shop"\nexchange = "events"\nrouting_key = "order.created"',
    idempotent="yes",
)
