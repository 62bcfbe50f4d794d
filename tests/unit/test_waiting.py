"""What the words of a wait are decided from: the target's halt, the line of a key, the last try."""

from __future__ import annotations

from typing import Any

import pytest

from esb.admin.waiting import Halt, of_delivery
from esb.store.journal import AttemptRow, DeliveryRow

NOW = 1_750_000_000.0


def row(**more: Any) -> DeliveryRow:
    given: dict[str, Any] = {
        "row": 1, "id": "U.erp", "uid": "U", "route": "orders", "target": "erp", "state": "due", "reason": "", "note": "",
        "attempts": 0, "crashes": 0, "due": NOW, "order_key": None, "accepted_at": NOW - 60, "ended_at": None, "size": 1,
        "edited": False, "fingerprint": "",
    }  # fmt: skip
    return DeliveryRow(**{**given, **more})


def tried(kind: str, code: str, **params: Any) -> dict[str, Any]:
    rows = tuple(
        AttemptRow(n=n, at=NOW - 30 + n, node="", kind=kind, code=code, place="target.erp", params=params, ms=1.0)
        for n in (1, 2)
    )
    return {"attempts": 2, "attempt_rows": rows, "due": NOW + 10}


WORDS = {
    "not tried": (row(), None, "it was not tried yet: others are before it", None),
    "later": (row(due=NOW + 5), None, "it is not due yet", NOW + 5),
    "text": (row(**tried("throttled", "D420", text="status 429")), None, "status 429 (throttled D420, 2 tries)", NOW + 10),
    "no text": (row(**tried("unknown", "D451")), None, "sent, no answer in time (unknown D451, 2 tries)", NOW + 10),
    "stopped": (row(), Halt("stopped", ""), "the bus is not running", None),
    "stopped, tried": (
        row(**tried("auth", "D430", text="401")), Halt("stopped", ""), "401 (auth D430, 2 tries)", NOW + 10
    ),
    "down": (row(**tried("auth", "D430")), Halt("down", "no such host", NOW - 9), "the target is down: no such host", None),
    "absent": (row(), Halt("absent", "the plugin fax was left out"), "the target cannot run: the plugin fax was left out", None),
    "parked": (row(state="parked", reason="poison: 3"), None, "parked: poison: 3", None),
}  # fmt: skip


@pytest.mark.parametrize(("given", "halt", "why", "until"), WORDS.values(), ids=WORDS)
def test_the_words_of_a_wait(given: DeliveryRow, halt: Halt | None, why: str, until: float | None) -> None:
    waits = of_delivery(given, halt, None, None, NOW)
    assert waits is not None
    assert (waits.why, waits.until) == (why, until)
    assert waits.do
    assert waits.since is not None


def test_a_line_that_is_stuck_leads_to_the_one_that_holds_it_r14() -> None:
    waits = of_delivery(row(due=None, order_key="M1"), None, None, ("V.erp", "dead"), NOW)
    assert waits is not None
    assert waits.why == "it stands behind V.erp, which is dead, in the line of its key M1"
    assert waits.do == "esb dead show V.erp"


def test_what_has_ended_waits_for_nothing() -> None:
    assert of_delivery(row(state="delivered"), Halt("stopped", ""), None, None, NOW) is None
