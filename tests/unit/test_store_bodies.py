"""Large bodies: files written before the rows that name them, unlinked after the rows that did (R7)."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from store_makings import NOW, accept, body_of, check_books, delivery, message, opened, rows_of, settle

from esb.clock import VirtualClock
from esb.errors import Conflict, Invalid, StoreError
from esb.store import bodies as bodies_module
from esb.store import open_store
from esb.store.records import NewBody

LARGE = b"0123456789abcdef" * 8192


async def pieces(data: bytes, size: int = 10_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "bodies").iterdir())


async def test_a_small_body_lives_in_its_row_and_a_large_one_in_a_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        small = await store.keep(b"x" * 65_536)
        assert (small.file, small.size) == (None, 65_536)
        large = await store.keep(LARGE)
        assert large.data is None
        assert large.sha256 == hashlib.sha256(LARGE).digest()
        assert (tmp_path / "bodies" / str(large.file)).read_bytes() == LARGE
        assert await store.kept(large) == LARGE
        assert await store.kept(small) == b"x" * 65_536


@pytest.mark.parametrize("size", [10, 65_536, 65_537, len(LARGE)])
async def test_bytes_a_file_and_a_stream_are_kept_alike(tmp_path: Path, size: int) -> None:
    data = LARGE[:size]
    path = tmp_path / "given"
    path.write_bytes(data)
    async with opened(tmp_path / "var") as store:
        for given in (data, path, pieces(data)):
            kept = await store.keep(given)
            assert (kept.size, kept.sha256) == (size, hashlib.sha256(data).digest())
            assert await store.kept(kept) == data
    assert path.read_bytes() == data


async def test_a_body_over_the_limit_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "given"
    path.write_bytes(LARGE)
    async with opened(tmp_path / "var") as store:
        for given in (LARGE, path, pieces(LARGE), pieces(LARGE, 200)):
            with pytest.raises(Invalid) as refused:
                await store.keep(given, 70_000)
            assert refused.value.status == 413
        assert files(tmp_path / "var") == []


async def test_a_link_is_not_followed_and_a_pipe_never_waited_for(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    async with opened(tmp_path / "var") as store:
        with pytest.raises(StoreError, match="cannot be read"):
            await store.keep(tmp_path / "link")
        assert (await store.keep(tmp_path / "pipe")).size == 0


async def test_a_sender_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield LARGE
        raise ConnectionResetError

    async with opened(tmp_path) as store:
        with pytest.raises((ConnectionResetError, StoreError)):
            await store.keep(broken())
        assert files(tmp_path) == []


async def test_a_large_message_is_delivered_from_its_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        kept = await store.keep(LARGE)
        stored = await accept(store, "erp", body=kept)
        (row,) = stored.deliveries
        assert (row.content, row.body_file, row.size) == (None, kept.file, len(LARGE))
        assert await store.body(row.body_id) == LARGE
        assert b"".join([piece async for piece in store.stream(row.body_id)]) == LARGE
        ((again,), _) = await store.due("erp", NOW, 1)
        assert again == row
        ((number, file),) = rows_of(tmp_path, "SELECT id, file FROM body")
        assert str(number) == file


async def test_a_hand_over_s_large_body_becomes_a_file_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        inner = message("erp", data=LARGE, route="inner", made="route")
        stored = await accept(store, made_messages=[inner])
        (row,) = stored.deliveries
        assert row.body_file is not None
        assert await store.body(row.body_id) == LARGE


async def test_a_body_of_a_refused_or_repeated_message_is_unlinked(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await accept(store, "erp", key="k", payload=b"1" * 32)
        again = await accept(store, "erp", key="k", payload=b"1" * 32, body=await store.keep(LARGE))
        assert again.duplicate
        with pytest.raises(Conflict):
            await accept(store, "erp", key="k", payload=b"2" * 32, body=await store.keep(LARGE))
        assert files(tmp_path) == []


async def test_a_body_that_was_kept_and_never_named_is_unlinked_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as store:
        named = await store.keep(LARGE)
        await accept(store, "erp", body=named)
        await store.keep(LARGE)
        monkeypatch.setattr(bodies_module, "FORSAKEN", -1.0)
        await store.upkeep({})
        assert files(tmp_path) == [named.file]


async def test_orphans_are_swept_at_the_start_and_what_rows_name_is_not(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        kept = await store.keep(LARGE)
        await accept(store, "erp", body=kept)
    (tmp_path / "bodies" / "999").write_bytes(b"left over")
    (tmp_path / "bodies" / ".7.part").write_bytes(b"half")
    async with opened(tmp_path) as store:
        assert files(tmp_path) == [kept.file]
        assert await store.body(int(str(kept.file))) == LARGE


async def test_a_file_is_unlinked_after_the_row_that_named_it_and_a_backup_holds_that_back(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        kept = await store.keep(LARGE)
        (row,) = (await accept(store, "erp", body=kept)).deliveries
        await settle(store, row)
        clock.advance(8 * 86400)
        with store.bodies.held():
            await store.upkeep({})
            assert rows_of(tmp_path, "SELECT count(*) FROM body") == [(0,)]
            assert files(tmp_path) == [kept.file]
        assert files(tmp_path) == []
        with pytest.raises(StoreError, match="no longer kept"):
            await store.body(row.body_id)


async def test_a_large_body_is_fsynced_before_its_name_and_its_name_before_the_row_r7(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112
        sync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        done.append("rename")
        return rename(path, target)

    async with open_store(tmp_path, clock=VirtualClock(NOW), reserve=0) as store:
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "rename", renamed)
        await store.keep(LARGE)
        assert done == ["file", "rename", "folder"]


async def test_a_backup_is_a_store_of_its_own_with_its_bodies(tmp_path: Path) -> None:
    async with opened(tmp_path / "var") as store:
        kept = await store.keep(LARGE)
        stored = await accept(store, "erp", body=kept)
        backup = asyncio.ensure_future(store.backup(tmp_path / "copy"))
        more = [await accept(store, "erp") for _ in range(20)]
        await backup
        with pytest.raises(StoreError):
            await store.backup(tmp_path / "copy")
    async with opened(tmp_path / "copy") as copy:
        assert copy.clean_start
        assert await copy.body(stored.deliveries[0].body_id) == LARGE
        rows, _ = await copy.due("erp", NOW, 100)
        assert {row.uid for row in rows} <= {stored.uid, *(item.uid for item in more)}
        await check_books(copy)


async def test_bodies_of_deliveries_are_counted_once_where_they_are_shared(tmp_path: Path) -> None:
    shared = body_of(b"{}")
    async with opened(tmp_path) as store:
        await accept(store, delivery("a", body=shared), delivery("b", body=shared))
        assert rows_of(tmp_path, "SELECT count(*) FROM body") == [(2,)]


async def test_a_vanished_file_is_a_clear_error(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        kept = await store.keep(LARGE)
        (row,) = (await accept(store, "erp", body=kept)).deliveries
        (tmp_path / "bodies" / str(kept.file)).unlink()
        with pytest.raises(StoreError, match="cannot be read"):
            await store.body(row.body_id)
        with pytest.raises(StoreError, match="cannot be read"):
            await store.kept(NewBody(file="12345"))
