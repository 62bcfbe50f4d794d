"""What goes wrong between a node and the broker: connections cut, deaf or swallowed, a broker that blocks (FAULTS 16 to
19)."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from uuid import uuid4

from fault_proxy import Proxy
from nodes import PLAIN, Node, node, until
from rabbit import Rabbit


def group() -> str:
    return f"g{uuid4().hex[:8]}"


async def all_done(one: Node, sent: list[str], seconds: float = 30.0) -> None:
    async def done() -> bool:
        return all([await one.state(uid) == "done" for uid in sent])

    await until(done, seconds)


def arrived(one: Node) -> set[str]:
    return {item.id for item in one.targets["erp"].taken}


async def connected(one: Node) -> None:
    brokered = one.bus.brokered
    assert brokered is not None
    await until(lambda: brokered.broker.connected)


async def test_a_connection_cut_at_every_frame_loses_nothing(broker: Rabbit, tmp_path: Path) -> None:
    proxy = Proxy(broker.port)
    async with proxy.serving(), node(tmp_path, proxy.url, PLAIN, group()) as one:
        await connected(one)
        sent: list[str] = []
        for frame in range(1, 25):
            proxy.frames, proxy.cut_at = 0, frame
            sent += [(await one.send("{}")).id for _ in range(3)]
            await all_done(one, sent[-3:])
            proxy.cut_at = None
            await connected(one)
        assert arrived(one) == {f"{uid}.erp" for uid in sent}
        assert await one.balanced()


async def test_a_network_that_swallows_everything_is_noticed_by_the_heartbeat_faults_17(
    broker: Rabbit, tmp_path: Path
) -> None:
    proxy = Proxy(broker.port)
    async with proxy.serving(), node(tmp_path, f"{proxy.url}?heartbeat=1", PLAIN, group()) as one:
        await connected(one)
        first = (await one.send("{}")).id
        await all_done(one, [first])
        proxy.black_hole = True
        sent = [(await one.send("{}")).id for _ in range(5)]
        brokered = one.bus.brokered
        assert brokered is not None
        begun = time.monotonic()
        await until(lambda: not brokered.broker.connected)
        assert time.monotonic() - begun < 10
        proxy.black_hole = False
        proxy.cut()
        await all_done(one, sent)
        assert await one.balanced()


async def test_a_connection_that_is_half_open_is_noticed_too_faults_18(broker: Rabbit, tmp_path: Path) -> None:
    proxy = Proxy(broker.port)
    async with proxy.serving(), node(tmp_path, f"{proxy.url}?heartbeat=1", PLAIN, group()) as one:
        await connected(one)
        proxy.deaf = True
        sent = [(await one.send("{}")).id for _ in range(5)]
        brokered = one.bus.brokered
        assert brokered is not None
        await until(lambda: not brokered.broker.connected)
        proxy.deaf = False
        proxy.cut()
        await all_done(one, sent)
        assert arrived(one) == {f"{uid}.erp" for uid in sent}


async def test_a_blocked_broker_holds_up_no_sender_faults_19(broker: Rabbit, tmp_path: Path) -> None:
    async with node(tmp_path, broker.url, PLAIN, group()) as one:
        await connected(one)
        await all_done(one, [(await one.send("{}")).id])
        await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            sent = [(await asyncio.wait_for(one.send("{}"), 5)).id for _ in range(20)]
            await asyncio.sleep(1)
        finally:
            await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.4")
        await all_done(one, sent)
        assert arrived(one) >= {f"{uid}.erp" for uid in sent}
        assert await one.balanced()


async def test_a_slow_network_only_takes_longer(broker: Rabbit, tmp_path: Path) -> None:
    proxy = Proxy(broker.port)
    proxy.delay = 0.02
    async with proxy.serving(), node(tmp_path, proxy.url, PLAIN, group()) as one:
        sent = [(await one.send("{}")).id for _ in range(300)]
        await all_done(one, sent)
        assert len(one.targets["erp"].taken) == 300


async def test_reclaimed_deliveries_go_out_again_with_their_ids_r23(broker: Rabbit, tmp_path: Path) -> None:
    name = group()
    async with node(tmp_path, broker.url, PLAIN, name) as one:
        await connected(one)
        brokered = one.bus.brokered
        assert brokered is not None
        await all_done(one, [(await one.send("{}")).id])
        # The queue loses what is in it, and nobody notices: it is still there.
        await brokered.broker.cancel(f"{name}.target.erp")
        sent = [(await one.send("{}")).id for _ in range(5)]

        async def forwarded() -> bool:
            return await one.forwarded() == 5

        await until(forwarded)
        await asyncio.to_thread(broker.ctl, "purge_queue", f"{name}.target.erp")
        brokered.broker.consume(f"{name}.target.erp", brokered.inboxes["erp"].arrived, prefetch=2)
        assert await brokered.home.reclaim(["erp"]) == 5
        await all_done(one, sent)
        assert {f"{uid}.erp" for uid in sent} <= arrived(one)
