"""From the broker to a lane: the deliveries of one target's frames, each frame acknowledged when the last of them has
its outcome on disk (R24)."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Sequence
from typing import Literal

from esb.broker.frames import DeliveryReceipt, Parcel, delivery, read_deliveries
from esb.broker.port import Arrived, Broker
from esb.broker.topology import Topology
from esb.clock import Clock
from esb.errors import DecodeError
from esb.forwarding import Home
from esb.gate import Gate
from esb.receipts import Receipts
from esb.relay import Window
from esb.store import Store
from esb.store.inflight import POISON
from esb.store.records import Settled, Settlement, StoredDelivery
from esb.table.model import TargetSpec

log = logging.getLogger(__name__)

PREFETCH = 2
"""Frames of one queue that are here at once."""
HOLD = 30.0
"""Seconds after which what is left of a frame goes back to the node that it is from."""
LATER = 5.0
"""Seconds after which such a row is sent again."""
LOOK = 1.0
"""Seconds between two looks at what is held for long, and at whether the target is paused."""


class Opened:
    """A frame with what is left of it."""

    __slots__ = ("at", "frame", "left", "node")

    def __init__(self, frame: Arrived, node: str, left: int, at: float) -> None:
        self.frame = frame
        self.node = node
        self.left = left
        self.at = at


class Inbox:
    """The rows of one lane: from the broker, and those of this node that are too large for it. A row from the broker
    has a number below zero, so that none is taken for a row of this store."""

    def __init__(
        self,
        spec: TargetSpec,
        window: Window,
        home: Home,
        receipts: Receipts,
        store: Store,
        broker: Broker,
        topology: Topology,
        clock: Clock,
    ) -> None:
        self.target = spec.name
        self._queue = topology.target(spec.name)
        self._exclusive = spec.limit is not None
        self._window = window
        self._home = home
        self._receipts = receipts
        self._store = store
        self._broker = broker
        self._clock = clock
        self._gate: Gate | None = None
        self._numbers = itertools.count(1)
        self._ready: deque[StoredDelivery] = deque()
        self._held: dict[int, tuple[Opened, Parcel]] = {}
        self._own = 0
        self._takers: deque[asyncio.Future[None]] = deque()
        self._consuming = False
        self._acks: set[asyncio.Future[None]] = set()

    def open(self, gate: Gate) -> None:
        """The lane's gate: while a person has the target paused, its queue is left alone."""
        self._gate = gate

    # What the lane asks (dispatch.Rows)

    async def take(self) -> StoredDelivery:
        """The next row; waits until there is one."""
        while not self._ready:
            taker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._takers.append(taker)
            try:
                await taker
            except asyncio.CancelledError:
                if taker.done() and not taker.cancelled():
                    self._wake()
                raise
        return self._ready.popleft()

    def _enter(self, row: StoredDelivery) -> None:
        self._ready.append(row)
        self._wake()

    def _wake(self) -> None:
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                return

    def keep(self, row: StoredDelivery) -> None:
        """A row of this node that goes to no broker."""
        self._own += 1
        self._enter(row)

    def give_back(self, row: StoredDelivery) -> None:
        """A row that was taken and not tried stands first again."""
        self._ready.appendleft(row)
        self._wake()

    def release(self, row: StoredDelivery) -> None:
        """The row's outcome is on disk."""
        if row.row > 0:
            self._own -= 1
            self._window.release(row)

    def nudge(self) -> None:
        self._window.nudge()

    def look(self) -> None:
        self._window.look()

    @property
    def in_hand(self) -> int:
        return len(self._held) + self._own + self._window.in_hand

    @property
    def idle(self) -> bool:
        return not self._held and not self._own and self._window.idle

    async def run(self) -> None:
        """Keeps the queue consumed while the target may be tried. Runs until cancelled, and then lets the queue go."""
        assert self._gate is not None
        try:
            while True:
                if not self._gate.closed and not self._consuming:
                    self._consuming = True
                    self._broker.consume(self._queue, self.arrived, prefetch=PREFETCH, exclusive=self._exclusive)
                elif self._gate.closed and self._consuming:
                    self._consuming = False
                    self._return(0.0)
                    await self._broker.cancel(self._queue)
                self._return(HOLD)
                await asyncio.sleep(LOOK)
        finally:
            self._consuming = False
            await self._broker.cancel(self._queue)
            self._forget()

    def _forget(self) -> None:
        """The lane ends or is opened anew: the broker sends again what was not acknowledged."""
        self._ready = deque(row for row in self._ready if row.row > 0)
        self._held.clear()

    def _return(self, older: float) -> None:
        """What was not begun of frames that are here for so long goes back to the nodes that it is from."""
        if not self._ready:
            return
        since = asyncio.get_running_loop().time() - older
        keep: deque[StoredDelivery] = deque()
        for row in self._ready:
            entry = self._held.get(row.row)
            if entry is None or entry[0].at > since:
                keep.append(row)
            else:
                back = Settlement(delivery=row, state="due", due=self._clock.now() + LATER, counts=False)
                self.settle(back)
        self._ready = keep

    # Frames

    async def arrived(self, frame: Arrived) -> None:
        """One frame: what is new in it becomes rows of the lane."""
        try:
            found = read_deliveries(frame.body)
        except DecodeError as error:
            log.error("a frame of %s cannot be read and is set aside: %s", frame.queue, error)
            await self._broker.discard(frame)
            return
        fresh = await self._fresh(found.node, found.parcels)
        opened = Opened(frame, found.node, len(fresh), asyncio.get_running_loop().time())
        if not fresh:
            await self._broker.acknowledge(frame)
        for item in fresh:
            number = -next(self._numbers)
            self._held[number] = (opened, item)
            row = delivery(item, self.target, number)
            if frame.redelivered and self._store.crashed("claim", row.id) >= POISON:
                reason = f"poison: the process died {POISON} times while it was under way"
                self.settle(Settlement(delivery=row, state="parked", reason=reason, counts=False, maybe_sent=True))
            else:
                self._enter(row)

    async def _fresh(self, node: str, parcels: Sequence[Parcel]) -> Sequence[Parcel]:
        """What has not had its outcome yet."""
        if node == self._store.node:
            awaited = await self._home.awaited([(item.row, item.attempts) for item in parcels])
            return [item for item in parcels if item.row in awaited]
        return [item for item in parcels if not self._receipts.known(node, item.uid, item.row, item.attempts)]

    # What the lane's outcomes come to (dispatch.Outcomes)

    def settle(self, item: Settlement) -> asyncio.Future[Settled]:
        """Our own rows are settled here; of another node's a receipt is written, which goes to it."""
        if item.delivery.row > 0:
            return self._store.settle(item)
        entry = self._held.get(item.delivery.row)
        if entry is None:
            return _gone()
        opened, parcel = entry
        receipt = self._receipt(item, parcel)
        own = opened.node == self._store.node
        future = self._home.settle(receipt) if own else self._receipts.add(opened.node, receipt)
        future.add_done_callback(lambda done: self._settled(item.delivery.row, done))
        return future

    def _receipt(self, item: Settlement, parcel: Parcel) -> DeliveryReceipt:
        state: Literal["due"] = "due"
        return DeliveryReceipt(
            row=parcel.row,
            uid=parcel.uid,
            attempts=parcel.attempts,
            state=item.state if item.state != "forwarded" else state,
            after=0.0 if item.due is None else max(0.0, item.due - self._clock.now()),
            reason=item.reason,
            counts=item.counts,
            maybe_sent=item.maybe_sent,
            note=item.note,
            answer=item.answer,
            decides=item.decides,
            attempt=item.attempt,
        )

    def _settled(self, number: int, done: asyncio.Future[Settled]) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        entry = self._held.pop(number, None)
        if entry is None:
            return
        opened = entry[0]
        opened.left -= 1
        if not opened.left:
            task = asyncio.ensure_future(self._broker.acknowledge(opened.frame))
            self._acks.add(task)
            task.add_done_callback(self._acks.discard)

    def begin(self, row: StoredDelivery) -> int:
        """The ring knows a row of our own by its number, one from the broker by its id (R15)."""
        if row.row > 0:
            return self._store.inflight.enter("delivery", row.row)
        return self._store.inflight.enter("claim", row.id)

    def end(self, slot: int) -> None:
        self._store.inflight.leave(slot)


def _gone() -> asyncio.Future[Settled]:
    """The frame was let go: it comes again."""
    future: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
    future.set_result(Settled(state="open"))
    return future
