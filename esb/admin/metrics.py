"""Figures for Prometheus: counted along with cached label children, read from the books when asked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from time import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)


class Metrics:
    """Counts what intake and dispatch tell (see bus.Counters); one registry a bus."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        by_route, by_both = ["route"], ["route", "target"]
        self._accepted = Counter("esb_accepted", "Messages accepted", by_route, registry=registry)
        self._duplicates = Counter("esb_duplicates", "Repeats recognised by key or claim", by_route, registry=registry)
        self._refused = Counter("esb_refused", "Messages refused, by code", ["route", "code"], registry=registry)
        self._delivered = Counter("esb_delivered", "Deliveries taken by their target", by_both, registry=registry)
        self._failed = Counter("esb_failed", "Failed attempts, by class", [*by_both, "class"], registry=registry)
        self._retries = Counter("esb_retries", "Attempts after the first", by_both, registry=registry)
        self._ended = Counter(
            "esb_ended", "Deliveries that died or were parked", [*by_both, "state"], registry=registry
        )
        self._accepting = Histogram(
            "esb_accept_seconds", "From a message to its commit", by_route, registry=registry, buckets=_SECONDS
        )
        self._delivering = Histogram(
            "esb_deliver_seconds", "One attempt that succeeded", by_both, registry=registry, buckets=_SECONDS
        )
        self._waiting = Histogram(
            "esb_waited_seconds", "From acceptance to delivery", by_both, registry=registry, buckets=_SECONDS
        )
        self._stalls = Summary("esb_loop_stall_seconds", "Code that held the loop", ["what"], registry=registry)
        self._depth = Gauge("esb_outbox_depth", "Deliveries that wait", ["target"], registry=registry)
        self._oldest = Gauge("esb_outbox_oldest_seconds", "Age of the oldest that waits", ["target"], registry=registry)
        self._dead = Gauge("esb_dead_letters", "Dead deliveries", ["target"], registry=registry)
        self._parked = Gauge("esb_parked", "Parked deliveries", ["target"], registry=registry)
        self._open = Gauge("esb_open_messages", "Messages that are not closed", by_route, registry=registry)
        self._lost = Gauge("esb_log_lines_lost", "Log lines that could not be written", registry=registry)
        self._disk = Gauge("esb_disk_free_bytes", "Bytes left on the disk of the store", registry=registry)
        self._problem = Gauge("esb_problem", "1 for what is not well, as in /ready", ["component"], registry=registry)
        self._routes: dict[str, tuple[Any, Any]] = {}
        self._pairs: dict[tuple[str, str], tuple[Any, Any, Any]] = {}

    def accepted(self, route: str, seconds: float, /) -> None:
        found = self._routes.get(route)
        if found is None:
            found = self._routes[route] = (self._accepted.labels(route), self._accepting.labels(route))
        found[0].inc()
        found[1].observe(seconds)

    def duplicate(self, route: str, /) -> None:
        self._duplicates.labels(route).inc()

    def refused(self, route: str, code: str, /) -> None:
        self._refused.labels(route, code).inc()

    def delivered(self, route: str, target: str, seconds: float, waited: float, /) -> None:
        pair = (route, target)
        found = self._pairs.get(pair)
        if found is None:
            found = self._pairs[pair] = (
                self._delivered.labels(*pair),
                self._delivering.labels(*pair),
                self._waiting.labels(*pair),
            )
        found[0].inc()
        found[1].observe(seconds)
        found[2].observe(waited)

    def failed(self, route: str, target: str, kind: str, /) -> None:
        self._failed.labels(route, target, kind).inc()
        self._retries.labels(route, target).inc()

    def ended(self, route: str, target: str, state: str, /) -> None:
        self._ended.labels(route, target, state).inc()

    def stalled(self, name: str, seconds: float, /) -> None:
        self._stalls.labels(name).observe(seconds)

    def text(self, status: Mapping[str, Any]) -> bytes:
        """The exposition; gauges are set from the status first."""
        for target in status["targets"]:
            name = target["name"]
            self._depth.labels(name).set(target["waiting"])
            self._dead.labels(name).set(target["dead"])
            self._parked.labels(name).set(target["parked"])
            oldest = target["oldest"]
            age = 0.0 if oldest is None else max(time() - datetime.fromisoformat(oldest).timestamp(), 0.0)
            self._oldest.labels(name).set(age)
        self._disk.set(status["disk_free"])
        self._problem.clear()
        for problem in status["problems"]:
            self._problem.labels(problem["component"]).set(1)
        self._lost.set(status["log_lines_lost"])
        for route in status["routes"]:
            self._open.labels(route["name"]).set(route["open"])
        return generate_latest(self._registry)
