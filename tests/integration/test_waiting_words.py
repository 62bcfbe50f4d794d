"""`esb waiting` and `esb messages show` say in words why something waits, since when, until when, and what to do."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from command_bus import CommandBus, until
from house_process import free_port

TABLE = """
esb = 1
[bus]
name = "waiting"
[defaults]
owner = "tests@example.org"
[target.away]
http = "POST http://127.0.0.1:{port}/"
id_header = "Idempotency-Key"
order_by = "{{header.machine}}"
[target.shut]
memory = "shut"
off = "moved to another hall"
[target.held]
memory = "held"
[target.strict]
file = "strict"
name = "taken"
[route.away]
from = {{ memory = "waiting-away" }}
to = ["away"]
[route.shut]
from = {{ memory = "waiting-shut" }}
to = ["shut"]
[route.held]
from = {{ memory = "waiting-held" }}
to = ["held"]
[route.strict]
from = {{ memory = "waiting-strict" }}
to = ["strict"]
"""


class Hall(CommandBus):
    """A bus in a folder, and the command line in front of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, TABLE.format(port=free_port()))
        (folder / "strict").mkdir()
        (folder / "strict" / "taken").touch()

    def send(self, route: str) -> str:
        return self.accepted(route, "x", "-H", "machine=M1")

    def waits(self, target: str) -> list[Any]:
        return [item["waits"] for item in self.json("waiting", "--target", target)["deliveries"]]

    def tried(self, target: str) -> bool:
        return any(item["attempts"] for item in self.json("waiting", "--target", target)["deliveries"])


@pytest.fixture
def hall(tmp_path: Path) -> Hall:
    return Hall(tmp_path)


def test_a_retry_says_what_failed_until_when_it_waits_and_how_to_try_now(hall: Hall) -> None:
    with hall.running():
        name = hall.send("away")
        until(lambda: hall.tried("away"))
        (waits,) = hall.waits("away")
        assert "(transient D411, " in waits["why"]
        assert "onnect" in waits["why"], "the words of the failure, not its code alone"
        assert waits["do"] == "esb waiting now away tries at once; esb probe away tells whether it answers"
        assert datetime.fromisoformat(waits["since"]) <= datetime.now(UTC)
        text = hall.call("waiting").stdout
        assert waits["why"].partition(" (")[0] in text
        assert "esb waiting now away tries at once" in text
        shown = hall.call("messages", "show", name).stdout
        assert "     waits: " in shown
        assert "; to do: esb waiting now away tries at once" in shown
        (group,) = hall.json("waiting", "--target", "away")["groups"]
        assert group["why"].partition(" (")[0] == waits["why"].partition(" (")[0]


def test_one_behind_another_of_its_key_names_it_r14(hall: Hall) -> None:
    with hall.running():
        first = hall.send("away")
        until(lambda: hall.tried("away"))
        hall.send("away")
        waits = hall.waits("away")[1]
        assert waits["why"] == f"it stands behind {first}.away, which is due, in the line of its key M1"
        assert waits["do"] == f"esb messages show {first}.away"
        assert hall.call("messages", "show", f"{first}.away").exit_code == 0


def test_a_pause_and_an_off_target_are_told_with_their_reason_and_since_when(hall: Hall) -> None:
    with hall.running():
        before = datetime.now(UTC)
        end = "2100-01-01T00:00:00+00:00"
        assert hall.call("pause", "target", "held", "--reason", "stocktaking", "--until", end).exit_code == 0
        hall.send("held")
        hall.send("shut")
        (held,) = hall.waits("held")
        assert (held["why"], held["do"]) == ("paused: stocktaking", "esb resume target held")
        assert abs((datetime.fromisoformat(held["since"]) - before).total_seconds()) < 10
        assert datetime.fromisoformat(held["until"]) == datetime.fromisoformat(end)
        (shut,) = hall.waits("shut")
        assert shut["why"] == "the target is off in the table: moved to another hall"
        assert shut["do"] == "take off out of [target.shut], then restart the bus"
        text = hall.call("waiting").stdout
        assert "paused: stocktaking" in text
        assert "moved to another hall" in text


def test_a_stopped_bus_tells_that_it_is_stopped_and_what_failed_before(hall: Hall) -> None:
    with hall.running():
        hall.send("away")
        until(lambda: hall.tried("away"))
        assert hall.call("pause", "target", "held", "--reason", "stocktaking").exit_code == 0
        hall.send("held")
    assert "(transient D411" in hall.waits("away")[0]["why"]
    assert hall.waits("held")[0]["why"] == "paused: stocktaking"


def test_a_dead_one_says_in_its_line_what_to_do(hall: Hall) -> None:
    with hall.running():
        name = hall.send("strict")
        until(lambda: bool(hall.json("dead", "list")["groups"]))
        (row,) = hall.json("messages", "show", name)["deliveries"]
        assert row["waits"]["why"].startswith("dead: ")
        assert f"esb dead edit {name}.strict FILE" in row["waits"]["do"]
