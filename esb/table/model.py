"""The routing table as typed values: what the loader makes of `routes.toml`, and all that the floors above read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from esb.errors import Problem
from esb.ports import Component
from esb.retry import RetryPolicy
from esb.units import Duration, Rate, Size, Template

Place = tuple[str | int, ...]
"""Where a value stands in the file: `("route", "orders", "cases", 0, "when")`. """


class OutcomeSpec(Struct, frozen=True):
    """What `unmatched`, `bad`, or a case without `to` comes to. `reason` is mandatory for drop, park and dead
    (for the bare words "park", "dead", "quarantine" the core fills it in); `status` belongs to reply."""

    kind: Literal["quarantine", "park", "dead", "drop", "reply", "note"]
    reason: str = ""
    status: int = 422


class ReplySpec(Struct, frozen=True):
    """`"202 after stored" | "200 after delivered" | "200 after delivered:TARGET" | "from:TARGET"`."""

    kind: Literal["stored", "delivered", "from"] = "stored"
    status: int = 202
    target: str | None = None
    timeout: float = 30.0
    late: Literal["expire", "deliver"] = "expire"


class ComponentSpec(Struct, frozen=True, kw_only=True):
    """A component with its options, as one place in the table uses it. `folder` is that of the file it stands in, where
    that is not the main one: relative paths count from it."""

    component: Component[Any]
    options: Any
    place: Place
    folder: Path | None = None


class SourceSpec(ComponentSpec, frozen=True, kw_only=True):
    """One `from`. `component` is None-like for `{ route = true }`: see `is_route`."""

    once: Template | None = None
    reply: ReplySpec = ReplySpec()
    every: Duration | None = None
    auth: str | None = None
    placement: str | None = None


class StepSpec(ComponentSpec, frozen=True, kw_only=True):
    condition: str | None = None  # `if`, CEL
    bad: OutcomeSpec | None = None
    note: str = ""


class ToSpec(Struct, frozen=True, kw_only=True):
    """One item of a `to`: a target, or a route for `"route:NAME"`; with steps for it alone."""

    place: Place
    target: str | None = None
    route: str | None = None
    do: tuple[StepSpec, ...] = ()


class CaseSpec(Struct, frozen=True, kw_only=True):
    """One case: `when` is None for `otherwise`; ends in `to` or in `outcome`."""

    place: Place
    name: str
    when: str | None
    do: tuple[StepSpec, ...] = ()
    to: tuple[ToSpec, ...] = ()
    outcome: OutcomeSpec | None = None
    note: str = ""


class Retain(Struct, frozen=True, forbid_unknown_fields=True):
    """How long a closed message stays: its body, and its journey (rows without the body)."""

    body: Duration = Duration(7 * 86400)
    journey: Duration = Duration(90 * 86400)
    dead: Duration | None = None
    space: Size | None = None


class RouteSpec(Struct, frozen=True, kw_only=True):
    name: str
    place: Place
    about: str = ""
    owner: str = ""
    contact: str = ""
    runbook: str = ""
    why: str = ""
    review_by: str = ""
    sources: tuple[SourceSpec, ...] = ()
    from_route: bool = False  # `from = { route = true }` is among them
    do: tuple[StepSpec, ...] = ()
    cases: tuple[CaseSpec, ...] = ()
    to: tuple[ToSpec, ...] = ()  # always, beside the cases
    match: Literal["first", "all"] = "first"
    once: Template | None = None
    once_for: Duration = Duration(7 * 86400)
    keys: Mapping[str, Template] = {}
    retain: Retain = Retain()
    expires: Duration | None = None
    retry: str | None = None
    bad: OutcomeSpec = OutcomeSpec("quarantine")
    unmatched: OutcomeSpec = OutcomeSpec("park")
    off: str | None = None
    paused: str | None = None

    @property
    def leads_to(self) -> tuple[ToSpec, ...]:
        """Every item of every `to`."""
        return (*self.to, *(to for case in self.cases for to in case.to))


class TargetBacklog(Struct, frozen=True, forbid_unknown_fields=True):
    """R9: what may wait for one target before its sources refuse; None: a quarter of the outbox's."""

    rows: Annotated[int, Meta(ge=1)] | None = None
    size: Size | None = None


class TargetSpec(ComponentSpec, frozen=True, kw_only=True):
    name: str
    auth: str | None = None
    limit: Rate | None = None
    burst: int | None = None
    concurrency: int = 8
    order_by: Template | None = None
    when_stuck: Literal["block", "skip", "park-key"] = "block"
    retry: str = "patient"
    timeout: Duration = Duration(30)
    owner: str = ""
    about: str = ""
    off: str | None = None
    paused: str | None = None
    open_after: int | None = None
    do: tuple[StepSpec, ...] = ()
    id_header: str | None = None
    expires: Duration | None = None
    backlog: TargetBacklog | None = None


class TlsOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`cert` and `key` are PEM files; `client_ca` makes client certificates mandatory."""

    cert: str
    key: str
    client_ca: str | None = None


class Listener(Struct, frozen=True, forbid_unknown_fields=True):
    """An address that HTTP sources share. `[bus] http` is the one named "default"."""

    bind: str
    tls: TlsOptions | None = None
    shared: bool = False
    max_body: Size = Size(10_000_000)
    max_header: Size = Size(16_384)
    max_connections: int = 1000
    header_timeout: Duration = Duration(10)
    body_timeout: Duration = Duration(30)
    idle_timeout: Duration = Duration(75)


class OutboxLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """R9: what the store holds before sources refuse. A target's backlog defaults to a quarter of it."""

    rows: int = 10_000_000
    size: Size = Size(10_000_000_000)


class Bus(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[bus]`. `data` is relative to the table's file; `admin` defaults to `unix:DATA/admin.sock`."""

    name: str = "esb"
    data: str = "var"
    broker: str = "embedded"
    broker_user: str = ""
    broker_password: str | None = None
    broker_ca: str | None = None
    broker_cert: str | None = None
    broker_key: str | None = None
    http: str = "127.0.0.1:8080"
    admin: str = ""
    admin_key: str | None = None
    plugins: str | None = None
    time_zone: str = "UTC"
    drain: Duration = Duration(30)
    start: Literal["strict", "last-good"] = "strict"
    step_timeout: Duration = Duration(2)
    budget: int = 1_000_000
    clock_jump: Literal["hold", "accept"] = "hold"
    hide: tuple[str, ...] = ()
    outbox: OutboxLimits = OutboxLimits()
    log: Literal["text", "json"] = "text"


class Defaults(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    owner: str = ""
    retry: str = "patient"
    unmatched: OutcomeSpec = OutcomeSpec("park")
    bad: OutcomeSpec = OutcomeSpec("quarantine")
    retain: Retain = Retain()
    once_for: Duration = Duration(7 * 86400)


class AuthSpec(Struct, frozen=True, kw_only=True):
    """One `[auth.NAME]`. `kind` is the key that named it; secrets stay references."""

    name: str
    place: Place
    kind: Literal["bearer", "basic", "oauth2", "header", "api-key"]
    value: str = ""  # bearer: secret; header: its name; oauth2: token URL; api-key: keys file
    user: str | None = None
    password: str | None = None
    id: str | None = None
    secret: str | None = None
    scope: str | None = None


class MapSpec(Struct, frozen=True):
    """One `[map.NAME]`: field (dotted for nested) to a CEL text, a number, a boolean, `{ text = ... }`
    or `{ each = ..., map = ... }`, in the order of the file."""

    name: str
    place: Place
    fields: Mapping[str, Any]


class TestSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    place: Place
    route: str
    given: Mapping[str, Any]
    expect: Mapping[str, Any]
    answers: Mapping[str, Any] = {}


class Table(Struct, frozen=True, kw_only=True):
    """The whole table. `hash` is the SHA-256 (hex) of every file that shapes it; `text` maps file to its text.
    `kept` is the folder of a kept copy whose contracts it goes by. `stopped` are the routes that this machine cannot
    run (a plugin was left out, a package is not installed), each with the reason; `absent` such targets, which have no
    spec.
    """

    file: Path
    hash: str
    kept: Path | None = None
    bus: Bus
    defaults: Defaults
    secrets: Mapping[str, str] = {}
    auth: Mapping[str, AuthSpec] = {}
    listeners: Mapping[str, Listener] = {}
    retry: Mapping[str, RetryPolicy] = {}
    namespaces: Mapping[str, str] = {}
    var: Mapping[str, Any] = {}
    targets: Mapping[str, TargetSpec] = {}
    maps: Mapping[str, MapSpec] = {}
    routes: Mapping[str, RouteSpec] = {}
    tests: tuple[TestSpec, ...] = ()
    stopped: Mapping[str, str] = {}
    absent: Mapping[str, str] = {}
    text: Mapping[str, str] = {}
    atlas: Any = field(default=None)  # esb.table.notes.Atlas

    def locate(self, place: Place, problem: Problem, offset: int | None = None) -> Problem:
        """The same problem with the file, line and column of a place; `offset` counts characters into a text."""
        located: Problem = problem if self.atlas is None else self.atlas.locate(place, problem, offset)
        return located

    @property
    def folder(self) -> Path:
        """What relative paths count from."""
        return self.file.parent

    @property
    def data(self) -> Path:
        """Where the store lives."""
        return self.folder / self.bus.data
