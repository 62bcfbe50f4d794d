"""HTTP in, a bus, HTTP out: the whole way of a message, over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from http_peer import Close, Peer, answer, peer
from plugin_context import eventually, free_port

from esb.auth import new_key
from esb.bus import Bus, open_bus
from esb.plugins import Registry, load_plugins
from esb.table.load import load

TABLE = """
esb = 1
[bus]
http = "127.0.0.1:{port}"
[defaults]
owner = "integration@example.org"
[retry.quick]
transient = {{ attempts = 5, first = "10ms", cap = "50ms", max_age = "1m" }}
unknown = {{ as = "transient" }}
[target.erp]
http = "PUT {sink}/orders/{{source.path.id}}"
id_header = "Idempotency-Key"
headers = {{ X-Channel = '{{header["x-channel"]}}' }}
retry = "quick"
[route.orders]
from = {{ http = "POST /orders/{{id}}" }}
to = ["erp"]
[route.asked]
from = {{ http = "POST /ask/{{id}}", reply = "from:erp" }}
to = ["erp"]
"""


class House:
    """A running bus between a client and a peer."""

    def __init__(self, bus: Bus, port: int, there: Peer, client: aiohttp.ClientSession) -> None:
        self.bus = bus
        self.port = port
        self.there = there
        self._client = client

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self._client.post(url, data=body, headers=named) as said:
            return said.status, json.loads(await said.read())


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_plugins()


@asynccontextmanager
async def opened(folder: Path, registry: Registry, *script: Any, table: str = TABLE) -> AsyncIterator[House]:
    port = free_port()
    async with peer(*script) as there, aiohttp.ClientSession() as client:
        file = folder / "routes.toml"
        file.write_text(table.format(port=port, sink=there.url("")))
        async with open_bus(load(file, registry), registry) as bus:
            await eventually(lambda: any(name.startswith("route.") for name in bus.services.healths))
            await eventually(lambda: _listens(port))
            yield House(bus, port, there, client)


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


async def test_a_post_comes_out_with_its_delivery_id_in_the_header(tmp_path: Path, registry: Registry) -> None:
    async with opened(tmp_path, registry) as house:
        status, said = await house.post("/orders/a%2Fb", b"<Order/>", x_channel="edi", Content_Type="text/xml")
        assert (status, said["duplicate"]) == (202, False)
        await eventually(lambda: house.there.seen)
        [seen] = house.there.seen
        assert (seen.line, seen.body) == ("PUT /orders/a%2Fb HTTP/1.1", b"<Order/>")
        assert seen.headers["idempotency-key"] == f"{said['id']}.erp"
        assert (seen.headers["x-channel"], seen.headers["content-type"]) == ("edi", "text/xml")


async def test_an_idempotency_key_is_answered_as_the_first_time_and_409_with_another_body(
    tmp_path: Path, registry: Registry
) -> None:
    async with opened(tmp_path, registry) as house:
        _, first = await house.post("/orders/1", b"1", Idempotency_Key="k")
        status, again = await house.post("/orders/1", b"1", Idempotency_Key="k")
        assert (status, again) == (202, {"id": first["id"], "duplicate": True})
        status, other = await house.post("/orders/1", b"2", Idempotency_Key="k")
        assert (status, other["code"]) == (409, "M270")
        await eventually(lambda: house.there.seen)
        assert len(house.there.seen) == 1


async def test_an_idempotency_key_holds_beside_the_once_key_of_the_route_r3(tmp_path: Path, registry: Registry) -> None:
    once = """
[route.once]
from = {{ http = "POST /once/{{id}}", once = "{{body.id}}" }}
do = [{{ read = "json" }}]
to = ["erp"]
"""
    async with opened(tmp_path, registry, table=TABLE + once) as house:
        _, first = await house.post("/once/1", b'{"id": 1}', Idempotency_Key="k")
        status, again = await house.post("/once/1", b'{"id": 1}', Idempotency_Key="k")
        assert (status, again) == (202, {"id": first["id"], "duplicate": True})
        status, other = await house.post("/once/1", b'{"id": 2}', Idempotency_Key="k")
        assert (status, other["code"]) == (409, "M270")
        status, known = await house.post("/once/1", b'{"id": 1}', Idempotency_Key="other")
        assert (status, known["duplicate"]) == (202, True)
        await eventually(lambda: house.there.seen)
        assert len(house.there.seen) == 1


@pytest.mark.parametrize(
    ("path", "charset", "status"),
    [("csv", "utf-8", 415), ("csv", "windows-1252", 202), ("csv", "us-ascii", 202), ("json", "utf-16", 415)],
)
async def test_a_charset_that_the_route_does_not_read_is_415(
    tmp_path: Path, registry: Registry, path: str, charset: str, status: int
) -> None:
    reading = """
[route.csv]
from = {{ http = "POST /csv/{{id}}" }}
do = [{{ read = "csv", encoding = "windows-1252" }}]
to = ["erp"]
[route.json]
from = {{ http = "POST /json/{{id}}" }}
do = [{{ read = "json" }}]
to = ["erp"]
"""
    async with opened(tmp_path, registry, table=TABLE + reading) as house:
        said, _ = await house.post(f"/{path}/1", b'["1"]', Content_Type=f"text/x; charset={charset}")
        assert said == status


async def test_a_chunked_body_over_the_limit_is_413_in_one_piece_too(tmp_path: Path, registry: Registry) -> None:
    small = """
[route.small]
from = {{ http = "POST /small/{{id}}", max_body = "1kB" }}
to = ["erp"]
"""

    async def chunked() -> AsyncIterator[bytes]:
        yield b"x" * 4096

    async with opened(tmp_path, registry, table=TABLE + small) as house:
        status, said = await house.post("/small/1", chunked())
        assert (status, said["code"]) == (413, "A313")


async def test_the_repeat_after_an_unknown_outcome_has_the_same_id(tmp_path: Path, registry: Registry) -> None:
    async with opened(tmp_path, registry, Close(), answer(502), answer(200)) as house:
        await house.post("/orders/1", b"1")
        await eventually(lambda: len(house.there.seen) == 3)
        assert len({seen.headers["idempotency-key"] for seen in house.there.seen}) == 1


async def test_a_sender_that_waits_gets_the_targets_answer(tmp_path: Path, registry: Registry) -> None:
    made = answer(201, '{"number": 7}', content_type="application/json")
    async with opened(tmp_path, registry, made) as house:
        assert await house.post("/ask/1", b"1") == (201, {"number": 7})


async def test_a_large_body_goes_through_as_it_is(tmp_path: Path, registry: Registry) -> None:
    body = bytes(range(256)) * 4000

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 50_000):
            yield body[at : at + 50_000]

    async with opened(tmp_path, registry) as house:
        status, _ = await house.post("/orders/1", pieces())
        assert status == 202
        await eventually(lambda: house.there.seen)
        assert house.there.seen[0].body == body


async def test_a_large_body_that_breaks_off_leaves_nothing(tmp_path: Path, registry: Registry) -> None:
    async with opened(tmp_path, registry) as house:
        _, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(b"POST /orders/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n" + b"x" * 300_000)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        status, _ = await house.post("/orders/2", b"whole")
        assert status == 202
        await eventually(lambda: house.there.seen)
        assert [seen.body for seen in house.there.seen] == [b"whole"]
        kept = [path for path in (tmp_path / "var").rglob("*") if path.is_file() and path.stat().st_size == 300_000]
        assert kept == []


LOGINS = """
esb = 1
[bus]
http = "127.0.0.1:{port}"
[defaults]
owner = "integration@example.org"
[retry.quick]
transient = {{ attempts = 5, first = "10ms", cap = "50ms", max_age = "1m" }}
auth = {{ pause = "target", probe = "50ms" }}
[secrets]
erp-id = "env:ESB_TEST_ERP_ID"
erp-key = "file:erp.key"
[auth.erp]
oauth2 = "{sink}/token"
id = "secret:erp-id"
secret = "secret:erp-key"
[auth.partners]
api-key = "file:partners.keys"
[target.erp]
http = "POST {sink}/orders"
auth = "erp"
retry = "quick"
[route.orders]
from = {{ http = "POST /orders", auth = "partners" }}
to = ["erp"]
"""


def token(text: str) -> bytes:
    return answer(200, json.dumps({"access_token": text, "expires_in": 3600}), content_type="application/json")


async def test_keys_let_in_and_tokens_log_in_and_a_401_fetches_a_new_one(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESB_TEST_ERP_ID", "client")
    (tmp_path / "erp.key").write_text("s3cr3t-of-the-erp\n")
    key, line = new_key("acme")
    (tmp_path / "partners.keys").write_text(line + "\n")
    script = [token("one"), answer(200), answer(401), token("two"), answer(200)]
    async with opened(tmp_path, registry, *script, table=LOGINS) as house:
        status, said = await house.post("/orders", b"1")
        assert (status, said["code"]) == (401, "A312")
        status, _ = await house.post("/orders", b"1", X_API_Key=key)
        assert status == 202
        await eventually(lambda: len(house.there.seen) == 2)
        await house.post("/orders", b"2", Authorization=f"Bearer {key}")
        await eventually(lambda: len(house.there.seen) == 5)
        lines = [seen.line.split(" ")[1] for seen in house.there.seen]
        assert lines == ["/token", "/orders", "/orders", "/token", "/orders"]
        assert [house.there.seen[at].headers["authorization"] for at in (1, 2, 4)] == [
            "Bearer one",
            "Bearer one",
            "Bearer two",
        ]
        assert house.there.seen[0].body == b"grant_type=client_credentials"


async def test_a_missing_secret_costs_no_attempt_at_the_target_and_counts_once_it_is_there(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESB_TEST_ERP_ID", "client")
    key, line = new_key("acme")
    (tmp_path / "partners.keys").write_text(line + "\n")
    async with opened(tmp_path, registry, token("one"), table=LOGINS) as house:
        status, _ = await house.post("/orders", b"1", X_API_Key=key)
        assert status == 202
        await asyncio.sleep(0.1)
        assert house.there.seen == []
        (tmp_path / "erp.key").write_text("s3cr3t")
        await eventually(lambda: len(house.there.seen) == 2)
        assert house.there.seen[1].body == b"1"
