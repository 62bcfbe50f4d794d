"""From the outbox to the lanes: each target has a bounded window of rows in memory; the backlog stays in the store."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence

from esb.clock import Clock, sleep_or
from esb.errors import StoreError
from esb.store import Store
from esb.store.records import NewMessage, Stored, StoredDelivery

log = logging.getLogger(__name__)

WINDOW = 1000
"""Rows of one target in memory at most, whether waiting, under way or not settled yet."""

WINDOW_BYTES = 8_000_000
"""Their bodies, in bytes; one row may always be there."""

RETRY_READ = 1.0
"""Seconds before a failed read of the store is tried again."""


class Window:
    """The rows of one target that are due and in memory.

    Fresh rows come straight from the commit while there is room and nothing older waits in the store; otherwise the
    window pages them in by due time. A row is in hand from the moment it enters until `release`.
    """

    def __init__(self, target: str, store: Store, clock: Clock, rows: int = WINDOW) -> None:
        self.target = target
        self._store = store
        self._clock = clock
        self._rows = rows
        self._ready: deque[StoredDelivery] = deque()
        self._in_hand: dict[int, int] = {}
        self._bytes = 0
        self._behind = True
        self._paging = False
        self._gone: set[int] = set()
        self._changed = asyncio.Event()
        self._takers: deque[asyncio.Future[None]] = deque()

    def offer(self, rows: Iterable[StoredDelivery]) -> None:
        """Takes what there is room for; the rest waits in the store."""
        for row in rows:
            if self._behind or not self._room(_held(row)):
                self._behind = True
                self._changed.set()
            elif row.row not in self._in_hand:
                self._enter(row)

    def _room(self, size: int) -> bool:
        return not self._in_hand or (len(self._in_hand) < self._rows and self._bytes + size <= WINDOW_BYTES)

    def _enter(self, row: StoredDelivery) -> None:
        size = _held(row)
        self._in_hand[row.row] = size
        self._bytes += size
        self._ready.append(row)
        self._wake()

    def _wake(self) -> None:
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                return

    def release(self, row: StoredDelivery) -> None:
        """The row's outcome is on disk (or it goes back to the store): its place is free."""
        self._bytes -= self._in_hand.pop(row.row, 0)
        if self._paging:
            self._gone.add(row.row)
        if self._behind and len(self._ready) < self._rows // 2:
            self._changed.set()

    def nudge(self) -> None:
        """A row got a retry time: the sleep until the next one may be too long now."""
        self._changed.set()

    def look(self) -> None:
        """Something became due in the store otherwise: read it soon."""
        self._behind = True
        self._changed.set()

    async def take(self) -> StoredDelivery:
        """The next row; waits until there is one. At once, without giving way, while rows are ready."""
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

    def take_ready(self) -> StoredDelivery | None:
        """The next row; None where none is ready now."""
        return self._ready.popleft() if self._ready else None

    def give_back(self, row: StoredDelivery) -> None:
        """A row that was taken and not tried stands first again."""
        self._ready.appendleft(row)
        self._wake()

    @property
    def in_hand(self) -> int:
        """Rows in memory, under way included."""
        return len(self._in_hand)

    @property
    def idle(self) -> bool:
        """Nothing in hand and nothing left to page in."""
        return not self._in_hand and not self._behind

    async def run(self) -> None:
        """Pages in what is due, and sleeps until the next retry time. Runs until cancelled."""
        while True:
            try:
                wait = await self._page()
            except StoreError as error:
                log.warning("target %s: the store cannot be read now: %s", self.target, error)
                wait = RETRY_READ
            await self._until(wait)

    async def _page(self) -> float | None:
        """Fills the window. Gives the seconds until the next row is due, or None when only a change wakes it."""
        self._changed.clear()
        room = self._rows - len(self._in_hand)
        if room <= self._rows // 4 or self._bytes > WINDOW_BYTES // 2:
            self._behind = True  # read when there is room again: a retry may have its time meanwhile
            return None
        now = self._clock.now()
        self._behind = False
        self._paging = True
        try:
            size = WINDOW_BYTES - self._bytes
            rows, more = await self._store.due(self.target, now, room, self._in_hand, size)
        finally:
            self._paging = False
            gone, self._gone = self._gone, set()
        for row in rows:
            # A row may have come in by `offer`, and even have been settled, while this read ran.
            if row.row in self._in_hand or row.row in gone:
                continue
            if not self._room(_held(row)):
                more = True
                break
            self._enter(row)
        if more:
            self._behind = True
            return None if self._in_hand else 0.0
        following = await self._store.next_due(self.target, now)
        return None if following is None else max(following - self._clock.now(), 0.001)

    async def _until(self, seconds: float | None) -> None:
        """Returns when something changed or that time is over."""
        if seconds is None:
            await self._changed.wait()
            return
        if not self._changed.is_set():
            await sleep_or(self._clock, seconds, self._changed)


def _held(row: StoredDelivery) -> int:
    """Bytes that a row costs in memory: a large body stays in its file."""
    return 0 if row.content is None else row.size


class Relay:
    """Hands committed rows to the window of their target (the embedded broker: no wire between)."""

    def __init__(self, windows: dict[str, Window], staged: asyncio.Event) -> None:
        self._windows = windows
        self._staged = staged

    def offer(self, rows: Sequence[StoredDelivery]) -> None:
        """Rows of one commit, in order. A row whose target is gone is left to the store (R11)."""
        if len(rows) == 1:
            window = self._windows.get(rows[0].target)
            if window is not None:
                window.offer(rows)
            return
        for row in rows:
            window = self._windows.get(row.target)
            if window is not None:
                window.offer((row,))

    def stored(self, message: NewMessage, stored: Stored) -> None:
        """A message is on disk: its rows go on to the lanes; what is planned only in part, to the splitter."""
        if stored.deliveries:
            self.offer(stored.deliveries)
        if message.stage and not stored.duplicate:
            self._staged.set()
