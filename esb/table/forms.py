"""The short text forms of the table and their long table forms: outcomes and replies. One parser, positions inside."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, cast

from esb.table.model import OutcomeSpec, Place, ReplySpec
from esb.table.notes import Notes, route_of
from esb.units import Duration

_REPLY: Final = re.compile(r"reply (\d{3})(?: (.+))?")
_ANSWER: Final = re.compile(r"(\d{3}) after (stored|delivered)(?::([a-z0-9_-]+))?")
_FROM: Final = re.compile(r"from:([a-z0-9_-]+)")
_WORDS: Final = ("quarantine", "park", "dead", "note")
_KINDS: Final = ("drop", "park", "dead", "reply", "quarantine")


def outcome(value: Any, place: Place, notes: Notes, allowed: tuple[str, ...]) -> OutcomeSpec | None:
    """`"park"`, `"reply 422 why"`, `{ drop = "why" }`, `{ reply = "422 why" }`."""
    if isinstance(value, str):
        return _outcome_text(value, place, notes, allowed)
    if isinstance(value, Mapping) and len(value) == 1:
        (kind, said), *_ = value.items()
        if kind in _KINDS and isinstance(said, str):
            return outcome_of(kind, said, (*place, kind), notes, allowed)
    _refuse(place, notes, allowed)
    return None


def _outcome_text(value: str, place: Place, notes: Notes, allowed: tuple[str, ...]) -> OutcomeSpec | None:
    if value in _WORDS and value in allowed:
        return OutcomeSpec(cast(Any, value))
    found = _REPLY.fullmatch(value)
    if found and "reply" in allowed:
        return _reply(int(found[1]), found[2] or "", place, notes, 6)
    if value == "drop":
        notes.add(place, "E142", f"{route_of(place)}a drop needs its reason", '{ drop = "why" }')
        return None
    _refuse(place, notes, allowed)
    return None


def outcome_of(kind: str, said: str, place: Place, notes: Notes, allowed: tuple[str, ...]) -> OutcomeSpec | None:
    """One of drop, park, dead, reply with what is said beside it."""
    if kind not in allowed:
        _refuse(place, notes, allowed)
        return None
    if kind == "reply":
        status, _, reason = said.partition(" ")
        if not status.isdigit():
            notes.add(place, "E141", f"{route_of(place)}a reply begins with its status", 'reply = "422 why"')
            return None
        return _reply(int(status), reason, place, notes, 0)
    if not said.strip():
        notes.add(place, "E142", f"{route_of(place)}{kind} needs its reason", f'{kind} = "why"')
        return None
    return OutcomeSpec(cast(Any, kind), said)


def _reply(status: int, reason: str, place: Place, notes: Notes, offset: int) -> OutcomeSpec | None:
    if not 400 <= status <= 499:
        notes.add(
            place, "E141", f"{route_of(place)}a refusal is 400 to 499, not {status}", "422 is bad data", offset=offset
        )
        return None
    return OutcomeSpec("reply", reason, status)


def _refuse(place: Place, notes: Notes, allowed: tuple[str, ...]) -> None:
    shown = [
        '"reply 422 why"' if word == "reply" else '{ drop = "why" }' if word == "drop" else f'"{word}"'
        for word in allowed
    ]
    notes.add(place, "E140", f"{route_of(place)}not an outcome", f"write {' or '.join(shown)}")


def reply(value: Any, place: Place, notes: Notes) -> ReplySpec | None:
    """`"202 after stored"`, `"200 after delivered:erp"`, `"from:erp"`, or `{ from = "erp", timeout = "5s", late = ... }`."""
    if isinstance(value, str):
        return _answer(value, place, notes)
    if isinstance(value, Mapping):
        return _long(value, place, notes)
    _bad_reply(place, notes)
    return None


def _answer(value: str, place: Place, notes: Notes) -> ReplySpec | None:
    if found := _ANSWER.fullmatch(value):
        status = int(found[1])
        if not 200 <= status <= 299:
            notes.add(
                place, "E143", f"{route_of(place)}what is stored or delivered answers 2xx, not {status}", offset=0
            )
            return None
        kind: Literal["stored", "delivered"] = "stored" if found[2] == "stored" else "delivered"
        return ReplySpec(kind, status, found[3])
    if found := _FROM.fullmatch(value):
        return ReplySpec("from", 200, found[1])
    _bad_reply(place, notes)
    return None


def _long(value: Mapping[str, Any], place: Place, notes: Notes) -> ReplySpec | None:
    extra = set(value) - {"answer", "from", "timeout", "late"}
    text = value.get("answer") or (f"from:{value['from']}" if "from" in value else "")
    if extra or not isinstance(text, str):
        _bad_reply(place, notes)
        return None
    base = _answer(text, place, notes)
    late = value.get("late", "expire")
    try:
        timeout = Duration.parse(value.get("timeout", "30s"))
    except ValueError as error:
        notes.add((*place, "timeout"), "E112", str(error))
        return None
    if late not in ("expire", "deliver"):
        notes.add((*place, "late"), "E113", f'late cannot be "{late}"', "it is one of expire, deliver")
        return None
    return base and ReplySpec(base.kind, base.status, base.target, float(timeout), late)


def _bad_reply(place: Place, notes: Notes) -> None:
    hint = 'write "202 after stored", "200 after delivered", "200 after delivered:TARGET" or "from:TARGET"'
    notes.add(place, "E143", f"{route_of(place)}not a reply", hint)
