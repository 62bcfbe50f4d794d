"""What a person does next about a message or a delivery, in a sentence with the commands to type. Pure."""

from __future__ import annotations

from esb.store import Opened
from esb.store.journal import Journey
from esb.store.rows import HELD

_CLASSES = {
    "M21": "decode", "M22": "encode", "M23": "invalid", "M24": "unroutable", "M25": "expression", "M26": "timeout",
    "M290": "fault", "M295": "poison",
}  # fmt: skip
"""The error class of a message that ended in planning, by the beginning of its code."""


def error_class(found: Opened) -> str:
    """Of a delivery that of its last attempt; of a message that of its first error; "" where nothing failed."""
    letter = found.letter
    if letter.reason.startswith("poison"):
        return "poison"
    if letter.kind == "delivery":
        return found.kind
    if letter.state == "unmatched":
        return "unroutable"
    return _CLASSES.get(found.code) or _CLASSES.get(found.code[:3]) or ("invalid" if found.code else "")


def for_letter(found: Opened) -> str:
    """What to do about one held thing."""
    letter = found.letter
    if letter.kind == "delivery":
        return for_delivery(letter.id, letter.state, letter.target, error_class(found))
    return for_message(letter.id, letter.state, letter.route, error_class(found))


def for_journey(found: Journey) -> str:
    """What to do about a message and its deliveries: the first that waits for a person comes first."""
    for row in found.deliveries:
        if row.state in ("dead", "parked"):
            kind = row.attempt_rows[-1].kind if row.attempt_rows else ""
            return for_delivery(row.id, row.state, row.target, kind)
    message = found.message
    return for_message(message.uid, message.state, message.route, "")


def for_delivery(name: str, state: str, target: str, kind: str) -> str:
    """What to do about a delivery that failed with this error class."""
    if state not in ("dead", "parked"):
        return f"esb messages show {name}"
    release = f"esb {state} release {name}"
    match kind:
        case "permanent":
            return f"the target refused it: mend it with esb {state} edit {name} FILE, then {release}"
        case "auth":
            return f"mend the login of {target}; esb probe {target} tries it; then {release}"
        case "transient" | "throttled":
            return f"{release} when {target} is well again; esb probe {target} tells"
        case "unknown":
            return f"ask {target} whether it has {name}; if not, {release}; if it has, esb {state} discard {name}"
        case "fault":
            return f"mend the plugin of {target} (the log has its trace; esb plugin list names it), then {release}"
        case "poison":
            return f"look what is in it before it kills the process again; then {release}, or discard it"
        case _:
            return release


def for_message(uid: str, state: str, route: str, kind: str) -> str:
    """What to do about a message that ended in planning with this error class."""
    if state not in HELD:
        return "esb status"
    if state == "unmatched":
        return f"add a case to route {route}, then esb parked release {uid}"
    box = "quarantine" if state == "quarantined" else "dead"
    if kind in ("fault", "timeout", "poison"):
        return f"mend the step's plugin or the table, then esb {box} release {uid}"
    return f"esb {box} edit {uid} FILE, or mend the table; then esb {box} release {uid}"
