"""`esb run`."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import click
from msgspec.structs import replace

from esb.admin.api import serving
from esb.admin.metrics import Metrics
from esb.bus import open_bus
from esb.cli import logs
from esb.cli.asking import Failed, last_good_table, load_table, table_option
from esb.cli.check import opened
from esb.cli.workers import Supervisor, as_worker, stores
from esb.crew import Crew
from esb.errors import ConfigError, SecretMissing, StoreError
from esb.plugins import Registry
from esb.table.model import Table
from esb.table.places import find_table, keep_last_good

log = logging.getLogger("esb")

SWITCH = 0.0005
"""Seconds after which a thread that computes gives way to one that waits."""

GARBAGE = (20_000, 20, 20)
"""Objects between two looks of the garbage collector at the young, and how many of those until it looks at the older:
the usual 700 cost a tenth of a message."""


@click.command(epilog="Example: esb run -f routes.toml; esb run --workers 4")
@table_option
@click.option(
    "--last-good", "use_last_good", is_flag=True, help="While the table is invalid, run the last one that ran."
)
@click.option("--broker", help='Overrides [bus] broker: "embedded", or "amqp://HOST:5672/VHOST".')
@click.option("--workers", type=click.IntRange(1, 64), default=1, help="Processes that share the work of this machine.")
@click.option("--worker", hidden=True, help="Which one this is, of how many.")
@click.option("--json", "as_json", is_flag=True, help='Log as JSON lines, as [bus] log = "json".')
def run(
    file: Path | None, use_last_good: bool, broker: str | None, workers: int, worker: str | None, as_json: bool
) -> None:
    """Run the bus until SIGTERM, which finishes what is under way; a second one stops now."""
    table, registry = _table(_placed(file), use_last_good)
    if broker is not None:
        table = replace(table, bus=replace(table.bus, broker=_broker(broker)))
    logs.begin("json" if as_json else table.bus.log)
    crew = None
    if worker is not None:
        number, count = (int(part) for part in worker.split("/"))
        crew = Crew(number, count, table.data)
        table = as_worker(table, number, count)
    elif workers > 1 or any(number > 0 for number in stores(table.data)):
        words = ["run", *_again(table.file, use_last_good, broker, as_json)]
        raise SystemExit(asyncio.run(Supervisor(table, workers, words).run()))
    import uvloop

    # The store's thread wants the interpreter a few times a commit: it must not wait the usual 5 ms for a busy loop.
    sys.setswitchinterval(SWITCH)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(_serve(table, registry, crew))
    except ConfigError as error:
        raise Failed(str(error), 2) from error
    except StoreError as error:
        raise Failed(f"{error.code} {error}", 3) from error
    except SecretMissing as error:
        raise Failed(f"{error.code} {error}", 2) from error
    raise SystemExit(code)


def _again(file: Path, use_last_good: bool, broker: str | None, as_json: bool) -> list[str]:
    """The same words for a worker."""
    return [
        "-f", str(file), *(["--last-good"] if use_last_good else []), *(["--broker", broker] if broker else []),
        *(["--json"] if as_json else []),
    ]  # fmt: skip


def _broker(given: str) -> str:
    if given != "embedded" and not given.startswith(("amqp://", "amqps://")):
        raise Failed(f'--broker {given}: write "embedded", or "amqp://HOST:5672/VHOST"', 2)
    return given


def _placed(file: Path | None) -> Path | None:
    """The table's file from the root on, so that a plugin that changes the folder of the process moves nothing; as it
    was given where there is none: who reads it says so."""
    try:
        return find_table(file, os.environ).absolute()
    except ConfigError:
        return file


def _table(file: Path | None, use_last_good: bool) -> tuple[Table, Registry]:
    """The table on disk; the last good one, loudly, where that is asked for and the one on disk is wrong."""
    try:
        table, registry = load_table(file)
        if use_last_good or table.bus.start == "last-good":
            _openable(table, registry)
        return table, registry
    except Failed as failed:
        kept = _kept(file, use_last_good)
        if kept is None:
            raise
        click.echo(failed.message, err=True)
        click.echo("THE TABLE ON DISK IS INVALID: running the last one that ran", err=True)
        return kept


def _openable(table: Table, registry: Registry) -> None:
    """Contracts, maps and stylesheets are looked at too before the last good table is passed over."""
    problems = asyncio.run(opened(table, registry))
    if problems:
        raise Failed("\n".join(str(problem) for problem in problems), 2)


def _kept(file: Path | None, use_last_good: bool) -> tuple[Table, Registry] | None:
    """The last good table, where it is asked for on the command line or by itself."""
    kept = last_good_table(file)
    return kept if kept is not None and (use_last_good or kept[0].bus.start == "last-good") else None


async def _serve(table: Table, registry: Registry, crew: Crew | None) -> int:
    """Gives the exit code: 0 when everything under way was finished."""
    metrics = Metrics()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, ended)
    if crew is not None:
        threading.Thread(target=_until_alone, args=(loop, ended), name="supervisor", daemon=True).start()
    for plugin in registry.plugins:
        if plugin.refused:
            log.warning("the plugin %s was left out: %s", plugin.name, plugin.refused)
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(open_bus(table, registry, counters=metrics, crew=crew))
        address = await stack.enter_async_context(serving(bus, metrics))
        await asyncio.to_thread(keep_last_good, table)
        _settle_garbage()
        log.info("bus %s runs table %s (%s), control at %s", table.bus.name, table.file, table.hash[:12], address)
        log.info("next: esb status")
        await ended.wait()
        log.info("stopping: the sources are closed, what is under way is finished (again to stop now)")
        drained = await bus.drain()
        log.info("drained" if drained else "not all was finished in time: it goes on at the next start")
    return 0


def _until_alone(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    """A worker whose supervisor is gone, which its input tells, finishes what is under way and ends: another supervisor
    starts its own."""
    while os.read(0, 4096):
        pass
    log.error("the supervisor is gone: this worker ends")
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(ended.set)


def _settle_garbage() -> None:
    """What the start has made stays for good: the collector looks at it no more, and seldom at what messages leave."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)


def _stop(ended: asyncio.Event) -> None:
    if ended.is_set():
        os._exit(1)
    ended.set()
