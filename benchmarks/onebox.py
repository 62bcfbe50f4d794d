"""The bus on one box against floors measured in the same run. Ratios are the bar, rates are aims.

    python benchmarks/onebox.py [--quick] [--only a,b,c,d]

(a) XML in, content route, JSON out, durable, delivered to a memory target and settled; (b) HTTP in to HTTP out over 64
connections with nginx as the sink; (c) a backlog draining; (d) memory when idle, time to ready, `esb check` of 500
routes, cost by number of routes. Each figure is taken in a process of its own; medians of interleaved runs."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
from sink import nginx

HERE = Path(__file__).resolve().parent
PYTHON = sys.executable
ESB = str(Path(sys.executable).parent / "esb")
WORKLOADS = str(HERE / "workloads.py")

HTTP_TABLE = """
esb = 1
[bus]
name = "bench"
http = "127.0.0.1:{port}"
[defaults]
owner = "bench"
[target.sink]
http = "POST {sink}"
id_header = "Idempotency-Key"
concurrency = 64
[route.orders]
from = {{ http = "POST /orders" }}
do = [{{ read = "xml", arrays = ["Order.Lines.Line"] }}, {{ write = "json" }}]
cases = [
  {{ name = "big", when = 'decimal(body.Order.Total) >= 10000', to = ["sink"] }},
  {{ name = "local", when = 'body.Order.Country in ["DE", "AT", "CH"]', to = ["sink"] }},
  {{ name = "rest", otherwise = true, to = ["sink"] }},
]
"""


def run(*words: str) -> dict[str, Any]:
    """One workload in a process of its own; its last line is JSON."""
    done = subprocess.run([PYTHON, *words], cwd=HERE, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def interleaved(runs: int, **what: Callable[[], dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Each in turn, so many times."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in what}
    for _ in range(runs):
        for name, call in what.items():
            found[name].append(call())
    return found


def median(found: list[dict[str, Any]], key: str) -> float:
    return float(statistics.median(item[key] for item in found))


def part_a(runs: int, count: int) -> None:
    found = interleaved(
        runs,
        floor=lambda: run(WORKLOADS, "floor", str(count)),
        bus=lambda: run(WORKLOADS, "bus", str(count)),
    )
    floor, bus = median(found["floor"], "rate"), median(found["bus"], "rate")
    print(f"(a) floor {floor:,.0f}/s, bus {bus:,.0f}/s: {bus / floor:.2f} of the floor (bar 0.5, aim 7,000/s)")
    pruned, balanced = median(found["bus"], "pruned"), found["bus"][-1]["balanced"]
    print(f"    pruned while it ran: {pruned:,.0f} messages; balanced: {balanced}")


class Served:
    """A process that listens: the bus, or the bare loop."""

    def __init__(self, command: list[str], folder: Path, port: int | None) -> None:
        self._log = (folder / "log").open("wb")
        out = subprocess.PIPE if port is None else self._log
        self.process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=self._log)
        self.port = port or self._said()

    def _said(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline().split()[1])

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self._log.close()


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def http_run(kind: str, sink: str, seconds: float, rate: float | None = None) -> dict[str, Any]:
    """Accepted and settled a second over 64 connections, and the latency of the answers."""
    with tempfile.TemporaryDirectory(dir=HERE) as name:
        folder = Path(name)
        if kind == "bus":
            port = free_port()
            (folder / "routes.toml").write_text(HTTP_TABLE.format(port=port, sink=sink))
            served = Served([ESB, "run"], folder, port)
            wait_ready(folder)
        else:
            served = Served([PYTHON, str(HERE / "bare_http.py"), "--sink", sink, "--client", kind], folder, None)
        try:
            began = time.perf_counter()
            words = [str(HERE / "load.py"), f"http://127.0.0.1:{served.port}/orders", "--seconds", str(seconds)]
            found = run(*words, *(["--rate", str(rate)] if rate else []))
            settle(kind, folder, served.port, found["sent"])
            found["settled"] = found["sent"] / (time.perf_counter() - began)
        finally:
            served.end()
        return found


def ask(folder: Path, path: str) -> Any:
    async def call() -> Any:
        connector = aiohttp.UnixConnector(path=str(folder / "var" / "admin.sock"))
        async with aiohttp.ClientSession(connector=connector) as session, session.get(f"http://esb{path}") as answer:
            return await answer.json()

    return asyncio.run(call())


def wait_ready(folder: Path) -> float:
    """Seconds until the bus answers that it is ready."""
    began = time.perf_counter()
    while time.perf_counter() - began < 30:
        try:
            if ask(folder, "/ready")["state"] == "ready":
                return time.perf_counter() - began
        except (OSError, aiohttp.ClientError):
            pass
        time.sleep(0.01)
    raise SystemExit(f"the bus is not ready:\n{(folder / 'log').read_text()}")


def settle(kind: str, folder: Path, port: int, sent: int) -> None:
    """Until everything sent is settled."""
    while True:
        if kind == "bus":
            done = sum(target["delivered"] for target in ask(folder, "/status")["targets"])
        else:
            import urllib.request

            with urllib.request.urlopen(f"http://127.0.0.1:{port}/counts") as answer:
                done = json.load(answer)["settled"]
        if done >= sent:
            return
        time.sleep(0.05)


def part_b(runs: int, seconds: float) -> None:
    with nginx() as sink:
        found = interleaved(
            runs,
            ours=lambda: http_run("ours", sink, seconds),
            aiohttp=lambda: http_run("aiohttp", sink, seconds),
            bus=lambda: http_run("bus", sink, seconds),
        )
        ours, other, bus = (median(found[name], "settled") for name in ("ours", "aiohttp", "bus"))
        half = http_run("bus", sink, seconds, rate=max(bus / 2, 1))
    print(f"(b) bare loop {ours:,.0f}/s, bare loop on aiohttp's client {other:,.0f}/s, bus {bus:,.0f}/s settled")
    print(f"    bus / bare loop {bus / ours:.2f} (bar 0.6), bus / aiohttp's {bus / other:.2f} (aim 1), aim 1,400/s")
    print(f"    at half of that load p50 {half['p50']:.1f} ms, p99 {half['p99']:.1f} ms (bar 60 ms)")


def part_c(backlog: int, count: int) -> None:
    full = run(WORKLOADS, "backlog", str(backlog), str(count))
    empty = run(WORKLOADS, "backlog", "0", str(count))
    print(f"(c) {backlog:,} waiting drain at {full['rate']:,.0f}/s, an empty store at {empty['rate']:,.0f}/s:", end=" ")
    print(f"{full['rate'] / empty['rate']:.2f} (bar 0.5); memory {full['memory'] - empty['memory']:+.0f} MB (bar 50)")


def idle_table(routes: int) -> str:
    head = f'esb = 1\n[bus]\nname = "idle"\nhttp = "127.0.0.1:{free_port()}"\n[defaults]\nowner = "bench"\n'
    head += '[target.out]\nfile = "out"\nname = "{message.id}"\n'
    route = (
        '[route.r{0}]\nfrom = {{ http = "POST /r{0}" }}\ndo = [{{ read = "json" }}]\n'
        'cases = [\n  {{ name = "a", when = \'body.kind == "k{0}" && body.n > {0}\', to = ["out"] }},\n'
        '  {{ name = "b", otherwise = true, drop = "no" }},\n]\n'
    )
    return head + "".join(route.format(number) for number in range(routes))


def part_d() -> None:
    with tempfile.TemporaryDirectory(dir=HERE) as name:
        folder = Path(name)
        (folder / "routes.toml").write_text(idle_table(10))
        served = Served([ESB, "run"], folder, 1)
        ready = wait_ready(folder)
        time.sleep(1)
        status = Path(f"/proc/{served.process.pid}/status").read_text()
        memory = int(status.split("VmRSS:")[1].split()[0]) / 1000
        served.end()
        (folder / "routes.toml").write_text(idle_table(500))
        took = []
        for _ in range(5):
            began = time.perf_counter()
            subprocess.run([ESB, "check"], cwd=folder, check=True, capture_output=True)
            took.append(time.perf_counter() - began)
    print(f"(d) idle {memory:.0f} MB (bar 100), ready after {ready:.2f} s (bar 1)", end="; ")
    print(f"check of 500 routes {statistics.median(took):.2f} s (bar 1)")
    by_routes = {count: run(WORKLOADS, "routes", str(count))["cost"] for count in (10, 100, 1000)}
    said = ", ".join(f"{count} routes {cost:.0f} us" for count, cost in by_routes.items())
    print(f"    a message costs: {said}; {by_routes[1000] / by_routes[10]:.2f} times at 1,000 (flat is 1)")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="shorter, fewer runs, a backlog of 100,000")
    options.add_argument("--only", default="a,b,c,d")
    given = options.parse_args()
    runs = 3 if given.quick else 5
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}")
    parts = given.only.split(",")
    if "a" in parts:
        part_a(runs, 20_000 if given.quick else 60_000)
    if "b" in parts:
        part_b(runs, 4 if given.quick else 10)
    if "c" in parts:
        part_c(100_000 if given.quick else 1_000_000, 30_000)
    if "d" in parts:
        part_d()


if __name__ == "__main__":
    main()
