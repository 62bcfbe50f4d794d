"""aiohttp's server with our limits: headers in time and size, connections counted, errors in our words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.http import RawRequestMessage
from esb_plugins.http.problems import Refused, raw
from msgspec import Struct

log = logging.getLogger(__name__)

MAX_HEADERS: Final = 200
LINGER: Final = 1.0
"""Seconds that a refused sender has to take its answer before the connection is closed under it."""

_BIG_ANSWER: Final = 65_536


class Limits(Struct, frozen=True):
    """What one listener puts up with; times in seconds, sizes in bytes."""

    max_header: int = 16_384
    max_connections: int = 1000
    header_timeout: float = 10.0
    idle_timeout: float = 75.0


class Connection(web.RequestHandler):
    """One connection. Beside what aiohttp does: the whole of a request's head is bounded in bytes and in time, a body
    that goes wrong fails at once, and whatever cannot be read is answered with problem+json."""

    def __init__(self, server: Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._limits = server.limits
        self._tail = b""
        self._head = 0
        self._in_head = True
        self._refused = False
        self._timer: asyncio.TimerHandle | None = None
        self.reading: web.BaseRequest | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._timer = self._loop.call_later(self._limits.header_timeout, self._too_slow)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._in_head and data and not self._head_fits(data):
            self._refuse("A314")
            return
        super().data_received(data)
        if self.reading is not None and self._messages and not _is_request(self._messages[-1][0]):
            self.reading.content.set_exception(Refused("A316", "the body is not framed as its headers say"))

    def _head_fits(self, data: bytes) -> bool:
        """Counts a head until its blank line; false when it is over the limit."""
        end = (self._tail + data).find(b"\r\n\r\n")
        if end < 0:
            self._head += len(data)
            self._tail = data[-3:] if len(data) >= 3 else (self._tail + data)[-3:]
            if self._timer is None:
                self._timer = self._loop.call_later(self._limits.header_timeout, self._too_slow)
            return self._head <= self._limits.max_header
        size = self._head + end - len(self._tail) + 4
        self._head_done()
        return size <= self._limits.max_header

    def _head_done(self) -> None:
        self._stop_timer()
        self._in_head, self._head, self._tail = False, 0, b""

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self._head:
            self._refuse("A317")
        else:
            self.force_close()

    def _refuse(self, code: str) -> None:
        """Answers, and reads nothing more; the close comes a little later, since a close with unread bytes is a reset
        that can overtake the answer."""
        self._refused = True
        self._stop_timer()
        if self.transport is not None:
            self.transport.write(raw(code))
            if self.transport.can_write_eof():
                self.transport.write_eof()
        self._timer = self._loop.call_later(LINGER, self.force_close)

    def hurry(self) -> None:
        """Does not wait for a body that was never asked for."""
        self._lingering_time = 0.0

    async def finish_response(self, request: Any, resp: Any, start_time: float | None) -> tuple[Any, bool]:
        """A reader of a big answer that stops reading is cut off."""
        if self.reading is None and "Expect" in request.headers:
            self.hurry()
        self.reading = None
        body = getattr(resp, "body", None)
        if isinstance(body, bytes) and len(body) > _BIG_ANSWER:
            try:
                async with asyncio.timeout(self._limits.idle_timeout):
                    done = await super().finish_response(request, resp, start_time)
            except TimeoutError:
                if self.transport is not None:
                    self.transport.abort()
                return resp, True
        else:
            done = await super().finish_response(request, resp, start_time)
        self._in_head = not self._messages
        return cast("tuple[Any, bool]", done)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What aiohttp could not read, or what went wrong in it: our words, never its own or the request's."""
        log.info("a request from %s was not readable: %s", request.remote, type(exc).__name__)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is on its way already")
        too_long = type(exc).__name__ == "LineTooLong" or "Too many headers" in str(exc)
        code = "A314" if too_long else "A319" if status >= 500 else "A316"
        response = Refused(code).response()
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """aiohttp reports peers that go away as exceptions; our own errors are logged where they are answered."""
        log.debug(*args, **kw)


def _is_request(message: object) -> bool:
    return isinstance(message, RawRequestMessage)


class Full(asyncio.Protocol):
    """Tells one connection too many so, and closes it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writing = cast("asyncio.Transport", transport)
        writing.write(raw("A320"))
        writing.close()


class Gone(asyncio.Protocol):
    """Closes a connection that was made while the port closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class Server(web.Server):
    """Makes connections, up to the limit; none once it is `closing`."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], limits: Limits) -> None:
        super().__init__(handler)
        self.limits = limits
        self.closing = False

    def __call__(self) -> Any:
        if self.closing:
            return Gone()
        if len(self._connections) >= self.limits.max_connections:
            return Full()
        return Connection(
            self,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=self.limits.idle_timeout,
            access_log=None,
            lingering_time=LINGER,
            auto_decompress=False,
            max_line_size=self.limits.max_header,
            max_field_size=self.limits.max_header,
            max_headers=MAX_HEADERS,
        )
