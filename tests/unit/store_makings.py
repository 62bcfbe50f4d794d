"""Messages, outcomes and stores as the tests of the store need them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from esb.clock import VirtualClock
from esb.ids import new_uid
from esb.store import Store, open_store
from esb.store.records import (
    Acceptance,
    AttemptRecord,
    NewBody,
    NewDelivery,
    NewMessage,
    Settled,
    Settlement,
    Stored,
    StoredDelivery,
)

_WAITING = """SELECT target, count(*), sum(size) FROM delivery WHERE state IN ('due', 'parked', 'forwarded')
GROUP BY 1"""
NOW = 1_750_000_000.0


@asynccontextmanager
async def opened(folder: Path, clock: VirtualClock | None = None, **more: Any) -> AsyncIterator[Store]:
    """A store that is not fsynced, at the tests' moment."""
    async with open_store(folder, clock=clock or VirtualClock(NOW), durable=False, **more) as store:
        yield store


def body_of(data: bytes, media: str = "application/json") -> NewBody:
    return NewBody(data=data, size=len(data), media=media)


def delivery(target: str, **more: Any) -> NewDelivery:
    """Due at the tests' moment; `body` as bytes."""
    data = more.pop("body", None)
    body = body_of(data) if isinstance(data, bytes) else data
    return NewDelivery(target=target, due=more.pop("due", NOW), body=body, **more)


def message(*deliveries: str | NewDelivery, data: bytes = b"<order/>", **more: Any) -> NewMessage:
    """A message for these targets; a name is a delivery that shares the message's body."""
    made = [delivery(item) if isinstance(item, str) else item for item in deliveries]
    at = more.pop("accepted_at", NOW)
    return NewMessage(
        uid=more.pop("uid", None) or new_uid(at),
        made=more.pop("made", "source"),
        route=more.pop("route", "orders"),
        accepted_at=at,
        body=more.pop("body", None) or body_of(data, "application/xml"),
        source=more.pop("about", {}),
        deliveries=made,
        **more,
    )


async def accept(store: Store, *deliveries: str | NewDelivery, **more: Any) -> Stored:
    """Accepts one message; what an Acceptance knows (key, claim, ...) is told by its name."""
    fields = ("key", "claim", "payload", "once_for", "source", "checkpoint")
    given = {name: more.pop(name) for name in fields if name in more}
    return await store.accept(Acceptance(message=message(*deliveries, **more), **given))


def attempt(n: int = 1, kind: str = "transient", code: str = "D410", **more: Any) -> AttemptRecord:
    return AttemptRecord(n=n, at=more.pop("at", NOW), kind=kind, code=code, **more)


async def settle(store: Store, row: StoredDelivery, state: str = "delivered", **more: Any) -> Settled:
    return await store.settle(Settlement(delivery=row, state=state, **more))  # type: ignore[arg-type]


async def settle_all(store: Store, rows: Sequence[StoredDelivery], state: str = "delivered") -> list[Settled]:
    return list(await asyncio.gather(*(settle(store, row, state) for row in rows)))


async def state_of(store: Store, uid: str) -> str | None:
    found = await store.message_state(uid)
    return None if found is None else found.state


def rows_of(folder: Path, query: str, *given: Any) -> list[tuple[Any, ...]]:
    """Looks into the file itself."""
    db = sqlite3.connect(f"file:{folder / 'esb.db'}?mode=ro", uri=True)
    try:
        return db.execute(query, given).fetchall()
    finally:
        db.close()


async def check_books(store: Store) -> None:
    """The books balance, and so does the backlog that is kept beside them."""
    account = await store.account()
    assert account.balanced, account.differences or account.sums
    counted = await store.ask(
        lambda reader: {
            target: (n, size) for target, n, size in reader.query(lambda db: db.execute(_WAITING).fetchall())
        }
    )
    waiting = {name: item for name, item in (await store.ask(lambda reader: reader.waiting())).items() if item[0]}
    assert waiting == counted
    backlog = await store.backlog()
    assert {name: item[:2] for name, item in backlog.items()} == counted
