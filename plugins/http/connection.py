"""One kept-alive HTTP/1.1 connection of the client: a request out, its answer in, and what is known when it breaks."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Final, cast

import httptools
from msgspec import Struct

from esb import DeliveryError, MaybeSent, Unavailable

HEAD_LIMIT: Final = 65_536
"""An answer whose status line and headers are longer than this is no answer."""


class Answer(Struct, frozen=True):
    """What a server said. Header names are lower-cased; `whole` is false when the body was cut off or broke off."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool = True


class Connection(asyncio.Protocol):
    """Carries one request at a time. What fails before the last byte of a request was written is `Unavailable`: no
    server can have taken it. What fails after that and before a status is `MaybeSent`. After a status it is an answer.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.transport: asyncio.Transport | None = None
        self.idle_since = 0.0
        self.keep = 0.0
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._future: asyncio.Future[Answer] | None = None
        self._written = False
        self._room: asyncio.Future[None] | None = None
        self._full = False
        self._clear(0, False)

    def _clear(self, limit: int, headless: bool) -> None:
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._head_size = 0
        self._before_status = 0
        self._limit = limit
        self._headless = headless

    @property
    def usable(self) -> bool:
        """Open, and nothing on its way: the next request may use it."""
        return self.transport is not None and self._future is None and not self.transport.is_closing()

    # --- one exchange -------------------------------------------------------------------------------------------

    async def exchange(
        self, head: bytes, body: bytes | AsyncIterator[bytes], *, seconds: float, limit: int, headless: bool = False
    ) -> Answer:
        """Sends a request (a small one in one write) and waits for its answer; at most `limit` bytes of its body are
        kept. `headless` is for HEAD, whose answer has no body whatever its headers say."""
        future: asyncio.Future[Answer] = self._loop.create_future()
        if self.transport is None or self.transport.is_closing():
            raise Unavailable(f"{self.name} closed the connection before anything was sent", code="D411")
        self._future, self._written = future, False
        self._clear(limit, headless)
        timer = self._loop.call_later(seconds, self._expire, seconds)
        try:
            if isinstance(body, bytes):
                self._written = True
                self.transport.write(head + body)
            else:
                await self._stream(head, body, future)
            return await future
        finally:
            timer.cancel()
            self._future = None
            if not future.done() or future.cancelled():
                self.abort()
                future.cancel()
            elif future.exception() is not None:
                self.abort()

    async def _stream(self, head: bytes, body: AsyncIterator[bytes], future: asyncio.Future[Answer]) -> None:
        """Writes the body piece by piece, no faster than it is taken; an answer that comes early ends it."""
        assert self.transport is not None
        self.transport.write(head)
        async for chunk in body:
            if future.done():
                self.close()
                return
            self.transport.write(chunk)
            if self._full:
                self._room = self._loop.create_future()
                future.add_done_callback(self._wake)
                await self._room
        self._written = True

    def _expire(self, seconds: float) -> None:
        self._end(f"{self.name} gave no answer within {seconds:g}s", "D451")
        self.abort()

    def _end(self, reason: str, code: str) -> None:
        """The connection can bring nothing more: what is known now is the outcome."""
        future = self._future
        if future is None or future.done():
            return
        if self._status >= 200:
            future.set_result(Answer(self._status, self._headers, b"".join(self._body), whole=False))
            return
        error: DeliveryError
        if self._unsent():
            error = Unavailable(f"{reason}; the request was not sent wholly", code="D411")
        else:
            error = MaybeSent(reason, code=code)
        future.set_exception(error)

    def _unsent(self) -> bool:
        return not self._written or (self.transport is not None and self.transport.get_write_buffer_size() > 0)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    # --- what the transport calls -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's transports are no subclasses of it

    def data_received(self, data: bytes) -> None:
        future = self._future
        if future is None or future.done():
            self.abort()  # nobody asked: an answer to nothing must not be taken for the next one
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._end(f"{self.name} answered something that is not HTTP/1.1, or headers over 64 kB", "D452")
            self.abort()
            return
        if not self._status:
            self._before_status += len(data)
            if self._before_status > HEAD_LIMIT:
                self._end(f"{self.name} answered with headers over 64 kB", "D452")
                self.abort()

    def eof_received(self) -> None:
        self._closed_by_peer()

    def connection_lost(self, error: Exception | None) -> None:
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            self._turned_away(error)
        self._closed_by_peer()
        self.transport = None
        self.resume_writing()

    def _closed_by_peer(self) -> None:
        future = self._future
        if future is None or future.done():
            return
        if self._status >= 200 and self._until_close():
            future.set_result(Answer(self._status, self._headers, b"".join(self._body)))
        else:
            self._end(f"{self.name} closed the connection without an answer", "D453")

    def _turned_away(self, error: ssl.SSLError) -> None:
        """The peer ends TLS itself, as it does (in TLS 1.3 only now) with a certificate of ours that it will not have:
        it has read nothing of the request."""
        future = self._future
        if future is not None and not future.done() and not self._status:
            said = f"{self.name} ended TLS: {str(error.reason).lower().replace('_', ' ')}"
            future.set_exception(Unavailable(said, code="D413"))

    def _until_close(self) -> bool:
        return "content-length" not in self._headers and "transfer-encoding" not in self._headers

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._wake()

    def _wake(self, _: object = None) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    # --- what the parser calls ----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._future is None or self._future.done():
            raise ValueError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value)
        if self._head_size > HEAD_LIMIT:
            raise ValueError("the headers are too long")
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status == 101:
            raise ValueError("another protocol")
        if status < 200:
            self._headers, self._head_size = {}, 0
            return
        self._status = status
        if self._headless:
            self._finish(reusable=False)

    def on_body(self, body: bytes) -> None:
        if self._size + len(body) > self._limit:
            self._body.append(body[: self._limit - self._size])
            self._size = self._limit
            self._end("", "")
            self.abort()
            return
        self._size += len(body)
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._status:
            self._finish(reusable=self._parser.should_keep_alive() and self._written)

    def _finish(self, *, reusable: bool) -> None:
        future = self._future
        if future is None or future.done():
            return
        future.set_result(Answer(self._status, self._headers, b"".join(self._body)))
        if not reusable:
            self.close()
