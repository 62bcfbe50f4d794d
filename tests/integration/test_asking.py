"""What a person asks of a bus: wrong names are told with the right ones, and `tail` follows what comes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_bus import CommandBus, until
from house_process import ESB

TABLE = """
esb = 1
[bus]
name = "asking"
plugins = "mine"
[defaults]
owner = "tests@example.org"
[target.out]
memory = "out"
[route.orders]
from = { memory = "asking" }
do = [{ read = "json" }, { slips = "x" }, { write = "json" }]
to = ["out"]
"""
SLIPS = """
from collections.abc import Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct

from esb import Component, Message, hook


class Options(Struct, forbid_unknown_fields=True, kw_only=True):
    slips: str


class Slips:
    def apply(self, message: Message) -> Sequence[Message]:
        message.body["left"] / message.body["right"]
        return [message]


@asynccontextmanager
async def open_slips(options: Options, context: Any) -> Any:
    yield Slips()


@hook
def esb_steps() -> Iterable[Component[Any]]:
    return [
        Component(
            kind="step", name="slips", about="Divides", options=Options, main="slips", open=open_slips,
            example="do = [{ slips = 'x' }]",
        )
    ]
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandBus]:
    folder = tmp_path_factory.mktemp("asking")
    (folder / "mine").mkdir()
    (folder / "mine" / "slips.py").write_text(SLIPS)
    shop = CommandBus(folder, TABLE)
    with shop.running():
        yield shop


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("pause", "route", "ordrs", "--reason", "x"), 'did you mean "orders"?'),
        (("resume", "target", "outt"), 'did you mean "out"?'),
        (("probe", "outt"), 'did you mean "out"?'),
        (("now", "nothing-like-it"), "it is one of out"),
        (("messages", "--route", "ordrs"), 'did you mean "orders"?'),
        (("messages", "--state", "quarantine"), 'did you mean "quarantined"?'),
        (("messages", "--since", "yesterday"), "is no time"),
        (("waiting", "--target", "outt"), 'did you mean "out"?'),
        (("send", "ordrs", "routes.toml"), 'did you mean "orders"?'),
    ],
)
def test_a_name_that_is_none_ends_with_2_and_the_one_that_is_meant(
    shop: CommandBus, words: tuple[str, ...], hint: str
) -> None:
    said = shop.call(*[str(shop.folder / word) if word == "routes.toml" else word for word in words])
    assert said.exit_code == 2, said.output
    assert hint in said.output


def test_tail_begins_with_the_newest_and_follows_what_comes_until_the_bus_stops(tmp_path: Path) -> None:
    shop = CommandBus(tmp_path, TABLE.replace('plugins = "mine"\n', "").replace('{ slips = "x" }, ', ""))
    with shop.running():
        first = [shop.accepted("orders", f'{{"n": {number}}}') for number in range(12)]
        assert [row.split("\t")[1] for row in shop.call("tail", "--count", "2").stdout.splitlines()] == first[-2:]
        command = [*ESB, "tail", "--json", "--every", "0.05", "-f", str(tmp_path / "routes.toml")]
        with (tmp_path / "tail").open("wb") as out:
            following = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        until(lambda: len((tmp_path / "tail").read_text().splitlines()) >= 10)
        last = shop.accepted("orders", '{"n": 12}')
        until(lambda: last in (tmp_path / "tail").read_text())
    assert following.wait(20) == 3, "a bus that has stopped says nothing any more"
    told = [json.loads(line)["messages"][0]["id"] for line in (tmp_path / "tail").read_text().splitlines()]
    assert list(dict.fromkeys(told)) == [*first[-10:], last]


def test_a_mistake_in_a_step_leaves_its_trace_in_the_log_once(shop: CommandBus) -> None:
    log = shop.folder / "run.log"
    for _ in range(2):
        assert shop.post("orders", '{"left": 1, "right": 0}').exit_code == 0
    until(lambda: log.read_text().count("step slips failed in its own code") == 2)
    assert log.read_text().count("ZeroDivisionError") == 1
    assert 'message.body["left"] / message.body["right"]' in log.read_text()
