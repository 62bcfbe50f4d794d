"""What the fault tests share: a bus of a few lines as a process, calls that fail or kill under strace, and patience."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from house_process import ESB, House, free_port

HEAD = """
esb = 1
[bus]
name = "faults"
http = "127.0.0.1:{port}"
{bus}
[defaults]
owner = "tests@example.org"
[retry.patient]
transient = {{ first = "50ms", factor = 2, cap = "400ms" }}
"""
OUT = """
[target.out]
file = "out"
name = "{message.id}"
"""
ORDERS = """
[route.orders]
from = { http = "POST /orders" }
to = ["out"]
"""
FILES = """
[route.files]
from = { file = "drop", settled = "50ms", every = "50ms", done = "done", bad = "bad" }
to = ["out"]
"""

DIE = """
import importlib, inspect, os, signal, sys

module, name, when, count = sys.argv[1:5]
owner, _, method = name.rpartition(".")
place = getattr(importlib.import_module(module), owner)
honest, calls = getattr(place, method), 0

def due():
    global calls
    calls += 1
    return calls == int(count)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

async def waited(*arguments, **options):
    last = due()
    if last and when == "before":
        die()
    result = await honest(*arguments, **options)
    if last:
        die()
    return result

def straight(*arguments, **options):
    last = due()
    if last and when == "before":
        die()
    result = honest(*arguments, **options)
    if last:
        die()
    return result

setattr(place, method, waited if inspect.iscoroutinefunction(honest) else straight)
from esb.cli import main
sys.argv = ["esb", "run", "-f", "routes.toml"]
main()
"""


def make(folder: Path, text: str = OUT + ORDERS, bus: str = "") -> int:
    """Writes a table for a folder; gives the port of its HTTP sources."""
    port = free_port()
    (folder / "routes.toml").write_text(HEAD.format(port=port, bus=bus) + text)
    return port


def dying(place: str, when: str, count: int) -> list[str]:
    """A bus that kills itself just before or after the n-th call of `module:Class.method`."""
    module, _, name = place.partition(":")
    return [sys.executable, "-c", DIE, module, name, when, str(count)]


def injected(folder: Path, *faults: str) -> list[str]:
    """A bus whose system calls fail as said; the process started is the bus itself (the tracer is its grandchild)."""
    assert shutil.which("strace"), "strace is not installed: make test installs it"
    calls = ",".join(fault.partition(":")[0] for fault in faults)
    command = ["strace", "-D", "-f", "-o", str(folder / "strace.log"), "-e", f"trace={calls}"]
    for fault in faults:
        command += ["-e", f"inject={fault}"]
    return [*command, *ESB, "run", "-f", str(folder / "routes.toml")]


async def until(holds: Callable[[], bool], what: str = "it comes to hold", seconds: float = 30.0) -> None:
    """Returns when it holds; fails with what should have come to hold."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {seconds:g} s: {what}")


def running(house: House, port: int | None = None) -> AbstractAsyncContextManager[House]:
    """A bus whose HTTP sources listen at the port; it is ended with the block, if it has not ended by itself."""
    return house.running(port)


async def ended(house: House, seconds: float = 30.0) -> int:
    """The exit code of a bus that ends by itself; negative: the signal."""
    process = house.process
    assert process is not None
    try:
        await until(lambda: process.poll() is not None, "the bus ends", seconds)
    except AssertionError:
        process.kill()
        process.wait()
        raise
    return int(process.returncode)


async def post(port: int, body: bytes, path: str = "/orders", key: str | None = None) -> int | None:
    """The status of a POST; None when the connection broke or nobody answered."""
    headers = {} if key is None else {"Idempotency-Key": f'"{key}"'}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session,
            session.post(f"http://127.0.0.1:{port}{path}", data=body, headers=headers) as answer,
        ):
            await answer.read()
            return answer.status
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None


@asynccontextmanager
async def under_load(port: int, senders: int, acknowledged: set[bytes]) -> AsyncIterator[None]:
    """Senders that post a body each after the other until the block ends; what was answered 202 is noted."""
    stopping = False

    async def send(sender: int) -> None:
        count = 0
        while not stopping:
            count += 1
            body = f"{sender}-{count}".encode()
            if await post(port, body) == 202:
                acknowledged.add(body)
            else:
                await asyncio.sleep(0.02)

    running = [asyncio.ensure_future(send(sender)) for sender in range(senders)]
    try:
        yield
    finally:
        stopping = True
        await asyncio.gather(*running)


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    """A file system of its own in memory."""
    place.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True)
    if made.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {made.stderr.decode()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


async def drained(house: House, seconds: float = 30.0) -> None:
    """Returns when nothing waits in the store."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        _, status = await house.ask("/status")
        if all(target["waiting"] == 0 for target in status["targets"]):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"something still waits after {seconds:g} s:\n{house.tail()}")


def taken(folder: Path, name: str = "out") -> list[bytes]:
    """What the file target holds, sorted; not what a death left half-written."""
    return sorted(path.read_bytes() for path in (folder / name).glob("[!.]*"))


def books(account: Any, book: str = "messages") -> dict[str, int]:
    """One book of what `/account` says, over all its names: how many of each."""
    sums: Counter[str] = Counter()
    for item in account["books"]:
        if item["book"] == book:
            sums.update(item["entries"])
    return sums


def tell(house: House, number: signal.Signals) -> None:
    """A signal to the bus."""
    assert house.process is not None
    house.process.send_signal(number)


def cpu_seconds(pid: int) -> float:
    """What a process has computed so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """Bytes of memory of its own that a process holds now: not the pages of files."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024
