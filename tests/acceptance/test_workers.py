"""Several workers on one machine: one port, one owner of each key, one poller of each folder, one set of books (R27, R28)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from house_process import ESB, House, Peer, free_port

TABLE = """
esb = 1
[bus]
name = "crew"
http = "127.0.0.1:{http}"
drain = "3s"
[defaults]
owner = "tests@example.org"
[retry.patient]
transient = {{ first = "50ms", cap = "200ms" }}
[target.one]
http = "POST {one}/in"
id_header = "Idempotency-Key"
[target.line]
http = "POST {line}/in"
id_header = "Idempotency-Key"
order_by = "{{body.key}}"
[route.orders]
from = {{ http = "POST /orders" }}
do = [{{ read = "json", bad = "reply 422" }}]
to = ["one"]
[route.keyed]
from = {{ http = "POST /keyed" }}
do = [{{ read = "json", bad = "reply 422" }}]
once = "{{body.id}}"
to = ["one"]
[route.lines]
from = {{ http = "POST /lines" }}
do = [{{ read = "json", bad = "reply 422" }}]
to = ["line"]
[route.files]
from = {{ file = "drop", match = "*.csv", settled = "100ms", every = "100ms" }}
do = [{{ read = "csv" }}, {{ split = "rows" }}, {{ write = "json" }}]
to = ["one"]
"""


class Crew:
    """A supervisor with its workers, and the targets."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder = folder
        self.port = free_port() if not (folder / "port").exists() else int((folder / "port").read_text())
        (folder / "port").write_text(str(self.port))
        (folder / "drop").mkdir(exist_ok=True)
        self.one, self.line = Peer(), Peer()
        (folder / "routes.toml").write_text(TABLE.format(http=self.port, one=self.one.address, line=self.line.address))
        self.house = House(folder, [*ESB, "run", "-f", str(folder / "routes.toml"), "--workers", str(workers)])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[aiohttp.ClientSession]:
        async with self.one.serving(), self.line.serving():
            self.house.start()
            try:
                await self.house.ready(self.port)
                await self.until(self.whole)
                # A connection of its own for each request: the kernel deals them out.
                connector = aiohttp.TCPConnector(force_close=True)
                async with aiohttp.ClientSession(connector=connector) as session:
                    yield session
            finally:
                # In a thread: the targets answer while the workers finish.
                assert await asyncio.to_thread(self.house.stop, 30) == 0, self.house.tail()

    async def until(self, true: Any, seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while not await true():
                await asyncio.sleep(0.05)

    async def whole(self) -> bool:
        status, answer = await self.house.ask("/ready")
        return status == 200 and "absent" not in answer

    async def post(self, session: aiohttp.ClientSession, route: str, **body: Any) -> tuple[int, Any]:
        async with session.post(f"http://127.0.0.1:{self.port}/{route}", data=json.dumps(body)) as answer:
            return answer.status, await answer.json()

    def pids(self) -> dict[str, int]:
        """The workers' process ids, as their stores' locks tell."""
        folders = (self.folder / "var" / "workers").glob("*")
        return {folder.name: int((folder / "lock").read_text()) for folder in folders if (folder / "lock").exists()}

    async def settled(self) -> None:
        async def done() -> bool:
            _, account = await self.house.ask("/account")
            return sum(book["left"] for book in account["books"]) == 0

        await self.until(done)


def arrived(peer: Peer) -> list[Any]:
    return [json.loads(bodies[0]) for bodies in peer.bodies.values()]


async def test_two_workers_share_a_port_and_their_books_are_one_r19(tmp_path: Path) -> None:
    crew = Crew(tmp_path, 2)
    async with crew.running() as session:
        answers = await asyncio.gather(*(crew.post(session, "orders", id=n) for n in range(200)))
        assert {status for status, _ in answers} == {202}
        await crew.settled()
        assert sorted(body["id"] for body in arrived(crew.one)) == list(range(200))
        assert await crew.house.balanced()
        stores = [path / "esb.db" for path in (tmp_path / "var" / "workers").glob("[12]")]
        counts = [subprocess.run([*ESB, "status", "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)]
        status = json.loads(counts[0].stdout)
        assert next(item for item in status["routes"] if item["name"] == "orders")["accepted"] == 200
        assert all(path.stat().st_size > 0 for path in stores)
        _, figures = await crew.house.ask("/metrics")
        assert 'worker="1"' in figures
        assert 'worker="2"' in figures
        shown = await crew.house.ask(f"/messages/{answers[7][1]['id']}")
        assert shown[0] == 200
    done = subprocess.run([*ESB, "account", "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["balanced"] is True, "also of stopped workers"


async def test_a_key_has_one_owner_and_its_lines_keep_their_order_r27(tmp_path: Path) -> None:
    crew = Crew(tmp_path, 2)
    async with crew.running() as session:
        answers = await asyncio.gather(*(crew.post(session, "keyed", id=n % 20, same=True) for n in range(200)))
        assert {status for status, _ in answers} <= {200, 202}
        ids = {n: {answer["id"] for status, answer in answers[n::20]} for n in range(20)}
        assert all(len(found) == 1 for found in ids.values()), "one message a key, whoever was asked"
        for n in range(150):
            status, _ = await crew.post(session, "lines", key=f"k{n % 3}", n=n)
            assert status == 202
        await crew.settled()
        assert len(arrived(crew.one)) == 20
        for key in range(3):
            numbers = [body["n"] for body in arrived(crew.line) if body["key"] == f"k{key}"]
            assert numbers == sorted(numbers)
            assert len(numbers) == 50


async def test_a_dead_worker_is_started_again_and_nothing_is_lost(tmp_path: Path) -> None:
    crew = Crew(tmp_path, 2)
    acknowledged: set[int] = set()
    async with crew.running() as session:

        async def send(start: int) -> None:
            for n in range(start, start + 150):
                try:
                    status, _ = await crew.post(session, "orders", id=n)
                except (aiohttp.ClientError, OSError):
                    continue
                if status == 202:
                    acknowledged.add(n)

        async def kill() -> None:
            for worker in ("1", "2", "1"):
                await asyncio.sleep(0.3)
                os.kill(crew.pids()[worker], signal.SIGKILL)
                await asyncio.sleep(0.5)
                await crew.until(crew.whole)

        await asyncio.gather(kill(), *(send(1000 * n) for n in range(4)))
        await crew.settled()
        assert acknowledged <= {body["id"] for body in arrived(crew.one)}
        assert len(acknowledged) > 200
        assert await crew.house.balanced()


async def test_one_worker_polls_a_folder_and_another_takes_over_r28(tmp_path: Path) -> None:
    crew = Crew(tmp_path, 2)
    async with crew.running():

        def drop(name: str) -> None:
            part = tmp_path / "drop" / f".{name}"
            part.write_text("id\n" + "".join(f"{name}-{n}\n" for n in range(50)))
            part.rename(tmp_path / "drop" / name)

        async def taken(count: int) -> bool:
            return len(arrived(crew.one)) == count

        drop("a.csv")
        await crew.until(lambda: taken(50))
        for worker in ("1", "2"):
            os.kill(crew.pids()[worker], signal.SIGKILL)
            drop(f"{worker}.csv")
            await crew.until(lambda: taken(50 + 50 * int(worker)))  # noqa: B023
            await crew.until(crew.whole)
        assert len({body["id"] for body in arrived(crew.one)}) == 150


async def test_the_store_of_a_worker_that_is_no_more_is_drained(tmp_path: Path) -> None:
    crew = Crew(tmp_path, 2)
    async with crew.running() as session:
        crew.one.failing = 1.0
        answers = await asyncio.gather(*(crew.post(session, "orders", id=n) for n in range(60)))
        assert {status for status, _ in answers} == {202}
    crew = Crew(tmp_path, 1)
    async with crew.running():
        await crew.settled()
        assert {body["id"] for body in arrived(crew.one)} == set(range(60))
        assert await crew.house.balanced()


async def test_a_worker_that_does_not_answer_is_said(tmp_path: Path) -> None:
    crew = Crew(tmp_path, 2)
    async with crew.running():
        pid = crew.pids()["2"]
        os.kill(pid, signal.SIGKILL)
        done = await asyncio.to_thread(
            subprocess.run, [*ESB, "status"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert "no answer of worker 2" in done.stderr
        await crew.until(crew.whole)


async def test_workers_end_with_their_supervisor_and_the_next_one_starts_its_own(tmp_path: Path) -> None:
    crew = Crew(tmp_path, 2)
    async with crew.running() as session:
        before = crew.pids()
        crew.house.kill()

        async def ended() -> bool:
            return not any(Path(f"/proc/{pid}/stat").exists() for pid in before.values())

        await crew.until(ended)
        crew.house.start()
        await crew.house.ready(crew.port)
        await crew.until(crew.whole)
        assert set(crew.pids().values()).isdisjoint(before.values())
        status, _ = await crew.post(session, "orders", id=1)
        assert status == 202
        await crew.settled()
