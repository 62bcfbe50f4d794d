"""The http source: each answer it can give, what it hands to accept, and how it opens and closes."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
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

from esb import (
    Accepted,
    Busy,
    Closing,
    Conflict,
    DecodeError,
    Invalid,
    OptionError,
    Problem,
    Reply,
    StoreError,
    Unauthorized,
)
from esb.store.records import Whereabouts


class House:
    """A listener with routes on it, and a client that calls it."""

    def __init__(self, services: FakeServices, stack: AsyncExitStack, client: aiohttp.ClientSession) -> None:
        self.services = services
        self.stack = stack
        self.client = client
        self.listener: Any = None

    async def route(
        self, http: str, accept: Any = None, *, context: dict[str, Any] | None = None, **options: Any
    ) -> Any:
        accept = FakeAccept() if accept is None else accept
        made = options_of(SOURCE, http=http, **options)
        source = await self.stack.enter_async_context(SOURCE.open(made, make_context(self.services, **(context or {}))))
        await self.stack.enter_async_context(running(source, accept))
        self.listener = await self.services.shared(("http", "default"), lambda: None)
        await eventually(lambda: self.listener.port)
        return accept

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.listener.port}{path}"

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any, Any]:
        async with self.client.request(method, self.url(path), **options) as answer:
            return answer.status, await answer.json(content_type=None), answer.headers


@asynccontextmanager
async def opened(**listener: Any) -> AsyncIterator[House]:
    services = FakeServices(listeners={"default": make_listener(**listener)}, secrets={"hook": "s3cr3t", "old": "0ld"})
    async with services, aiohttp.ClientSession() as client, AsyncExitStack() as stack:
        yield House(services, stack, client)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with opened() as made:
        yield made


async def test_a_post_is_answered_202_with_its_id_when_accept_returned(house: House) -> None:
    accept = await house.route("POST /orders")
    status, said, headers = await house.call("POST", "/orders", data=b"<Order/>", headers={"Content-Type": "text/xml"})
    assert (status, said) == (202, {"id": "id-1", "duplicate": False})
    assert headers["Server"] == "esb"
    [taken] = accept.taken
    assert (taken.body, taken.incoming.media_type) == (b"<Order/>", "text/xml")


async def test_path_query_peer_and_method_reach_expressions(house: House) -> None:
    accept = await house.route("PUT /plants/{plant}/orders/{id}")
    status, _, _ = await house.call("PUT", "/plants/k%C3%B6ln/orders/4%2F7?dry=1&tag=a&tag=b", data=b"x")
    assert status == 202
    about = accept.taken[0].incoming.about
    assert about["path"] == {"plant": "köln", "id": "4/7"}
    assert about["query"] == {"dry": "1", "tag": ["a", "b"]}
    assert (about["peer"], about["method"]) == ("127.0.0.1", "PUT")


async def test_a_literal_segment_beats_a_parameter(house: House) -> None:
    any_order = await house.route("POST /orders/{id}")
    new_order = await house.route("POST /orders/new")
    await house.call("POST", "/orders/new", data=b"1")
    await house.call("POST", "/orders/4711", data=b"2")
    assert [taken.body for taken in new_order.taken] == [b"1"]
    assert [taken.body for taken in any_order.taken] == [b"2"]


async def test_the_same_method_and_path_twice_is_an_option_error(house: House) -> None:
    await house.route("GET,POST /orders/{id}")
    with pytest.raises(OptionError, match="served by another route"):
        await house.route("POST /orders/{number}")


async def test_an_unknown_path_is_404_and_an_unknown_method_405_with_allow(house: House) -> None:
    await house.route("GET,POST /orders")
    status, said, headers = await house.call("GET", "/nothing")
    assert (status, said["code"], headers["Content-Type"]) == (404, "A310", "application/problem+json")
    status, said, headers = await house.call("DELETE", "/orders")
    assert (status, said["code"], headers["Allow"]) == (405, "A311", "GET, POST")


async def test_logins_and_framing_do_not_become_headers_of_the_message(house: House) -> None:
    accept = await house.route("POST /orders")
    sent = {"Authorization": "Bearer abc", "X-API-Key": "k", "X-Channel": "edi", "Connection": "keep-alive"}
    await house.call("POST", "/orders", data=b"1", headers=sent)
    headers = accept.taken[0].incoming.headers
    assert headers["x-channel"] == "edi"
    assert not {"authorization", "x-api-key", "connection", "content-length"} & set(headers)


@pytest.mark.parametrize("sent", ["order-4711", '"order-4711"'])
async def test_the_idempotency_key_is_the_once_key(house: House, sent: str) -> None:
    accept = await house.route("POST /orders", FakeAccept([Accepted(id="first", duplicate=True)]))
    status, said, _ = await house.call("POST", "/orders", data=b"1", headers={"Idempotency-Key": sent})
    assert (status, said) == (202, {"id": "first", "duplicate": True})
    assert accept.taken[0].incoming.once == "order-4711"


async def test_a_reply_of_the_route_is_the_answer(house: House) -> None:
    reply = Reply(status=201, body=b"<ok/>", headers={"location": "/orders/1"}, media_type="text/xml")
    await house.route("POST /orders", FakeAccept([Accepted(id="1", reply=reply)]))
    async with house.client.post(house.url("/orders"), data=b"1") as answer:
        assert (answer.status, await answer.read(), answer.headers["Location"]) == (201, b"<ok/>", "/orders/1")
        assert answer.content_type == "text/xml"


async def test_a_reply_that_http_cannot_carry_is_still_no_5xx(house: House) -> None:
    """The message is on disk: a 5xx would say that it may not be."""
    reply = Reply(headers={"x": "a\r\nb: c"})
    await house.route("POST /orders", FakeAccept([Accepted(id="1", reply=reply)]))
    status, said, headers = await house.call("POST", "/orders", data=b"1")
    assert (status, said["id"]) == (202, "1")
    assert "b" not in headers


REFUSALS = [
    (Invalid("no Total", code="M231", place="body.Order.Total"), 422, "M231", None),
    (Invalid("country not served", status=409), 409, "M230", None),
    (DecodeError("no XML", line=3), 422, "M210", None),
    (Conflict("this key came with another body"), 409, "M270", None),
    (Busy("the outbox is full", retry_after=7.2), 503, "A301", "8"),
    (Closing("the bus is stopping"), 503, "A302", "5"),
    (StoreError("/var/lib/esb/store.db: disk I/O error"), 503, "S500", "5"),
    (RuntimeError("secret inside"), 500, "A319", None),
]


@pytest.mark.parametrize(("error", "status", "code", "after"), REFUSALS, ids=lambda value: type(value).__name__)
async def test_each_refusal_has_its_status_and_says_nothing_of_the_inside(
    house: House, error: Exception, status: int, code: str, after: str | None
) -> None:
    await house.route("POST /orders", FakeAccept([error]))
    got, said, headers = await house.call("POST", "/orders", data=b"1")
    assert (got, said["code"], said["type"], said["status"]) == (status, code, f"urn:esb:{code}", status)
    assert headers.get("Retry-After") == after
    assert "/var/lib" not in str(said)
    assert "inside" not in str(said.get("detail", ""))


async def test_all_findings_are_listed_with_their_paths(house: House) -> None:
    findings = [Problem("M231", "is missing", place="body.Order.Total"), Problem("M232", "is no date", line=4)]
    await house.route("POST /orders", FakeAccept([Invalid("2 errors", errors=findings)]))
    _, said, _ = await house.call("POST", "/orders", data=b"1")
    assert said["errors"] == [
        {"code": "M231", "message": "is missing", "path": "body.Order.Total"},
        {"code": "M232", "message": "is no date", "line": 4},
    ]


class Door:
    """An auth that knows one key."""

    def caller(self, headers: Any, /) -> str:
        if headers.get("x-api-key") != "acme.good":
            raise Unauthorized("this key is not known")
        return "acme"


async def test_a_key_is_asked_for_before_the_body_and_names_the_caller(house: House) -> None:
    accept = await house.route("POST /orders", context={"auth": Door()})
    status, said, headers = await house.call("POST", "/orders", data=b"1")
    assert (status, said["code"], headers["WWW-Authenticate"]) == (401, "A312", "Bearer")
    status, _, _ = await house.call("POST", "/orders", data=b"1", headers={"X-API-Key": "acme.good"})
    assert (status, accept.taken[0].incoming.caller, accept.taken[0].incoming.about["key"]) == (202, "acme", "acme")


async def test_a_large_body_reaches_accept_as_it_comes(house: House) -> None:
    accept = await house.route("POST /orders")
    body = b"x" * 300_000
    status, _, _ = await house.call("POST", "/orders", data=body)
    assert (status, accept.taken[0].body) == (202, body)
    assert not isinstance(accept.taken[0].incoming.body, bytes)


async def test_a_body_over_the_limit_is_413_by_its_length_and_by_its_bytes() -> None:
    async with opened(max_body="100kB") as house:
        accept = await house.route("POST /orders")
        status, said, _ = await house.call("POST", "/orders", data=b"x" * 100_001)
        assert (status, said["code"]) == (413, "A313")

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(10):
                yield b"x" * 20_000

        status, said, _ = await house.call("POST", "/orders", data=endless())
        assert (status, said["code"], accept.taken) == (413, "A313", [])


async def test_a_route_may_have_its_own_limit(house: House) -> None:
    await house.route("POST /small", max_body="10B")
    status, _, _ = await house.call("POST", "/small", data=b"x" * 11)
    assert status == 413


async def test_gzip_is_unpacked_within_the_limit() -> None:
    async with opened(max_body="1MB") as house:
        accept = await house.route("POST /orders")
        packed = {"Content-Encoding": "gzip"}
        status, _, _ = await house.call("POST", "/orders", data=gzip.compress(b"<Order/>" * 9), headers=packed)
        assert (status, accept.taken[0].body) == (202, b"<Order/>" * 9)
        assert "content-encoding" not in accept.taken[0].incoming.headers
        two = gzip.compress(b"a") + gzip.compress(b"b")
        await house.call("POST", "/orders", data=two, headers=packed)
        assert accept.taken[1].body == b"ab"
        bomb = gzip.compress(b"\0" * 50_000_000)
        status, said, _ = await house.call("POST", "/orders", data=bomb, headers=packed)
        assert (status, said["code"]) == (413, "A313")
        status, said, _ = await house.call("POST", "/orders", data=gzip.compress(b"abc" * 99)[:-9], headers=packed)
        assert (status, said["code"]) == (400, "A316")
        status, said, _ = await house.call("POST", "/orders", data=b"not gzip", headers=packed)
        assert (status, said["code"]) == (400, "A316")
        status, said, _ = await house.call("POST", "/orders", data=b"x", headers={"Content-Encoding": "br"})
        assert (status, said["code"]) == (415, "A315")


@pytest.mark.parametrize(
    ("media", "status"),
    [
        ("text/xml", 202),
        ("text/xml; charset=utf-8", 202),
        ('text/xml; charset="UTF8"', 202),
        ("text/xml; charset=us-ascii", 202),
        ("text/xml; charset=iso-8859-1", 415),
        ("text/xml; charset=klingon", 415),
    ],
)
async def test_a_charset_that_contradicts_the_route_is_415(house: House, media: str, status: int) -> None:
    await house.route("POST /orders", charset="utf-8")
    got, _, _ = await house.call("POST", "/orders", data=b"1", headers={"Content-Type": media})
    assert got == status


async def test_a_port_in_use_takes_the_route_down_with_the_reason_and_is_tried_again() -> None:
    blocker = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = blocker.sockets[0].getsockname()[1]

    class Impatient:
        def now(self) -> float:
            return 0.0

        async def sleep(self, seconds: float) -> None:
            await asyncio.sleep(0.01 if seconds < 60 else seconds)

    async with opened(bind=f"127.0.0.1:{port}") as house:
        made = options_of(SOURCE, http="POST /orders")
        context = make_context(house.services, clock=Impatient())
        async with SOURCE.open(made, context) as source, running(source, FakeAccept()):
            await eventually(lambda: house.services.healths)
            [(name, state, reason), *_] = house.services.healths
            assert (name, state) == ("route.orders", "down")
            assert f"127.0.0.1:{port}" in reason
            blocker.close()
            await blocker.wait_closed()
            await eventually(lambda: house.services.healths[-1][1] == "up")
            async with house.client.post(f"http://127.0.0.1:{port}/orders", data=b"1") as answer:
                assert answer.status == 202


async def test_a_sender_that_goes_away_before_the_answer_leaves_its_message_here(house: House) -> None:
    accept = FakeAccept()
    accept.hold = asyncio.Event()
    await house.route("POST /orders", accept)
    _, writer = await asyncio.open_connection("127.0.0.1", house.listener.port)
    writer.write(b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
    await accept.arrived.wait()
    writer.close()
    await writer.wait_closed()
    accept.hold.set()
    await eventually(lambda: accept.taken)
    assert accept.taken[0].body == b"hi"
    assert (await house.call("POST", "/orders", data=b"2"))[0] == 202


async def test_a_stopped_route_finishes_what_is_under_way_and_takes_no_more(house: House) -> None:
    accept = FakeAccept()
    accept.hold = asyncio.Event()
    made = options_of(SOURCE, http="POST /slow")
    async with SOURCE.open(made, make_context(house.services)) as source:
        await house.route("GET /other")
        async with running(source, accept):
            call = asyncio.ensure_future(house.call("POST", "/slow", data=b"1"))
            await accept.arrived.wait()
        status, said, _ = await house.call("POST", "/slow", data=b"2")
        assert (status, said["code"]) == (503, "A302")
        accept.hold.set()
        status, said, _ = await call
        assert (status, said["id"]) == (202, "id-1")
    assert (await house.call("POST", "/slow", data=b"3"))[0] == 503


async def test_while_no_route_runs_the_port_says_come_again_and_is_given_back_with_the_bus(house: House) -> None:
    made = options_of(SOURCE, http="POST /orders")
    async with SOURCE.open(made, make_context(house.services)) as source:
        async with running(source, FakeAccept()):
            listener = house.listener = await house.services.shared(("http", "default"), lambda: None)
            await eventually(lambda: listener.port)
        status, _, headers = await house.call("POST", "/orders", data=b"1")
        assert (status, headers["Retry-After"]) == (503, "5")
    port = listener.port
    await listener.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.parametrize(
    "text",
    ["/orders", "post /orders", "FETCH /x", "POST orders", "POST /a?b=1", "POST /{a}/{a}", "POST /x{a}", "POST /{1}"],
)
async def test_a_bad_path_is_an_option_error(house: House, text: str) -> None:
    with pytest.raises(OptionError):
        await house.route(text)


async def test_an_idempotency_key_without_sense_is_400(house: House) -> None:
    await house.route("POST /orders")
    for key in ('""', "x" * 256):
        status, said, _ = await house.call("POST", "/orders", data=b"1", headers={"Idempotency-Key": key})
        assert (status, said["code"]) == (400, "A316")


@pytest.mark.parametrize("second", ["b", "a"])
async def test_two_idempotency_keys_are_400_and_nothing_is_accepted_r3(house: House, second: str) -> None:
    accept = await house.route("POST /orders")
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", second)]
    status, said, answered = await house.call("POST", "/orders", data=b"1", headers=headers)
    assert (status, said["code"]) == (400, "A316")
    assert said["detail"] == "a request has one Idempotency-Key"
    assert answered["Content-Type"] == "application/problem+json"
    assert accept.taken == []


async def test_a_query_that_is_not_utf8_is_400(house: House) -> None:
    await house.route("POST /orders")
    reader, writer = await asyncio.open_connection("127.0.0.1", house.listener.port)
    writer.write(b"POST /orders?a=%FF HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["code"] == "A316"


async def test_a_route_that_is_stopped_for_a_while_asks_its_senders_to_come_again(house: House) -> None:
    await house.route("POST /other")
    made = options_of(SOURCE, http="POST /orders")
    for _ in range(2):
        async with SOURCE.open(made, make_context(house.services)) as source, running(source, FakeAccept()):
            assert (await house.call("POST", "/orders", data=b"x"))[0] == 202
        status, _, headers = await house.call("POST", "/orders", data=b"x")
        assert (status, headers["Retry-After"] != "") == (503, True)
    assert (await house.call("POST", "/nothing", data=b"x"))[0] == 404


async def test_a_sender_finds_its_message_at_the_address_of_the_202_and_nobody_else_does_r6(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = "01977420-dc00-785d-a673-90030416c331"
    found = {uid: Whereabouts("orders", "", "open"), uid.replace("0", "1"): Whereabouts("orders", "partner", "done")}

    async def whereabouts(self: FakeServices, name: str, /) -> Whereabouts | None:
        return found.get(name)

    monkeypatch.setattr(FakeServices, "whereabouts", whereabouts)
    await house.route("POST /orders")
    status, said, _ = await house.call("GET", f"/messages/{uid}")
    assert (status, said) == (200, {"id": uid, "state": "open"})
    for name in (uid.replace("0", "1"), uid.replace("0", "2"), "x", ""):
        status, said, _ = await house.call("GET", f"/messages/{name}")
        assert (status, said["code"]) == (404, "A310"), name
    await house.route("GET /messages/{id}")
    status, _, _ = await house.call("GET", f"/messages/{uid}")
    assert status == 202, "a route of that path comes first"
