"""`esb dead`, `esb parked`, `esb quarantine` as a person types them at a running bus and at a stopped one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from command_bus import CommandBus, until

TABLE = """
esb = 1
[bus]
name = "held"
[defaults]
owner = "tests@example.org"
[target.strict]
file = "strict"
name = "{header.name}"
[route.orders]
from = { memory = "held-orders" }
do = [{ read = "json" }, { set = { "body.total" = "body.total * 2" } }, { write = "json" }]
to = ["strict"]
[route.checked]
from = { memory = "held-checked" }
do = [{ read = "json" }, { set = { "body.total" = "body.total * 2" } }, { check = "order@1" }, { write = "json" }]
to = ["strict"]
"""
CONTRACT = '{"type": "object", "properties": {"total": {"type": "integer", "maximum": 10}}}'


class Shop(CommandBus):
    """A bus in a folder, and the command line in front of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, TABLE)
        (folder / "contracts").mkdir()
        (folder / "contracts" / "order@1.json").write_text(CONTRACT)
        (folder / "strict").mkdir()
        (folder / "strict" / "taken").write_text("here already")

    def send(self, route: str, body: str) -> str:
        return self.accepted(route, body, "-H", "name=taken")

    def dead(self, *bodies: str) -> list[str]:
        """Sends each, to a target that refuses it; gives their ids when all are dead."""
        names = [f"{self.send('orders', body)}.strict" for body in bodies]
        until(lambda: {item["id"] for item in self.json("dead", "list")["deliveries"]} >= set(names))
        return names


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    with made.running():
        yield made


def test_a_dead_delivery_is_shown_with_all_that_is_known_of_it(shop: Shop) -> None:
    (name,) = shop.dead('{"total": 2}')
    (shown,) = shop.json("dead", "show", name)["letters"]
    assert shown["original"] == {"text": '{"total": 2}', "size": 12}
    assert shown["failing"]["text"] == '{"total":4}'
    assert (shown["step"], shown["class"], shown["code"], shown["place"]) == (
        "deliver", "permanent", "D471", "target.strict"
    )  # fmt: skip
    assert shown["table"] == shop.json("status")["hash"]
    assert [item["n"] for item in shown["history"]] == [1]
    assert "there already" in shown["history"][0]["said"]["text"]
    assert f"esb dead edit {name} FILE" in shown["next"]
    assert (shown["edited"], shown["note"]) == (None, "")
    text = shop.call("dead", "show", name)
    for words in (
        '{"total": 2}', '{"total":4}', "step: deliver, class: permanent, D471 at target.strict", shown["table"][:12],
        "  1. ", f"next: the target refused it: mend it with esb dead edit {name} FILE, then esb dead release {name}",
    ):  # fmt: skip
        assert words in text.output


def test_an_edit_is_noted_and_keeps_the_original(shop: Shop, tmp_path: Path) -> None:
    (name,) = shop.dead('{"total": 2}')
    (tmp_path / "mended.json").write_text('{"total": 5}')
    said = shop.call("dead", "edit", name, str(tmp_path / "mended.json"), "--reason", "a slip")
    assert (said.exit_code, said.stdout) == (0, "1 edited\n")
    (shown,) = shop.json("dead", "show", name)["letters"]
    assert shown["original"]["text"] == '{"total": 2}'
    assert shown["failing"]["text"] == '{"total":4}', "it was not tried with the edited bytes yet"
    assert shown["edited"]["text"] == '{"total": 5}'
    assert shown["note"].startswith("edited 20")
    assert "(a slip): the edited bytes go out; the original is kept" in shown["note"]
    assert "note: edited 20" in shop.call("dead", "show", name).stdout
    assert shop.call("dead", "release", name).exit_code == 0
    until(lambda: [item["id"] for item in shop.json("dead", "list")["deliveries"]] == [name])
    (again,) = shop.json("dead", "show", name)["letters"]
    assert again["failing"]["text"] == '{"total": 5}', "what the target refused this time"


def test_a_quarantined_message_shows_what_it_was_at_the_step_that_failed_r20(shop: Shop) -> None:
    name = shop.send("checked", '{"total": 7}')
    (shown,) = shop.json("quarantine", "show", name)["letters"]
    assert (shown["step"], shown["class"], shown["code"]) == ("check", "invalid", "M231")
    assert shown["original"]["text"] == '{"total": 7}'
    assert json.loads(shown["failing"]["text"]) == {"total": 14}
    assert shown["errors"][0]["place"] == "body.total"
    assert shown["next"].startswith(f"esb quarantine edit {name} FILE")
    broken = shop.send("checked", "{")
    (shown,) = shop.json("quarantine", "show", broken)["letters"]
    assert (shown["step"], shown["class"], shown["failing"]["text"]) == ("read", "decode", "{")


def test_list_show_and_export_take_one_a_group_a_time_range_or_all(shop: Shop, tmp_path: Path) -> None:
    names = shop.dead('{"total": 1}', '{"total": 2}')
    time.sleep(0.02)
    middle = datetime.now(UTC).isoformat()
    names += shop.dead('{"total": 3}')
    (group,) = shop.json("dead", "list")["groups"]
    ranges = {
        ("--group", group["group"]): names,
        ("--since", middle): names[2:],
        ("--until", middle): names[:2],
        ("--all",): names,
        tuple(names[1:]): names[1:],
    }
    for which, expected in ranges.items():
        assert [item["id"] for item in shop.json("dead", "list", *which)["deliveries"]] == expected, which
        assert [item["id"] for item in shop.json("dead", "show", *which)["letters"]] == expected, which
        folder = tmp_path / f"out{len(which)}{'-'.join(which)[:8]}"
        said = shop.call("dead", "export", *which, "-o", str(folder))
        assert said.exit_code == 0, said.output
        assert sorted(path.name for path in folder.iterdir()) == sorted(expected)
    assert (folder / names[2]).read_text() == '{"total": 3}'
    lines = shop.call("dead", "export", "--all", "--json").stdout.splitlines()
    assert [json.loads(line)["original"]["text"] for line in lines] == [f'{{"total": {n}}}' for n in (1, 2, 3)]
    assert shop.json("dead", "list", "--since", "2100-01-01")["groups"] == []
    assert shop.call("dead", "list", "--until", "2000-01-01", "--fail-if-any").exit_code == 0


def test_one_is_exported_to_standard_output_in_the_form_that_is_asked_for(shop: Shop) -> None:
    (name,) = shop.dead('{"total": 2}')
    assert shop.call("dead", "export", name).stdout == '{"total": 2}'
    assert shop.call("dead", "export", name, "--as", "failing").stdout == '{"total":4}'
    assert shop.call("dead", "export", name, "--as", "release").stdout == '{"total":4}'
    quarantined = shop.send("checked", '{"total": 7}')
    assert shop.call("quarantine", "export", quarantined, "--as", "release").stdout == '{"total": 7}'


def test_a_group_is_edited_from_the_folder_it_was_exported_to(shop: Shop, tmp_path: Path) -> None:
    names = shop.dead('{"total": 1}', '{"total": 2}', '{"total": 3}')
    folder = tmp_path / "held"
    group = shop.json("dead", "list")["groups"][0]["group"]
    assert shop.call("dead", "export", "--group", group, "--as", "release", "-o", str(folder)).exit_code == 0
    (folder / names[0]).write_text('{"total":20}')
    (folder / names[2]).unlink()
    answer = shop.json("dead", "edit", "--group", group, str(folder))
    assert {name: answer[name] for name in ("edited", "unchanged", "absent")} == {
        "edited": 1, "unchanged": 1, "absent": 1
    }  # fmt: skip
    assert [item["edited"] is not None for item in shop.json("dead", "show", *names)["letters"]] == [True, False, False]
    file = tmp_path / "one.json"
    file.write_text("{}")
    assert shop.call("dead", "edit", "--group", group, str(file)).exit_code == 2


def test_replay_and_discard_take_a_time_range(shop: Shop) -> None:
    names = shop.dead('{"total": 1}')
    time.sleep(0.02)
    middle = datetime.now(UTC).isoformat()
    names += shop.dead('{"total": 2}')
    assert shop.json("dead", "discard", "--until", middle, "--reason", "old")["discarded"] == 1
    assert [item["id"] for item in shop.json("dead", "list")["deliveries"]] == names[1:]
    (shop.folder / "strict" / "taken").unlink()
    assert shop.json("dead", "replay", "--since", middle)["released"] == 1
    until(lambda: shop.json("dead", "list")["groups"] == [])
    assert (shop.folder / "strict" / "taken").read_text() == '{"total":4}'


def test_nothing_chosen_is_a_slip_and_nothing_found_is_1(shop: Shop) -> None:
    for words in (["show"], ["export"], ["edit", str(shop.folder / "routes.toml")]):
        said = shop.call("dead", *words)
        assert (said.exit_code, "say which" in said.output) == (2, True), words
    assert shop.call("dead", "export", "--all").exit_code == 2
    assert shop.call("dead", "show", "no-such-id").exit_code == 1
    assert shop.call("dead", "show", "--all").exit_code == 1


def test_a_stopped_bus_shows_its_dead_from_the_store(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    with shop.running():
        (name,) = shop.dead('{"total": 2}')
        quarantined = shop.send("checked", '{"total": 7}')
    (shown,) = shop.json("dead", "show", name)["letters"]
    assert (shown["original"]["text"], shown["failing"]["text"]) == ('{"total": 2}', '{"total":4}')
    (shown,) = shop.json("quarantine", "show", quarantined)["letters"]
    assert (shown["step"], shown["failing"]) == ("check", None)
    said = shop.call("quarantine", "export", quarantined, "--as", "failing")
    assert (said.exit_code, "the bus must run" in said.output) == (1, True)


def test_a_long_body_is_cut_unless_the_whole_is_asked_for(shop: Shop) -> None:
    long = json.dumps({"total": 1, "text": "x" * 9000})
    (name,) = shop.dead(long)
    (shown,) = shop.json("dead", "show", name)["letters"]
    assert (len(shown["original"]["text"]), shown["original"]["cut"], shown["original"]["size"]) == (
        4000, True, len(long)
    )  # fmt: skip
    (shown,) = shop.json("dead", "show", name, "--body")["letters"]
    assert shown["original"]["text"] == long
    assert shop.call("dead", "export", name).stdout == long
