"""Files in and out, in a whole bus on a real folder."""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from esb_plugins.file import folders, rejects
from esb_plugins.file.source import FileOptions, check_options
from file_bus import file_bus, until

from esb.bus import Bus
from esb.errors import OptionError

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


def running(folder: Path, text: str = TABLE) -> AbstractAsyncContextManager[Bus]:
    return file_bus(folder, text)


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


async def test_one_file_that_cannot_be_read_stops_no_other_and_is_taken_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, refusing = folders.digest, True

    def refused(path: Path) -> str:
        if refusing and path.name.endswith("a.csv"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return digest(path)

    monkeypatch.setattr(folders, "digest", refused)
    async with running(tmp_path) as bus:
        (tmp_path / "drop" / "a.csv").write_text("id,n\n1,x\n")
        healths = bus.services.healths
        await until(lambda: "route.files" in healths and healths["route.files"].state == "degraded")
        assert "a.csv waits in work: Permission denied" in healths["route.files"].reason
        (tmp_path / "drop" / "b.csv").write_text("id,n\n1,x\n")
        await until((tmp_path / "drop" / "done" / "b.csv").exists)
        refusing = False
        await until((tmp_path / "drop" / "done" / "a.csv").exists)
        await until(lambda: healths["route.files"].state == "up")


@pytest.mark.parametrize("done", ["drop/done", "done", "drop/{today}/done"])
async def test_a_recursive_source_takes_what_lies_below_and_never_its_own_output(tmp_path: Path, done: str) -> None:
    text = TABLE.replace('done = "drop/done", bad = "drop/bad"', f'recursive = true, done = "{done}", bad = "bad"')
    (tmp_path / "drop" / "branch").mkdir(parents=True)
    (tmp_path / "drop" / "branch" / "b.csv").write_text("id,n\n1,x\n")
    (tmp_path / "drop" / "a.csv").write_text("id,n\n1,x\nbad\n")
    async with running(tmp_path, text) as bus:
        await until(lambda: not [*(tmp_path / "drop").glob("*.csv"), *(tmp_path / "drop" / "branch").glob("*.csv")])
        await until(lambda: len(list((tmp_path / "out").glob("*"))) >= 2)
        await asyncio.sleep(0.3)
        assert len(list((tmp_path / "out").glob("*"))) == 2
        assert (await bus.store.account()).balanced


async def test_files_are_accepted_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    for number in range(40):
        data = "id,n\n" + "1,x\n" * (40_000 if number % 8 == 0 else 1)
        (tmp_path / "drop" / f"{number:03}.csv").write_text(data)
    text = TABLE.replace('{ split = "rows" }, { keep = \'body.n != "skip"\', reason = "skipped" }, ', "")
    async with running(tmp_path, text.replace("do = [", 'keys = { file = "{source.name}" }\ndo = [')) as bus:
        await until(lambda: len(list((tmp_path / "drop" / "done").glob("*.csv"))) == 40)
        rows = await bus.store.messages(limit=100)
        assert [row.keys["file"] for row in reversed(rows)] == [f"{number:03}.csv" for number in range(40)]


async def test_a_busy_folder_is_looked_at_once_a_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, look = 0, folders.look

    def counted(folder: Path, match: str) -> list[folders.Seen]:
        nonlocal looks
        looks += 1
        return look(folder, match)

    (tmp_path / "drop").mkdir()
    for number in range(640):
        (tmp_path / "drop" / f"{number:04}.csv").write_text("id,n\n")
    monkeypatch.setattr(folders, "look", counted)
    text = TABLE.replace('every = "20ms"', 'every = "500ms"').replace('"50ms"', '"0s"')
    async with running(tmp_path, text):
        await until(lambda: len(list((tmp_path / "drop" / "done").glob("*.csv"))) == 640)
    assert looks < 10


async def test_a_name_of_255_bytes_keeps_every_byte(tmp_path: Path) -> None:
    name = "x" * 251 + ".csv"
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop" / name).write_text("id,n\n")
    async with running(tmp_path, TABLE.replace("{source.name}.out", "{message.id}")):
        await until((tmp_path / "drop" / "done" / name).exists)
        await until(lambda: not list((tmp_path / "drop" / "work").iterdir()))


async def test_a_long_name_claimed_before_a_crash_is_finished_too_r2(tmp_path: Path) -> None:
    name = "y" * 251 + ".csv"
    work = tmp_path / "drop" / "work" / ("1" * 32)
    work.mkdir(parents=True)
    (work / name).write_text("id,n\n")
    (tmp_path / "drop" / "work" / ("2" * 32)).mkdir()
    async with running(tmp_path):
        await until((tmp_path / "drop" / "done" / name).exists)
        await until(lambda: not list((tmp_path / "drop" / "work").iterdir()))


def test_a_file_that_changed_since_it_was_looked_at_is_not_claimed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1")
    (seen,) = folders.look(tmp_path, "*")
    (tmp_path / "a.csv").write_text("12")
    assert folders.claim(tmp_path, tmp_path / "work", seen) is None
    assert (tmp_path / "a.csv").exists()


def test_rejected_rows_come_back_byte_for_byte_in_their_own_encoding() -> None:
    row = "id;name\n2;Müller\n".encode("cp1252")
    assert rejects.bad_rows([(3, row, "why: ü")]) == "id;name;line;reason\n2;Müller;3;why: \\xfc\n".encode("cp1252")
    wide = "id;name\n2;Müller\n".encode("utf-16")
    assert rejects.bad_rows([(3, wide, "why")]).decode("utf-16") == "id;name;line;reason\n2;Müller;3;why\n"


def test_a_rejected_row_is_not_parsed_again() -> None:
    huge = b"id,name\n2," + b"x" * 200_000 + b"\n"
    broken = b'id,name\n3,"line\nbreak" and, more\n'
    got = rejects.bad_rows([(3, huge, "why"), (4, broken, 'it said "no", twice')])
    assert got.startswith(b"id,name,line,reason\n2,xxx")
    assert got.endswith(b'3,"line\nbreak" and, more,4,"it said ""no"", twice"\n')


@pytest.mark.parametrize("done", ["drop", ".", "../out", "{header.x}"])
def test_a_shelf_that_is_the_watched_folder_or_outside_is_refused(done: str) -> None:
    with pytest.raises(OptionError) as refused:
        check_options(FileOptions(folder="drop", done=done))
    assert refused.value.code == "E120" or refused.value.problems[0].code == "E240"


def test_a_move_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    folders.move(tmp_path / "a", tmp_path / "done", "a.x")
    (tmp_path / "a").write_text("2")
    assert folders.move(tmp_path / "a", tmp_path / "done", "a.x").name == "a-2.x"


async def test_a_file_system_without_hard_links_takes_and_puts_away_files_all_the_same_faults_68(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*given: object, **more: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    async with running(tmp_path, WHOLE) as bus:
        for text in ("id,n\n1,x\n", "id,n\n2,y\n"):
            (tmp_path / "drop" / "a.csv").write_text(text)
            await until(lambda: not (tmp_path / "drop" / "a.csv").exists())
            await until(lambda: not list((tmp_path / "drop" / "work").iterdir()))
        await until(lambda: len(list((tmp_path / "out").glob("*"))) == 2)
        assert sorted(path.read_text() for path in (tmp_path / "drop" / "done").iterdir()) == [
            "id,n\n1,x\n",
            "id,n\n2,y\n",
        ]
        assert (await bus.store.account()).balanced
