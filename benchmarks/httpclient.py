"""What one POST on a kept-alive connection costs, by client: aiohttp, pyreqwest (where installed), and ours.

    python benchmarks/httpclient.py [--seconds 5] [--rounds 3]

nginx is the sink; 64 posts of 1 kB are under way at all times. CPU is user and system time of this process, threads
included, a request. The rounds of the clients are interleaved; the median counts.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import resource
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import uvloop
from esb_plugins.http.client import Client
from sink import nginx

BODY = b'{"id": "4711", "lines": [' + b'{"sku": "A-100", "qty": 3},' * 35 + b"{}]}"


def headers(identity: str) -> dict[str, str]:
    return {"Content-Type": "application/json", "Idempotency-Key": identity}


Post = Callable[[bytes, str], Awaitable[int]]


@asynccontextmanager
async def by_aiohttp(url: str) -> AsyncIterator[Post]:
    connector = aiohttp.TCPConnector(limit=64)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

        async def post(body: bytes, identity: str) -> int:
            async with session.post(url, data=body, headers=headers(identity), allow_redirects=False) as answer:
                await answer.read()
                return answer.status

        yield post


@asynccontextmanager
async def by_pyreqwest(url: str) -> AsyncIterator[Post]:
    from pyreqwest.client import ClientBuilder

    async with ClientBuilder().follow_redirects(False).build() as client:

        async def post(body: bytes, identity: str) -> int:
            answer = await client.post(url).headers(headers(identity)).body_bytes(body).build().send()
            await answer.bytes()
            return int(answer.status)

        yield post


@asynccontextmanager
async def by_ours(url: str) -> AsyncIterator[Post]:
    async with Client() as client:

        async def post(body: bytes, identity: str) -> int:
            return (await client.send("POST", url, headers(identity), body)).status

        yield post


CLIENTS = {"aiohttp": by_aiohttp, "ours": by_ours}
if importlib.util.find_spec("pyreqwest") is not None:
    CLIENTS["pyreqwest"] = by_pyreqwest


async def measure(name: str, url: str, seconds: float) -> tuple[float, float]:
    """Posts a second, and microseconds of CPU a post."""
    async with CLIENTS[name](url) as post:
        await asyncio.gather(*(post(BODY, "0") for _ in range(64)))
        ends = time.perf_counter() + seconds

        async def keep_posting() -> int:
            done = 0
            while time.perf_counter() < ends:
                if await post(BODY, f"0198-{done}.erp") != 201:
                    raise SystemExit(f"{name}: the sink refused")
                done += 1
            return done

        before, started = _cpu(), time.perf_counter()
        done = sum(await asyncio.gather(*(keep_posting() for _ in range(64))))
        return done / (time.perf_counter() - started), (_cpu() - before) / done * 1e6


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=5)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CLIENTS}
    with nginx() as url:
        for _ in range(given.rounds):
            for name in CLIENTS:
                found[name].append(uvloop.run(measure(name, url, given.seconds)))
    for name, rounds in found.items():
        rate = statistics.median(rate for rate, _ in rounds)
        cpu = statistics.median(cpu for _, cpu in rounds)
        print(f"{name:10} {rate:8.0f} posts/s {cpu:8.1f} us CPU a post")


if __name__ == "__main__":
    main()
