"""What a person does with dead letters, parked and quarantined things of a running store: in chunks, so that a hundred
thousand of them do not hold up what is live."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from esb.errors import StoreError
from esb.store import dead_letters
from esb.store.bodies import Bodies
from esb.store.dead_letters import Act, Acted
from esb.store.held import Group, Letter, LetterBody, Opened, Which, last_rows
from esb.store.journal import Box
from esb.store.reader import Readers
from esb.store.work import Work

T = TypeVar("T")

CHUNK = 200
"""Things of one transaction."""

Change = Callable[[Work, Sequence[int], Act], Acted]


class Letters:
    """The verbs of `esb dead`, `esb parked` and `esb quarantine`. `submit` runs a function of one transaction."""

    def __init__(
        self, readers: Readers, bodies: Bodies, submit: Callable[[Callable[[Work], Acted]], Awaitable[Acted]]
    ) -> None:
        self._readers = readers
        self._bodies = bodies
        self._submit = submit

    async def groups(self, box: Box, which: Which = Which()) -> list[Group]:
        """What a box holds, by what is alike: the largest group first."""
        return await self._readers.ask(lambda reader: reader.groups(box, which))

    async def found(
        self, box: Box, which: Which = Which(), *, limit: int = 100, after: tuple[int, int] = (0, 0)
    ) -> list[Letter]:
        """What a box holds, one by one, the oldest first."""
        return await self._readers.ask(lambda reader: reader.letters(box, which, limit=limit, after=after))

    async def show(self, name: str) -> Opened | None:
        """All that is known of one delivery or message by its id."""
        return await self._readers.ask(lambda reader: reader.opened(name))

    async def bytes_of(self, body: LetterBody) -> bytes | None:
        """The bytes of a body; None when they are gone."""
        return await self._readers.ask(lambda reader: reader.bytes_of(body))

    async def export(self, box: Box, which: Which = Which()) -> AsyncIterator[Opened]:
        """All that fits, with everything known of it."""
        async for page in self._pages(box, which):
            for item in page:
                found = await self.show(item.id)
                if found is not None:
                    yield found

    async def release(self, box: Box, which: Which, act: Act) -> Acted:
        """Deliveries are due again under their own id; messages are planned again. What a target has is not sent
        again: only what is held is touched. With `which.target` only that target's deliveries."""
        return await self._all(box, which, act, dead_letters.release_deliveries, dead_letters.release_messages)

    async def discard(self, box: Box, which: Which, act: Act) -> Acted:
        """Ends them as dropped; raises StoreError without a reason."""
        if not act.why.strip():
            raise StoreError("a reason is needed to discard something")
        return await self._all(box, which, act, dead_letters.discard_deliveries, dead_letters.discard_messages)

    async def edit(self, name: str, data: bytes, act: Act) -> Acted:
        """Other bytes for one held delivery or message; the original stays. Raises StoreError when it is not held."""
        found = await self.show(name)
        if found is None:
            raise StoreError(f"there is no delivery and no message {name}")
        item = found.letter
        change = dead_letters.edit_delivery if item.kind == "delivery" else dead_letters.edit_message
        body = await self._bodies.keep(data)
        media = (found.edited or found.sent or found.original or LetterBody(0, None, None, 0, "")).media
        kept = type(body)(data=body.data, file=body.file, size=body.size, sha256=body.sha256, media=media)
        return await self._submit(lambda work: change(work, item.row, kept, act))

    async def resend(self, names: Sequence[str], act: Act, *, target: str | None = None) -> Acted:
        """What was delivered is delivered once more, under a new id (`.rN`): deliveries by their id, or all those of a
        message. The one verb that sends a target what it has already."""
        rows: list[int] = []
        for name in names:
            found = await self.show(name)
            if found is None:
                raise StoreError(f"there is no delivery and no message {name}")
            if found.letter.kind == "delivery":
                rows.append(found.letter.row)
            else:
                rows += [item.row for item in found.journey.deliveries if target in (None, item.target)]
        return await self._submit(lambda work: dead_letters.resend(work, rows, act))

    async def _pages(self, box: Box, which: Which) -> AsyncIterator[list[Letter]]:
        after = (0, 0)
        while page := await self.found(box, which, limit=CHUNK, after=after):
            yield page
            if which.ids:
                return
            after = last_rows(page, after)

    async def _all(self, box: Box, which: Which, act: Act, deliveries: Change, messages: Change) -> Acted:
        acted = Acted()
        async for page in self._pages(box, which):
            for kind, change in (("delivery", deliveries), ("message", messages)):
                rows = [item.row for item in page if item.kind == kind]
                if rows:
                    acted += await self._submit(_changing(change, rows, act))
        return acted


def _changing(change: Change, rows: Sequence[int], act: Act) -> Callable[[Work], Acted]:
    return lambda work: change(work, rows, act)
