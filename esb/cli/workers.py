"""`esb run --workers N`: the process that starts the workers, starts them again when they die, and answers for all."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from msgspec.structs import replace

from esb.admin.group import Group, serving_group
from esb.crew import place
from esb.store.opening import FILE
from esb.table.model import Table
from esb.table.places import keep_last_good

log = logging.getLogger("esb")

FIRST, CAP = 0.5, 30.0
"""Seconds before a worker that died is started again: at first, and at most."""
STEADY = 30.0
"""Seconds after which a worker that runs is steady: its next death is its first."""
WRONG = 2
"""How a worker ends whose table or settings are wrong: it is not started again."""


def stores(data: Path) -> dict[int, Path]:
    """Every store under a bus's folder by its worker's number; 0 is the one of a time without workers."""
    found = {0: data} if (data / FILE).exists() else {}
    for folder in sorted((data / "workers").glob("*")) if (data / "workers").is_dir() else []:
        if folder.name.isdigit() and folder.name != "0" and (folder / FILE).exists():
            found[int(folder.name)] = folder
    return found


def as_worker(table: Table, number: int, count: int) -> Table:
    """The table as one worker runs it: a store and an admin address of its own, ports shared. Number 0, and one beyond
    the count, has no worker any more: it takes nothing, and delivers what it has."""
    home = place(table.data, number)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    data = table.data if number == 0 else home
    settings = replace(table.bus, data=str(data), admin=f"unix:{home / 'admin.sock'}", admin_key=None)
    listeners = {name: replace(item, shared=True) for name, item in table.listeners.items()}
    routes = table.routes
    if not 1 <= number <= count:
        routes = {name: replace(route, sources=()) for name, route in routes.items()}
    return replace(table, bus=settings, listeners=listeners, routes=routes)


class Supervisor:
    """The workers of one bus. `words` are the command line that all of them get."""

    def __init__(self, table: Table, count: int, words: Sequence[str]) -> None:
        orphans = [number for number in stores(table.data) if not 1 <= number <= count]
        self._table = table
        self._count = count
        self._words = words
        self._numbers = [*range(1, count + 1), *orphans]
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._ended = asyncio.Event()
        self._code = 0

    async def run(self) -> int:
        """Until SIGTERM; a second one stops now. Gives the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        sockets = {str(number): place(self._table.data, number) / "admin.sock" for number in self._numbers}
        async with AsyncExitStack() as stack:
            self._table.data.mkdir(parents=True, exist_ok=True, mode=0o700)
            address = await stack.enter_async_context(serving_group(self._table, Group(sockets)))
            await asyncio.to_thread(keep_last_good, self._table)
            log.info("bus %s runs with %d workers, control at %s", self._table.bus.name, self._count, address)
            log.info("next: esb status")
            await asyncio.gather(*(self._keep(number) for number in self._numbers))
        return self._code

    def _stop(self) -> None:
        again = self._ended.is_set()
        self._ended.set()
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL if again else signal.SIGTERM)
        if again:
            os._exit(1)

    async def _keep(self, number: int) -> None:
        """One worker, again and again."""
        pause = FIRST
        loop = asyncio.get_running_loop()
        while not self._ended.is_set():
            begun = loop.time()
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "esb.cli", *self._words, "--worker", f"{number}/{self._count}",
                stdin=asyncio.subprocess.PIPE,
            )  # fmt: skip
            self._processes[number] = process
            code = await process.wait()
            if self._ended.is_set():
                # One that was just being started knows no drain yet.
                self._code = max(self._code, 0 if code in (0, -signal.SIGTERM) else 1)
                return
            if code == WRONG:
                log.error("worker %d ended: its table or settings are wrong; all are stopped", number)
                self._code = WRONG
                self._stop()
                return
            if loop.time() - begun > STEADY:
                pause = FIRST
            log.error("worker %d ended with %d: it is started again in %.1f s", number, code, pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), pause)
            pause = min(pause * 2, CAP)
