"""Opening: one process, the right settings, a sound file, and what is found after an unclean end."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import held_letters
import pytest
from store_makings import NOW, accept, attempt, check_books, delivery, opened, rows_of, settle

from esb.clock import SystemClock, VirtualClock
from esb.errors import StoreCorrupt, StoreError, StoreLocked
from esb.store import held, migrations, open_reader, open_store, opening
from esb.store import start as starting
from esb.store.inflight import Inflight, row_of


def sqlite_threads() -> list[str]:
    """The threads of connections that are open still."""
    for thread in threading.enumerate():
        if "connection" in thread.name:
            thread.join(1.0)
    return [thread.name for thread in threading.enumerate() if "connection" in thread.name]


async def crashed(folder: Path, copy: Path) -> None:
    """A copy of an open store's files, as a SIGKILL would leave them."""
    await asyncio.to_thread(shutil.copytree, folder, copy)


async def test_a_new_store_has_the_settings_that_the_order_of_creation_gives_r8(tmp_path: Path) -> None:
    async with opened(tmp_path / "var"):
        db = sqlite3.connect(f"file:{tmp_path / 'var' / 'esb.db'}?mode=ro", uri=True)
        found = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("auto_vacuum", "journal_mode", "page_size")]
        db.close()
    assert found == [2, "wal", opening.PAGE]


async def test_settings_of_another_maker_are_refused_r8(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    db = sqlite3.connect(tmp_path / "esb.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = DELETE")
    db.close()
    with pytest.raises(StoreError, match="journal_mode"):
        async with opened(tmp_path):
            pass


async def test_durable_means_that_every_commit_is_fsynced_r8(tmp_path: Path) -> None:
    for durable, level in ((True, 2), (False, 0)):
        async with open_store(tmp_path / str(durable), clock=VirtualClock(), durable=durable, reserve=0) as store:
            assert await store.act(lambda work: work.db.execute("PRAGMA synchronous").fetchone()[0]) == level


async def test_a_second_opener_is_refused_with_the_holder_s_number(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(StoreLocked, match=str(os.getpid())):
            async with opened(tmp_path):
                pass
    async with opened(tmp_path):
        pass


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    script = f"""
import asyncio, pathlib
from esb.store import open_store
from esb.clock import SystemClock
from esb.errors import StoreLocked
async def main():
    try:
        async with open_store(pathlib.Path({str(tmp_path)!r}), clock=SystemClock(), durable=False): pass
    except StoreLocked as error:
        print(error)
asyncio.run(main())
"""
    async with opened(tmp_path):
        done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True)
    assert f"is open in process {os.getpid()}" in done.stdout, done.stderr


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p", "ceph"])
async def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(opening, "file_system", lambda folder: kind)
    with pytest.raises(StoreError, match=f"lies on {kind}"):
        async with opened(tmp_path / "var"):
            pass


def test_the_file_system_of_a_folder_is_known(tmp_path: Path) -> None:
    assert opening.file_system(tmp_path) != ""
    assert not opening.NETWORK.fullmatch(opening.file_system(tmp_path))


def spoil(file: Path, how: str) -> None:
    match how:
        case "empty":
            file.write_bytes(b"")
        case "text":
            file.write_text("this is no database\n" * 100)
        case "short":
            file.write_bytes(file.read_bytes()[:60])
        case "truncated":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        case "flipped":
            data = bytearray(file.read_bytes())
            for page in range(2, len(data) // opening.PAGE):
                data[page * opening.PAGE : page * opening.PAGE + 16] = bytes(16 * [0xFF])
            file.write_bytes(bytes(data))
        case "other":
            file.unlink()
            db = sqlite3.connect(file)
            db.execute("CREATE TABLE theirs (x)")
            db.commit()
            db.close()


@pytest.mark.parametrize("how", ["empty", "text", "short", "truncated", "flipped", "other"])
async def test_a_damaged_file_is_refused_and_kept(tmp_path: Path, how: str) -> None:
    folder, copy = tmp_path / "var", tmp_path / "copy"
    async with opened(folder) as store:
        for _ in range(50):
            await accept(store, delivery("erp", body=b"x" * 3000))
    async with opened(folder):
        await crashed(folder, copy)
    file = copy / "esb.db"
    for name in ("esb.db-wal", "esb.db-shm"):
        (copy / name).unlink(missing_ok=True)
    spoil(file, how)
    before = file.read_bytes()
    with pytest.raises(StoreCorrupt):
        async with opened(copy):
            pass
    assert file.read_bytes() == before


async def test_a_file_that_lost_its_newest_rows_is_refused_and_says_how_to_go_on(tmp_path: Path) -> None:
    folder, copy = tmp_path / "var", tmp_path / "copy"
    async with opened(folder) as store:
        await accept(store, "erp")
    async with opened(folder) as store:
        await accept(store, "erp")
        await crashed(folder, copy)
    (copy / "esb.db-wal").unlink()
    (copy / "esb.db-shm").unlink(missing_ok=True)
    with pytest.raises(StoreCorrupt, match="-wal file is missing") as refused:
        async with opened(copy):
            pass
    assert refused.value.code == "S531"
    (copy / "inflight").unlink()
    async with opened(copy) as store:
        assert (await store.account()).balanced


async def test_a_wal_without_its_file_is_refused(tmp_path: Path) -> None:
    folder, copy = tmp_path / "var", tmp_path / "copy"
    async with opened(folder) as store:
        await accept(store, "erp")
        await crashed(folder, copy)
    (copy / "esb.db").unlink()
    with pytest.raises(StoreCorrupt, match="-wal"):
        async with opened(copy):
            pass
    assert (copy / "esb.db-wal").exists()


async def test_what_was_committed_is_there_after_a_crash(tmp_path: Path) -> None:
    folder, copy = tmp_path / "var", tmp_path / "copy"
    async with opened(folder) as store:
        stored = await accept(store, "erp", "wms", key="k")
        await settle(store, stored.deliveries[0])
        await crashed(folder, copy)
    async with opened(copy) as store:
        assert not store.clean_start
        rows, _ = await store.due("wms", NOW, 10)
        assert [row.uid for row in rows] == [stored.uid]
        assert (await accept(store, "erp", key="k")).duplicate
        await check_books(store)
    async with opened(copy) as store:
        assert store.clean_start


async def test_row_numbers_are_never_given_out_twice(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    async with opened(tmp_path, clock) as store:
        stored = await accept(store, "erp")
        await settle(store, stored.deliveries[0])
        clock.advance(100 * 86400)
        await store.upkeep({})
        await store.upkeep({})
        assert rows_of(tmp_path, "SELECT count(*) FROM message") == [(0,)]
    async with opened(tmp_path, clock) as store:
        again = await accept(store, "erp")
        assert again.message > stored.message
        assert again.deliveries[0].row > stored.deliveries[0].row


async def test_a_store_of_a_newer_esb_is_refused_by_its_number(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    db = sqlite3.connect(tmp_path / "esb.db", isolation_level=None)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="schema 99") as refused:
        async with opened(tmp_path):
            pass
    assert refused.value.code == "S550"
    with pytest.raises(StoreError, match="schema 99"), open_reader(tmp_path):
        pass


STEPS = migrations.STEPS
STEP = """
ALTER TABLE message ADD COLUMN colour TEXT;
CREATE TABLE paint (id INTEGER PRIMARY KEY);
INSERT INTO paint VALUES (1);
"""


async def test_a_store_is_brought_forward_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as store:
        await accept(store, "erp")
    monkeypatch.setattr(migrations, "STEPS", (*STEPS, STEP, lambda db: db.execute("UPDATE message SET colour = 'red'")))
    async with opened(tmp_path) as store:
        assert await store.message_state(rows_of(tmp_path, "SELECT uid FROM message")[0][0])
    assert rows_of(tmp_path, "SELECT colour FROM message") == [("red",)]
    assert rows_of(tmp_path, "PRAGMA user_version") == [(len(STEPS) + 3,)]


async def test_an_interrupted_step_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as store:
        await accept(store, "erp")
    monkeypatch.setattr(
        migrations,
        "STEPS",
        (
            *STEPS,
            STEP + "INSERT INTO nowhere VALUES (1);\n",
        ),
    )
    with pytest.raises(StoreError):
        async with opened(tmp_path):
            pass
    assert rows_of(tmp_path, "PRAGMA user_version") == [(len(STEPS) + 1,)]
    assert rows_of(tmp_path, "SELECT name FROM sqlite_schema WHERE name = 'paint'") == []
    monkeypatch.setattr(migrations, "STEPS", STEPS)
    async with opened(tmp_path) as store:
        await check_books(store)


async def test_an_interrupted_creation_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "esb.db.new").write_bytes(b"half")
    async with opened(tmp_path) as store:
        await accept(store, "erp")
    assert not (tmp_path / "esb.db.new").exists()


async def test_the_whole_schema_of_later_releases_is_there_from_the_start(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    tables = {name for (name,) in rows_of(tmp_path, "SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert tables >= {
        "node", "definition", "body", "message", "delivery", "attempt", "ledger", "cursor", "state", "timer", "account",
        "pause", "action",
    }  # fmt: skip
    columns = {name for (name,) in rows_of(tmp_path, "SELECT name FROM pragma_table_info('delivery')")}
    assert columns >= {"holder", "origin", "round", "params", "expires", "seq", "order_key"}
    columns = {name for (name,) in rows_of(tmp_path, "SELECT name FROM pragma_table_info('message')")}
    assert columns >= {"tenant", "root", "keys", "trace", "table_hash", "parent", "part", "last"}


async def test_no_thread_outlives_a_store_that_could_not_be_opened(tmp_path: Path) -> None:
    (tmp_path / "esb.db").write_bytes(b"")
    with pytest.raises(StoreCorrupt):
        async with opened(tmp_path):
            pass
    assert sqlite_threads() == []


async def test_the_end_of_the_block_leaves_no_thread_whatever_was_raised_in_it(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        async with opened(tmp_path) as store:
            await accept(store, "erp")
            raise KeyError("of the block")
    assert sqlite_threads() == []
    async with opened(tmp_path) as store:
        assert store.clean_start


async def test_what_is_submitted_before_the_end_is_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        rows = [row for _ in range(20) for row in (await accept(store, "erp")).deliveries]
        futures = [settle(store, row) for row in rows]
        tasks = [asyncio.ensure_future(item) for item in futures]
        await asyncio.sleep(0)
    assert [item.state for item in await asyncio.gather(*tasks)] == ["done"] * 20


@pytest.mark.parametrize(
    ("gone", "jump"), [(0.0, 0.0), (7200.0, 0.0), (-7200.0, -7200.0), (400 * 86400.0, 400 * 86400.0)]
)
async def test_a_jump_of_the_wall_clock_is_told_from_time_away_r12(tmp_path: Path, gone: float, jump: float) -> None:
    async with opened(tmp_path, VirtualClock(NOW)):
        pass
    async with opened(tmp_path, VirtualClock(NOW + gone)) as store:
        assert store.clock_jump == jump


@pytest.mark.parametrize("ahead", [0.0, 7200.0, -7200.0, 366 * 86400.0])
async def test_the_machine_s_own_count_tells_a_jump_exactly_r12(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    clock = SystemClock()
    async with opened(tmp_path, clock):  # type: ignore[arg-type]
        pass
    up = starting._up
    monkeypatch.setattr(starting, "_up", lambda: up() + 86400.0)
    monkeypatch.setattr(clock, "_start", clock._start + 86400.0 + ahead)
    async with opened(tmp_path, clock) as store:  # type: ignore[arg-type]
        assert store.clock_jump == pytest.approx(ahead, abs=5.0)


async def test_what_was_under_way_at_three_deaths_is_parked_r15(tmp_path: Path) -> None:
    folder = tmp_path / "0"
    async with opened(folder) as store:
        row = (await accept(store, "erp")).deliveries[0]
        other = (await accept(store, "erp")).deliveries[0]
        store.inflight.enter("delivery", row.row)
        await crashed(folder, tmp_path / "1")
    for number in (1, 2, 3):
        async with opened(tmp_path / str(number)) as store:
            rows, _ = await store.due("erp", NOW, 10)
            if number < 3:
                assert [(item.crashes, item.maybe_sent) for item in rows] == [(number, True), (0, False)]
                store.inflight.enter("delivery", row.row)
                await crashed(tmp_path / str(number), tmp_path / str(number + 1))
            else:
                assert [item.row for item in rows] == [other.row]
                assert store.poisoned == 1
                (group,) = await held_letters.groups(store, "parked")
                assert "died 3 times" in group.reason
                await check_books(store)


async def test_an_attempt_that_ended_forgives_the_deaths_before_it_r15(tmp_path: Path) -> None:
    async with opened(tmp_path / "0") as store:
        row = (await accept(store, "erp")).deliveries[0]
        store.inflight.enter("delivery", row.row)
        await crashed(tmp_path / "0", tmp_path / "1")
    async with opened(tmp_path / "1") as store:
        ((row,), _) = await store.due("erp", NOW, 1)
        assert row.crashes == 1
        await settle(store, row, "due", due=NOW, attempt=attempt())
        ((row,), _) = await store.due("erp", NOW, 1)
        assert row.crashes == 0


async def test_claims_and_bodies_under_way_at_a_death_are_counted_r15(tmp_path: Path) -> None:
    async with opened(tmp_path / "0") as store:
        store.inflight.enter("claim", "f1")
        store.inflight.enter("body", b"\x01" * 32)
        done = store.inflight.enter("claim", "f2")
        store.inflight.leave(done)
        await crashed(tmp_path / "0", tmp_path / "1")
    async with opened(tmp_path / "1") as store:
        assert store.crashed("claim", "f1") == 1
        assert store.crashed("body", b"\x01" * 32) == 1
        assert store.crashed("claim", "f2") == 0
        store.inflight.enter("claim", "f1")
        await crashed(tmp_path / "1", tmp_path / "2")
    clock = VirtualClock(NOW + 3700)
    async with opened(tmp_path / "2", clock) as store:
        assert store.crashed("claim", "f1") == 2
        assert store.crashed("body", b"\x01" * 32) == 0


def test_the_ring_survives_the_process_and_takes_no_more_than_it_has(tmp_path: Path) -> None:
    ring = Inflight(tmp_path / "ring")
    ring.begin()
    slots = [ring.enter("delivery", number) for number in range(1, 10_000)]
    assert 0 in slots
    for slot in slots[:8000]:
        ring.leave(slot)
    again = Inflight(tmp_path / "ring")
    assert {row_of(mark) for _, mark in again.left_over} == set(range(8001, 8193))
    ring.close()
    assert Inflight(tmp_path / "ring").left_over == []


async def test_a_stopped_store_is_read_without_being_changed(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, "erp")
        await settle(store, stored.deliveries[0], "dead", reason="no", attempt=attempt())
    before = (tmp_path / "esb.db").read_bytes()
    with open_reader(tmp_path) as reader:
        assert reader.account().balanced
        assert [row.uid for row in reader.messages(state="dead")] == [stored.uid]
        assert [group.count for group in reader.query(held.groups, "dead")] == [1]
        assert reader.node()[0].startswith("node-")
    assert (tmp_path / "esb.db").read_bytes() == before
    with pytest.raises(StoreError, match="there is no store"), open_reader(tmp_path / "none"):
        pass


async def test_a_running_store_is_read_beside_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stored = await accept(store, "erp")
        with open_reader(tmp_path) as reader:
            assert [row.uid for row in reader.messages()] == [stored.uid]


async def test_a_large_file_is_checked_beside_the_work_and_stops_accepting_at_a_finding_r8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import esb.store as package

    monkeypatch.setattr(opening, "CHECK_UP_TO", 0)
    async with opened(tmp_path / "0") as store:
        await accept(store, "erp")
        await crashed(tmp_path / "0", tmp_path / "1")
    monkeypatch.setattr(package, "check", lambda db: "row 7 missing from index delivery_due")
    async with opened(tmp_path / "1") as store:
        for _ in range(1000):
            if store.refusing is not None:
                break
            await asyncio.sleep(0.001)
        with pytest.raises(StoreCorrupt, match="row 7 missing"):
            await accept(store, "erp")
        ((row,), _) = await store.due("erp", NOW, 1)
        assert (await settle(store, row)).state == "done"
