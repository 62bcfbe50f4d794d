"""Opening a store: one process, a local disk, the right pragmas, a sound file (R8). Nothing is ever replaced."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from esb.errors import StoreCorrupt, StoreError, StoreFull, StoreLocked
from esb.store import migrations

log = logging.getLogger(__name__)

FILE = "esb.db"
PAGE = 8192
CHECK_UP_TO = 1_000_000_000
"""Bytes of a file that is checked whole before accepting, after an unclean end."""
WAL_PAGES = 2000
"""Pages in the WAL after which a commit copies them into the file (16 MB)."""
OLDEST = (3, 37, 0)
NETWORK = re.compile(
    "nfs4?|cifs|smb[23]?|smbfs|ncpfs|afs|9p|(fuse[.])?(ceph|cephfs|glusterfs|sshfs|s3fs|rclone|davfs)"
    "|davfs2?|lustre|gpfs|ocfs2|gfs2|beegfs"
)
_MAGIC = b"SQLite format 3\0"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """This process alone has the folder; raises StoreLocked with the holder's process id."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{folder} cannot be used for the store: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "of unknown number"
        os.close(descriptor)
        raise StoreLocked(f"the store in {folder} is open in process {holder}") from error
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def refuse_network(folder: Path) -> None:
    """SQLite's locks and fsync cannot be trusted over a network; raises StoreError."""
    kind = file_system(folder)
    if NETWORK.fullmatch(kind):
        raise StoreError(f"{folder} lies on {kind}: the store needs a local disk; set [bus] data to a folder on one")


def file_system(folder: Path) -> str:
    """The type of the file system a folder lies on; "" where that cannot be told."""
    with contextlib.suppress(OSError, ValueError):
        device = folder.resolve().stat().st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            left, _, right = line.partition(" - ")
            if left.split(" ")[2] == wanted:
                return right.split(" ")[0]
    return ""


def make(folder: Path, node: str) -> bool:
    """Makes the file where there is none; False when there is one. It has its name only when it is whole, so that a
    file with nothing in it never comes from here."""
    refuse_network(folder)
    if sqlite3.sqlite_version_info < OLDEST:
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old: the store needs {'.'.join(map(str, OLDEST))}")
    file = folder / FILE
    if file.exists():
        return False
    if (folder / f"{FILE}-wal").exists():
        raise StoreCorrupt(f"{file} is gone, its -wal file is there: put {FILE} back, or move {FILE}-wal aside")
    fresh = folder / f"{FILE}.new"
    for name in (fresh.name, f"{fresh.name}-wal", f"{fresh.name}-shm"):
        (folder / name).unlink(missing_ok=True)
    try:
        _build(fresh, node)
    except sqlite3.Error as error:
        raise as_store_error(error, fresh) from error
    fresh.rename(file)
    sync_folder(folder)
    return True


def _build(fresh: Path, node: str) -> None:
    """The order matters: auto_vacuum after journal_mode would silently stay off."""
    db = sqlite3.connect(fresh, isolation_level=None)
    try:
        db.execute(f"PRAGMA page_size = {PAGE}")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        migrations.create(db, node)
    finally:
        db.close()
    fresh.chmod(0o600)
    descriptor = os.open(fresh, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def look(file: Path) -> None:
    """What can be said of a file before SQLite touches it; raises StoreCorrupt."""
    with file.open("rb") as opened:
        head = opened.read(100)
    if not head:
        raise StoreCorrupt(f"{file} is empty; it is kept: put the right file back, or move this one aside")
    if len(head) < 100 or not head.startswith(_MAGIC):
        raise StoreCorrupt(f"{file} is not a database; it is kept: put the right file back, or move this one aside")


def dress(db: sqlite3.Connection, *, durable: bool) -> None:
    """The settings of the writing connection, and those of the file looked at again; raises StoreError."""
    db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
    db.execute("PRAGMA cache_size = -32000")
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute("PRAGMA secure_delete = FAST")
    db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    db.execute(f"PRAGMA journal_size_limit = {4 * WAL_PAGES * PAGE}")
    found = tuple(db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("auto_vacuum", "journal_mode"))
    if found != (2, "wal"):
        raise StoreError(f"the store's file has auto_vacuum {found[0]} and journal_mode {found[1]}: not made by esb")


def check(db: sqlite3.Connection) -> str:
    """What `quick_check` finds first; "" for a sound file."""
    try:
        found = db.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if primary(error) in (sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_BUSY):
            raise
        return str(error)
    return "" if found[0] == "ok" else str(found[0])


def behind(db: sqlite3.Connection, committed: tuple[int, int]) -> str:
    """R8, fault 39: the newest committed rows are missing, so the -wal file is gone or the file is an older copy;
    "" when all is there."""
    _, message, delivery = migrations.numbers(db)
    lost = [
        f"{name} {here} of {last}"
        for name, here, last in (("message", message, committed[0]), ("delivery", delivery, committed[1]))
        if here < last
    ]
    return ", ".join(lost)


def connect_reading(file: Path) -> sqlite3.Connection:
    """A connection that cannot write; beside a running bus and on a stopped one."""
    db = sqlite3.connect(f"file:{_quoted(file)}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA query_only = 1")
    return db


def _quoted(file: Path) -> str:
    return str(file.resolve()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def reading_address(file: Path) -> str:
    """The URI of a connection that cannot write."""
    return f"file:{_quoted(file)}?mode=ro"


def sync_folder(folder: Path) -> None:
    """A rename is on disk when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def primary(error: sqlite3.Error) -> int:
    """SQLite's own result code; 0 where the error is not SQLite's."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def as_store_error(error: sqlite3.Error, file: Path | str = "the store") -> StoreError:
    """SQLite's error in the house's words."""
    match primary(error):
        case sqlite3.SQLITE_FULL:
            return StoreFull(f"{file}: the disk is full")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StoreCorrupt(f"{file} is damaged ({error}); it is kept as it is")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreLocked(f"{file} is locked by another program")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return StoreError(f"{file} cannot be written: {error}; are the folder and the disk writable?")
        case _:
            return StoreError(f"{file}: {error}")


def as_disk_error(error: OSError, what: str) -> StoreError:
    """An operating system's error in the house's words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"{what}: the disk is full")
    return StoreError(f"{what}: {error.strerror or error}")
