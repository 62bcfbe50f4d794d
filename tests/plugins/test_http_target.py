"""The http target: what it sends, and which outcome each answer, silence and breakage has."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import pytest
from esb_plugins.http.target import TARGET
from http_peer import Close, Peer, Silence, answer, peer
from plugin_context import FakeServices, eventually, free_port, make_context, options_of

from esb import (
    Decoded,
    DecodeError,
    Delivery,
    DeliveryError,
    ExpressionError,
    MaybeSent,
    OptionError,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)


def delivery(body: bytes = b'{"id": 1}', **fields: Any) -> Delivery:
    given = {"content": body, "size": len(body), "media_type": "application/json", **fields}
    return Delivery(id="0198-1.erp", message_id="0198-1", route="orders", target="erp", **given)


class Json:
    """Just enough of a codec to decode what the peer says."""

    media_type = "application/json"

    def decode(self, body: bytes, /) -> Decoded:
        try:
            return Decoded(json.loads(body))
        except ValueError as error:
            raise DecodeError(str(error)) from error


class Login:
    """An auth that counts."""

    def __init__(self) -> None:
        self.refusals = 0
        self.post: Any = None

    def use(self, post: Any, /) -> None:
        self.post = post

    async def headers(self) -> Mapping[str, str]:
        return {"authorization": f"Bearer token-{self.refusals}"}

    def refused(self) -> None:
        self.refusals += 1


EXPRESSIONS = {
    "status in [200, 201, 409]": lambda scope: scope["status"] in (200, 201, 409),
    "reply.ok == true": lambda scope: _reply(scope)["ok"] is True,
}


def _reply(scope: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(scope["reply"], dict):
        raise ExpressionError("reply is a text")
    return scope["reply"]


@asynccontextmanager
async def target(url: str, *, call: str = "POST", timeout: float = 5.0, auth: Any = None, **options: Any) -> Any:
    services = FakeServices(expressions=EXPRESSIONS, codecs={"json": Json(), "xml": Json()})
    context = make_context(services, "target.erp", timeout=timeout, auth=auth, id_header="Idempotency-Key")
    async with services, TARGET.open(options_of(TARGET, http=f"{call} {url}", **options), context) as made:
        yield made


async def outcome(peer_: Peer, given: Delivery | None = None, **options: Any) -> DeliveryError:
    """The error that one delivery to this peer ends in."""
    async with target(peer_.url(), **options) as made:
        with pytest.raises(DeliveryError) as caught:
            await made.deliver(given or delivery())
        return caught.value


# --- what is sent -------------------------------------------------------------------------------------------------


async def test_body_content_type_and_delivery_id_arrive() -> None:
    async with peer(answer(201, '{"ok": true}', content_type="application/json", location="/o/1")) as there:
        async with target(there.url("/orders?dry=1"), headers={"X-Order": "{body.id}"}) as made:
            receipt = await made.deliver(delivery(values={"headers.X-Order": "4711"}))
        [seen] = there.seen
        assert (seen.line, seen.body) == ("POST /orders?dry=1 HTTP/1.1", b'{"id": 1}')
        assert seen.headers["idempotency-key"] == "0198-1.erp"
        assert seen.headers["content-type"] == "application/json"
        assert seen.headers["x-order"] == "4711"
        assert seen.headers["host"] == f"127.0.0.1:{there.port}"
        assert (receipt.reply.status, receipt.reply.body) == (201, b'{"ok": true}')
        assert receipt.reply.headers == {"location": "/o/1"}
        assert receipt.note == '201 {"ok": true}'


async def test_the_url_of_a_template_is_the_one_that_was_filled_in() -> None:
    async with peer() as there, target(there.url("/orders/{body.id}")) as made:
        await made.deliver(delivery(values={"http": f"POST {there.url('/orders/a%2Fb')}"}))
        assert there.seen[0].line == "POST /orders/a%2Fb HTTP/1.1"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_get_and_delete_send_no_body(method: str) -> None:
    async with peer() as there, target(there.url(), call=method) as made:
        await made.deliver(delivery())
        [seen] = there.seen
        assert (seen.line, seen.body) == (f"{method} /orders HTTP/1.1", b"")
        assert not {"content-length", "content-type"} & set(seen.headers)


async def test_a_large_body_is_streamed_with_its_length() -> None:
    pieces = [bytes([65 + n]) * 50_000 for n in range(8)]

    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async with peer() as there, target(there.url()) as made:
        await made.deliver(delivery(content=None, size=400_000, stream=stream))
        assert there.seen[0].body == b"".join(pieces)
        await made.deliver(delivery())
        assert there.connections == 1


async def test_connections_are_kept_and_used_again() -> None:
    async with peer() as there, target(there.url()) as made:
        for _ in range(5):
            await made.deliver(delivery())
        assert (len(there.seen), there.connections) == (5, 1)


async def test_a_connection_that_the_peer_closed_while_idle_is_not_used() -> None:
    async with peer(answer(200, connection="close").replace(b"connection", b"Connection")) as there:
        async with target(there.url()) as made:
            await made.deliver(delivery())
            await made.deliver(delivery())
        assert there.connections == 2


async def test_a_connection_that_spoke_unasked_is_not_used() -> None:
    """An answer to nothing must never be taken for the next one."""
    async with peer(answer(200) + answer(200, "smuggled")) as there, target(there.url()) as made:
        await made.deliver(delivery())
        receipt = await made.deliver(delivery())
        assert receipt.note == "200"
        assert there.connections == 2


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b", "x" * 70_000])
async def test_no_header_value_can_become_another_header(value: str) -> None:
    async with peer() as there:
        error = await outcome(there, delivery(values={"headers.X-Order": value}), headers={"X-Order": "{body.id}"})
        assert (type(error), error.code, there.seen) == (Rejected, "D442", [])


async def test_a_url_with_a_line_break_is_rejected() -> None:
    async with peer() as there:
        error = await outcome(there, delivery(values={"http": f"POST {there.url('/a b')}"}))
        assert (type(error), error.code, there.seen) == (Rejected, "D442", [])


async def test_letters_outside_ascii_in_a_header_are_utf8() -> None:
    async with peer() as there, target(there.url(), headers={"X-Name": "{body.name}"}) as made:
        await made.deliver(delivery(values={"headers.X-Name": "Jürgen"}))
        assert there.seen[0].headers["x-name"].encode("latin-1").decode() == "Jürgen"


async def test_a_header_stands_once_whoever_gives_it() -> None:
    """The login before the table, the delivery id before the table, the table before the media type."""
    given = {"AUTHORIZATION": "mine", "idempotency-key": "mine", "content-type": "text/x-order", "X-A": "a"}
    async with peer() as there, target(there.url(), headers=given, auth=Login()) as made:
        await made.deliver(delivery())
        assert there.seen[0].headers["authorization"] == "Bearer token-0"
        assert there.seen[0].headers["idempotency-key"] == "0198-1.erp"
        assert there.seen[0].headers["content-type"] == "text/x-order"
        assert there.seen[0].names.count("authorization") == 1
        assert there.seen[0].names.count("idempotency-key") == 1
        assert there.seen[0].names.count("content-type") == 1


async def test_a_name_with_a_dead_address_first_is_reached_by_the_next() -> None:
    async with peer() as there, target(there.url(host="localhost")) as made:
        await made.deliver(delivery())
        assert there.seen[0].headers["host"] == f"localhost:{there.port}"


# --- what an answer means -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Rejected),
        (401, Unauthorized),
        (403, Rejected),
        (404, Rejected),
        (409, Rejected),
        (422, Rejected),
        (429, Throttled),
        (500, Unavailable),
        (502, Unavailable),
        (503, Throttled),
        (504, Unavailable),
    ],
)
async def test_each_status_has_its_class(status: int, kind: type[DeliveryError]) -> None:
    async with peer(answer(status, "why " * 2000)) as there:
        error = await outcome(there)
        assert type(error) is kind
        assert str(error) == f"answered {status}"
        assert error.evidence == b"why " * 1024


@pytest.mark.parametrize(
    ("text", "after"),
    [("7", 7.0), ("0", 0.0), ("soon", None), ("-3", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)],
)
async def test_retry_after_is_seconds_or_a_date(text: str, after: float | None) -> None:
    async with peer(answer(429, retry_after=text)) as there:
        error = await outcome(there)
        assert isinstance(error, Throttled)
        assert error.after == after


async def test_retry_after_as_a_date_counts_from_our_clock() -> None:
    class Fixed:
        def now(self) -> float:
            return 1_750_000_000.0

    services = FakeServices()
    async with peer(answer(503, retry_after=formatdate(1_750_000_060, usegmt=True))) as there, services:
        context = make_context(services, clock=Fixed())
        async with TARGET.open(options_of(TARGET, http=f"POST {there.url()}"), context) as made:
            with pytest.raises(Throttled) as caught:
                await made.deliver(delivery())
            assert caught.value.after == 60.0


async def test_a_401_forgets_the_token_and_the_next_call_uses_a_new_one() -> None:
    login = Login()
    async with peer(answer(401), answer(200)) as there, target(there.url(), auth=login) as made:
        with pytest.raises(Unauthorized):
            await made.deliver(delivery())
        await made.deliver(delivery())
        assert [seen.headers["authorization"] for seen in there.seen] == ["Bearer token-0", "Bearer token-1"]
        assert login.post is not None


async def test_auth_status_makes_a_403_a_login_problem() -> None:
    async with peer(answer(403)) as there:
        assert type(await outcome(there, auth_status=[401, 403])) is Unauthorized


@pytest.mark.parametrize("status", [301, 302, 307, 308, 304])
async def test_redirects_are_not_followed_and_name_where_they_point(status: int) -> None:
    async with peer() as elsewhere, peer(answer(status, location=elsewhere.url("/trap"))) as there:
        error = await outcome(there, auth=Login())
        assert (type(error), error.code) == (Rejected, "D441")
        assert "/trap" in str(error)
        assert elsewhere.seen == []


async def test_classes_say_what_a_status_means_here() -> None:
    async with peer(answer(409), answer(423), answer(404), answer(200)) as there:
        classes = {"409": "delivered", "423": "transient", "404": "unknown", "200": "permanent"}
        async with target(there.url(), classes=classes) as made:
            assert (await made.deliver(delivery())).note == "409"
            for kind in (Unavailable, MaybeSent, Rejected):
                with pytest.raises(kind):
                    await made.deliver(delivery())


async def test_ok_decides_over_the_status() -> None:
    ok = "status in [200, 201, 409]"
    async with peer(answer(409), answer(202), answer(500)) as there, target(there.url(), ok=ok) as made:
        assert (await made.deliver(delivery())).reply.status == 409
        with pytest.raises(Rejected, match="`ok` is false"):
            await made.deliver(delivery())
        with pytest.raises(Unavailable):
            await made.deliver(delivery())


async def test_ok_sees_into_a_200_that_says_no() -> None:
    """FAULTS 66: a 200 with an error body."""
    media = {"content_type": "application/json; charset=utf-8"}
    async with (
        peer(
            answer(200, '{"ok": true}', **media),
            answer(200, '{"ok": false}', **media),
            answer(200, "<html>proxy error</html>", content_type="text/html"),
            answer(200, '{"ok": tr', **media),
        ) as there,
        target(there.url(), ok="reply.ok == true") as made,
    ):
        assert (await made.deliver(delivery())).reply.body == b'{"ok": true}'
        with pytest.raises(Rejected) as caught:
            await made.deliver(delivery())
        assert (caught.value.code, caught.value.evidence) == ("D443", b'{"ok": false}')
        for _ in range(2):
            with pytest.raises(Rejected, match="cannot be decided"):
                await made.deliver(delivery())


# --- what breaks --------------------------------------------------------------------------------------------------


async def test_nobody_listening_is_unavailable() -> None:
    async with target(f"http://127.0.0.1:{free_port()}/") as made:
        with pytest.raises(Unavailable) as caught:
            await made.deliver(delivery())
        assert caught.value.code == "D411"


async def test_a_name_that_is_not_found_is_unavailable() -> None:
    async with target("http://no-such-host.invalid/") as made:
        with pytest.raises(Unavailable) as caught:
            await made.deliver(delivery())
        assert caught.value.code == "D412"


async def test_no_answer_in_time_is_unknown() -> None:
    async with peer(Silence()) as there:
        error = await outcome(there, timeout=0.2)
        assert (type(error), error.code) == (MaybeSent, "D451")


@pytest.mark.parametrize("how", [Close(), Close(reset=True)], ids=["fin", "reset"])
async def test_a_connection_closed_after_the_request_is_unknown(how: Close) -> None:
    async with peer(how) as there:
        error = await outcome(there)
        assert (type(error), error.code) == (MaybeSent, "D453")


@pytest.mark.parametrize("how", [Close(), Close(reset=True)], ids=["fin", "reset"])
async def test_a_kept_connection_closed_at_the_request_is_unknown(how: Close) -> None:
    async with peer(answer(200), how) as there, target(there.url()) as made:
        await made.deliver(delivery())
        with pytest.raises(MaybeSent):
            await made.deliver(delivery())
        assert there.connections == 1


async def test_a_connection_lost_in_the_middle_of_the_body_is_unavailable() -> None:
    """The peer cannot have taken a request whose end was never sent."""
    sent = asyncio.Event()

    async def stream() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        await sent.wait()
        for _ in range(100):
            yield b"x" * 100_000
            await asyncio.sleep(0.001)

    async with peer(Close(reset=True), early=True) as there, target(there.url()) as made:
        work = asyncio.ensure_future(made.deliver(delivery(content=None, size=10_100_000, stream=stream)))
        await eventually(there.gone.is_set)
        sent.set()
        with pytest.raises(Unavailable) as caught:
            await work
        assert caught.value.code == "D411"


async def test_an_answer_before_the_body_ended_counts() -> None:
    async def stream() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"x" * 50_000
            await asyncio.sleep(0.001)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(413, "too large"))
        await writer.drain()
        await reader.read()

    async with peer(refuse, early=True) as there:
        error = await outcome(there, delivery(content=None, size=10_000_000, stream=stream))
        assert (type(error), str(error)) == (Rejected, "answered 413")


async def test_an_endless_answer_is_cut_off_and_its_status_counts() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
            await writer.drain()

    async with peer(endless) as there, target(there.url(), max_reply="50kB") as made:
        receipt = await made.deliver(delivery())
        assert (receipt.note, receipt.reply) == ("200, the answer was cut off", None)
        assert (await made.deliver(delivery())).note == "200"
        assert there.connections == 2


async def test_a_cut_off_answer_that_ok_needs_is_unknown() -> None:
    broken = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{"
    async with peer(broken) as there:
        error = await outcome(there, ok="reply.ok == true")
        assert (type(error), error.code) == (MaybeSent, "D454")


async def test_an_answer_that_stops_in_the_middle_counts_by_its_status() -> None:
    async def dribble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 422 No\r\nContent-Length: 100\r\n\r\nwhy")
        await reader.read()

    async with peer(dribble) as there:
        error = await outcome(there, timeout=0.3)
        assert (type(error), error.evidence) == (Rejected, b"why")


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 999999 x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["ssh", "status", "headers", "upgrade", "framing"],
)
async def test_an_answer_that_is_no_http_is_unknown(said: bytes) -> None:
    async with peer(said) as there:
        error = await outcome(there)
        assert (type(error), error.code) == (MaybeSent, "D452")


async def test_answers_before_the_answer_are_skipped() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    async with peer(early + answer(201, "done")) as there, target(there.url()) as made:
        receipt = await made.deliver(delivery())
        assert (receipt.reply.status, receipt.reply.body) == (201, b"done")


async def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    async with peer(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it") as there, target(there.url()) as made:
        assert (await made.deliver(delivery())).reply.body == b"all of it"


async def test_a_cancelled_delivery_closes_its_connection() -> None:
    async with peer(Silence()) as there, target(there.url()) as made:
        work = asyncio.ensure_future(made.deliver(delivery()))
        await eventually(lambda: there.seen)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await eventually(there.gone.is_set)
        await made.deliver(delivery())
        assert there.connections == 2


# --- the host from a message (FAULTS 82) ----------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["169.254.169.254", "2130706433", "evil.example.net", "example.org.evil.net", ""])
async def test_a_message_cannot_choose_a_host_that_is_not_listed(host: str) -> None:
    async with target("https://{body.host}/x", hosts=["*.example.org", "erp.local"]) as made:
        with pytest.raises(Rejected) as caught:
            await made.deliver(delivery(values={"http": f"POST https://{host}/x"}))
        assert caught.value.code == "D444"


async def test_a_listed_host_is_called() -> None:
    async with peer() as there, target("http://{body.host}/x", hosts=["127.0.0.1"]) as made:
        await made.deliver(delivery(values={"http": f"POST {there.url('/x')}"}))
        assert len(there.seen) == 1


# --- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("https://erp/x", {}),
        ("FETCH https://erp/x", {}),
        ("POST ftp://erp/x", {}),
        ("POST file:///etc/passwd", {}),
        ("POST https://user:pass@erp/x", {}),
        ("POST https://{body.host}/x", {}),
        ("POST https://erp/x", {"headers": {"Host": "x"}}),
        ("POST https://erp/x", {"headers": {"X Y": "x"}}),
        ("POST https://erp/x", {"classes": {"4xx": "transient"}}),
        ("POST https://erp/x", {"proxy": "socks5://x"}),
        ("POST https://erp/x", {"cert": "a.pem"}),
        ("POST https://erp/x", {"ok": "unknown("}),
    ],
)
async def test_bad_options_are_found_before_the_first_message(text: str, options: dict[str, Any]) -> None:
    services = FakeServices()
    async with services:
        with pytest.raises(OptionError):
            async with TARGET.open(options_of(TARGET, http=text, **options), make_context(services)):
                pass


async def test_the_probe_connects_and_sends_nothing() -> None:
    async with peer() as there:
        services = FakeServices()
        made = options_of(TARGET, http=f"POST {there.url()}")
        assert TARGET.probe is not None
        assert "takes connections" in await TARGET.probe(made, make_context(services))
        assert there.seen == []
