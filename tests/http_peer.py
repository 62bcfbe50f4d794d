"""A scripted HTTP peer on a raw socket: it reads requests as they are and answers with the bytes it was told."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct


class Seen(Struct, frozen=True):
    """One request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int
    names: list[str] = []


class Close:
    """Close the connection now: without a word, or with a reset."""

    def __init__(self, *, reset: bool = False) -> None:
        self.reset = reset


class Silence:
    """Answer nothing and keep the connection."""


def answer(status: int = 200, body: bytes | str = b"", **headers: str) -> bytes:
    """A well-formed answer; `retry_after="5"` becomes `Retry-After: 5`."""
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


class Peer:
    """What it saw, and what it will say: each item of `script` answers one request; after the last it says 200."""

    def __init__(self, script: Sequence[Any], *, early: bool) -> None:
        self.script = list(script)
        self.early = early
        self.seen: list[Seen] = []
        self.connections = 0
        self.port = 0
        self.gone = asyncio.Event()

    def url(self, path: str = "/orders", scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while await self._one(reader, writer, number):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.gone.set()
            writer.close()
            with contextlib.suppress(Exception):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head.removesuffix("\r\n\r\n").split("\r\n")
        headers = {name.lower(): value for name, _, value in (item.partition(": ") for item in rest)}
        names = [item.partition(":")[0].lower() for item in rest]
        size = 0 if self.early else int(headers.get("content-length", "0"))
        self.seen.append(Seen(line, headers, await reader.readexactly(size), number, names))
        said = self.script.pop(0) if self.script else answer()
        if callable(said):
            await said(reader, writer)
            return False
        if isinstance(said, Silence):
            await reader.read()
            return False
        if isinstance(said, Close):
            if said.reset:
                writer.transport.abort()
            return False
        writer.write(said)
        await writer.drain()
        return b"Connection: close" not in said


@asynccontextmanager
async def peer(*script: Any, tls: ssl.SSLContext | None = None, early: bool = False) -> AsyncIterator[Peer]:
    """Opens a peer on a free port. An item of `script` is bytes, `Close`, `Silence`, or an async function that gets
    reader and writer; `early` answers before the body was read."""
    made = Peer(script, early=early)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(made.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]
