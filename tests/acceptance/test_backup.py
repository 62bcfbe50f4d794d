"""A copy under load, a machine that is lost, a store of the copy: nothing that was copied is lost, and what may repeat is
said (R29)."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

import aiohttp
from house_process import ESB, House, Peer, free_port

TABLE = """
esb = 1
[bus]
http = "127.0.0.1:{http}"
[defaults]
owner = "tests@example.org"
[retry.patient]
transient = {{ first = "50ms", cap = "200ms" }}
[target.erp]
http = "POST {erp}/in"
id_header = "Idempotency-Key"
[route.orders]
from = {{ http = "POST /orders" }}
to = ["erp"]
"""


def esb(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*ESB, *words], cwd=folder, capture_output=True, text=True, check=False)


async def test_a_store_of_a_copy_starts_paused_and_repeats_with_the_same_ids_r29(tmp_path: Path) -> None:
    port, peer = free_port(), Peer()
    (tmp_path / "routes.toml").write_text(TABLE.format(http=port, erp=peer.address))
    house = House(tmp_path)
    acknowledged: list[str] = []
    async with aiohttp.ClientSession() as session, peer.serving():

        async def post(n: int) -> None:
            async with session.post(f"http://127.0.0.1:{port}/orders", data=f"m{n}") as answer:
                assert answer.status == 202
                acknowledged.append((await answer.json())["id"])

        async with house.running(port):
            await post(0)
            peer.failing = 1.0
            await asyncio.gather(*(post(n) for n in range(1, 200)))
            (_, done) = await asyncio.gather(
                asyncio.gather(*(post(n) for n in range(200, 400))),
                asyncio.to_thread(esb, tmp_path, "backup", "copy"),
            )
            assert done.returncode == 0, done.stderr
            copied = acknowledged[:200]
            peer.failing = 0.0
            while len(peer.taken) < 400:
                await asyncio.sleep(0.05)
            house.kill()
        before = set(peer.taken)
        refused = esb(tmp_path, "restore", "copy")
        assert refused.returncode == 1
        assert "already" in refused.stderr
        shutil.rmtree(tmp_path / "var")
        restored = json.loads(esb(tmp_path, "restore", "copy", "--json").stdout)
        assert restored["generation"] == 2
        assert 199 <= restored["may_repeat"]["erp"] <= 400
        async with house.running(port):
            assert await house.balanced()
            _, status = await house.ask("/status")
            assert "may go out a second time" in status["targets"][0]["paused"]
            await asyncio.sleep(0.3)
            assert sum(peer.taken.values()) == 400, "nothing goes out before somebody says so"
            assert esb(tmp_path, "resume", "target", "erp").returncode == 0
            while sum(peer.taken.values()) < 400 + restored["may_repeat"]["erp"]:
                await asyncio.sleep(0.05)
            assert await house.balanced()
        assert set(peer.taken) == before, "the same ids"
        assert {f"{uid}.erp" for uid in copied} <= set(peer.taken)
