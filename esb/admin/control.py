"""The control bus: what an operator asks and does, the same for a running bus, a stopped one, HTTP and the shell."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from esb.bus import Bus
from esb.errors import EsbError, StoreError
from esb.ports import Incoming
from esb.secrets import mask
from esb.store import Act, held, reading
from esb.store.bodies import Bodies
from esb.store.outbox import Batch
from esb.table.model import Table

KINDS = ("dead", "parked", "quarantine")
_MESSAGES = {"dead": ("dead",), "parked": ("unmatched",), "quarantine": ("quarantined",)}
_DELIVERIES = {"dead": "dead", "parked": "parked"}
_NEXT = {
    "dead": "esb dead show ID, then: esb dead release ID | esb dead discard ID --reason WHY",
    "parked": "esb parked show ID, then: esb parked release ID | esb parked discard ID --reason WHY",
    "quarantine": "esb quarantine show ID, then: esb quarantine edit ID FILE, esb quarantine release ID",
}


class NotFound(EsbError):
    """There is no such thing."""

    code = "C404"


class NeedsBus(EsbError):
    """Only a running bus can do this."""

    code = "C503"


class BadRequest(EsbError):
    """The question makes no sense as it is."""

    code = "C400"


class Query(Protocol):
    async def __call__(self, call: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any: ...


Acting = Callable[[Callable[[Batch], Any]], Awaitable[Any]]


class Control:
    """One operator's view. `bus` is None for a stopped one; `act` is None where only reading is possible."""

    def __init__(
        self, table: Table, query: Query, *, act: Acting | None, bodies: Bodies | None, bus: Bus | None
    ) -> None:
        self.table = table
        self.bus = bus
        self._query = query
        self._act = act
        self._bodies = bodies

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
            problems.append({"component": "store", "state": "down", "reason": self.bus.store.refusing})
        return problems

    async def status(self, ask: Mapping[str, Any]) -> Any:
        """Routes, targets, what waits, what is dead, what is wrong."""
        figures = {item.target: item for item in await self._query(reading.targets)}
        account = await self._query(reading.written)
        pauses = {(item.scope, item.name): item.reason for item in await self._query(reading.pauses)}
        running = self.bus is not None
        return {
            "bus": self.table.bus.name,
            "running": running,
            "table": str(self.table.file),
            "hash": self.table.hash,
            "problems": self._problems() if running else [],
            "routes": [self._route(name, account, pauses) for name in self.table.routes],
            "targets": [self._target(name, figures.get(name), account, pauses) for name in self._targets(figures)],
        }

    def _targets(self, figures: Mapping[str, Any]) -> list[str]:
        return [*self.table.targets, *(name for name in figures if name not in self.table.targets)]

    def _route(self, name: str, account: Mapping[Any, int], pauses: Mapping[Any, str]) -> dict[str, Any]:
        spec = self.table.routes[name]
        book = {entry: n for (kind, key, entry), n in account.items() if kind == "messages" and key == name}
        accepted = sum(n for entry, n in book.items() if entry.startswith("made "))
        states = {entry: n for entry, n in book.items() if not entry.startswith(("made ", "pruned ")) and n}
        return {
            "name": name,
            "about": spec.about,
            "owner": spec.owner,
            "accepted": accepted,
            "open": book.get("open", 0),
            "states": states,
            "paused": pauses.get(("route", name)) or spec.off or spec.paused or "",
        }

    def _target(self, name: str, figures: Any, account: Mapping[Any, int], pauses: Mapping[Any, str]) -> dict[str, Any]:
        spec = self.table.targets.get(name)
        lane = self.bus.lanes.get(name) if self.bus is not None else None
        paused = lane.pause.reason if lane is not None and lane.pause is not None else pauses.get(("target", name), "")
        return {
            "name": name,
            "about": "" if spec is None else spec.about,
            "delivered": account.get(("deliveries", name, "delivered"), 0),
            "waiting": 0 if figures is None else figures.waiting,
            "parked": 0 if figures is None else figures.parked,
            "dead": 0 if figures is None else figures.dead,
            "oldest": None if figures is None or figures.oldest is None else moment(figures.oldest),
            "paused": paused or (spec.off if spec is not None and spec.off else ""),
            "gone": spec is None,
        }

    async def account(self, ask: Mapping[str, Any]) -> Any:
        """The books, recounted."""
        account = await self._query(reading.account_now)
        return {
            "balanced": account.balanced,
            "differences": list(account.differences),
            "books": [
                {
                    "book": item.book, "name": item.name, "came": item.came, "closed": item.closed, "left": item.left,
                    "entries": dict(item.entries),
                }
                for item in account.sums
            ],
        }  # fmt: skip

    async def messages(self, ask: Mapping[str, Any]) -> Any:
        """The newest messages, by route, state, time or business key."""
        key = ask.get("key")
        pair = None
        if key:
            name, _, value = str(key).partition("=")
            pair = (name, value)
        rows = await self._query(
            reading.messages,
            route=ask.get("route"),
            state=ask.get("state"),
            since=_seconds(ask.get("since")),
            key=pair,
            limit=_limit(ask, 100),
            after=_whole(ask.get("after")),
        )
        return {"messages": [message_row(row) for row in rows]}

    async def message(self, ask: Mapping[str, Any]) -> Any:
        """One message and all that became of it, by its id or the id of a delivery."""
        journey = await self._query(reading.journey, str(ask["id"]))
        if journey is None:
            raise NotFound(f"there is no message {ask['id']!r:.60}")
        shown = {
            **message_row(journey.message),
            "caller": journey.caller,
            "headers": {name: mask_value(name, value, self.table) for name, value in journey.headers.items()},
            "source": as_json(journey.source),
            "table": journey.table_hash,
            "trace": as_json(msgspec.msgpack.decode(journey.trace)) if journey.trace else {},
            "parent": journey.parent,
            "parts": dict(journey.parts),
            "edited": journey.edited,
            "media": journey.media,
            "deliveries": [delivery_row(row) for row in journey.deliveries],
            "next": advice(journey),
        }
        if ask.get("body"):
            shown["body"] = body_json(await self._body(journey))
        return shown

    async def _body(self, journey: reading.Journey) -> bytes | None:
        if journey.body is not None or journey.body_file is None or self._bodies is None:
            return journey.body
        return await asyncio.to_thread(self._bodies.read, journey.body_file)

    async def waiting(self, ask: Mapping[str, Any]) -> Any:
        """Deliveries that wait, the oldest first."""
        rows = await self._query(
            reading.deliveries, state="due", target=ask.get("target"), route=ask.get("route"), limit=_limit(ask, 100)
        )
        figures = await self._query(reading.targets)
        groups = [
            {"target": item.target, "waiting": item.waiting, "next": item.next_due and moment(item.next_due)}
            for item in figures
            if item.waiting and ask.get("target") in (None, item.target)
        ]
        return {"groups": groups, "deliveries": [delivery_row(row) for row in rows], "next": "esb waiting now TARGET"}

    async def actions(self, ask: Mapping[str, Any]) -> Any:
        """What operators did, the newest first."""
        rows = await self._query(reading.actions, _limit(ask, 100))
        return {
            "actions": [
                {"at": moment(at), "actor": actor, "what": what, "object": thing, "why": why}
                for at, actor, what, thing, why in rows
            ]
        }

    # What is held

    async def held(self, ask: Mapping[str, Any]) -> Any:
        """Dead, parked or quarantined things by reason, counts first; then one line each."""
        kind = _kind(ask)
        groups = await self._query(reading.held_messages, *_MESSAGES[kind])
        rows = await self._query(reading.idle_messages, *_MESSAGES[kind], limit=_limit(ask, 100))
        deliveries: list[Any] = []
        if kind in _DELIVERIES:
            groups = [*await self._query(reading.held_deliveries, _DELIVERIES[kind]), *groups]
            deliveries = await self._query(reading.deliveries, state=_DELIVERIES[kind], limit=_limit(ask, 100))
        return {
            "groups": [
                {
                    "count": group.count, "group": group.fingerprint, "route": group.route, "target": group.target,
                    "reason": group.reason, "first": moment(group.first), "last": moment(group.last),
                    "example": group.example,
                }
                for group in groups
            ],
            "deliveries": [delivery_row(row) for row in deliveries],
            "messages": [message_row(row) for row in rows],
            "next": _NEXT[kind],
        }  # fmt: skip

    async def release(self, ask: Mapping[str, Any]) -> Any:
        """Held things go on: dead and parked deliveries with the same id, messages planned again. A target that has a
        message already does not get it again, unless `delivered` asks for it (a new round of the id)."""
        kind, act = _kind(ask), _act(ask, "release")
        rows, uids = await self._chosen(kind, ask)
        again = bool(ask.get("delivered"))
        made = await self._do(
            lambda work: held.release(work, rows, act) + (held.replay(work, rows, act) if again else [])
        )
        count = await self._do(lambda work: held.release_messages(work, uids, act))
        if self.bus is not None:
            self.bus.offer(made)
            self.bus.look()
        return {"released": len(made) + count, "next": "esb status"}

    async def discard(self, ask: Mapping[str, Any]) -> Any:
        """A person lets held things go, with the reason."""
        kind, act = _kind(ask), _act(ask, "discard")
        if not act.why:
            raise BadRequest("a discard needs its reason")
        rows, uids = await self._chosen(kind, ask)
        promoted = await self._do(lambda work: held.discard(work, rows, act))
        count = await self._do(lambda work: held.discard_messages(work, uids, act))
        if self.bus is not None:
            self.bus.offer(promoted)
        return {"discarded": len(rows) + count, "next": "esb account"}

    async def edit(self, ask: Mapping[str, Any]) -> Any:
        """Other bytes for a held message or delivery; the original stays."""
        act = _act(ask, "edit")
        body = base64.b64decode(str(ask["body"]))
        assert self._bodies is not None
        kept = await self._bodies.keep(body)
        rows, uids = await self._chosen(_kind(ask), {"ids": [ask["id"]]})
        if not rows and not uids:
            raise NotFound(f"there is nothing held named {ask['id']!r:.60}")
        for row in rows:
            await self._do(lambda work, row=row: held.edit_delivery(work, row, kept, act))
        for uid in uids:
            await self._do(lambda work, uid=uid: held.edit_message(work, uid, kept, act))
        return {"edited": len(rows) + len(uids), "next": f"esb {ask['kind']} release {ask['id']}"}

    async def _chosen(self, kind: str, ask: Mapping[str, Any]) -> tuple[list[int], list[str]]:
        """What a selection means: ids, a group, a time range, or everything; for one target only."""
        deliveries: Sequence[Any] = []
        if kind in _DELIVERIES:
            states = [_DELIVERIES[kind], *(["delivered"] if ask.get("delivered") else [])]
            for state in states:
                found = await self._query(reading.deliveries, state=state, target=ask.get("target"), limit=1_000_000)
                deliveries = [*deliveries, *found]
        messages = await self._query(reading.idle_messages, *_MESSAGES[kind], limit=1_000_000)
        chosen = _Selection(ask)
        rows = [row.row for row in deliveries if chosen.takes(row.id, row.uid, row.fingerprint, row.accepted_at)]
        uids = [
            row.uid
            for row in messages
            if not ask.get("target")
            and chosen.takes(row.uid, row.uid, reading.fingerprint(row.route, "", row.reason), row.accepted_at)
        ]
        return rows, uids

    async def _do(self, work: Callable[[Batch], Any]) -> Any:
        if self._act is None:
            raise NeedsBus("this changes the store: nothing but reading is possible here")
        return await self._act(work)

    # Acting on a running bus

    def _running(self) -> Bus:
        if self.bus is None:
            raise NeedsBus("the bus is not running")
        return self.bus

    async def now(self, ask: Mapping[str, Any]) -> Any:
        """Clears a target's retry clocks."""
        target = str(ask["target"])
        if target not in self.table.targets:
            raise NotFound(f"there is no target {target!r:.60}")
        count = await self._do(lambda work: held.now(work, target, _act(ask, "now")))
        if self.bus is not None:
            self.bus.look([target])
        return {"now": count, "next": f"esb waiting --target {target}"}

    async def pause(self, ask: Mapping[str, Any]) -> Any:
        """Stops a target or a route, with the reason."""
        bus, (scope, name) = self._running(), self._named(ask)
        if not ask.get("reason"):
            raise BadRequest("a pause needs its reason")
        until = _seconds(ask.get("until"))
        await bus.pause(scope, name, str(ask["reason"]), until=until, by=str(ask.get("actor", "")))
        return {"paused": f"{scope} {name}", "next": f"esb resume {scope} {name}"}

    async def resume(self, ask: Mapping[str, Any]) -> Any:
        """Ends a pause."""
        bus, (scope, name) = self._running(), self._named(ask)
        await bus.resume(scope, name, by=str(ask.get("actor", "")))
        return {"resumed": f"{scope} {name}", "next": "esb status"}

    def _named(self, ask: Mapping[str, Any]) -> tuple[str, str]:
        scope, name = str(ask["scope"]), str(ask.get("name", ""))
        known: Mapping[str, Any] = {"target": self.table.targets, "route": self.table.routes, "clock": {"": None}}
        if scope not in known:
            raise BadRequest(f"{scope!r:.20} is no scope: target, route or clock")
        if name not in known[scope]:
            raise NotFound(f"there is no {scope} {name!r:.60}")
        return scope, name

    async def probe(self, ask: Mapping[str, Any]) -> Any:
        """Reaches a target and logs in; sends nothing."""
        bus, name = self._running(), str(ask["target"])
        spec = self.table.targets.get(name)
        if spec is None:
            raise NotFound(f"there is no target {name!r:.60}")
        if spec.component.probe is None:
            return {"target": name, "ok": None, "said": f"{spec.component.name} has no probe"}
        try:
            said = await spec.component.probe(spec.options, bus.services.context(spec, f"target.{name}"))
        except (EsbError, OSError) as error:
            return {"target": name, "ok": False, "said": str(error)}
        return {"target": name, "ok": True, "said": said}

    async def inject(self, ask: Mapping[str, Any]) -> Any:
        """Hands a message to a route as its source would."""
        bus, route = self._running(), str(ask["route"])
        if route not in self.table.routes:
            raise NotFound(f"there is no route {route!r:.60}")
        headers = {str(name): str(value) for name, value in dict(ask.get("headers") or {}).items()}
        body = base64.b64decode(str(ask.get("body", "")))
        about = {"name": str(ask.get("name", "")), "path": {}, "query": {}}
        accepted = await bus.inject(route, Incoming(body=body, headers=headers, about=about))
        reply = accepted.reply
        return {
            "id": accepted.id,
            "duplicate": accepted.duplicate,
            "reply": None if reply is None else {"status": reply.status, "body": body_json(reply.body)},
            "next": f"esb messages show {accepted.id}",
        }

    async def drain(self, ask: Mapping[str, Any]) -> Any:
        """Closes the sources and waits for what is under way; the process goes on to answer questions."""
        done = await self._running().drain()
        return {"drained": done, "next": "esb status"}


class _Selection:
    """Which held things are meant."""

    def __init__(self, ask: Mapping[str, Any]) -> None:
        self._ids = {str(item) for item in ask.get("ids") or ()}
        self._group = ask.get("group")
        self._since, self._until = _seconds(ask.get("since")), _seconds(ask.get("until"))
        everything = bool(ask.get("all")) or self._since is not None or self._until is not None
        if not (self._ids or self._group or everything):
            raise BadRequest("say which: ids, a group, a time range, or all")

    def takes(self, name: str, uid: str, group: str, at: float) -> bool:
        if self._ids and name not in self._ids and uid not in self._ids:
            return False
        if self._group and group != self._group:
            return False
        return (self._since is None or at >= self._since) and (self._until is None or at <= self._until)


def _kind(ask: Mapping[str, Any]) -> str:
    kind = str(ask["kind"])
    if kind not in KINDS:
        raise NotFound(f"{kind!r:.20} is none of {', '.join(KINDS)}")
    return kind


def _act(ask: Mapping[str, Any], what: str) -> Act:
    return Act(what=what, actor=str(ask.get("actor") or ""), why=str(ask.get("reason") or ""))


def _whole(value: Any) -> int | None:
    try:
        return None if value in (None, "") else int(value)
    except (TypeError, ValueError):
        raise BadRequest(f"{value!r:.40} is no whole number") from None


def _limit(ask: Mapping[str, Any], default: int) -> int:
    limit = _whole(ask.get("limit"))
    if limit is None:
        return default
    if not 1 <= limit <= 10_000:
        raise BadRequest("limit is 1 to 10000")
    return limit


def _seconds(value: Any) -> float | None:
    """A time as RFC 3339 or seconds since the epoch."""
    if value in (None, ""):
        return None
    try:
        if isinstance(value, (int, float)) or str(value).replace(".", "", 1).isdigit():
            return float(value)
        found = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError):
        raise BadRequest(f"{value!r:.40} is no time; write 2026-03-01T02:10:00+01:00") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def moment(seconds: float) -> str:
    """A stored time with its offset."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def message_row(row: reading.MessageRow) -> dict[str, Any]:
    return {
        "id": row.uid, "route": row.route, "state": row.state, "reason": mask(row.reason), "made": row.made,
        "accepted": moment(row.accepted_at), "closed": None if row.closed_at is None else moment(row.closed_at),
        "size": row.size, "keys": dict(row.keys), "part": row.part, "stage": row.stage,
    }  # fmt: skip


def delivery_row(row: reading.DeliveryRow) -> dict[str, Any]:
    return {
        "id": row.id, "message": row.uid, "route": row.route, "target": row.target, "state": row.state,
        "reason": mask(row.reason), "attempts": row.attempts, "due": None if row.due is None else moment(row.due),
        "accepted": moment(row.accepted_at), "ended": None if row.ended_at is None else moment(row.ended_at),
        "group": row.fingerprint,
        "history": [
            {
                "n": item.n, "at": moment(item.at), "class": item.kind, "code": item.code, "place": item.place,
                "ms": round(item.ms, 1), "said": {key: mask(text_of(value)) for key, value in item.params.items()},
            }
            for item in row.attempt_rows
        ],
    }  # fmt: skip


def advice(journey: reading.Journey) -> str:
    """The next command to type."""
    message = journey.message
    for row in journey.deliveries:
        if row.state == "dead":
            last = row.attempt_rows[-1].kind if row.attempt_rows else ""
            if last == "permanent":
                return (
                    f"the target refused it: mend it with esb dead edit {row.id} FILE, then esb dead release {row.id}"
                )
            return f"esb dead release {row.id} when {row.target} is well again"
        if row.state == "parked":
            return f"esb parked release {row.id}"
    if message.state == "quarantined":
        return f"esb quarantine edit {message.uid} FILE, or mend the table; then esb quarantine release {message.uid}"
    if message.state == "unmatched":
        return f"add a case to route {message.route}, then esb parked release {message.uid}"
    return "esb status"


def mask_value(name: str, value: str, table: Table) -> str:
    """A header's value, hidden where its name says it is a secret."""
    words = (
        "password",
        "token",
        "authorization",
        "cookie",
        "secret",
        "api-key",
        "iban",
        "card",
        "ssn",
        *table.bus.hide,
    )
    return "***" if any(word in name.lower() for word in words) else value[:200]


def text_of(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def body_json(body: bytes | None) -> dict[str, Any] | None:
    """Bytes in JSON: as text where they are text."""
    if body is None:
        return None
    try:
        return {"text": body.decode("utf-8"), "size": len(body)}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode(), "size": len(body)}


def as_json(value: Any) -> Any:
    """Plain values only."""
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=str))


__all__ = ["KINDS", "BadRequest", "Control", "NeedsBus", "NotFound", "StoreError", "advice", "moment"]
