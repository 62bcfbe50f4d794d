"""Files in and out, in a whole bus on a real folder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from esb_plugins.file import folders

from esb.bus import Bus, open_bus
from esb.plugins import load_plugins
from esb.table.load import load

TABLE = """
esb = 1
[defaults]
owner = "tests@example.org"
[target.out]
file = "out"
name = "{source.name}.out"
exists = "number"
[route.files]
from = { file = "drop", match = "*.csv", settled = "50ms", every = "20ms", done = "drop/done", bad = "drop/bad" }
do = [{ read = "csv" }, { split = "rows" }, { keep = 'body.n != "skip"', reason = "skipped" }, { write = "json" }]
to = ["out"]
"""
WHOLE = TABLE.replace('{ split = "rows" }, { keep = \'body.n != "skip"\', reason = "skipped" }, ', "")


@asynccontextmanager
async def running(folder: Path, text: str = TABLE) -> AsyncIterator[Bus]:
    (folder / "drop").mkdir(exist_ok=True)
    (folder / "routes.toml").write_text(text)
    registry = load_plugins()
    async with open_bus(load(folder / "routes.toml", registry), registry, durable=False) as bus:
        yield bus


async def until(holds: Callable[[], bool], what: str = "") -> None:
    for _ in range(800):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(what or "it does not come to hold")


async def test_good_rows_go_out_bad_ones_come_back_with_line_and_reason_r5(tmp_path: Path) -> None:
    async with running(tmp_path) as bus:
        (tmp_path / "drop" / "a.csv").write_text("id,n\n1,x\n2\n3,skip\n4,y\n")
        await until((tmp_path / "drop" / "done" / "a.csv").exists)
        await until(lambda: len(list((tmp_path / "out").glob("*"))) == 2)
        bad = (tmp_path / "drop" / "bad" / "a.bad.csv").read_text().splitlines()
        assert bad[0] == "id,n,line,reason"
        assert bad[1].startswith("2,3,")
        assert len(bad) == 2
        assert (await bus.store.account()).balanced


async def test_a_file_that_cannot_be_read_at_all_goes_to_bad_with_its_reason(tmp_path: Path) -> None:
    async with running(tmp_path, WHOLE):
        (tmp_path / "drop" / "a.csv").write_text('id,n\n1,"never closed\n')
        await until((tmp_path / "drop" / "bad" / "a.csv").exists)
        assert "esb quarantine show" in (tmp_path / "drop" / "bad" / "a.csv.reason.txt").read_text()


async def test_a_claim_that_a_crash_left_is_finished_at_the_next_start_r2(tmp_path: Path) -> None:
    (tmp_path / "drop" / "work").mkdir(parents=True)
    (tmp_path / "drop" / "work" / f"{'0' * 32}.b.csv").write_text("id,n\n1,x\n")
    async with running(tmp_path):
        await until((tmp_path / "drop" / "done" / "b.csv").exists)
    assert len(list((tmp_path / "out").iterdir())) == 1


async def test_a_growing_file_is_waited_for_and_links_fifos_and_hidden_names_are_never_taken(tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    (tmp_path / "outside.csv").write_text("id,n\n1,secret\n")
    (tmp_path / "drop" / "link.csv").symlink_to(tmp_path / "outside.csv")
    os.mkfifo(tmp_path / "drop" / "fifo.csv")
    (tmp_path / "drop" / ".hidden.csv").write_text("id,n\n1,x\n")
    (tmp_path / "drop" / "folder.csv").mkdir()
    async with running(tmp_path, TABLE.replace("50ms", "300ms")):
        with (tmp_path / "drop" / "slow.csv").open("w") as file:
            for number in range(10):
                file.write("id,n\n" if number == 0 else f"{number},x\n")
                file.flush()
                await asyncio.sleep(0.05)
                assert (tmp_path / "drop" / "slow.csv").exists()
        await until((tmp_path / "drop" / "done" / "slow.csv").exists)
    left = {path.name for path in (tmp_path / "drop").iterdir()}
    assert {"link.csv", "fifo.csv", ".hidden.csv", "folder.csv"} <= left
    assert len(list((tmp_path / "out").iterdir())) == 9


async def test_a_folder_that_vanishes_is_down_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    async with running(tmp_path) as bus:
        healths = bus.services.healths
        await until(lambda: "route.files" in healths)
        (tmp_path / "drop").rmdir()
        await until(lambda: healths["route.files"].state == "down")
        assert "folder away" in bus.services.healths["route.files"].reason
        (tmp_path / "drop").mkdir()
        (tmp_path / "drop" / "c.csv").write_text("id,n\n1,x\n")
        await until((tmp_path / "drop" / "done" / "c.csv").exists)
        assert bus.services.healths["route.files"].state == "up"


async def test_strange_names_go_through_and_the_same_name_again_gets_a_number(tmp_path: Path) -> None:
    async with running(tmp_path):
        for name in ("-rf.csv", "new\nline.csv", "ü" * 100 + ".csv"):
            (tmp_path / "drop" / name).write_text("id,n\n")
            await until(lambda: not list((tmp_path / "drop").glob("*.csv")), name)
        await until(lambda: len(list((tmp_path / "drop" / "done").iterdir())) == 3)
        (tmp_path / "drop" / "-rf.csv").write_text("id,n\n")
        await until((tmp_path / "drop" / "done" / "-rf-2.csv").exists)


async def test_the_same_content_twice_changes_nothing_with_once_r3(tmp_path: Path) -> None:
    once = TABLE.replace("do = [", 'once = "{source.sha256}"\ndo = [')
    async with running(tmp_path, once) as bus:
        for name in ("a.csv", "b.csv"):
            (tmp_path / "drop" / name).write_text("id,n\n1,x\n")
            await until((tmp_path / "drop" / "done" / name).exists)
        account = await bus.store.account()
        made = next(item for item in account.sums if item.book == "messages").entries
        assert len(list((tmp_path / "out").iterdir())) == 1, made


def test_a_move_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    folders.move(tmp_path / "a", tmp_path / "done", "a.x")
    (tmp_path / "a").write_text("2")
    assert folders.move(tmp_path / "a", tmp_path / "done", "a.x").name == "a-2.x"
