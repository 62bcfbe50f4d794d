"""The way to a store: of a running bus, or of a stopped one that is opened for one question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from esb.admin.question import NeedsBus
from esb.store import Store
from esb.store.bodies import Bodies
from esb.store.work import Work


class Query(Protocol):
    async def __call__(self, call: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any: ...


class Access(Struct, frozen=True, kw_only=True):
    """`query` asks a function of esb.store.journal, .held or .reading; `act` runs one transaction, None where only
    reading is possible; `backup` copies the store into a folder."""

    query: Query
    bodies: Bodies
    act: Callable[[Callable[[Work], Any]], Awaitable[Any]] | None = None
    backup: Callable[[Path], Awaitable[None]] | None = None

    async def do(self, work: Callable[[Work], Any]) -> Any:
        """What the transaction returns, when it is on disk. Raises NeedsBus where only reading is possible."""
        if self.act is None:
            raise NeedsBus("this changes the store: nothing but reading is possible here")
        return await self.act(work)

    async def back_up(self, place: Path) -> None:
        """A copy of the store in that folder. Raises NeedsBus where only reading is possible, StoreError."""
        if self.backup is None:
            raise NeedsBus("a copy is made by who has the store open")
        await self.backup(place)

    async def content(self, data: bytes | None, file: str | None) -> bytes | None:
        """The bytes of a body that stands in its row or in a file; None when they were pruned."""
        return data if data is not None or file is None else await asyncio.to_thread(self.bodies.read, file)


def access_to(store: Store) -> Access:
    """All that a store in this process can do."""
    return Access(query=store.query, act=store.act, bodies=store.bodies, backup=store.backup)
