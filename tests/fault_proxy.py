"""A TCP proxy that misbehaves on demand: it delays, swallows, cuts; it never changes a byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

CHUNK = 65536


class Proxy:
    """Between clients and one server. `delay` in seconds for each piece; `black_hole` takes everything and passes
    nothing on; `deaf` swallows what the server says only; `cut_at` cuts all when that many AMQP frames were sent to the
    server since it was set."""

    def __init__(self, port: int) -> None:
        self.server = port
        self.port = 0
        self.delay = 0.0
        self.black_hole = False
        self.deaf = False
        self.frames = 0
        self.cut_at: int | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()
        self._open.set()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def cut(self) -> None:
        """Every connection, at once and without a word."""
        for writer in list(self._writers):
            writer.transport.abort()

    def refuse(self, refusing: bool) -> None:
        """Whether new connections are taken."""
        if refusing:
            self._open.clear()
        else:
            self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open.is_set():
            writer.transport.abort()
            return
        try:
            upstream, out = await asyncio.open_connection("127.0.0.1", self.server)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, out}
        try:
            await asyncio.gather(self._pipe(reader, out, to_server=True), self._pipe(upstream, writer, to_server=False))
        except OSError:
            pass
        finally:
            for item in (writer, out):
                self._writers.discard(item)
                item.transport.abort()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_server: bool) -> None:
        counter = Frames() if to_server else None
        while data := await reader.read(CHUNK):
            if self.delay:
                await asyncio.sleep(self.delay)
            if self.black_hole or (self.deaf and not to_server):
                continue
            if counter is not None and self.cut_at is not None:
                for piece in counter.split(data):
                    writer.write(piece)
                    self.frames += 1
                    if self.frames >= self.cut_at:
                        self.cut_at = None
                        with suppress(OSError):
                            await writer.drain()
                        self.cut()
                        return
            else:
                writer.write(data)
            await writer.drain()
        raise ConnectionResetError

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()


class Frames:
    """AMQP 0-9-1 frames in a stream: type, channel, size, payload, end (section 2.3.5). A piece ends with a frame."""

    def __init__(self) -> None:
        self._left = b""

    def split(self, data: bytes) -> list[bytes]:
        pieces: list[bytes] = []
        data = self._left + data
        while len(data) >= 8:
            size = int.from_bytes(data[3:7], "big") + 8
            if len(data) < size:
                break
            pieces.append(data[:size])
            data = data[size:]
        self._left = b""
        if data:
            pieces.append(data)  # the rest of a frame goes on at once; it is counted as one
        return pieces
