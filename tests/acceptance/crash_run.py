"""The crash run and its checker: load from HTTP and files, failing targets, SIGKILL at random instants, and a count of
what was acknowledged against what arrived (a total queue: lost, unexpected, altered)."""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from house_process import House, Peer, free_port

TABLE = """
esb = 1
[bus]
name = "crash"
http = "127.0.0.1:{http}"
[defaults]
owner = "tests@example.org"
[retry.patient]
transient = {{ first = "50ms", factor = 2, cap = "400ms" }}
throttled = {{ cap = "200ms" }}
fault = {{ attempts = 3 }}
[target.one]
http = "POST {one}/in"
id_header = "Idempotency-Key"
timeout = "3s"
concurrency = 16
[target.two]
http = "POST {two}/in"
id_header = "Idempotency-Key"
timeout = "3s"
concurrency = 16
[route.orders]
from = {{ http = "POST /orders" }}
do = [{{ read = "json", bad = "reply 422" }}]
cases = [
  {{ name = "refused", when = 'body.kind == "refuse"', reply = "422 not served" }},
  {{ name = "rest", otherwise = true, to = ["one", "two"] }},
]
[route.keyed]
from = {{ http = "POST /keyed" }}
do = [{{ read = "json", bad = "reply 422" }}]
once = "{{body.id}}"
to = ["one", "two"]
[route.rows]
from = {{ file = "drop", match = "*.csv", settled = "100ms", every = "50ms", done = "done", bad = "bad" }}
do = [{{ read = "csv" }}, {{ split = "rows" }}, {{ write = "json" }}]
to = ["one"]
"""


@dataclass
class Tally:
    """What the senders know: acknowledged for good, refused for good, and (for keyed ones) sent again until known."""

    acknowledged: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    rows: set[str] = field(default_factory=set)
    kills: int = 0
    unbalanced: list[int] = field(default_factory=list)


@dataclass
class Verdict:
    """Lost and unexpected per target; duplicates are allowed, with the same id."""

    lost: set[str]
    unexpected: set[str]
    twice_made: set[str]
    tally: Tally


class CrashRun:
    """One run in one folder."""

    def __init__(
        self, folder: Path, *, kills: int, seed: int = 7, command: list[str] | None = None, patience: float = 60
    ) -> None:
        self.folder = folder
        self.kills = kills
        self.random = random.Random(seed)
        self.port = free_port()
        self.peers = {"one": Peer(0.15, seed), "two": Peer(0.3, seed + 1)}
        self.house = House(folder, command)
        self.tally = Tally()
        self._stop = False
        self.patience = patience
        (folder / "drop").mkdir()

    async def run(self) -> Verdict:
        """Kills, counts, drains, and checks."""
        one, two = self.peers["one"], self.peers["two"]
        table = TABLE.format(http=self.port, one=one.address, two=two.address)
        (self.folder / "routes.toml").write_text(table)
        async with one.serving(), two.serving():
            senders = [asyncio.ensure_future(self._send(number)) for number in range(8)]
            senders.append(asyncio.ensure_future(self._drop()))
            try:
                await self._kill_again_and_again()
            finally:
                self._stop = True
                await asyncio.gather(*senders)
            async with self.house.running():
                one.failing = two.failing = 0.0
                await self._drained()
                assert await self.house.balanced(), "the books do not balance at the end"
        return self._verdict()

    async def _kill_again_and_again(self) -> None:
        for number in range(self.kills):
            self.house.start()
            await self.house.ready()
            if not await self.house.balanced():
                self.tally.unbalanced.append(number)
            await asyncio.sleep(self.random.uniform(0.05, 0.5))
            self.house.kill()
            self.tally.kills += 1

    async def _send(self, sender: int) -> None:
        """Posts one message after the other; what has a key is sent again until its fate is known."""
        count = 0
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while not self._stop:
                count += 1
                name = f"s{sender}-{count}"
                route, kind = ("keyed", "") if count % 2 else ("orders", "refuse" if count % 10 == 0 else "")
                body = json.dumps({"id": name, "kind": kind, "pad": "x" * self.random.randint(0, 300)}).encode()
                await self._until_known(session, route, name, body)

    async def _until_known(self, session: aiohttp.ClientSession, route: str, name: str, body: bytes) -> None:
        while True:
            status = await self._post(session, route, body)
            if status is not None and status < 300:
                self.tally.acknowledged.add(name)
                return
            if status is not None and 400 <= status < 500:
                self.tally.refused.add(name)
                return
            if route != "keyed" or self._stop:
                self.tally.unknown.add(name)
                await asyncio.sleep(0.02)
                return
            await asyncio.sleep(0.05)

    async def _post(self, session: aiohttp.ClientSession, route: str, body: bytes) -> int | None:
        try:
            async with session.post(f"http://127.0.0.1:{self.port}/{route}", data=body) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    async def _drop(self) -> None:
        """Drops a file of rows now and then: whole, by rename."""
        count = 0
        while not self._stop:
            count += 1
            names = [f"f{count}-{row}" for row in range(self.random.randint(1, 400))]
            part = self.folder / "drop" / f".{count}.part"
            part.write_text("id,n\n" + "".join(f"{name},{len(name)}\n" for name in names))
            part.rename(self.folder / "drop" / f"{count:05}.csv")
            self.tally.rows.update(names)
            await asyncio.sleep(self.random.uniform(0.05, 0.3))

    async def _drained(self) -> None:
        """Until nothing waits and no file lies in the folder."""
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            _, status = await self.house.ask("/status")
            waiting = sum(target["waiting"] for target in status["targets"])
            files = [*self.folder.glob("drop/*.csv"), *self.folder.glob("drop/work/*")]
            if waiting == 0 and not files and not self._missing():
                return
            await asyncio.sleep(0.1)

    def _arrived(self, peer: str) -> dict[str, set[str]]:
        """Message names that arrived, each with the delivery ids it came under."""
        arrived: dict[str, set[str]] = {}
        for delivery, bodies in self.peers[peer].bodies.items():
            for body in bodies:
                arrived.setdefault(json.loads(body)["id"], set()).add(delivery)
        return arrived

    def _missing(self) -> set[str]:
        one, two = self._arrived("one"), self._arrived("two")
        return (self.tally.acknowledged - two.keys()) | ((self.tally.acknowledged | self.tally.rows) - one.keys())

    def _verdict(self) -> Verdict:
        one, two = self._arrived("one"), self._arrived("two")
        arrived = {**one, **two}
        keyed = {name for name in self.tally.acknowledged if int(name.split("-")[1]) % 2}
        made = self.tally.rows | keyed
        return Verdict(
            lost=self._missing(),
            unexpected=self.tally.refused & arrived.keys(),
            twice_made={name for name in made if len(one.get(name, ())) > 1 or len(two.get(name, ())) > 1},
            tally=self.tally,
        )
