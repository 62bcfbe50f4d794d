"""CONNECT through a proxy: the proxy sees host and port, never the request."""

from __future__ import annotations

import asyncio
import ssl

from esb_plugins.http.address import dial

from esb import Unavailable

_LIMIT = 16_384


class Knock(asyncio.Protocol):
    """Reads the proxy's answer to CONNECT, and nothing behind it."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._read = b""

    def data_received(self, data: bytes) -> None:
        self._read += data
        if not self.answer.done() and (b"\r\n\r\n" in self._read or len(self._read) > _LIMIT):
            self.answer.set_result(self._read)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_result(self._read)


async def open_tunnel(
    proxy: tuple[str, int], host: str, port: int, login: str, protocol: asyncio.Protocol, context: ssl.SSLContext
) -> None:
    """Connects `protocol` to host and port by TLS through the proxy. `login` is a header line or "".
    Raises Unavailable when the proxy refuses, OSError and SSLError as connecting does."""
    loop = asyncio.get_running_loop()
    transport, knock = await loop.create_connection(Knock, sock=await dial(*proxy))
    try:
        transport.write(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{login}\r\n".encode())
        said = await knock.answer
        status = said.split(b" ", 2)[1:2]
        if not said.startswith(b"HTTP/1.") or status != [b"200"]:
            word = status[0].decode("latin-1")[:20] if status else "nothing"
            raise Unavailable(f"the proxy {proxy[0]}:{proxy[1]} answered {word} to CONNECT", code="D415")
        secured = await loop.start_tls(transport, protocol, context, server_hostname=host)
        if secured is None:
            raise ConnectionResetError("the connection closed while TLS began")
        protocol.connection_made(secured)
    except BaseException:
        transport.abort()
        raise
