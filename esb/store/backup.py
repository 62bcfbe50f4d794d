"""A consistent copy of a store while it runs, and a store made of such a copy (R29)."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from esb.errors import StoreError
from esb.store import migrations, reading
from esb.store.opening import FILE, as_disk_error, as_store_error, connect_reading, locked, sync_folder


class Restored(Struct, frozen=True):
    """A store that was made of a copy: its node and generation, when the copy was made (seconds since the epoch, None
    where it never ran), and for each target how many deliveries wait that may have gone out since."""

    node: str
    generation: int
    made: float | None
    may_repeat: dict[str, int]


def back_up(folder: Path, place: Path) -> None:
    """Copies the rows as they are at one moment, then the bodies they name (nothing may unlink them meanwhile).

    `place` is made, and must not be there before. Blocks: call it in a thread. Raises StoreError.
    """
    try:
        place.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise StoreError(f"{place} cannot be made: {error.strerror}") from error
    try:
        _copy_rows(folder / FILE, place / FILE)
        _copy_bodies(folder / "bodies", place)
    except sqlite3.Error as error:
        raise as_store_error(error, place) from error
    except OSError as error:
        raise as_disk_error(error, str(place)) from error


def _copy_rows(file: Path, copy: Path) -> None:
    """In one step under one read lock: the copy is of one moment, and writing goes on beside it."""
    source = connect_reading(file)
    target = sqlite3.connect(copy, isolation_level=None)
    try:
        source.backup(target, pages=-1)
        target.execute("UPDATE node SET clean = 1")
        target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        target.close()
        source.close()
    copy.chmod(0o600)


def _copy_bodies(bodies: Path, place: Path) -> None:
    copies = place / "bodies"
    copies.mkdir(mode=0o700)
    rows = connect_reading(place / FILE)
    try:
        names = reading.files(rows)
    finally:
        rows.close()
    for name in names:
        shutil.copyfile(bodies / name, copies / name)
        _sync(copies / name)
    sync_folder(copies)
    sync_folder(place)


def restore(place: Path, folder: Path, targets: Sequence[str]) -> Restored:
    """Makes the store in `folder` of a copy. Its generation is one higher, every target is paused with the reason, and
    what the broker had is due again: what went out since the copy was made would go out once more, with the same id.

    The copy stays as it is. Raises StoreError where a store is there already, or the copy is none.
    """
    if not (place / FILE).is_file():
        raise StoreError(f"there is no copy of a store in {place}")
    with locked(folder):
        if (folder / FILE).exists():
            raise StoreError(f"there is a store in {folder} already: move it aside first")
        fresh = folder / f"{FILE}.restored"
        try:
            shutil.copyfile(place / FILE, fresh)
            (folder / "inflight").unlink(missing_ok=True)
            shutil.copytree(place / "bodies", folder / "bodies", dirs_exist_ok=True)
            made = _begun_anew(fresh, targets)
            _sync(fresh)
            fresh.rename(folder / FILE)
            sync_folder(folder)
        except sqlite3.Error as error:
            raise as_store_error(error, place) from error
        except OSError as error:
            raise as_disk_error(error, str(folder)) from error
    return made


def _begun_anew(file: Path, targets: Sequence[str]) -> Restored:
    db = sqlite3.connect(file, isolation_level=None)
    try:
        migrations.recognise(db, file)
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE node SET generation = generation + 1, clean = 1")
        db.execute("UPDATE delivery SET state = 'due', due = 0, holder = NULL WHERE state = 'forwarded'")
        rows = db.execute("SELECT target, count(*) FROM delivery WHERE state = 'due' GROUP BY target").fetchall()
        waiting = {str(target): int(count) for target, count in rows}
        for target in sorted({*targets, *waiting}):
            reason = f"restored from a copy: {waiting.get(target, 0)} deliveries may go out a second time"
            db.execute(
                "INSERT OR REPLACE INTO pause (scope, name, reason, by) VALUES ('target', ?, ?, 'restore')",
                (target, reason),
            )
        node, generation, seen = db.execute("SELECT id, generation, seen FROM node").fetchone()
        db.execute("COMMIT")
    finally:
        db.close()
    file.chmod(0o600)
    return Restored(node, generation, seen, waiting)


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
