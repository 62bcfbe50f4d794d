"""The one door to HTTP calls: a pool of kept-alive connections, TLS that is always verified, and errors that tell
"nothing was sent" (Unavailable) from "sent, no answer" (MaybeSent). Redirects are never followed."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from esb_plugins.http.address import Origin, dial, origin, split_url
from esb_plugins.http.connection import Answer, Connection
from esb_plugins.http.tunnel import open_tunnel
from msgspec import Struct

from esb import Rejected, Unavailable

IDLE: Final = 4.0
"""Seconds a connection may lie idle before it is not trusted any more, when the server does not say: many close theirs
after five, and a request into a closing connection has an unknown outcome."""

_ALWAYS: Final = "User-Agent: esb\r\nAccept-Encoding: identity"
_NOT_HEADER: Final = re.compile(r"[\r\n\0]")
_KEEP_ALIVE: Final = re.compile(r"timeout=(\d+)")


class Settings(Struct, frozen=True):
    """How a client connects. `ca` replaces the system's authorities; `cert` and `key` log us in by certificate;
    `proxy` is `http://host:port`, `proxy_login` reads its `user:password` at use. Nothing switches verification off."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    proxy: str | None = None
    proxy_login: Callable[[], str] | None = None
    connect: float = 10.0


class Client:
    """A pool of connections with one way of connecting. Opened with `async with`; closing it closes them all."""

    def __init__(self, settings: Settings = Settings()) -> None:
        self._settings = settings
        self._idle: dict[Origin, deque[Connection]] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()
        await asyncio.sleep(0)

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] = b"",
        *,
        size: int | None = None,
        seconds: float = 30.0,
        limit: int = 1_000_000,
    ) -> Answer:
        """One request. `size` is the length of a streamed body; `seconds` is for all of it, connecting included.
        Raises Rejected when the request cannot be written, Unavailable when it was not sent, MaybeSent otherwise."""
        try:
            where, path = split_url(url)
        except ValueError as error:
            raise Rejected(f"the URL cannot be called: {error}", code="D442") from error
        length = len(body) if isinstance(body, bytes) else size
        head = self._head(method, where, path, headers, length)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        connection = self._take(where, loop.time()) or await self._connect(where, seconds)
        answer = await connection.exchange(
            head, body, seconds=deadline - loop.time(), limit=limit, headless=method == "HEAD"
        )
        self._keep(where, connection, answer)
        return answer

    async def reach(self, root: str, seconds: float) -> None:
        """Connects to `scheme://host:port`, TLS and proxy included, and sends nothing. Raises Unavailable."""
        connection = await self._connect(origin(root), seconds)
        connection.close()

    def _head(self, method: str, where: Origin, path: str, headers: Mapping[str, str], length: int | None) -> bytes:
        if self._settings.proxy is not None and where.scheme == "http":
            path = f"http://{where.authority}{path}"
            headers = {**headers, **self._proxy_login()}
        lines = [f"{method} {path} HTTP/1.1", f"Host: {where.authority}", _ALWAYS]
        for name, value in headers.items():
            if _NOT_HEADER.search(value) or _NOT_HEADER.search(name):
                raise Rejected(f'the header "{name}" holds a line break or NUL', code="D442")
            lines.append(f"{name}: {value}")
        if length is not None and (length or method not in ("GET", "DELETE", "HEAD")):
            lines.append(f"Content-Length: {length}")
        head = "\r\n".join(lines).encode("utf-8", "replace") + b"\r\n\r\n"
        if len(head) > 65_536:
            raise Rejected("the headers are over 64 kB", code="D442")
        return head

    # --- the pool -----------------------------------------------------------------------------------------------

    def _take(self, where: Origin, now: float) -> Connection | None:
        """The connection used last, if it may still be trusted."""
        idle = self._idle.get(where)
        while idle:
            connection = idle.pop()
            if connection.usable and now - connection.idle_since < connection.keep:
                return connection
            connection.close()
        return None

    def _keep(self, where: Origin, connection: Connection, answer: Answer) -> None:
        if not connection.usable:
            return
        loop = asyncio.get_running_loop()
        said = _KEEP_ALIVE.search(answer.headers.get("keep-alive", ""))
        connection.keep = min(int(said[1]) - 1.0, 60.0) if said else IDLE
        connection.idle_since = loop.time()
        self._idle.setdefault(where, deque()).append(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(IDLE, self._sweep)

    def _sweep(self) -> None:
        """Closes what lay idle too long, so that an idle target holds no connections."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for where, connections in list(self._idle.items()):
            kept = deque(c for c in connections if c.usable and now - c.idle_since < c.keep)
            for connection in connections:
                if connection not in kept:
                    connection.close()
            if kept:
                self._idle[where] = kept
            else:
                del self._idle[where]
        self._sweeper = loop.call_later(IDLE, self._sweep) if self._idle else None

    # --- connecting ---------------------------------------------------------------------------------------------

    async def _connect(self, where: Origin, seconds: float) -> Connection:
        """A new connection, TLS and proxy included; whatever fails here has sent nothing of the request."""
        seconds = min(seconds, self._settings.connect)
        try:
            async with asyncio.timeout(seconds):
                if self._settings.proxy is not None:
                    return await self._through_proxy(where, self._settings.proxy)
                return await self._direct(where)
        except ssl.SSLCertVerificationError as error:
            said = f"the certificate of {where.authority} is not trusted: {error.verify_message}"
            raise Unavailable(said, code="D413") from error
        except ssl.SSLError as error:
            raise Unavailable(f"no TLS with {where.authority}: {error.reason or error}", code="D413") from error
        except socket.gaierror as error:
            raise Unavailable(f'the name "{where.host}" is not found: {error.strerror}', code="D412") from error
        except TimeoutError as error:
            raise Unavailable(f"{where.authority} did not take a connection in {seconds:g}s", code="D414") from error
        except OSError as error:
            raise Unavailable(f"{where.authority} cannot be reached: {error.strerror or error}", code="D411") from error

    async def _direct(self, where: Origin) -> Connection:
        loop = asyncio.get_running_loop()
        context = self._context() if where.scheme == "https" else None
        _, connection = await loop.create_connection(
            lambda: Connection(where.authority),
            sock=await dial(where.host, where.port),
            ssl=context,
            server_hostname=None if context is None else where.host,
        )
        return connection

    async def _through_proxy(self, where: Origin, proxy: str) -> Connection:
        by = origin(proxy)
        connection = Connection(where.authority)
        if where.scheme == "http":
            sock = await dial(by.host, by.port)
            await asyncio.get_running_loop().create_connection(lambda: connection, sock=sock)
        else:
            login = "".join(f"{name}: {value}\r\n" for name, value in self._proxy_login().items())
            await open_tunnel((by.host, by.port), where.host, where.port, login, connection, self._context())
        return connection

    def _proxy_login(self) -> dict[str, str]:
        if self._settings.proxy_login is None:
            return {}
        return {"Proxy-Authorization": f"Basic {b64encode(self._settings.proxy_login().encode()).decode()}"}

    def _context(self) -> ssl.SSLContext:
        given = (self._settings.ca, self._settings.cert, self._settings.key)
        try:
            return tls_context(*given, *(None if path is None else Path(path).stat().st_mtime_ns for path in given))
        except OSError as error:
            raise Unavailable(f"the files of ca, cert and key cannot be used: {error}", code="D413") from error


@lru_cache(64)
def tls_context(ca: str | None, cert: str | None, key: str | None, *changed: int | None) -> ssl.SSLContext:
    """Verifies always, TLS 1.2 at least. `changed` are the files' times, so that rotated ones are read again."""
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        context.load_cert_chain(cert, key)
    return context


async def post_form(
    url: str, form: Mapping[str, str], headers: Mapping[str, str], *, seconds: float = 30.0
) -> tuple[int, bytes]:
    """One POST of a form on a connection of its own: for token endpoints. Status and body; raises DeliveryError."""
    async with Client() as client:
        sent = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json", **headers}
        answer = await client.send("POST", url, sent, urlencode(form).encode(), seconds=seconds)
        return answer.status, answer.body
