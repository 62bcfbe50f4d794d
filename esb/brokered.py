"""The bus on RabbitMQ: between the outbox and the lanes lies a queue a target, which all nodes of the group share."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from collections.abc import Callable, Collection, Coroutine, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from esb.broker.frames import DeliveryReceipt, read_deliveries, read_receipts
from esb.broker.port import Arrived
from esb.broker.rabbitmq import RabbitMQ, Server
from esb.broker.topology import Topology
from esb.clock import Clock
from esb.dispatch import Lane
from esb.errors import ConfigError, DecodeError, Problem, StoreError, describe
from esb.forwarding import Forwarder, Home
from esb.inbox import Inbox
from esb.receipts import Receipts
from esb.relay import Window
from esb.replies import Waiters
from esb.services import BusServices
from esb.store import Store
from esb.table.model import Bus as BusSettings
from esb.table.model import ReplySpec, Table, TargetSpec

log = logging.getLogger(__name__)

PREFETCH = 16
"""Frames of receipts that are here at once."""
HEARTBEAT = 10
"""Seconds between two signs of life: a connection without any for two of them is lost."""
AGAIN = 1.0
"""Seconds before a receipt that could not be committed is committed again."""


class Brokered:
    """One node of a group. Made while the bus is built; `start` runs it, targets first."""

    def __init__(
        self,
        table: Table,
        store: Store,
        services: BusServices,
        clock: Clock,
        waiters: Waiters,
        replies: Mapping[str, ReplySpec],
        offer: Callable[[Any], None],
    ) -> None:
        self.topology = Topology(table.bus.name)
        queues = [self.topology.target(name) for name in table.targets]
        self.node = store.node
        queues.append(self.topology.node(self.node))
        self.broker = RabbitMQ(server_of(table.bus, services, table.folder), self.topology, queues, services.health)
        self.windows = {name: Window(name, store, clock) for name in table.targets}
        self.home = Home(store, clock, self.windows, table.targets, waiters, replies, offer)
        self.receipts = Receipts(store, self.broker, self.topology)
        self.inboxes: dict[str, Inbox] = {}
        self._forwarders: list[Forwarder] = []
        self._store = store
        self._clock = clock
        self._targets = table.targets
        self._services = services
        self.broker.lost = self._lost

    def inbox(self, spec: TargetSpec) -> Inbox:
        """Where the lane of a target gets its rows from."""
        window = self.windows[spec.name]
        self.inboxes[spec.name] = Inbox(
            spec, window, self.home, self.receipts, self._store, self.broker, self.topology, self._clock
        )
        return self.inboxes[spec.name]

    def attach(self, lane: Lane) -> None:
        """The lane of an inbox is made."""
        inbox, window = self.inboxes[lane.name], self.windows[lane.name]
        inbox.open(lane.gate)
        if lane.spec.off is not None:
            return
        self._forwarders.append(
            Forwarder(window, self.home, self._store, self.broker, self.topology, lane.gate, inbox.keep)
        )

    async def start(self, begin: Callable[[Coroutine[Any, Any, None], str], Any]) -> None:
        """`begin` starts a task that lives as long as the bus."""
        await self.receipts.recall()
        node = self.topology.node(self.node)
        self.broker.consume(node, self._receipts_arrived, prefetch=PREFETCH, exclusive=True)
        self.broker.consume(self.topology.dead_frames, self._dead_frame, prefetch=1)
        self._services.health("broker", "degraded", "not connected yet: deliveries wait in the outbox")
        begin(self.broker.run(), "broker")
        begin(self.receipts.run(), "receipts")
        begin(self.receipts.send(), "receipts out")
        for window in self.windows.values():
            begin(window.run(), f"window {window.target}")
        for forwarder in self._forwarders:
            begin(forwarder.run(), "forwarder")

    async def _receipts_arrived(self, frame: Arrived) -> None:
        """Outcomes of our rows, all of them committed before the frame is acknowledged."""
        try:
            found = read_receipts(frame.body)
        except DecodeError as error:
            log.error("a frame of receipts cannot be read and is set aside: %s", error)
            await self.broker.discard(frame)
            return
        futures = [self.home.settle(receipt) for receipt in found.receipts]
        for receipt, done in zip(found.receipts, await asyncio.gather(*futures, return_exceptions=True), strict=True):
            if isinstance(done, BaseException):
                await self._insist(receipt, done)
        await self.broker.acknowledge(frame)

    async def _insist(self, receipt: DeliveryReceipt, error: BaseException) -> None:
        """The store could not take it: it is tried until it can."""
        while True:
            log.warning("a receipt could not be committed: %s", describe(error))
            await asyncio.sleep(AGAIN)
            try:
                await self.home.settle(receipt)
                return
            except StoreError as again:
                error = again

    async def _dead_frame(self, frame: Arrived) -> None:
        """What the broker gave up: its deliveries are dead at their node; what cannot be read is kept as a file."""
        try:
            found = read_deliveries(frame.body)
        except DecodeError:
            place = await asyncio.to_thread(_kept, self._store.folder, frame.body)
            self._services.health("broker.dead-frames", "degraded", f"a frame that is none is kept in {place}")
            await self.broker.acknowledge(frame)
            return
        for item in found.parcels:
            reason = "broker: the queue gave the frame up"
            receipt = DeliveryReceipt(
                item.row, item.uid, item.attempts, "dead", reason=reason, counts=False, maybe_sent=True
            )
            if found.node == self.node:
                await self.home.settle(receipt)
            else:
                await self.receipts.add(found.node, receipt)
        await self.broker.acknowledge(frame)

    async def _lost(self, queues: Collection[str]) -> None:
        """Queues that were missing: what was in them is due again. Without our own, no receipt came through."""
        if self.topology.node(self.node) in queues:
            await self.home.reclaim()
            return
        await self.home.reclaim([name for name in self._targets if self.topology.target(name) in queues])


def _kept(folder: Path, body: bytes) -> Path:
    """The bytes of a dead frame, under the name of their hash."""
    place = folder / "dead-frames" / hashlib.sha256(body).hexdigest()
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(body)
    return place


def server_of(bus: BusSettings, services: BusServices, folder: Path) -> Server:
    """`amqp[s]://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]...][/VHOST][?heartbeat=SECONDS]` and what stands beside
    it in the table. Raises ConfigError, SecretMissing."""
    scheme, _, rest = bus.broker.partition("://")
    where, _, vhost = rest.partition("/")
    vhost, _, query = vhost.partition("?")
    heartbeat = query.removeprefix("heartbeat=")
    login, _, places = where.rpartition("@")
    user, _, password = login.partition(":")
    secure = scheme == "amqps"
    try:
        hosts = [_host(place, 5671 if secure else 5672) for place in places.split(",")]
    except ValueError as error:
        problem = Problem("E151", f"[bus] broker is no address: {error}", 'write "amqp://HOST:5672/VHOST"')
        raise ConfigError([problem]) from error
    if bus.broker_password is not None:
        password = services.secrets.read(bus.broker_password)
    return Server(
        hosts=hosts,
        vhost=unquote(vhost) or "/",
        user=bus.broker_user or unquote(user) or "guest",
        password=unquote(password) or "guest",
        tls=_tls(bus, folder) if secure else None,
        heartbeat=int(heartbeat) if heartbeat.isdigit() else HEARTBEAT,
    )


def _host(place: str, port: int) -> tuple[str, int]:
    name, colon, number = place.rpartition(":")
    if not colon:
        name, number = place, str(port)
    if not name or not number.isdigit():
        raise ValueError(f"{place!r} is no host and port")
    return name.strip("[]"), int(number)


def _tls(bus: BusSettings, folder: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if bus.broker_ca is None else str(folder / bus.broker_ca))
        if bus.broker_cert is not None:
            key = None if bus.broker_key is None else str(folder / bus.broker_key)
            context.load_cert_chain(str(folder / bus.broker_cert), key)
    except (OSError, ssl.SSLError) as error:
        said = f"the broker's certificates cannot be read: {describe(error)}"
        raise ConfigError([Problem("E151", said, "look at broker_ca, broker_cert and broker_key")]) from error
    return context
