"""Whatever happens in whatever order, the books balance, nothing is lost, and order is kept."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar

import held_letters
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from store_makings import NOW, attempt, check_books, delivery, message, opened

from esb.clock import VirtualClock
from esb.errors import Conflict
from esb.store import Act, Store, Which
from esb.store.records import Acceptance, Progress, Settlement, Stored, StoredDelivery

T = TypeVar("T")

TARGETS = ("erp", "wms", "bank")
ENDS = (*["delivered"] * 6, "dead", "expired", "dropped", "parked", "superseded")
STUCK = ("block", "skip", "park-key")
DAY = 86400.0


class Retain:
    body = 1 * DAY
    journey = 3 * DAY
    dead = None
    space = None


class Outbox(RuleBasedStateMachine):
    """A model beside the store: which messages were acknowledged, and which deliveries are in whose hand."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.place = Path(tempfile.mkdtemp(prefix="outbox"))
        self.count = itertools.count()
        self.clock = VirtualClock(NOW)
        self.acknowledged: dict[str, int] = {}
        self.keys: dict[str, tuple[str, bytes]] = {}
        self.hand: dict[int, StoredDelivery] = {}
        self.delivered: list[tuple[str, str | None, int, int]] = []
        self.context: AbstractAsyncContextManager[Store] | None = None
        self.folder = self.place / "0"

    def do(self, work: Awaitable[T]) -> T:
        async def run() -> T:
            return await work

        return self.loop.run_until_complete(run())

    @initialize()
    def start(self) -> None:
        self.open()

    def open(self) -> None:
        self.context = opened(self.folder, self.clock)
        self.store = self.do(self.context.__aenter__())

    def close(self) -> None:
        assert self.context is not None
        self.do(self.context.__aexit__(None, None, None))
        self.context = None

    def taken(self, stored: Stored) -> None:
        if not stored.duplicate:
            self.acknowledged[stored.uid] = len(self.acknowledged)
        self.hand.update({row.row: row for row in stored.deliveries})

    @rule(
        places=st.lists(st.sampled_from(TARGETS), max_size=3),
        key=st.none() | st.sampled_from("abc"),
        order=st.none() | st.sampled_from("xy"),
        payload=st.sampled_from([b"1", b"2"]),
        later=st.booleans(),
    )
    def accept(self, places: list[str], key: str | None, order: str | None, payload: bytes, later: bool) -> None:
        numbers: dict[str, int] = {}
        made = []
        for target in places:
            numbers[target] = numbers.get(target, 0) + 1
            due = self.clock.now() + (60 if later else 0)
            made.append(delivery(target, nr=numbers[target], order_key=order, due=due, body=b"b" * len(target)))
        new = message(*made, accepted_at=self.clock.now())
        acceptance = Acceptance(message=new, key=key, payload=payload, once_for=36500 * DAY)
        known = self.keys.get(key) if key is not None else None
        try:
            stored = self.do(self.store.accept(acceptance))
        except Conflict:
            assert known is not None
            assert known[1] != payload
            return
        assert stored.duplicate == (known is not None)
        if known is None:
            if key is not None:
                self.keys[key] = (stored.uid, payload)
            self.taken(stored)
        else:
            assert (stored.uid, payload) == known

    @rule(count=st.integers(2, 12), order=st.none() | st.sampled_from("xy"))
    def accept_many(self, count: int, order: str | None) -> None:
        new = [message(delivery("erp", order_key=order), accepted_at=self.clock.now()) for _ in range(count)]

        async def together() -> list[Stored]:
            return await asyncio.gather(*(self.store.accept(Acceptance(message=item)) for item in new))

        for stored in self.do(together()):
            self.taken(stored)

    @rule(state=st.sampled_from(["quarantined", "unmatched", "dead", "dropped", "done"]))
    def accept_ended(self, state: str) -> None:
        new = message(state=state, reason="as it is", accepted_at=self.clock.now())
        self.taken(self.do(self.store.accept(Acceptance(message=new))))

    @rule(parts=st.lists(st.sampled_from(["erp", "bad"]), min_size=1, max_size=4))
    def split(self, parts: list[str]) -> None:
        new = message(stage="split:1", accepted_at=self.clock.now())
        self.taken(self.do(self.store.accept(Acceptance(message=new))))
        row = next(item for item in self.do(self.store.open_messages(100)) if item.uid == new.uid)
        for index, kind in enumerate(parts, 1):
            more: dict[str, Any] = {"made": "part", "part": index, "parent": new.uid, "accepted_at": new.accepted_at}
            made = message("erp", **more) if kind == "erp" else message(state="quarantined", reason="bad", **more)
            last = index == len(parts)
            progress = Progress(
                message=row, made=[made], next_index=index, stage="" if last else "split:1",
                state="split" if last else "open",
            )  # fmt: skip
            self.hand.update({item.row: item for item in self.do(self.store.progress(progress))})

    @precondition(lambda self: self.hand)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        rows = data.draw(st.lists(st.sampled_from(sorted(self.hand)), min_size=1, max_size=10, unique=True))
        settlements = []
        for number in rows:
            row = self.hand.pop(number)
            if data.draw(st.integers(0, 3)) == 0:
                tried = attempt(row.attempts + 1)
                due = self.clock.now() + 30
                settlements.append(Settlement(delivery=row, state="due", due=due, attempt=tried))
            else:
                end = data.draw(st.sampled_from(ENDS))
                stuck = data.draw(st.sampled_from(STUCK))
                settlements.append(Settlement(delivery=row, state=end, when_stuck=stuck, reason="why"))  # type: ignore[arg-type]
                if end == "delivered":
                    self.delivered.append((row.target, row.order_key, row.row, row.round))

        async def all_of_them() -> list[Any]:
            return list(await asyncio.gather(*(self.store.settle(item) for item in settlements)))

        for settled in self.do(all_of_them()):
            self.hand.update({row.row: row for row in settled.promoted})

    @precondition(lambda self: self.hand)
    @rule()
    def deliver_all(self) -> None:
        rows = list(self.hand.values())
        self.hand.clear()
        self.delivered += [(row.target, row.order_key, row.row, row.round) for row in rows]

        async def all_of_them() -> list[Any]:
            settlements = [Settlement(delivery=row, state="delivered") for row in rows]
            return list(await asyncio.gather(*(self.store.settle(item) for item in settlements)))

        for settled in self.do(all_of_them()):
            self.hand.update({row.row: row for row in settled.promoted})

    @rule()
    def page_in(self) -> None:
        for target in TARGETS:
            rows, more = self.do(self.store.due(target, self.clock.now(), 5, self.hand))
            assert len(rows) <= 5
            assert more in (False, True)
            self.hand.update({row.row: row for row in rows})

    @rule(box=st.sampled_from(["dead", "parked", "quarantine"]), place=st.none() | st.sampled_from(TARGETS))
    def release(self, box: str, place: str | None) -> None:
        self.do(held_letters.release(self.store, box, Which(target=place), Act(what="release")))  # type: ignore[arg-type]
        for row in self.do(self.store.open_messages(1000)):
            if row.stage == "release":
                self.do(self.store.progress(Progress(message=row, deliveries=[delivery("wms")])))

    @rule(box=st.sampled_from(["dead", "parked", "quarantine"]), place=st.none() | st.sampled_from(TARGETS))
    def discard(self, box: str, place: str | None) -> None:
        self.do(held_letters.discard(self.store, box, Which(target=place), Act(what="discard", why="so")))  # type: ignore[arg-type]

    @precondition(lambda self: self.delivered)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.delivered))[2]
        rows = self.do(self.store.query(lambda db: db.execute("SELECT 1 FROM body b JOIN delivery d ON d.body = b.id"
                                                               " WHERE d.id = ?", (number,)).fetchall()))  # fmt: skip
        if rows:
            from esb.store.dead_letters import resend

            self.do(self.store.act(lambda work: resend(work, [number], Act(what="replay"))))

    @rule(days=st.sampled_from([0.0005, 0.5, 2.0, 5.0]))
    def time_goes_by(self, days: float) -> None:
        self.clock.advance(days * DAY)

    @rule(days=st.sampled_from([0.0, 2.0, 8.0]))
    def prune(self, days: float) -> None:
        self.clock.advance(days * DAY)
        for _ in range(2):
            self.do(self.store.upkeep({"orders": Retain}))  # type: ignore[dict-item]

    @rule()
    def close_and_open(self) -> None:
        self.close()
        self.hand.clear()
        self.open()
        assert self.store.clean_start

    @rule()
    def crash_and_open(self) -> None:
        """The files as a SIGKILL leaves them; what was in hand is forgotten."""
        after = self.place / str(next(self.count) + 1)
        shutil.copytree(self.folder, after)
        self.close()
        shutil.rmtree(self.folder)
        self.folder = after
        self.hand.clear()
        self.open()
        assert not self.store.clean_start

    @invariant()
    def the_books_balance(self) -> None:
        if self.context is not None:
            self.do(check_books(self.store))

    @invariant()
    def nothing_is_open_that_waits_for_nothing(self) -> None:
        if self.context is not None:
            wrong = "SELECT uid FROM message WHERE state = 'open' AND open = 0 OR state <> 'open' AND open <> 0"
            assert self.do(self.store.query(lambda db: db.execute(wrong).fetchall())) == []
            counted = """SELECT m.uid FROM message m WHERE m.open <> (m.stage <> '') + (SELECT count(*) FROM delivery d
            WHERE d.message = m.id AND d.state IN ('due', 'parked', 'forwarded'))"""
            assert self.do(self.store.query(lambda db: db.execute(counted).fetchall())) == []

    @invariant()
    def one_of_a_key_is_due_and_it_is_the_first_of_its_line(self) -> None:
        if self.context is not None:
            wrong = """SELECT d.id FROM delivery d WHERE d.line IS NOT NULL AND d.state = 'due' AND d.due IS NOT NULL
            AND EXISTS (SELECT 1 FROM delivery e WHERE e.target = d.target AND e.order_key = d.order_key
            AND e.line IS NOT NULL AND e.seq < d.seq)"""
            assert self.do(self.store.query(lambda db: db.execute(wrong).fetchall())) == []
            asleep = """SELECT d.id FROM delivery d WHERE d.state = 'due' AND d.due IS NULL AND NOT EXISTS
            (SELECT 1 FROM delivery e WHERE e.target = d.target AND e.order_key = d.order_key AND e.line IS NOT NULL
            AND e.seq < d.seq)"""
            assert self.do(self.store.query(lambda db: db.execute(asleep).fetchall())) == []

    @invariant()
    def what_was_acknowledged_is_there_or_was_pruned_after_its_end(self) -> None:
        if self.context is not None:
            known = {
                uid for (uid,) in self.do(self.store.query(lambda db: db.execute("SELECT uid FROM message").fetchall()))
            }
            gone = len(self.acknowledged.keys() - known)
            pruned = self.do(self.store.query(lambda db: db.execute(
                "SELECT coalesce(sum(n), 0) FROM account WHERE book = 'messages' AND entry LIKE 'pruned %'"
            ).fetchone()))[0]  # fmt: skip
            assert gone <= pruned

    def teardown(self) -> None:
        if self.context is not None:
            self.close()
        self.loop.close()
        shutil.rmtree(self.place, ignore_errors=True)


Outbox.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestOutbox = Outbox.TestCase
