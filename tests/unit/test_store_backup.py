"""A copy of the store and the way back: whole or not there, another generation, and held until a person agrees (R29)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from store_makings import NOW, accept, body_of, check_books, opened, rows_of, settle

from esb.clock import VirtualClock
from esb.errors import StoreCorrupt, StoreError, StoreLocked
from esb.store import Store, restore

LARGE = b"0123456789abcdef" * 8192
LATER = NOW + 3600


async def backed_up(folder: Path, place: Path) -> str:
    """A store with one delivered and two waiting deliveries, one of them large, copied; gives the uid of the last."""
    async with opened(folder) as store:
        (row,) = (await accept(store, "erp")).deliveries
        await settle(store, row)
        await accept(store, "erp", body=await store.keep(LARGE))
        last = await accept(store, "shop")
        await store.backup(place)
    return last.uid


async def held(store: Store) -> dict[tuple[str, str], tuple[str, str]]:
    return {(item.scope, item.name): (item.by, item.reason) for item in await store.pauses()}


async def test_a_restored_store_is_another_generation_and_says_what_may_repeat_r29(tmp_path: Path) -> None:
    await backed_up(tmp_path / "var", tmp_path / "copy")
    made = restore(tmp_path / "copy", tmp_path / "new", LATER)
    assert (made.copied.deliveries, made.copied.messages, made.bodies, made.balanced) == (2, 0, 1, True)
    assert made.copied.taken == "2025-06-15T15:06:40+00:00"
    (before,) = rows_of(tmp_path / "var", "SELECT id, generation FROM node")
    async with opened(tmp_path / "new", VirtualClock(LATER)) as store:
        assert (store.node, store.generation) == (before[0], int(LATER))
        assert store.clean_start
        pauses = await held(store)
        assert pauses.keys() == {("bus", "")}
        by, reason = pauses["bus", ""]
        assert by == "restore"
        assert "2 deliveries wait and may repeat" in reason
        await check_books(store)
        (large,), _ = await store.due("erp", LATER, 10)
        assert await store.body(large.body_id) == LARGE
        (action,) = await store.ask(lambda reader: reader.actions())
        assert (action.what, action.why) == ("restore", reason)
    async with opened(tmp_path / "new", VirtualClock(LATER + 9)) as store:
        assert store.generation == int(LATER), "only the first start is one of a copy"


async def test_two_restores_of_one_backup_are_two_generations_r29(tmp_path: Path) -> None:
    await backed_up(tmp_path / "var", tmp_path / "copy")
    found = []
    for number, at in enumerate((LATER, LATER + 60)):
        restore(tmp_path / "copy", tmp_path / str(number), at)
        async with opened(tmp_path / str(number), VirtualClock(at)) as store:
            found.append(store.generation)
    assert found[0] < found[1]


async def test_a_backup_that_is_copied_by_hand_is_held_too_r29(tmp_path: Path) -> None:
    await backed_up(tmp_path / "var", tmp_path / "copy")
    async with opened(tmp_path / "copy", VirtualClock(LATER)) as store:
        assert store.generation == int(LATER)
        assert (await held(store)).keys() == {("bus", "")}


async def test_the_data_of_a_stopped_bus_can_be_restored_with_what_its_wal_holds(tmp_path: Path) -> None:
    async with opened(tmp_path / "var") as store:
        await accept(store, "erp")
        with pytest.raises(StoreLocked):
            restore(tmp_path / "var", tmp_path / "new", LATER)
        (tmp_path / "dead").mkdir()
        for name in ("esb.db", "esb.db-wal"):
            (tmp_path / "dead" / name).write_bytes((tmp_path / "var" / name).read_bytes())
        (tmp_path / "dead" / "bodies").mkdir()
    assert restore(tmp_path / "dead", tmp_path / "new", LATER).copied.deliveries == 1


async def test_a_store_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    await backed_up(tmp_path / "var", tmp_path / "copy")
    before = hashlib.sha256((tmp_path / "var" / "esb.db").read_bytes()).digest()
    for name in ("esb.db", None):
        with pytest.raises(StoreError, match="move .* aside") as refused:
            restore(tmp_path / "copy", tmp_path / "var", LATER)
        assert refused.value.code == "S561"
        if name is not None:
            assert hashlib.sha256((tmp_path / "var" / name).read_bytes()).digest() == before
            (tmp_path / "var" / name).unlink()


async def test_a_restore_that_was_broken_off_is_done_again(tmp_path: Path) -> None:
    await backed_up(tmp_path / "var", tmp_path / "copy")
    (body,) = (tmp_path / "copy" / "bodies").iterdir()
    kept = body.read_bytes()
    body.write_bytes(kept[:-1] + b"!")
    with pytest.raises(StoreCorrupt, match="not the body that was accepted"):
        restore(tmp_path / "copy", tmp_path / "new", LATER)
    assert not (tmp_path / "new" / "esb.db").exists()
    (tmp_path / "new" / "esb.db.restored-wal").write_bytes(b"of another file")
    body.write_bytes(kept)
    assert restore(tmp_path / "copy", tmp_path / "new", LATER).bodies == 1
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["bodies", "esb.db", "lock"]


async def test_what_an_older_store_had_under_way_is_not_held_against_the_restored_one(tmp_path: Path) -> None:
    """The ring of what was committed is newer than any backup: S531 would refuse it."""
    await backed_up(tmp_path / "var", tmp_path / "copy")
    async with opened(tmp_path / "var") as store:
        await accept(store, "erp")
    (tmp_path / "var" / "esb.db").unlink()
    for path in (tmp_path / "var" / "bodies").iterdir():
        path.unlink()
    restore(tmp_path / "copy", tmp_path / "var", LATER)
    async with opened(tmp_path / "var", VirtualClock(LATER)) as store:
        await check_books(store)


async def test_a_damaged_backup_and_what_is_none_are_refused(tmp_path: Path) -> None:
    await backed_up(tmp_path / "var", tmp_path / "copy")
    (tmp_path / "none").mkdir()
    with pytest.raises(StoreError, match="no backup") as refused:
        restore(tmp_path / "none", tmp_path / "new", LATER)
    assert refused.value.code == "S560"
    file = tmp_path / "copy" / "esb.db"
    file.write_bytes(file.read_bytes()[:8192] + b"\xff" * 16384 + file.read_bytes()[24576:])
    with pytest.raises(StoreCorrupt):
        restore(tmp_path / "copy", tmp_path / "new", LATER)
    assert not (tmp_path / "new" / "esb.db").exists()


async def test_a_backup_that_fails_leaves_nothing_and_one_that_is_there_is_kept(tmp_path: Path) -> None:
    async with opened(tmp_path / "var") as store:
        kept = await store.keep(LARGE)
        await accept(store, "erp", body=kept)
        body = tmp_path / "var" / "bodies" / str(kept.file)
        body.rename(tmp_path / "aside")
        with pytest.raises(StoreError, match="No such file"):
            await store.backup(tmp_path / "copy")
        (tmp_path / "aside").rename(body)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["var"]
        await store.backup(tmp_path / "copy")
        with pytest.raises(StoreError, match="there already") as refused:
            await store.backup(tmp_path / "copy")
        assert refused.value.code == "S562"
        assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["bodies", "esb.db"]


async def test_parts_that_are_not_made_yet_are_told_beside_the_deliveries(tmp_path: Path) -> None:
    async with opened(tmp_path / "var") as store:
        await accept(store, "erp", body=body_of(b"{}"))
        await accept(store, stage="split")
        await store.backup(tmp_path / "copy")
    made = restore(tmp_path / "copy", tmp_path / "new", LATER)
    assert "1 deliveries wait and may repeat, and 1 messages are not planned to the end" in str(made.copied)
