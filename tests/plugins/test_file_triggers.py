"""Markers: they release what they stand for, once; a crash at any point leaves a file released or not, never twice."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from esb_plugins.file import folders, releases
from esb_plugins.file.releases import Trigger
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
name = "{source.name}"
exists = "number"
[route.files]
from = { file = "drop", settled = "50ms", every = "20ms", trigger = "NAME.ok" }
to = ["out"]
"""
ALL = TABLE.replace("NAME.ok", "all.ok")


def running(folder: Path, text: str = TABLE) -> AbstractAsyncContextManager[Bus]:
    return file_bus(folder, text)


def delivered(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "out").glob("[!.]*")}


def left(folder: Path) -> set[str]:
    return {path.name for path in (folder / "drop").iterdir() if path.is_file()}


async def test_a_file_waits_for_its_own_marker_which_goes_with_it_and_releases_no_later_one(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    async with running(tmp_path):
        (drop / "a.csv").write_text("first")
        (drop / "b.csv").write_text("waits")
        (drop / "a.csv.ok").touch()
        await until((drop / "done" / "a.csv").exists)
        assert left(tmp_path) == {"b.csv"}
        (drop / "a.csv").write_text("second")
        await asyncio.sleep(0.3)
        assert left(tmp_path) == {"a.csv", "b.csv"}, "the marker of the first one is used up"
        (drop / "a.csv.ok").touch()
        await until((drop / "done" / "a-2.csv").exists)
        await until(lambda: delivered(tmp_path) == {"a.csv": "first", "a-2.csv": "second"})


async def test_a_marker_without_its_file_waits_and_is_never_taken_for_one(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    async with running(tmp_path):
        (drop / "a.csv.ok").touch()
        await asyncio.sleep(0.2)
        assert left(tmp_path) == {"a.csv.ok"}
        (drop / "a.csv").write_text("a")
        await until((drop / "done" / "a.csv").exists)
        assert not left(tmp_path)


async def test_one_marker_for_all_releases_what_is_there_and_nothing_that_comes_after(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    async with running(tmp_path, ALL):
        for name in "abc":
            (drop / name).write_text(name)
        await asyncio.sleep(0.2)
        assert left(tmp_path) == {"a", "b", "c"}
        (drop / "all.ok").touch()
        await until(lambda: len(delivered(tmp_path)) == 3)
        assert not left(tmp_path)
        (drop / "d").write_text("d")
        await asyncio.sleep(0.3)
        assert left(tmp_path) == {"d"}
        (drop / "all.ok").touch()
        await until((drop / "done" / "d").exists)


def test_one_marker_for_all_waits_until_all_of_them_are_settled(tmp_path: Path) -> None:
    for name in ("a", "b", "all.ok"):
        (tmp_path / name).write_text(name)
    trigger = Trigger("all.ok")
    present = [item for item in folders.look(tmp_path, "*") if not trigger.is_marker(item.name)]
    assert trigger.releases(tmp_path, present, present[:1]) == []
    (release,) = trigger.releases(tmp_path, present, present)
    assert [item.name for item in release.files] == ["a", "b"]


class Killed(BaseException):
    """The process is gone here."""


@pytest.mark.parametrize("kill", range(14))
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("text", ["NAME.ok", "all.ok"])
def test_wherever_a_death_comes_files_are_claimed_once_and_the_marker_releases_no_later_one_r2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill: int, after: bool, text: str
) -> None:
    """Killed before or after each change to the disk; then the next start, and a later file of the same name."""
    work, count = tmp_path / "work", 0

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def step(*given: object, **named: object) -> object:
            nonlocal count
            count += 1
            if count - 1 == kill and not after:
                raise Killed
            result = real(*given, **named)
            if count - 1 == kill:
                raise Killed
            return result

        return step

    (tmp_path / "a.csv").write_text("first")
    marker = text.replace("NAME", "a.csv")
    (tmp_path / marker).touch()
    trigger = Trigger(text)

    def start() -> None:
        releases.unfinished(tmp_path, work)
        present = [item for item in folders.look(tmp_path, "*.csv") if not trigger.is_marker(item.name)]
        for release in trigger.releases(tmp_path, present, present):
            releases.carry_out(tmp_path, work, release)

    with monkeypatch.context() as patch:
        for name in ("rename", "unlink", "mkdir"):
            patch.setattr(Path, name, dying(getattr(Path, name)))
        patch.setattr(folders.os, "fsync", dying(folders.os.fsync))
        try:
            start()
        except Killed:
            pass
        else:
            assert kill >= 8, "not every step was met"
    start()
    assert [path.read_text() for path in folders.claimed(work)] == ["first"]
    (tmp_path / "a.csv").write_text("second")
    start()
    assert [path.read_text() for path in folders.claimed(work)] == ["first"]
    assert (tmp_path / "a.csv").exists()
    assert not (tmp_path / marker).exists()
    assert not [path for path in work.iterdir() if path.name.endswith(".release")]


def test_a_marker_that_came_anew_after_a_death_is_not_used_up_for_the_file_before(tmp_path: Path) -> None:
    """The record names the very marker, and the very file: a new pair of the same names is another one."""
    (tmp_path / "a").write_text("first")
    (tmp_path / "a.ok").touch()
    trigger = Trigger("NAME.ok")
    (release,) = trigger.releases(tmp_path, folders.look(tmp_path, "a"), folders.look(tmp_path, "a"))
    (tmp_path / "a").rename(tmp_path / "away")
    (tmp_path / "a.ok").rename(tmp_path / "away.ok")
    (tmp_path / "a").write_text("second")
    (tmp_path / "a.ok").touch()
    assert releases.carry_out(tmp_path, tmp_path / "work", release) == []
    assert (tmp_path / "a.ok").exists()
    (again,) = trigger.releases(tmp_path, folders.look(tmp_path, "a"), folders.look(tmp_path, "a"))
    (claimed,) = releases.carry_out(tmp_path, tmp_path / "work", again)
    assert claimed.read_text() == "second"
    assert not (tmp_path / "a.ok").exists()


def test_a_claim_that_fails_is_made_good_by_the_next_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a\nb").write_text("a")
    (tmp_path / "a\nb.ok").touch()
    found = folders.look(tmp_path, "a?b")
    (release,) = Trigger("NAME.ok").releases(tmp_path, found, found)

    def away(folder: Path, work: Path, item: folders.Seen) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Stale"):
        patch.setattr(folders, "claim", away)
        releases.carry_out(tmp_path, tmp_path / "work", release)
    assert not (tmp_path / "a\nb.ok").exists()
    releases.unfinished(tmp_path, tmp_path / "work")
    (claimed,) = folders.claimed(tmp_path / "work")
    assert folders.claim_of(claimed)[1] == "a\nb"


@pytest.mark.parametrize("trigger", ["", "NAME", "ok/NAME"])
def test_a_trigger_that_is_no_name_of_a_marker_is_refused(trigger: str) -> None:
    with pytest.raises(OptionError, match="name of a marker"):
        check_options(FileOptions(folder="drop", trigger=trigger))
