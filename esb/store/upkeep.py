"""The rounds of a running store: what may go is let go, files follow their rows, the WAL and the file stay small."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from esb.store import retention
from esb.store.opening import FILE, PAGE, WAL_PAGES
from esb.store.reader import Readers
from esb.store.retention import Keep, Parents, Pruned
from esb.store.work import Work

ROUND = 60.0
"""Seconds of one round of pruning at most."""
SELDOM = 3600.0
"""Seconds between two rounds of what is seldom needed."""
WAL_BYTES = 8 * WAL_PAGES * PAGE
"""A WAL that has grown beyond this is emptied on purpose: some reader stayed for long."""


class Retain(Protocol):
    """How long a route's closed messages stay, in seconds; `space` in bytes."""

    @property
    def body(self) -> float: ...

    @property
    def journey(self) -> float: ...

    @property
    def dead(self) -> float | None: ...

    @property
    def space(self) -> int | None: ...


Submit = Callable[[Callable[[Work], Any]], Awaitable[Any]]


class Upkeep:
    """`submit` runs a function of one transaction, `apart` one outside of any."""

    def __init__(
        self,
        folder: Path,
        readers: Readers,
        submit: Submit,
        apart: Callable[[Callable[[sqlite3.Connection], None]], Awaitable[None]],
    ) -> None:
        self._folder = folder
        self._readers = readers
        self._submit = submit
        self._apart = apart
        self._parents = Parents()
        self._folded = -SELDOM

    async def round(self, retains: Mapping[str, Retain], now: float) -> Pruned:
        """One round; gives what was let go. The WAL is emptied also where letting go fails: on a full disk that is
        what gives room again."""
        try:
            return await self._let_go(retains, now)
        finally:
            wal = self._folder / f"{FILE}-wal"
            if wal.exists() and wal.stat().st_size > WAL_BYTES:
                await self._apart(retention.checkpoint)

    async def _let_go(self, retains: Mapping[str, Retain], now: float) -> Pruned:
        loop = asyncio.get_running_loop()
        until = loop.time() + ROUND
        keeps = {name: Keep(item.body, item.journey, item.dead) for name, item in retains.items()}
        for name in await self._readers.read(retention.known_routes):
            keeps.setdefault(name, Keep())
        gone = Pruned()
        for route in await self._readers.read(retention.ripe, keeps, now):
            gone = _sum(gone, await self._route(route, keeps[route], now, until))
        spaces = [item.space for item in retains.values() if item.space is not None]
        space = min(spaces, default=retention.default_space(self._folder))
        gone = _sum(gone, await self._squeeze(list(keeps), space, now, until))
        await self._submit(retention.forget)
        if loop.time() - self._folded > SELDOM:
            self._folded = loop.time()
            await self._submit(retention.fold)
        await self._apart(retention.tidy)
        return gone

    async def _route(self, route: str, keep: Keep, now: float, until: float) -> Pruned:
        gone = await self._chunks(retention.prune_bodies, route, now - keep.body, until)
        gone = _sum(gone, await self._chunks(retention.prune_journeys, route, now - keep.journey, until))
        if keep.dead is not None:
            gone = _sum(gone, await self._chunks(retention.prune_held, route, now - keep.dead, until))
        return gone

    async def _chunks(
        self, prune: Callable[[Work, str, float, Parents], Pruned], route: str, before: float, until: float
    ) -> Pruned:
        gone = Pruned()
        while True:
            chunk: Pruned = await self._submit(lambda work: prune(work, route, before, self._parents))
            gone = Pruned(gone.bodies + chunk.bodies, gone.journeys + chunk.journeys, chunk.more)
            if not chunk.more or asyncio.get_running_loop().time() > until:
                return gone

    async def _squeeze(self, routes: list[str], space: int, now: float, until: float) -> Pruned:
        """Too much is kept: the oldest closed bodies go first, before any source is refused."""
        gone = Pruned()
        while asyncio.get_running_loop().time() < until:
            if await self._readers.read(retention.used) <= space:
                break
            route = await self._readers.read(retention.oldest_route, routes)
            if route is None:
                break
            chunk: Pruned = await self._submit(_pruning(route, now, self._parents))
            gone = _sum(gone, chunk)
            if not chunk.bodies:
                routes = [name for name in routes if name != route]
        return gone


def _pruning(route: str, before: float, parents: Parents) -> Callable[[Work], Pruned]:
    return lambda work: retention.prune_bodies(work, route, before, parents)


def _sum(one: Pruned, other: Pruned) -> Pruned:
    return Pruned(one.bodies + other.bodies, one.journeys + other.journeys, one.more or other.more)
