"""The control bus: what an operator asks and does, the same for a running bus, a stopped one, HTTP and the shell."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import msgspec

from esb.bus import Bus
from esb.errors import EsbError, StoreError, describe
from esb.ports import Incoming
from esb.secrets import mask
from esb.store import Act, Acted, Which, account, dead_letters, held, journal, reading
from esb.store.bodies import Bodies
from esb.store.work import Work
from esb.table.model import Table

KINDS = ("dead", "parked", "quarantine")
AT_ONCE = 200
"""Held things of one transaction: a hundred thousand of them do not hold up what is live."""


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


Acting = Callable[[Callable[[Work], Any]], Awaitable[Any]]


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
            "table": str(self.table.file),
            "hash": self.table.hash,
            "problems": self._problems() if running else [],
            "routes": [self._route(name, books.get(name), pauses) for name in self.table.routes],
            "targets": [self._target(name, figures.get(name), pauses) for name in self._targets(figures)],
        }

    def _targets(self, figures: Mapping[str, Any]) -> list[str]:
        return [*self.table.targets, *(name for name in figures if name not in self.table.targets)]

    def _route(self, name: str, book: journal.RouteFigures | None, pauses: Mapping[Any, str]) -> dict[str, Any]:
        spec = self.table.routes[name]
        return {
            "name": name,
            "about": spec.about,
            "owner": spec.owner,
            "accepted": 0 if book is None else book.came,
            "open": 0 if book is None else book.open,
            "states": {} if book is None else dict(book.closed),
            "paused": pauses.get(("route", name)) or spec.off or spec.paused or "",
        }

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
            "parked": 0 if figures is None else figures.parked,
            "dead": 0 if figures is None else figures.dead,
            "oldest": None if figures is None or figures.oldest is None else moment(figures.oldest),
            "paused": paused or (spec.off if spec is not None and spec.off else ""),
            "gone": spec is None,
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
        rows = await self._query(
            journal.messages,
            route=ask.get("route"),
            state=ask.get("state"),
            since=_seconds(ask.get("since")),
            key=str(ask.get("key") or "").rpartition("=")[2] or None,
            limit=_limit(ask, 100),
            after=_whole(ask.get("after")),
        )
        return {"messages": [message_row(row) for row in rows]}

    async def message(self, ask: Mapping[str, Any]) -> Any:
        """One message and all that became of it, by its id or the id of a delivery."""
        found = await self._query(journal.journey, str(ask["id"]))
        if found is None:
            raise NotFound(f"there is no message {ask['id']!r:.60}")
        shown = {
            **message_row(found.message),
            "caller": found.caller,
            "headers": {name: mask_value(name, value, self.table) for name, value in found.headers.items()},
            "source": as_json(found.source),
            "table": found.table_hash,
            "trace": as_json(msgspec.msgpack.decode(found.trace)) if found.trace else {},
            "parent": found.parent,
            "parts": dict(found.parts),
            "edited": found.edited is not None,
            "media": found.media,
            "deliveries": [delivery_row(row) for row in found.deliveries],
            "next": advice(found),
        }
        if ask.get("body"):
            shown["body"] = body_json(await self._body(found))
        return shown

    async def _body(self, found: journal.Journey) -> bytes | None:
        if found.body is not None or found.body_file is None or self._bodies is None:
            return found.body
        return await asyncio.to_thread(self._bodies.read, found.body_file)

    async def waiting(self, ask: Mapping[str, Any]) -> Any:
        """Deliveries that wait, the oldest first."""
        rows = await self._query(
            journal.deliveries, state="due", target=ask.get("target"), route=ask.get("route"), limit=_limit(ask, 100)
        )
        figures = await self._query(journal.targets)
        groups = [
            {"target": item.target, "waiting": item.waiting, "next": item.next_due and moment(item.next_due)}
            for item in figures
            if item.waiting and ask.get("target") in (None, item.target)
        ]
        next_one = f"esb waiting now {groups[0]['target']}" if groups else "esb status"
        return {"groups": groups, "deliveries": [delivery_row(row) for row in rows], "next": next_one}

    async def actions(self, ask: Mapping[str, Any]) -> Any:
        """What operators did, the newest first."""
        rows = await self._query(journal.actions, _limit(ask, 100))
        return {
            "actions": [
                {"at": moment(row.at), "actor": row.actor, "what": row.what, "object": row.object, "why": row.why}
                for row in rows
            ]
        }

    # What is held

    async def held(self, ask: Mapping[str, Any]) -> Any:
        """Dead, parked or quarantined things by reason, counts first; then one line each."""
        kind = _kind(ask)
        groups = await self._query(held.groups, kind)
        letters = await self._query(held.letters, kind, limit=_limit(ask, 100))
        return {
            "groups": [
                {
                    "count": group.count, "group": group.fingerprint, "route": group.route, "target": group.target,
                    "reason": group.reason, "first": moment(group.first), "last": moment(group.last),
                    "example": group.example,
                }
                for group in groups
            ],
            "deliveries": [letter_row(item) for item in letters if item.kind == "delivery"],
            "messages": [letter_row(item) for item in letters if item.kind == "message"],
            "next": f"esb {kind} show {letters[0].id}" if letters else "esb status",
        }  # fmt: skip

    async def release(self, ask: Mapping[str, Any]) -> Any:
        """Held things go on: dead and parked deliveries with the same id, messages planned again. A target that has a
        message already does not get it again, unless `delivered` asks for it (a new round of the id)."""
        kind, act = _kind(ask), _act(ask, "release")
        deliveries, messages = await self._chosen(kind, ask)
        sent = await self._delivered(ask) if ask.get("delivered") else []
        acted = await self._each(dead_letters.release_deliveries, deliveries, act)
        acted += await self._each(dead_letters.resend, sent, act)
        acted += await self._each(dead_letters.release_messages, messages, act)
        if self.bus is not None:
            self.bus.look()
        return {"released": acted.count, "next": "esb status"}

    async def _delivered(self, ask: Mapping[str, Any]) -> list[int]:
        """What of the chosen was delivered: asked for by `delivered`, it goes out under a new id."""
        chosen = _Selection(ask)
        rows = await self._query(
            journal.deliveries, state="delivered", target=ask.get("target"), route=ask.get("route"), limit=1_000_000
        )
        return [row.row for row in rows if chosen.takes(row.id, row.uid, row.fingerprint, row.accepted_at)]

    async def _each(self, change: Callable[[Work, Sequence[int], Act], Acted], rows: Sequence[int], act: Act) -> Acted:
        """In transactions of a bounded size."""
        acted = Acted()
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            acted += await self._do(partial(_changed, change, some, act))
        return acted

    async def discard(self, ask: Mapping[str, Any]) -> Any:
        """A person lets held things go, with the reason."""
        kind, act = _kind(ask), _act(ask, "discard")
        if not act.why:
            raise BadRequest("a discard needs its reason")
        deliveries, messages = await self._chosen(kind, ask)
        acted = await self._each(dead_letters.discard_deliveries, deliveries, act)
        acted += await self._each(dead_letters.discard_messages, messages, act)
        if self.bus is not None:
            self.bus.look(acted.targets)
        return {"discarded": acted.count, "next": "esb account"}

    async def edit(self, ask: Mapping[str, Any]) -> Any:
        """Other bytes for a held message or delivery; the original stays."""
        act = _act(ask, "edit")
        body = base64.b64decode(str(ask["body"]))
        assert self._bodies is not None
        kept = await self._bodies.keep(body)
        rows, messages = await self._chosen(_kind(ask), {"ids": [ask["id"]]})
        if not rows and not messages:
            raise NotFound(f"there is nothing held named {ask['id']!r:.60}")
        for row in rows:
            await self._do(partial(dead_letters.edit_delivery, number=row, body=kept, act=act))
        for row in messages:
            await self._do(partial(dead_letters.edit_message, number=row, body=kept, act=act))
        return {"edited": len(rows) + len(messages), "next": f"esb {ask['kind']} release {ask['id']}"}

    async def _chosen(self, kind: str, ask: Mapping[str, Any]) -> tuple[list[int], list[int]]:
        """What a selection means: ids, a group, a time range, or everything; for one target only."""
        chosen = _Selection(ask)
        which = Which(
            ids=tuple(sorted(chosen.ids)), target=ask.get("target"), since=chosen.since, until=chosen.until,
            fingerprint=chosen.group,
        )  # fmt: skip
        letters = await self._query(held.letters, kind, which, limit=1_000_000)
        deliveries = [item.row for item in letters if item.kind == "delivery"]
        return deliveries, [item.row for item in letters if item.kind == "message"]

    async def _do(self, work: Callable[[Work], Any]) -> Any:
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
        count = await self._do(lambda work: dead_letters.now(work, target, 1_000_000, _act(ask, "now")))
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
        except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            return {"target": name, "ok": False, "said": describe(error)}
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
        self.ids = {str(item) for item in ask.get("ids") or ()}
        self.group = ask.get("group")
        self.since, self.until = _seconds(ask.get("since")), _seconds(ask.get("until"))
        everything = bool(ask.get("all")) or self.since is not None or self.until is not None
        if not (self.ids or self.group or everything):
            raise BadRequest("say which: ids, a group, a time range, or all")

    def takes(self, name: str, uid: str, group: str, at: float) -> bool:
        if self.ids and name not in self.ids and uid not in self.ids:
            return False
        if self.group and group != self.group:
            return False
        return (self.since is None or at >= self.since) and (self.until is None or at <= self.until)


def _changed(change: Callable[[Work, Sequence[int], Act], Acted], rows: Sequence[int], act: Act, work: Work) -> Acted:
    return change(work, rows, act)


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


def letter_row(item: held.Letter) -> dict[str, Any]:
    return {
        "id": item.id, "message": item.uid, "route": item.route, "target": item.target, "state": item.state,
        "reason": mask(item.reason), "attempts": item.attempts, "accepted": moment(item.accepted_at),
        "ended": None if item.ended_at is None else moment(item.ended_at), "size": item.size, "edited": item.edited,
        "group": item.fingerprint,
    }  # fmt: skip


def message_row(row: journal.MessageRow) -> dict[str, Any]:
    return {
        "id": row.uid, "route": row.route, "state": row.state, "reason": mask(row.reason), "made": row.made,
        "accepted": moment(row.accepted_at), "closed": None if row.closed_at is None else moment(row.closed_at),
        "size": row.size, "keys": dict(row.keys), "part": row.part, "stage": row.stage,
    }  # fmt: skip


def delivery_row(row: journal.DeliveryRow) -> dict[str, Any]:
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


def advice(journey: journal.Journey) -> str:
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
