"""What an operator asks, read and checked: which things are meant, since when, how many, and by whom."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from esb.errors import EsbError
from esb.store import Act, Box, Which
from esb.store.journal import BOXES
from esb.table.notes import one_of

KINDS: tuple[Box, ...] = tuple(BOXES)


class NotFound(EsbError):
    """There is no such thing."""

    code = "C404"


class NoSuchName(EsbError):
    """The table has no route or target, the house no state, of that name."""

    code = "C420"


class NeedsBus(EsbError):
    """Only a running bus can do this."""

    code = "C503"


class BadRequest(EsbError):
    """The question makes no sense as it is."""

    code = "C400"


def box(ask: Mapping[str, Any]) -> Box:
    """Where held things are looked for; raises NotFound."""
    for kind in KINDS:
        if kind == ask["kind"]:
            return kind
    raise NotFound(f"{ask['kind']!r:.20} is none of {', '.join(KINDS)}")


def named(kind: str, given: Any, known: Iterable[str]) -> str:
    """A name that must be known; raises NoSuchName with the one that is meant."""
    names = list(known)
    if given not in names:
        raise NoSuchName(f"there is no {kind} {given!r:.60}; {one_of(given, names) if names else 'there is none'}")
    return str(given)


def which(ask: Mapping[str, Any]) -> Which:
    """Some of what a box holds: ids, a group, a time range, a target; everything when none of them is named."""
    return Which(
        ids=tuple(sorted({str(item) for item in ask.get("ids") or ()})),
        fingerprint=ask.get("group") or None,
        target=ask.get("target"),
        since=time_of(ask.get("since")),
        until=time_of(ask.get("until")),
    )


def chosen(ask: Mapping[str, Any]) -> Which:
    """The same for what changes something: raises BadRequest where everything is not asked for by name."""
    found = which(ask)
    ranged = found.since is not None or found.until is not None
    if not (found.ids or found.fingerprint or ranged or ask.get("all")):
        raise BadRequest("say which: ids, a group, a time range, or all")
    return found


def act(ask: Mapping[str, Any], what: str) -> Act:
    """Who does it, and why."""
    return Act(what=what, actor=str(ask.get("actor") or ""), why=str(ask.get("reason") or ""))


def whole(value: Any) -> int | None:
    """A whole number, or None where nothing is said."""
    try:
        return None if value in (None, "") else int(value)
    except (TypeError, ValueError):
        raise BadRequest(f"{value!r:.40} is no whole number") from None


def limit(ask: Mapping[str, Any], default: int) -> int:
    """At most so many."""
    said = whole(ask.get("limit"))
    if said is None:
        return default
    if not 1 <= said <= 10_000:
        raise BadRequest("limit is 1 to 10000")
    return said


def time_of(value: Any) -> float | None:
    """A time as RFC 3339 or seconds since the epoch, in seconds; None where nothing is said."""
    if value in (None, ""):
        return None
    try:
        if isinstance(value, (int, float)) or str(value).replace(".", "", 1).isdigit():
            return float(value)
        found = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError):
        raise BadRequest(f"{value!r:.40} is no time; write 2026-03-01T02:10:00+01:00") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def after(ask: Mapping[str, Any]) -> tuple[int, int]:
    """The rows of the last delivery and the last message that were seen: `12-7`, as an answer gave it."""
    found = re.fullmatch(r"(\d{1,18})-(\d{1,18})", str(ask.get("after") or "0-0"), re.ASCII)
    if found is None:
        raise BadRequest("after is what an answer gave")
    return int(found[1]), int(found[2])
