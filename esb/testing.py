"""A whole bus in memory, for tests of tables and plugins: targets are doubles, the clock is moved by hand."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from esb.bus import Bus, open_bus
from esb.clock import VirtualClock
from esb.errors import DeliveryError, MaybeSent, Rejected, Throttled, Unauthorized, Unavailable
from esb.message import Delivery
from esb.plugins import Registry, load_plugins
from esb.ports import Accepted, Component, Context, Incoming, Receipt, Reply, Target
from esb.table.load import load
from esb.table.model import RouteSpec, Table

Answer = str | int | Exception | Reply | Callable[[Delivery], Any]
PATIENCE = 2000
"""Turns of the loop that `settled` waits for the store's thread, a millisecond each."""


class Received(Struct, frozen=True):
    """One delivery as a double got it."""

    id: str
    attempt: int
    body: bytes
    headers: Mapping[str, str]
    values: Mapping[str, str]
    maybe_sent: bool
    answer: str


class Double:
    """A target that takes what it is given and answers as it is told; without a script it always takes it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.received: list[Received] = []
        self._script: list[Answer] = []

    def answer(self, *script: Answer) -> None:
        """The next answers, in order: "ok", "200", "timeout", "503 Retry-After=60", an exception, a Reply."""
        self._script.extend(script)

    @property
    def taken(self) -> list[Received]:
        """What was delivered: the attempts it answered well."""
        return [item for item in self.received if item.answer == "ok"]

    @property
    def bodies(self) -> list[bytes]:
        return [item.body for item in self.taken]

    async def deliver(self, delivery: Delivery) -> Receipt | None:
        answer = self._script.pop(0) if self._script else "ok"
        body = await delivery.body()
        try:
            receipt = await self._answered(answer, delivery)
        except BaseException as error:
            self._note(delivery, body, type(error).__name__)
            raise
        self._note(delivery, body, "ok")
        return receipt

    async def _answered(self, answer: Answer, delivery: Delivery) -> Receipt | None:
        if callable(answer) and not isinstance(answer, Exception):
            answer = answer(delivery)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Reply):
            return Receipt(reply=answer)
        failure = failure_of(str(answer))
        if failure is not None:
            raise failure
        return None

    def _note(self, delivery: Delivery, body: bytes, answer: str) -> None:
        self.received.append(
            Received(
                id=delivery.id,
                attempt=delivery.attempt,
                body=body,
                headers=delivery.headers,
                values=delivery.values,
                maybe_sent=delivery.maybe_sent,
                answer=answer,
            )
        )


def failure_of(answer: str) -> DeliveryError | None:
    """A scripted answer as the error it stands for; None when it takes the delivery."""
    word, _, rest = answer.partition(" ")
    if word == "timeout":
        return MaybeSent("no answer in time")
    if word in ("ok", "") or (word.isdigit() and 200 <= int(word) < 300):
        return None
    if word == "down":
        return Unavailable("connection refused")
    status = int(word)
    after = next((float(item.split("=")[1]) for item in rest.split() if item.lower().startswith("retry-after=")), None)
    if status in (429, 503):
        return Throttled(f"status {status}", after=after)
    if status == 401:
        return Unauthorized("status 401")
    return Rejected(f"status {status}") if status < 500 else Unavailable(f"status {status}")


class Harness:
    """A running bus whose targets are doubles. `targets` by name, `send` into a route, `advance` the clock."""

    def __init__(self, bus: Bus, clock: VirtualClock, doubles: Mapping[str, Double]) -> None:
        self.bus = bus
        self.clock = clock
        self.targets = doubles

    async def send(
        self, route: str, body: bytes | str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Accepted:
        """Hands a message to the route as its source would; raises what `accept` raises."""
        data = body.encode() if isinstance(body, str) else body
        return await self.bus.inject(route, Incoming(body=data, headers=headers or {}, **more))

    async def settled(self) -> None:
        """Returns when nothing is under way: what is left waits for a time or for a person."""
        quiet = 0
        for _ in range(PATIENCE):
            await asyncio.sleep(0.001)
            quiet = quiet + 1 if self._quiet() else 0
            if quiet > 5:
                return
        raise TimeoutError("the bus does not come to rest")

    def _quiet(self) -> bool:
        lanes = self.bus.lanes.values()
        return all(lane.quiet and (lane.gate.pause is not None or not lane.window.in_hand) for lane in lanes)

    async def advance(self, seconds: float) -> None:
        """Moves the clock in the steps that sleepers ask for, and lets the bus work at each."""
        until = self.clock.now() + seconds
        await self.settled()
        while (due := self.clock.next_due()) is not None and due <= until:
            self.clock.advance(max(due - self.clock.now(), 0))
            await self.settled()
        self.clock.advance(until - self.clock.now())
        await self.settled()


def with_doubles(table: Table, doubles: Mapping[str, Double]) -> Table:
    """The same table, with every target's adapter replaced by its double; its options stay, so templates are filled."""
    targets = {
        name: replace(spec, component=_component(doubles[name], spec.component)) for name, spec in table.targets.items()
    }
    return replace(table, targets=targets)


def _component(double: Double, real: Component[Any]) -> Component[Any]:
    def open_double(options: Any, context: Context) -> AbstractAsyncContextManager[Target]:
        return nullcontext(double)

    return replace(real, open=open_double, probe=None)


def without_sources(table: Table) -> Table:
    """The same table with its sources closed, so that no port is opened: messages come by `send` alone."""
    return replace(table, routes={name: _without_source(route) for name, route in table.routes.items()})


def _without_source(route: RouteSpec) -> RouteSpec:
    silent = [replace(source, component=replace(source.component, closed=None)) for source in route.sources]
    return replace(route, paused="in a test", sources=tuple(silent))


@asynccontextmanager
async def running(
    text: str | Path,
    *,
    files: Mapping[str, str | bytes] | None = None,
    plugins: Iterable[object] = (),
    folder: Path | None = None,
    clock: VirtualClock | None = None,
    real: Sequence[str] = (),
    sources: bool = False,
) -> AsyncIterator[Harness]:
    """A bus from a table's text (with the files it names) or from its file, with doubles for all targets but `real`;
    `sources` run too where that is asked for."""
    with tempfile.TemporaryDirectory() as made:
        place = folder or Path(made)
        file = write_table(place, text, files or {})
        registry = load_plugins(extra=plugins)
        table = load(file, registry)
        async with running_table(table, registry, Path(made), clock=clock, real=real, sources=sources) as harness:
            yield harness


def write_table(place: Path, text: str | Path, files: Mapping[str, str | bytes]) -> Path:
    """Writes a table and its files into a folder; a Path is taken as it is."""
    if isinstance(text, Path):
        return text
    for name, content in {"routes.toml": text, **files}.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return place / "routes.toml"


@asynccontextmanager
async def running_table(
    table: Table,
    registry: Registry,
    data: Path,
    *,
    clock: VirtualClock | None = None,
    real: Sequence[str] = (),
    sources: bool = False,
) -> AsyncIterator[Harness]:
    """A bus from a loaded table, its store in `data`."""
    clock = clock or VirtualClock()
    doubles = {name: Double(name) for name in table.targets}
    doubled = with_doubles(table, doubles)
    targets = {name: table.targets[name] if name in real else spec for name, spec in doubled.targets.items()}
    placed = replace(doubled, targets=targets)
    quiet = placed if sources else without_sources(placed)
    placed = replace(quiet, bus=replace(quiet.bus, data=str((data / "var").resolve())))
    async with open_bus(placed, registry, clock=clock, durable=False) as bus:
        yield Harness(bus, clock, doubles)
