"""From the outbox to the broker, and back from receipts to the outbox: a row stays this node's until its outcome is
known (R23)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence

from esb.broker.frames import DELIVERIES, MOST, MOST_BYTES, DeliveryReceipt, pack_deliveries
from esb.broker.port import Away, Broker, NotTaken, Unsure
from esb.broker.topology import Topology
from esb.clock import Clock
from esb.errors import StoreError
from esb.gate import Gate
from esb.relay import Window
from esb.replies import Waiters, unpack
from esb.store import Store, forwarded
from esb.store.records import Settled, Settlement, StoredDelivery
from esb.store.work import read_deliveries
from esb.table.model import ReplySpec, TargetSpec

log = logging.getLogger(__name__)

AGAIN = 0.5
"""Seconds before a frame that the broker did not take goes out again."""


class Home:
    """The rows of this node that the broker has. `windows` are those on its outbox, `offer` takes rows that became
    due."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        windows: Mapping[str, Window],
        targets: Mapping[str, TargetSpec],
        waiters: Waiters,
        replies: Mapping[str, ReplySpec],
        offer: Callable[[Sequence[StoredDelivery]], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._windows = windows
        self._targets = targets
        self._waiters = waiters
        self._replies = replies
        self._offer = offer
        self._out: dict[int, StoredDelivery] = {}

    def goes(self, row: StoredDelivery) -> None:
        """A row is on its way to the broker: whatever comes back of it is for this sending."""
        self._out[row.row] = row

    def stays(self, row: StoredDelivery) -> None:
        """The broker did not take it."""
        self._out.pop(row.row, None)

    async def awaited(self, rows: Sequence[tuple[int, int]]) -> set[int]:
        """Of these rows, each with its attempts: those whose outcome is still to come. What this run did not send is
        looked up."""
        known = {row for row, attempts in rows if row in self._out and self._out[row].attempts == attempts}
        other = [(row, attempts) for row, attempts in rows if row not in self._out]
        return known | await self._store.query(forwarded.awaited, other) if other else known

    def settle(self, receipt: DeliveryReceipt) -> asyncio.Future[Settled]:
        """The first outcome of a sending is committed; later ones change nothing."""
        row = self._out.get(receipt.row)
        if row is None:
            return asyncio.ensure_future(self._older(receipt))
        if row.uid != receipt.uid or row.attempts != receipt.attempts:
            return _nothing()
        return self._commit(row, receipt)

    async def _older(self, receipt: DeliveryReceipt) -> Settled:
        """A row that was forwarded before this start, or whose outcome is known already."""
        for row in await self._store.query(read_deliveries, (receipt.row,)):
            if row.uid == receipt.uid and row.attempts == receipt.attempts:
                return await self._commit(row, receipt)
        return Settled(state="done")

    def _commit(self, row: StoredDelivery, receipt: DeliveryReceipt) -> asyncio.Future[Settled]:
        spec = self._targets.get(row.target)
        settlement = Settlement(
            delivery=row,
            state=receipt.state,
            due=self._clock.now() + receipt.after if receipt.state == "due" else None,
            reason=receipt.reason,
            attempt=receipt.attempt,
            counts=receipt.counts,
            maybe_sent=receipt.maybe_sent,
            note=receipt.note,
            answer=receipt.answer,
            decides=receipt.decides,
            when_stuck="block" if spec is None else spec.when_stuck,
        )
        future = self._store.settle(settlement)
        future.add_done_callback(lambda done: self._settled(row, receipt, done))
        return future

    def _settled(self, row: StoredDelivery, receipt: DeliveryReceipt, done: asyncio.Future[Settled]) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        settled = done.result()
        self._out.pop(row.row, None)
        window = self._windows.get(row.target)
        if window is not None:
            window.release(row)
            if receipt.state == "due":
                window.nudge()
        if settled.promoted:
            self._offer(settled.promoted)
        if self._replies:
            reply = None if receipt.answer is None else unpack(receipt.answer)
            self._waiters.tell(self._replies, row, reply, settled.state)

    async def reclaim(self, targets: Collection[str] | None = None) -> int:
        """What the broker had for these targets (None: for all) is due again; gives how many. Raises StoreError."""
        known = dict(await self._store.query(forwarded.targets))
        count = 0
        for target in known if targets is None else targets:
            for row in [row for row in self._out.values() if row.target == target]:
                self._out.pop(row.row)
                if target in self._windows:
                    self._windows[target].release(row)
            count += await self._store.reclaim(target)
            if target in self._windows:
                self._windows[target].look()
        if count:
            log.warning("%d deliveries that the broker had are due again", count)
        return count


def _nothing() -> asyncio.Future[Settled]:
    future: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
    future.set_result(Settled(state="done"))
    return future


class Forwarder:
    """The rows of one target in frames: whatever is due while the frame before is in flight (R24). `keep` takes what
    this node delivers itself: a row that is too large for the broker, and one with an order key. The line of a key
    stands in this outbox, so that its next row could go out no sooner by way of another node (R14)."""

    def __init__(
        self,
        window: Window,
        home: Home,
        store: Store,
        broker: Broker,
        topology: Topology,
        gate: Gate,
        keep: Callable[[StoredDelivery], None],
    ) -> None:
        self._window = window
        self._home = home
        self._store = store
        self._broker = broker
        self._queue = topology.target(window.target)
        self._gate = gate
        self._keep = keep

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await self._broker.up()
            await self._gate.opened()
            rows = await self._next()
            if self._gate.closed:
                for row in reversed(rows):
                    self._window.give_back(row)
            elif rows:
                await self._send(rows)

    async def _next(self) -> list[StoredDelivery]:
        rows: list[StoredDelivery] = []
        size = 0
        row: StoredDelivery | None = await self._window.take()
        while row is not None:
            if row.content is None or len(row.content) > MOST_BYTES or row.order_key is not None:
                self._keep(row)
            else:
                rows.append(row)
                size += len(row.content)
            row = None if len(rows) >= MOST or size >= MOST_BYTES else self._window.take_ready()
        return rows

    async def _send(self, rows: list[StoredDelivery]) -> None:
        """One frame; what the broker has not, or may not have, goes out again with its ids."""
        frame = pack_deliveries(self._store.node, self._window.target, rows)
        for row in rows:
            self._home.goes(row)
        try:
            await self._broker.publish(self._queue, frame, DELIVERIES)
        except (NotTaken, Unsure, Away) as error:
            log.info("a frame of %d for %s goes out again: %s", len(rows), self._window.target, error)
            for row in reversed(rows):
                if isinstance(error, Unsure):
                    row.maybe_sent = True
                self._home.stays(row)
                self._window.give_back(row)
            await asyncio.sleep(AGAIN)
            return
        future = self._store.act(lambda work: forwarded.forward(work, self._queue, rows))
        future.add_done_callback(_heard)


def _heard(done: asyncio.Future[None]) -> None:
    """A row that could not be written down as forwarded stays due, and goes out again after a restart."""
    if not done.cancelled() and isinstance(done.exception(), StoreError):
        log.warning("what the broker has could not be written down: %s", done.exception())
