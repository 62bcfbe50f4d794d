"""A disk, a lock, files, memory, time or a processor that is not there (FAULTS C and G): refused, waited for, resumed."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fault_house import (
    ORDERS,
    OUT,
    cpu_seconds,
    drained,
    injected,
    make,
    post,
    resident,
    running,
    small_disk,
    taken,
    tell,
    under_load,
    until,
)
from house_process import ESB, House, Peer, free_port

PEER = """
[target.peer]
http = "POST {address}/in"
id_header = "Idempotency-Key"
timeout = "1s"
[route.orders]
from = {{ http = "POST /orders" }}
to = ["peer"]
"""


async def status_becomes(port: int, wanted: int, body: bytes, seconds: float = 20.0) -> None:
    """Sends until it is answered so."""
    deadline = time.monotonic() + seconds
    got: int | None = None
    while time.monotonic() < deadline:
        got = await post(port, body)
        if got == wanted:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{got}, not {wanted}, after {seconds:g} s")


async def test_a_full_disk_refuses_and_resumes_by_itself_faults_36(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "110m"):
        port = make(tmp_path, bus='data = "disk/var"')
        house = Small(tmp_path)
        async with running(house, port):
            acknowledged = {f"before-{number}".encode() for number in range(5)}
            for body in acknowledged:
                assert await post(port, body) == 202
            ballast = tmp_path / "disk" / "ballast"
            with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
                while True:
                    file.write(bytes(65_536))
            statuses = set()
            for number in range(14):
                body = f"full-{number}".encode() * 200
                status = await post(port, body)
                statuses.add(status)
                if status == 202:
                    acknowledged.add(body)
                await asyncio.sleep(0.05)
            assert statuses <= {202, 503, 507}
            assert statuses & {503, 507}, "a full disk is told to the sender"
            code, _ = await house.ask("/health")
            assert code == 200, "and the bus lives"
            ballast.unlink()
            await status_becomes(port, 202, b"after")
            await drained(house)
            assert await house.balanced()
            assert acknowledged | {b"after"} <= set(taken(tmp_path))
            assert house.stop() == 0


class Small(House):
    """A house whose store lies on the small disk."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "var").symlink_to(folder / "disk" / "var")


async def test_a_failed_fdatasync_is_never_an_acknowledgement_faults_40(tmp_path: Path) -> None:
    port = make(tmp_path)
    house = House(tmp_path, injected(tmp_path, "fdatasync:error=EIO:when=22..24"))
    bodies = [f"order-{number}".encode() for number in range(25)]
    async with running(house, port):
        answers = {body: await post(port, body) for body in bodies}
        assert set(answers.values()) <= {202, 503}
        assert "disk I/O error): it is opened anew" in house.tail()
        assert answers[bodies[-1]] == 202, "a new connection goes on"
    house = House(tmp_path)
    async with running(house, port):
        await drained(house)
        assert await house.balanced()
    assert {body for body, status in answers.items() if status == 202} <= set(taken(tmp_path))


async def test_a_store_locked_by_another_program_is_waited_for_then_refused_faults_37_43(tmp_path: Path) -> None:
    port = make(tmp_path)
    impatient = (
        "import sys, esb.store.writer as w; w.BUSY_FOR = 0.7; from esb.cli import main; sys.argv[0] = 'esb'; main()"
    )
    house = House(tmp_path, [sys.executable, "-c", impatient, "run", "-f", "routes.toml"])
    async with running(house, port):
        other = sqlite3.connect(tmp_path / "var" / "esb.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(post(port, b"waits"))
        begun = time.monotonic()
        code, _ = await house.ask("/health")
        assert code == 200
        assert time.monotonic() - begun < 1.5, "the lock holds the loop"
        assert not waiting.done()
        other.execute("COMMIT")
        assert await waiting == 202
        other.execute("BEGIN IMMEDIATE")
        assert await post(port, b"refused") == 503
        other.execute("COMMIT")
        other.close()
        assert await post(port, b"after") == 202
        second = subprocess.run([*ESB, "run", "-f", "routes.toml"], cwd=tmp_path, capture_output=True, text=True)
        assert second.returncode == 3
        assert "S540" in second.stderr
        assert house.process is not None
        assert str(house.process.pid) in second.stderr, "it names who has the store"
        await drained(house)
        assert taken(tmp_path) == [b"after", b"waits"]
        assert await house.balanced()


async def test_without_file_descriptors_it_does_not_spin_and_goes_on_when_there_are_some_faults_74(
    tmp_path: Path,
) -> None:
    port = make(tmp_path)
    house = House(tmp_path, ["prlimit", "--nofile=64:64", *ESB, "run", "-f", "routes.toml"])
    async with running(house, port):
        assert await post(port, b"before") == 202
        crowd = []
        for _ in range(120):
            try:
                crowd.append((await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 1))[1])
            except (OSError, TimeoutError):
                break
        assert len(crowd) > 50
        assert house.process is not None
        begun = cpu_seconds(house.process.pid)
        await asyncio.sleep(1)
        assert cpu_seconds(house.process.pid) - begun < 0.6, "it spins"
        assert house.process.poll() is None
        for writer in crowd:
            writer.close()
        await status_becomes(port, 202, b"after")
        await drained(house)
        assert {b"before", b"after"} <= set(taken(tmp_path))
        assert house.stop() == 0


async def test_a_process_that_was_stopped_goes_on_and_repeats_only_with_the_same_id_faults_76(tmp_path: Path) -> None:
    peer = Peer()
    sent: set[bytes] = set()
    async with peer.serving():
        port = make(tmp_path, PEER.format(address=peer.address))
        house = House(tmp_path)
        async with running(house, port):
            async with under_load(port, 4, sent):
                await until(lambda: len(sent) > 40, "a load")
                tell(house, signal.SIGSTOP)
                # Longer than the target's timeout: what was under way looks late when the process goes on.
                await asyncio.sleep(1.5)
                before = len(sent)
                tell(house, signal.SIGCONT)
                await until(lambda: len(sent) > before + 40, "the load goes on")
            await drained(house)
            assert await house.balanced()
            assert house.stop() == 0
    bodies = [set(found) for found in peer.bodies.values()]
    assert all(len(found) == 1 for found in bodies), "one id is one message"
    arrived = [next(iter(found)) for found in bodies]
    assert sent <= set(arrived)
    assert len(arrived) == len(set(arrived)), "one message is one id"
    assert sum(peer.taken.values()) - len(peer.taken) <= 16, "only what was under way comes twice"


class Unheard(House):
    """A bus whose output nobody reads any more."""

    def start(self) -> None:
        reading, writing = os.pipe()
        with self.log.open("ab"):
            self.process = subprocess.Popen(
                self._command, cwd=self.folder, env=self._env, stdout=writing, stderr=writing, start_new_session=True
            )
        os.close(writing)
        os.close(reading)


async def test_a_bus_whose_output_is_closed_keeps_routing_faults_78(tmp_path: Path) -> None:
    files = '[route.files]\nfrom = { file = "away", settled = "50ms", every = "50ms" }\nto = ["lost"]\n'
    lost = '[target.lost]\nfile = "routes.toml/no"\nname = "x"\n'
    port = make(tmp_path, OUT + ORDERS + lost + files.replace('to = ["lost"]', 'to = ["out", "lost"]'))
    house = Unheard(tmp_path)
    async with running(house, port):
        for number in range(5):
            assert await post(port, f"{number}".encode()) == 202
        await until(lambda: len(taken(tmp_path)) == 5, "they arrive")
        (tmp_path / "away").mkdir()
        (tmp_path / "away" / "one.txt").write_text("from a file")
        await until(lambda: b"from a file" in taken(tmp_path), "files too")
        second = subprocess.run([*ESB, "pause", "orders", "--reason", "night"], cwd=tmp_path, capture_output=True)
        assert second.returncode in (0, 2)
        _, status = await house.ask("/status")
        assert status["log_lines_lost"] > 0, "what could not be written is counted"
        _, metrics = await house.ask("/metrics")
        (figure,) = [line for line in metrics.splitlines() if line.startswith("esb_log_lines_lost ")]
        assert float(figure.split()[1]) >= status["log_lines_lost"]
        said = subprocess.run([*ESB, "status"], cwd=tmp_path, capture_output=True, text=True)
        assert "log lines were lost" in said.stdout
        assert house.stop() == 0


JUMPING = """
import sys, time
from pathlib import Path
real, place = time.time, Path("jump")
def moved():
    try:
        return real() + float(place.read_text())
    except (OSError, ValueError):
        return real()
time.time = moved
from esb.cli import main
sys.argv = ["esb", "run", "-f", "routes.toml"]
main()
"""


async def test_a_year_s_jump_of_the_wall_clock_expires_and_repeats_nothing_faults_73(tmp_path: Path) -> None:
    peer = Peer(failing=1.0)
    table = PEER.format(address=peer.address).replace("timeout =", 'expires = "1h"\ntimeout =')
    port = make(tmp_path, table)
    command = [sys.executable, "-c", JUMPING]
    async with peer.serving():
        house = House(tmp_path, command)
        async with running(house, port):
            for number in range(5):
                assert await post(port, f"{number}".encode()) == 202
            (tmp_path / "jump").write_text(str(365 * 86400))
            assert await post(port, b"during") == 202
            await asyncio.sleep(1)
            attempts = [row["attempts"] for row in await waiting(house)]
            assert len(attempts) == 6, "nothing expired"
            assert min(attempts) >= 1 and max(attempts) <= 15, "a wait of up to 400 ms between two tries stays one"
            assert house.stop() == 0
        house = House(tmp_path, command)
        async with running(house, port):
            assert "the clock jumped by" in house.tail(), "a start after a jump says so"
            before = [row["attempts"] for row in await waiting(house)]
            await asyncio.sleep(1)
            after = [row["attempts"] for row in await waiting(house)]
            assert len(before) == len(after) == 6, "and nothing expires or is too old before a person agrees (R12)"
            assert sum(before) < sum(after) <= sum(before) + 6 * 15, "they are tried, and not in a storm"
            peer.failing = 0.0
            await drained(house)
            assert await house.balanced()
            assert house.stop() == 0
    assert sorted(b"".join(set(bodies)) for bodies in peer.bodies.values()) == [b"0", b"1", b"2", b"3", b"4", b"during"]


async def waiting(house: House) -> list[dict[str, Any]]:
    """The deliveries that wait."""
    _, found = await house.ask("/waiting")
    rows: list[dict[str, Any]] = found["deliveries"]
    return rows


def burner() -> subprocess.Popen[bytes]:
    """A process that computes for ever on the first processor."""
    return subprocess.Popen(["taskset", "-c", "0", sys.executable, "-c", "while True: pass"])


async def test_on_one_processor_with_four_burners_everybody_is_answered_faults_77(tmp_path: Path) -> None:
    port = make(tmp_path)
    house = House(tmp_path, ["taskset", "-c", "0", *ESB, "run", "-f", "routes.toml"])
    async with running(house, port):
        burners = [burner() for _ in range(4)]
        try:
            for number in range(10):
                begun = time.monotonic()
                code, _ = await house.ask("/health")
                assert code == 200
                assert await post(port, f"{number}".encode()) == 202
                assert time.monotonic() - begun < 5
            await until(lambda: len(taken(tmp_path)) == 10, "they are delivered")
        finally:
            for process in burners:
                process.kill()
                process.wait()


async def test_a_backlog_costs_disk_and_not_memory_faults_75(tmp_path: Path) -> None:
    """Many messages for a target that is away, at once: what is over the window waits in the store."""
    port = make(tmp_path, PEER.format(address=f"http://127.0.0.1:{free_port()}"))
    body = bytes(60_000)
    house = House(tmp_path)
    async with running(house, port):
        assert house.process is not None
        assert await post(port, body) == 202
        before = resident(house.process.pid)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=200)) as session:

            async def send() -> int:
                async with session.post(f"http://127.0.0.1:{port}/orders", data=body) as answer:
                    return answer.status

            statuses = await asyncio.gather(*(send() for _ in range(2500)))
        assert set(statuses) <= {202, 503}
        assert statuses.count(202) > 1000
        grown = resident(house.process.pid) - before
        assert grown < 100_000_000, f"{statuses.count(202) * len(body)} bytes wait, {grown} of them in memory"
