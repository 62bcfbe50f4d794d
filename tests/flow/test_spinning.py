"""Code that computes for ever, or blocks: one message or one delivery fails by name, and the others go on (R18)."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager
from typing import Any

import held_letters
from msgspec import Struct

from esb import Component, Incoming, hook
from esb.bus import open_bus
from esb.clock import SystemClock
from esb.plugins import load_plugins
from esb.table.load import load
from esb.testing import Harness, running

TABLE = """
esb = 1
[bus]
step_timeout = "300ms"
[defaults]
owner = "tests@example.org"
[target.erp]
http = "POST http://127.0.0.1:1/orders"
[target.slow]
slow = "x"
[target.spins]
spins = "x"
[route.r]
from = { memory = "r" }
do = [{ read = "json" }, { spin = "x", if = 'has(body.spin)' }, { write = "json" }]
to = ["erp"]
[route.parts]
from = { memory = "parts" }
do = [{ read = "json" }, { split = "body.items" }, { spin = "x", if = 'has(body.spin)' }, { write = "json" }]
to = ["erp"]
[route.blocked]
from = { memory = "blocked" }
do = [{ read = "json" }, { block = "x" }, { write = "json" }]
to = ["slow"]
[route.spun]
from = { memory = "spun" }
to = ["spins"]
"""


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    main: str


class Spin:
    def apply(self, message: Any) -> Any:
        while True:
            pass


class Block:
    threads: list[str] = []

    def apply(self, message: Any) -> Any:
        Block.threads.append(threading.current_thread().name)
        time.sleep(0.1)
        return [message]


class Slow:
    """Blocks, as a driver of a database does; whatever waits for it."""

    taken: list[tuple[str, bytes]] = []

    def __init__(self, opened_in: str) -> None:
        self.opened_in = opened_in

    async def deliver(self, delivery: Any) -> None:
        time.sleep(0.3)  # noqa: ASYNC251 - it blocks on purpose
        Slow.taken.append((threading.current_thread().name, await delivery.body()))


class Spins:
    async def deliver(self, delivery: Any) -> None:
        while True:
            pass


class BlockingSource:
    """Reads a queue that blocks; ends when it is told to."""

    accepted: list[str] = []
    thread = ""

    async def run(self, accept: Any) -> None:
        BlockingSource.thread = threading.current_thread().name
        BlockingSource.accepted.append((await accept(Incoming(body=b'{"id": 7}'))).id)
        while True:
            time.sleep(0.01)  # noqa: ASYNC251 - it blocks on purpose


def made(thing: Any) -> Any:
    @asynccontextmanager
    async def open_it(options: Options, context: Any) -> Any:
        yield thing() if thing is not Slow else Slow(threading.current_thread().name)

    return open_it


def component(kind: Any, name: str, thing: Any, blocking: bool = False) -> Component[Options]:
    return Component(
        kind=kind, name=name, about="for tests", options=Options, main="main", open=made(thing), blocking=blocking,
        example=f"{{ {name} = 'x' }}" if kind != "target" else f"[target.x]\n{name} = 'x'",
    )  # fmt: skip


class Plugin:
    __name__ = "spinning"

    @hook
    def esb_steps(self) -> Any:
        return [component("step", "spin", Spin), component("step", "block", Block, blocking=True)]

    @hook
    def esb_targets(self) -> Any:
        return [component("target", "slow", Slow, blocking=True), component("target", "spins", Spins)]

    @hook
    def esb_sources(self) -> Any:
        return [component("source", "driver", BlockingSource, blocking=True)]


async def state_of(bus: Harness, uid: str) -> Any:
    found = await bus.bus.store.message_state(uid)
    assert found is not None
    return found


async def test_a_step_that_spins_on_the_loop_is_stopped_and_only_its_message_fails_r18() -> None:
    async with running(TABLE, plugins=[Plugin()]) as bus:
        bad = await bus.send("r", '{"id": 1, "spin": true}')
        await bus.send("r", '{"id": 2}')
        await bus.settled()
        found = await state_of(bus, bad.id)
        assert (found.state, "step spin" in found.reason, "computed" in found.reason) == ("quarantined", True, True)
        assert len(bus.targets["erp"].taken) == 1


async def test_a_step_that_spins_in_a_thread_over_a_large_body_is_stopped_r18() -> None:
    async with running(TABLE, plugins=[Plugin()]) as bus:
        bad = await bus.send("r", '{"id": 1, "spin": "' + "x" * 300_000 + '"}')
        await bus.settled()
        found = await state_of(bus, bad.id)
        assert (found.state, "step spin" in found.reason, "computed" in found.reason) == ("quarantined", True, True)


async def test_a_part_that_spins_is_quarantined_by_itself_r18() -> None:
    async with running(TABLE, plugins=[Plugin()]) as bus:
        sent = await bus.send("parts", '{"items": [{"id": 1}, {"id": 2, "spin": true}, {"id": 3}]}')
        assert bus.bus.splitter is not None
        assert (await bus.bus.splitter.planned(sent.id)).state == "split"
        await bus.settled()
        assert len(bus.targets["erp"].taken) == 2
        (rejected,) = await bus.bus.store.rejected(sent.id)
        assert "computed" in str(rejected)


async def test_a_target_that_spins_is_stopped_tried_three_times_and_parked_r18() -> None:
    async with running(TABLE, plugins=[Plugin()], real=["spins"]) as bus:
        await bus.send("spun", "{}")
        await bus.send("r", '{"id": 2}')
        await bus.advance(60)
        await bus.settled()
        assert len(bus.targets["erp"].taken) == 1
        (group,) = await held_letters.groups(bus.bus.store, "parked")
        assert "StepTimeout" in group.reason


async def test_blocking_components_run_in_threads_and_hold_no_loop_r18() -> None:
    Block.threads, Slow.taken = [], []
    async with running(TABLE, plugins=[Plugin()], real=["slow"]) as bus:
        await bus.send("blocked", '{"id": 1}')
        await bus.settled()
        ((thread, body),) = Slow.taken
        assert body == b'{"id": 1}'
        main = threading.main_thread().name
        assert main not in (thread, *Block.threads)
        assert len(Block.threads) == 1


async def test_a_blocking_source_runs_in_a_thread_and_ends_with_the_bus_r18(tmp_path: Any) -> None:
    BlockingSource.accepted = []
    file = tmp_path / "routes.toml"
    file.write_text(
        'esb = 1\n[bus]\ndata = "var"\n[defaults]\nowner = "tests@example.org"\n[target.t]\nmemory = "t"\n'
        '[route.r]\nfrom = { driver = "x" }\nto = ["t"]\n'
    )
    registry = load_plugins(extra=[Plugin()])
    async with open_bus(load(file, registry), registry, clock=SystemClock(), durable=False) as bus:
        for _ in range(500):
            if BlockingSource.accepted:
                break
            await asyncio.sleep(0.01)
        (uid,) = BlockingSource.accepted
        assert await bus.store.message_state(uid) is not None
        assert bus.services.healths["route.r"].state == "up"
        assert BlockingSource.thread != threading.main_thread().name
    for _ in range(100):
        if not alive(BlockingSource.thread):
            break
        await asyncio.sleep(0.01)
    assert not alive(BlockingSource.thread)


def alive(name: str) -> bool:
    return any(thread.name == name and thread.is_alive() for thread in threading.enumerate())
