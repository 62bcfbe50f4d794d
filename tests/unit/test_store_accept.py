"""Accepting: one commit a batch, the ledger, claims, and who is refused."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest
from store_makings import NOW, accept, check_books, delivery, message, opened, rows_of, settle, state_of

from esb.clock import VirtualClock
from esb.errors import Conflict, MessageError, StoreError
from esb.store.records import Acceptance, Stored


async def test_what_is_accepted_is_on_disk_with_its_deliveries(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, delivery("erp", body=b"{}", values={"url": "/a"}), delivery("wms"), data=b"<o/>")
        assert [row.target for row in stored.deliveries] == ["erp", "wms"]
        assert [row.content for row in stored.deliveries] == [b"{}", b"<o/>"]
        rows, more = await store.due("erp", NOW, 10)
        assert not more
        assert rows == [stored.deliveries[0]]
        assert rows[0].values == {"url": "/a"}
        assert rows[0].media == "application/json"
        assert rows[0].id == f"{stored.uid}.erp"
        await check_books(store)


async def test_a_delivery_read_back_is_the_one_that_was_handed_out(tmp_path: Path) -> None:
    headers = {"x-a": "1"}
    async with opened(tmp_path) as store:
        stored = await accept(
            store,
            delivery("a", body=b"1", headers={"x-b": "2"}, expires=NOW + 9, media="text/plain"),
            delivery("b", values={"v": "w"}),
            delivery("b", nr=2, order_key="k"),
            headers=headers,
            about={"name": "f"},
        )
        for row in stored.deliveries:
            found, _ = await store.due(row.target, NOW, 10)
            assert row in found


async def test_many_wait_for_one_commit_and_each_has_its_own_outcome(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        items = [Acceptance(message=message("erp")) for _ in range(300)]
        outcomes = await asyncio.gather(*(store.accept(item) for item in items))
        assert [item.uid for item in outcomes] == [item.message.uid for item in items]
        await check_books(store)


async def test_a_known_key_answers_with_the_first_message_r3(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first = await accept(store, "erp", key="4711", payload=b"p" * 32)
        again = await accept(store, "erp", key="4711", payload=b"p" * 32)
        assert (again.duplicate, again.uid, again.deliveries) == (True, first.uid, ())
        await settle(store, first.deliveries[0], answer=b"answer")
        again = await accept(store, "erp", key="4711", payload=b"p" * 32)
        assert (again.state, again.answer) == ("done", b"answer")
        await check_books(store)


async def test_the_same_key_with_another_payload_is_a_conflict_r3(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await accept(store, "erp", key="4711", payload=b"p" * 32)
        with pytest.raises(Conflict):
            await accept(store, "erp", key="4711", payload=b"q" * 32)
        await check_books(store)


async def test_the_ledger_sees_the_batch_itself_r3(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        tasks = [accept(store, "erp", key="k", payload=payload * 32) for payload in (b"p", b"p", b"q")]
        first, second, third = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(first, Stored)
        assert isinstance(second, Stored)
        assert not first.duplicate
        assert second.duplicate
        assert second.uid == first.uid
        assert isinstance(third, Conflict)


@pytest.mark.parametrize("other", [{"route": "invoices"}, {"caller": "b"}])
async def test_a_key_belongs_to_its_route_and_caller_r3(tmp_path: Path, other: dict[str, str]) -> None:
    async with opened(tmp_path) as store:
        await accept(store, "erp", key="k", caller="a")
        assert not (await accept(store, "erp", key="k", **{"caller": "a", **other})).duplicate


async def test_a_refused_message_leaves_no_entry_in_the_ledger_r3(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(MessageError):
            await accept(store, "erp", key="k", headers={"x": "\ud800"})
        assert not (await accept(store, "erp", key="k")).duplicate


async def test_a_key_is_free_again_after_its_time_and_its_message_gets_a_uid_of_its_own(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        first = await accept(store, "erp", key="k", once_for=60.0, uid="018f0000-0000-8000-8000-000000000001")
        clock.advance(61)
        again = await accept(store, "erp", key="k", once_for=60.0, uid=first.uid, accepted_at=NOW + 61)
        assert not again.duplicate
        assert again.uid != first.uid
        assert [row.uid for row in again.deliveries] == [again.uid]
        assert (await accept(store, "erp", key="k", uid=first.uid)).uid == again.uid
        await check_books(store)


async def test_a_claim_read_again_is_finished_and_not_accepted_again_r2(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first = await accept(store, "erp", claim="f1", source="route.files")
        again = await accept(store, "erp", claim="f1", source="route.files", payload=b"other")
        assert (again.duplicate, again.uid) == (True, first.uid)
        other = await accept(store, "erp", claim="f1", source="route.mails")
        assert not other.duplicate


async def test_a_claim_that_meets_a_known_key_is_remembered_too_r2(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first = await accept(store, "erp", key="k", claim="f1", source="s")
        again = await accept(store, "erp", key="k", claim="f2", source="s")
        assert (again.duplicate, again.uid) == (True, first.uid)
        late = await accept(store, "erp", key="other", claim="f2", source="s")
        assert (late.duplicate, late.uid) == (True, first.uid)


async def test_a_uid_that_is_on_disk_already_is_a_repeat_r13(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        first = await accept(store, "erp")
        outcomes = await asyncio.gather(accept(store, "erp", uid=first.uid), accept(store, "erp"))
        assert [item.duplicate for item in outcomes] == [True, False]
        assert outcomes[0].message == first.message
        await check_books(store)


async def test_when_a_batch_fails_only_the_guilty_is_refused_r4(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        given = [{}, {"headers": {"x": "\ud800"}}, {}, {"part": 2**70}, {}]
        outcomes = await asyncio.gather(*(accept(store, "erp", **more) for more in given), return_exceptions=True)
        assert [isinstance(item, Stored) for item in outcomes] == [True, False, True, False, True]
        assert all(isinstance(item, (Stored, MessageError)) for item in outcomes)
        assert (await store.backlog())["erp"][0] == 3
        await check_books(store)


async def test_what_a_cancelled_caller_has_handed_in_is_stored_and_goes_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        uid = message("erp").uid
        heard: list[str] = []
        store.stored = lambda new, stored: heard.append(stored.uid)
        task = asyncio.ensure_future(accept(store, "erp", uid=uid))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await accept(store, "erp")
        assert await state_of(store, uid) == "open"
        assert heard[0] == uid
        await check_books(store)


@pytest.mark.parametrize("turns", range(8))
async def test_a_caller_cancelled_at_any_await_never_mixes_with_another(tmp_path: Path, turns: int) -> None:
    async with opened(tmp_path) as store:
        uids = [message("erp").uid for _ in range(4)]
        tasks = [asyncio.ensure_future(accept(store, "erp", uid=uid)) for uid in uids]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks[:2]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(item, Stored) for item in outcomes[2:])
        for uid, outcome in zip(uids, outcomes, strict=True):
            known = await state_of(store, uid)
            assert known == "open" or (known is None and isinstance(outcome, asyncio.CancelledError))
        await check_books(store)


async def test_a_message_without_deliveries_is_done_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store)
        assert stored.state == "done"
        ended = await accept(store, state="dropped", reason="a test order")
        fate = await store.message_state(ended.uid)
        assert fate is not None
        assert (fate.state, fate.reason) == ("dropped", "a test order")
        await check_books(store)


async def test_a_tap_over_its_backlog_is_dropped_in_the_same_commit(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, "erp", delivery("tap", state="dropped", reason="backlog of tap"))
        assert [row.target for row in stored.deliveries] == ["erp"]
        assert (await settle(store, stored.deliveries[0])).state == "done"
        only = await accept(store, delivery("tap", state="dropped", reason="backlog of tap"))
        assert only.state == "dropped"
        await check_books(store)


async def test_a_hand_over_to_another_route_is_one_commit_and_has_books_of_its_own(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        inner = message("erp", route="inner", made="route")
        stored = await accept(store, "bank", made_messages=[inner], route="outer")
        assert {row.route for row in stored.deliveries} == {"outer", "inner"}
        journey = await store.journey(stored.uid)
        assert journey is not None
        assert [item.uid for item in journey.handed] == [inner.uid]
        child = await store.journey(inner.uid)
        assert child is not None
        assert (child.parent, child.root) == (stored.uid, stored.uid)
        await check_books(store)


async def test_what_is_due_later_is_not_handed_out_now(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, delivery("erp", due=NOW + 60))
        assert stored.deliveries == []
        assert await store.due("erp", NOW, 10) == ([], False)
        assert await store.next_due("erp", NOW) == NOW + 60


async def test_where_a_source_stands_is_committed_with_its_message(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await accept(store, "erp", key="k", source="route.poll", checkpoint=("route.poll", b"page 2"))
        assert await store.checkpoint("route.poll") == b"page 2"
        await accept(store, "erp", key="k", source="route.poll", checkpoint=("route.poll", b"page 3"))
        assert await store.checkpoint("route.poll") == b"page 3"
        assert await store.checkpoint("route.other") is None


async def test_a_closed_store_takes_nothing_more(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, "erp")
    with pytest.raises(StoreError, match="closed"):
        await accept(store, "erp")
    with pytest.raises(StoreError, match="closed"):
        await settle(store, stored.deliveries[0])


async def test_a_message_is_found_by_its_business_key(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, "erp", keys={"order": "4711", "customer": "c 9"})
        await accept(store, "erp", keys={"order": "4712"})
        assert [row.uid for row in await store.messages(key="4711")] == [stored.uid]
        assert [row.keys["customer"] for row in await store.messages(key="c 9")] == ["c 9"]
        assert [row.uid for row in await store.messages(key=stored.uid)] == [stored.uid]


async def test_the_body_is_kept_with_its_hash_and_shared_by_deliveries(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        digest = hashlib.sha256(b"<order/>").digest()
        stored = await accept(store, "a", "b", delivery("c", body=b"{}"), payload=digest)
        kept = rows_of(tmp_path, "SELECT data, sha256 FROM body ORDER BY id")
        assert kept == [(b"<order/>", digest), (b"{}", None)]
        assert len({row.body_id for row in stored.deliveries}) == 2
