"""A consistent copy of a store while it runs, and the way back."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

from msgspec import Struct

from esb.errors import StoreCorrupt, StoreError
from esb.store import account, copies, migrations, opening
from esb.store.bodies import PIECE
from esb.store.copies import Copied
from esb.store.opening import FILE, as_disk_error, as_store_error, connect_reading, sync_folder

_BODIES = "SELECT file, sha256 FROM body WHERE file IS NOT NULL"
_FRESH = f"{FILE}.restored"


class Restored(Struct, frozen=True):
    """What a restore has put in place, how many large bodies are among it, and whether its books balance."""

    copied: Copied
    bodies: int
    balanced: bool


def back_up(folder: Path, place: Path, at: float) -> None:
    """Copies the rows as they are at one moment, then the bodies they name (nothing may unlink them meanwhile).

    `place` must not be there before, and has its name only when the copy is whole. Blocks: call it in a thread. Raises
    StoreError.
    """
    part = place.with_name(f"{place.name}.part")
    if place.exists():
        raise StoreError(f"{place} is there already: a backup goes into a folder of its own", code="S562")
    try:
        part.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise StoreError(f"{part} cannot be made: {error.strerror}", code="S562") from error
    try:
        with _disk_errors(place):
            _copy_rows(folder / FILE, part / FILE, at)
            _copy_bodies(part / FILE, folder / "bodies", part / "bodies")
            part.rename(place)
            sync_folder(place.parent)
    except StoreError:
        shutil.rmtree(part, ignore_errors=True)
        raise


def restore(place: Path, folder: Path, at: float) -> Restored:
    """Puts a backup, or a stopped bus's whole `data`, where no store is; its first start holds everything (R29).

    The store has its name only when it is whole. Raises StoreError, StoreLocked, StoreCorrupt; nothing is replaced.
    """
    if not (place / FILE).exists():
        raise StoreError(f"there is no backup in {place}: {FILE} is missing", code="S560")
    with _unused(place), opening.locked(folder), _disk_errors(folder):
        opening.refuse_network(folder)
        _refuse_store(folder)
        opening.look(place / FILE)
        fresh = folder / _FRESH
        _copy_file(place / FILE, fresh)
        made = _settle(fresh, at)
        _copy_bodies(fresh, place / "bodies", folder / "bodies")
        (folder / "inflight").unlink(missing_ok=True)
        _sync(fresh)
        fresh.rename(folder / FILE)
        sync_folder(folder)
    return made


@contextmanager
def _disk_errors(place: Path) -> Iterator[None]:
    """What goes wrong with files, in the house's words."""
    try:
        yield
    except sqlite3.Error as error:
        raise as_store_error(error, place) from error
    except OSError as error:
        raise as_disk_error(error, error.filename or str(place)) from error


@contextmanager
def _unused(place: Path) -> Iterator[None]:
    """The folder that is copied is no running bus's; a backup has no lock and may lie where nobody can write."""
    with opening.locked(place) if (place / "lock").exists() else nullcontext():
        yield


def _refuse_store(folder: Path) -> None:
    """Whatever lies there is somebody's; a restore that was broken off is ours."""
    kept = [name for name in (FILE, f"{FILE}-wal") if (folder / name).exists()]
    bodies = folder / "bodies"
    if not kept and not (folder / _FRESH).exists() and bodies.exists() and any(bodies.iterdir()):
        kept = ["bodies"]
    if kept:
        raise StoreError(f"{folder} has a store already ({', '.join(kept)}): move {folder} aside first", code="S561")


def _copy_file(file: Path, fresh: Path) -> None:
    """The file with its -wal, if it has one. What an earlier restore left goes first: its -wal is another file's."""
    for end in ("", "-wal", "-shm"):
        fresh.with_name(f"{fresh.name}{end}").unlink(missing_ok=True)
    for end in ("", "-wal"):
        if file.with_name(f"{file.name}{end}").exists():
            shutil.copyfile(file.with_name(f"{file.name}{end}"), fresh.with_name(f"{fresh.name}{end}"))


def _settle(fresh: Path, at: float) -> Restored:
    """Looks over the copied rows and marks them as a copy."""
    fresh.chmod(0o600)
    with closing(sqlite3.connect(fresh, isolation_level=None)) as db:
        migrations.recognise(db, fresh)
        if finding := opening.check(db):
            raise StoreCorrupt(f"the backup is damaged: {finding}; take an earlier one")
        copies.mark(db, at)
        found = copies.copied(db)
        assert found is not None
        balanced = account.account_now(db).balanced
        bodies = db.execute(f"SELECT count(*) FROM ({_BODIES})").fetchone()[0]
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return Restored(found, bodies, balanced)


def _copy_rows(file: Path, copy: Path, at: float) -> None:
    """In one step under one read lock: the copy is of one moment, and writing goes on beside it."""
    with closing(connect_reading(file)) as source, closing(sqlite3.connect(copy, isolation_level=None)) as target:
        source.backup(target, pages=-1)
        target.execute("UPDATE node SET clean = 1")
        copies.mark(target, at)
        target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    copy.chmod(0o600)


def _copy_bodies(rows: Path, bodies: Path, place: Path) -> None:
    """The bodies that rows name, each held against its SHA-256."""
    place.mkdir(mode=0o700, exist_ok=True)
    with closing(sqlite3.connect(rows, isolation_level=None)) as db:
        for name, digest in db.execute(_BODIES).fetchall():
            if _copy_body(bodies / name, place / name) != digest and digest is not None:
                raise StoreCorrupt(f"{bodies / name} is not the body that was accepted")
    sync_folder(place)
    sync_folder(place.parent)


def _copy_body(body: Path, copy: Path) -> bytes:
    """Copied and fsynced; gives its SHA-256."""
    digest = hashlib.sha256()
    with body.open("rb") as source, copy.open("wb") as target:
        while piece := source.read(PIECE):
            target.write(piece)
            digest.update(piece)
        target.flush()
        os.fsync(target.fileno())
    return digest.digest()


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
