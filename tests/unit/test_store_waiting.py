"""What still waits is taken by nothing: not by retention, an edit, a failed batch or a second planning."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import held_letters
import pytest
from msgspec import Struct
from store_makings import (
    NOW,
    accept,
    attempt,
    check_books,
    delivery,
    message,
    opened,
    rows_of,
    settle,
    settle_all,
    state_of,
)

from esb.clock import VirtualClock
from esb.errors import StoreError
from esb.relay import Window
from esb.store import Act, Which, retention
from esb.store.records import Progress, Stored, StoredDelivery

ACT = Act(what="x", why="y")
DAY = 86400.0


class Keep(Struct):
    body: float = 7 * DAY
    journey: float = 90 * DAY
    dead: float | None = None
    space: int | None = 10**12


async def test_retention_leaves_a_delivery_beside_what_was_set_aside_r10(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        stored = await accept(store, "audit", state="unmatched", reason="no case is true")
        clock.advance(2 * DAY)
        await store.upkeep({"orders": Keep(dead=DAY)})
        await check_books(store)
        ((row,), _) = await store.due("audit", clock.now(), 10)
        await settle(store, row)
        clock.advance(DAY - 60)
        await store.upkeep({"orders": Keep(dead=DAY)})
        assert await state_of(store, stored.uid) == "unmatched", "kept from its last outcome on"
        clock.advance(120)
        await store.upkeep({"orders": Keep(dead=DAY)})
        assert rows_of(tmp_path, "SELECT count(*) FROM message") == [(0,)]
        await check_books(store)


async def test_what_a_person_lets_go_keeps_the_body_of_what_waits_r10(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        await accept(store, "audit", state="unmatched", reason="no case is true")
        await held_letters.discard(store, "parked", Which(), Act(what="discard", why="known"))
        clock.advance(8 * DAY)
        await store.upkeep({"orders": Keep()})
        ((row,), _) = await store.due("audit", clock.now(), 10)
        assert row.content == b"<order/>"
        await check_books(store)


async def test_parents_of_a_held_part_do_not_stop_the_pruning_of_others_r10(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "CHUNK", 5)
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        for _ in range(5):
            parent = await accept(store, stage="split:1")
            (staged,) = await store.open_messages(10)
            part = message(made="part", parent=parent.uid, part=1, last=True, state="quarantined", reason="bad row")
            await store.progress(Progress(message=staged, made=[part], next_index=1, state="split"))
        clock.advance(1)
        for _ in range(20):
            await settle_all(store, (await accept(store, "a")).deliveries)
        clock.advance(30 * DAY)
        for _ in range(2):
            await store.upkeep({"orders": Keep()})
            clock.advance(7200)
        assert rows_of(tmp_path, "SELECT count(*) FROM message WHERE state = 'done' AND body IS NOT NULL") == [(0,)]


async def test_a_second_edit_leaves_the_body_that_was_planned_with_the_first(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, state="quarantined", reason="not json", data=b"{bad")
        await held_letters.edit(store, stored.uid, b'{"a":1}', ACT)
        await held_letters.release(store, "quarantine", Which(ids=(stored.uid,)), ACT)
        (staged,) = await store.open_messages(10)
        await store.progress(
            Progress(message=staged, deliveries=[delivery("audit")], state="unmatched", reason="no case is true")
        )
        await held_letters.edit(store, stored.uid, b'{"a":2}', ACT)
        ((row,), _) = await store.due("audit", NOW, 10)
        assert row.content == b'{"a":1}'


async def test_an_edit_of_one_round_leaves_the_body_of_another_r13(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, "a")
        first = stored.deliveries[0]
        await settle(store, first, "dead", reason="bad", attempt=attempt())
        await held_letters.edit(store, first.id, b"mended", ACT)
        await held_letters.release(store, "dead", Which(), ACT)
        ((row,), _) = await store.due("a", NOW, 10)
        await settle(store, row)
        await held_letters.resend(store, stored.uid, ACT)
        ((again,), _) = await store.due("a", NOW, 10)
        await settle(store, again, "dead", reason="bad", attempt=attempt())
        await held_letters.edit(store, again.id, b"mended 2", ACT)
        assert (await held_letters.resend(store, first.id, ACT)).count == 1


async def test_an_outcome_does_not_close_a_message_that_waits_to_be_planned_again_r19(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, "a", "b", state="unmatched", reason="no case is true")
        await held_letters.release(store, "parked", Which(ids=(stored.uid,)), ACT)
        (staged,) = await store.open_messages(10)
        await settle(store, stored.deliveries[0])
        assert await state_of(store, stored.uid) == "open"
        await store.progress(Progress(message=staged, deliveries=[delivery("a"), delivery("b"), delivery("c")]))
        await check_books(store)
        for target in ("b", "c"):
            ((row,), _) = await store.due(target, NOW, 10)
            await settle(store, row)
        assert await state_of(store, stored.uid) == "done"
        await check_books(store)


async def test_a_row_that_is_committed_late_does_not_stand_before_an_earlier_one_r14(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        parent = await accept(store, stage="split:1")
        (staged,) = await store.open_messages(10)
        part = message(delivery("a", order_key="K"), made="part", parent=parent.uid, part=1)
        other = asyncio.ensure_future(accept(store, "z"))
        for _ in range(3):
            await asyncio.sleep(0)
        job = asyncio.ensure_future(store.progress(Progress(message=staged, made=[part], next_index=1, state="split")))
        late = asyncio.ensure_future(accept(store, delivery("a", order_key="K")))
        await asyncio.gather(other, job, late)
        ((head,), _) = await store.due("a", NOW, 10)
        await settle(store, head, "dead", reason="x", attempt=attempt())
        await held_letters.release(store, "dead", Which(), ACT)
        ((again,), _) = await store.due("a", NOW, 10)
        assert again.row == head.row


async def test_who_was_in_a_batch_with_a_guilty_one_is_looked_at_anew_r4(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        guilty = accept(store, delivery("t", order_key="K"), key="k", payload=b"1", reason="\ud800")
        good = accept(store, delivery("t", order_key="K"), key="k", payload=b"2")
        refused, stored = await asyncio.gather(guilty, good, return_exceptions=True)
        assert isinstance(refused, Exception)
        assert isinstance(stored, Stored), "no conflict with what was never stored"
        rows, _ = await store.due("t", NOW, 10)
        assert [row.row for row in rows] == [row.row for row in stored.deliveries], "nor does it wait behind it"
        assert len(rows) == 1


async def test_a_body_that_cannot_be_removed_stops_nothing_r7(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        body = await store.keep(b"x" * 100_000)
        await settle_all(store, (await accept(store, "a", body=body)).deliveries)
        real = Path.unlink

        def refusing(path: Path, missing_ok: bool = False) -> None:
            if path.parent.name == "bodies":
                raise PermissionError(1, "Operation not permitted")
            real(path, missing_ok=missing_ok)

        monkeypatch.setattr(Path, "unlink", refusing)
        clock.advance(8 * DAY)
        await asyncio.wait_for(store.upkeep({"orders": Keep()}), 10)
        await asyncio.wait_for(accept(store, "a"), 10)


async def test_a_store_that_could_not_be_opened_again_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esb.store.writer.REOPEN", 0.01)
    async with opened(tmp_path) as store:
        writer = store._writer
        transaction, opening = writer._in_transaction, writer._connection.open

        def failing(*arguments: Any) -> Any:
            writer._in_transaction = transaction  # type: ignore[method-assign]
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error

        async def once() -> None:
            writer._connection.open = opening  # type: ignore[method-assign]
            raise StoreError("too many open files")

        writer._in_transaction = failing  # type: ignore[method-assign]
        writer._connection.open = once  # type: ignore[method-assign]
        with pytest.raises(StoreError):
            await accept(store, "a")
        assert store.refusing is not None
        await asyncio.sleep(0.02)
        await accept(store, "a")
        assert store.refusing is None
        await check_books(store)


class Rows:
    """As much of a store as a window asks."""

    def __init__(self) -> None:
        self.rows: list[StoredDelivery] = []

    async def due(self, target: str, now: float, limit: int, in_hand: Any = (), size: int | None = None) -> Any:
        return [row for row in self.rows if row.due <= now and row.row not in in_hand][:limit], False

    async def next_due(self, target: str, after: float) -> float | None:
        return min((row.due for row in self.rows if row.due > after), default=None)


def row_of(number: int, due: float) -> StoredDelivery:
    return StoredDelivery(
        row=number, message=number, uid=str(number), route="r", target="t", nr=1, round=0, made="source",
        accepted_at=0, due=due, order_key=None, attempts=0, crashes=0, maybe_sent=False, expires=None, headers={},
        values={}, media="", size=10, content=b"x" * 10,
    )  # fmt: skip


async def test_a_retry_has_its_turn_in_a_lane_that_is_never_idle() -> None:
    clock, store = VirtualClock(1000.0), Rows()
    window = Window("t", store, clock)  # type: ignore[arg-type]
    running = asyncio.ensure_future(window.run())

    async def turn() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    await turn()
    window.offer([row_of(number, 1000.0) for number in range(1, 901)])
    failed = await window.take()
    store.rows.append(row_of(failed.row, 1002.0))
    window.release(failed)
    window.nudge()
    await turn()
    taken: list[int] = []
    for number in range(300):
        clock.advance(1.0)
        while len(window._ready) > 100:
            row = await window.take()
            taken.append(row.row)
            store.rows = [item for item in store.rows if item.row != row.row]
            window.release(row)
        fresh = row_of(10_000 + number, clock.now())
        store.rows.append(fresh)
        window.offer([fresh])
        await turn()
    running.cancel()
    assert failed.row in taken
