"""The control bus of a real process: its socket, its document, its figures and its page."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import async_playwright

from esb.admin.api import Api
from esb.admin.doors import DOORS, document
from esb.admin.metrics import Metrics
from esb.bus import Bus, open_bus
from esb.plugins import load_plugins
from esb.table.load import load

TABLE = """
esb = 1
[bus]
name = "plant-1"
[defaults]
owner = "tests@example.org"
[target.out]
file = "out"
name = "{message.id}"
[target.strict]
file = "strict"
name = "{header.name}"
[route.orders]
about = "<b>orders</b>"
from = { memory = "admin-test" }
do = [{ read = "json" }]
keys = { order = "{body.id}" }
cases = [
  { name = "strict", when = 'body.kind == "strict"', to = ["strict"] },
  { name = "known", when = 'body.kind == "known"', to = ["out"] },
]
"""

NAUGHTY = """<img src=x onerror=alert(1)><svg onload=alert(1)> '"><script>alert(2)</script> {{ 7 * 7 }} ثم نفس"""


class Served:
    """An API of a bus in this process, over TCP with a key."""

    def __init__(self, bus: Bus, session: aiohttp.ClientSession, base: str) -> None:
        self.bus = bus
        self.base = base
        self._session = session

    async def get(self, path: str, **headers: str) -> tuple[int, Any, Any]:
        async with self._session.get(self.base + path, headers=headers) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text.startswith("{") else text, answer.headers

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        async with self._session.post(self.base + path, json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def send(self, body: str, headers: dict[str, str] | None = None) -> str:
        data = base64.b64encode(body.encode()).decode()
        status, said = await self.post("/inject", {"route": "orders", "body": data, "headers": headers or {}})
        assert status == 200, said
        return str(said["id"])


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    (tmp_path / "routes.toml").write_text(TABLE)
    registry = load_plugins()
    table = load(tmp_path / "routes.toml", registry)
    metrics = Metrics()
    async with open_bus(table, registry, counters=metrics, durable=False) as bus:
        api = Api(bus, metrics, key="k" * 32, hosts=frozenset({"127.0.0.1"}))
        runner = web.AppRunner(api.application(), access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {'k' * 32}"}) as session:
            yield Served(bus, session, f"http://127.0.0.1:{port}")
        await runner.cleanup()


async def until(served: Served, path: str, seen: Any) -> Any:
    for _ in range(500):
        _, said, _ = await served.get(path)
        if seen(said):
            return said
        await asyncio.sleep(0.01)
    raise AssertionError(said)


async def test_a_message_can_be_found_by_its_key_and_its_journey_told(served: Served) -> None:
    name = await served.send('{"id": "4711", "kind": "known"}')
    await until(served, "/status", lambda said: said["targets"][0]["delivered"] == 1)
    _, found, _ = await served.get("/messages?key=order=4711")
    assert [item["id"] for item in found["messages"]] == [name]
    _, found, _ = await served.get("/messages?key=4711")
    assert [item["id"] for item in found["messages"]] == [name]
    _, found, _ = await served.get("/messages?key=customer=4711")
    assert found["messages"] == []
    _, journey, _ = await served.get(f"/messages/{name}?body=1")
    assert journey["trace"]["cases"] == ["known"]
    assert journey["body"]["text"] == '{"id": "4711", "kind": "known"}'
    assert journey["deliveries"][0]["state"] == "delivered"


async def test_a_dead_letter_is_listed_edited_released_and_the_books_balance_r19(served: Served) -> None:
    (served.bus.table.folder / "strict").mkdir()
    (served.bus.table.folder / "strict" / "taken").write_text("here already")
    name = await served.send('{"id": "1", "kind": "strict"}', {"name": "taken"})
    dead = await until(served, "/held/dead", lambda said: said["groups"])
    assert dead["groups"][0]["count"] == 1
    delivery = dead["deliveries"][0]["id"]
    assert delivery == f"{name}.strict"
    _, said, _ = await served.get("/account")
    assert said["balanced"]
    (served.bus.table.folder / "strict" / "taken").unlink()
    body = base64.b64encode(b"mended").decode()
    status, _ = await served.post("/held/dead/edit", {"id": delivery, "body": body})
    assert status == 200
    status, said = await served.post("/held/dead/release", {"ids": [delivery]})
    assert (status, said["released"]) == (200, 1)
    await until(served, "/held/dead", lambda said: not said["groups"])
    await until(served, "/status", lambda said: said["targets"][1]["delivered"] == 1)
    assert (served.bus.table.folder / "strict" / "taken").read_text() == "mended"
    _, journey, _ = await served.get(f"/messages/{name}?body=1")
    assert journey["body"]["text"] == '{"id": "1", "kind": "strict"}'
    _, said, _ = await served.get("/account")
    assert said["balanced"]
    _, actions, _ = await served.get("/actions")
    assert {"edit", "release"} <= {item["what"] for item in actions["actions"]}


async def test_a_replay_of_what_was_replayed_before_is_one_more_delivery(served: Served) -> None:
    name = await served.send('{"id": "5", "kind": "known"}')
    for delivered in (1, 2, 3, 4):
        await until(served, "/status", lambda said, n=delivered: said["targets"][0]["delivered"] == n)
        if delivered < 4:
            _, said = await served.post("/held/dead/release", {"ids": [name], "delivered": True})
            assert said["released"] == 1
    _, said, _ = await served.get("/account")
    assert said["balanced"]


async def test_a_release_keeps_the_attempts_before_it(served: Served) -> None:
    (served.bus.table.folder / "strict").mkdir()
    (served.bus.table.folder / "strict" / "taken").write_text("here already")
    name = await served.send('{"id": "1", "kind": "strict"}', {"name": "taken"})
    for tries in (1, 2):
        await until(served, "/held/dead", lambda said: said["groups"])
        _, journey, _ = await served.get(f"/messages/{name}")
        assert [item["n"] for item in journey["deliveries"][0]["history"]] == list(range(1, tries + 1))
        await served.post("/held/dead/release", {"ids": [f"{name}.strict"]})


async def test_an_unmatched_message_waits_and_a_discard_needs_its_reason(served: Served) -> None:
    name = await served.send('{"id": "2", "kind": "nobody knows"}')
    _, parked, _ = await served.get("/held/parked")
    assert [item["id"] for item in parked["messages"]] == [name]
    status, _ = await served.post("/held/parked/discard", {"ids": [name]})
    assert status == 400
    status, said = await served.post("/held/parked/discard", {"ids": [name], "reason": "a test"})
    assert (status, said["discarded"]) == (200, 1)
    _, journey, _ = await served.get(f"/messages/{name}")
    assert (journey["state"], journey["reason"]) == ("dropped", "discarded: a test")


async def test_a_pause_holds_deliveries_until_it_is_ended(served: Served) -> None:
    status, _ = await served.post("/pause", {"scope": "target", "name": "out", "reason": "maintenance"})
    assert status == 200
    await served.send('{"id": "3", "kind": "known"}')
    said = await until(served, "/status", lambda said: said["targets"][0]["waiting"] == 1)
    assert said["targets"][0]["paused"] == "maintenance"
    await served.post("/resume", {"scope": "target", "name": "out"})
    await until(served, "/status", lambda said: said["targets"][0]["delivered"] == 1)


async def test_without_the_key_from_another_host_or_as_a_form_nothing_is_answered(served: Served) -> None:
    status, said, _ = await served.get("/status", Authorization="Bearer wrong")
    assert (status, said["code"]) == (401, "C401")
    status, _, _ = await served.get("/status", Host="evil.example")
    assert status == 421
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {'k' * 32}"}) as session,
        session.post(served.base + "/drain", data={"a": "b"}) as answer,
    ):
        assert answer.status == 415


async def test_metrics_count_by_route_and_target(served: Served) -> None:
    await served.send('{"id": "9", "kind": "known"}')
    await until(served, "/status", lambda said: said["targets"][0]["delivered"] == 1)
    _, text, _ = await served.get("/metrics")
    assert 'esb_accepted_total{route="orders"} 1.0' in text
    assert 'esb_delivered_total{route="orders",target="out"} 1.0' in text
    assert "esb_outbox_depth" in text


async def test_every_door_is_in_the_document_and_answers_nonsense_with_a_problem(served: Served) -> None:
    _, found, _ = await served.get("/openapi.json")
    assert found["paths"].keys() == {door.path for door in DOORS}
    for door in DOORS:
        path = door.path.replace("{id}", "no-such-id").replace("{kind}", "nothing")
        if door.method == "POST":
            status, said = await served.post(path, {"no such": 1})
            assert status in (400, 404), (door.path, said)
            assert said["code"].startswith("C")
    assert document("x", "1")["openapi"] == "3.1.0"


async def test_the_page_is_readable_without_javascript_and_escapes_what_senders_wrote(
    served: Served, tmp_path: Path
) -> None:
    await served.send('{"id": "5", "kind": "<script>alert(1)</script>"}')
    status, _ = await served.post("/pause", {"scope": "target", "name": "out", "reason": NAUGHTY})
    assert status == 200
    async with async_playwright() as playwright:
        options = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=[*options.split(), "--disable-component-update", "--disable-sync"],
        )
        headers = {"Authorization": f"Bearer {'k' * 32}"}
        context = await browser.new_context(java_script_enabled=False, extra_http_headers=headers)
        page = await context.new_page()
        await page.goto(served.base + "/")
        text = await page.inner_text("body")
        foreign = await page.locator("script, img, iframe, svg, a[href^=javascript]").count()
        await browser.close()
    assert "plant-1" in text
    assert "<b>orders</b>" in text
    assert "The books balance." in text
    assert NAUGHTY in text
    assert foreign == 0


def test_the_socket_of_a_running_bus_is_its_own_user_s_alone(tmp_path: Path) -> None:
    from house_process import House

    (tmp_path / "routes.toml").write_text(TABLE)

    async def look() -> int:
        async with House(tmp_path).running():
            return stat.S_IMODE((tmp_path / "var" / "admin.sock").stat().st_mode)

    assert asyncio.run(look()) == 0o600
