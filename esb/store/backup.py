"""A consistent copy of a store while it runs."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

from esb.errors import StoreError
from esb.store import reading
from esb.store.opening import FILE, as_disk_error, as_store_error, connect_reading, sync_folder


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
        descriptor = os.open(copies / name, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sync_folder(copies)
    sync_folder(place)
