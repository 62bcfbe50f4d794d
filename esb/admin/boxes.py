"""What waits for a person, and what a person does with it: the verbs of `esb dead`, `esb parked`, `esb quarantine`."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from esb.admin import question, rows
from esb.admin.access import Access
from esb.admin.letters import HEAD, Letters
from esb.admin.question import BadRequest, NotFound
from esb.store import Act, Acted, Box, Which, dead_letters, held, journal
from esb.store.work import Work

CHUNK = 200
"""Held things of one transaction: a hundred thousand of them do not hold up what is live."""

ALL = 1_000_000
"""More than a box holds."""

_ROUND = re.compile(r"\.r\d+$")
"""What a replay puts behind the id of a delivery (R13)."""


class Boxes:
    """The dead, the parked and the quarantined. `look` tells a running bus that rows of some targets (None: of any) are
    due again."""

    def __init__(self, access: Access, letters: Letters, look: Callable[[Iterable[str] | None], None]) -> None:
        self._access = access
        self._letters = letters
        self._look = look

    async def list(self, ask: Mapping[str, Any]) -> Any:
        """Dead, parked or quarantined things by reason, counts first; then one line each."""
        kind, which = question.box(ask), question.which(ask)
        groups = await self._groups(kind, which)
        letters = await self._access.query(held.letters, kind, which, limit=question.limit(ask, 100))
        return {
            "groups": [rows.group_row(item) for item in groups],
            "deliveries": [rows.letter_row(item) for item in letters if item.kind == "delivery"],
            "messages": [rows.letter_row(item) for item in letters if item.kind == "message"],
            "next": f"esb {kind} show {letters[0].id}" if letters else "esb status",
        }

    async def _groups(self, kind: Box, which: Which) -> Sequence[held.Group]:
        """The groups of the chosen; of chosen ids none is made."""
        return [] if which.ids else await self._access.query(held.groups, kind, which)

    async def show(self, ask: Mapping[str, Any]) -> Any:
        """Held things with all that is known of each, the oldest first, a page at a time: `after` of an answer asks for
        the next one, None ends it. Bodies are cut after HEAD bytes where `body` does not ask for the whole."""
        kind, which, limit = question.box(ask), question.which(ask), question.limit(ask, 20)
        after = question.after(ask)
        found = await self._access.query(held.letters, kind, which, limit=limit, after=after)
        told = [await self._letters.tell(item, None if ask.get("body") else HEAD) for item in found]
        more = None if which.ids or len(found) < limit else "-".join(map(str, held.last_rows(found, after)))
        return {"letters": told, "after": more, "next": told[0]["next"] if told else f"esb {kind} list"}

    async def release(self, ask: Mapping[str, Any]) -> Any:
        """Held things go on: dead and parked deliveries with the same id, messages planned again. A target that has a
        message already does not get it again, unless `delivered` asks for it (a new round of the id). The first 500
        are due at once, the others at 100 a second."""
        kind, which, act = question.box(ask), question.chosen(ask), question.act(ask, "release")
        deliveries, messages = await self._chosen(kind, which)
        sent = await self._delivered(which) if ask.get("delivered") else []
        acted = await self._each(dead_letters.release_deliveries, deliveries, act)
        acted += await self._each(dead_letters.resend, sent, replace(act, ahead=acted.count))
        acted += await self._each(dead_letters.release_messages, messages, act)
        self._look(None)
        return {"released": acted.count, "next": "esb status"}

    async def _delivered(self, which: Which) -> Sequence[int]:
        """What of the chosen was delivered: asked for by `delivered`, it goes out under a new id. Of what was sent in
        several rounds the newest stands for all: one replay is one more delivery."""
        found = await self._access.query(journal.deliveries, state="delivered", target=which.target, limit=ALL)
        newest: dict[tuple[str, str], int] = {}
        for row in found:
            if _takes(which, row):
                first = (row.target, _ROUND.sub("", row.id))
                newest[first] = max(newest.get(first, 0), row.row)
        return sorted(newest.values())

    async def discard(self, ask: Mapping[str, Any]) -> Any:
        """A person lets held things go, with the reason."""
        kind, which, act = question.box(ask), question.chosen(ask), question.act(ask, "discard")
        if not act.why:
            raise BadRequest("a discard needs its reason")
        deliveries, messages = await self._chosen(kind, which)
        acted = await self._each(dead_letters.discard_deliveries, deliveries, act)
        acted += await self._each(dead_letters.discard_messages, messages, act)
        self._look(acted.targets)
        return {"discarded": acted.count, "next": "esb account"}

    async def edit(self, ask: Mapping[str, Any]) -> Any:
        """Other bytes for a held message or delivery; the original stays."""
        kind, name, act = question.box(ask), str(ask["id"]), question.act(ask, "edit")
        body = base64.b64decode(str(ask["body"]))
        deliveries, messages = await self._chosen(kind, Which(ids=(name,)))
        if not deliveries and not messages:
            raise NotFound(f"there is nothing held named {name!r:.60}")
        for change, numbers in (
            (dead_letters.edit_delivery, deliveries),
            (dead_letters.edit_message, messages),
        ):
            for number in numbers:
                # A body of its own each: an edit that another one replaces takes its file along.
                kept = await self._access.bodies.keep(body)
                await self._access.do(partial(change, number=number, body=kept, act=act))
        return {"edited": len(deliveries) + len(messages), "next": f"esb {kind} release {name}"}

    async def _chosen(self, kind: Box, which: Which) -> tuple[Sequence[int], Sequence[int]]:
        """The rows of the deliveries and of the messages that are meant."""
        letters = await self._access.query(held.letters, kind, which, limit=ALL)
        deliveries = [item.row for item in letters if item.kind == "delivery"]
        return deliveries, [item.row for item in letters if item.kind == "message"]

    async def _each(
        self, change: Callable[[Work, Sequence[int], Act], Acted], numbers: Sequence[int], act: Act
    ) -> Acted:
        """In transactions of a bounded size."""
        acted = Acted()
        for start in range(0, len(numbers), CHUNK):
            some = partial(_changed, change, numbers[start : start + CHUNK], replace(act, ahead=act.ahead + start))
            acted += await self._access.do(some)
        return acted


def _changed(change: Callable[[Work, Sequence[int], Act], Acted], some: Sequence[int], act: Act, work: Work) -> Acted:
    return change(work, some, act)


def _takes(which: Which, row: journal.DeliveryRow) -> bool:
    """Whether something that is not held is among the chosen."""
    if which.ids and row.id not in which.ids and row.uid not in which.ids:
        return False
    if which.fingerprint and row.fingerprint != which.fingerprint:
        return False
    return (which.since is None or row.accepted_at >= which.since) and (
        which.until is None or row.accepted_at < which.until
    )
