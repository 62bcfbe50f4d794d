"""What stands beside routes and targets: `[bus]`, listeners, retry policies, `[namespaces]`, `[var]`, tests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from esb.retry import RetryPolicy
from esb.table import keys, values
from esb.table.logins import check_reference
from esb.table.model import Bus, Listener, Place, RouteSpec, Table, TestSpec
from esb.table.notes import Notes, closest, one_of, route_of

_ADDRESS: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]*):(\d{1,5})")
_BROKER: Final = re.compile(r"amqps?://[^/@\s]+(/[^/\s]*)?|amqps?://[^/\s]*@[^/\s]+(/[^/\s]*)?")
_PREFIX: Final = re.compile(r"[A-Za-z_][\w.-]*")
_ANSWER: Final = re.compile(r"ok|timeout|down|[2-5]\d\d( retry-after=\d+(\.\d+)?)?", re.IGNORECASE)
_ANSWERS: Final = '"200", "ok", "timeout", "down", "422" or "503 Retry-After=60"'
_STATES: Final = ("done", "open", "quarantined", "unmatched", "dropped", "dead", "expired", "split")
_PAUSE: Final = re.compile(r"[1-9]\d* in a row|never")


def variables(value: Mapping[str, Any], notes: Notes, place: Place = ("var",)) -> Mapping[str, Any]:
    """`[var]` as expressions see it: dates and times of day are texts, moments are moments."""
    return {name: _variable(item, (*place, name), notes) for name, item in value.items()}


def _variable(value: Any, place: Place, notes: Notes) -> Any:
    if isinstance(value, Mapping):
        return variables(value, notes, place)
    if isinstance(value, list):
        return [_variable(item, (*place, index), notes) for index, item in enumerate(value)]
    if isinstance(value, Decimal) and not value.is_finite():
        notes.add(place, "E112", f"{value} is no number that a message can hold", "write a number with digits")
    if isinstance(value, time) or (isinstance(value, date) and not (isinstance(value, datetime) and value.tzinfo)):
        return value.isoformat()
    return value


def namespaces(value: Mapping[str, Any], notes: Notes) -> Mapping[str, str]:
    """`[namespaces]`: prefix to URI."""
    made: dict[str, str] = {}
    for prefix, uri in value.items():
        place: Place = ("namespaces", prefix)
        if not isinstance(uri, str) or not uri:
            notes.add(place, "E112", f'the namespace of "{prefix}" is not a text', 'write o = "urn:example:order"')
        elif not _PREFIX.fullmatch(prefix) or prefix.lower().startswith("xml"):
            hint = "a prefix begins with a letter and is not xml or xmlns"
            notes.add(place, "E114", f'"{prefix}" cannot be a prefix', hint, key=True)
        else:
            made[prefix] = uri
    return made


def test(
    value: Any, place: Place, routes: Mapping[str, RouteSpec], targets: Mapping[str, Any], notes: Notes
) -> TestSpec | None:
    """One `[[test]]`, its names looked up."""
    if not isinstance(value, Mapping):
        notes.add(place, "E112", "a test is a table", "write [[test]]")
        return None
    made = values.convert({**value, "place": place}, TestSpec, place, notes)
    if made is None:
        return None
    for name, known in (("given", keys.GIVEN), ("expect", keys.EXPECT)):
        for key in sorted(set(getattr(made, name)) - known):
            keys.unknown(notes, (*place, name), key, one_of(key, sorted(known)), f'test "{made.name}": {name} has an ')
    _runnable(made, notes)
    route = routes.get(made.route)
    if route is None:
        said = f'test "{made.name}": no route named "{made.route}"'
        notes.add((*place, "route"), "E212", said, closest(made.route, routes), offset=0)
        return made
    _expected(made, route, targets, notes)
    return made


def _runnable(made: TestSpec, notes: Notes) -> None:
    """What the test is given and what is expected are such that it can be run and can fail."""

    def wrong(path: Place, said: str, hint: str) -> None:
        notes.add((*made.place, *path), "E189", f'test "{made.name}": {said}', hint)

    bodies = [key for key in ("file", "text") if key in made.given]
    if len(bodies) > 1:
        wrong(("given", "text"), "given has a file and a text", "keep one")
    if "file" in bodies and not (notes.atlas.folder(made.place) / str(made.given["file"])).is_file():
        hint = "name a file beside the table, or write text = '...'"
        wrong(("given", "file"), f"no file {made.given['file']}", hint)
    if not made.expect:
        wrong(("expect",), "it expects nothing, so that it cannot fail", "write expect = { delivered = { NAME = 1 } }")
    state = made.expect.get("state")
    if state is not None and state not in _STATES:
        wrong(("expect", "state"), f'no message ends as "{state}"', one_of(str(state), _STATES))
    for name, script in made.answers.items():
        if not isinstance(script, list) or not all(isinstance(item, str) for item in script):
            wrong(("answers", name), "answers are not a list of texts", f'write {name} = ["503", "200"]')
            continue
        for index, item in enumerate(script):
            if not _ANSWER.fullmatch(item):
                wrong(("answers", name, index), f'"{item}" is no answer', f"write one of {_ANSWERS}")


def _expected(made: TestSpec, route: RouteSpec, targets: Mapping[str, Any], notes: Notes) -> None:
    delivered = made.expect.get("delivered")
    named: list[tuple[str, ...]] = [("answers", name) for name in made.answers]
    named += [("expect", "delivered", name) for name in delivered] if isinstance(delivered, Mapping) else []
    for path in named:
        if path[-1] not in targets:
            said = f'test "{made.name}": no target named "{path[-1]}"'
            notes.add((*made.place, *path), "E206", said, closest(path[-1], targets), key=True)
    case = made.expect.get("case")
    cases = [known.name for known in route.cases]
    if isinstance(case, str) and case not in cases:
        said = f'test "{made.name}": route "{route.name}" has no case "{case}"'
        notes.add((*made.place, "expect", "case"), "E215", said, closest(case, cases), offset=0)


class Settings:
    """The values of a table's settings that have the right type and still cannot be."""

    def __init__(self, table: Table, notes: Notes) -> None:
        self._table = table
        self._notes = notes

    def check(self, listeners: Iterable[str]) -> None:
        """`listeners` are those that have a table of their own."""
        self._bus()
        self._address(self._table.bus.http, ("bus", "http"))
        for name in listeners:
            self._listener(self._table.listeners[name], ("listener", name))
        for name, policy in self._table.retry.items():
            self._retry(policy, ("retry", name))

    def _bus(self) -> None:
        bus = self._table.bus
        if not values.NAME.fullmatch(bus.name):
            hint = "names are a-z 0-9 _ -, at most 48, and begin with a-z or 0-9"
            self._notes.add(("bus", "name"), "E114", f'"{bus.name}" cannot be a name', hint)
        self._broker(bus)
        try:
            ZoneInfo(bus.time_zone)
        except (KeyError, ValueError, OSError):
            said = f'no time zone "{bus.time_zone}"'
            self._notes.add(("bus", "time_zone"), "E173", said, 'write a name such as "Europe/Berlin"')
        self._least(bus, ("budget",), 1, ("bus",))
        self._least(bus.outbox, ("rows", "size"), 1, ("bus", "outbox"))
        self._admin(bus.admin, bus.admin_key)
        if bus.admin_key is not None:
            check_reference(bus.admin_key, self._table.secrets, ("bus", "admin_key"), self._notes)

    def _broker(self, bus: Bus) -> None:
        if bus.broker != "embedded" and not _BROKER.fullmatch(bus.broker):
            said = f'"{bus.broker}" is no broker'
            self._notes.add(("bus", "broker"), "E151", said, 'write "embedded", or "amqp://HOST:5672/VHOST"')
        if "@" in bus.broker:
            said = "a login in the broker's address"
            hint = 'write broker_user = "NAME" and broker_password = "secret:NAME"'
            self._notes.add(("bus", "broker"), "E151", said, hint)
        if bus.broker_password is not None:
            check_reference(bus.broker_password, self._table.secrets, ("bus", "broker_password"), self._notes)

    def _admin(self, admin: str, key: str | None) -> None:
        """A TCP address always needs a key."""
        if not admin or admin.startswith("unix:"):
            return
        self._address(admin, ("bus", "admin"))
        if key is None:
            hint = 'write admin_key = "secret:NAME", or admin = "unix:PATH"'
            self._notes.add(("bus", "admin"), "E118", "the admin API on TCP needs a key", hint)

    def _address(self, bind: str, place: Place) -> None:
        found = _ADDRESS.fullmatch(bind)
        if found is None or int(found[2]) > 65_535:
            said = f'{route_of(place)}"{bind}" is not an address to listen on'
            self._notes.add(place, "E117", said, 'write "127.0.0.1:8080", or ":8080" for every interface')

    def _listener(self, listener: Listener, place: Place) -> None:
        self._address(listener.bind, (*place, "bind"))
        self._least(listener, ("max_body", "max_header", "max_connections"), 1, place)

    def _retry(self, policy: RetryPolicy, place: Place) -> None:
        if policy.transient.attempts != "forever":
            self._least(policy.transient, ("attempts",), 1, (*place, "transient"))
        self._least(policy.transient, ("factor",), 1, (*place, "transient"))
        self._least(policy.permanent, ("attempts",), 1, (*place, "permanent"))
        self._least(policy.fault, ("attempts",), 1, (*place, "fault"))
        said = policy.permanent.pause_after
        if not _PAUSE.fullmatch(said):
            where: Place = (*place, "permanent", "pause_after")
            self._notes.add(where, "E112", f'{route_of(place)}"{said}" is no count', 'write "20 in a row" or "never"')

    def _least(self, value: Struct, names: tuple[str, ...], least: int, place: Place) -> None:
        for name in names:
            found = getattr(value, name)
            if found < least:
                said = f'{route_of(place)}"{name}" is {found}'
                self._notes.add((*place, name), "E112", said, f"it must be {least} or more")
