"""Two nodes on RabbitMQ under load, and what dies meanwhile: what was acknowledged is counted at the targets."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from house_process import ESB, House, Peer, free_port

TABLE = """
esb = 1
[bus]
name = "{group}"
http = "127.0.0.1:{http}"
drain = "2s"
[defaults]
owner = "tests@example.org"
[retry.patient]
transient = {{ first = "50ms", factor = 2, cap = "400ms" }}
throttled = {{ cap = "200ms" }}
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
order_by = "{{body.key}}"
[route.orders]
from = {{ http = "POST /orders" }}
do = [{{ read = "json", bad = "reply 422" }}]
to = ["one", "two"]
"""

PAUSE = 0.02
"""Seconds between two messages of a sender: what a broker that is away leaves waiting must drain in time."""

Event = Callable[["ClusterRun"], Awaitable[None]]


@dataclass
class ClusterRun:
    """One run in one folder: `names` are its nodes."""

    folder: Path
    url: str
    names: Sequence[str] = ("a", "b")
    seed: int = 7
    program: Sequence[str] = (*ESB, "run")
    acknowledged: dict[str, float] = field(default_factory=dict)
    unbalanced: list[str] = field(default_factory=list)
    events: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.peers = {"one": Peer(0.1, self.seed), "two": Peer(0.1, self.seed + 1)}
        self.ports = {name: free_port() for name in self.names}
        self.houses: dict[str, House] = {}
        self.down: set[str] = set()
        self._stop = False
        group = f"crash{self.random.randrange(1 << 30)}"
        for name in self.names:
            place = self.folder / name
            place.mkdir(parents=True)
            one, two = (self.peers[peer].address for peer in ("one", "two"))
            text = TABLE.format(group=group, http=self.ports[name], one=one, two=two)
            (place / "routes.toml").write_text(text)
            command = [*self.program, "-f", str(place / "routes.toml"), "--broker", self.url]
            self.houses[name] = House(place, command)

    async def run(self, events: Sequence[Event], patience: float = 60) -> None:
        """Load, one event after the other, then a drain; `lost` and `disorder` tell how it went."""
        async with self.peers["one"].serving(), self.peers["two"].serving():
            try:
                for house in self.houses.values():
                    house.start()
                for name, house in self.houses.items():
                    await house.ready(self.ports[name])
                # RabbitMQ 3.10 loses the use of a queue that was declared less than a second before a SIGKILL.
                await asyncio.sleep(1.5)
                senders = [asyncio.ensure_future(self._send(number)) for number in range(8)]
                try:
                    for event in events:
                        await asyncio.sleep(self.random.uniform(0.2, 0.7))
                        await event(self)
                        self.events += 1
                finally:
                    self._stop = True
                    await asyncio.gather(*senders)
                for peer in self.peers.values():
                    peer.failing = 0.0
                await self._drained(patience)
                for name, house in self.houses.items():
                    if not await house.balanced():
                        self.unbalanced.append(name)
            finally:
                for house in self.houses.values():
                    if house.process is not None and house.process.poll() is None:
                        house.kill()

    async def kill(self, *names: str) -> None:
        """SIGKILL; a start and the books after it."""
        self.down |= set(names)
        for name in names:
            self.houses[name].kill()
        await asyncio.sleep(self.random.uniform(0.0, 0.4))
        for name in names:
            self.houses[name].start()
        for name in names:
            await self.houses[name].ready(self.ports[name])
            if not await self.houses[name].balanced():
                self.unbalanced.append(name)
        self.down -= set(names)

    async def _send(self, sender: int) -> None:
        """One message after the other, each to one of the nodes; what is not acknowledged is not counted."""
        count = 0
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            while not self._stop:
                count += 1
                name = f"s{sender}-{count}"
                place = self.names[sender % len(self.names)]
                body = json.dumps({"id": name, "key": f"s{sender}.{count % 13}", "n": count, "pad": "x" * 100}).encode()
                if await self._post(session, place, body):
                    self.acknowledged[name] = time.monotonic()
                    await asyncio.sleep(PAUSE)
                else:
                    await asyncio.sleep(0.05)

    async def _post(self, session: aiohttp.ClientSession, place: str, body: bytes) -> bool:
        try:
            async with session.post(f"http://127.0.0.1:{self.ports[place]}/orders", data=body) as answer:
                await answer.read()
                return answer.status < 300
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def _drained(self, patience: float) -> None:
        until = time.monotonic() + patience
        while time.monotonic() < until:
            # The books first: looking through all bodies takes the time that the targets need to answer.
            if not await self._left() and not self.lost():
                return
            await asyncio.sleep(0.5)

    async def _left(self) -> int:
        left = 0
        for house in self.houses.values():
            _, account = await house.ask("/account")
            left += sum(book["left"] for book in account["books"])
        return left

    def lost(self) -> set[str]:
        """Acknowledged, and not at both targets."""
        found = [{json.loads(body)["id"] for bodies in peer.bodies.values() for body in bodies} for peer in
                 self.peers.values()]  # fmt: skip
        return {name for name in self.acknowledged if not all(name in arrived for arrived in found)}

    def disorder(self) -> list[str]:
        """Keys whose messages first arrived at the ordered target in another order than they were acknowledged."""
        first: dict[str, list[int]] = {}
        seen: set[str] = set()
        for bodies in self.peers["two"].bodies.values():
            body = json.loads(bodies[0])
            if body["id"] not in seen:
                seen.add(body["id"])
                first.setdefault(body["key"], []).append(body["n"])
        return [key for key, numbers in first.items() if numbers != sorted(numbers)]

    def judge(self, least: int) -> None:
        """Nothing is lost, nothing out of order, the books balance."""
        assert self.lost() == set(), f"{len(self.lost())} of {len(self.acknowledged)} acknowledged are lost"
        assert self.disorder() == []
        assert self.unbalanced == []
        assert len(self.acknowledged) >= least, len(self.acknowledged)
