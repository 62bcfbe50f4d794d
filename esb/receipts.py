"""What became of other nodes' deliveries: on disk here before their frame is acknowledged, then sent home (R23)."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from esb.broker.frames import MOST, RECEIPTS, DeliveryReceipt, pack_receipts
from esb.broker.port import Away, Broker, NotTaken, Unsure
from esb.broker.topology import Topology
from esb.errors import EsbError, describe
from esb.store import Store, forwarded
from esb.store.records import Settled

log = logging.getLogger(__name__)

AGAIN = 1.0
"""Seconds before receipts that could not be written or sent are tried again."""
REMEMBERED = 20_000
"""Outcomes that are known again when their frame comes once more."""

_pack = msgspec.msgpack.Encoder(enc_hook=str).encode
_unpack = msgspec.msgpack.Decoder(list[DeliveryReceipt]).decode

Key = tuple[str, int, int]


class Bundle(Struct, frozen=True):
    """Receipts for one node that were committed together."""

    number: int
    node: str
    receipts: Sequence[DeliveryReceipt]


Pending = tuple[str, DeliveryReceipt, "asyncio.Future[Settled]"]


class Receipts:
    """`run` commits and `send` sends them; both until cancelled."""

    def __init__(self, store: Store, broker: Broker, topology: Topology) -> None:
        self._store = store
        self._broker = broker
        self._topology = topology
        self._pending: list[Pending] = []
        self._unsent: deque[Bundle] = deque()
        self._sent: list[int] = []
        self._known: OrderedDict[Key, None] = OrderedDict()
        self._arrived = asyncio.Event()
        self._stored = asyncio.Event()

    async def recall(self) -> None:
        """What was written down before this start: what is not sent yet goes out."""
        for number, node, data, sent in await self._store.query(forwarded.bundles):
            bundle = Bundle(number, node, _unpack(data))
            self._remember(bundle)
            if not sent:
                self._unsent.append(bundle)
        self._stored.set()

    def known(self, node: str, uid: str, row: int, attempts: int) -> bool:
        """Whether this sending has had its outcome here."""
        return (f"{node} {uid}", row, attempts) in self._known

    def add(self, node: str, receipt: DeliveryReceipt) -> asyncio.Future[Settled]:
        """Queues a receipt; the future is resolved when it is on disk."""
        future: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
        self._pending.append((node, receipt, future))
        self._arrived.set()
        return future

    async def run(self) -> None:
        """Whatever arrives while one transaction is being written is the next one."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            pending, self._pending = self._pending, []
            sent, self._sent = self._sent, []
            if pending:
                await self._commit(pending, sent)

    async def _commit(self, pending: list[Pending], sent: list[int]) -> None:
        groups: dict[str, list[DeliveryReceipt]] = {}
        for node, receipt, _ in pending:
            groups.setdefault(node, []).append(receipt)
        packed = [(node, _pack(receipts)) for node, receipts in groups.items()]
        try:
            numbers = await self._store.act(lambda work: forwarded.add(work, packed, sent))
        except EsbError as error:
            log.warning("receipts could not be written: %s", describe(error))
            self._sent += sent
            for _, _, future in pending:
                if not future.done():
                    future.set_exception(error)
            return
        for number, (node, receipts) in zip(numbers, groups.items(), strict=True):
            bundle = Bundle(number, node, receipts)
            self._remember(bundle)
            self._unsent.append(bundle)
        for _, _, future in pending:
            if not future.done():
                future.set_result(Settled(state="open"))
        self._stored.set()

    def _remember(self, bundle: Bundle) -> None:
        """An outcome is known by its sending; what was not tried may come again."""
        for item in bundle.receipts:
            if item.counts or item.state != "due":
                self._known[f"{bundle.node} {item.uid}", item.row, item.attempts] = None
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    async def send(self) -> None:
        """To each node what is for it, in frames. A node that cannot be reached holds up no other."""
        while True:
            await self._stored.wait()
            await self._broker.up()
            self._stored.clear()
            waiting, self._unsent = list(self._unsent), deque()
            left: list[Bundle] = []
            for node in dict.fromkeys(bundle.node for bundle in waiting):
                left += await self._send_to(node, [bundle for bundle in waiting if bundle.node == node])
            if left:
                self._unsent.extendleft(reversed(left))
                self._stored.set()
                await asyncio.sleep(AGAIN)

    async def _send_to(self, node: str, bundles: Sequence[Bundle]) -> Sequence[Bundle]:
        """Gives what is not there yet."""
        queue = self._topology.node(node)
        while bundles:
            count, some = 0, 0
            while some < len(bundles) and (not some or count + len(bundles[some].receipts) <= MOST):
                count += len(bundles[some].receipts)
                some += 1
            frame = pack_receipts(self._store.node, [item for bundle in bundles[:some] for item in bundle.receipts])
            try:
                await self._broker.publish(queue, frame, RECEIPTS)
            except (NotTaken, Unsure, Away) as error:
                log.info("receipts for node %s go out again: %s", node, error)
                return bundles
            self._sent += [bundle.number for bundle in bundles[:some]]
            bundles = bundles[some:]
        return bundles
