"""`esb doctor`: machine, table, store, targets."""

from __future__ import annotations

import asyncio
import resource
import shutil
import socket
import sqlite3
import time
from pathlib import Path
from typing import Any

import click

from esb.cli.asking import json_option, load_table, show, stop, table_of, table_option
from esb.errors import EsbError, SecretMissing
from esb.store import open_reader
from esb.store.opening import NETWORK, file_system
from esb.table.model import Table

WAL_BUG_FIXED = (3, 51, 3)


@click.command(epilog="Example: esb doctor --json")
@table_option
@json_option
def doctor(file: Path | None, as_json: bool) -> None:
    """Look over machine, table, store and the targets of a running bus; each finding with what to do.

    Ends with 1 when something is wrong."""
    table, _ = load_table(file)
    findings = [*_machine(table), *_store(table), *_bus(file)]
    show({"findings": findings}, as_json, _told)
    if any(item["state"] == "bad" for item in findings):
        stop("something is wrong", 1)


def _told(answer: Any) -> None:
    table_of([[item["state"], item["what"], item["said"]] for item in answer["findings"]], ["state", "what", "said"])


def _finding(what: str, good: bool, said: str, *, warn: bool = False) -> dict[str, str]:
    return {"what": what, "state": "good" if good else "warning" if warn else "bad", "said": said}


def _machine(table: Table) -> list[dict[str, str]]:
    place = table.data if table.data.exists() else table.folder
    free = shutil.disk_usage(place).free
    kind = file_system(place)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    version = sqlite3.sqlite_version
    year = time.gmtime().tm_year
    return [
        _finding("disk", free > 1_000_000_000, f"{free // 1_000_000} MB free at {place}", warn=free > 200_000_000),
        _finding("file system", not NETWORK.fullmatch(kind), f"{kind or 'unknown'}; the store needs a local one"),
        _finding("open files", files >= 1024, f"{files} at most; raise it with ulimit -n", warn=True),
        _finding("clock", 2025 <= year < 2100, f"the year is {year}"),
        _finding(
            "SQLite",
            sqlite3.sqlite_version_info >= WAL_BUG_FIXED,
            f"{version}; before 3.51.3 let no other program write to the store",
            warn=True,
        ),
    ]


def _store(table: Table) -> list[dict[str, str]]:
    if not (table.data / "esb.db").exists():
        return [_finding("store", True, "not there yet: it is made at the first run")]
    try:
        with open_reader(table.data) as reader:
            checked = reader.query(lambda db: db.execute("PRAGMA quick_check(1)").fetchone()[0])
            account = reader.account()
    except EsbError as error:
        return [_finding("store", False, str(error))]
    return [
        _finding("store", checked == "ok", f"quick_check: {checked}"),
        _finding("books", account.balanced, "they balance" if account.balanced else "; ".join(account.differences)),
    ]


def _bus(file: Path | None) -> list[dict[str, str]]:
    from esb.cli.asking import _over_http

    table, _ = load_table(file)
    try:
        ready = asyncio.run(_over_http(table, "GET", "/ready", {}))
    except SecretMissing as error:
        return [_finding("admin key", False, f"{error.code} {error}: the bus cannot be asked without it")]
    except (OSError, EsbError):
        stopped = [_finding(f"route.{name}", False, f"stopped: {why}") for name, why in table.stopped.items()]
        return [_finding("bus", False, "it is not running: esb run", warn=True), *stopped, *_ports(table)]
    found = [_finding(item["component"], False, item["reason"]) for item in ready["problems"]]
    found += [_probed(table, name) for name, spec in table.targets.items() if spec.component.probe is not None]
    return found or [_finding("bus", True, "ready")]


def _ports(table: Table) -> list[dict[str, str]]:
    """Whether the listeners of a stopped bus find their ports free."""
    used = {
        getattr(source.options, "listener", None)
        for route in table.routes.values()
        for source in route.sources
        if route.off is None
    }
    found = []
    for name in sorted(set(table.listeners) & used):
        bind = table.listeners[name].bind
        host, _, port = bind.rpartition(":")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host.strip("[]"), int(port)))
            except OSError as error:
                found.append(_finding(f"listener {name}", False, f"{bind}: {error.strerror}; see ss -ltnp"))
            else:
                found.append(_finding(f"listener {name}", True, f"{bind} is free"))
    return found


def _probed(table: Table, name: str) -> dict[str, str]:
    from esb.cli.asking import _over_http

    try:
        answer = asyncio.run(_over_http(table, "POST", "/probe", {"target": name}))
    except (OSError, EsbError) as error:
        return _finding(f"target {name}", False, str(error))
    return _finding(f"target {name}", answer["ok"] is not False, str(answer["said"]))
