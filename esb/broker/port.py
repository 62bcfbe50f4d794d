"""What the house asks of a broker: frames out with a sure answer, frames in with an acknowledgement."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from msgspec import Struct


class NotTaken(Exception):
    """The broker has not taken a frame, and says so: its queue is missing (`returned`) or full. What was in it goes out
    again."""

    def __init__(self, message: str, *, returned: bool = False) -> None:
        super().__init__(message)
        self.returned = returned


class Unsure(Exception):
    """Whether the broker has the frame is not known: no confirm came in time, or the connection was lost."""


class Away(Exception):
    """There is no connection: nothing was sent."""


class Arrived(Struct, frozen=True):
    """One frame as it came in. `channel` tells which life of the channel its tag belongs to (R24)."""

    queue: str
    body: bytes
    tag: int
    channel: int
    redelivered: bool
    times: int = 0


Handler = Callable[[Arrived], Awaitable[None]]


class Broker(Protocol):
    """A transport. Nothing that it loses by itself is lost: the outbox has every row until its receipt is there."""

    @property
    def connected(self) -> bool: ...

    async def up(self) -> None:
        """Returns when frames can be published."""
        ...

    async def publish(self, queue: str, body: bytes, media_type: str) -> None:
        """Returns when the broker has the frame for good. Raises NotTaken, Unsure, Away."""
        ...

    def consume(self, queue: str, handler: Handler, *, prefetch: int, exclusive: bool = False) -> None:
        """From now on, over every new connection too, frames of the queue go to `handler`."""
        ...

    async def cancel(self, queue: str) -> None:
        """No more frames of this queue; those that are not acknowledged go back to it."""
        ...

    async def acknowledge(self, frame: Arrived) -> None:
        """The frame is done with. Nothing happens when its channel is gone: the broker sends it again."""
        ...

    async def discard(self, frame: Arrived) -> None:
        """The frame goes to the queue of dead frames."""
        ...


Lost = Callable[[Collection[str]], Awaitable[None]]
"""Hears of queues that were missing and had to be made anew: what was in them is gone."""
