"""RabbitMQ over aio-pika: two plain connections, one to publish and one to consume, and a supervisor of our own.

aio-pika's robust connection is not used: it keeps queues by weak reference and may come back without consumers, and its
publish hangs over a lost connection. Everything that must be there is written down here and made anew each time.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import aio_pika
import aiormq
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from msgspec import Struct

from esb.broker.port import Arrived, Away, Handler, Lost, NotTaken, Unsure
from esb.broker.topology import Topology
from esb.errors import describe

log = logging.getLogger(__name__)

CONNECT = 10.0
"""Seconds for one try to connect."""
CONSUME = 2.0
"""Seconds for the answer to a consume: a quorum queue that is just recovering (3.10) may never give one, and gives one
at the next try."""
SILENT = 3
"""Consumes in a row without an answer after which a person is told."""
PUBLISH = 15.0
"""Seconds after which it is not known whether the broker has a frame."""
FIRST, CAP = 0.2, 3.0
"""Seconds between two tries to connect: at first, and at most."""
LOOK = 5.0
"""Seconds between two looks of the watchdog (R26)."""
REFUSED = 30.0
"""Seconds before a queue that the broker refuses is tried again."""

LOST = (aiormq.exceptions.AMQPError, aiormq.exceptions.ChannelInvalidStateError, ConnectionError, OSError, RuntimeError)


class Server(Struct, frozen=True):
    """How a broker is reached. `hosts` are all of a cluster, tried in turn; `password` never shows in a log."""

    hosts: Sequence[tuple[str, int]]
    heartbeat: int
    vhost: str = "/"
    user: str = "guest"
    password: str = "guest"
    tls: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"{self.user}@{','.join(f'{host}:{port}' for host, port in self.hosts)}{self.vhost}"


class Consumer:
    """One queue that is consumed, over all connections. `generation` counts the lives of its channel."""

    def __init__(self, queue: str, handler: Handler, prefetch: int, *, exclusive: bool) -> None:
        self.queue = queue
        self.handler = handler
        self.prefetch = prefetch
        self.exclusive = exclusive
        self.channel: AbstractChannel | None = None
        self.generation = 0
        self.wanted = True
        self.tag = ""
        self.silent = 0
        self.trouble = ""
        self.again = 0.0

    @property
    def alive(self) -> bool:
        return self.channel is not None and not self.channel.is_closed

    async def cancelled(self) -> bool:
        """Whether the broker has ended it while the channel is open: its queue was deleted."""
        if not self.alive or not self.tag:
            return False
        assert self.channel is not None
        underlay: Any = await self.channel.get_underlay_channel()
        return self.tag not in underlay.consumers


class RabbitMQ:
    """The transport. `run` keeps it connected until it is cancelled; everything else may be called at any time.

    `lost` hears of queues that were missing; `health` of how it is doing: component, state, reason.
    """

    def __init__(
        self, server: Server, topology: Topology, queues: Sequence[str], health: Callable[[str, str, str], None]
    ) -> None:
        self._server = server
        self._topology = topology
        self._queues = list(queues)
        self._health = health
        self._consumers: dict[str, Consumer] = {}
        self._publisher: AbstractChannel | None = None
        self._connections: list[AbstractConnection] = []
        self._up = asyncio.Event()
        self._changed = asyncio.Event()
        self._asking: AbstractChannel | None = None
        self._refused: dict[str, str] = {}
        self._next_host = random.randrange(max(1, len(server.hosts)))
        self.lost: Lost = _nobody

    # Publishing

    @property
    def connected(self) -> bool:
        return self._up.is_set()

    async def up(self) -> None:
        await self._up.wait()

    async def publish(self, queue: str, body: bytes, media_type: str) -> None:
        channel = self._publisher
        if queue in self._refused:
            raise NotTaken(f"queue {queue} cannot be used: {self._refused[queue]}")
        if channel is None or channel.is_closed or not self._up.is_set():
            raise Away("not connected")
        message = aio_pika.Message(body, content_type=media_type, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        try:
            async with asyncio.timeout(PUBLISH):
                await channel.default_exchange.publish(message, routing_key=queue, mandatory=True)
        except aiormq.exceptions.PublishError as error:
            self._changed.set()
            raise NotTaken(f"no queue {queue}", returned=True) from error
        except aiormq.exceptions.DeliveryError as error:
            raise NotTaken(f"queue {queue} takes nothing") from error
        except TimeoutError as error:
            raise Unsure(f"no confirm within {PUBLISH:.0f} s") from error
        except asyncio.CancelledError as error:
            if _ours():
                raise
            self._drop()
            raise Unsure("the connection was lost") from error
        except LOST as error:
            self._drop()
            raise Unsure(describe(error)) from error

    # Consuming

    def consume(self, queue: str, handler: Handler, *, prefetch: int, exclusive: bool = False) -> None:
        known = self._consumers.get(queue)
        if known is None:
            self._consumers[queue] = Consumer(queue, handler, prefetch, exclusive=exclusive)
        else:
            known.wanted = True
        self._changed.set()

    async def cancel(self, queue: str) -> None:
        consumer = self._consumers.get(queue)
        if consumer is not None:
            consumer.wanted = False
            await self._close(consumer)

    async def acknowledge(self, frame: Arrived) -> None:
        await self._answer(frame, lambda channel: channel.basic_ack(frame.tag))

    async def discard(self, frame: Arrived) -> None:
        await self._answer(frame, lambda channel: channel.basic_reject(frame.tag, requeue=False))

    async def _answer(self, frame: Arrived, call: Callable[[Any], Awaitable[Any]]) -> None:
        """An answer on the channel that the frame came by, and on no later one: an unknown tag closes a channel."""
        consumer = self._consumers.get(frame.queue)
        if consumer is None or consumer.generation != frame.channel or not consumer.alive:
            return
        assert consumer.channel is not None
        try:
            await call(await consumer.channel.get_underlay_channel())
        except asyncio.CancelledError:
            if _ours():
                raise
        except LOST as error:
            log.info("an acknowledgement of %s was lost: %s", frame.queue, describe(error))

    # The supervisor

    async def run(self) -> None:
        """Connects, and connects again, until cancelled."""
        pause = FIRST
        while True:
            try:
                await self._open()
                pause = FIRST
                await self._watch()
                raise ConnectionError("the connection was lost")
            except asyncio.CancelledError:
                await self._shut()
                if _ours():
                    raise
                reason = "the connection was lost"
            except (*LOST, TimeoutError) as error:
                reason = _without(describe(error), self._server.password)
            await self._shut()
            self._health("broker", "degraded", f"{reason}: deliveries wait in the outbox")
            log.warning("the broker %r is away: %s", self._server, reason)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, CAP)

    async def _open(self) -> None:
        publishing, consuming = await self._connect("out"), await self._connect("in")
        self._connections = [publishing, consuming]
        for connection in self._connections:
            connection.close_callbacks.add(lambda *_: self._changed.set())
        self._asking = None
        await self._declare_all()
        await self._look_after()
        self._publisher = await publishing.channel(publisher_confirms=True, on_return_raises=True)
        for consumer in self._consumers.values():
            consumer.again = 0.0
        self._up.set()
        await self._consume_all()
        self._health("broker", "up", "")
        log.info("connected to the broker %r", self._server)

    async def _connect(self, name: str) -> AbstractConnection:
        """To the next host of the cluster."""
        server = self._server
        host, port = server.hosts[self._next_host % len(server.hosts)]
        try:
            return await aio_pika.connect(
                host=host,
                port=port,
                login=server.user,
                password=server.password,
                virtualhost=server.vhost,
                ssl=server.tls is not None,
                ssl_context=server.tls,
                timeout=CONNECT,
                heartbeat=server.heartbeat,
                client_properties={"connection_name": f"esb {self._topology.group} {name}"},
            )
        except BaseException:
            self._next_host += 1
            raise

    async def _declare_all(self) -> None:
        """Every queue, with its arguments. One that stands there with others concerns itself alone."""
        missing = [queue for queue in self._all_queues() if await self._ask(queue) is None]
        self._refused = {}
        for queue in self._all_queues():
            await self._declare(queue)
        if missing:
            await self.lost(missing)

    def _all_queues(self) -> list[str]:
        return [self._topology.dead_frames, *self._queues]

    async def _ask(self, queue: str) -> int | None:
        """How many consumers a queue counts; None when it is missing, which costs the channel that asked."""
        if self._asking is None or self._asking.is_closed:
            self._asking = await self._connections[0].channel()
        try:
            found = await self._asking.declare_queue(queue, durable=True, passive=True, timeout=CONNECT)
        except aiormq.exceptions.ChannelNotFoundEntity:
            return None
        return found.declaration_result.consumer_count or 0

    async def _declare(self, queue: str) -> None:
        channel = await self._connections[0].channel()
        try:
            await channel.declare_queue(queue, durable=True, arguments=self._topology.arguments(queue), timeout=CONNECT)
        except aiormq.exceptions.ChannelClosed as error:
            self._refused[queue] = describe(error)
            self._health(f"queue.{queue}", "down", self._refused[queue])
            log.error("queue %s cannot be used: %s", queue, self._refused[queue])
        finally:
            await _closed(channel)

    async def _look_after(self) -> None:
        """A queue that went is made anew; one that we consume and that counts no consumer has lost ours without a word
        (R26)."""
        missing: list[str] = []
        for queue in self._all_queues():
            count = await self._ask(queue)
            if count is None:
                log.error("queue %s is gone: it is made anew", queue)
                missing.append(queue)
                await self._declare(queue)
            consumer = self._consumers.get(queue)
            if not count and consumer is not None and consumer.wanted and consumer.alive:
                log.warning("queue %s counts no consumer: consumed anew", queue)
                await self._close(consumer)
            elif consumer is not None and await consumer.cancelled():
                log.error("queue %s was deleted, and made anew by another node", queue)
                missing.append(queue)
                await self._close(consumer)
        if missing:
            await self.lost(missing)

    async def _consume_all(self) -> None:
        now = asyncio.get_running_loop().time()
        waiting = [
            self._begin(consumer)
            for consumer in self._consumers.values()
            if consumer.wanted and consumer.queue not in self._refused and not consumer.alive and now >= consumer.again
        ]
        await asyncio.gather(*waiting)

    async def _begin(self, consumer: Consumer) -> None:
        """A new life of its channel. What the broker refuses concerns this queue alone."""
        channel = await self._connections[1].channel(publisher_confirms=False)
        consumer.generation += 1
        generation = consumer.generation
        consumer.channel = channel

        async def arrived(message: AbstractIncomingMessage) -> None:
            headers: Mapping[str, Any] = message.headers
            times = headers.get("x-delivery-count", 0)
            frame = Arrived(
                consumer.queue, message.body, message.delivery_tag or 0, generation, bool(message.redelivered),
                times if isinstance(times, int) else 0,
            )  # fmt: skip
            await consumer.handler(frame)

        try:
            await channel.set_qos(prefetch_count=consumer.prefetch, timeout=CONNECT)
            queue = await channel.get_queue(consumer.queue, ensure=False)
            consumer.tag = await queue.consume(arrived, exclusive=consumer.exclusive, timeout=CONSUME)
        except TimeoutError:
            await self._close(consumer)
            self._silent(consumer)
        except aiormq.exceptions.ChannelClosed as error:
            consumer.again = asyncio.get_running_loop().time() + REFUSED
            self._trouble(consumer, describe(error))
        else:
            consumer.silent = 0
            self._trouble(consumer, "")

    def _silent(self, consumer: Consumer) -> None:
        """A queue that is recovering answers the next time. One whose broker was killed within a second of its making
        never does (3.10, tried): only deleting it helps, and nothing is lost by it."""
        consumer.silent += 1
        log.info("queue %s did not answer a consume: asked again", consumer.queue)
        if consumer.silent >= SILENT:
            said = f"the queue does not answer: rabbitmqctl delete_queue {consumer.queue}; its deliveries go out again"
            self._trouble(consumer, said)
        self._changed.set()

    def _trouble(self, consumer: Consumer, reason: str) -> None:
        if reason != consumer.trouble:
            consumer.trouble = reason
            self._health(f"queue.{consumer.queue}", "degraded" if reason else "up", reason)

    async def _watch(self) -> None:
        """Returns when a connection is lost. Looks after the queues meanwhile (R26)."""
        while all(not item.is_closed for item in self._connections) and self._alive():
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._changed.wait()
            if any(item.is_closed for item in self._connections) or not self._alive():
                return
            await self._look_after()
            await self._consume_all()

    def _alive(self) -> bool:
        return self._publisher is not None and not self._publisher.is_closed

    async def _close(self, consumer: Consumer) -> None:
        channel, consumer.channel = consumer.channel, None
        consumer.tag = ""
        consumer.generation += 1
        if channel is not None:
            await _closed(channel)

    def _drop(self) -> None:
        """The publishing channel cannot be used any more: the supervisor connects anew."""
        self._up.clear()
        self._publisher = None
        self._changed.set()

    async def _shut(self) -> None:
        self._up.clear()
        self._publisher = None
        for consumer in self._consumers.values():
            consumer.channel = None
            consumer.generation += 1
        connections, self._connections = self._connections, []
        for connection in connections:
            with suppress(*LOST, TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(2):
                    await connection.close()


async def _closed(channel: AbstractChannel) -> None:
    with suppress(*LOST, TimeoutError):
        async with asyncio.timeout(CONNECT):
            await channel.close()


async def _nobody(queues: Any) -> None:
    """Hears nothing."""


def _ours() -> bool:
    """Whether this task itself was cancelled: aio-pika lets a lost connection look the same."""
    task = asyncio.current_task()
    return task is not None and bool(task.cancelling())


def _without(text: str, secret: str) -> str:
    return text.replace(secret, "***") if secret else text
