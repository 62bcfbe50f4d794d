"""Plugins that misbehave in a real process (FAULTS D): one message fails, the bus and the other routes go on."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fault_house import FILES, ORDERS, OUT, books, ended, make, post, running, taken, until
from house_process import ESB, House, is_open

PLUGIN = Path(__file__).with_name("faulty_plugin.py")
ERRORS = ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "RecursionError"]
STEP = """
[route.step]
from = { http = "POST /step" }
do = [{ faulty = "" }]
to = ["out"]
"""
TARGET = """
[target.odd]
faulty = ""
timeout = "300ms"
concurrency = 4
retry = "quick"
[route.target]
from = { http = "POST /target" }
to = ["odd"]
[retry.quick]
fault = { attempts = 2 }
unknown = { as = "park" }
"""
SOURCE = "\n".join(f'[route.from-{word.lower()}]\nfrom = {{ faulty = "{word}" }}\nto = ["out"]' for word in ERRORS)


def make_faulty(folder: Path, text: str, bus: str = "") -> int:
    """A table with the plugin beside it."""
    (folder / "adapters").mkdir()
    shutil.copy(PLUGIN, folder / "adapters" / "faulty.py")
    (folder / "adapters" / "faulty.py").chmod(0o600)
    return make(folder, OUT + text, bus=f'plugins = "adapters"\nstep_timeout = "300ms"\n{bus}')


async def sums(house: House, book: str = "messages") -> dict[str, int]:
    """A book of the running bus, which balances."""
    _, account = await house.ask("/account")
    assert account["balanced"], account["differences"]
    return books(account, book)


async def comes_to(house: House, book: str, entry: str, count: int) -> None:
    """Returns when so many of a book came to this."""
    deadline = time.monotonic() + 20
    while (await sums(house, book)).get(entry, 0) != count:
        assert time.monotonic() < deadline, f"not {count} {entry}: {await sums(house, book)}"
        await asyncio.sleep(0.05)


async def test_whatever_a_step_a_target_or_a_source_raises_the_bus_lives_faults_48(tmp_path: Path) -> None:
    port = make_faulty(tmp_path, ORDERS + STEP + TARGET + SOURCE)
    house = House(tmp_path)
    async with running(house, port):
        for error in ERRORS:
            assert await post(port, error.encode(), "/step") == 202
            assert await post(port, error.encode(), "/target") == 202
            assert await post(port, f"good {error}".encode(), "/step") == 202
            assert await post(port, f"good {error}".encode(), "/target") == 202
        await until(lambda: len(taken(tmp_path)) == len(ERRORS), "the good ones are delivered")
        assert (await sums(house))["quarantined"] == len(ERRORS), "one message each"
        await comes_to(house, "deliveries", "parked", len(ERRORS))
        await comes_to(house, "deliveries", "delivered", 2 * len(ERRORS))
        _, status = await house.ask("/status")
        down = [item["component"] for item in status["problems"] if item["state"] == "down"]
        assert sorted(down) == sorted(f"route.from-{error.lower()}" for error in ERRORS)
        assert house.stop() == 0


async def test_a_step_that_spins_or_sleeps_is_stopped_and_the_others_go_on_faults_49(tmp_path: Path) -> None:
    port = make_faulty(tmp_path, ORDERS + STEP + TARGET)
    house = House(tmp_path)
    async with running(house, port):
        for deed in ("spin", "sleep"):
            bad = asyncio.ensure_future(post(port, deed.encode(), "/step"))
            assert await post(port, deed.encode()) == 202
            assert await bad == 202
        assert await post(port, b"hang", "/target") == 202
        assert await post(port, b"good", "/target") == 202
        assert await post(port, b"good") == 202
        await until(lambda: len(taken(tmp_path)) == 3, "the other route's are delivered")
        assert (await sums(house))["quarantined"] == 2
        await comes_to(house, "deliveries", "parked", 1)
        await comes_to(house, "deliveries", "delivered", 4)
        assert house.tail(200).count("held the loop for") == 2, "the watchdog reports each"
        assert house.stop() == 0


async def test_a_target_that_holds_the_loop_is_named_and_ends_the_process_faults_49(tmp_path: Path) -> None:
    """What no signal stops, as code in C that does not come back: the next start counts it (R15, FAULTS 25)."""
    port = make_faulty(tmp_path, ORDERS + TARGET)
    soon = "import sys, esb.watchdog as w; w.GIVE_UP = 2.0; from esb.cli import main; sys.argv[0] = 'esb'; main()"
    house = House(tmp_path, [sys.executable, "-c", soon, "run", "-f", "routes.toml"])
    async with running(house, port):
        assert await post(port, b"hold", "/target") in (202, None)
        assert await ended(house) == 70
        assert "the loop is held for" in house.tail()
        assert "time.sleep(60)" in house.tail(), "with the line it stands in"
        assert "code of target odd" in house.tail()
    house = House(tmp_path)
    async with running(house, port):
        _, status = await house.ask("/status")
        paused = {item["name"]: item["paused"] for item in status["targets"]}
        assert "could not be stopped" in paused["odd"], "R18: the next start opens it paused"
        assert paused["out"] == ""
        assert await post(port, b"x") == 202
        await until(lambda: taken(tmp_path) == [b"x"], "the others go on")
        assert house.stop() == 0


async def test_a_plugin_that_litters_the_process_does_not_stop_the_bus_faults_50(tmp_path: Path) -> None:
    port = make_faulty(tmp_path, FILES + ORDERS + STEP)
    (tmp_path / "drop").mkdir()
    house = House(tmp_path, [*ESB, "run", "-f", "routes.toml"])
    async with running(house, port):
        assert await post(port, b"litter", "/step") == 202
        assert await post(port, b"x" * 100_000) == 202
        (tmp_path / "drop" / "a.txt").write_text("file")
        await until(lambda: len(taken(tmp_path)) == 3, "everything arrives where the table says")
        await until(lambda: (tmp_path / "drop" / "done" / "a.txt").exists(), "the file is put away")
        assert (await sums(house))["accepted"] == 3
        assert house.stop() == 0
    async with running(House(tmp_path), port) as again:
        assert (await sums(again))["accepted"] == 3


@pytest.mark.parametrize("where", ["step-http", "split-file", "target"])
async def test_poison_that_kills_the_process_is_set_aside_after_three_deaths_faults_14_25(
    tmp_path: Path, where: str
) -> None:
    """R15. A kernel that kills for memory (FAULTS 14) looks the same."""
    step = 'do = [{ faulty = "" }]\nto = ["out"]'
    rows = 'do = [{ read = "csv" }, { split = "rows" }, { faulty = "" }, { write = "json" }]\nto = ["out"]'
    text = {
        "step-http": ORDERS.replace('to = ["out"]', step),
        "split-file": ORDERS + FILES.replace('to = ["out"]', rows),
        # Where an unknown outcome is parked, the first death does it (R16).
        "target": ORDERS + TARGET.replace('unknown = { as = "park" }\n', ""),
    }[where]
    port = make_faulty(tmp_path, text)
    house = House(tmp_path)
    (tmp_path / "drop").mkdir()
    if "file" in where:
        (tmp_path / "drop" / "poison.txt").write_text("die here\n1\ndie\n" if "split" in where else "die")
    for death in range(3):
        house.start()
        if where == "step-http" or (where == "target" and death == 0):
            await until(lambda: is_open(port), "it listens")
            assert await post(port, b"die", "/target" if where == "target" else "/orders") in (None, 202)
        assert await ended(house) == -signal.SIGKILL, house.tail()
    async with running(house, port):
        assert await post(port, b"good") == 202
        await until(lambda: b"good" in taken(tmp_path), "the others go on")
        if where == "step-http":
            assert await post(port, b"die") == 422
        elif where == "target":
            await comes_to(house, "deliveries", "parked", 1)
        else:
            bad = tmp_path / "drop" / "bad"
            await until(lambda: (bad / "poison.txt").exists(), "the file is put aside")
            assert "poison: the process died 3 times" in (bad / "poison.txt.reason.txt").read_text()
        assert house.stop() == 0


async def test_a_target_or_a_route_that_is_removed_loses_nothing_that_waits_for_it_faults_55(tmp_path: Path) -> None:
    away = '[target.away]\nhttp = "POST http://127.0.0.1:9/"\n'
    route = '[route.old]\nfrom = { http = "POST /old" }\nto = ["away"]\n'
    port = make(tmp_path, OUT + ORDERS + away + route)
    whole = (tmp_path / "routes.toml").read_text()
    house = House(tmp_path)
    async with running(house, port):
        assert await post(port, b"waits", "/old") == 202
        assert house.stop() == 0
    (tmp_path / "routes.toml").write_text(whole.replace(away, "").replace(route, ""))
    async with running(house, port):
        assert (await sums(house, "deliveries"))["parked"] == 1
        _, found = await house.ask("/held/parked")
        assert "no-target" in str(found)
        assert await post(port, b"other") == 202
        assert house.stop() == 0
    mended = whole.replace(away, away.replace('http = "POST http://127.0.0.1:9/"', 'file = "mended"\nname = "one"'))
    (tmp_path / "routes.toml").write_text(mended)
    async with running(house, port):
        released = await asyncio.to_thread(
            subprocess.run, [*ESB, "parked", "release", "--all"], cwd=tmp_path, capture_output=True, text=True
        )
        assert released.returncode == 0, released.stderr
        await until(lambda: taken(tmp_path, "mended") == [b"waits"], "it is delivered with its bytes")
        assert await house.balanced()
