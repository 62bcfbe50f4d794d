"""What was accepted is planned by the table of its acceptance, stylesheets and contracts too, whatever is on disk now
(R11)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from esb.bus import open_bus
from esb.clock import SystemClock, VirtualClock
from esb.message import Headers, Message
from esb.plugins import load_plugins
from esb.splitting import Splitter
from esb.store.records import NewBody
from esb.table.load import load
from esb.table.places import unpacked
from esb.testing import running_table, write_table

TABLE = """
esb = 1
[bus]
data = "var"
[defaults]
owner = "tests@example.org"
[target.out]
memory = "out"
[route.r]
from = { memory = "r" }
do = [{ read = "json" }, { check = "order@1" }, { set = { "body.to" = "'old'" } }, { write = "xml", root = "o" },
      { xslt = "maps/o.xsl" }]
to = ["out"]
"""
SHEET = """<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
<xsl:include href="names.xsl"/><xsl:template match="/"><VERSION to="{/o/to}"><xsl:call-template name="n"/></VERSION>
</xsl:template></xsl:stylesheet>"""
NAMES = """<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
<xsl:template name="n">NAME</xsl:template></xsl:stylesheet>"""


def write(folder: Path, version: str, needed: str) -> Path:
    for name in ("maps", "contracts"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "maps" / "o.xsl").write_text(SHEET.replace("VERSION", version))
    (folder / "maps" / "names.xsl").write_text(NAMES.replace("NAME", version))
    (folder / "contracts" / "order@1.json").write_text(f'{{"type": "object", "required": ["{needed}"]}}')
    (folder / "routes.toml").write_text(TABLE.replace("old", version))
    return folder / "routes.toml"


def planned(planner: object, body: bytes) -> tuple[str, str]:
    message = Message(
        uid="0199c0de-0000-7000-8000-000000000001", route="r", accepted_at=0.0, body=body, raw=body, headers=Headers()
    )
    new = planner.plan(message, NewBody(data=body, size=len(body), media=""), may_refuse=False).message  # type: ignore[attr-defined]
    given = new.deliveries[0].body.data.decode() if new.deliveries else ""
    return new.state, given


async def test_an_older_table_is_built_with_its_own_stylesheets_and_contracts_r11(tmp_path: Path) -> None:
    registry = load_plugins()
    table = load(write(tmp_path, "old", "id"), registry)
    async with open_bus(table, registry, clock=SystemClock(), durable=False):
        pass
    changed = load(write(tmp_path, "new", "number"), registry)
    assert changed.hash != table.hash
    async with open_bus(changed, registry, clock=SystemClock(), durable=False) as bus:
        older = await bus.planner("r", table.hash)
        state, given = planned(older, b'{"id": 1}')
        assert state == "open"
        assert '<old to="old">old</old>' in given
        assert planned(older, b'{"number": 1}')[0] == "quarantined"
        state, given = planned(await bus.planner("r", changed.hash), b'{"number": 1}')
        assert '<new to="new">new</new>' in given


async def test_a_machine_that_is_short_of_files_sets_no_message_of_an_older_table_aside_r11(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'esb = 1\n[defaults]\nowner = "t"\n[target.out]\nmemory = "out"\n[route.r]\nfrom = { memory = "old" }\n'
    text += 'do = [{ read = "csv" }, { split = "rows" }, { write = "json" }]\nto = ["out"]\n'
    registry, clock = load_plugins(), VirtualClock()

    async def never(splitter: Splitter) -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(Splitter, "run", never)
        table = load(write_table(tmp_path, text, {}), registry)
        async with running_table(table, registry, tmp_path, clock=clock) as bus:
            sent = await bus.send("r", "a\n1\n")
    short = [1, 1]

    def unpack(*given: Any) -> Any:
        if short:
            short.pop()
            raise OSError(24, "Too many open files")
        return unpacked(*given)

    monkeypatch.setattr("esb.bus.unpacked", unpack)
    table = load(write_table(tmp_path, text + "[var]\nx = 1\n", {}), registry)
    async with running_table(table, registry, tmp_path, clock=clock) as bus:
        await bus.advance(10)
        state = await bus.bus.store.message_state(sent.id)
        assert state is not None
        assert state.state == "split"
        assert bus.targets["out"].bodies == [b'{"a":"1"}']
