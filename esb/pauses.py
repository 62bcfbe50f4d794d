"""What stands still: targets and routes that a person, the table or the bus itself has paused, kept over a restart."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from functools import partial

from esb.dispatch import Lane
from esb.gate import Pause
from esb.services import BusServices
from esb.sources import SourceState
from esb.store import Store, copies, journal
from esb.store.records import KeptPause
from esb.table.model import RouteSpec, Table

ENDED = "ended-for"
"""The file in the store's folder that says what the process was ended for."""

log = logging.getLogger(__name__)

EVER = 1.0
"""A moment before all others."""


class Pauses:
    """The pauses of one bus. `lanes` and `sources` are the bus's own, and grow while it is built."""

    def __init__(
        self,
        table: Table,
        store: Store,
        services: BusServices,
        lanes: Mapping[str, Lane],
        sources: Sequence[SourceState],
    ) -> None:
        self._table = table
        self._store = store
        self._services = services
        self._lanes = lanes
        self._sources = sources
        self._routes: dict[str, KeptPause] = {}
        self._copied: set[tuple[str, str]] = set()
        self.clock_held = ""

    def last_words(self, owner: str, seconds: float) -> None:
        """The process is ended for the sake of `target NAME` or `route NAME`: the next start opens it paused (R18).
        Called by the watchdog's thread, while nothing else runs."""
        with (self._store.folder / ENDED).open("w") as file:
            file.write(f"{owner}\n{seconds:.0f}")
            file.flush()
            os.fsync(file.fileno())

    async def _heed(self) -> None:
        """Pauses what the process was ended for."""
        place = self._store.folder / ENDED
        if not place.exists():
            return
        owner, _, seconds = place.read_text().partition("\n")
        scope, _, name = owner.partition(" ")
        reason = f"its code held on for {seconds} s and could not be stopped, so that the process was ended"
        log.error("%s is paused: %s", owner, reason)
        await self._store.set_pause(scope, name, reason=reason, by="bus")
        place.unlink()

    async def restore(self) -> None:
        """What the table pauses, and what was paused when the bus ended. Before anything is started."""
        await self._heed()
        past = await self._store.query(journal.past_pauses)
        for lane in self._lanes.values():
            lane.gate.recall(past.get(lane.name, ()))
            if lane.spec.paused is not None:
                lane.gate.stop(Pause(lane.spec.paused, by="table"))
        await self._store.act(partial(copies.hold, things=self._all()))
        for kept in await self._store.pauses():
            self._count_copied(kept)
            if kept.scope == "clock":
                self.clock_held = kept.reason
            elif kept.scope == "route":
                self._routes[kept.name] = kept
            elif kept.name in self._lanes:
                self._stop(self._lanes[kept.name], kept)

    def _all(self) -> Sequence[tuple[str, str]]:
        """Everything that the table itself lets go on."""
        targets = [("target", lane.name) for lane in self._lanes.values() if not (lane.spec.off or lane.spec.paused)]
        routes = self._table.routes.values()
        return [*targets, *(("route", item.name) for item in routes if item.sources and not (item.off or item.paused))]

    def _count_copied(self, kept: KeptPause) -> None:
        """R29: after a restore a person lets go on what may repeat; until then the bus says so."""
        if kept.by == copies.RESTORE:
            self._copied.add((kept.scope, kept.name))
            self._services.health("restore", "degraded", f"{kept.reason}; paused until esb resume bus")

    def _stop(self, lane: Lane, kept: KeptPause) -> None:
        probe = float(self._table.retry[lane.spec.retry].auth.probe) if kept.until and kept.by == "bus" else None
        # When it was paused is not kept: nothing that waited meanwhile may die of its age.
        lane.gate.stop(Pause(kept.reason, kept.until, probe, kept.by, since=EVER))

    def of_source(self, route: RouteSpec) -> tuple[str | None, float | None]:
        """Why a source of this route starts closed, and until when; None where it starts open, or nothing ends it by
        itself."""
        kept = self._routes.get(route.name)
        if route.off is not None or kept is None:
            return route.off or route.paused, None
        return kept.reason, kept.until

    async def pause(self, scope: str, name: str, reason: str, *, until: float | None = None, by: str = "") -> None:
        """Stops a target's deliveries or closes a route's sources, until `resume` or that time."""
        self._store.set_pause(scope, name, reason=reason, until=until, by=by)
        if scope == "target":
            self._lanes[name].gate.stop(Pause(reason, until, None, by))
        else:
            self._change(name, reason, until)

    async def resume(self, scope: str, name: str, *, by: str = "") -> None:
        """Ends a pause; for scope "clock" lets expiry go on after a jump, for "bus" all that a restore holds."""
        if scope == "bus":
            for held in sorted(self._copied):
                await self.resume(*held, by=by)
            return
        self._store.clear_pause(scope, name, by=by)
        self._discount_copied(scope, name)
        if scope == "target":
            self._lanes[name].gate.resume()
        elif scope == "route":
            self._change(name, None, None)
        else:
            self._services.health("clock", "up", "")
            self.clock_held = ""
            self._hold_clock()

    def _discount_copied(self, scope: str, name: str) -> None:
        if (scope, name) in self._copied:
            self._copied.remove((scope, name))
            if not self._copied:
                self._services.health("restore", "up", "")

    async def look_at_clock(self) -> None:
        """R12: after a jump of over an hour nothing expires, is forgotten or let go until a person, or the table,
        agrees; also over further starts."""
        jump = self._store.clock_jump
        if abs(jump) > 3600 and self._table.bus.clock_jump == "hold":
            self.clock_held = f"jumped by {jump:.0f} s"
            await self._store.set_pause("clock", "", reason=self.clock_held, by="bus")
        elif self.clock_held and self._table.bus.clock_jump != "hold":
            await self._store.clear_pause("clock", "", by="bus")
            self.clock_held = ""
        if self.clock_held:
            log.error("the clock %s while the bus was down: nothing expires", self.clock_held)
            self._services.health("clock", "degraded", f"{self.clock_held}: run esb resume clock")
        self._hold_clock()

    def _hold_clock(self) -> None:
        """Store and lanes hear whether anybody knows the time."""
        held = bool(self.clock_held)
        self._store.hold(held)
        for lane in self._lanes.values():
            lane.hold_expiry = held

    def over(self, state: SourceState) -> None:
        """The time of a route's pause is up."""
        log.info("the pause of route %s is over: %s", state.route.name, state.paused)
        self._store.clear_pause("route", state.route.name, by="bus")
        self._change(state.route.name, None, None)

    def _change(self, route: str, reason: str | None, until: float | None) -> None:
        for state in self._sources:
            if state.route.name == route:
                state.paused, state.until = reason, until
                state.changed.set()
