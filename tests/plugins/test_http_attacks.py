"""Senders that misbehave (FAULTS 64, 71): each gets a bounded 4xx or a closed connection, and others are served."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from esb_plugins.http.source import SOURCE
from plugin_context import (
    FakeAccept,
    FakeServices,
    eventually,
    make_context,
    make_listener,
    options_of,
    running,
)


class Door:
    """A listening route, and raw connections to it."""

    def __init__(self, port: int, accept: FakeAccept) -> None:
        self.port = port
        self.accept = accept

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def say(self, *pieces: bytes, pause: float = 0) -> bytes:
        """Everything that comes back until the connection is closed (or a second of silence)."""
        reader, writer = await self.open()
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
            return await asyncio.wait_for(_all(reader), 5)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def serves(self) -> bool:
        """Somebody well-behaved is answered."""
        said = await self.say(b"POST /orders HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        return said.startswith(b"HTTP/1.1 202")


def status(said: bytes) -> int:
    """The status of the first answer."""
    return int(said.split(b" ", 2)[1])


async def _all(reader: asyncio.StreamReader) -> bytes:
    found = b""
    while data := await reader.read(65_536):
        found += data
    return found


@asynccontextmanager
async def door(options: dict[str, Any] | None = None, **listener: Any) -> AsyncIterator[Door]:
    services = FakeServices(listeners={"default": make_listener(**listener)})
    accept = FakeAccept()
    made = options_of(SOURCE, http="POST /orders", **(options or {}))
    async with services, SOURCE.open(made, make_context(services)) as source, running(source, accept):
        shared = await services.shared(("http", "default"), lambda: None)
        await eventually(lambda: shared.port)
        yield Door(shared.port, accept)


HEAD = b"POST /orders HTTP/1.1\r\nHost: x\r\n"

MALFORMED = {
    "both lengths": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "te then cl": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "length is no number": HEAD + b"Content-Length: five\r\n\r\nhello",
    "negative length": HEAD + b"Content-Length: -5\r\n\r\nhello",
    "signed length": HEAD + b"Content-Length: +5\r\n\r\nhello",
    "unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunk size overflow": HEAD + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nhello",
    "chunk size is no number": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    "chunk longer than said": HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n",
    "no version": b"POST /orders\r\n\r\n",
    "http 0.9": b"GET /orders\r\n",
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50,
    "no host": b"POST /orders HTTP/1.1\r\nContent-Length: 2\r\n\r\nok",
    "two hosts": HEAD + b"Host: y\r\nContent-Length: 2\r\n\r\nok",
    "space before colon": HEAD + b"Content-Length : 2\r\n\r\nok",
    "folded header": HEAD + b"X-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok",
    "nul in header": HEAD + b"X-A: b\0c\r\nContent-Length: 2\r\n\r\nok",
    "bare cr": HEAD + b"X-A: b\rContent-Length: 2\r\n\r\nok",
    "space in path": b"POST /or ders HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_request_that_is_not_well_formed_is_400_and_never_a_message(name: str) -> None:
    async with door(header_timeout="300ms", body_timeout="300ms") as there:
        said = await there.say(MALFORMED[name])
        assert status(said) in (400, 408), said
        assert b"Server: esb\r\n" in said
        assert b"aiohttp" not in said.lower()
        assert b"traceback" not in said.lower()
        assert there.accept.taken == []
        assert await there.serves()


async def test_a_broken_chunk_after_good_ones_is_400_at_once() -> None:
    async with door() as there:
        begun = HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        said = await there.say(begun, b"xyz\r\n", pause=0.05)
        head, _, body = said.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert json.loads(body)["code"] == "A316"
        assert there.accept.taken == []


async def test_a_chunk_that_breaks_in_a_large_body_stores_nothing() -> None:
    async with door() as there:
        big = b"20000\r\n" + b"x" * 0x20000 + b"\r\n"
        said = await there.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + big, b"xyz\r\n", pause=0.05)
        assert said.startswith(b"HTTP/1.1 400")
        assert there.accept.taken == []


@pytest.mark.parametrize("pieces", [1, 7])
async def test_a_head_over_the_limit_is_431(pieces: int) -> None:
    async with door(max_header="16KiB") as there:
        head = HEAD + b"".join(b"X-%d: %s\r\n" % (n, b"y" * 900) for n in range(70))
        step = len(head) // pieces + 1
        said = await there.say(*(head[at : at + step] for at in range(0, len(head), step)), b"\r\n")
        assert status(said) == 431
        assert there.accept.taken == []


async def test_ten_thousand_headers_are_431() -> None:
    async with door(max_header="1MB") as there:
        said = await there.say(HEAD + b"".join(b"X-%d: y\r\n" % n for n in range(10_000)) + b"\r\n")
        assert status(said) == 431
        assert await there.serves()


async def test_a_head_that_comes_a_byte_at_a_time_is_cut_off() -> None:
    """Slowloris: the time counts from the first byte, whatever still trickles in."""
    async with door(header_timeout="200ms") as there:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        said = await there.say(*(HEAD[n : n + 1] for n in range(20)), pause=0.03)
        assert loop.time() - begun < 2
        assert said in (b"",) or said.startswith(b"HTTP/1.1 408")
        assert await there.serves()


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with door(header_timeout="100ms") as there:
        assert await there.say() == b""


async def test_a_connection_that_goes_idle_after_a_request_is_closed() -> None:
    async with door(idle_timeout="100ms") as there:
        said = await there.say(HEAD + b"Content-Length: 2\r\n\r\nok")
        assert said.startswith(b"HTTP/1.1 202")


async def test_the_second_head_on_a_connection_has_its_time_too() -> None:
    async with door(header_timeout="150ms") as there:
        said = await there.say(HEAD + b"Content-Length: 2\r\n\r\nok", b"POST /ord", pause=0.05)
        assert said.startswith(b"HTTP/1.1 202")
        assert b"HTTP/1.1 408" in said


async def test_a_body_that_trickles_is_408() -> None:
    async with door(body_timeout="200ms") as there:
        head = HEAD + b"Content-Length: 1000\r\n\r\n"
        said = await there.say(head, *([b"x"] * 15), pause=0.03)
        assert said.startswith(b"HTTP/1.1 408")
        assert there.accept.taken == []
        assert await there.serves()


async def test_a_sender_that_leaves_in_the_middle_of_its_body_leaves_nothing() -> None:
    async with door() as there:
        _, writer = await there.open()
        writer.write(HEAD + b"Content-Length: 1000000\r\n\r\n" + b"x" * 200_000)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert await there.serves()
        assert [taken.body for taken in there.accept.taken] == [b"ok"]


async def test_expect_continue_is_answered_only_when_the_body_would_be_taken() -> None:
    expect = b"Expect: 100-continue\r\nConnection: close\r\n"
    async with door({"max_body": "10B"}) as there:
        said = await there.say(HEAD + expect + b"Content-Length: 2\r\n\r\n", b"ok", pause=0.05)
        assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202")
        said = await there.say(HEAD + expect + b"Content-Length: 11\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 413")
        said = await there.say(HEAD + b"Expect: 200-ok\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        assert said.startswith(b"HTTP/1.1 417")
        said = await there.say(HEAD.replace(b"/orders", b"/nowhere") + expect + b"Content-Length: 2\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 404")


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with door() as there:
        one = HEAD + b"Content-Length: 1\r\n\r\n"
        said = await there.say(one + b"1" + one + b"2" + HEAD + b"Connection: close\r\nContent-Length: 1\r\n\r\n3")
        assert said.count(b"HTTP/1.1 202") == 3
        assert [taken.body for taken in there.accept.taken] == [b"1", b"2", b"3"]
        assert said.index(b"id-1") < said.index(b"id-2") < said.index(b"id-3")


async def test_what_follows_a_smuggled_length_is_never_a_second_request() -> None:
    inner = b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nevil!"
    sent = HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner
    async with door() as there:
        said = await there.say(sent)
        assert status(said) == 400
        assert there.accept.taken == []


async def test_one_connection_too_many_is_told_so_and_closed() -> None:
    async with door(max_connections=3) as there:
        idle = [await there.open() for _ in range(3)]
        await asyncio.sleep(0.02)
        said = await there.say()
        assert said.startswith(b"HTTP/1.1 503")
        assert b"A320" in said
        idle[0][1].close()
        await idle[0][1].wait_closed()
        await asyncio.sleep(0.02)
        assert await there.serves()
        for _, writer in idle:
            writer.close()


async def test_header_bytes_outside_utf8_reach_the_message_as_latin1() -> None:
    async with door() as there:
        said = await there.say(HEAD + b"X-Name: J\xfcrgen\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        assert said.startswith(b"HTTP/1.1 202")
        assert there.accept.taken[0].incoming.headers["x-name"] == "Jürgen"


async def test_a_path_that_is_not_utf8_is_400() -> None:
    async with door() as there:
        said = await there.say(b"POST /%FF HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 400")
        said = await there.say(b"POST /\xff HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        assert status(said) in (400, 404)


async def test_an_absolute_target_is_routed_by_its_path() -> None:
    async with door() as there:
        sent = HEAD.replace(b"/orders", b"http://x/orders") + b"Connection: close\r\nContent-Length: 2\r\n\r\nok"
        assert (await there.say(sent)).startswith(b"HTTP/1.1 202")


async def test_an_upgrade_is_not_taken() -> None:
    async with door() as there:
        upgrade = b"Connection: upgrade, close\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nok"
        said = await there.say(HEAD + upgrade)
        assert said.startswith(b"HTTP/1.1 202")
        assert b"101" not in said[:20]
