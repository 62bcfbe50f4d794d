"""Two nodes on RabbitMQ, as ratios within one run: the bus as it is against the same bus with one delivery a frame.

    python benchmarks/cluster.py [--count 20000] [--runs 3]

XML in, content route, JSON out, fsynced outbox, quorum queue with confirms, delivered by another process to a memory
target, settled at home by receipts. It starts its own RabbitMQ (Debian's package). One process accepts and forwards,
the other one delivers. Latency is from acceptance to the target, at half of the rate that was reached."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop
from esb_plugins.memory import doors
from msgspec.structs import replace
from workloads import ORDER, ROUTE, TABLE

import esb.forwarding
import esb.inbox
import esb.receipts
from esb.bus import Bus, open_bus
from esb.plugins import load_plugins
from esb.ports import Delivery, Incoming
from esb.table.load import load

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
from rabbit import rabbit  # noqa: E402

PRODUCERS = 256


async def opened(stack: AsyncExitStack, folder: Path, url: str) -> Bus:
    (folder / "routes.toml").write_text(TABLE.format(routes=ROUTE.format(name="r0"), paused="concurrency = 64"))
    registry = load_plugins()
    table = load(folder / "routes.toml", registry)
    table = replace(table, bus=replace(table.bus, broker=url))
    bus = await stack.enter_async_context(open_bus(table, registry))
    assert bus.brokered is not None
    await bus.brokered.broker.up()
    while not doors:
        await asyncio.sleep(0.01)
    return bus


def single() -> None:
    """One delivery a frame, many frames here at once."""
    esb.forwarding.MOST = 1
    esb.inbox.PREFETCH = 512
    esb.receipts.MOST = 1


class Taker:
    """The memory target at the other node: it remembers how long each delivery was on its way."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def deliver(self, delivery: Delivery) -> None:
        await delivery.body()
        self.waits.append(time.time() - delivery.created)


async def deliver(folder: Path, url: str) -> dict[str, Any]:
    """The node that delivers, until its input ends."""
    async with AsyncExitStack() as stack:
        bus = await opened(stack, folder, url)
        taker = Taker()
        while bus.lanes["out"]._target is None:
            await asyncio.sleep(0.01)
        bus.lanes["out"]._target = taker  # type: ignore[assignment]
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        waits = sorted(taker.waits)
        usage = os.times()
        return {
            "taken": len(waits), "p50": waits[len(waits) // 2], "p99": waits[int(len(waits) * 0.99)],
            "cpu": usage.user + usage.system,
        }  # fmt: skip


async def accept(folder: Path, url: str, count: int, rate: float) -> dict[str, Any]:
    """The node that accepts: all at once, or so many a second."""
    async with AsyncExitStack() as stack:
        bus = await opened(stack, folder, url)
        assert bus.brokered is not None
        await asyncio.sleep(0.5)
        await bus.brokered.broker.cancel(bus.brokered.topology.target("out"))
        began = time.perf_counter()
        numbers = iter(range(1, count + 1))

        async def producer() -> None:
            for number in numbers:
                if rate:
                    await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
                await doors["r0"](Incoming(body=ORDER.replace("{id}", str(number)).encode()))

        await asyncio.gather(*(producer() for _ in range(PRODUCERS)))
        accepted = time.perf_counter() - began
        while await bus.store.backlog():
            await asyncio.sleep(0.005)
        took = time.perf_counter() - began
        usage = os.times()
        balanced = (await bus.store.account()).balanced
        return {
            "rate": count / took, "accepted": count / accepted, "balanced": balanced, "cpu": usage.user + usage.system
        }  # fmt: skip


def pair(url: str, mode: str, count: int, rate: float = 0.0) -> dict[str, Any]:
    """Both nodes, each a process of its own."""
    with tempfile.TemporaryDirectory(dir=HERE) as name:
        folders = [Path(name) / node for node in ("in", "out")]
        for folder in folders:
            folder.mkdir()
        words = [sys.executable, str(HERE / "cluster.py")]
        taker = subprocess.Popen(
            [*words, "deliver", mode, str(folders[1]), url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert taker.stdout is not None
        taker.stdout.readline()
        done = subprocess.run(
            [*words, "accept", mode, str(folders[0]), url, str(count), str(rate)],
            capture_output=True,
            text=True,
            check=False,
        )
        said, _ = taker.communicate("\n")
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        return {**json.loads(done.stdout.splitlines()[-1]), "taker": json.loads(said.splitlines()[-1])}


def main(runs: int, count: int) -> None:
    with tempfile.TemporaryDirectory() as name, rabbit(Path(name)) as broker:
        frames: list[dict[str, Any]] = []
        singles: list[dict[str, Any]] = []
        for _ in range(runs):
            frames.append(pair(broker.url, "frames", count))
            singles.append(pair(broker.url, "single", max(500, count // 10)))
        rate = statistics.median(item["rate"] for item in frames)
        one = statistics.median(item["rate"] for item in singles)
        half = pair(broker.url, "frames", int(rate * 5), rate / 2)
        last = frames[-1]
        print(f"frames {rate:,.0f}/s, one delivery a frame {one:,.0f}/s: {rate / one:.1f} times (bar 3, aim 4,500/s)")
        print(f"    accepted {last['accepted']:,.0f}/s; balanced: {all(item['balanced'] for item in frames)}")
        print(f"    CPU a message: accepting {last['cpu'] / count * 1e6:.0f} us, delivering "
              f"{last['taker']['cpu'] / count * 1e6:.0f} us (start of the process included)")  # fmt: skip
        taker = half["taker"]
        print(f"    at {rate / 2:,.0f}/s: p50 {taker['p50'] * 1000:.0f} ms, p99 {taker['p99'] * 1000:.0f} ms (bar 250)")


def part(words: Sequence[str]) -> None:
    if words[1] == "single":
        single()
    work = (
        deliver(Path(words[2]), words[3])
        if words[0] == "deliver"
        else accept(Path(words[2]), words[3], int(words[4]), float(words[5]))
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(work)))


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in ("deliver", "accept"):
        part(sys.argv[1:])
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--count", type=int, default=20_000)
        parser.add_argument("--runs", type=int, default=3)
        given = parser.parse_args()
        main(given.runs, given.count)
