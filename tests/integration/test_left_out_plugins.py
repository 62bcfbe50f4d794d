"""A plugin that cannot be had stops the routes that need it, and no other; what waits for it waits on (FAULTS 47, R11)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from command_bus import CommandBus, until

TABLE = """
esb = 1
[bus]
name = "left-out"
plugins = "adapters"
[defaults]
owner = "tests@example.org"
[target.out]
file = "out"
name = "{message.id}"
[target.office]
fax = "office.log"
[route.good]
from = { memory = "left-good" }
to = ["out"]
[route.letters]
from = { memory = "left-letters" }
to = ["office"]
[route.stamped]
from = [{ memory = "left-stamped" }, { route = true }]
do = [{ read = "json" }, { stamp = "seen" }, { write = "json" }]
to = ["out"]
[route.before]
from = { memory = "left-before" }
to = ["route:stamped"]
"""
FAX = """
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from esb import Component, Unavailable, hook


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    path: str


class Fax:
    def __init__(self, path):
        self._path = path

    async def deliver(self, delivery):
        if not self._path.exists():
            raise Unavailable("the line is dead")
        with self._path.open("ab") as file:
            file.write(delivery.id.encode() + b"\\n")


@asynccontextmanager
async def opened(options, context):
    yield Fax(context.folder / options.path)


@hook
def esb_targets():
    return [Component(kind="target", name="fax", about="", options=Options, main="path", open=opened, example="")]
"""
STAMP = """
from contextlib import nullcontext

from msgspec import Struct

from esb import Component, Invalid, hook


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    stamp: str


class Stamp:
    def __init__(self, word):
        self._word = word

    def apply(self, message):
        if "id" not in message.body:
            raise Invalid("no id")
        return (message.with_body({**message.body, self._word: True}),)


@hook
def esb_steps():
    return [
        Component(
            kind="step", name="stamp", about="", options=Options, main="stamp",
            open=lambda options, context: nullcontext(Stamp(options.stamp)), example="",
        )
    ]
"""
OTHER_API = FAX.replace('main="path",', 'main="path", api=2,')
NO_PACKAGE = "import no_such_package\n" + STAMP
WHY_FAX = 'the plugin fax was left out: E136 fax: "fax" is written for plugin API 2; this esb has 1'
WHY_STAMP = "the plugin marks was left out: E138 plugin marks cannot be loaded: ModuleNotFoundError"


class Office(CommandBus):
    """A bus with plugins in its folder, and the command line in front of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, TABLE)
        (folder / "adapters").mkdir(mode=0o755)
        self.write("fax", FAX)
        self.write("marks", STAMP)

    def write(self, name: str, text: str) -> None:
        path = self.folder / "adapters" / f"{name}.py"
        path.write_text(text)
        path.chmod(0o644)

    def send(self, route: str, body: str = '{"id": 1}') -> Result:
        return self.post(route, body)

    def target(self, name: str) -> Any:
        return next(item for item in self.json("status")["targets"] if item["name"] == name)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_a_refused_plugin_stops_the_routes_that_use_it_and_the_others_run_faults_47(office: Office) -> None:
    office.write("fax", OTHER_API)
    office.write("marks", NO_PACKAGE)
    with office.running() as house:
        assert office.send("good").exit_code == 0
        until(lambda: office.target("out")["delivered"] == 1)
        status = office.json("status")
        stopped = {item["name"]: item["stopped"] for item in status["routes"]}
        assert stopped["good"] == ""
        assert stopped["letters"] == WHY_FAX
        assert stopped["stamped"].startswith(WHY_STAMP)
        assert stopped["before"].startswith("it hands over to route stamped, which is stopped: ")
        problems = {item["component"]: item["reason"] for item in status["problems"]}
        assert problems["route.letters"] == f"stopped: {WHY_FAX}"
        assert problems["target.office"] == WHY_FAX
        assert office.target("office")["stopped"] == WHY_FAX
        assert f"! route.letters is down: stopped: {WHY_FAX}" in office.call("status").stdout
        assert f"route.letters is down: stopped: {WHY_FAX}" in house.tail()
        assert office.call("doctor").exit_code == 1
        refused = office.send("letters")
        assert (refused.exit_code, f"route letters is stopped: {WHY_FAX}" in refused.output) == (1, True)
        assert f"WARNING esb {WHY_FAX}" in house.tail(), "once by itself, whether it is used or not"
    assert office.json("account")["balanced"]
    assert f"route.letters\tstopped: {WHY_FAX}" in office.call("doctor").output


def test_the_check_names_the_refused_plugin_where_its_name_is_unknown(office: Office) -> None:
    office.write("fax", OTHER_API)
    office.write("marks", NO_PACKAGE)
    said = office.call("check")
    assert said.exit_code == 2
    assert 'E136 fax: "fax" is written for plugin API 2; this esb has 1' in said.output
    assert "E138 plugin marks cannot be loaded: ModuleNotFoundError: No module named 'no_such_package'" in said.output
    assert f'routes.toml:12:1 E203 target "office": no target named "fax"; {WHY_FAX}' in said.output
    assert f'E203 route "stamped": no step named "stamp"; {WHY_STAMP}' in said.output


def test_what_is_wrong_in_the_table_itself_still_starts_nothing(office: Office) -> None:
    office.write("fax", OTHER_API)
    table = office.folder / "routes.toml"
    table.write_text(TABLE.replace('read = "json"', 'raed = "json"'))
    said = office.call("run")
    assert said.exit_code == 2
    assert 'no step named "raed"; did you mean "read"?' in said.output


def test_what_waits_for_a_refused_plugin_s_target_waits_on_and_goes_out_with_its_id_r11(office: Office) -> None:
    with office.running():
        name = office.send("letters").stdout.strip()
        until(lambda: office.json("waiting")["deliveries"][0]["attempts"] > 0)
    office.write("fax", OTHER_API)
    with office.running():
        office.send("good")
        until(lambda: office.target("out")["delivered"] == 1)
        waits = office.target("office")
        assert (waits["waiting"], waits["parked"], waits["dead"], waits["gone"]) == (1, 0, 0, False)
    office.write("fax", FAX)
    (office.folder / "office.log").touch()
    with office.running():
        assert office.call("waiting", "now", "office").exit_code == 0
        until(lambda: office.target("office")["delivered"] == 1)
    assert (office.folder / "office.log").read_text() == f"{name}.office\n"
    assert office.json("account")["balanced"]


def test_a_message_whose_planning_needs_a_refused_plugin_waits_and_is_planned_when_it_is_back_r11(
    office: Office,
) -> None:
    with office.running():
        name = office.send("stamped", '{"no": "id"}').stdout.strip()
        until(lambda: bool(office.json("quarantine", "list")["messages"]))
    (office.folder / "mended").write_text('{"id": 2}')
    assert office.call("quarantine", "edit", name, str(office.folder / "mended")).exit_code == 0
    assert office.call("quarantine", "release", name).exit_code == 0
    office.write("marks", NO_PACKAGE)
    with office.running():
        office.send("good")
        until(lambda: office.target("out")["delivered"] == 1)
        assert office.json("messages", "show", name)["state"] == "open"
    office.write("marks", STAMP)
    with office.running():
        until(lambda: office.json("messages", "show", name)["state"] == "done")
    assert (office.folder / "out" / name).read_text() == '{"id":2,"seen":true}'


def test_two_plugins_that_bring_one_name_are_both_left_out(office: Office) -> None:
    office.write("telefax", FAX)
    with office.running():
        assert office.send("good").exit_code == 0
        assert "E131 two plugins bring a target named" in office.target("office")["stopped"]


def test_the_list_of_plugins_tells_api_state_origin_and_who_uses_each(office: Office) -> None:
    office.write("marks", NO_PACKAGE)
    office.write("fax", '__version__ = "1.4"\n' + FAX)
    rows = {item["name"]: item for item in office.json("plugin", "list")["plugins"]}
    fax, marks, codec = rows["fax"], rows["marks"], rows["esb_plugins.json"]
    assert (fax["api"], fax["version"], fax["state"], fax["components"]) == (1, "1.4", "active", ["target fax"])
    assert fax["file"] == str(office.folder / "adapters" / "fax.py")
    assert (fax["routes"], fax["targets"]) == (["letters"], ["office"])
    assert (marks["state"], marks["api"], marks["routes"]) == ("refused", None, ["before", "stamped"])
    assert "No module named 'no_such_package'" in marks["refused"]
    assert (codec["routes"], codec["targets"]) == (["stamped"], []), "the format of its read and write"
    assert rows["esb_plugins.step_map"]["routes"] == []
    assert (rows["esb_plugins.file"]["routes"], rows["esb_plugins.file"]["targets"]) == (["good", "stamped"], ["out"])
    assert rows["esb_plugins.memory"]["routes"] == ["before", "good", "letters", "stamped"]
    text = office.call("plugin", "list").stdout
    assert "fax\t1.4\t1\tactive\ttarget fax\tletters\toffice\t" in text
    assert "refused\t\tbefore stamped\t\t" in text
