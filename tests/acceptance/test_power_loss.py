"""The power fails (FAULTS 13): of the store's files any of the writes that no fdatasync has covered may be missing.

One run under strace gives every write, every sync and every 202 in order; the files are then made again as a power cut
could have left them at many moments, and opened.
"""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from fault_house import OUT, drained, make, post, running
from house_process import ESB, House

from esb.clock import SystemClock
from esb.store import FILE, open_store

ORDERS = """
[route.orders]
from = { http = "POST /orders" }
do = [{ read = "json" }]
to = ["out"]
"""
CALLS = "pwrite64,ftruncate,fsync,fdatasync,write,writev,sendto,sendmsg"
MESSAGES, CUTS = 16, 30

Write = tuple[int, bytes]


class Disk:
    """The store's files: what is certainly on disk, and what was written since and may be."""

    def __init__(self, folder: Path) -> None:
        self.safe = {path.name: path.read_bytes() for path in folder.glob(f"{FILE}*") if not path.name.endswith("-shm")}
        self.loose: dict[str, list[Write]] = {}

    def write(self, name: str, at: int, data: bytes) -> None:
        self.loose.setdefault(name, []).append((at, data))

    def cut(self, name: str, size: int) -> None:
        self.loose.setdefault(name, []).append((size, b""))

    def sync(self, name: str, count: int) -> None:
        """The first `count` of the loose writes are on disk."""
        loose = self.loose.get(name, [])
        self.safe[name] = _with(self.safe.get(name, b""), loose[:count])
        self.loose[name] = loose[count:]

    def after_a_cut(self, chance: random.Random) -> dict[str, bytes]:
        """The files as a power cut may leave them now: some of what is loose is there, in no order."""
        share = chance.choice([0.0, 0.5, 0.9])
        return {
            name: _with(
                self.safe.get(name, b""), [item for item in self.loose.get(name, []) if chance.random() < share]
            )
            for name in {*self.safe, *self.loose}
        }


def _with(content: bytes, writes: list[Write]) -> bytes:
    made = bytearray(content)
    for at, data in writes:
        if not data:
            del made[at:]
            continue
        made.extend(b"\0" * (at - len(made)))
        made[at : at + len(data)] = data
    return bytes(made)


def moments(log: Path, disk: Disk) -> Iterator[str | None]:
    """Goes through a run: after each event, the id of the message that was acknowledged by it, else None."""
    syncing: dict[str, tuple[str, int]] = {}
    store = rf"\d+<[^>]*/var/({re.escape(FILE)}[^>]*)>"
    for line in log.read_text(errors="replace").splitlines():
        pid, _, call = re.sub(r"<((?:\\x..)+)>", _path, line).partition(" ")
        if found := re.match(rf'\s*pwrite64\({store}, "([^"]*)", \d+, (\d+)', call):
            disk.write(found[1], int(found[3]), _bytes(found[2]))
        elif found := re.match(rf"\s*ftruncate\({store}, (\d+)", call):
            disk.cut(found[1], int(found[2]))
        elif found := re.match(rf"\s*f(?:data)?sync\({store}", call):
            syncing[pid] = (found[1], len(disk.loose.get(found[1], [])))
            if call.endswith("= 0"):
                disk.sync(*syncing.pop(pid))
        elif re.search(r"f(data)?sync resumed.*= 0", call) and pid in syncing:
            disk.sync(*syncing.pop(pid))
        elif ACCEPTED in call:
            yield re.findall(rb'"id": ?"([^"]+)"', _bytes(call))[0].decode()
            continue
        else:
            continue
        yield None


ACCEPTED = "".join(f"\\x{byte:02x}" for byte in b"202 Accepted")


def _bytes(text: str) -> bytes:
    return bytes.fromhex("".join(re.findall(r"\\x([0-9a-f]{2})", text)))


def _path(found: re.Match[str]) -> str:
    return f"<{_bytes(found[1]).decode()}>"


async def traced(folder: Path) -> tuple[Disk, Path]:
    """A store that is there already, as a clean stop left it; then a run of a few messages, and the log of it."""
    port = make(folder, OUT + ORDERS)
    house = House(folder)
    async with running(house, port):
        assert house.stop() == 0
    disk = Disk(folder / "var")
    log = folder / "strace.log"
    assert shutil.which("strace"), "strace is not installed: make test installs it"
    traced = ["strace", "-D", "-f", "-y", "-xx", "-s", "70000", "-o", str(log), "-e", f"trace={CALLS}", *ESB, "run"]
    house = House(folder, [*traced, "-f", str(folder / "routes.toml")])
    async with running(house, port):
        for number in range(MESSAGES):
            assert await post(port, b'{"n": %d}' % number) == 202
        await drained(house)
        house.kill()
    return disk, log


async def test_a_power_cut_at_any_moment_loses_nothing_that_was_acknowledged_faults_13(tmp_path: Path) -> None:
    disk, log = await traced(tmp_path)
    chance = random.Random(13)
    acknowledged: list[str] = []
    pictures: list[tuple[list[str], dict[str, bytes]]] = []
    for uid in moments(log, disk):
        if uid is not None:
            acknowledged.append(uid)
        if acknowledged:
            pictures.append(([*acknowledged], disk.after_a_cut(chance)))
    assert len(acknowledged) == MESSAGES
    assert len(pictures) > 5 * MESSAGES, "the writes of the store are seen"
    for number, (known, files) in enumerate(chance.sample(pictures, CUTS)):
        folder = tmp_path / f"cut-{number}"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        async with open_store(folder, clock=SystemClock(), durable=False) as store:
            assert (await store.account()).balanced
            for uid in known:
                assert await store.message_state(uid) is not None, f"{uid} was acknowledged before the cut"
        with sqlite3.connect(folder / FILE) as db:
            assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_the_check_sees_a_commit_that_was_not_synced(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.write(FILE, 0, b"synced")
    disk.sync(FILE, 1)
    disk.write(FILE, 6, b" or not")
    left = {disk.after_a_cut(random.Random(seed))[FILE] for seed in range(20)}
    assert left == {b"synced", b"synced or not"}
