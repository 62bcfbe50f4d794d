"""TLS at both doors (FAULTS 65): nothing is sent to a peer that is not who it should be, and our own certificate is
read again without a restart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from certificates import Authority
from esb_plugins.http.client import Client, Settings
from esb_plugins.http.source import SOURCE
from esb_plugins.http.tls import ServerTls, not_after
from http_peer import answer, peer
from plugin_context import (
    FakeAccept,
    FakeServices,
    eventually,
    free_port,
    make_context,
    make_listener,
    options_of,
    running,
)

from esb import MaybeSent, Unavailable
from esb.clock import VirtualClock


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


async def post(url: str, settings: Settings) -> int:
    async with Client(settings) as client:
        return (await client.send("POST", url, {}, b"<Order/>", seconds=5)).status


async def test_a_peer_of_our_own_authority_is_trusted(authority: Authority) -> None:
    async with peer(tls=authority.issue("good").server()) as there:
        assert await post(there.url(scheme="https"), Settings(ca=str(authority.cert))) == 200


@pytest.mark.parametrize(
    ("name", "host", "begin", "end", "why"),
    [
        ("expired", "127.0.0.1", -7200, -3600, "expired"),
        ("early", "127.0.0.1", 3600, 7200, "not yet valid"),
        ("other", "erp.example.org", -3600, 3600, "mismatch"),
    ],
)
async def test_a_certificate_that_is_wrong_gets_nothing(
    authority: Authority, name: str, host: str, begin: float, end: float, why: str
) -> None:
    async with peer(tls=authority.issue(name, host, begin=begin, end=end).server()) as there:
        with pytest.raises(Unavailable, match=why) as caught:
            await post(there.url(scheme="https"), Settings(ca=str(authority.cert)))
        assert (caught.value.code, there.seen) == ("D413", [])


async def test_an_unknown_authority_and_a_self_signed_certificate_get_nothing(
    authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "stranger")
    async with peer(tls=stranger.issue("known-to-nobody").server()) as there:
        for settings in (Settings(ca=str(authority.cert)), Settings()):
            with pytest.raises(Unavailable) as caught:
                await post(there.url(scheme="https"), settings)
            assert (caught.value.code, there.seen) == ("D413", [])


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_tls_is_not_spoken(authority: Authority) -> None:
    old = authority.issue("old").server()
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1
    async with peer(tls=old) as there:
        with pytest.raises(Unavailable) as caught:
            await post(there.url(scheme="https"), Settings(ca=str(authority.cert)))
        assert caught.value.code in ("D413", "D411")
        assert there.seen == []


async def test_a_plain_peer_behind_https_gets_nothing() -> None:
    async with peer() as there:
        with pytest.raises(Unavailable):
            await post(there.url(scheme="https"), Settings(connect=0.3))
        assert there.seen == []


async def test_a_peer_may_ask_for_our_certificate(authority: Authority) -> None:
    strict = authority.issue("strict").server()
    strict.load_verify_locations(authority.cert)
    strict.verify_mode = ssl.CERT_REQUIRED
    ours = authority.issue("us", "esb.local")
    async with peer(tls=strict) as there:
        known = Settings(ca=str(authority.cert), cert=str(ours.cert), key=str(ours.key))
        assert await post(there.url(scheme="https"), known) == 200


async def test_a_peer_that_ends_tls_over_our_certificate_has_read_nothing(authority: Authority) -> None:
    strict = authority.issue("alerting").server()
    strict.load_verify_locations(authority.cert)
    strict.verify_mode = ssl.CERT_REQUIRED
    listening = socket.create_server(("127.0.0.1", 0))

    def turn_away() -> None:
        connection, _ = listening.accept()
        with strict.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as secured:
            with contextlib.suppress(ssl.SSLError):
                secured.do_handshake()
            socket.socket.recv(secured, 65_536)  # what is unread at the close would make a reset of it

    with listening:
        serving = asyncio.ensure_future(asyncio.to_thread(turn_away))
        url = f"https://127.0.0.1:{listening.getsockname()[1]}/"
        with pytest.raises(Unavailable) as caught:
            await post(url, Settings(ca=str(authority.cert)))
        assert caught.value.code == "D413"
        await serving


async def test_missing_certificate_files_are_unavailable_and_named(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="ca, cert and key"):
        await post("https://127.0.0.1:1/", Settings(ca=str(tmp_path / "gone.pem")))


async def test_a_tunnel_leads_through_a_proxy_that_sees_no_request(authority: Authority) -> None:
    async with peer(tls=authority.issue("behind").server()) as there:

        async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", there.port)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

            async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(65_536):
                    sink.write(data)
                sink.close()

            await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))

        async with peer(tunnel, answer(407)) as proxy:
            through = Settings(
                ca=str(authority.cert), proxy=f"http://127.0.0.1:{proxy.port}", proxy_login=lambda: "esb:s3cr3t"
            )
            assert await post(there.url(scheme="https"), through) == 200
            [asked] = proxy.seen
            assert asked.line == f"CONNECT 127.0.0.1:{there.port} HTTP/1.1"
            assert asked.headers["proxy-authorization"] == "Basic ZXNiOnMzY3IzdA=="
            assert "proxy-authorization" not in there.seen[0].headers
            with pytest.raises(Unavailable, match="answered 407 to CONNECT") as caught:
                await post(there.url(scheme="https"), through)
            assert caught.value.code == "D415"


async def test_plain_http_through_a_proxy_names_the_whole_url() -> None:
    async with peer() as proxy:
        through = Settings(proxy=f"http://127.0.0.1:{proxy.port}")
        assert await post("http://erp.local/orders?a=1", through) == 200
        assert proxy.seen[0].line == "POST http://erp.local/orders?a=1 HTTP/1.1"
        assert proxy.seen[0].headers["host"] == "erp.local"


# --- our own certificate ----------------------------------------------------------------------------------------------


def replace_files(source: Any, cert: Path, key: Path, moment: float) -> None:
    for new, place in ((source.cert, cert), (source.key, key)):
        shutil.copy(new, place)
        os.utime(place, (moment, moment))


async def test_a_rotated_certificate_is_served_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    replace_files(authority.issue("first"), cert, key, time.time() - 100)
    clock = VirtualClock(time.time())
    tls = {"cert": "cert.pem", "key": "key.pem"}
    port = free_port()
    services = FakeServices(folder=tmp_path, listeners={"default": make_listener(f"127.0.0.1:{port}", tls=tls)})
    made = options_of(SOURCE, http="POST /orders")
    context = make_context(services, clock=clock)
    async with services, SOURCE.open(made, context) as source, running(source, FakeAccept()):
        await eventually(lambda: services.healths)
        before = await serial(port, authority)
        replace_files(authority.issue("second", end=10 * 86_400), cert, key, time.time())
        clock.advance(2)
        after = await serial(port, authority)
        assert before != after
        cert.write_text("broken")
        clock.advance(2)
        assert await serial(port, authority) == after
        clock.advance(3600)
        await eventually(lambda: services.healths[-1][1] == "degraded")
        assert "expires on" in services.healths[-1][2] or "old one goes on" in services.healths[-1][2]
        ours = ssl.create_default_context(cafile=str(authority.cert))
        url = f"https://127.0.0.1:{port}/orders"
        async with aiohttp.ClientSession() as client, client.post(url, data=b"1", ssl=ours) as said:
            assert said.status == 202


async def serial(port: int, authority: Authority) -> str:
    """The serial number of the certificate that is served there now."""
    context = ssl.create_default_context(cafile=str(authority.cert))
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    number: str = writer.get_extra_info("peercert")["serialNumber"]
    writer.close()
    await writer.wait_closed()
    return number


def test_a_certificate_is_called_expiring_thirty_days_before(authority: Authority) -> None:
    pair = authority.issue("soon", end=40 * 86_400)
    clock = VirtualClock(time.time())
    tls = ServerTls(pair.cert, pair.key, None, clock)
    assert tls.warning() == ""
    clock.advance(11 * 86_400)
    assert "expires on" in tls.warning()
    clock.advance(40 * 86_400)
    assert "expired on" in tls.warning()


def test_the_end_of_a_certificate_is_read_from_its_bytes(authority: Authority) -> None:
    pair = authority.issue("near", end=1000)
    assert not_after(pair.cert.read_text()) == pytest.approx(time.time() + 1000, abs=5)
    far = authority.issue("far", end=40 * 365 * 86_400)
    assert not_after(far.cert.read_text()) == pytest.approx(time.time() + 40 * 365 * 86_400, abs=5)
    for text in ("", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(OSError, match="certificate"):
            not_after(text)


async def test_a_listener_without_its_certificate_is_down_with_the_reason(tmp_path: Path) -> None:
    tls = {"cert": "gone.pem", "key": "gone.key"}
    services = FakeServices(folder=tmp_path, listeners={"default": make_listener(tls=tls)})
    context = make_context(services, clock=VirtualClock())
    made = options_of(SOURCE, http="POST /x")
    async with services, SOURCE.open(made, context) as source, running(source, FakeAccept()):
        await eventually(lambda: services.healths)
        assert services.healths[0][1] == "down"


async def test_a_listener_may_ask_for_client_certificates(authority: Authority, tmp_path: Path) -> None:
    own = authority.issue("listener")
    ours = authority.issue("client", "client.local")
    tls = {"cert": str(own.cert), "key": str(own.key), "client_ca": str(authority.cert)}
    port = free_port()
    services = FakeServices(listeners={"default": make_listener(f"127.0.0.1:{port}", tls=tls)})
    made = options_of(SOURCE, http="POST /orders")
    async with services, SOURCE.open(made, make_context(services)) as source, running(source, FakeAccept()):
        await eventually(lambda: services.healths)
        url = f"https://127.0.0.1:{port}/orders"
        known = Settings(ca=str(authority.cert), cert=str(ours.cert), key=str(ours.key))
        assert await post(url, known) == 202
        with pytest.raises((Unavailable, MaybeSent)):
            await post(url, Settings(ca=str(authority.cert)))
