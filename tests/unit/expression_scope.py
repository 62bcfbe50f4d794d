"""A message's scope for tests of expressions, and short ways to ask."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from esb.errors import ExpressionError
from esb.expressions import Environment, ExpressionProblems, Finding
from esb.message import Headers

BODY: Final[dict[str, Any]] = {
    "Order": {
        "@id": "4711",
        "Country": "DE",
        "Total": "12000.50",
        "count": 5,
        "price": Decimal("10.10"),
        "paid": True,
        "note": None,
        "Empty": "",
        "Ship-To": {"Name": "Ada"},
        "Lines": {"Line": [{"Sku": "A", "Qty": "3"}, {"Sku": "B"}]},
    }
}
SCOPE: Final[dict[str, Any]] = {
    "body": BODY,
    "raw": b"<Order/>",
    "header": Headers({"x-channel": "edi"}),
    "source": {"name": "a.xml"},
    "part": None,
    "parent": None,
    "message": {"id": "m-1", "route": "orders"},
    "now": datetime(2026, 3, 1, 2, 10, tzinfo=UTC),
    "today": "2026-03-01",
    "var": {"limit": 100},
}
ENVIRONMENT: Final = Environment()


def value(text: str, **more: Any) -> Any:
    """What the expression gives."""
    return ENVIRONMENT.compile(text).evaluate({**SCOPE, **more})


def error(text: str, **more: Any) -> ExpressionError:
    """What the expression raises when it is evaluated."""
    program = ENVIRONMENT.compile(text)
    try:
        found = program.evaluate({**SCOPE, **more})
    except ExpressionError as failed:
        return failed
    raise AssertionError(f"{text} gives {found!r:.80}")


def findings(text: str) -> tuple[Finding, ...]:
    """What is wrong with a text before any message."""
    try:
        ENVIRONMENT.compile(text)
    except ExpressionProblems as problems:
        return problems.findings
    return ()


def finding(text: str) -> Finding:
    """The one thing wrong with a text."""
    (only,) = findings(text)
    return only
