"""`esb backup` under load, SIGKILL, everything lost, `esb restore`: the real process (R29)."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
from house_process import ESB, House, Peer, free_port

TABLE = """
esb = 1
[bus]
name = "shop"
http = "127.0.0.1:{http}"
[defaults]
owner = "tests@example.org"
[target.one]
http = "POST {one}/in"
id_header = "Idempotency-Key"
concurrency = 4
[target.two]
http = "POST {two}/in"
id_header = "Idempotency-Key"
limit = "2/s"
[route.orders]
from = {{ http = "POST /orders" }}
to = ["one", "two"]
"""


async def typed(folder: Path, *words: str) -> tuple[int, str]:
    """A command, as typed in that folder."""
    done = await asyncio.to_thread(
        subprocess.run, [*ESB, *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


async def told(folder: Path, *words: str) -> Any:
    code, said = await typed(folder, *words, "--json")
    assert code == 0, said
    return json.loads(said.splitlines()[0])


async def send(port: int, stop: asyncio.Event, acknowledged: list[str]) -> None:
    """Posts one after the other, every tenth so large that its body is a file (R7)."""
    async with aiohttp.ClientSession() as session:
        while not stop.is_set():
            pad = "x" * (100_000 if len(acknowledged) % 10 == 0 else 10)
            try:
                async with session.post(f"http://127.0.0.1:{port}/orders", data=f"order {pad}") as answer:
                    if answer.status == 202:
                        acknowledged.append((await answer.json())["id"])
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.05)


async def settled(house: House, acknowledged: list[str], peers: list[Peer]) -> None:
    for _ in range(600):
        _, status = await house.ask("/status")
        if not sum(item["waiting"] for item in status["targets"]):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("not all was delivered")


async def test_a_bus_restored_from_a_backup_starts_paused_and_then_delivers_all_with_the_same_ids_r29(
    tmp_path: Path,
) -> None:
    port, one, two = free_port(), Peer(), Peer()
    table = TABLE.format(http=port, one=one.address, two=two.address)
    (tmp_path / "routes.toml").write_text(table)
    house, stop, acknowledged = House(tmp_path), asyncio.Event(), list[str]()
    async with one.serving(), two.serving():
        async with house.running(port):
            sending = [asyncio.ensure_future(send(port, stop, acknowledged)) for _ in range(3)]
            while len(acknowledged) < 60:
                await asyncio.sleep(0.02)
            before = set(acknowledged)
            assert (await told(tmp_path, "backup", "copy"))["bytes"] > 100_000
            assert await typed(tmp_path, "backup", "copy") == (
                1,
                f"S562 {tmp_path}/copy is there already: a backup goes into a folder of its own\n",
            )
            code, said = await typed(tmp_path, "restore", "copy")
            assert (code, said.split()[0]) == (3, "S540")
            during = len(acknowledged)
            while len(acknowledged) < during + 20:
                await asyncio.sleep(0.02)
            house.kill()
            stop.set()
            await asyncio.gather(*sending)
        first = set(two.taken)
        shutil.rmtree(tmp_path / "var")
        (tmp_path / "routes.toml").write_text(table.replace('limit = "2/s"\n', ""))
        code, said = await typed(tmp_path, "restore", "copy")
        assert code == 0, said
        assert "the books balance" in said
        (count,) = {
            int(word) for word, after in zip(said.split(), said.split()[1:], strict=False) if after == "deliveries"
        }
        assert count > 20
        async with house.running():
            assert await house.balanced()
            status, ready = await house.ask("/ready")
            (problem,) = [item for item in ready["problems"] if item["component"] == "restore"]
            assert (status, problem["state"]) == (503, "degraded")
            assert f"{count} deliveries wait and may repeat" in problem["reason"]
            arrived = one.taken.total() + two.taken.total()
            async with aiohttp.ClientSession() as session, session.post(f"http://127.0.0.1:{port}/orders") as refused:
                assert (refused.status, "Retry-After" in refused.headers) == (503, True)
            assert (await told(tmp_path, "resume", "target", "two"))["resumed"] == "target two"
            for _ in range(200):
                if before <= {name.removesuffix(".two") for name in two.taken}:
                    break
                await asyncio.sleep(0.05)
            assert one.taken.total() + two.taken.total() > arrived
            assert (await house.ask("/ready"))[0] == 503, "one of three things goes on"
            house.kill()
        async with house.running():
            assert (await house.ask("/ready"))[0] == 503, "the others stand still after a restart too"
            _, figures = await house.ask("/status")
            assert {item["name"]: bool(item["paused"]) for item in figures["targets"]} == {"one": True, "two": False}
            assert (await typed(tmp_path, "resume", "bus"))[0] == 0
            assert (await house.ask("/ready"))[0] == 200
            await settled(house, acknowledged, [one, two])
            assert await house.balanced()
            async with aiohttp.ClientSession() as session, session.post(f"http://127.0.0.1:{port}/orders") as taken:
                assert taken.status == 202
    for name, peer in (("one", one), ("two", two)):
        assert before <= {item.removesuffix(f".{name}") for item in peer.taken}, "accepted before the backup: delivered"
    assert first <= set(two.taken), "what repeated came with the id it had"


async def test_a_stopped_bus_is_copied_too(tmp_path: Path) -> None:
    (tmp_path / "routes.toml").write_text(
        TABLE.format(http=free_port(), one="http://127.0.0.1:9", two="http://127.0.0.1:9")
    )
    house = House(tmp_path)
    async with house.running():
        assert house.stop() == 0
    assert (await told(tmp_path, "backup", "copy"))["backup"] == str(tmp_path / "copy")
    code, said = await typed(tmp_path, "restore", "copy")
    assert (code, said.split()[0]) == (3, "S561")
