"""What the store gives, as the plain values that an answer is made of: times with their offset, nothing secret."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec

from esb.secrets import mask
from esb.store import held, journal
from esb.table.model import Table


def moment(seconds: float) -> str:
    """A stored time with its offset."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def group_row(item: held.Group) -> dict[str, Any]:
    return {
        "count": item.count, "group": item.fingerprint, "route": item.route, "target": item.target,
        "reason": item.reason, "first": moment(item.first), "last": moment(item.last), "example": item.example,
    }  # fmt: skip


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
        "history": [attempt_row(item) for item in row.attempt_rows],
    }  # fmt: skip


def attempt_row(item: journal.AttemptRow) -> dict[str, Any]:
    return {
        "n": item.n, "at": moment(item.at), "class": item.kind, "code": item.code, "place": item.place,
        "ms": round(item.ms, 1), "said": {key: mask(text_of(value)) for key, value in item.params.items()},
    }  # fmt: skip


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


def body_json(body: bytes | None, media: str = "", cut: int | None = None) -> dict[str, Any] | None:
    """Bytes in JSON: as text where they are text. `size` is that of the whole; `cut` tells that only a head is here."""
    if body is None:
        return None
    head = body if cut is None else body[:cut]
    about = {"size": len(body), **({"media": media} if media else {}), **({"cut": True} if head != body else {})}
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(head).decode(), **about}
    return {"text": head.decode("utf-8", "ignore"), **about}


def as_json(value: Any) -> Any:
    """Plain values only."""
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=str))
