"""The fixtures that esb brings for pytest, as the author of a plugin uses them."""

from __future__ import annotations

from typing import Any

import pytest

from esb import Invalid

TABLE = """
esb = 1
[defaults]
owner = "tests@example.org"
[retry.patient]
transient = { first = "1m", factor = 1 }
[target.out]
memory = "out"
[route.all]
from = { http = "POST /all" }
to = ["out"]
"""
SHOP = """
[target.shop]
http = "POST {peer}/in"
id_header = "Idempotency-Key"
retry = "patient"
[route.shop]
from = { http = "POST /shop" }
to = ["shop"]
"""


@pytest.mark.esb(TABLE)
def test_a_message_goes_to_a_double_and_minutes_of_retries_take_no_time(
    bus: Any, send: Any, targets: Any, clock: Any
) -> None:
    targets["out"].answer("503", "503", "ok")
    began = clock.now()
    accepted = send("all", "hello")
    assert targets["out"].bodies == []
    bus.advance(300)
    assert [item.id for item in targets["out"].taken] == [f"{accepted.id}.out"]
    assert targets["out"].taken[0].attempt == 3
    assert clock.now() == began + 300
    assert bus.balanced


@pytest.mark.esb(TABLE.replace('to = ["out"]', 'do = [{ read = "json", bad = "reply 422" }]\nto = ["out"]'))
def test_what_the_bus_refuses_is_raised(send: Any, targets: Any) -> None:
    with pytest.raises(Invalid):
        send("all", "{")
    with pytest.raises(KeyError):
        send("nowhere", "{}")
    assert targets["out"].received == []


def test_a_peer_answers_as_it_is_told(peer: Any, request: pytest.FixtureRequest) -> None:
    table = TABLE + SHOP.replace("{peer}", peer.url)
    request.node.add_marker(pytest.mark.esb(table, real=["shop"]))
    bus = request.getfixturevalue("bus")
    peer.answer(503)
    accepted = bus.send("shop", "an order")
    assert [call.headers["idempotency-key"] for call in peer.calls] == [f"{accepted.id}.shop"]
    bus.advance(120)
    assert [(call.method, call.path, call.body) for call in peer.calls] == [("POST", "/in", b"an order")] * 2
    assert bus.balanced


def test_a_test_without_a_table_is_told_so(request: pytest.FixtureRequest) -> None:
    with pytest.raises(pytest.UsageError, match="name the table"):
        request.getfixturevalue("bus")
