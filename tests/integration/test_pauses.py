"""What is paused stays so over a restart, ends when its time is up, and says so to whoever sends or looks."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from command_bus import CommandBus, until
from house_process import free_port

TABLE = """
esb = 1
[bus]
name = "pauses"
http = "127.0.0.1:{port}"
[defaults]
owner = "tests@example.org"
[target.out]
file = "out"
name = "{{message.id}}"
[route.orders]
from = {{ http = "POST /orders" }}
to = ["out", "route:copies"]
{more}
[route.copies]
from = {{ route = true }}
to = ["out"]
"""


class Shop(CommandBus):
    """A bus whose only http route may be paused in the table."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.port = free_port()
        super().__init__(folder, TABLE.format(port=self.port, more=more))

    def sent(self) -> tuple[int, str | None]:
        """The status of a POST, and its Retry-After."""
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}/orders", b"x", method="POST")
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                return answer.status, None
        except urllib.error.HTTPError as refused:
            return refused.code, refused.headers["Retry-After"]

    def state(self, kind: str, name: str) -> Any:
        return next(item for item in self.json("status")[f"{kind}s"] if item["name"] == name)["paused"]


def soon(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() + seconds, UTC).isoformat()


def test_a_route_that_is_paused_stays_so_over_a_restart_and_says_come_again(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    with shop.running():
        assert shop.sent()[0] == 202
        assert shop.call("pause", "route", "orders", "--reason", "wrong map").exit_code == 0
        until(lambda: shop.sent()[0] == 503)
    assert shop.state("route", "orders") == "wrong map"
    with shop.running():
        status, again = shop.sent()
        assert (status, again is not None) == (503, True)
        assert shop.state("route", "orders") == "wrong map"
        assert shop.call("resume", "route", "orders").exit_code == 0
        until(lambda: shop.sent()[0] == 202)
        assert shop.state("route", "orders") == ""
    with shop.running():
        assert shop.sent()[0] == 202


def test_a_route_paused_until_a_time_goes_on_by_itself_also_when_that_passed_while_the_bus_was_down(
    tmp_path: Path,
) -> None:
    shop = Shop(tmp_path)
    with shop.running():
        assert shop.call("pause", "route", "orders", "--reason", "short", "--until", soon(1.5)).exit_code == 0
        until(lambda: shop.sent()[0] == 503)
        until(lambda: shop.sent()[0] == 202)
        assert shop.state("route", "orders") == ""
        assert shop.call("pause", "route", "orders", "--reason", "short", "--until", soon(0.5)).exit_code == 0
    time.sleep(0.5)
    with shop.running():
        until(lambda: shop.sent()[0] == 202)


def test_a_target_paused_until_a_time_is_shown_as_paused_no_longer(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    with shop.running():
        assert shop.call("pause", "target", "out", "--reason", "short", "--until", soon(1)).exit_code == 0
        assert shop.sent()[0] == 202
        until(lambda: len(list(tmp_path.glob("out/*"))) == 2)
        until(lambda: shop.state("target", "out") == "")
    assert shop.state("target", "out") == ""


def test_a_route_that_the_table_pauses_answers_503_and_a_person_lets_it_go_on(tmp_path: Path) -> None:
    shop = Shop(tmp_path, 'paused = "not yet"')
    with shop.running():
        until(lambda: shop.sent()[0] == 503)
        assert shop.state("route", "orders") == "not yet"
        assert shop.call("resume", "route", "orders").exit_code == 0
        until(lambda: shop.sent()[0] == 202)
        assert shop.state("route", "orders") == ""


def test_what_is_off_in_the_table_is_not_resumed_and_a_route_without_a_source_is_not_paused(tmp_path: Path) -> None:
    shop = Shop(tmp_path, 'off = "closed for good"')
    with shop.running():
        until(lambda: shop.sent()[0] == 503)
        said = shop.call("resume", "route", "orders")
        assert said.exit_code != 0
        assert "off in the table (closed for good)" in said.output
        assert shop.sent()[0] == 503
        said = shop.call("pause", "route", "copies", "--reason", "x")
        assert said.exit_code != 0
        assert "no source of its own" in said.output
