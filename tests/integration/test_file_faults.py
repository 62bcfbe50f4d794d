"""Files and folders that misbehave (FAULTS 68): what is no file is left alone, what is one is taken once, whole."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest
from fault_house import resident, small_disk
from fault_house import until as within
from file_bus import file_bus

from esb.bus import Bus

TABLE = """
esb = 1
[defaults]
owner = "tests@example.org"
[target.out]
file = "out"
name = "{message.id}"
[route.files]
from = { file = "drop", match = "*.xml", settled = "50ms", every = "20ms" DONE }
to = ["out"]
"""


until = partial(within, seconds=15.0)


def running(folder: Path, done: str = "", table: str = TABLE) -> AbstractAsyncContextManager[Bus]:
    return file_bus(folder, table.replace("DONE", f', done = "{done}"' if done else ""))


def delivered(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in (folder / "out").glob("[!.]*"))


async def accepted(bus: Bus) -> int:
    """How many messages came in; the books balance."""
    account = await bus.store.account()
    assert account.balanced, account.differences
    return sum(item.entries.get("accepted", 0) for item in account.sums if item.book == "messages")


async def test_a_done_folder_on_another_device_gets_the_whole_file_faults_68(tmp_path: Path) -> None:
    with small_disk(tmp_path / "drop" / "done", "1m"):
        assert (tmp_path / "drop").stat().st_dev != (tmp_path / "drop" / "done").stat().st_dev
        async with running(tmp_path) as bus:
            (tmp_path / "drop" / "a.xml").write_bytes(b"a" * 100_000)
            await until((tmp_path / "drop" / "done" / "a.xml").exists)
            await until(lambda: delivered(tmp_path) == [b"a" * 100_000])
            await until(lambda: not list((tmp_path / "drop" / "work").iterdir()))
            (tmp_path / "drop" / "a.xml").write_bytes(b"another")
            await until((tmp_path / "drop" / "done" / "a-2.xml").exists, "the same name again overwrites nothing")
            assert (tmp_path / "drop" / "done" / "a.xml").read_bytes() == b"a" * 100_000
            assert await accepted(bus) == 2


async def test_a_full_done_folder_holds_the_file_back_and_accepts_it_once_faults_68(tmp_path: Path) -> None:
    done = tmp_path / "drop" / "done"
    with small_disk(done, "1m"):
        (done / "ballast").write_bytes(bytes(900_000))
        async with running(tmp_path) as bus:
            health = bus.services.healths
            (tmp_path / "drop" / "a.xml").write_bytes(b"a" * 400_000)
            await until(lambda: delivered(tmp_path) == [b"a" * 400_000], "what is accepted is delivered all the same")
            await until(lambda: "route.files" in health and health["route.files"].state == "degraded")
            assert "No space left" in health["route.files"].reason
            assert not (done / "a.xml").exists(), "half a file never has the name"
            assert [path.name[33:] for path in (tmp_path / "drop" / "work").iterdir()] == ["a.xml"]
            (done / "ballast").unlink()
            await until((done / "a.xml").exists, "it resumes by itself")
            assert (done / "a.xml").read_bytes() == b"a" * 400_000
            await until(lambda: health["route.files"].state == "up")
            assert [path.name for path in done.iterdir()] == ["a.xml"], "what did not fit leaves nothing behind"
            assert await accepted(bus) == 1


async def test_what_is_no_plain_file_is_never_opened_faults_68(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    os.mkfifo(drop / "fifo.xml")
    (drop / "folder.xml").mkdir()
    (drop / "link.xml").symlink_to("/etc/passwd")
    (drop / "dangling.xml").symlink_to("nowhere")
    strange = {"fifo.xml", "folder.xml", "link.xml", "dangling.xml"}
    try:
        os.mknod(drop / "zero.xml", stat.S_IFCHR | 0o600, os.makedev(1, 5))
        strange.add("zero.xml")
    except PermissionError:
        pass
    async with running(tmp_path) as bus:
        (drop / "plain.xml").write_text("plain")
        await until((drop / "done" / "plain.xml").exists, "and they hold nobody up")
        assert strange <= {path.name for path in drop.iterdir()}
        assert delivered(tmp_path) == [b"plain"]
        assert await accepted(bus) == 1


async def test_hard_links_cases_empty_files_and_bytes_that_are_no_text_faults_68(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    async with running(tmp_path) as bus:
        outside = tmp_path / "outside"
        outside.write_text("linked")
        os.link(outside, drop / "linked.xml")
        (drop / "case.xml").write_text("lower")
        (drop / "CASE.xml").write_text("upper")
        (drop / "empty.xml").write_bytes(b"")
        nameless = os.fsencode(drop) + b"/caf\xe9 \xff.xml"
        Path(os.fsdecode(nameless)).write_text("no text")
        await until(lambda: not list(drop.glob("*.xml")) and not list((drop / "work").glob("*")), "all are put away")
        await until(lambda: len(delivered(tmp_path)) == 5)
        names = {os.fsencode(path.name) for path in (drop / "done").iterdir()}
        assert names == {b"linked.xml", b"case.xml", b"CASE.xml", b"empty.xml", b"caf\xe9 \xff.xml"}
        assert delivered(tmp_path) == [b"", b"linked", b"lower", b"no text", b"upper"]
        assert outside.read_text() == "linked", "the other name of a hard link stays as it is"
        assert await accepted(bus) == 5


async def test_a_move_that_a_death_cut_off_is_finished_and_not_made_twice_faults_8(tmp_path: Path) -> None:
    """The file has both names already: only the unlink was missing."""
    drop = tmp_path / "drop"
    (drop / "work").mkdir(parents=True)
    (drop / "done").mkdir()
    claimed = drop / "work" / f"{'0' * 32}.a.xml"
    claimed.write_text("a")
    os.link(claimed, drop / "done" / "a.xml")
    async with running(tmp_path):
        await until(lambda: not list((drop / "work").iterdir()))
    assert [path.name for path in (drop / "done").iterdir()] == ["a.xml"]


async def test_files_that_vanish_and_folders_that_come_again_stop_nothing_faults_68(tmp_path: Path) -> None:
    """A sender that takes its files back again and again, and a folder that is removed with what lies in it."""
    drop = tmp_path / "drop"
    async with running(tmp_path) as bus:
        for number in range(24):
            flying = drop / f"flying-{number}.xml"
            flying.write_text("flying")
            await asyncio.sleep(0.005 * (number % 12))
            flying.unlink(missing_ok=True)
        for number in range(3):
            await until(lambda: not list((drop / "work").glob("*")))
            shutil.rmtree(drop)
            await until(lambda: bus.services.healths["route.files"].state == "down")
            drop.mkdir()
            (drop / f"{number}.xml").write_text(f"{number}")
            await until((drop / "done" / f"{number}.xml").exists)
        await until(lambda: bus.services.healths["route.files"].state == "up")
        await until(lambda: {b"0", b"1", b"2"} <= set(delivered(tmp_path)))
        await until(lambda: len(list((tmp_path / "out").glob("[!.]*"))) >= 3)
        assert set(delivered(tmp_path)) <= {b"0", b"1", b"2", b"flying"}


@pytest.mark.parametrize("many", [15_000, pytest.param(100_000, marks=pytest.mark.soak)])
async def test_a_folder_of_very_many_files_costs_little_memory_and_does_not_hold_the_loop_faults_68(
    tmp_path: Path, many: int
) -> None:
    """They are looked at again and again while they settle; one that matches no more than the others gets through."""
    drop = tmp_path / "drop"
    drop.mkdir()
    (drop / "0.xml").write_text("x")
    for number in range(1, many):
        os.close(os.open(drop / f"{number:06}.xml", os.O_CREAT | os.O_WRONLY, 0o600))
    before = resident(os.getpid())
    async with running(tmp_path, table=TABLE.replace('"50ms"', '"1h"').replace('"20ms"', '"10ms"')) as bus:
        loop, longest = asyncio.get_running_loop(), 0.0
        begun = loop.time()
        while loop.time() - begun < 1.5:
            asked = loop.time()
            await asyncio.sleep(0.01)
            longest = max(longest, loop.time() - asked - 0.01)
        assert longest < 1.0, "the loop stands still while a folder is read"
        assert resident(os.getpid()) - before < 50_000_000 + many * 1000
        assert bus.services.healths["route.files"].state == "up"
        assert await accepted(bus) == 0
    shutil.rmtree(drop)
