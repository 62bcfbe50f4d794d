"""Acknowledged means on disk: an fdatasync lies between reading a request and writing its 2xx."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import subprocess
from pathlib import Path

import aiohttp
from fault_house import running
from house_process import ESB, House, free_port

TABLE = """
esb = 1
[bus]
name = "fsync"
http = "127.0.0.1:{port}"
[defaults]
owner = "tests@example.org"
[target.out]
file = "out"
name = "{{message.id}}"
[route.orders]
from = {{ http = "POST /orders" }}
to = ["out"]
"""
CALLS = "trace=fsync,fdatasync,read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg"


async def post(port: int, body: bytes) -> int:
    async with aiohttp.ClientSession() as session, session.post(f"http://127.0.0.1:{port}/orders", data=body) as answer:
        return answer.status


async def test_an_fdatasync_lies_between_a_request_and_its_202(tmp_path: Path) -> None:
    assert shutil.which("strace"), "strace is not installed: make test installs it"
    port = free_port()
    (tmp_path / "routes.toml").write_text(TABLE.format(port=port))
    log = tmp_path / "strace.log"
    command = [
        "strace",
        "-f",
        "-s",
        "64",
        "-o",
        str(log),
        "-e",
        CALLS,
        *ESB,
        "run",
        "-f",
        str(tmp_path / "routes.toml"),
    ]
    house = House(tmp_path, command)
    async with running(house, port):
        for number in range(5):
            assert await post(port, f"marker-{number}".encode()) == 202
        await asyncio.sleep(0.3)
        assert house.process is not None
        found = subprocess.run(["pgrep", "-P", str(house.process.pid)], capture_output=True, text=True, check=True)
        for pid in found.stdout.split():
            subprocess.run(["kill", "-s", str(int(signal.SIGTERM)), pid], check=True)
        await asyncio.to_thread(house.process.wait, 30)
    text = log.read_text(errors="replace")
    assert "ptrace" not in text.splitlines()[0], "ptrace is forbidden here: the order of fsync cannot be seen"
    assert synced_before_answers(text) == 5


def synced_before_answers(text: str) -> int:
    """How many 202s were written after a request was read and a sync had ended since."""
    read, synced, good = False, False, 0
    for line in text.splitlines():
        if re.search(r"(read|recv\w*|readv)(\(| resumed).*POST /orders", line):
            read, synced = True, False
        elif read and re.search(r"(fdatasync|fsync)(\(\d+\)| resumed>\)) *= 0", line):
            synced = True
        elif "202 Accepted" in line and re.search(r"(write\w*|send\w*)\(", line):
            assert synced, f"a 202 without an fdatasync before it: {line}"
            good, read = good + 1, False
    return good


def test_the_check_sees_an_answer_before_the_sync() -> None:
    log = (
        '1 recvfrom(9, "POST /orders HTTP"...) = 80\n1 sendto(9, "HTTP/1.1 202 Accepted"...) = 90\n2 fdatasync(5) = 0\n'
    )
    try:
        synced_before_answers(log)
    except AssertionError as error:
        assert "without an fdatasync" in str(error)
    else:
        raise AssertionError("it was not seen")
