"""Planning that goes on after the commit: chunks of parts with their parent's place, messages planned again (R1, R5)."""

from __future__ import annotations

from pathlib import Path

import held_letters
import msgspec
import pytest
from store_makings import NOW, accept, check_books, delivery, message, opened, rows_of, settle, state_of

from esb.errors import StoreError
from esb.ids import derived_uid
from esb.store import Act, Store, Which, reading
from esb.store.records import NewMessage, OpenMessage, Progress


def part(parent: OpenMessage, index: int, *targets: str, **more: object) -> NewMessage:
    return message(
        *targets, made="part", part=index, uid=derived_uid(parent.uid, "part", str(index)), parent=parent.uid,
        route=parent.route, **more,
    )  # fmt: skip


async def staged(store: Store, **more: object) -> OpenMessage:
    await accept(store, stage="split:1", data=b"a\nb\nc\n", **more)  # type: ignore[arg-type]
    (found,) = await store.open_messages(10)
    return found


async def test_a_message_with_planning_left_is_open_and_found_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        row = await staged(store, headers={"x": "y"}, about={"name": "f", "size": 3}, table_hash="h", caller="c")
        assert (row.stage, row.body, row.media, row.size) == ("split:1", b"a\nb\nc\n", "application/xml", 6)
        assert (row.headers, row.source, row.table_hash, row.caller) == ({"x": "y"}, {"name": "f", "size": 3}, "h", "c")
        assert await store.open_messages(10, row.row) == []
        assert await state_of(store, row.uid) == "open"
        await check_books(store)


async def test_a_chunk_and_the_parent_s_place_are_one_commit_r5(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        row = await staged(store)
        made = [part(row, 1, "erp"), part(row, 2, state="quarantined", reason="bad row")]
        rows = await store.progress(Progress(message=row, made=made, stage="split:1", next_index=2))
        assert [item.uid for item in rows] == [made[0].uid]
        (row,) = await store.open_messages(10)
        assert row.parts_done == 2
        await check_books(store)
        await store.progress(Progress(message=row, made=[part(row, 3, "erp", last=True)], next_index=3, state="split"))
        assert await store.open_messages(10) == []
        fate = await store.message_state(row.uid)
        assert fate is not None
        assert (fate.state, fate.parts, fate.stage) == ("split", 3, "")
        journey = await store.journey(row.uid)
        assert journey is not None
        assert journey.parts == {"open": 2, "quarantined": 1}
        await check_books(store)


async def test_after_a_crash_it_goes_on_where_it_was_and_no_row_gets_a_second_message_r5(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        row = await staged(store)
        chunk = Progress(message=row, made=[part(row, 1, "erp")], stage="split:1", next_index=1)
        await store.progress(chunk)
        with pytest.raises(StoreError, match="stands elsewhere: 1 parts made"):
            await store.progress(chunk)
        assert rows_of(tmp_path, "SELECT count(*) FROM message WHERE made = 'part'") == [(1,)]
        await check_books(store)
    async with opened(tmp_path) as store:
        (row,) = await store.open_messages(10)
        assert row.parts_done == 1
        with pytest.raises(StoreError):
            await store.progress(Progress(message=row, made=[part(row, 1, "erp")], stage="split:1", next_index=2))
        await check_books(store)


async def test_an_input_that_breaks_off_ends_as_quarantined_and_its_parts_stand_r5(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        row = await staged(store)
        await store.progress(Progress(message=row, made=[part(row, 1, "erp")], stage="split:1", next_index=1))
        reason = "1 parts made, stopped at line 2: unclosed quote"
        await store.progress(Progress(message=row, state="quarantined", reason=reason, next_index=1))
        fate = await store.message_state(row.uid)
        assert fate is not None
        assert (fate.state, fate.reason, fate.parts) == ("quarantined", reason, 1)
        assert len((await store.due("erp", NOW, 10))[0]) == 1
        await check_books(store)


TRACE = msgspec.msgpack.encode({"part": [2, None, False, 7]})


async def test_rejected_rows_come_back_with_line_bytes_and_reason(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        row = await staged(store)
        bad = {"state": "quarantined", "reason": "qty is not a number", "trace": TRACE}
        large = {"state": "quarantined", "reason": "too long"}
        made = [part(row, 1, "erp"), part(row, 2, data=b"b,many", **bad), part(row, 3, data=b"x" * 70_000, **large)]
        await store.progress(Progress(message=row, made=made, next_index=3, state="split"))
        assert await store.rejected(row.uid) == [
            (7, b"b,many", "qty is not a number"), (None, b"x" * 70_000, "too long"),
        ]  # fmt: skip
        assert await store.rejected("nonsense") == []


async def test_rejected_rows_beyond_the_limit_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "REJECTED", 2)
    async with opened(tmp_path) as store:
        row = await staged(store)
        bad = {"state": "quarantined", "reason": "qty is not a number", "trace": TRACE}
        made = [part(row, n, data=b"b,many", **bad) for n in range(1, 6)]
        await store.progress(Progress(message=row, made=made, next_index=5, state="split"))
        *rows, last = await store.rejected(row.uid)
        assert len(rows) == 2
        assert last == (None, b"", "and 3 more that are not in this file: esb quarantine export")


async def test_ordered_parts_stand_in_line_across_chunks_r14(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        row = await staged(store)
        uids = []
        for index in (1, 2):
            made = [
                message(delivery("erp", order_key="k"), made="part", part=index * 10 + n, route="orders")
                for n in range(2)
            ]
            uids += [item.uid for item in made]
            await store.progress(Progress(message=row, made=made, stage="split:1", next_index=index * 2))
        taken = []
        rows, _ = await store.due("erp", NOW, 10)
        while rows:
            assert len(rows) == 1
            taken.append(rows[0].uid)
            rows = list((await settle(store, rows[0])).promoted)
        assert taken == uids
        await check_books(store)


async def test_a_released_message_gets_its_deliveries_from_its_new_plan(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, state="quarantined", reason="bad", data=b"<bad/>")
        await held_letters.edit(store, stored.uid, b"<good/>", Act(what="edit"))
        await held_letters.release(store, "quarantine", Which(), Act(what="release"))
        (row,) = await store.open_messages(10)
        plan = [delivery("erp"), delivery("wms", body=b"{}")]
        rows = await store.progress(Progress(message=row, deliveries=plan, state="open", trace=b"new"))
        assert [(item.target, item.content) for item in rows] == [("erp", b"<good/>"), ("wms", b"{}")]
        assert await store.open_messages(10) == []
        await check_books(store)
        ((again,), _) = await store.due("erp", NOW, 10)
        assert again == rows[0]
        assert [(await settle(store, item)).state for item in rows] == ["open", "done"]
        await check_books(store)


async def test_a_released_message_may_end_in_planning_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, state="unmatched", reason="no case")
        await held_letters.release(store, "parked", Which(), Act(what="release"))
        (row,) = await store.open_messages(10)
        await store.progress(Progress(message=row, state="unmatched", reason="no case still"))
        fate = await store.message_state(stored.uid)
        assert fate is not None
        assert (fate.state, fate.reason) == ("unmatched", "no case still")
        assert [group.count for group in await held_letters.groups(store, "parked")] == [1]
        await check_books(store)


async def test_a_released_message_with_one_large_body_is_delivered_from_a_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await accept(store, state="unmatched", reason="no case")
        await held_letters.release(store, "parked", Which(), Act(what="release"))
        (row,) = await store.open_messages(10)
        (made,) = await store.progress(Progress(message=row, deliveries=[delivery("erp", body=b"y" * 70_000)]))
        assert made.body_file is not None
        assert await store.body(made.body_id) == b"y" * 70_000
        assert (await settle(store, made)).state == "done"


async def test_a_message_can_be_planned_without_any_delivery(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        row = await staged(store)
        assert await store.progress(Progress(message=row, state="dropped", reason="empty file")) == []
        assert await state_of(store, row.uid) == "dropped"
        await check_books(store)
