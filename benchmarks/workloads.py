"""The work that onebox.py measures, one kind a process: floor, bus, backlog, routes. Prints one line of JSON."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path

import uvloop
from esb_plugins.json import JsonCodec
from esb_plugins.json import Options as JsonOptions
from esb_plugins.memory import doors
from esb_plugins.xml import Options as XmlOptions
from esb_plugins.xml import XmlCodec
from group_commit import GroupCommit

from esb.bus import Bus, open_bus
from esb.plugins import load_plugins
from esb.ports import Incoming
from esb.table.load import load

PRODUCERS = 256
LINES = "".join(f"<Line><Sku>A-{n}</Sku><Qty>{n}</Qty><Price>19.90</Price></Line>" for n in range(1, 11))
ORDER = (
    '<?xml version="1.0"?><Order id="{id}"><Country>AT</Country><Total>149.50</Total>'
    f"<Customer><Name>Example GmbH</Name><City>Wien</City></Customer><Lines>{LINES}</Lines></Order>"
)
TABLE = """
esb = 1
[bus]
name = "bench"
[defaults]
owner = "bench"
retain = {{ body = "2s", journey = "4s" }}
[target.out]
memory = "out"
{paused}
{routes}
"""
ROUTE = """
[route.{name}]
from = {{ memory = "{name}" }}
do = [{{ read = "xml", arrays = ["Order.Lines.Line"] }}, {{ write = "json" }}]
cases = [
  {{ name = "big", when = 'decimal(body.Order.Total) >= 10000', to = ["out"] }},
  {{ name = "local", when = 'body.Order.Country in ["DE", "AT", "CH"]', to = ["out"] }},
  {{ name = "rest", otherwise = true, to = ["out"] }},
]
"""


async def floor(count: int) -> dict[str, object]:
    """A bare loop: the same parse, predicate and encode, the rows by group commit, settled; no framework."""
    xml, to_json = XmlCodec(XmlOptions(arrays=["Order.Lines.Line"]), {}), JsonCodec(JsonOptions())
    numbers = iter(range(1, count + 1))

    async def producer(store: GroupCommit) -> None:
        for number in numbers:
            body = ORDER.replace("{id}", str(number)).encode()
            tree = xml.decode(body).tree
            order = tree["Order"]
            big = Decimal(order["Total"]) >= 10_000
            made = to_json.encode(tree) if big or order["Country"] in ("DE", "AT", "CH") else b""
            await store.write("insert", (number, f"id-{number}", body), (number, made))
            await store.write("settle", (number,), (number,))

    with tempfile.TemporaryDirectory(dir=".") as folder:
        async with GroupCommit(Path(folder) / "floor.db") as store:
            began = time.perf_counter()
            await asyncio.gather(*(producer(store) for _ in range(PRODUCERS)))
            return {"rate": count / (time.perf_counter() - began)}


async def opened(stack: AsyncExitStack, folder: Path, routes: int = 1, paused: bool = False) -> Bus:
    text = TABLE.format(
        routes="".join(ROUTE.format(name=f"r{number}") for number in range(routes)),
        paused='paused = "filling"' if paused else "",
    )
    (folder / "routes.toml").write_text(text)
    registry = load_plugins()
    bus = await stack.enter_async_context(open_bus(load(folder / "routes.toml", registry), registry))
    while len(doors) < routes:
        await asyncio.sleep(0.01)
    return bus


async def send(count: int, routes: int = 1) -> None:
    numbers = iter(range(1, count + 1))

    async def producer() -> None:
        for number in numbers:
            body = ORDER.replace("{id}", str(number)).encode()
            await doors[f"r{number % routes}"](Incoming(body=body))

    await asyncio.gather(*(producer() for _ in range(PRODUCERS)))


async def settled(bus: Bus) -> None:
    while (await bus.store.backlog()) or not all(lane.quiet for lane in bus.lanes.values()):
        await asyncio.sleep(0.005)


async def through_the_bus(count: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        async with AsyncExitStack() as stack:
            bus = await opened(stack, Path(folder))
            began = time.perf_counter()
            await send(count)
            await settled(bus)
            took = time.perf_counter() - began
            account = await bus.store.account()
            sums = [item for item in account.sums if item.book == "messages"]
            pruned = count - (
                await bus.store.query(lambda db: db.execute("SELECT count(*) FROM message").fetchone()[0])
            )
            came = sum(item.came for item in sums)
            return {"rate": count / took, "balanced": account.balanced and came == count, "pruned": pruned}


async def backlog(waiting: int, count: int) -> dict[str, object]:
    """Fills a paused target, then lets it drain: the rate over the first `count` and what it costs in memory."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        async with AsyncExitStack() as stack:
            bus = await opened(stack, Path(folder), paused=True)
            await fill(bus, waiting)
            bus.look()
            await send(count if not waiting else 1000)
            began = time.perf_counter()
            await bus.pauses.resume("target", "out")
            left = sum(entry[0] for entry in (await bus.store.backlog()).values()) - count
            while sum(entry[0] for entry in (await bus.store.backlog()).values()) > max(left, 0):
                await asyncio.sleep(0.005)
            took = time.perf_counter() - began
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
            return {"rate": count / took, "memory": memory}


async def fill(bus: Bus, waiting: int) -> None:
    """Waiting rows by way of the store, without planning each."""
    from esb.ids import new_uid
    from esb.store.records import Acceptance, NewBody, NewDelivery, NewMessage

    async def some(count: int) -> None:
        for _ in range(count):
            now = bus.clock.now()
            message = NewMessage(
                uid=new_uid(now),
                made="source",
                route="r0",
                accepted_at=now,
                body=NewBody(data=b"x" * 800, size=800),
                deliveries=[NewDelivery(target="out", due=now)],
                table_hash=bus.table.hash,
            )
            await bus.store.accept(Acceptance(message=message))

    await asyncio.gather(*(some(waiting // PRODUCERS) for _ in range(PRODUCERS if waiting else 0)))


async def by_routes(routes: int) -> dict[str, object]:
    """CPU microseconds a message with so many routes."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        async with AsyncExitStack() as stack:
            bus = await opened(stack, Path(folder), routes)
            await send(2000, routes)
            await settled(bus)
            began = time.process_time()
            await send(10_000, routes)
            await settled(bus)
            return {"cost": (time.process_time() - began) / 10_000 * 1e6}


KINDS = {"floor": floor, "bus": through_the_bus, "backlog": backlog, "routes": by_routes}

if __name__ == "__main__":
    made = uvloop.run(KINDS[sys.argv[1]](*(int(word) for word in sys.argv[2:])))
    print(json.dumps(made))
