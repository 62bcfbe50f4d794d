"""Fixtures for pytest, there as soon as esb is installed: a whole bus in memory, without a line of asyncio in a test.

    @pytest.mark.esb(TABLE, plugins=[fax], real=["office"])
    def test_a_letter_is_faxed(send, bus, targets): ...

`bus` runs the table (its text or its Path), `send` hands a message to a route, `targets` are the doubles by name,
`clock` is the time that `bus.advance(seconds)` moves, `peer` is an HTTP server that answers as it is told.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Struct

if TYPE_CHECKING:
    from esb.clock import VirtualClock
    from esb.ports import Accepted
    from esb.testing import Double, Harness


class TestBus:
    """A running bus that is told what to do from outside its loop."""

    __test__ = False

    def __init__(self, harness: Harness, runner: asyncio.Runner) -> None:
        self.harness = harness
        self._runner = runner

    def send(self, route: str, body: bytes | str, **more: Any) -> Accepted:
        """Hands a message to the route as its source would, and lets the bus come to rest; raises what `accept`
        raises."""
        accepted = self._runner.run(self.harness.send(route, body, **more))
        self.settled()
        return accepted

    def settled(self) -> None:
        """Returns when nothing is under way: what is left waits for a time or for a person."""
        self._runner.run(self.harness.settled())

    def advance(self, seconds: float) -> None:
        """Moves the clock; the bus works at each moment that something waits for."""
        self._runner.run(self.harness.advance(seconds))

    @property
    def balanced(self) -> bool:
        """Whether the books balance."""
        return self._runner.run(self.harness.bus.store.account()).balanced


@pytest.fixture
def bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestBus]:
    """The bus of `@pytest.mark.esb(TABLE, files=..., plugins=..., real=...)`, in the test's folder."""
    marker = request.node.get_closest_marker("esb")
    if marker is None:
        raise pytest.UsageError('name the table: @pytest.mark.esb(TABLE, plugins=[...], real=["..."])')
    given = {"folder": tmp_path, **marker.kwargs}
    # pytest loads this module for every test there is: the house is loaded for those that run it.
    running = import_module("esb.testing").running
    with asyncio.Runner() as runner:
        opened = running(*marker.args, **given)
        harness = runner.run(opened.__aenter__())
        try:
            yield TestBus(harness, runner)
        finally:
            runner.run(opened.__aexit__(None, None, None))


@pytest.fixture
def send(bus: TestBus) -> Callable[..., Accepted]:
    """`send(route, body, headers=...)`."""
    return bus.send


@pytest.fixture
def targets(bus: TestBus) -> Mapping[str, Double]:
    """The targets by name: what each `taken`, and `answer(...)` for what it says next."""
    return bus.harness.targets


@pytest.fixture
def clock(bus: TestBus) -> VirtualClock:
    """The time of the bus."""
    return bus.harness.clock


class Call(Struct, frozen=True):
    """One request that a peer was sent; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Peer:
    """An HTTP server on a loopback port: `calls` that came, `answer(503, 200)` for the next statuses (else 200)."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._script: list[int] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, *statuses: int) -> None:
        """The next answers, in order."""
        self._script.extend(statuses)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        peer = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                peer.calls.append(Call(self.command, self.path, headers, body))
                self.send_response(peer._script.pop(0) if peer._script else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                """Nothing on the terminal of a test."""

        return Handler

    def serve(self) -> None:
        """Until `close`."""
        self._server.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    """An HTTP server that answers as it is told."""
    made = Peer()
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.close()
        thread.join()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "esb(table, files, plugins, real): the table that `bus` runs, as esb.testing.running"
    )
