"""Nodes of one group in this process, on a real broker: their targets are doubles that all of them share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec.structs import replace

from esb.bus import Bus, open_bus
from esb.plugins import load_plugins
from esb.ports import Accepted, Incoming
from esb.table.load import load
from esb.testing import Double, with_doubles, write_table

BEGIN = 'esb = 1\n[bus]\nname = "{group}"\n[defaults]\nowner = "tests@example.org"\n'
PLAIN = (
    BEGIN + '[target.erp]\nmemory = "erp"\n[route.orders]\nfrom = {{ memory = "nodes" }}\n'
    'do = [{{ read = "json" }}]\nto = ["erp"]\n'
)


class Node:
    """One running bus."""

    def __init__(self, bus: Bus, doubles: dict[str, Double]) -> None:
        self.bus = bus
        self.targets = doubles

    async def send(self, body: str, route: str = "orders") -> Accepted:
        return await self.bus.inject(route, Incoming(body=body.encode()))

    async def state(self, uid: str) -> str:
        found = await self.bus.store.message_state(uid)
        return "" if found is None else found.state

    async def forwarded(self) -> int:
        def count(db) -> int:  # type: ignore[no-untyped-def]
            return int(db.execute("SELECT count(*) FROM delivery WHERE state = 'forwarded'").fetchone()[0])

        return await self.bus.store.query(count)

    async def balanced(self) -> bool:
        return (await self.bus.store.account()).balanced


@asynccontextmanager
async def node(
    folder: Path, url: str, text: str, group: str, name: str = "a", doubles: dict[str, Double] | None = None
) -> AsyncIterator[Node]:
    """A node whose store is kept from one time to the next."""
    registry = load_plugins()
    (folder / name).mkdir(parents=True, exist_ok=True)
    table = load(write_table(folder / name, text.format(group=group), {}), registry)
    doubles = {target: Double(target) for target in table.targets} if doubles is None else doubles
    doubled = with_doubles(table, doubles)
    settings = replace(doubled.bus, broker=url, data=str(folder / name / "var"))
    async with open_bus(replace(doubled, bus=settings), registry) as bus:
        yield Node(bus, doubles)


async def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Waits for something; a coroutine function is asked again and again."""
    end = time.monotonic() + seconds
    while True:
        found = true()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < end, "it did not come to that"
        await asyncio.sleep(0.02)
