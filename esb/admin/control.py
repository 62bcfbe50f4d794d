"""The control bus: what an operator asks and does, the same for a running bus, a stopped one, HTTP and the shell."""

from __future__ import annotations

import base64
import logging
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from time import time
from typing import Any, get_args

import msgspec

from esb.admin import advice, question, rows
from esb.admin.access import Access
from esb.admin.boxes import Boxes
from esb.admin.failing import at_failing_point
from esb.admin.letters import Letters
from esb.admin.question import BadRequest, NeedsBus, NotFound
from esb.admin.waiting import Halt, of_delivery
from esb.bus import Bus
from esb.errors import describe
from esb.ports import Incoming
from esb.secrets import mask
from esb.store import Opened, account, dead_letters, journal, reading
from esb.store.records import KeptPause, MessageState
from esb.table.model import RouteSpec, Table, TargetSpec


class Control:
    """One operator's view. `bus` is None for a stopped one; `act` is None where only reading is possible."""

    def __init__(self, table: Table, access: Access, bus: Bus | None) -> None:
        self.table = table
        self.bus = bus
        self.boxes = Boxes(access, Letters(access, table, self._standing), self._look)
        self._access = access
        self._query = access.query

    def _look(self, targets: Iterable[str] | None) -> None:
        if self.bus is not None:
            self.bus.look(targets)

    async def _standing(self, found: Opened, data: bytes) -> bytes | None:
        return None if self.bus is None else await at_failing_point(self.bus, found, data)

    # Looking

    async def health(self, ask: Mapping[str, Any]) -> Any:
        """Whether the process lives."""
        return {"state": "up", "bus": self.table.bus.name}

    async def ready(self, ask: Mapping[str, Any]) -> Any:
        """Whether everything of the table runs; "degraded" with the reasons when something does not."""
        problems = self._problems()
        return {"state": "degraded" if problems else "ready", "problems": problems}

    def _problems(self) -> list[dict[str, str]]:
        if self.bus is None:
            return [{"component": "bus", "state": "down", "reason": "it is not running"}]
        found = self.bus.services.healths.items()
        problems = [
            {"component": name, "state": item.state, "reason": item.reason}
            for name, item in found
            if item.state != "up"
        ]
        if self.bus.store.refusing:
            problems.append({"component": "store", "state": "down", "reason": str(self.bus.store.refusing)})
        return problems

    async def status(self, ask: Mapping[str, Any]) -> Any:
        """Routes, targets, what waits, what is dead, what is wrong."""
        figures = {item.target: item for item in await self._query(journal.targets)}
        books = {item.route: item for item in await self._query(journal.routes)}
        pauses = {(item.scope, item.name): item.reason for item in await self._query(reading.pauses)}
        running = self.bus is not None
        return {
            "bus": self.table.bus.name,
            "running": running,
            "accepting": self.bus is not None and self.bus.accepting,
            "table": str(self.table.file),
            "hash": self.table.hash,
            "problems": self._problems() if running else [],
            "log_lines_lost": _lost_lines() if running else 0,
            "disk_free": shutil.disk_usage(self.table.data).free,
            "routes": [self._route(name, books.get(name), pauses) for name in self.table.routes],
            "targets": [self._target(name, figures.get(name), pauses) for name in self._targets(figures)],
        }

    def _targets(self, figures: Mapping[str, Any]) -> list[str]:
        known = [*self.table.targets, *self.table.absent]
        return [*known, *(name for name in figures if name not in known)]

    def _route(self, name: str, book: journal.RouteFigures | None, pauses: Mapping[Any, str]) -> dict[str, Any]:
        spec = self.table.routes[name]
        return {
            "name": name,
            "about": spec.about,
            "owner": spec.owner,
            "accepted": 0 if book is None else book.came,
            "open": 0 if book is None else book.open,
            "states": {} if book is None else dict(book.closed),
            "paused": self._closed(spec, pauses.get(("route", name))),
            "stopped": self.table.stopped.get(name, ""),
        }

    def _closed(self, spec: RouteSpec, kept: str | None) -> str:
        """Why a route takes nothing; "" while it does."""
        states = [] if self.bus is None else [item for item in self.bus.sources if item.route.name == spec.name]
        if states:
            return states[0].paused or ""
        return spec.off or kept or spec.paused or ""

    def _target(self, name: str, figures: journal.TargetFigures | None, pauses: Mapping[Any, str]) -> dict[str, Any]:
        spec = self.table.targets.get(name)
        lane = self.bus.lanes.get(name) if self.bus is not None else None
        pause = None if lane is None else lane.gate.pause
        paused = pauses.get(("target", name), "") if pause is None else pause.reason
        return {
            "name": name,
            "about": "" if spec is None else spec.about,
            "delivered": 0 if figures is None else figures.delivered,
            "waiting": 0 if figures is None else figures.waiting,
            "in_broker": 0 if figures is None else figures.forwarded,
            "parked": 0 if figures is None else figures.parked,
            "dead": 0 if figures is None else figures.dead,
            "oldest": None if figures is None or figures.oldest is None else rows.moment(figures.oldest),
            "failing": "" if lane is None or paused else mask(lane.gate.failing),
            "paused": paused or (spec.off if spec is not None and spec.off else ""),
            "stopped": self.table.absent.get(name, ""),
            "gone": spec is None and name not in self.table.absent,
        }

    async def account(self, ask: Mapping[str, Any]) -> Any:
        """The books, recounted."""
        books = await self._query(account.account_now)
        return {
            "balanced": books.balanced,
            "differences": list(books.differences),
            "books": [
                {
                    "book": item.book, "name": item.name, "came": item.came, "closed": item.closed, "left": item.left,
                    "entries": dict(item.entries),
                }
                for item in books.sums
            ],
        }  # fmt: skip

    async def messages(self, ask: Mapping[str, Any]) -> Any:
        """The newest messages, by route, state, time or business key."""
        await self._known("route", ask.get("route"))
        if ask.get("state"):
            question.named("state", ask["state"], get_args(MessageState))
        found = await self._query(
            journal.messages,
            route=ask.get("route"),
            state=ask.get("state"),
            since=question.time_of(ask.get("since")),
            key=str(ask.get("key") or "") or None,
            limit=question.limit(ask, 100),
            after=question.whole(ask.get("after")),
        )
        return {"messages": [rows.message_row(row) for row in found]}

    async def _known(self, kind: str, name: Any) -> None:
        """Raises NoSuchName for a route or target that is neither in the table nor in the books."""
        if not name:
            return
        if kind == "route":
            kept = {item.route for item in await self._query(journal.routes)}
            question.named(kind, name, {*self.table.routes, *kept})
        else:
            kept = {item.target for item in await self._query(journal.targets)}
            question.named(kind, name, {*self.table.targets, *self.table.absent, *kept})

    async def message(self, ask: Mapping[str, Any]) -> Any:
        """One message and all that became of it, by its id or the id of a delivery."""
        found = await self._query(journal.journey, str(ask["id"]))
        if found is None:
            raise NotFound(f"there is no message {ask['id']!r:.60}")
        halts = await self._halts()
        shown = {
            **rows.message_row(found.message),
            "caller": found.caller,
            "headers": {name: rows.mask_value(name, value, self.table) for name, value in found.headers.items()},
            "source": rows.as_json(found.source),
            "table": found.table_hash,
            "trace": rows.as_json(msgspec.msgpack.decode(found.trace)) if found.trace else {},
            "parent": found.parent,
            "parts": dict(found.parts),
            "edited": found.edited is not None,
            "media": found.media,
            "deliveries": [await self._delivery(row, halts) for row in found.deliveries],
            "next": advice.for_journey(found),
        }
        if ask.get("body"):
            shown["body"] = rows.body_json(await self._access.content(found.body, found.body_file))
        return shown

    async def waiting(self, ask: Mapping[str, Any]) -> Any:
        """Deliveries that wait, the oldest first: why, since when, until when, and what to do."""
        await self._known("route", ask.get("route"))
        await self._known("target", ask.get("target"))
        limit, asked = question.limit(ask, 100), {"target": ask.get("target"), "route": ask.get("route")}
        found = await self._query(journal.deliveries, state="due", **asked, limit=limit, with_attempts=True)
        halts = await self._halts()
        figures = [item for item in await self._query(journal.targets) if ask.get("target") in (None, item.target)]
        groups = [await self._group(item, halts) for item in figures if item.waiting]
        return {
            "groups": groups,
            "deliveries": [await self._delivery(row, halts) for row in found],
            "next": f"esb waiting now {groups[0]['target']}" if groups else "esb status",
        }

    async def _group(self, item: journal.TargetFigures, halts: Mapping[str, Halt]) -> dict[str, Any]:
        """What waits for one target, with the words of the oldest."""
        oldest = await self._query(journal.deliveries, state="due", target=item.target, limit=1, with_attempts=True)
        waits = (await self._delivery(oldest[0], halts))["waits"] if oldest else {}
        due = None if item.next_due is None else rows.moment(item.next_due)
        return {"target": item.target, "waiting": item.waiting, "next": due, **waits}

    async def _delivery(self, row: journal.DeliveryRow, halts: Mapping[str, Halt]) -> dict[str, Any]:
        """A delivery with the words of what it waits for."""
        ahead = None
        if row.due is None and row.order_key is not None and row.state == "due":
            ahead = await self._query(journal.first_in_line, row.target, row.order_key)
        now = time() if self.bus is None else self.bus.clock.now()
        halt, spec = halts.get(row.target), self.table.targets.get(row.target)
        waits = of_delivery(row, halt, spec, None if ahead is None or ahead[0] == row.id else ahead, now)
        return {**rows.delivery_row(row), "waits": None if waits is None else waits.told()}

    async def _halts(self) -> Mapping[str, Halt]:
        """What holds each target that takes nothing now."""
        kept = {item.name: item for item in await self._query(reading.pauses) if item.scope == "target"}
        names = [*self.table.absent, *self.table.targets]
        found = {name: await self._halt(name, kept.get(name)) for name in names}
        return {name: halt for name, halt in found.items() if halt is not None}

    async def _halt(self, name: str, kept: KeptPause | None) -> Halt | None:
        spec, bus = self.table.targets.get(name), self.bus
        if spec is None:
            return Halt("absent", self.table.absent[name])
        if spec.off is not None:
            return Halt("off", spec.off)
        lane = None if bus is None else bus.lanes[name]
        pause = kept if lane is None else lane.gate.pause
        if pause is not None:
            done = await self._query(journal.last_action, "pause", f"target {name}")
            by = pause.by if pause.by in ("bus", "table", "restore") else "person"
            return Halt(by, pause.reason, None if done is None or by == "table" else done.at, pause.until)
        if bus is None:
            return Halt("stopped", "")
        health = bus.services.healths.get(f"target.{name}")
        return Halt("down", health.reason, health.since) if health is not None and health.state == "down" else None

    async def actions(self, ask: Mapping[str, Any]) -> Any:
        """What operators did, the newest first."""
        found = await self._query(journal.actions, question.limit(ask, 100))
        return {
            "actions": [
                {"at": rows.moment(row.at), "actor": row.actor, "what": row.what, "object": row.object, "why": row.why}
                for row in found
            ]
        }

    # Acting on a running bus

    def _running(self) -> Bus:
        if self.bus is None:
            raise NeedsBus("the bus is not running")
        return self.bus

    async def now(self, ask: Mapping[str, Any]) -> Any:
        """Clears a target's retry clocks."""
        target = str(ask["target"])
        question.named("target", target, self.table.targets)
        count = await self._access.do(lambda work: dead_letters.now(work, target, 1_000_000, question.act(ask, "now")))
        self._look([target])
        return {"now": count, "next": f"esb waiting --target {target}"}

    async def reclaim(self, ask: Mapping[str, Any]) -> Any:
        """What the broker had for a target is due again, with the same ids."""
        bus, target = self._running(), question.named("target", ask["target"], self.table.targets)
        if bus.brokered is None:
            raise BadRequest("the bus is embedded: nothing of it is in a broker")
        count = await bus.brokered.home.reclaim([target])
        await self._access.do(lambda work: dead_letters.note(work, question.act(ask, "reclaim"), f"target {target}"))
        return {"reclaimed": count, "next": f"esb waiting --target {target}"}

    async def pause(self, ask: Mapping[str, Any]) -> Any:
        """Stops a target or a route, with the reason."""
        bus, (scope, name) = self._running(), self._named(ask)
        if not ask.get("reason"):
            raise BadRequest("a pause needs its reason")
        if scope == "route" and not self.table.routes[name].sources:
            raise BadRequest(f"route {name} has no source of its own: pause the routes that hand over to it")
        until = question.time_of(ask.get("until"))
        await bus.pauses.pause(scope, name, str(ask["reason"]), until=until, by=str(ask.get("actor", "")))
        return {"paused": f"{scope} {name}", "next": f"esb resume {scope} {name}"}

    async def resume(self, ask: Mapping[str, Any]) -> Any:
        """Ends a pause."""
        bus, (scope, name) = self._running(), self._named(ask)
        if scope in ("target", "route") and (off := self._spec(scope, name).off):
            raise BadRequest(f"{scope} {name} is off in the table ({off}): take off out of it, then restart the bus")
        await bus.pauses.resume(scope, name, by=str(ask.get("actor", "")))
        return {"resumed": f"{scope} {name}", "next": "esb status"}

    def _spec(self, scope: str, name: str) -> RouteSpec | TargetSpec:
        return self.table.routes[name] if scope == "route" else self.table.targets[name]

    def _named(self, ask: Mapping[str, Any]) -> tuple[str, str]:
        scope, name = str(ask["scope"]), str(ask.get("name", ""))
        known: Mapping[str, Any] = {
            "target": self.table.targets, "route": self.table.routes, "clock": {"": None}, "bus": {"": None}
        }  # fmt: skip
        if scope not in known:
            raise BadRequest(f"{scope!r:.20} is no scope: {', '.join(known)}")
        return scope, question.named(scope, name, known[scope])

    async def backup(self, ask: Mapping[str, Any]) -> Any:
        """Copies the store as it is at one moment, bodies included, into a folder that is made."""
        place = Path(str(ask["place"]))
        if not place.is_absolute():
            raise BadRequest("the place of a backup is an absolute path")
        await self._access.back_up(place)
        await self._access.do(lambda work: dead_letters.note(work, question.act(ask, "backup"), str(place)))
        size = sum(item.stat().st_size for item in place.rglob("*") if item.is_file())
        return {"backup": str(place), "bytes": size, "next": f"esb restore {place} (where no store is)"}

    async def probe(self, ask: Mapping[str, Any]) -> Any:
        """Reaches a target and logs in; sends nothing."""
        bus, name = self._running(), question.named("target", ask["target"], self.table.targets)
        spec = self.table.targets[name]
        if spec.component.probe is None:
            return {"target": name, "ok": None, "said": f"{spec.component.name} has no probe"}
        try:
            said = await spec.component.probe(spec.options, bus.services.context(spec, f"target.{name}"))
        except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            return {"target": name, "ok": False, "said": describe(error)}
        return {"target": name, "ok": True, "said": said}

    async def inject(self, ask: Mapping[str, Any]) -> Any:
        """Hands a message to a route as its source would."""
        bus, route = self._running(), question.named("route", ask["route"], self.table.routes)
        headers = {str(name): str(value) for name, value in dict(ask.get("headers") or {}).items()}
        body = base64.b64decode(str(ask.get("body", "")))
        about = {"name": str(ask.get("name", "")), "path": {}, "query": {}}
        accepted = await bus.inject(route, Incoming(body=body, headers=headers, about=about))
        reply = accepted.reply
        return {
            "id": accepted.id,
            "duplicate": accepted.duplicate,
            "reply": None if reply is None else {"status": reply.status, "body": rows.body_json(reply.body)},
            "next": f"esb messages show {accepted.id}",
        }

    async def drain(self, ask: Mapping[str, Any]) -> Any:
        """Closes the sources and waits for what is under way; the process goes on to answer questions."""
        done = await self._running().drain()
        return {"drained": done, "next": "esb status"}


def _lost_lines() -> int:
    """Log lines of this process that its handlers could not write."""
    return sum(getattr(handler, "lost", 0) for handler in logging.getLogger().handlers)
