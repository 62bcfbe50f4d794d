"""Load over HTTP from a process of its own: as fast as the answers come, or at a steady rate; and what it felt like.

    python benchmarks/load.py URL [--seconds 10] [--connections 64] [--rate 700]

Prints one JSON line: {"sent", "rate", "p50", "p99", "worst", "failed"}; times in milliseconds. At a steady rate the
time counts from when a request was due, not from when there was a connection for it.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import msgspec
import uvloop
from esb_plugins.http.client import Client

LINE = "<Line><Sku>A-{0}</Sku><Qty>{0}</Qty><Price>19.90</Price><Text>Screw, galvanised, {0} mm</Text></Line>"
ORDER = (
    '<?xml version="1.0" encoding="UTF-8"?><Order id="{id}"><Country>DE</Country><Total>1499.50</Total>'
    "<Customer><Name>Example GmbH</Name><City>Berlin</City></Customer>"
    f"<Lines>{''.join(LINE.format(n) for n in range(1, 16))}</Lines></Order>"
)
HEADERS = {"Content-Type": "application/xml"}


class Load:
    """What was sent and how long each answer took."""

    def __init__(self, url: str, client: Client) -> None:
        self._url = url
        self._client = client
        self._number = 0
        self.times: list[float] = []
        self.failed = 0

    async def one(self, due: float) -> None:
        self._number += 1
        body = ORDER.replace("{id}", str(self._number)).encode()
        try:
            answer = await self._client.send("POST", self._url, HEADERS, body)
            good = answer.status == 202
        except Exception:
            good = False
        if good:
            self.times.append(time.perf_counter() - due)
        else:
            self.failed += 1

    async def flat_out(self, connections: int, ends: float) -> None:
        async def keep_on() -> None:
            while time.perf_counter() < ends:
                await self.one(time.perf_counter())

        await asyncio.gather(*(keep_on() for _ in range(connections)))

    async def steady(self, connections: int, ends: float, rate: float) -> None:
        waiting: asyncio.Queue[float] = asyncio.Queue()

        async def keep_on() -> None:
            while True:
                await self.one(await waiting.get())
                waiting.task_done()

        workers = [asyncio.ensure_future(keep_on()) for _ in range(connections)]
        due = time.perf_counter()
        while due < ends:
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            waiting.put_nowait(due)
        await waiting.join()
        for worker in workers:
            worker.cancel()


async def measure(url: str, seconds: float, connections: int, rate: float | None) -> dict[str, float]:
    async with Client() as client:
        load = Load(url, client)
        started = time.perf_counter()
        if rate is None:
            await load.flat_out(connections, started + seconds)
        else:
            await load.steady(connections, started + seconds, rate)
        took = time.perf_counter() - started
    times = sorted(load.times) or [0.0]
    return {
        "sent": len(load.times),
        "rate": round(len(load.times) / took, 1),
        "p50": round(times[len(times) // 2] * 1000, 2),
        "p99": round(times[int(len(times) * 0.99)] * 1000, 2),
        "worst": round(times[-1] * 1000, 2),
        "failed": load.failed,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("url")
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--connections", type=int, default=64)
    options.add_argument("--rate", type=float, default=None)
    given = options.parse_args()
    found = uvloop.run(measure(given.url, given.seconds, given.connections, given.rate))
    print(msgspec.json.encode(found).decode())


if __name__ == "__main__":
    main()
