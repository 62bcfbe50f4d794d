"""Whether a target may be tried, and how fast: pauses, probes, the circuit breaker, the rate limit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from esb.clock import Clock, sleep_or
from esb.retry import Failure, RetryPolicy
from esb.table.model import TargetSpec

log = logging.getLogger(__name__)

AUTH_FAILURES = 3
"""Logins refused to different messages, without a success between, that pause a target (R17)."""

FAILING = 3
"""Failures in a row, of one or of several messages, after which a person is told that a target fails."""

PAUSES = 100
"""Pauses of a target that are remembered: the time in them makes nothing older."""


class Keeper(Protocol):
    """Writes pauses down, so that a restart keeps them."""

    def set_pause(self, scope: str, name: str, *, reason: str, until: float | None = None, by: str = "") -> object: ...

    def clear_pause(self, scope: str, name: str, *, by: str = "") -> object: ...


class Pause(Struct, frozen=True):
    """Why a lane stands still. `probe` is the seconds between tries of one real delivery; None: a person resumes.
    `since` is when it began, where that was before now."""

    reason: str
    until: float | None = None
    probe: float | None = None
    by: str = "bus"
    since: float | None = None


class Gate:
    """The way to one target."""

    def __init__(self, spec: TargetSpec, clock: Clock, keeper: Keeper, health: Callable[[str, str, str], None]) -> None:
        self.pause: Pause | None = None
        self._name = spec.name
        self._open_after = spec.open_after
        self._clock = clock
        self._keeper = keeper
        self._health = health
        self._resumed = asyncio.Event()
        self._probe_ready = False
        self._auth_failed: set[str] = set()
        self._rejected = self._failed_in_a_row = 0
        self._said = ""
        self._pauses: list[tuple[float, float | None]] = []

    async def wait(self) -> None:
        """Returns when the target may be tried: it was resumed, the pause is over, or a probe is due."""
        while (pause := self.pause) is not None:
            if pause.probe is None and pause.until is None:
                await self._resumed.wait()
                continue
            if pause.until is not None and self._clock.now() >= pause.until:
                if pause.probe is None:
                    self.resume()
                    self._keeper.clear_pause("target", self._name, by="bus")
                    return
                self.pause = Pause(pause.reason, self._clock.now() + pause.probe, pause.probe, pause.by)
                self._probe_ready = True
                return
            await sleep_or(self._clock, (pause.until or 0) - self._clock.now(), self._resumed)

    async def opened(self) -> None:
        """Returns when no person has the target paused."""
        while self.closed:
            await self._resumed.wait()

    def admits(self) -> bool:
        """Whether the delivery in hand may go: always, unless the target is paused; then only one that probes."""
        if self.pause is None:
            return True
        ready, self._probe_ready = self._probe_ready, False
        return ready

    @property
    def closed(self) -> bool:
        """Whether the target is paused, and not for a probe."""
        return self.pause is not None and self.pause.probe is None

    def stop(self, pause: Pause) -> None:
        """No more deliveries until `resume`, the end of `until`, or a probe that succeeds."""
        self._resumed.clear()
        if self.pause is None:
            self._pauses = [*self._pauses[-PAUSES:], (pause.since or self._clock.now(), None)]
        elif pause.since is not None:
            self._pauses[-1] = (min(self._pauses[-1][0], pause.since), None)
        self.pause = pause

    def resume(self) -> None:
        """Deliveries go on; what was counted against the target is forgotten."""
        if self.pause is not None:
            self._pauses[-1] = (self._pauses[-1][0], self._clock.now())
            if self.pause.by == "bus":
                self._health(f"target.{self._name}", "up", "")
        self.pause = None
        self._forgive()
        self._resumed.set()

    def recall(self, pauses: Sequence[tuple[float, float]]) -> None:
        """Pauses of before the start, each from and until: no delivery ages in them."""
        self._pauses[:0] = pauses[-PAUSES:]

    def _forgive(self) -> None:
        self._auth_failed.clear()
        self._rejected = self._failed_in_a_row = 0

    def age(self, accepted_at: float, now: float) -> float:
        """Seconds since acceptance in which the target was not paused (R12)."""
        paused = sum(max(0.0, min(end or now, now) - max(begin, accepted_at)) for begin, end in self._pauses)
        return now - accepted_at - paused

    def succeeded(self) -> None:
        """A delivery went through: a probe that did ends the pause."""
        if self.pause is not None and self.pause.probe is not None:
            log.info("target %s answers again: resumed", self._name)
            self.resume()
            self._keeper.clear_pause("target", self._name, by="bus")
        elif self._auth_failed or self._rejected or self._failed_in_a_row:
            if self.failing:
                log.warning("target %s answers again", self._name)
            self._forgive()

    @property
    def failing(self) -> str:
        """What the target says again and again, for people; "" while it works."""
        if self._failed_in_a_row < FAILING:
            return ""
        return f"{self._failed_in_a_row} failures in a row: {self._said}"

    def login_refused(self, uid: str, probe: float, reason: str) -> None:
        """Pauses the target when the logins of several messages were refused (R17). `probe` in seconds."""
        self._auth_failed.add(uid)
        if len(self._auth_failed) >= AUTH_FAILURES:
            self._trip(f"login refused: {reason}", f"login refused for {AUTH_FAILURES} messages", probe)

    def failed(self, failure: Failure, policy: RetryPolicy) -> None:
        """Counts what may be the target's fault rather than the message's: `in_a_row` of permanent failures, and the
        circuit breaker `open_after`, which leaves a failing target alone but for probes."""
        if failure.kind == "permanent":
            self._rejected += 1
            limit = policy.permanent.in_a_row
            if limit is not None and self._rejected >= limit:
                said = f"{limit} messages rejected in a row"
                self._trip(f"{said}: {failure.text[:200]}", said, None)
        elif failure.kind in ("transient", "unknown"):
            self._failed_in_a_row += 1
            self._said = f"{failure.code} {failure.text[:200]}"
            if self._failed_in_a_row == FAILING:
                log.warning("target %s fails: %s; what is for it waits and is tried again", self._name, self._said)
            if self._open_after is not None and self._failed_in_a_row >= self._open_after:
                said = f"{self._failed_in_a_row} failures in a row"
                reason = f"circuit open after {said}: {failure.text[:200]}"
                self._trip(reason, said, float(policy.auth.probe))

    def _trip(self, reason: str, said: str, probe: float | None) -> None:
        """Pauses, and writes it down so that a restart keeps it."""
        if self.pause is not None:
            return
        log.error("target %s: %s: paused", self._name, said)
        pause = Pause(reason, None if probe is None else self._clock.now() + probe, probe)
        self.stop(pause)
        self._keeper.set_pause("target", self._name, reason=reason, until=pause.until, by=pause.by)
        self._health(f"target.{self._name}", "down", reason)


class Bucket:
    """A token bucket: `rate` a second on average (None: no limit), bursts of `burst` (default one second's worth)."""

    def __init__(self, rate: float | None, burst: int | None, clock: Clock) -> None:
        self._rate = rate
        self._burst = float(burst or max(1.0, self._rate or 1.0))
        self._tokens = self._burst
        self._clock = clock
        self._at = clock.now()

    async def token(self) -> None:
        """Returns when one more delivery may go."""
        if self._rate is None:
            return
        while True:
            now = self._clock.now()
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
            if self._tokens >= 1.0:
                self._tokens -= 1.0
                return
            await self._clock.sleep((1.0 - self._tokens) / self._rate)
