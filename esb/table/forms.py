"""The short text forms of the table and their long table forms: outcomes, replies, limits. One parser, positions
inside."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeVar, cast

from msgspec.structs import replace

from esb.table.model import OutcomeSpec, Place, ReplySpec
from esb.table.notes import Notes, near_to, one_of, route_of
from esb.units import Duration, Rate

T = TypeVar("T")
BAD: Final = ("quarantine", "reply", "dead", "note")
UNMATCHED: Final = ("park", "dead", "drop", "reply")
CASE: Final = ("drop", "park", "dead", "reply")
_REASONED: Final = ("drop", "park", "dead", "quarantine", "reply")
_SHOWN: Final = {"reply": '"reply 422 why"', "drop": '{ drop = "why" }'}
_ANSWERS: Final = 'write "202 after stored", "200 after delivered", "200 after delivered:TARGET" or "from:TARGET"'


class Wrong(Exception):
    """A form is wrong: at the character `offset` of its text, or at one `key` of its table."""

    def __init__(self, code: str, said: str, hint: str = "", *, offset: int | None = None, key: str = "") -> None:
        super().__init__(said)
        self.code = code
        self.said = said
        self.hint = hint
        self.offset = offset
        self.key = key


def read(parse: Callable[[], T], place: Place, notes: Notes) -> T | None:
    """What `parse` gives; None when it is wrong, which is then noted at its place."""
    try:
        return parse()
    except Wrong as wrong:
        where = (*place, wrong.key) if wrong.key else place
        unknown = wrong.code == "E110"
        notes.add(where, wrong.code, f"{route_of(place)}{wrong.said}", wrong.hint, offset=wrong.offset, key=unknown)
        return None


def outcome(value: Any, allowed: tuple[str, ...]) -> OutcomeSpec:
    """`"park"`, `"reply 422 why"`, `{ drop = "why" }`, `{ reply = "422 why" }`; of the kinds allowed at this place."""
    if isinstance(value, str):
        return _outcome_text(value, allowed)
    if isinstance(value, Mapping) and len(value) == 1:
        kind, said = next(iter(value.items()))
        if kind in _REASONED and isinstance(said, str):
            return reasoned(kind, said, allowed, key=kind)
    raise _no_outcome(allowed)


def _outcome_text(value: str, allowed: tuple[str, ...]) -> OutcomeSpec:
    kind, _, rest = value.partition(" ")
    if kind not in allowed:
        near = near_to(kind, allowed)
        raise _no_outcome(allowed, f'did you mean "{value.replace(kind, near, 1)}"?' if near else "")
    if kind == "reply":
        return _refusal(rest, 6)
    if kind == "drop" and not rest:
        raise Wrong("E142", "a drop needs its reason", 'write { drop = "why" }')
    if rest:
        raise Wrong("E140", "a reason stands in the long form", f'write {{ {kind} = "{rest}" }}', offset=len(kind) + 1)
    return OutcomeSpec(cast(Any, kind))


def reasoned(kind: str, said: str, allowed: tuple[str, ...], *, key: str = "") -> OutcomeSpec:
    """One of drop, park, dead, reply with what is said beside it."""
    if kind not in allowed:
        raise _no_outcome(allowed)
    if kind == "reply":
        return _refusal(said, 0, key)
    if not said.strip():
        raise Wrong("E142", f"{kind} needs its reason", f'write {kind} = "why"', key=key)
    return OutcomeSpec(cast(Any, kind), said.strip())


def _refusal(said: str, offset: int, key: str = "") -> OutcomeSpec:
    status, _, reason = said.partition(" ")
    if not re.fullmatch(r"\d{3}", status):
        right = 'write "reply 422 why"' if offset else 'write reply = "422 why"'
        raise Wrong("E141", "a refusal begins with its status", right, offset=offset, key=key)
    if not 400 <= int(status) <= 499:
        raise Wrong("E141", f"a refusal is 400 to 499, not {status}", "422 is bad data", offset=offset, key=key)
    return OutcomeSpec("reply", reason.strip(), int(status))


def _no_outcome(allowed: tuple[str, ...], hint: str = "") -> Wrong:
    shown = [_SHOWN.get(word, f'"{word}"') for word in allowed]
    return Wrong("E140", "not an outcome that can stand here", hint or f"write {' or '.join(shown)}")


def reply(value: Any) -> ReplySpec:
    """`"202 after stored"`, `"200 after delivered:erp"`, `"from:erp"`; long: `{ from = "erp", timeout = "5s" }`."""
    if isinstance(value, str):
        return _reply_text(value)
    if isinstance(value, Mapping):
        return _timed(_reply_table(value), value)
    raise Wrong("E143", "not a reply", _ANSWERS)


def _reply_text(value: str, key: str = "") -> ReplySpec:
    if value.startswith("from:") and value[5:].strip():
        return ReplySpec("from", 200, value[5:].strip())
    words = [(found.start(), found[0]) for found in re.finditer(r"\S+", value)]
    if len(words) < 3 or words[1][1] != "after":
        raise Wrong("E143", "not a reply", _ANSWERS, offset=words[1][0] if len(words) > 2 else 0, key=key)
    (_, status), _, (at, what), *rest = words
    if not re.fullmatch(r"2\d\d", status):
        said = f"what is stored or delivered answers 2xx, not {status}"
        raise Wrong("E143", said, "write 202 or 200", offset=0, key=key)
    kind, colon, target = what.partition(":")
    if kind not in ("stored", "delivered") or (colon and (kind == "stored" or not target)) or rest:
        hint = _ANSWERS if kind in ("stored", "delivered") else one_of(kind, ("stored", "delivered"))
        raise Wrong("E143", "not a reply", hint, offset=rest[0][0] if rest else at, key=key)
    answered: Literal["stored", "delivered"] = "stored" if kind == "stored" else "delivered"
    return ReplySpec(answered, int(status), target or None)


def _reply_table(value: Mapping[str, Any]) -> ReplySpec:
    for key in value:
        if key not in ("answer", "from", "timeout", "late"):
            hint = one_of(key, ("answer", "from", "timeout", "late"))
            raise Wrong("E110", f'unknown key "{key}"', hint, key=key)
    if isinstance(value.get("answer"), str) and "from" not in value:
        return _reply_text(value["answer"], "answer")
    if isinstance(value.get("from"), str) and "answer" not in value:
        return ReplySpec("from", 200, value["from"].removeprefix("from:"))
    hint = 'write { from = "TARGET", timeout = "5s" } or { answer = "200 after delivered", timeout = "5s" }'
    raise Wrong("E143", "not a reply", hint)


def _timed(base: ReplySpec, value: Mapping[str, Any]) -> ReplySpec:
    late = value.get("late", "expire")
    if late not in ("expire", "deliver"):
        raise Wrong("E113", f'late cannot be "{late}"', one_of(late, ("expire", "deliver")), key="late")
    if base.kind == "stored" and "timeout" in value:
        raise Wrong("E143", "what is answered once stored waits for nobody", "leave timeout out", key="timeout")
    if base.kind != "from" and "late" in value:
        raise Wrong("E143", "late is for an answer that comes from a target", 'write from = "TARGET"', key="late")
    timeout = _parsed(Duration, value.get("timeout", "30s"), "timeout")
    return replace(base, timeout=float(timeout), late=late)


def limit(value: Any) -> tuple[Rate, int | None]:
    """`"50/s"`; long: `{ rate = "50/s", burst = 100 }`."""
    if not isinstance(value, Mapping):
        return _parsed(Rate, value, ""), None
    for key in value:
        if key not in ("rate", "burst"):
            raise Wrong("E110", f'unknown key "{key}"', one_of(key, ("rate", "burst")), key=key)
    if "rate" not in value:
        raise Wrong("E111", '"rate" is missing', 'write { rate = "50/s", burst = 100 }')
    burst = value.get("burst")
    if burst is not None and (type(burst) is not int or burst < 1):
        raise Wrong("E112", "burst is no whole number of 1 or more", "write burst = 100", key="burst")
    return _parsed(Rate, value["rate"], "rate"), burst


Q = TypeVar("Q", Duration, Rate)


def _parsed(kind: type[Q], value: Any, key: str) -> Q:
    try:
        return kind.parse(value)
    except ValueError as error:
        said, _, hint = str(error).partition("; ")
        raise Wrong("E112", said, hint, key=key) from None
