"""Settling: outcomes, what they do to the message, to the books, and to the line of an order key."""

from __future__ import annotations

import asyncio
from pathlib import Path

import held_letters
import pytest
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
from esb.store import Act, Which
from esb.store.outbox import FIRST_ATTEMPTS, LAST_ATTEMPTS
from esb.store.records import Settlement


async def test_the_last_delivery_closes_the_message(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, "a", "b", "c")
        states = [(await settle(store, row)).state for row in stored.deliveries]
        assert states == ["open", "open", "done"]
        await check_books(store)


async def test_outcomes_of_one_batch_close_their_messages_together(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        several = [await accept(store, *("a", "b", "c")[: 1 + number % 3]) for number in range(30)]
        settled = await settle_all(store, [row for stored in several for row in stored.deliveries])
        assert {item.state for item in settled} == {"done"}
        assert await store.backlog() == {}
        await check_books(store)


@pytest.mark.parametrize(
    ("ends", "state"),
    [
        (("delivered", "delivered"), "done"),
        (("delivered", "dropped"), "done"),
        (("dropped", "superseded"), "dropped"),
        (("superseded", "superseded"), "superseded"),
        (("delivered", "expired"), "expired"),
        (("expired", "dead", "delivered"), "dead"),
    ],
)
async def test_the_gravest_end_of_its_deliveries_names_the_end_of_a_message(
    tmp_path: Path, ends: tuple[str, ...], state: str
) -> None:
    async with opened(tmp_path) as store:
        for order in (ends, tuple(reversed(ends))):
            stored = await accept(store, *(f"t{number}" for number in range(len(ends))))
            for row, end in zip(stored.deliveries, order, strict=True):
                settled = await settle(store, row, end)
            assert settled.state == state
            assert await state_of(store, stored.uid) == state
        await check_books(store)


async def test_a_failed_attempt_keeps_its_class_code_place_and_time_and_a_good_one_needs_no_row(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        (row,) = (await accept(store, "erp")).deliveries
        failed = attempt(1, "transient", "D410", place="target.erp", params={"text": "refused"}, ms=12.5)
        await settle(store, row, "due", due=NOW + 5, attempt=failed, reason="D410", maybe_sent=True)
        assert await store.due("erp", NOW, 10) == ([], False)
        assert await store.next_due("erp", NOW) == NOW + 5
        ((again,), _) = await store.due("erp", NOW + 5, 10)
        assert (again.attempts, again.maybe_sent) == (1, True)
        assert (await settle(store, again)).state == "done"
        found = await store.journey(row.uid)
        assert found is not None
        (tries,) = [item.attempt_rows for item in found.deliveries]
        assert [(item.n, item.kind, item.code, item.place, item.ms) for item in tries] == [
            (1, "transient", "D410", "target.erp", 12.5)
        ]
        assert tries[0].params == {"text": "refused"}
        assert found.deliveries[0].attempts == 2
        await check_books(store)


async def test_of_very_many_attempts_the_first_and_the_last_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    total = FIRST_ATTEMPTS + LAST_ATTEMPTS + 20
    async with opened(tmp_path) as store:
        (row,) = (await accept(store, "erp")).deliveries
        for n in range(1, total + 1):
            row.attempts = n - 1
            await settle(store, row, "due", due=NOW, attempt=attempt(n))
        kept = [n for (n,) in rows_of(tmp_path, "SELECT n FROM attempt ORDER BY n")]
        assert kept == [*range(1, FIRST_ATTEMPTS + 1), *range(total - LAST_ATTEMPTS + 1, total + 1)]
        ((found,), _) = await store.due("erp", NOW, 1)
        assert found.attempts == total


@pytest.mark.parametrize("state", ["delivered", "dead", "expired", "dropped"])
async def test_settling_twice_changes_nothing(tmp_path: Path, state: str) -> None:
    async with opened(tmp_path) as store:
        (row, *_) = (await accept(store, "erp", "wms")).deliveries
        for _ in range(2):
            assert (await settle(store, row, state)).state == "open"
            await settle(store, row, "delivered")
            await settle(store, row, "due", due=NOW, attempt=attempt())
        assert rows_of(tmp_path, "SELECT state FROM delivery WHERE target = 'erp'") == [(state,)]
        await check_books(store)


async def test_a_retry_told_twice_counts_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        (row,) = (await accept(store, "erp")).deliveries
        item = Settlement(delivery=row, state="due", due=NOW + 1, attempt=attempt())
        await asyncio.gather(store.settle(item), store.settle(item))
        assert rows_of(tmp_path, "SELECT attempts FROM delivery") == [(1,)]


async def test_a_row_that_ended_otherwise_does_not_spoil_the_others_of_its_batch(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        several = [(await accept(store, "erp")).deliveries[0] for _ in range(5)]
        await settle(store, several[2], "dead", reason="gone")
        settled = await settle_all(store, several)
        assert [item.state for item in settled] == ["done", "done", "dead", "done", "done"]
        await check_books(store)


async def test_a_parked_delivery_waits_in_the_books_and_keeps_its_message_open(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, "erp", delivery("wms", state="parked", reason="a person must look"))
        assert [row.target for row in stored.deliveries] == ["erp"]
        assert (await settle(store, stored.deliveries[0], "parked", reason="plugin fault")).state == "open"
        assert {name: item[0] for name, item in (await store.backlog()).items()} == {"erp": 1, "wms": 1}
        await check_books(store)


async def test_what_was_delivered_while_it_was_being_parked_is_delivered(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        (row,) = (await accept(store, "erp")).deliveries
        await settle(store, row, "parked", counts=False, reason="by a person")
        assert (await settle(store, row, "delivered")).state == "done"
        await check_books(store)


async def test_a_note_of_the_target_is_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        (row,) = (await accept(store, "erp")).deliveries
        await settle(store, row, note="order 99")
        found = await store.journey(row.uid)
        assert found is not None
        assert (found.deliveries[0].note, found.deliveries[0].state) == ("order 99", "delivered")


async def test_a_forwarded_delivery_waits_until_its_outcome(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        (row,) = (await accept(store, "erp")).deliveries
        assert (await settle(store, row, "forwarded", counts=False)).state == "open"
        assert await store.due("erp", NOW + 1e6, 10) == ([], False)
        await check_books(store)
        assert (await settle(store, row, "delivered")).state == "done"
        await check_books(store)


def ordered(key: str = "k", **more: object) -> object:
    return delivery("erp", order_key=key, **more)


async def test_only_the_head_of_a_key_is_due_and_the_next_follows_in_the_same_commit_r14(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first, second, other = [await accept(store, ordered(key)) for key in ("k", "k", "x")]
        assert len(first.deliveries) == len(other.deliveries) == 1
        assert second.deliveries == []
        rows, _ = await store.due("erp", NOW + 1e6, 10)
        assert [row.uid for row in rows] == [first.uid, other.uid]
        settled = await settle(store, first.deliveries[0])
        assert [row.uid for row in settled.promoted] == [second.uid]
        assert settled.promoted[0].content == b"<order/>"
        assert not (await settle(store, settled.promoted[0])).promoted
        await check_books(store)


async def test_the_order_is_that_of_acceptance_within_one_batch_too_r14(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        several = await asyncio.gather(*(accept(store, ordered()) for _ in range(20)))
        taken = [several[0].deliveries[0]]
        while promoted := (await settle(store, taken[-1])).promoted:
            taken += promoted
        assert [row.uid for row in taken] == [item.uid for item in several]
        await check_books(store)


async def test_a_retry_keeps_its_place_r14(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first = await accept(store, ordered())
        await accept(store, ordered())
        settled = await settle(store, first.deliveries[0], "due", due=NOW + 60, attempt=attempt())
        assert not settled.promoted
        assert await store.due("erp", NOW, 10) == ([], False)


@pytest.mark.parametrize("end", ["dead", "parked"])
async def test_block_a_stuck_head_holds_its_key_until_a_person_acts_r14(tmp_path: Path, end: str) -> None:
    box = "dead" if end == "dead" else "parked"
    async with opened(tmp_path) as store:
        first = await accept(store, ordered())
        second = await accept(store, ordered())
        assert not (await settle(store, first.deliveries[0], end, reason="no")).promoted
        third = await accept(store, ordered())
        assert second.deliveries == third.deliveries == []
        acted = await held_letters.discard(store, box, Which(), Act(what="discard", why="sent by hand"))
        assert (acted.count, acted.targets) == (1, {"erp"})
        rows, _ = await store.due("erp", NOW, 10)
        assert [row.uid for row in rows] == [second.uid]
        await check_books(store)


async def test_block_a_released_head_comes_before_those_that_waited_for_it_r14(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first = await accept(store, ordered())
        await accept(store, ordered())
        await settle(store, first.deliveries[0], "dead", reason="no", attempt=attempt())
        await held_letters.release(store, "dead", Which(), Act(what="release"))
        rows, _ = await store.due("erp", NOW, 10)
        assert [row.uid for row in rows] == [first.uid]
        assert (rows[0].attempts, rows[0].round) == (0, 0)
        await check_books(store)


async def test_skip_a_stuck_head_lets_the_next_go_and_goes_last_when_released_r14(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first, second, third = [await accept(store, ordered()) for _ in range(3)]
        settled = await settle(store, first.deliveries[0], "dead", reason="no", when_stuck="skip")
        assert [row.uid for row in settled.promoted] == [second.uid]
        await held_letters.release(store, "dead", Which(), Act(what="release"))
        settled = await settle(store, settled.promoted[0])
        assert [row.uid for row in settled.promoted] == [third.uid]
        settled = await settle(store, settled.promoted[0])
        assert [row.uid for row in settled.promoted] == [first.uid]
        await check_books(store)


async def test_park_key_parks_all_of_the_key_and_what_comes_later_r14(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first, second = await accept(store, ordered()), await accept(store, ordered())
        await settle(store, first.deliveries[0], "dead", reason="no", when_stuck="park-key")
        third = await accept(store, ordered())
        other = await accept(store, ordered("x"))
        assert (third.deliveries, len(other.deliveries)) == ([], 1)
        states = rows_of(tmp_path, "SELECT state FROM delivery WHERE order_key = 'k' ORDER BY id")
        assert states == [("dead",), ("parked",), ("parked",)]
        await check_books(store)
        await held_letters.discard(store, "dead", Which(), Act(what="discard", why="by hand"))
        await held_letters.release(store, "parked", Which(), Act(what="release"))
        rows, _ = await store.due("erp", NOW, 10)
        assert [row.uid for row in rows] == [second.uid, other.uid]
        settled = await settle(store, rows[0])
        assert [row.uid for row in settled.promoted] == [third.uid]
        await check_books(store)


async def test_an_expired_head_lets_the_next_step_up_r14(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first, second = await accept(store, ordered()), await accept(store, ordered())
        settled = await settle(store, first.deliveries[0], "expired", counts=False)
        assert [row.uid for row in settled.promoted] == [second.uid]
        assert settled.state == "expired"


async def test_rows_come_in_due_order_and_those_in_hand_are_left_out(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        rows = [(await accept(store, delivery("erp", due=NOW - number))).deliveries[0] for number in range(10)]
        page, more = await store.due("erp", NOW, 4)
        assert more
        assert [row.row for row in page] == [row.row for row in reversed(rows)][:4]
        page, more = await store.due("erp", NOW, 20, {row.row: 0 for row in page})
        assert not more
        assert [row.row for row in page] == [row.row for row in reversed(rows)][4:]


async def test_the_backlog_says_rows_bytes_and_the_oldest_also_of_what_is_tried_again(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        (old,) = (await accept(store, delivery("erp", body=b"12345"))).deliveries
        await accept(store, delivery("erp", body=b"123", due=NOW + 60), accepted_at=NOW + 60)
        await settle(store, old, "due", due=NOW + 9999, attempt=attempt())
        assert await store.backlog() == {"erp": (2, 8, NOW)}


async def test_retry_clocks_are_cleared_when_a_person_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for _ in range(3):
            (row,) = (await accept(store, "erp")).deliveries
            await settle(store, row, "due", due=NOW + 3600, attempt=attempt())
        await accept(store, delivery("wms", due=NOW + 3600))
        assert await store.now("erp") == 3
        assert len((await store.due("erp", NOW, 10))[0]) == 3
        assert await store.due("wms", NOW, 10) == ([], False)


async def test_rows_of_a_target_that_is_gone_are_parked_as_no_target_r11(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for key in ("k", "k"):
            await accept(store, delivery("old", order_key=key))
        await accept(store, "old", "erp")
    async with opened(tmp_path) as store:
        assert await store.park_unknown(["erp"]) == 3
        (group,) = await held_letters.groups(store, "parked")
        assert (group.target, group.count) == ("old", 3)
        assert group.reason.startswith("no-target")
        assert (await store.backlog())["old"][0] == 3
        await check_books(store)


async def test_a_message_with_planning_left_is_not_closed_by_its_deliveries(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, "erp", stage="split:1")
        assert (await settle(store, stored.deliveries[0])).state == "open"
        assert await state_of(store, stored.uid) == "open"
        await check_books(store)


async def test_a_batch_of_everything_keeps_the_books(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        several = await asyncio.gather(*(accept(store, "a", "b") for _ in range(8)))
        ends = ["delivered", "dead", "expired", "dropped", "parked", "delivered", "delivered", "superseded"]
        futures = [
            store.settle(Settlement(delivery=row, state=end))  # type: ignore[arg-type]
            for stored, end in zip(several, ends, strict=True)
            for row in stored.deliveries
        ]
        await asyncio.gather(*futures, accept(store, "a"), accept(store, message("a").deliveries[0]))
        await check_books(store)
