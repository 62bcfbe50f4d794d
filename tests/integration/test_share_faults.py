"""A share that goes away, lies, or holds very large files: "folder away" and never "folder empty", and nothing twice."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from esb_plugins.file import folders
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
from = { file = "drop", match = "*.xml", settled = "50ms", every = "20ms", done = "drop/done", bad = "drop/bad" }
to = ["out"]
"""
until = partial(within, seconds=15.0)


def delivered(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in (folder / "out").glob("[!.]*"))


def state(bus: Bus) -> str:
    health = bus.services.healths.get("route.files")
    return "" if health is None else health.state


@pytest.mark.parametrize("fault", [errno.ESTALE, errno.EIO, errno.EACCES, errno.ETIMEDOUT])
async def test_a_share_that_cannot_be_read_is_away_and_not_empty_faults_68(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    real, away = folders.look, True

    def look(folder: Path, match: str) -> list[folders.Seen]:
        if away:
            raise OSError(fault, os.strerror(fault))
        return real(folder, match)

    monkeypatch.setattr(folders, "look", look)
    async with file_bus(tmp_path, TABLE) as bus:
        (tmp_path / "drop" / "a.xml").write_text("a")
        await until(lambda: state(bus) == "down")
        assert "folder away" in bus.services.healths["route.files"].reason
        away = False
        await until((tmp_path / "drop" / "done" / "a.xml").exists)
        await until(lambda: state(bus) == "up")
    assert delivered(tmp_path) == [b"a"]


async def test_a_share_that_is_no_longer_mounted_is_away_though_its_folder_is_there_faults_68(tmp_path: Path) -> None:
    """The empty folder that the mount lay over is of the bus's own disk: what somebody puts there is not of the share."""
    drop = tmp_path / "drop"
    async with file_bus(tmp_path, TABLE) as bus:
        await until(lambda: state(bus) == "up", "a bus may start before its share is mounted")
        with small_disk(drop, "1m"):
            (drop / "a.xml").write_text("a")
            await until((drop / "done" / "a.xml").exists)
            await until(lambda: not list((drop / "work").iterdir()))
        (drop / "local.xml").write_text("local")
        await until(lambda: state(bus) == "down")
        assert "folder away" in bus.services.healths["route.files"].reason
        assert "not mounted" in bus.services.healths["route.files"].reason
        assert (drop / "local.xml").exists()
        with small_disk(drop, "1m"):
            (drop / "b.xml").write_text("b")
            await until((tmp_path / "drop" / "done" / "b.xml").exists)
            await until(lambda: state(bus) == "up")
            await until(lambda: delivered(tmp_path) == [b"a", b"b"])


@pytest.mark.parametrize("call", ["rename", "unlink"])
@pytest.mark.parametrize("fault", [errno.ENOENT, errno.EIO])
async def test_a_change_that_was_made_and_then_told_as_failed_is_looked_up_before_it_is_repeated_faults_68(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, fault: int
) -> None:
    """A server that answers too late: the client asks again, and hears that the file is not there."""
    lied = 0
    real: Callable[..., Any] = getattr(Path, call)

    def lying(path: Path, *given: Any, **named: Any) -> Any:
        nonlocal lied
        result = real(path, *given, **named)
        if path.name.endswith("a.xml") and lied < 2:
            lied += 1
            raise OSError(fault, os.strerror(fault))
        return result

    async with file_bus(tmp_path, TABLE) as bus:
        monkeypatch.setattr(Path, call, lying)
        (tmp_path / "drop" / "a.xml").write_text("a")
        await until((tmp_path / "drop" / "done" / "a.xml").exists)
        await until(lambda: delivered(tmp_path) == [b"a"] and not list((tmp_path / "drop" / "work").iterdir()))
        await until(lambda: state(bus) == "up")
        account = await bus.store.account()
        assert account.balanced
        assert sum(item.entries.get("accepted", 0) for item in account.sums if item.book == "messages") == 1
    assert lied
    assert [path.name for path in (tmp_path / "drop" / "done").iterdir()] == ["a.xml"]


async def test_a_file_that_another_program_locks_holds_nobody_up_faults_68(tmp_path: Path) -> None:
    """Locks of this system bind only who asks for them: a file is whole when it no longer changes, or has its marker."""
    async with file_bus(tmp_path, TABLE):
        with (tmp_path / "drop" / "a.xml").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write("a")
            file.flush()
            (tmp_path / "drop" / "b.xml").write_text("b")
            await until((tmp_path / "drop" / "done" / "b.xml").exists)
            await until((tmp_path / "drop" / "done" / "a.xml").exists)
    assert delivered(tmp_path) == [b"a", b"b"]


@pytest.mark.parametrize("size", [200_000_000, pytest.param(4_300_000_000, marks=pytest.mark.soak)])
async def test_a_very_large_file_goes_through_without_being_held_faults_68(tmp_path: Path, size: int) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(size)
    over, highest = threading.Event(), [resident(os.getpid())]
    before = highest[0]

    def watch() -> None:
        while not over.wait(0.01):
            highest[0] = max(highest[0], resident(os.getpid()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        async with file_bus(tmp_path, TABLE):
            (tmp_path / "large").rename(tmp_path / "drop" / "a.xml")
            await within(lambda: any((tmp_path / "out").glob("[!.]*")), seconds=30 + size / 20_000_000)
            (made,) = (tmp_path / "out").glob("[!.]*")
            assert made.stat().st_size == size
            await until((tmp_path / "drop" / "done" / "a.xml").exists)
    finally:
        over.set()
        watcher.join()
    assert highest[0] - before < 60_000_000
