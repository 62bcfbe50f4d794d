"""The real `esb run` as a process, and two targets that misbehave: what acceptance tests are made of."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

ESB = [str(Path(sys.executable).parent / "esb")]
READY = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Peer:
    """A target over HTTP that remembers what it took, by delivery id, and fails a share of the time."""

    def __init__(self, failing: float = 0.0, seed: int = 1) -> None:
        self.failing = failing
        self.bodies: dict[str, list[bytes]] = {}
        self.taken: Counter[str] = Counter()
        self.port = free_port()
        self._random = random.Random(seed)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        if self._random.random() < self.failing:
            if self._random.random() < 0.3 and request.transport is not None:
                self._note(request, body)
                request.transport.close()
            return web.Response(status=self._random.choice([500, 502, 503]))
        self._note(request, body)
        return web.Response(status=200, text="taken")

    def _note(self, request: web.BaseRequest, body: bytes) -> None:
        name = request.headers.get("Idempotency-Key", "none")
        self.taken[name] += 1
        self.bodies.setdefault(name, []).append(body)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Peer]:
        server = web.Server(self._handle)
        runner = web.ServerRunner(server, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        try:
            yield self
        finally:
            await runner.cleanup()


class House:
    """One bus in a folder: started, killed and started again."""

    def __init__(self, folder: Path, command: list[str] | None = None, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.table = folder / "routes.toml"
        self.log = folder / "run.log"
        self._command = command or [*ESB, "run", "-f", str(self.table)]
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, cwd=self.folder, env=self._env, stdout=log, stderr=log, start_new_session=True
            )

    async def ready(self, port: int | None = None) -> None:
        """Returns when the bus answers on its admin socket and listens at its port, where one is given; fails with its
        log."""
        deadline = time.monotonic() + READY
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"the bus ended with {self.process.returncode}:\n{self.tail()}")
            with contextlib.suppress(OSError, aiohttp.ClientError, asyncio.TimeoutError):
                status, _ = await self.ask("/health")
                if status == 200 and (port is None or is_open(port)):
                    return
            await asyncio.sleep(0.02)
        raise AssertionError(f"the bus is not ready after {READY} s:\n{self.tail()}")

    async def ask(self, path: str) -> tuple[int, Any]:
        """A question to the admin API over its socket."""
        connector = aiohttp.UnixConnector(path=str(self.folder / "var" / "admin.sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"http://esb{path}", timeout=aiohttp.ClientTimeout(total=10)) as answer,
        ):
            text = await answer.text()
            return answer.status, json.loads(text) if text.startswith(("{", "[")) else text

    async def balanced(self) -> bool:
        """What `esb account` says."""
        status, account = await self.ask("/account")
        assert status == 200, account
        return bool(account["balanced"])

    def kill(self) -> None:
        """SIGKILL, no warning."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, seconds: float = 40) -> int:
        """SIGTERM; gives the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(seconds)
        return int(self.process.returncode)

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    @asynccontextmanager
    async def running(self, port: int | None = None) -> AsyncIterator[House]:
        self.start()
        try:
            await self.ready(port)
            yield self
        finally:
            if self.process is not None and self.process.poll() is None:
                self.process.kill()
                self.process.wait()
