"""Letting go: bodies before journeys, the books keep their counts, the file does not grow without bound (R10)."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_makings import NOW, accept, attempt, check_books, delivery, opened, rows_of, settle

from esb.clock import VirtualClock
from esb.store import Store, retention, upkeep
from esb.store.records import OpenMessage, Progress
from esb.store.retention import Keep

DAY = 86400.0


class Retain:
    """A route's policy, as the table gives it."""

    def __init__(
        self, body: float = 7 * DAY, journey: float = 90 * DAY, dead: float | None = None, space: int | None = None
    ) -> None:
        self.body = body
        self.journey = journey
        self.dead = dead
        self.space = space


def counts(folder: Path) -> tuple[int, int, int]:
    ((found,),) = [rows_of(folder, "SELECT (SELECT count(*) FROM body), (SELECT count(*) FROM message), "
                                   "(SELECT count(*) FROM delivery)")]  # fmt: skip
    return found  # type: ignore[return-value]


async def done(store: Store, **more: object) -> str:
    stored = await accept(store, delivery("erp", body=b"{}"), **more)  # type: ignore[arg-type]
    await settle(store, stored.deliveries[0])
    return stored.uid


async def test_the_body_goes_before_the_journey_and_the_books_keep_their_sums(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        uid = await done(store, keys={"order": "4711"})
        clock.advance(6 * DAY)
        assert (await store.upkeep({"orders": Retain()})).bodies == 0
        clock.advance(2 * DAY)
        assert (await store.upkeep({"orders": Retain()})).bodies == 1
        assert counts(tmp_path) == (0, 1, 1)
        journey = await store.journey(uid)
        assert journey is not None
        assert (journey.body, journey.message.state) == (None, "done")
        assert [row.uid for row in await store.messages(key="4711")] == [uid]
        await check_books(store)
        clock.advance(84 * DAY)
        assert (await store.upkeep({"orders": Retain()})).journeys == 1
        assert counts(tmp_path) == (0, 0, 0)
        assert await store.messages(key="4711") == []
        account = await store.account()
        assert account.balanced
        assert {item.name: item.entries for item in account.sums} == {
            "orders": {"accepted": 1, "done": 1}, "erp": {"planned": 1, "delivered": 1},
        }  # fmt: skip


async def test_time_counts_from_the_last_outcome(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        stored = await accept(store, "erp", "wms")
        await settle(store, stored.deliveries[0])
        clock.advance(30 * DAY)
        assert (await store.upkeep({"orders": Retain()})).bodies == 0
        await settle(store, stored.deliveries[1])
        clock.advance(6 * DAY)
        assert (await store.upkeep({"orders": Retain()})).bodies == 0
        clock.advance(2 * DAY)
        assert (await store.upkeep({"orders": Retain()})).bodies == 1


async def test_what_waits_for_a_person_never_goes_by_age_unless_the_route_says_so(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        stored = await accept(store, "erp")
        await settle(store, stored.deliveries[0], "dead", reason="no", attempt=attempt())
        await accept(store, state="quarantined", reason="bad")
        await accept(store, state="unmatched", reason="no case")
        await accept(store, delivery("erp", state="parked", reason="look"))
        clock.advance(400 * DAY)
        await store.upkeep({"orders": Retain()})
        assert counts(tmp_path) == (4, 4, 2)
        assert (await store.upkeep({"orders": Retain(dead=300 * DAY)})).journeys == 3
        assert counts(tmp_path) == (1, 1, 1)
        assert rows_of(tmp_path, "SELECT count(*) FROM attempt") == [(0,)]
        await check_books(store)


async def test_a_dead_head_that_is_let_go_no_longer_blocks_its_key(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        head = await accept(store, delivery("erp", order_key="k"))
        await settle(store, head.deliveries[0], "dead", reason="no")
        follower = await accept(store, delivery("erp", order_key="k"))
        clock.advance(10 * DAY)
        await store.upkeep({"orders": Retain(dead=DAY)})
        rows, _ = await store.due("erp", clock.now(), 10)
        assert [row.uid for row in rows] == [follower.uid]
        await check_books(store)


async def test_a_parent_goes_after_its_last_part(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        parent = await accept(store, stage="split:1")
        (staged,) = await store.open_messages(1)
        rows = await store.progress(_split(staged, "erp"))
        clock.advance(8 * DAY)
        assert (await store.upkeep({"orders": Retain()})).bodies == 0
        await settle(store, rows[0])
        clock.advance(8 * DAY)
        gone = await store.upkeep({"orders": Retain()})
        assert gone.bodies >= 1
        clock.advance(2 * 3600)
        gone = await store.upkeep({"orders": Retain()})
        assert counts(tmp_path)[0] == 0
        for _ in range(3):
            clock.advance(91 * DAY)
            await store.upkeep({"orders": Retain()})
        assert counts(tmp_path) == (0, 0, 0)
        assert await store.message_state(parent.uid) is None
        await check_books(store)


def _split(staged: OpenMessage, target: str) -> Progress:
    from store_makings import message

    part = message(target, made="part", part=1, last=True, parent=staged.uid)
    return Progress(message=staged, made=[part], next_index=1, state="split")


async def test_a_route_that_is_no_longer_in_the_table_is_pruned_by_the_usual_times(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        await done(store, route="gone")
        clock.advance(8 * DAY)
        assert (await store.upkeep({})).bodies == 1


async def test_the_ledger_remembers_how_a_pruned_message_ended(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        uid = await done(store, key="k", once_for=365 * DAY)
        clock.advance(100 * DAY)
        for _ in range(2):
            await store.upkeep({"orders": Retain()})
        assert await store.message_state(uid) is None
        again = await accept(store, "erp", key="k")
        assert (again.duplicate, again.uid, again.state) == (True, uid, "done")
        clock.advance(300 * DAY)
        await store.upkeep({})
        assert rows_of(tmp_path, "SELECT count(*) FROM ledger") == [(0,)]


async def test_the_oldest_closed_bodies_go_first_when_space_runs_out(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        for number in range(20):
            stored = await accept(store, body=await store.keep(bytes([number]) * 100_000), route=f"r{number % 2}")
            clock.advance(1)
            assert stored.state == "done"
        open_one = await accept(store, "erp", body=await store.keep(b"x" * 100_000), route="r0")
        before = await store.query(retention.used)
        await store.upkeep({"r0": Retain(space=before), "r1": Retain()})
        assert counts(tmp_path)[0] == 21
        await store.upkeep({"r0": Retain(space=before // 2), "r1": Retain()})
        assert counts(tmp_path)[0] < 21
        assert len(list((tmp_path / "bodies").iterdir())) == counts(tmp_path)[0]
        assert await store.body(open_one.deliveries[0].body_id) == b"x" * 100_000
        await check_books(store)


async def test_pruning_goes_in_chunks_until_it_has_caught_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "CHUNK", 7)
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        for _ in range(30):
            await done(store)
        clock.advance(100 * DAY)
        gone = await store.upkeep({"orders": Retain()})
        assert (gone.bodies, gone.journeys) == (30, 30)
        await check_books(store)


async def test_the_file_does_not_grow_when_as_much_goes_as_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = VirtualClock(NOW)
    sizes = []
    async with opened(tmp_path, clock) as store:
        for _ in range(12):
            for _ in range(40):
                await accept(store, data=b"x" * 5000)
            clock.advance(100 * DAY)
            await store.upkeep({"orders": Retain()})
            await store.act(lambda work: None)
            (pages,) = rows_of(tmp_path, "PRAGMA page_count")[0]
            sizes.append(pages)
    assert sizes[-1] <= sizes[2] * 1.2


async def test_free_pages_are_given_back_to_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "FREE_PAGES", 10)
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        for _ in range(200):
            await accept(store, data=b"x" * 6000)
        (before,) = rows_of(tmp_path, "PRAGMA page_count")[0]
        clock.advance(100 * DAY)
        for _ in range(30):
            await store.upkeep({"orders": Retain()})
        (after,) = rows_of(tmp_path, "PRAGMA page_count")[0]
        assert after < before // 2
        await check_books(store)


async def test_a_wal_that_has_grown_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "WAL_BYTES", 1000)
    async with opened(tmp_path) as store:
        await accept(store, "erp")
        assert (tmp_path / "esb.db-wal").stat().st_size > 0
        await store.upkeep({})
        assert (tmp_path / "esb.db-wal").stat().st_size < 100_000
        assert (tmp_path / "esb.db-wal").exists()


async def test_old_entries_of_the_books_are_kept_by_the_day(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        for hour in range(30):
            await done(store, accepted_at=NOW + 3600 * hour)
        (before,) = rows_of(tmp_path, "SELECT count(*) FROM account")[0]
        clock.advance(120 * DAY)
        await store.upkeep({"orders": Retain(journey=1000 * DAY)})
        (after,) = rows_of(tmp_path, "SELECT count(*) FROM account")[0]
        assert after < before / 5
        await check_books(store)
        assert (await store.account(since=NOW)).balanced


async def test_the_books_of_a_time_balance_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for day in range(4):
            await done(store, accepted_at=NOW + DAY * day)
        account = await store.account(since=NOW + 2 * DAY)
        assert account.balanced
        assert [item.came for item in account.sums] == [2, 2]


def test_the_usual_policy_is_a_week_and_ninety_days() -> None:
    assert Keep() == Keep(7 * DAY, 90 * DAY, None)
