"""What is held and what a person does with it: groups, letters, release, resend, edit, discard."""

from __future__ import annotations

import asyncio
from pathlib import Path

import held_letters
import msgspec
import pytest
from store_makings import NOW, accept, attempt, check_books, delivery, opened, rows_of, settle, state_of

from esb.admin.access import Access
from esb.admin.boxes import Boxes
from esb.admin.letters import Letters
from esb.clock import VirtualClock
from esb.errors import StoreError
from esb.store import Act, Opened, Store, Which
from esb.table.model import Bus, Defaults, Table

RELEASE = Act(what="release", actor="ann", why="the target is mended")
DISCARD = Act(what="discard", actor="ann", why="a test order")


async def never(letter: Opened, body: bytes) -> None:
    """Nothing is planned anew here."""


async def dead(
    store: Store, target: str = "erp", *, code: str = "D440", reason: str = "status 422", **more: object
) -> str:
    """A message with one dead delivery; gives its uid."""
    stored = await accept(store, delivery(target, body=b'{"n": 1}', values={"url": "/7"}), **more)  # type: ignore[arg-type]
    failed = attempt(1, "permanent", code, place=f"target.{target}", params={"evidence": b"no such customer"})
    await settle(store, stored.deliveries[0], "dead", reason=reason, attempt=failed)
    return stored.uid


async def test_dead_letters_are_grouped_by_what_is_alike_with_counts_first(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for number in range(3):
            await dead(store, reason=f"status 422: no customer {number}")
        await dead(store, reason="status 400: no customer 4")
        await dead(store, "wms")
        groups = await held_letters.groups(store, "dead")
        assert [(group.count, group.target) for group in groups] == [(3, "erp"), (1, "erp"), (1, "wms")]
        assert groups[0].fingerprint == "orders/erp/permanent D440 status 422: no customer #"
        assert (await held_letters.show(store, groups[0].example)) is not None
        only = await held_letters.groups(store, "dead", Which(target="wms"))
        assert [group.target for group in only] == ["wms"]


async def test_a_dead_letter_shows_all_that_is_known_of_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        uid = await dead(store, data=b"<order>1</order>", table_hash="abc", headers={"x": "y"})
        (item,) = await held_letters.found(store, "dead")
        assert item.id == f"{uid}.erp"
        shown = await held_letters.show(store, item.id)
        assert shown is not None
        assert shown.original is not None
        assert shown.sent is not None
        assert held_letters.bytes_of(store, shown.original) == b"<order>1</order>"
        assert held_letters.bytes_of(store, shown.sent) == b'{"n": 1}'
        assert (shown.kind, shown.code, shown.place) == ("permanent", "D440", "target.erp")
        assert shown.attempts[0].params == {"evidence": b"no such customer"}
        assert (shown.journey.table_hash, shown.journey.headers) == ("abc", {"x": "y"})
        assert shown.values == {"url": "/7"}
        assert await held_letters.show(store, "nonsense") is None


async def test_a_dead_one_keeps_its_id_when_it_is_released_r13(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        uid = await dead(store)
        await check_books(store)
        clock.advance(100)
        acted = await held_letters.release(store, "dead", Which(), RELEASE)
        assert (acted.count, acted.targets) == (1, {"erp"})
        ((row,), _) = await store.due("erp", NOW + 100, 10)
        assert (row.id, row.attempts, row.since) == (f"{uid}.erp", 0, NOW + 100)
        assert await state_of(store, uid) == "open"
        await check_books(store)
        assert (await settle(store, row)).state == "done"
        await check_books(store)
        ((at, actor, what, thing, why),) = rows_of(tmp_path, "SELECT * FROM action")
        assert (at, actor, what, why) == (NOW + 100, "ann", "release", "the target is mended")
        assert thing == f"delivery {row.id}"


async def test_a_release_never_touches_what_a_target_has_already(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, "erp", "wms")
        await settle(store, stored.deliveries[0])
        await settle(store, stored.deliveries[1], "dead", reason="no")
        acted = await held_letters.release(store, "dead", Which(ids=(stored.uid,)), RELEASE)
        assert (acted.count, acted.targets) == (1, {"wms"})
        assert await store.due("erp", NOW, 10) == ([], False)
        await check_books(store)


async def test_to_one_target_only(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for target in ("erp", "wms", "erp"):
            await dead(store, target)
        assert (await held_letters.release(store, "dead", Which(target="wms"), RELEASE)).targets == {"wms"}
        assert {item.target for item in await held_letters.found(store, "dead")} == {"erp"}


async def test_one_group_one_time_range_or_one_of_them(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        early = await dead(store, accepted_at=NOW - 7200)
        late = await dead(store)
        other = await dead(store, code="D450", reason="timeout")
        found = await held_letters.found(store, "dead", Which(until=NOW - 3600))
        assert [item.uid for item in found] == [early]
        group = (await held_letters.found(store, "dead", Which(ids=(other,))))[0].fingerprint
        assert (await held_letters.release(store, "dead", Which(fingerprint=group), RELEASE)).count == 1
        assert (await held_letters.release(store, "dead", Which(ids=(f"{late}.erp",)), RELEASE)).count == 1
        assert [item.uid for item in await held_letters.found(store, "dead")] == [early]
        await check_books(store)


async def test_what_was_delivered_is_sent_once_more_as_a_new_round_r13(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, delivery("erp", body=b"{}"), "wms")
        name = stored.deliveries[0].id
        for row in stored.deliveries:
            await settle(store, row)
        for number in (1, 2):
            assert (await held_letters.resend(store, name, Act(what="replay"))).count == 1
            ((row,), _) = await store.due("erp", NOW, 10)
            assert (row.id, row.content) == (f"{stored.uid}.erp.r{number}", b"{}")
            assert await state_of(store, stored.uid) == "open"
            await check_books(store)
            assert (await settle(store, row)).state == "done"
            await check_books(store)
        assert (await held_letters.resend(store, stored.uid, Act(what="replay"), target="wms")).targets == {"wms"}
        with pytest.raises(StoreError, match="no delivery"):
            await held_letters.resend(store, "nonsense", Act(what="replay"))


async def test_discarded_letters_end_as_dropped_with_the_reason(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        uid = await dead(store)
        assert (await held_letters.discard(store, "dead", Which(), DISCARD)).count == 1
        assert await state_of(store, uid) == "dropped"
        journey = await store.journey(uid)
        assert journey is not None
        assert journey.deliveries[0].reason == "discarded: a test order"
        assert await held_letters.groups(store, "dead") == []
        await check_books(store)


async def test_an_edited_delivery_sends_the_new_bytes_and_keeps_the_old_ones(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await dead(store)
        (item,) = await held_letters.found(store, "dead")
        await held_letters.edit(store, item.id, b'{"n": 2, "mended": true}', Act(what="edit", actor="ann"))
        await held_letters.edit(store, item.id, b'{"n": 22}', Act(what="edit", actor="ann"))
        await check_books(store)
        await held_letters.release(store, "dead", Which(), RELEASE)
        ((row,), _) = await store.due("erp", NOW, 10)
        assert (row.content, row.size, row.media) == (b'{"n": 22}', 9, "application/json")
        shown = await held_letters.show(store, item.id)
        assert shown is not None
        assert shown.sent is not None
        assert held_letters.bytes_of(store, shown.sent) == b'{"n": 1}'
        await check_books(store)
        with pytest.raises(StoreError, match="not held"):
            await held_letters.edit(store, item.id, b"x", Act(what="edit"))
        with pytest.raises(StoreError, match="no delivery"):
            await held_letters.edit(store, "nonsense", b"x", Act(what="edit"))


async def test_an_edited_parked_delivery_changes_the_bytes_that_wait(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await accept(store, delivery("erp", body=b"12345", state="parked", reason="look"))
        (item,) = await held_letters.found(store, "parked")
        await held_letters.edit(store, item.id, b"123", Act(what="edit"))
        assert (await store.backlog())["erp"][:2] == (1, 3)
        await check_books(store)


TRACE = msgspec.msgpack.encode(
    {"step": "check", "errors": [{"code": "M231", "message": "is missing", "place": "body.Order.Total"}]}
)


async def test_bad_data_is_held_apart_and_shows_its_step_and_errors(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, state="quarantined", reason='field "Total" is missing in line 3', trace=TRACE)
        assert await held_letters.groups(store, "dead") == []
        (group,) = await held_letters.groups(store, "quarantine")
        assert (group.kind, group.count, group.fingerprint) == ("message", 1, "orders/field # is missing in line #")
        shown = await held_letters.show(store, stored.uid)
        assert shown is not None
        assert (shown.step, shown.code, shown.place) == ("check", "M231", "body.Order.Total")
        await check_books(store)


@pytest.mark.parametrize(("state", "box"), [("quarantined", "quarantine"), ("unmatched", "parked"), ("dead", "dead")])
async def test_a_released_message_is_planned_again_from_its_edited_bytes(tmp_path: Path, state: str, box: str) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, state=state, reason="bad", data=b"<bad/>", table_hash="old")
        await held_letters.edit(store, stored.uid, b"<good/>", Act(what="edit"))
        acted = await held_letters.release(store, box, Which(), RELEASE)  # type: ignore[arg-type]
        assert (acted.count, acted.staged) == (1, True)
        ((row),) = await store.open_messages(10)
        assert (row.uid, row.stage, row.body, row.table_hash) == (stored.uid, "release", b"<good/>", "")
        await check_books(store)
        shown = await held_letters.show(store, stored.uid)
        assert shown is not None
        assert shown.original is not None
        assert held_letters.bytes_of(store, shown.original) == b"<bad/>"


async def test_a_discarded_message_ends_as_dropped(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, state="unmatched", reason="no case")
        assert (await held_letters.discard(store, "parked", Which(), DISCARD)).count == 1
        assert await state_of(store, stored.uid) == "dropped"
        await check_books(store)


async def test_a_thousand_are_released_in_small_transactions_and_the_later_ones_paced_faults_87(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, *[delivery("erp", nr=number) for number in range(1, 1001)])
        await asyncio.gather(*(settle(store, row, "dead", reason="no") for row in stored.deliveries))
        access = Access(query=store.query, act=store.act, bodies=store.bodies)
        letters = Letters(access, Table(file=tmp_path / "routes.toml", hash="", bus=Bus(), defaults=Defaults()), never)
        boxes = Boxes(access, letters, lambda targets: None)
        told = await boxes.release({"kind": "dead", "all": True, "reason": "the target is mended"})
        assert told["released"] == 1000
        assert (await store.backlog())["erp"][0] == 1000
        rows, more = await store.due("erp", NOW, 1000)
        assert (len(rows), more) == (500, False), "what is live comes next"
        rows, _ = await store.due("erp", NOW + 5, 1000)
        assert len(rows) == 1000, "the other 500 at 100 a second"
        await check_books(store)


async def test_the_expiry_of_something_released_by_hand_is_forgotten(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        stored = await accept(store, delivery("erp", expires=NOW + 60))
        await settle(store, stored.deliveries[0], "dead", reason="no")
        clock.advance(3600)
        await held_letters.release(store, "dead", Which(), RELEASE)
        ((row,), _) = await store.due("erp", clock.now(), 10)
        assert row.expires is None


async def test_pauses_outlive_a_restart_and_are_noted(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.set_pause("target", "erp", reason="they asked", until=NOW + 60, by="ann")
        await store.set_pause("route", "orders", reason="wrong map")
        await store.clear_pause("route", "orders", by="bob")
    async with opened(tmp_path) as store:
        (pause,) = await store.pauses()
        assert (pause.scope, pause.name, pause.reason, pause.until, pause.by) == (
            "target", "erp", "they asked", NOW + 60, "ann",
        )  # fmt: skip
        actions = await store.ask(lambda reader: reader.actions())
        assert [(item.what, item.object, item.actor) for item in actions] == [
            ("resume", "route orders", "bob"),
            ("pause", "route orders", ""),
            ("pause", "target erp", "ann"),
        ]


async def test_definitions_are_kept_by_their_hash_r11(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.define("h1", "table", b"one")
        await store.define("h1", "table", b"two")
        assert await store.definition("h1") == b"one"
        assert await store.definition("h2") is None


async def test_the_figures_of_targets_and_routes(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await dead(store)
        (row, _) = (await accept(store, "erp", "wms")).deliveries
        await settle(store, row)
        await accept(store, delivery("wms", state="parked", reason="look"))
        targets = {item.target: item for item in await store.ask(lambda reader: reader.targets())}
        assert (targets["erp"].waiting, targets["erp"].dead, targets["erp"].delivered) == (0, 1, 1)
        assert (targets["wms"].waiting, targets["wms"].parked, targets["wms"].oldest) == (1, 1, NOW)
        (route,) = await store.ask(lambda reader: reader.routes())
        assert (route.came, route.open, dict(route.closed)) == (3, 2, {"dead": 1})
