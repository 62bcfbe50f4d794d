"""Deaths and stops of the process (FAULTS A and G): what was acknowledged is there afterwards, and nothing twice."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from fault_house import (
    FILES,
    ORDERS,
    OUT,
    books,
    drained,
    dying,
    ended,
    injected,
    make,
    post,
    running,
    taken,
    tell,
    under_load,
    until,
)
from house_process import ESB, House, Peer, free_port

PEER = """
[target.peer]
http = "POST {address}/in"
id_header = "Idempotency-Key"
timeout = "20s"
concurrency = 4
[route.orders]
from = {{ http = "POST /orders" }}
to = ["peer"]
"""


@asynccontextmanager
async def never_answering() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A target that takes a request and says nothing; the event says that one is there."""
    port, asked, never = free_port(), asyncio.Event(), asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        asked.set()
        await never.wait()
        return web.Response()

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}", asked
    finally:
        never.set()
        await runner.cleanup()


async def test_sigterm_under_load_drains_and_exits_0_faults_11(tmp_path: Path) -> None:
    peer = Peer()
    acknowledged: set[bytes] = set()
    async with peer.serving():
        port = make(tmp_path, PEER.format(address=peer.address))
        house = House(tmp_path)
        async with running(house, port):
            async with under_load(port, 8, acknowledged):
                await until(lambda: len(acknowledged) > 100, "a load")
                begun = time.monotonic()
                tell(house, signal.SIGTERM)
                assert await ended(house, 40) == 0, house.tail()
                assert time.monotonic() - begun < 30
            assert all(count == 1 for count in peer.taken.values()), "a clean stop repeats nothing"
        async with running(house, port):
            await drained(house)
            assert await house.balanced()
            assert house.stop() == 0
    arrived = {body for bodies in peer.bodies.values() for body in bodies}
    assert acknowledged <= arrived
    assert all(count == 1 for count in peer.taken.values()), "a clean stop repeats nothing"


async def test_a_second_sigterm_stops_at_once_and_what_was_under_way_is_kept_faults_11(tmp_path: Path) -> None:
    async with never_answering() as (address, asked):
        port = make(tmp_path, PEER.format(address=address))
        house = House(tmp_path)
        async with running(house, port):
            assert await post(port, b"kept") == 202
            await asyncio.wait_for(asked.wait(), 10)
            tell(house, signal.SIGTERM)
            await until(lambda: "stopping" in house.tail(), "it says that it stops")
            assert house.process is not None
            assert house.process.poll() is None, "one SIGTERM waits for what is under way"
            begun = time.monotonic()
            tell(house, signal.SIGTERM)
            assert await ended(house) == 1
            assert time.monotonic() - begun < 5
        async with running(house, port):
            _, status = await house.ask("/status")
            assert [target["waiting"] for target in status["targets"]] == [1]
            assert await house.balanced()


def left_to_do(folder: Path) -> list[Path]:
    """Files that lie in the watched folder or in `work`."""
    drop = folder / "drop"
    return [path for path in [*drop.glob("*"), *drop.glob("work/*")] if path.is_file()]


MEMORY = """
[target.out]
memory = "out"
"""
MOVES = [("rename", 3), ("unlink", 2)]


async def test_a_file_is_in_one_place_whenever_its_move_is_cut_off_faults_8(tmp_path: Path) -> None:
    make(tmp_path, MEMORY + FILES)
    (tmp_path / "drop").mkdir()
    names: list[str] = []
    for number, (call, when) in enumerate(MOVES):
        for name in (f"{number}-{count}.txt" for count in range(14)):
            (tmp_path / "drop" / name).write_text(name)
            names.append(name)
        house = House(tmp_path, injected(tmp_path, f"{call}:signal=SIGKILL:when={when}"))
        house.start()
        assert await ended(house) == -signal.SIGKILL, house.tail()
        assert "/drop/" in (tmp_path / "strace.log").read_text()[-1000:], "it was the move of a file"
        there = [path for path in (tmp_path / "drop").rglob("*.txt") if path.is_file()]
        assert len({path.stat().st_ino for path in there}) == len(names), "every file is there, and none as two"
    house = House(tmp_path)
    async with running(house):
        await until(lambda: left_to_do(tmp_path) == [], "every file is put away")
        await drained(house)
        _, account = await house.ask("/account")
        assert account["balanced"]
        assert books(account)["accepted"] == len(names), "each file is one message"
    assert sorted(path.name for path in (tmp_path / "drop" / "done").iterdir()) == sorted(names)
    assert not (tmp_path / "drop" / "bad").exists()


DEATHS = [
    ("esb.store.store:Store.accept", "before", 3),  # FAULTS 1
    ("esb.store.store:Store.accept", "after", 3),  # FAULTS 2
    ("esb_plugins.http.target:HttpCalls.deliver", "before", 4),  # FAULTS 5, 9
    ("esb_plugins.http.target:HttpCalls.deliver", "after", 4),  # FAULTS 6, 9
    ("esb.store.store:Store.settle", "after", 2),  # FAULTS 7
]
THREE = """
[target.one]
http = "POST {address}/one/in"
id_header = "Idempotency-Key"
[target.two]
http = "POST {address}/two/in"
id_header = "Idempotency-Key"
[target.no]
http = "POST {address}/no"
id_header = "Idempotency-Key"
[route.orders]
from = {{ http = "POST /orders" }}
to = ["one", "two", "no"]
"""


@asynccontextmanager
async def three_targets(taken: dict[str, list[bytes]]) -> AsyncIterator[str]:
    """`/one/in` and `/two/in` take what comes, by its id; `/no` refuses for good."""
    port = free_port()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        if request.path == "/no":
            return web.Response(status=422, text="never")
        taken.setdefault(request.headers["Idempotency-Key"], []).append(body)
        return web.Response()

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def send_until_known(port: int, keys: list[str], house: House) -> set[str]:
    """Sends a message a key, each with its key as the body, and each when the one before has its outcome or the bus is
    dead: no more than one is under way. Gives those that were acknowledged."""
    acknowledged: set[str] = set()
    for key in keys:
        if await post(port, key.encode(), key=key) == 202:
            acknowledged.add(key)
        with suppress(OSError, aiohttp.ClientError, TimeoutError):
            await drained(house)
    return acknowledged


@pytest.mark.parametrize(("place", "when", "count"), DEATHS)
async def test_a_death_at_any_point_loses_nothing_and_makes_no_second_message_faults_1_2_5_6_7_9(
    tmp_path: Path, place: str, when: str, count: int
) -> None:
    keys = [f"order-{number}" for number in range(6)]
    taken_by: dict[str, list[bytes]] = {}
    async with three_targets(taken_by) as address:
        port = make(tmp_path, THREE.format(address=address))
        house = House(tmp_path, dying(place, when, count))
        async with running(house, port):
            acknowledged = await send_until_known(port, keys, house)
            assert await ended(house) == -signal.SIGKILL, house.tail()
        house = House(tmp_path)
        async with running(house, port):
            if place.endswith("Store.accept"):
                assert acknowledged < set(keys), "it died before its answer"
            assert await send_until_known(port, keys, house) == set(keys), "the same again is recognised or accepted"
            await drained(house)
            _, account = await house.ask("/account")
            _, dead = await house.ask("/held/dead")
    assert account["balanced"]
    assert books(account)["accepted"] == len(keys), "each key is one message"
    assert books(account, "deliveries")["planned"] == 3 * len(keys)
    assert books(account, "deliveries")["dead"] == len(keys), "never gone, never twice dead (FAULTS 7)"
    for target in ("one", "two"):
        ids = [name for name in taken_by if name.endswith(f".{target}")]
        assert sorted(taken_by[name][0] for name in ids) == sorted(key.encode() for key in keys)
    assert sum(len(bodies) for bodies in taken_by.values()) <= 2 * len(keys) + 2, "repeats only what was under way"
    assert len(dead) > 0


@pytest.mark.parametrize("when", [22])
async def test_a_death_at_an_fdatasync_loses_nothing_that_was_acknowledged_faults_1(tmp_path: Path, when: int) -> None:
    keys = [f"order-{number}" for number in range(30)]
    port = make(tmp_path, OUT + ORDERS)
    house = House(tmp_path, injected(tmp_path, f"fdatasync:signal=SIGKILL:when={when}"))
    async with running(house, port):
        acknowledged = await send_until_known(port, keys, house)
        assert await ended(house) == -signal.SIGKILL, house.tail()
    assert 0 < len(acknowledged) < len(keys)
    house = House(tmp_path)
    async with running(house, port):
        await drained(house)
        assert acknowledged <= {body.decode() for body in taken(tmp_path)}
        assert await send_until_known(port, keys, house) == set(keys)
        await drained(house)
        assert await house.balanced()
    assert taken(tmp_path) == sorted(key.encode() for key in keys)


def asked(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What a command says in this folder."""
    return subprocess.run([*ESB, *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


async def test_a_table_that_is_broken_keeps_nobody_from_the_bus_that_runs_with_the_one_before(tmp_path: Path) -> None:
    port = make(tmp_path)
    async with running(House(tmp_path), port):
        table = tmp_path / "routes.toml"
        table.write_text(table.read_text() + "\nx = [")
        said = await asyncio.to_thread(asked, tmp_path, "status")
        assert said.returncode == 0, said.stderr
        assert ": running" in said.stdout
        assert "E101" in said.stderr
        assert "the last one that ran" in said.stderr
        said = await asyncio.to_thread(asked, tmp_path, "pause", "route", "orders", "--reason", "wrong map")
        assert said.returncode == 0, said.stderr
    table.unlink()
    assert (await asyncio.to_thread(asked, tmp_path, "status")).returncode == 2


def test_a_bus_whose_admin_key_is_missing_says_so_in_one_line(tmp_path: Path) -> None:
    admin = f'admin = "127.0.0.1:{free_port()}"\nadmin_key = "secret:nobody_set_it"\n'
    make(tmp_path, OUT + ORDERS + '[secrets]\nnobody_set_it = "env:NOBODY_SET_IT"\n', bus=admin)
    said = asked(tmp_path, "run")
    assert said.returncode == 2
    assert "E180" in said.stderr
    assert "Traceback" not in said.stderr


async def test_a_plugin_that_ends_the_process_at_start_lets_no_message_be_taken_faults_12(tmp_path: Path) -> None:
    make(tmp_path, OUT + FILES, bus='plugins = "mine"')
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop" / "order.txt").write_text("kept")
    (tmp_path / "mine").mkdir()
    deadly = tmp_path / "mine" / "deadly.py"
    deadly.write_text("import os\nos._exit(3)\n")
    for _ in range(3):
        house = House(tmp_path)
        house.start()
        assert await ended(house) == 3
        assert [path.name for path in left_to_do(tmp_path)] == ["order.txt"]
    deadly.write_text("raise RuntimeError('not today')\n")
    house = House(tmp_path)
    async with running(house):
        await until(lambda: taken(tmp_path) == [b"kept"], "the others run")
        said = await asyncio.to_thread(asked, tmp_path, "plugin", "list")
        assert "not today" in said.stdout + said.stderr
        assert house.stop() == 0
