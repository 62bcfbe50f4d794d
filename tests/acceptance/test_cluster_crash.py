"""The crash matrix on RabbitMQ: nodes, brokers and connections die under load, and nothing is lost (R22 to R26)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from cluster_run import ClusterRun, Event
from rabbit import Rabbit, cluster, rabbit

SABOTAGE = """
import sys
from esb.inbox import Inbox

honest = Inbox.arrived

async def early(self, frame):
    await self._broker.acknowledge(frame)
    await honest(self, frame)

Inbox.arrived = early
from esb.cli import main
sys.argv[:1] = ["esb", "run"]
main()
"""


def killing(*names: str) -> Event:
    async def event(run: ClusterRun) -> None:
        await run.kill(*names)

    return event


def broker_dies(node: Rabbit, *, by: str) -> Event:
    async def event(run: ClusterRun) -> None:
        await asyncio.to_thread(node.kill if by == "kill" else node.stop)
        await asyncio.sleep(run.random.uniform(0.1, 1.0))
        await asyncio.to_thread(node.start)
        await asyncio.sleep(2)

    return event


@pytest.mark.timeout(240)
async def test_twenty_four_kills_of_the_nodes_lose_nothing(broker: Rabbit, tmp_path: Path) -> None:
    run = ClusterRun(tmp_path, broker.url)
    await run.run([killing("a"), killing("b"), killing("a", "b")] * 6)
    print(f"acknowledged {len(run.acknowledged)}, events {run.events}")
    run.judge(500)
    assert len({json.loads(bodies[0])["key"] for bodies in run.peers["two"].bodies.values()}) >= 100


@pytest.mark.timeout(120)
async def test_the_harness_catches_a_build_that_acknowledges_frames_before_their_outcome(
    broker: Rabbit, tmp_path: Path
) -> None:
    run = ClusterRun(tmp_path, broker.url, program=(sys.executable, "-c", SABOTAGE))
    await run.run([killing("a", "b")] * 4, patience=5)
    assert run.lost()


@pytest.mark.timeout(240)
async def test_six_deaths_of_the_broker_lose_nothing(tmp_path: Path) -> None:
    with rabbit(tmp_path / "broker") as own:
        run = ClusterRun(tmp_path / "nodes", own.url)
        await run.run([broker_dies(own, by="kill")] * 4 + [broker_dies(own, by="stop")] * 2)
        run.judge(500)


@pytest.mark.timeout(240)
async def test_one_and_two_of_three_brokers_die(tmp_path: Path) -> None:
    with cluster(tmp_path / "brokers") as brokers:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in brokers)
        run = ClusterRun(tmp_path / "nodes", f"amqp://guest:guest@{hosts}/")

        async def two_die(run: ClusterRun) -> None:
            for node in brokers[:2]:
                await asyncio.to_thread(node.kill)
            await asyncio.sleep(2)
            for node in brokers[:2]:
                await asyncio.to_thread(node.launch)
            for node in brokers[:2]:
                await asyncio.to_thread(node.ready)

        await run.run([broker_dies(brokers[0], by="kill"), two_die], patience=90)
        run.judge(200)


@pytest.mark.soak
async def test_a_long_cluster_run(broker: Rabbit, tmp_path: Path) -> None:
    """`make soak`: as many rounds as ESB_SOAK_KILLS says (default 300)."""
    run = ClusterRun(tmp_path, broker.url, seed=11)
    await run.run([killing("a"), killing("b"), killing("a", "b")] * int(os.environ.get("ESB_SOAK_KILLS", "300")))
    run.judge(500)
