"""What a sender can be told, by whom, and when it is too late for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from esb.table.model import Place, RouteSpec, SourceSpec, StepSpec, Table, ToSpec
from esb.table.notes import Notes

_MENTIONS: Final = re.compile(r"\b(body|raw|xpath)\b")


class Answers:
    """What a sender can be told, and when it is too late for it (R1)."""

    def __init__(self, table: Table, route: RouteSpec, notes: Notes) -> None:
        self._table = table
        self._route = route
        self._notes = notes
        self._front = f'route "{route.name}": '
        self._split = next((i for i, step in enumerate(route.do) if step.component.name == "split"), None)

    def check(self) -> None:
        self._alike()
        self._replies()
        self._handed()
        if self._split is not None:
            self._late()
        elif not self._route.sources and self._route.from_route:
            for place in self._refusals(self._route.do):
                self._unheard(place)

    def _alike(self) -> None:
        """What several sources of one route say of its messages is the same for all."""
        for name in ("once", "reply"):
            told = [source for source in self._route.sources if _told(source, name) is not None]
            for source in told[1:]:
                if _told(source, name) != _told(told[0], name):
                    said = f"{self._front}its sources differ in {name}, which is one for all messages of a route"
                    self._notes.add((*source.place, name), "E185", said, "write the same, or make two routes")

    def _replies(self) -> None:
        """An answer comes from where the route leads."""
        route = self._route
        items = route.leads_to
        reached = {to.target for to in items}
        for source in route.sources:
            reply, place = source.reply, (*source.place, "reply")
            if reply.kind != "stored" and self._split is not None:
                said = f"{self._front}a split message becomes many: there is no one outcome to answer with"
                self._notes.add(place, "E184", said, 'write reply = "202 after stored"')
            elif reply.kind != "stored" and reply.target is None and _hands_over(items):
                said = f"{self._front}what it hands to another route has an outcome of its own, which is not waited for"
                self._notes.add(place, "E184", said, 'write reply = "202 after stored", or name a target of this route')
            if reply.target in self._table.targets and reply.target not in reached:
                said = f"{self._front}the answer waits for {reply.target}, where no case and no to leads"
                self._notes.add(place, "E169", said, f"it leads to {', '.join(sorted(filter(None, reached)))}")

    def _handed(self) -> None:
        """A route that is handed messages says so."""
        for to in self._route.leads_to:
            route = self._table.routes.get(to.route or "")
            if route is not None and not route.from_route:
                said = f'{self._front}route "{route.name}" takes nothing from other routes'
                self._notes.add(to.place, "E183", said, f"give [route.{route.name}] from = {{ route = true }}")

    def _late(self) -> None:
        """After a split the message is accepted: nobody can be refused any more."""
        route = self._route
        assert self._split is not None
        streams = self._streams()
        for place in self._refusals(route.do[0 if streams else self._split + 1 :]):
            self._too_late(place)
        if route.bad.kind == "reply" and streams:
            self._too_late((*route.place, "bad"))

    def _refusals(self, do: Sequence[StepSpec]) -> Iterator[Place]:
        """Where the sender would be refused: by these steps and all behind them."""
        route = self._route
        steps = [
            *do,
            *(step for case in route.cases for step in case.do),
            *(step for to in route.leads_to for step in to.do),
        ]
        yield from ((*step.place, "bad") for step in steps if step.bad is not None and step.bad.kind == "reply")
        for case in route.cases:
            if case.outcome is not None and case.outcome.kind == "reply":
                yield (*case.place, "reply")
        if route.unmatched.kind == "reply":
            yield (*route.place, "unmatched")

    def _streams(self) -> bool:
        """A read right before the split and nothing else: the body is stored before it is read."""
        route = self._route
        texts = [route.once or "", *route.keys.values()]
        plain = len(route.do) > 1 and route.do[0].component.name == "read" and route.do[0].condition is None
        return self._split == 1 and plain and not any(_MENTIONS.search(text) for text in texts)

    def _unheard(self, place: Place) -> None:
        said = f"{self._front}what other routes hand over was answered before: it is quarantined instead"
        self._notes.warn(place, "W304", said, 'write "quarantine" or "dead"')

    def _too_late(self, place: Place) -> None:
        said = f"{self._front}a split message is stored and answered before this: nobody can be refused here"
        self._notes.add(place, "E176", said, 'write "quarantine" or "dead", or put a check before the split')


def _hands_over(items: Sequence[ToSpec]) -> bool:
    return any(to.route is not None for to in items)


def _told(source: SourceSpec, name: str) -> object:
    """What a source says beside its options; None for the default."""
    if name == "once":
        return source.once
    return None if source.reply.kind == "stored" else source.reply
