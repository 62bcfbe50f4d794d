"""Files that roll: where a new one begins, its header once, and each line in one of them once, whatever is killed."""

from __future__ import annotations

import asyncio
import csv
import io
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from esb_plugins.file import journal as module
from esb_plugins.file.journal import Journal, OtherHead
from esb_plugins.file.rolling import Names, Roll, check_roll
from esb_plugins.file.target import FileTargetOptions, check_options
from file_bus import file_bus, until
from hypothesis import given, settings
from hypothesis import strategies as st

from esb import Duration, OptionError
from esb.bus import Bus
from esb.plugins import load_plugins
from esb.table.load import read

BERLIN = ZoneInfo("Europe/Berlin")
DAY = 86_400.0


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


@pytest.mark.parametrize(
    ("every", "now", "period"),
    [
        (None, "2026-11-24T12:00", ""),
        ("1d", "2026-11-24T00:00", "20261124"),
        ("1d", "2026-11-23T23:59", "20261123"),
        ("7d", "2026-11-29T23:59", "20261123"),
        ("7d", "2026-11-30T00:00", "20261130"),
        ("1h", "2026-11-24T06:59", "20261124T0600"),
        ("6h", "2026-11-24T06:00", "20261124T0600"),
        ("15m", "2026-11-24T06:44", "20261124T0630"),
        ("6h", "2026-03-29T06:30", "20260329T0600"),
        ("1h", "2026-10-25T02:30", "20261025T0200"),
    ],
)
def test_periods_begin_at_midnight_of_the_buss_own_zone(every: str | None, now: str, period: str) -> None:
    names = Names("a.csv", Roll(every=None if every is None else Duration.parse(every)), BERLIN)
    assert names.period(at(now)) == period


@pytest.mark.parametrize("name", ["orders.csv", "orders.csv.txt", "orders", "a (1)-2.csv"])
def test_a_number_is_read_from_the_name_that_it_gave(name: str) -> None:
    names = Names(name, Roll(every=Duration(DAY)), BERLIN)
    made = names.name("20261124", 12)
    assert made == name.replace(".csv", "-20261124-0012.csv", 1) if "." in name else made == f"{name}-20261124-0012"
    assert names.number(made, "20261124") == 12
    assert names.number(made, "20261125") is None
    assert names.number(name, "") is None
    assert names.number(names.name("", 10_000), "") == 10_000


@pytest.mark.parametrize(
    "roll",
    [Roll(), Roll(rows=0), Roll(every=Duration(7 * 3600)), Roll(every=Duration(1)), Roll(every=Duration(90_000))],
)
def test_a_roll_that_never_comes_or_at_odd_times_is_refused(roll: Roll) -> None:
    with pytest.raises(OptionError):
        check_roll(roll)


def test_a_roll_wants_append() -> None:
    with pytest.raises(OptionError, match="appended"):
        check_options(FileTargetOptions(folder="out", roll=Roll(rows=1)))


def make(folder: Path, roll: Roll | None = Roll(rows=2)) -> Journal:
    return Journal(folder, "a.csv", None if roll is None else Names("a.csv", roll, BERLIN))


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.glob("[!.]*"))}


def test_a_file_never_has_more_lines_than_rows_and_the_lines_of_a_message_stay_together(tmp_path: Path) -> None:
    journal = make(tmp_path)
    for name, lines in [("a", "1\n"), ("b", "2\n3\n"), ("c", "4\n"), ("d", "5\n6\n7\n"), ("e", "8\n")]:
        journal.append(name, lines.encode())
    assert contents(tmp_path) == {
        "a-0001.csv": "1\n",
        "a-0002.csv": "2\n3\n",
        "a-0003.csv": "4\n",
        "a-0004.csv": "5\n6\n7\n",
        "a-0005.csv": "8\n",
    }
    again = make(tmp_path)
    assert all(again.has(name) for name in "abcde")
    assert again.append("f", b"9\n").file == "a-0005.csv", "how full a file is, is known after a restart"


def test_a_new_period_begins_a_new_file_and_numbers_anew(tmp_path: Path) -> None:
    roll = Roll(every=Duration(DAY), rows=1)
    journal, now = make(tmp_path, roll), at("2026-11-24T23:59")
    made = [journal.append(f"{number}", b"x\n", now=now + 40 * number).file for number in range(4)]
    assert made == ["a-20261124-0001.csv", "a-20261124-0002.csv", "a-20261125-0001.csv", "a-20261125-0002.csv"]


def test_a_name_never_comes_twice_though_the_reader_takes_each_file_away(tmp_path: Path) -> None:
    journal = make(tmp_path)
    assert journal.append("a", b"1\n").file == "a-0001.csv"
    (tmp_path / "a-0001.csv").unlink()
    assert journal.append("b", b"2\n").file == "a-0002.csv"
    (tmp_path / "a-0002.csv").unlink()
    again = make(tmp_path)
    assert again.has("a") and again.has("b")
    assert again.append("c", b"3\n").file == "a-0003.csv"


def test_a_file_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a-0001.csv").write_text("theirs\n")
    assert make(tmp_path).append("a", b"1\n").file == "a-0002.csv"
    assert contents(tmp_path)["a-0001.csv"] == "theirs\n"


def test_a_head_begins_each_new_file_and_stands_nowhere_else(tmp_path: Path) -> None:
    journal = make(tmp_path)
    for number in range(5):
        journal.append(f"{number}", b"id\n%d\n" % number, head=3)
    assert contents(tmp_path) == {"a-0001.csv": "id\n0\n1\n", "a-0002.csv": "id\n2\n3\n", "a-0003.csv": "id\n4\n"}


def test_lines_never_come_under_another_head(tmp_path: Path) -> None:
    journal = make(tmp_path, None)
    journal.append("a", b"id\n1\n", head=3)
    with pytest.raises(OtherHead):
        journal.append("b", b"no\n2\n", head=3)
    assert contents(tmp_path) == {"a.csv": "id\n1\n"}
    assert not journal.has("b")
    (tmp_path / "a.csv").rename(tmp_path / "taken")
    journal.append("b", b"no\n2\n", head=3)
    assert contents(tmp_path) == {"a.csv": "no\n2\n", "taken": "id\n1\n"}


def test_with_a_roll_another_head_begins_another_file(tmp_path: Path) -> None:
    journal = make(tmp_path, Roll(rows=100))
    journal.append("a", b"id\n1\n", head=3)
    journal.append("b", b"id,n\n2,x\n", head=5)
    journal.append("c", b"id,n\n3,y\n", head=5)
    assert contents(tmp_path) == {"a-0001.csv": "id\n1\n", "a-0002.csv": "id,n\n2,x\n3,y\n"}


def test_a_head_that_was_cut_off_with_its_line_comes_again(tmp_path: Path) -> None:
    journal = make(tmp_path)
    journal.append("a", b"id\n1\n", head=3)
    (tmp_path / "a-0001.csv").write_text("id")
    again = make(tmp_path)
    assert not again.has("a")
    again.append("b", b"id\n2\n", head=3)
    assert contents(tmp_path) == {"a-0001.csv": "id\n2\n"}


EVENTS = st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["whole", "torn", "restart", "taken", "tomorrow"]))


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENTS, max_size=25), st.integers(0, 9))
def test_in_any_order_of_deaths_rolls_and_readers_each_answered_line_is_in_one_file_once(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, str]], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("rolls")
    taken = tmp_path_factory.mktemp("taken")
    roll = Roll(every=Duration(DAY), rows=3)
    journal, answered, now = make(folder, roll), set(), at("2026-11-24T12:00")
    for number, (name, event) in enumerate(events):
        line = f"id\n{name}{name}{name}\n".encode()
        if event == "restart":
            journal = make(folder, roll)
        elif event == "tomorrow":
            now += DAY
        elif event == "taken":
            for path in sorted(folder.glob("[!.]*"))[:1]:
                if path.stat().st_size and not _is_torn(path):
                    path.rename(taken / f"{number}-{path.name}")
        elif journal.has(name):
            assert name in answered
        elif event == "torn":
            with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError):
                patch.setattr(module, "write_at", _tearing(cut))
                journal.append(name, line, head=3, now=now)
        else:
            journal.append(name, line, head=3, now=now)
            answered.add(name)
    again = make(folder, roll)
    assert {name for name in "abcdefgh" if again.has(name)} == answered
    files = [path.read_text().splitlines() for path in [*folder.glob("[!.]*"), *taken.iterdir()]]
    assert all(lines[0] == "id" and 1 < len(lines) <= 4 for lines in files if lines)
    assert sorted(line for lines in files for line in lines[1:]) == sorted(name * 3 for name in answered)


_REAL = module.write_at


def _is_torn(path: Path) -> bool:
    return not path.read_bytes().endswith(b"\n") or path.read_bytes() == b"id\n"


def _tearing(cut: int) -> Callable[[Path, bytes, int], None]:
    """The disk is full after some bytes of the line, never after all of them."""

    def torn(path: Path, data: bytes, at: int) -> None:
        _REAL(path, data[: min(cut, len(data) - 1)] if path.suffix == ".csv" else data, at)
        if path.suffix == ".csv":
            raise OSError(28, "No space left on device")

    return torn


WRITER = """
import sys
import threading
from pathlib import Path
from zoneinfo import ZoneInfo
from esb_plugins.file.journal import Journal
from esb_plugins.file.rolling import Names, Roll
journal = Journal(Path(sys.argv[1]), "a.csv", Names("a.csv", Roll(rows=7), ZoneInfo("UTC")))
for number in range(int(sys.argv[2]), 100_000):
    if not journal.has(str(number)):
        journal.append(str(number), f"id,text\\n{number},{'x' * 3000}\\n".encode(), head=8)
    print(number, flush=True)
"""


def test_a_writer_that_is_killed_again_and_again_writes_each_line_once_across_its_files(tmp_path: Path) -> None:
    """SIGKILL at random instants; each start repeats what was not answered for, and what was."""
    answered, chance = -1, random.Random(7)
    for _ in range(8):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(max(0, answered - 3))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(chance.randrange(5, 40)):
                answered = max(answered, int(writer.stdout.readline()))
            writer.send_signal(signal.SIGKILL)
            said = writer.stdout.read().splitlines()
            answered = max([answered, *(int(line) for line in said if line)])
    make(tmp_path, Roll(rows=7))
    files = [list(csv.reader(io.StringIO(path.read_text()))) for path in sorted(tmp_path.glob("[!.]*"))]
    assert all(rows[0] == ["id", "text"] and len(rows) <= 8 for rows in files if rows)
    found = [int(row[0]) for rows in files for row in rows[1:]]
    assert found == sorted(set(found)), "each once, in their order"
    assert set(range(answered + 1)) <= set(found), "and none that was answered for is missing"
    assert all(row[1] == "x" * 3000 for rows in files for row in rows[1:])


TABLE = """
esb = 1
[defaults]
owner = "tests@example.org"
[target.out]
file = "out"
name = "all.csv"
append = true
retry = "soon"
ROLL
[retry.soon]
transient = { first = "50ms", cap = "100ms" }
[route.files]
from = { file = "drop", settled = "0s", every = "20ms" }
do = [{ read = "json" }, { write = "csv", header = "once", newline = "\\n" }]
to = ["out"]
"""


def running(folder: Path, roll: str = "") -> AbstractAsyncContextManager[Bus]:
    return file_bus(folder, TABLE.replace("ROLL", roll))


def drop(folder: Path, name: str, text: str) -> None:
    (folder / "drop" / f".{name}").write_text(text)
    (folder / "drop" / f".{name}").rename(folder / "drop" / name)


def lines(folder: Path) -> int:
    return sum(text.count("\n") for text in contents(folder / "out").values())


async def test_the_header_goes_through_the_bus_once_a_file_also_after_a_roll(tmp_path: Path) -> None:
    async with running(tmp_path, "roll = { rows = 2 }"):
        for number in range(5):
            drop(tmp_path, f"{number}.json", f'{{"id": {number}, "n": "a,b"}}')
            await until(lambda number=number: lines(tmp_path) == number + 1 + number // 2 + 1)
    assert contents(tmp_path / "out") == {
        "all-0001.csv": 'id,n\n0,"a,b"\n1,"a,b"\n',
        "all-0002.csv": 'id,n\n2,"a,b"\n3,"a,b"\n',
        "all-0003.csv": 'id,n\n4,"a,b"\n',
    }


async def test_what_waited_through_a_restart_still_knows_its_header(tmp_path: Path) -> None:
    """Small bodies and large ones: what of a body is its header is on disk with the delivery."""
    (tmp_path / "out").write_text("in the way")
    async with running(tmp_path) as bus:
        for name, text in [("a", "a"), ("b", "b" * 70_000)]:
            drop(tmp_path, f"{name}.json", f'{{"text": "{text}"}}')
            await until((tmp_path / "drop" / "done" / f"{name}.json").exists)
        assert (await bus.store.account()).balanced
    (tmp_path / "out").unlink()
    async with running(tmp_path):
        await until(lambda: (tmp_path / "out").exists() and lines(tmp_path) == 3)
    (text,) = contents(tmp_path / "out").values()
    assert sorted(text.splitlines()) == ["a", "b" * 70_000, "text"]
    assert text.startswith("text\n")


async def test_a_message_with_another_header_is_dead_and_goes_out_when_the_file_was_taken_away(tmp_path: Path) -> None:
    async with running(tmp_path) as bus:
        drop(tmp_path, "a.json", '{"id": 1}')
        await until(
            lambda: contents(tmp_path / "out") == {"all.csv": "id\n1\n"} if (tmp_path / "out").exists() else False
        )
        drop(tmp_path, "b.json", '{"other": 2}')
        await until((tmp_path / "drop" / "done" / "b.json").exists)
        for _ in range(300):
            dead = [row for row in await bus.store.messages(limit=10) if row.state == "dead"]
            if dead:
                break
            await asyncio.sleep(0.01)
        assert len(dead) == 1
    assert contents(tmp_path / "out") == {"all.csv": "id\n1\n"}


WRONG = {
    "whole files": (TABLE.replace("append = true", ""), "for out, which does not join"),
    "another kind of target": (
        TABLE.replace('file = "out"\nname = "all.csv"\nappend = true', 'memory = "out"'),
        "for out, which does not join",
    ),
    "another route": (
        TABLE.replace('to = ["out"]', 'to = ["route:more"]') + '[route.more]\nfrom = { route = true }\nto = ["out"]\n',
        "for route more, which does not join",
    ),
    "under a condition": (
        TABLE.replace("append = true", "").replace('header = "once"', "header = \"once\", if = 'true'"),
        "for out, which does not join",
    ),
    "a target's own steps": (
        TABLE.replace("append = true", 'do = [{ write = "csv", header = "once" }]').replace(
            ', { write = "csv", header = "once", newline = "\\n" }', ""
        ),
        "for out, which does not join",
    ),
    "reading": (TABLE.replace('{ read = "json" }', '{ read = "csv", header = "once" }'), "is for a write"),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_check_refuses_a_header_once_where_no_file_would_have_it_once(tmp_path: Path, what: str) -> None:
    text, said = WRONG[what]
    (tmp_path / "routes.toml").write_text(text.replace("ROLL", ""))
    _, problems = read(tmp_path / "routes.toml", load_plugins(), {})
    assert [problem.code for problem in problems if problem.severity == "error"] == ["E186"], problems
    assert said in next(problem.message for problem in problems if problem.code == "E186")


def test_the_check_takes_it_where_a_file_does(tmp_path: Path) -> None:
    (tmp_path / "routes.toml").write_text(TABLE.replace("ROLL", 'roll = { every = "1d" }'))
    _, problems = read(tmp_path / "routes.toml", load_plugins(), {})
    assert not [problem for problem in problems if problem.severity == "error"]


async def test_a_write_that_goes_on_after_its_timeout_keeps_the_others_waiting_and_hurts_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk stands still for one line: its delivery is cut off and repeated, and another one comes meanwhile."""
    goes_on, stood = threading.Event(), threading.Event()

    def standing(path: Path, data: bytes, at: int) -> None:
        if path.suffix == ".csv" and not stood.is_set():
            stood.set()
            goes_on.wait(20)
        _REAL(path, data, at)

    monkeypatch.setattr(module, "write_at", standing)
    async with running(tmp_path, 'timeout = "200ms"') as bus:
        drop(tmp_path, "a.json", '{"id": 1}')
        await until(stood.is_set)
        drop(tmp_path, "b.json", '{"id": 2}')
        await asyncio.sleep(1)
        goes_on.set()
        for _ in range(1000):
            if [row.state for row in await bus.store.messages(limit=10)] == ["done", "done"]:
                break
            await asyncio.sleep(0.01)
        assert [row.state for row in await bus.store.messages(limit=10)] == ["done", "done"]
    assert sorted(contents(tmp_path / "out")["all.csv"].splitlines()) == ["1", "2", "id"]
