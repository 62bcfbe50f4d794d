"""Opening a store: one process, a local disk, the right pragmas, a file that is sound (R8)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from esb.errors import StoreCorrupt, StoreError, StoreLocked

VERSION = 1
PAGE = 4096
CHECK_UP_TO = 1_000_000_000
"""Bytes of a file that is checked whole before accepting, after an unclean end."""
RESERVE = 64_000_000
"""Bytes kept back for the day the disk fills (R9)."""
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afs", "glusterfs", "ceph"}

_SCHEMA = Path(__file__).with_name("schema.sql")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """This process alone has the folder; raises StoreLocked with the holder's process id."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise StoreLocked(f"the store in {folder} is open in process {holder}") from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def refuse_network(folder: Path) -> None:
    """SQLite's locks and fsync cannot be trusted over a network; raises StoreError."""
    kind = file_system(folder)
    if kind in NETWORK:
        raise StoreError(f"{folder} lies on {kind}: the store needs a local disk; set [bus] data to one")


def file_system(folder: Path) -> str:
    """The type of the file system a folder lies on; "" where that cannot be told."""
    best, kind = "", ""
    place = str(folder.resolve())
    with contextlib.suppress(OSError):
        for line in Path("/proc/mounts").read_text().splitlines():
            _, mount, found = line.split(" ")[:3]
            if (place + "/").startswith(mount.rstrip("/") + "/") and len(mount) >= len(best):
                best, kind = mount, found
    return kind


def prepare(folder: Path, *, durable: bool) -> bool:
    """Makes or checks the file. Gives whether the last end was clean. Raises StoreCorrupt, StoreError."""
    file = folder / "esb.db"
    refuse_network(folder)
    fresh = not file.exists()
    if not fresh and file.stat().st_size < 100:
        raise StoreCorrupt(
            f"{file} is no store: it has {file.stat().st_size} bytes; it is kept, move it aside yourself"
        )
    _keep_reserve(folder)
    db = connect(file, durable=durable)
    try:
        return _prepared(db, file, fresh)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            raise StoreLocked(f"{file} is locked by another program") from error
        raise StoreCorrupt(f"{file}: {error}; the file is kept as it is") from error
    finally:
        db.close()


def _prepared(db: sqlite3.Connection, file: Path, fresh: bool) -> bool:
    if fresh:
        _create(db)
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise StoreError(f"{file} was written by a newer esb (schema {version}, this one knows {VERSION})")
    if version == 0:
        _create(db)
    if db.execute("PRAGMA auto_vacuum").fetchone()[0] != 2 or db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        raise StoreError(f"{file} has other settings than esb gives a store; it was made by something else")
    clean = db.execute("SELECT value FROM mark WHERE name = 'clean'").fetchone()
    was_clean = fresh or (clean is not None and clean[0] == 1)
    if not was_clean and file.stat().st_size <= CHECK_UP_TO:
        found = db.execute("PRAGMA quick_check(3)").fetchall()
        if found != [("ok",)]:
            raise StoreCorrupt(f"{file} is damaged: {found[0][0]}; it is kept as it is")
    db.execute("INSERT INTO mark VALUES ('clean', 0) ON CONFLICT (name) DO UPDATE SET value = 0")
    db.commit()
    return was_clean


def _create(db: sqlite3.Connection) -> None:
    """One transaction: an interrupted creation leaves an empty file that is made again."""
    script = _SCHEMA.read_text()
    db.execute("BEGIN IMMEDIATE")
    for statement in _statements(script):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("INSERT INTO mark VALUES ('clean', 1)")
    db.execute("COMMIT")


def _statements(script: str) -> Iterator[str]:
    lines: list[str] = []
    for line in script.splitlines():
        lines.append(line)
        if sqlite3.complete_statement("\n".join(lines)):
            yield "\n".join(lines)
            lines = []


def connect(file: Path, *, durable: bool = True) -> sqlite3.Connection:
    """A writing connection with the pragmas in the order that keeps auto_vacuum."""
    db = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=10.0)
    dress(db, durable=durable)
    return db


def dress(db: sqlite3.Connection, *, durable: bool) -> None:
    """The settings of a writing connection."""
    db.execute(f"PRAGMA page_size = {PAGE}")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
    db.execute("PRAGMA cache_size = -16000")
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute("PRAGMA wal_autocheckpoint = 2000")


def connect_reading(file: Path) -> sqlite3.Connection:
    """A connection that cannot write; works beside a running bus and on a stopped one."""
    db = sqlite3.connect(f"file:{file}?mode=ro", uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
    db.execute("PRAGMA query_only = 1")
    return db


def _keep_reserve(folder: Path) -> None:
    """Space that is given back to the disk when it is full, so that outcomes can still be written."""
    reserve = folder / "reserve"
    if reserve.exists() and reserve.stat().st_size == RESERVE:
        return
    with contextlib.suppress(OSError), reserve.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, RESERVE)


def release_reserve(folder: Path) -> bool:
    """Gives the reserve back; False when it was gone already."""
    with contextlib.suppress(FileNotFoundError):
        (folder / "reserve").unlink()
        return True
    return False
