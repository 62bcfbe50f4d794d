"""What waits for one target, or stands stuck in a line, holds up nothing else; what a person releases is young again."""

from __future__ import annotations

from pathlib import Path

import held_letters
import pytest

from esb.plugins import load_plugins
from esb.store import Act, Which
from esb.table.load import load
from esb.testing import Harness, running, running_table, write_table

BEGIN = 'esb = 1\n[bus]\nname = "lines"\n[defaults]\nowner = "tests@example.org"\n'


async def states(bus: Harness, target: str) -> list[str]:
    found = await bus.bus.store.query(
        lambda db: db.execute("SELECT state FROM delivery WHERE target = ? ORDER BY id", (target,)).fetchall()
    )
    return [state for (state,) in found]


async def test_a_released_delivery_has_its_whole_max_age_again_r12() -> None:
    text = BEGIN + '[retry.brief]\ntransient = { first = "10s", max_age = "1m", factor = 1 }\n'
    text += '[target.x]\nmemory = "x"\nretry = "brief"\n[route.r]\nfrom = { memory = "r" }\nto = ["x"]\n'
    async with running(text) as bus:
        away = True
        bus.targets["x"].answer(*[lambda delivery: "down" if away else "ok"] * 100)
        await bus.send("r", "1")
        await bus.advance(120)
        assert await states(bus, "x") == ["dead"]
        await held_letters.release(bus.bus.store, "dead", Which(), Act(what="release"))
        bus.bus.look()
        await bus.advance(15)
        assert await states(bus, "x") == ["due"], "its age counts from the release"
        away = False
        await bus.advance(15)
        assert await states(bus, "x") == ["delivered"]
        assert (await bus.bus.store.account()).balanced


LINES = (
    BEGIN + '[target.x]\nmemory = "x"\norder_by = "{body.k}"\nwhen_stuck = "WHEN"\n'
    '[route.r]\nfrom = { memory = "r" }\ndo = [{ read = "json" }]\nto = ["x"]\n'
)


@pytest.mark.parametrize(("then", "after"), [("skip", ["dead", "delivered"]), ("park-key", ["dead", "parked"])])
async def test_a_line_that_is_stuck_goes_by_the_table_of_the_next_start_r14(
    tmp_path: Path, then: str, after: list[str]
) -> None:
    file = write_table(tmp_path, LINES.replace("WHEN", "block"), {})
    registry = load_plugins()
    async with running_table(load(file, registry), registry, tmp_path) as bus:
        bus.targets["x"].answer("422")
        for number in range(2):
            await bus.send("r", f'{{"k": "a", "n": {number}}}')
        await bus.settled()
        assert await states(bus, "x") == ["dead", "due"]
    write_table(tmp_path, LINES.replace("WHEN", then), {})
    async with running_table(load(file, registry), registry, tmp_path) as bus:
        await bus.settled()
        assert await states(bus, "x") == after
        assert (await bus.bus.store.account()).balanced


SPLITS = (
    BEGIN
    + '[target.down]\nmemory = "down"\npaused = "away"\n[target.up]\nmemory = "up"\n'
    + "".join(
        f'[route.{name}]\nfrom = {{ memory = "{name}" }}\n'
        f'do = [{{ read = "json" }}, {{ split = "body" }}, {{ write = "json" }}]\nto = ["{name}"]\n'
        for name in ("down", "up")
    )
)


async def test_splits_that_wait_for_room_at_one_target_hold_up_no_split_for_another() -> None:
    async with running(SPLITS) as bus:
        bus.bus.store.limit("down", rows=1)
        many = "[" + ",".join(str(number) for number in range(450)) + "]"
        for _ in range(10):
            await bus.send("down", many) if await room(bus) else None
        for _ in range(3):
            await bus.send("up", "[1, 2, 3]")
        for _ in range(3):
            await bus.settled()
        assert len(bus.targets["up"].taken) == 9
        made = len(await states(bus, "down"))
        assert 0 < made <= 4 * 200, "a chunk of each that was begun, and no more while there is no room"
        bus.bus.store.limit("down", rows=10_000)
        await bus.advance(5)
        await bus.bus.pauses.resume("target", "down")
        await bus.advance(5)
        assert len(bus.targets["down"].taken) % 450 == 0
        assert len(bus.targets["down"].taken) > 0
        assert (await bus.bus.store.account()).balanced


async def room(bus: Harness) -> bool:
    return bus.bus.store.room(["down"]) is None
