"""Reading a request's body: no more than the limit, no slower than patience, unpacked within the same limit."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from aiohttp import web
from esb_plugins.http.problems import Broken, Refused
from msgspec import Struct

INLINE: Final = 65_536
"""Bodies up to this many bytes are handed on as bytes, larger ones as they come."""

SLOWEST: Final = 10_000
"""Bytes a second that keep a slow sender's connection alive after the body's timeout."""

_WINDOW: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_STEP: Final = 262_144


class BodyLimits(Struct, frozen=True):
    """`size` in bytes, unpacked; `seconds` until a body must have come, plus what its size earns it."""

    size: int
    seconds: float


class Unpacker:
    """Unpacks gzip and zlib piece by piece; raises Refused when it is damaged."""

    def __init__(self, encoding: str) -> None:
        self._window = _WINDOW[encoding]
        self._stream = zlib.decompressobj(self._window)
        self._begun = False

    def feed(self, data: bytes, room: int) -> list[bytes]:
        """What `data` unpacks to; stops soon after `room` bytes, so that no bomb goes off."""
        out: list[bytes] = []
        while data and room >= 0:
            if self._stream.eof:
                self._stream = zlib.decompressobj(self._window)
            self._begun = True
            try:
                piece = self._stream.decompress(data, min(_STEP, room + 1))
            except zlib.error as error:
                raise Refused("A316", "the body is not the gzip or deflate that its header promises") from error
            data = self._stream.unconsumed_tail or self._stream.unused_data
            room -= len(piece)
            out.append(piece)
        return out

    def end(self) -> None:
        """Raises Refused when the packed data stops in the middle."""
        if self._begun and not self._stream.eof:
            raise Refused("A316", "the packed body ends too early")


def unpacker(request: web.BaseRequest) -> Unpacker | None:
    """What undoes the body's Content-Encoding; raises Refused for one that we do not know."""
    encoding = request.headers.get("Content-Encoding")
    if encoding is None or encoding.strip().lower() in ("", "identity"):
        return None
    if encoding.strip().lower() not in _WINDOW:
        raise Refused("A315", "the body's Content-Encoding is unknown", headers={"Accept-Encoding": "gzip, deflate"})
    return Unpacker(encoding.strip().lower())


async def read(request: web.BaseRequest, limits: BodyLimits) -> bytes | AsyncGenerator[bytes, None]:
    """The whole body, or, when it is over 64 kB, its pieces as they come: they raise Broken where it goes wrong.
    Raises Refused."""
    length = request.content_length
    unpack = unpacker(request)
    if length is not None and length > limits.size:
        raise Refused("A313", f"at most {limits.size} bytes are taken")
    if unpack is None and request.content.is_eof():
        whole = request.content.read_nowait()
        if len(whole) > limits.size:
            raise Refused("A313", f"at most {limits.size} bytes are taken")
        return whole
    pieces = _pieces(request, limits, unpack)
    begun: list[bytes] = []
    size = 0
    async for piece in pieces:
        begun.append(piece)
        size += len(piece)
        if size > INLINE:
            return _rest(begun, pieces)
    return b"".join(begun)


async def read_all(request: web.BaseRequest, limits: BodyLimits) -> bytes:
    """The whole body in memory, for what needs all of it first (a signature). Raises Refused."""
    body = await read(request, limits)
    if isinstance(body, bytes):
        return body
    try:
        return b"".join([piece async for piece in body])
    except Broken as broken:
        raise broken.refused from broken


async def _rest(begun: list[bytes], pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(pieces):
            while begun:
                yield begun.pop(0)
            async for piece in pieces:
                yield piece
    except Refused as refused:
        raise Broken(refused) from refused


async def _pieces(request: web.BaseRequest, limits: BodyLimits, unpack: Unpacker | None) -> AsyncGenerator[bytes, None]:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    packed = size = 0
    while True:
        patience = begun + limits.seconds + packed / SLOWEST - loop.time()
        data = await _next(request, patience)
        if not data:
            break
        packed += len(data)
        for piece in [data] if unpack is None else unpack.feed(data, limits.size - size):
            size += len(piece)
            if size > limits.size:
                raise Refused("A313", f"at most {limits.size} bytes are taken")
            if piece:
                yield piece
    if unpack is not None:
        unpack.end()


async def _next(request: web.BaseRequest, patience: float) -> bytes:
    try:
        async with asyncio.timeout(patience):
            return await request.content.readany()
    except TimeoutError as error:
        raise Refused("A317", "the body did not come in time") from error
    except Refused:
        raise
    except Exception as error:  # what aiohttp makes of bad framing and of a peer that goes away
        raise Refused("A316", "the body is not framed as its headers say, or broke off") from error
