"""The verbs of what is held, straight on an open store: each the one transaction that the admin API makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from esb.errors import StoreError
from esb.store import Act, Acted, Box, Group, Letter, LetterBody, Opened, Store, Which, dead_letters, held


async def groups(store: Store, box: Box, which: Which = Which()) -> list[Group]:
    found: list[Group] = await store.query(held.groups, box, which)
    return found


async def found(store: Store, box: Box, which: Which = Which()) -> list[Letter]:
    letters: list[Letter] = await store.query(held.letters, box, which, limit=10_000)
    return letters


async def show(store: Store, name: str) -> Opened | None:
    opened: Opened | None = await store.query(held.opened, name)
    return opened


def bytes_of(store: Store, body: LetterBody) -> bytes | None:
    return body.data if body.file is None else store.bodies.read(body.file)


async def release(store: Store, box: Box, which: Which, act: Act) -> Acted:
    deliveries, messages = await _rows(store, box, which)
    return await store.act(
        lambda work: (
            dead_letters.release_deliveries(work, deliveries, act) + dead_letters.release_messages(work, messages, act)
        )
    )


async def discard(store: Store, box: Box, which: Which, act: Act) -> Acted:
    deliveries, messages = await _rows(store, box, which)
    return await store.act(
        lambda work: (
            dead_letters.discard_deliveries(work, deliveries, act) + dead_letters.discard_messages(work, messages, act)
        )
    )


async def edit(store: Store, name: str, data: bytes, act: Act) -> Acted:
    opened = await _known(store, name)
    item, media = opened.letter, (opened.edited or opened.sent or opened.original or LetterBody(0, None, None, 0, ""))
    body = replace(await store.bodies.keep(data), media=media.media)
    change: Any = dead_letters.edit_delivery if item.kind == "delivery" else dead_letters.edit_message
    acted: Acted = await store.act(lambda work: change(work, item.row, body, act))
    return acted


async def resend(store: Store, name: str, act: Act, *, target: str | None = None) -> Acted:
    opened = await _known(store, name)
    rows = [item.row for item in opened.journey.deliveries if target in (None, item.target)]
    if opened.letter.kind == "delivery":
        rows = [opened.letter.row]
    return await store.act(lambda work: dead_letters.resend(work, rows, act))


async def _known(store: Store, name: str) -> Opened:
    opened = await show(store, name)
    if opened is None:
        raise StoreError(f"there is no delivery and no message {name}")
    return opened


async def _rows(store: Store, box: Box, which: Which) -> tuple[Sequence[int], Sequence[int]]:
    letters = await found(store, box, which)
    return (
        [item.row for item in letters if item.kind == "delivery"],
        [item.row for item in letters if item.kind == "message"],
    )
