"""A message that goes round for ever ends dead, by name (FAULTS 56)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
from fault_house import running
from house_process import House, free_port

TABLE = """
esb = 1
[bus]
http = "127.0.0.1:{port}"
[defaults]
owner = "tests@example.org"
[target.itself]
http = "POST http://127.0.0.1:{port}/round"
[route.round]
from = {{ http = "POST /round" }}
to = ["itself"]
"""


@pytest.mark.parametrize("sent", ["0", "7", "nonsense"])
async def test_a_route_whose_target_posts_to_itself_ends_dead_after_sixteen_hops_faults_56(
    tmp_path: Path, sent: str
) -> None:
    port = free_port()
    house = House(tmp_path)
    house.table.write_text(TABLE.format(port=port))
    async with running(house, port), aiohttp.ClientSession() as client:
        async with client.post(f"http://127.0.0.1:{port}/round", data=b"x", headers={"esb-hops": sent}) as answer:
            assert answer.status == 202
        for _ in range(200):
            _, listed = await house.ask("/messages?state=dead")
            if listed["messages"]:
                break
            await asyncio.sleep(0.05)
        (dead,) = listed["messages"]
        assert dead["reason"] == "loop: more than 16 hops"
        _, listed = await house.ask("/messages?limit=100")
        assert len(listed["messages"]) == 18 - (int(sent) if sent.isdigit() else 0)
        assert await house.balanced()
