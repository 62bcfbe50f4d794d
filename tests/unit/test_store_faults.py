"""What the disk and other programs can do to a commit, and what the house says then."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from store_makings import NOW, accept, attempt, check_books, delivery, opened, rows_of, settle, state_of

from esb.errors import Busy, OutcomeUnknown, StoreCorrupt, StoreError, StoreFull
from esb.store import Store, connection, space, writer
from esb.store.records import Stored

Fault = Callable[[str], sqlite3.Error | None]


class Faulty(sqlite3.Connection):
    """A connection whose statements fail when the test says so. "after": the statement is done and fails all the same."""

    before: Fault = staticmethod(lambda statement: None)
    after: Fault = staticmethod(lambda statement: None)

    def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
        if error := Faulty.before(statement):
            raise error
        cursor = super().execute(statement, *arguments)
        if error := Faulty.after(statement):
            raise error
        return cursor


def error_of(code: int, text: str = "") -> sqlite3.Error:
    error = sqlite3.OperationalError(text or f"code {code}")
    error.sqlite_errorcode = code
    return error


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Faulty]]:
    """Every writing connection is a Faulty one."""
    connect = connection.aiosqlite.connect

    def with_faults(place: Any, **options: Any) -> Any:
        return connect(place, **options) if "uri" in options else connect(place, factory=Faulty, **options)

    monkeypatch.setattr(connection.aiosqlite, "connect", with_faults)
    yield Faulty
    Faulty.before = Faulty.after = staticmethod(lambda statement: None)


def once(wanted: str, error: sqlite3.Error) -> Fault:
    """The error, at the first statement that begins so."""
    told = iter([error])
    return lambda statement: next(told, None) if statement.startswith(wanted) else None


@contextmanager
def held_lock(folder: Path) -> Iterator[None]:
    """Another program has the file locked for writing."""
    other = sqlite3.connect(folder / "esb.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


async def test_a_locked_file_is_waited_for_without_holding_the_loop(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        with held_lock(tmp_path):
            task = asyncio.ensure_future(accept(store, "erp"))
            turns = 0
            for _ in range(20):
                await asyncio.sleep(0.002)
                turns += 1
            assert not task.done()
        assert turns == 20
        assert not (await task).duplicate


async def test_after_a_time_senders_are_refused_and_outcomes_wait_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BUSY_FOR", 0.02)
    async with opened(tmp_path) as store:
        (row,) = (await accept(store, "erp")).deliveries
        with held_lock(tmp_path):
            outcome = asyncio.ensure_future(settle(store, row))
            with pytest.raises(Busy):
                await accept(store, "erp")
            assert not outcome.done()
        assert (await outcome).state == "done"
        await check_books(store)


async def test_a_commit_that_raised_and_is_on_disk_is_acknowledged_after_looking_r4(
    tmp_path: Path, faulty: type[Faulty]
) -> None:
    async with opened(tmp_path) as store:
        faulty.after = once("COMMIT", error_of(sqlite3.SQLITE_IOERR, "disk I/O error"))
        stored = await asyncio.gather(*(accept(store, "erp") for _ in range(3)))
        assert all(isinstance(item, Stored) and not item.duplicate for item in stored)
        assert (await settle(store, stored[0].deliveries[0])).state == "done"
        await check_books(store)


async def test_a_commit_that_raised_and_is_not_on_disk_is_unknown_to_the_sender_r4(
    tmp_path: Path, faulty: type[Faulty]
) -> None:
    async with opened(tmp_path) as store:
        (row,) = (await accept(store, "erp")).deliveries
        faulty.before = once("COMMIT", error_of(sqlite3.SQLITE_IOERR, "disk I/O error"))
        outcomes = await asyncio.gather(
            accept(store, "erp"), accept(store, "erp"), settle(store, row), return_exceptions=True
        )
        assert [type(item) for item in outcomes[:2]] == [OutcomeUnknown, OutcomeUnknown]
        assert not isinstance(outcomes[2], BaseException)
        assert outcomes[2].state == "done"
        assert rows_of(tmp_path, "SELECT count(*) FROM message") == [(1,)]
        assert (await accept(store, "erp")).state == "open"
        await check_books(store)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_outcome_whose_commit_raised_is_settled_once(tmp_path: Path, faulty: type[Faulty], when: str) -> None:
    async with opened(tmp_path) as store:
        rows = [(await accept(store, "erp")).deliveries[0] for _ in range(2)]
        setattr(faulty, when, once("COMMIT", error_of(sqlite3.SQLITE_IOERR)))
        settled = await asyncio.gather(
            settle(store, rows[0]), settle(store, rows[1], "due", due=NOW, attempt=attempt())
        )
        assert [item.state for item in settled] == ["done", "open"]
        assert rows_of(tmp_path, "SELECT attempts FROM delivery ORDER BY id") == [(1,), (1,)]
        await check_books(store)


async def test_an_input_output_error_is_fatal_for_its_connection_and_nobody_is_acknowledged(
    tmp_path: Path, faulty: type[Faulty]
) -> None:
    made: list[Any] = []
    async with opened(tmp_path) as store:
        faulty.before = lambda statement: made.append(statement) or None  # type: ignore[func-returns-value]
        await accept(store, "erp")
        faulty.before = once("BEGIN", error_of(sqlite3.SQLITE_IOERR_FSYNC, "disk I/O error"))
        with pytest.raises(StoreError):
            await accept(store, "erp")
        assert (await accept(store, "erp")).state == "open"
        await check_books(store)


async def test_a_store_that_cannot_be_opened_again_accepts_nothing(
    tmp_path: Path, faulty: type[Faulty], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def reopen(self: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    async with opened(tmp_path) as store:
        monkeypatch.setattr(connection.Connection, "reopen", reopen)
        faulty.before = once("COMMIT", error_of(sqlite3.SQLITE_IOERR))
        with pytest.raises(OutcomeUnknown):
            await accept(store, "erp")
        with pytest.raises(StoreError, match="cannot be opened again"):
            await accept(store, "erp")
        assert store.room(["erp"]) is not None


async def test_a_damaged_page_found_under_way_stops_accepting_and_keeps_the_file(
    tmp_path: Path, faulty: type[Faulty]
) -> None:
    async with opened(tmp_path) as store:
        faulty.before = once("BEGIN", error_of(sqlite3.SQLITE_CORRUPT, "database disk image is malformed"))
        with pytest.raises(StoreCorrupt):
            await accept(store, "erp")
        with pytest.raises(StoreCorrupt):
            await accept(store, "erp")
        assert isinstance(store.room(["erp"]), StoreCorrupt)


async def test_a_read_only_disk_refuses_and_resumes_by_itself(tmp_path: Path, faulty: type[Faulty]) -> None:
    async with opened(tmp_path) as store:
        faulty.before = lambda statement: (
            error_of(sqlite3.SQLITE_READONLY, "attempt to write a readonly database")
            if statement.startswith("BEGIN")
            else None
        )
        with pytest.raises(StoreError, match="cannot be written"):
            await accept(store, "erp")
        faulty.before = staticmethod(lambda statement: None)
        assert (await accept(store, "erp")).state == "open"


async def pages(store: Store, more: int) -> int:
    """A disk that has room for so many more pages; gives those that the file has."""

    def limit(work: Any) -> int:
        found: int = work.db.execute("PRAGMA page_count").fetchone()[0]
        work.db.execute(f"PRAGMA max_page_count = {found + more}")
        return found

    return await store.act(limit)


async def test_on_a_full_disk_nothing_is_accepted_outcomes_go_on_and_accepting_resumes_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "LOOK_AGAIN", 0.0)
    async with opened(tmp_path, reserve=1_000_000) as store:
        assert (tmp_path / "reserve").stat().st_size == 1_000_000
        await pages(store, 40)
        rows = []
        with pytest.raises(StoreFull):
            for _ in range(1000):
                rows += (await accept(store, delivery("erp", body=b"x" * 20_000))).deliveries
        assert rows
        assert not (tmp_path / "reserve").exists()
        monkeypatch.setattr(space.Space, "free", lambda self: 0)
        refusal = store.room(["erp"])
        assert isinstance(refusal, StoreFull)
        with pytest.raises(StoreFull):
            await accept(store, "erp")
        assert [(await settle(store, row)).state for row in rows] == ["done"] * len(rows)
        await pages(store, 1_000_000)
        monkeypatch.setattr(space.Space, "free", lambda self: 10**12)
        assert (await accept(store, "erp")).state == "open"
        assert (tmp_path / "reserve").exists()
        await check_books(store)


async def test_nothing_new_is_accepted_before_the_disk_is_full_r9(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "LOOK_AGAIN", 0.0)
    async with opened(tmp_path, reserve=1_000_000) as store:
        (row,) = (await accept(store, "erp")).deliveries
        monkeypatch.setattr(space.Space, "free", lambda self: 100_000)
        with pytest.raises(StoreFull):
            await accept(store, "erp")
        assert (await settle(store, row)).state == "done"
        assert (tmp_path / "reserve").exists()


async def test_a_backlog_over_its_limit_refuses_only_who_may_reach_that_target_r9(tmp_path: Path) -> None:
    class Limits:
        rows = 8
        size = 1_000_000

    async with opened(tmp_path, limits=Limits()) as store:
        rows = [(await accept(store, "erp")).deliveries[0] for _ in range(2)]
        refusal = store.room(["wms", "erp"])
        assert isinstance(refusal, Busy)
        assert "erp" in str(refusal)
        assert store.room(["wms"]) is None
        store.limit("erp", rows=3)
        assert store.room(["erp"]) is None
        for target in ("a", "b", "c"):
            for _ in range(2):
                await accept(store, target)
        assert "outbox is full" in str(store.room(["wms"]))
        await settle(store, rows[0])
        assert store.room(["wms"]) is None
    async with opened(tmp_path, limits=Limits()) as store:
        assert store.room(["a"]) is not None


async def test_bytes_count_against_a_limit_too_r9(tmp_path: Path) -> None:
    class Limits:
        rows = 1000
        size = 400

    async with opened(tmp_path, limits=Limits()) as store:
        await accept(store, delivery("erp", body=b"x" * 100))
        assert store.room(["erp"]) is not None
        assert store.room(["wms"]) is None


async def test_a_job_that_fails_is_its_caller_s_affair(tmp_path: Path) -> None:
    def wrong(work: Any) -> None:
        work.db.execute("INSERT INTO paint VALUES (1)")

    def broken(work: Any) -> None:
        work.db.execute("INSERT INTO action VALUES (1, 'a', 'b', 'c', 'd')")
        raise KeyError("broken")

    async with opened(tmp_path) as store:
        with pytest.raises(StoreError, match="no such table"):
            await store.act(wrong)
        with pytest.raises(KeyError):
            await store.act(broken)
        assert rows_of(tmp_path, "SELECT count(*) FROM action") == [(0,)]
        stored = await accept(store, "erp")
        assert await state_of(store, stored.uid) == "open"


async def test_a_question_that_takes_too_long_is_broken_off(tmp_path: Path) -> None:
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
    async with opened(tmp_path) as store:
        with pytest.raises(Busy, match="too long"):
            await store.ask(lambda reader: reader.query(lambda db: db.execute(endless).fetchone()), seconds=0.02)
        assert (await store.account()).balanced


async def test_unbalanced_books_are_named(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await accept(store, "erp")
        stored = await accept(store, "erp")
        await settle(store, stored.deliveries[0])
        await store.act(lambda work: work.db.execute("DELETE FROM delivery WHERE id = 1") and None)
        account = await store.account()
        assert not account.balanced
        assert account.differences == ("deliveries of erp: 2 came in, 1 counted, 0 pruned",)
        await store.act(lambda work: work.db.execute("UPDATE message SET state = 'dead' WHERE id = 2") and None)
        account = await store.account()
        assert "messages of orders: 1 done, 0 counted, 0 pruned" in account.differences
        assert "messages of orders: 0 dead, 1 counted, 0 pruned" in account.differences
