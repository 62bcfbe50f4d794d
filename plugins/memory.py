"""The source and target `memory`: for tests and benchmarks, in this process only."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from msgspec import Struct

from esb import Accept, Component, Context, Delivery, Receipt, hook

delivered: dict[str, deque[tuple[str, bytes]]] = {}
"""What each named target took: delivery id and body, the newest 10,000."""
doors: dict[str, Accept] = {}
"""The `accept` of each named source that runs."""


class MemoryOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`keep` is how many deliveries are remembered."""

    name: str
    keep: int = 10_000


class MemoryTarget:
    """Takes everything."""

    def __init__(self, options: MemoryOptions) -> None:
        self._taken = delivered.setdefault(options.name, deque(maxlen=options.keep))

    async def deliver(self, delivery: Delivery) -> Receipt | None:
        self._taken.append((delivery.id, await delivery.body()))
        return None


class MemorySource:
    """Gives its `accept` to whoever asks for it by name."""

    def __init__(self, options: MemoryOptions) -> None:
        self._name = options.name

    async def run(self, accept: Accept) -> None:
        doors[self._name] = accept
        try:
            await asyncio.Event().wait()
        finally:
            del doors[self._name]


@asynccontextmanager
async def _open_source(options: MemoryOptions, context: Context) -> AsyncIterator[MemorySource]:
    yield MemorySource(options)


def _open_target(options: MemoryOptions, context: Context) -> AbstractAsyncContextManager[MemoryTarget]:
    return nullcontext(MemoryTarget(options))


SOURCE = Component(
    kind="source",
    name="memory",
    about="Messages from this process, for tests",
    options=MemoryOptions,
    main="name",
    open=_open_source,
    example='from = { memory = "in" }',
    answers=True,
)
TARGET = Component(
    kind="target",
    name="memory",
    about="Remembers what it takes, for tests",
    options=MemoryOptions,
    main="name",
    open=_open_target,
    example='[target.out]\nmemory = "out"',
    idempotent="yes",
)


@hook
def esb_sources() -> Iterable[Component[Any]]:
    return [SOURCE]


@hook
def esb_targets() -> Iterable[Component[Any]]:
    return [TARGET]
