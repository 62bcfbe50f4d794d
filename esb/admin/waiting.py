"""Why something waits, in words: since when, until when, and what a person can do about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from esb.admin import advice, rows
from esb.secrets import mask
from esb.store.journal import DeliveryRow
from esb.table.explanations import explanation
from esb.table.model import TargetSpec


class Waits(Struct, frozen=True):
    """`why` in words; `since` and `until` in seconds since the epoch, None where no time is known or set; `do` is what
    a person can do."""

    why: str
    since: float | None
    until: float | None
    do: str

    def told(self) -> dict[str, Any]:
        """As an answer has it."""
        return {
            "why": self.why,
            "since": None if self.since is None else rows.moment(self.since),
            "until": None if self.until is None else rows.moment(self.until),
            "do": self.do,
        }


class Halt(Struct, frozen=True):
    """Why a target takes nothing now: `kind` says by what."""

    kind: str
    reason: str
    since: float | None = None
    until: float | None = None


_HALTS: Mapping[str, tuple[str, str]] = {
    "absent": ("the target cannot run: {reason}", "mend that, then restart the bus; esb plugin list tells more"),
    "off": ("the target is off in the table: {reason}", "take off out of [target.{name}], then restart the bus"),
    "table": ("paused in the table: {reason}", "esb resume target {name}"),
    "bus": ("paused by the bus: {reason}", "mend it and esb resume target {name}; a probe resumes it by itself"),
    "restore": ("paused: {reason}", "esb resume bus; esb resume target {name} lets this one go alone"),
    "person": ("paused: {reason}", "esb resume target {name}"),
    "down": ("the target is down: {reason}", "it is opened again by itself; esb probe {name} tells whether it answers"),
    "stopped": ("the bus is not running", "esb run"),
}
"""By kind: why, and what to do."""
_RETRIES: Mapping[str, str] = {
    "auth": "mend the login of {name}, then esb waiting now {name}",
    "throttled": "it asked for time; esb waiting now {name} tries at once",
    "unknown": "it is sent again with the same id; esb waiting now {name} tries at once",
    "fault": "mend the plugin of {name}; the log has its trace",
}
_RETRY = "esb waiting now {name} tries at once; esb probe {name} tells whether it answers"


def halted(name: str, halt: Halt, accepted: float) -> Waits:
    """Something waits since then because its target takes nothing."""
    why, do = _HALTS[halt.kind]
    since = accepted if halt.since is None else halt.since
    return Waits(why.format(reason=halt.reason), since, halt.until, do.format(name=name))


def of_delivery(
    row: DeliveryRow, halt: Halt | None, spec: TargetSpec | None, ahead: tuple[str, str] | None, now: float
) -> Waits | None:
    """Why a delivery waits; None for one that has ended. `halt` is what holds its target, `ahead` the id and the state
    of the first in its order key's line where that is another."""
    if row.state in ("dead", "parked"):
        return _held(row)
    if row.state != "due":
        return None
    if halt is not None and (halt.kind != "stopped" or not row.attempt_rows):
        return halted(row.target, halt, row.accepted_at)
    if row.due is None and ahead is not None:
        return _behind(row, *ahead)
    if row.attempt_rows:
        return _retried(row, now)
    if row.due is not None and row.due > now:
        return Waits("it is not due yet", row.accepted_at, row.due, f"esb waiting now {row.target}")
    return Waits(_busy(row, spec), row.accepted_at, None, "nothing: it goes out as soon as the target has room")


def _held(row: DeliveryRow) -> Waits:
    tries = row.attempt_rows
    since = row.ended_at or (tries[-1].at if tries else row.accepted_at)
    do = advice.for_delivery(row.id, row.state, row.target, tries[-1].kind if tries else "")
    return Waits(f"{row.state}: {mask(row.reason)}", since, None, do)


def _behind(row: DeliveryRow, ahead: str, state: str) -> Waits:
    why = f"it stands behind {ahead}, which is {state}, in the line of its key {row.order_key}"
    do = f"esb {state} show {ahead}" if state in ("dead", "parked") else f"esb messages show {ahead}"
    return Waits(why, row.accepted_at, None, do)


def _retried(row: DeliveryRow, now: float) -> Waits:
    """The last try failed; the next one has its time."""
    first, last = row.attempt_rows[0], row.attempt_rows[-1]
    said = mask(rows.text_of(last.params.get("text", ""))) or title(last.code)
    tries = f"{row.attempts} tries" if row.attempts != 1 else "1 try"
    until = row.due if row.due is not None and row.due > now else None
    return Waits(
        f"{said} ({last.kind} {last.code}, {tries})",
        first.at,
        until,
        _RETRIES.get(last.kind, _RETRY).format(name=row.target),
    )


def _busy(row: DeliveryRow, spec: TargetSpec | None) -> str:
    limit = "" if spec is None or spec.limit is None else f", limit {spec.limit.per_second:g} a second"
    return f"it was not tried yet: others are before it{limit}"


def title(code: str) -> str:
    """What a code means, in a few words: the title of its page."""
    page = explanation(code)
    return code if page is None else page.partition("\n")[0].removeprefix(f"# {code} ")
