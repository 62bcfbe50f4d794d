"""A listener: one port that several http sources share, its TLS, and the way from a request to its route."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from aiohttp import HttpVersion10, HttpVersion11, web
from esb_plugins.http.problems import Refused, refuse
from esb_plugins.http.router import Pattern, Router
from esb_plugins.http.server import Limits, Server
from esb_plugins.http.tls import ServerTls

from esb import Clock, Closing, Size

log = logging.getLogger(__name__)

FINISH: Final = 10.0
"""Seconds that requests under way have to be answered once the listener closes."""

Handler = Callable[[web.BaseRequest, dict[str, str]], Awaitable[web.Response]]
Teller = Callable[[web.BaseRequest, str], Awaitable[web.Response | None]]
"""Says how a message of its route stands, to the sender that it came from; None to anyone else."""

_MESSAGE: Final = "/messages/"
"""Where a sender that was answered 202 asks for its message (R6), where no route has that path."""


class TlsFiles(Protocol):
    """`tls` of `[listener.NAME]`."""

    @property
    def cert(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def client_ca(self) -> str | None: ...


class Settings(Protocol):
    """`[listener.NAME]` as the table gives it."""

    @property
    def bind(self) -> str: ...
    @property
    def shared(self) -> bool: ...
    @property
    def tls(self) -> TlsFiles | None: ...
    @property
    def max_body(self) -> Size: ...
    @property
    def max_header(self) -> Size: ...
    @property
    def max_connections(self) -> int: ...
    @property
    def header_timeout(self) -> float: ...
    @property
    def body_timeout(self) -> float: ...
    @property
    def idle_timeout(self) -> float: ...


class Listener:
    """Listens from the first `start` until it is closed; a route that does not run meanwhile answers 503. `port` is the
    real one while it listens."""

    def __init__(self, settings: Settings, folder: Path, clock: Clock) -> None:
        self.settings = settings
        self.port: int | None = None
        self.tls: ServerTls | None = None
        self._folder = folder
        self._clock = clock
        self._router: Router[Handler] = Router()
        self.tellers: dict[str, Teller] = {}
        self._lock = asyncio.Lock()
        self._bound: asyncio.Server | None = None
        limits = Limits(
            max_header=int(settings.max_header),
            max_connections=settings.max_connections,
            header_timeout=float(settings.header_timeout),
            idle_timeout=float(settings.idle_timeout),
        )
        self._server = Server(self._handle, limits)

    def add(self, pattern: Pattern, handler: Handler) -> None:
        """Raises OptionError when another route has this method and path already."""
        self._router.remove(_stopped, pattern)
        self._router.add(pattern, handler)

    def retire(self, pattern: Pattern, handler: Handler) -> None:
        """The path stays known: while its route is stopped, senders hear that they should come again."""
        self._router.remove(handler)
        self._router.add(pattern, _stopped)

    def close_path(self, pattern: Pattern) -> None:
        """The same for a route that never ran."""
        self._router.remove(_stopped, pattern)
        self._router.add(pattern, _stopped)

    async def start(self) -> None:
        """Listens when it returns; raises OSError (port in use, no certificate) when it cannot."""
        async with self._lock:
            if self._bound is None:
                self._bound = await self._bind()

    async def close(self) -> None:
        """Returns when every connection is closed; requests under way are answered first."""
        if self._bound is not None:
            self._bound.close()
            self._bound, self.port = None, None
        self._server.closing = True
        # What was just connected gets to where it waits for its request: only from there it is closed at once.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self._server.pre_shutdown()
        await self._server.shutdown(FINISH)

    async def _bind(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {"backlog": 512}
        if self.settings.tls is not None:
            tls = self.settings.tls
            client_ca = None if tls.client_ca is None else self._folder / tls.client_ca
            self.tls = ServerTls(self._folder / tls.cert, self._folder / tls.key, client_ca, self._clock)
            options["ssl"] = self.tls.context()
            options["ssl_handshake_timeout"] = float(self.settings.header_timeout)
        if self.settings.bind.startswith("unix:"):
            path = str(self._folder / self.settings.bind.removeprefix("unix:"))
            return await loop.create_unix_server(self._server, path, **options)
        host, port = split_bind(self.settings.bind)
        if self.settings.shared:
            options["reuse_port"] = True
        bound = await loop.create_server(self._server, host, port, **options)
        self.port = bound.sockets[0].getsockname()[1]
        return bound

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        if request.version not in (HttpVersion10, HttpVersion11):
            response = Refused("A316", "only HTTP/1.0 and 1.1 are spoken here").response()
            response.force_close()
            return response
        try:
            path = request.rel_url.raw_path
            found = self._router.find(request.method, path)
        except UnicodeDecodeError:
            return Refused("A316", "the path is not UTF-8").response()
        if isinstance(found, tuple):
            handler, parameters = found
            return await handler(request, parameters)
        if found:
            return Refused("A311", headers={"Allow": ", ".join(sorted(found))}).response()
        if request.method == "GET" and path.startswith(_MESSAGE):
            return await self._told(request, path.removeprefix(_MESSAGE))
        return Refused("A310").response()

    async def _told(self, request: web.BaseRequest, uid: str) -> web.Response:
        for teller in self.tellers.values():
            told = await teller(request, uid)
            if told is not None:
                return told
        return Refused("A310").response()


async def _stopped(request: web.BaseRequest, parameters: dict[str, str]) -> web.Response:
    response = refuse(Closing("the route is stopped"))
    response.force_close()
    return response


def split_bind(bind: str) -> tuple[str | None, int]:
    """`127.0.0.1:8080`, `[::1]:8080`, `:8080` (all addresses). Raises OSError: it takes the route down."""
    host, colon, port = bind.rpartition(":")
    if not colon or not port.isdigit():
        raise OSError(f'"{bind}" is no address to listen on; write "127.0.0.1:8080"')
    return host.strip("[]") or None, int(port)


@asynccontextmanager
async def open_listener(settings: Settings, folder: Path, clock: Clock) -> AsyncIterator[Listener]:
    listener = Listener(settings, folder, clock)
    try:
        yield listener
    finally:
        await listener.close()
