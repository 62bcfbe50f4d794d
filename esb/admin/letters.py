"""One held thing with all that is known of it: bytes as they came and where they failed, attempts, what to do next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from esb.admin import advice, rows
from esb.admin.access import Access
from esb.store import LetterBody, Opened, held, journal
from esb.table.model import Table

HEAD = 4000
"""Bytes of a body that are shown where the whole is not asked for."""

Standing = Callable[[Opened, bytes], Awaitable[bytes | None]]
"""The bytes of a message where its planning failed, from those it was planned with; None where that cannot be told."""


class Bytes(Struct, frozen=True):
    """What a held thing was when it came, where it failed, and what a person made of it; None for what is not there."""

    original: bytes | None
    failing: bytes | None
    edited: bytes | None


class Letters:
    """Opens held things."""

    def __init__(self, access: Access, table: Table, standing: Standing) -> None:
        self._access = access
        self._table = table
        self._standing = standing

    async def tell(self, item: held.Letter, cut: int | None) -> Mapping[str, Any]:
        """One of them; each body is cut after so many bytes (None: whole)."""
        found: Opened = await self._access.query(held.opened, item.id)
        edit = None if found.edited is None else await self._edit(item)
        content = await self._content(found, edit)
        return {**self._told(found), **_shown(content, found, cut), **_noted(edit)}

    async def _edit(self, item: held.Letter) -> journal.ActionRow | None:
        thing = f"message {item.uid}" if item.kind == "message" else f"delivery {item.id}"
        done: journal.ActionRow | None = await self._access.query(journal.last_action, "edit", thing)
        return done

    async def _content(self, found: Opened, edit: journal.ActionRow | None) -> Bytes:
        original, edited = await self._bytes(found.original), await self._bytes(found.edited)
        tried = edited if edit is not None and edit.at <= _failed_at(found) else None
        if found.letter.kind == "delivery":
            failing = tried if tried is not None else await self._bytes(found.sent)
        else:
            planned = tried if tried is not None else original
            failing = None if planned is None else await self._standing(found, planned)
        return Bytes(original, failing, edited)

    async def _bytes(self, body: LetterBody | None) -> bytes | None:
        return None if body is None else await self._access.content(body.data, body.file)

    def _told(self, found: Opened) -> Mapping[str, Any]:
        letter, journey = found.letter, found.journey
        return {
            **rows.letter_row(letter),
            "kind": letter.kind,
            "step": found.step or ("deliver" if letter.kind == "delivery" else ""),
            "class": advice.error_class(found),
            "code": found.code,
            "place": found.place,
            "errors": [rows.as_json(error) for error in found.errors],
            "table": journey.table_hash,
            "headers": {name: rows.mask_value(name, value, self._table) for name, value in journey.headers.items()},
            "source": rows.as_json(journey.source),
            "keys": dict(journey.message.keys),
            "decision": rows.as_json(msgspec.msgpack.decode(journey.trace)) if journey.trace else {},
            "values": {name: rows.mask_value(name, value, self._table) for name, value in found.values.items()},
            "history": [rows.attempt_row(item) for item in found.attempts],
            "next": advice.for_letter(found),
        }


def _failed_at(found: Opened) -> float:
    """When it failed last."""
    if found.attempts:
        return found.attempts[-1].at
    return found.letter.ended_at or found.letter.accepted_at


def _shown(content: Bytes, found: Opened, cut: int | None) -> Mapping[str, Any]:
    media = found.journey.media
    sent = media if found.sent is None else found.sent.media or media
    return {
        "original": rows.body_json(content.original, media, cut),
        "failing": rows.body_json(content.failing, sent if found.letter.kind == "delivery" else "", cut),
        "edited": rows.body_json(content.edited, sent, cut),
    }


def _noted(edit: journal.ActionRow | None) -> Mapping[str, Any]:
    if edit is None:
        return {"note": ""}
    why = f" ({edit.why})" if edit.why else ""
    who = f" by {edit.actor}" if edit.actor else ""
    return {"note": f"edited {rows.moment(edit.at)}{who}{why}: the edited bytes go out; the original is kept"}
