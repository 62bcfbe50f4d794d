"""Folders: looking without following links, claiming by rename, moving across devices, fsync of what was renamed."""

from __future__ import annotations

import errno
import filecmp
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

from msgspec import Struct

PART = re.compile(r"\.[0-9a-f]{32}\.part")
"""The names of files that are being written."""
STALE = 3600.0
"""Seconds after which nobody is writing such a file any more."""
UNTAKEN = (".bad.csv", ".part", ".tmp", ".reason.txt")
"""Endings that a file source never takes."""
LONGEST = 255
"""Bytes of a file's name at most, on the file systems there are."""
_CLAIMED = re.compile(r"([0-9a-f]{32})\.(.+)", re.DOTALL)
_ID = re.compile(r"[0-9a-f]{32}")


class Seen(Struct, frozen=True):
    """A file as one look saw it: what must stay the same until it is settled."""

    name: str
    size: int
    mtime: int
    inode: int


def look(folder: Path, match: str) -> list[Seen]:
    """Plain files that match, by name; links, FIFOs, devices and folders are passed by. Raises OSError when the folder
    is away."""
    found: list[Seen] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(".") or name.endswith(UNTAKEN) or not fnmatchcase(name, match):
                continue
            try:
                state = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(state.st_mode):
                found.append(Seen(name, state.st_size, state.st_mtime_ns, state.st_ino))
    return sorted(found, key=lambda seen: os.fsencode(seen.name))


def seen(folder: Path, name: str) -> Seen | None:
    """One plain file as it is now; None where there is none of this name."""
    try:
        state = (folder / name).stat(follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
            return None
        raise
    return Seen(name, state.st_size, state.st_mtime_ns, state.st_ino) if stat.S_ISREG(state.st_mode) else None


def claim(folder: Path, work: Path, item: Seen) -> Path | None:
    """The file under a random id in the work folder; None when it is gone, taken by somebody else, or no longer what
    was seen. A name too long for an id before it gets a folder of that id: it keeps every byte."""
    if seen(folder, item.name) != item:
        return None
    work.mkdir(exist_ok=True)
    name = uuid4().hex
    claimed = work / f"{name}.{item.name}"
    if len(os.fsencode(claimed.name)) > LONGEST:
        (work / name).mkdir()
        claimed = work / name / item.name
    try:
        (folder / item.name).rename(claimed)
    except FileNotFoundError:
        return None
    sync(claimed.parent)
    sync(work)
    return claimed


def claimed(work: Path) -> list[Path]:
    """What an earlier run claimed and did not finish."""
    if not work.is_dir():
        return []
    found: list[Path] = []
    for path in work.iterdir():
        if _ID.fullmatch(path.name) and path.is_dir():
            found += _alone(path)
        elif _CLAIMED.fullmatch(path.name) and not path.is_symlink():
            found.append(path)
    return sorted(found, key=lambda path: os.fsencode(claim_of(path)[1]))


def _alone(folder: Path) -> list[Path]:
    """The one file of a long name's folder; an empty one is what a crash left."""
    inside = list(folder.iterdir())
    if not inside:
        folder.rmdir()
    return inside


def claim_of(path: Path) -> tuple[str, str]:
    """The claim's id and the file's own name."""
    if _ID.fullmatch(path.parent.name):
        return path.parent.name, path.name
    found = _CLAIMED.fullmatch(path.name)
    assert found is not None
    return found[1], found[2]


def finish(path: Path) -> None:
    """After a claimed file went: a long name's folder goes too."""
    if _ID.fullmatch(path.parent.name):
        path.parent.rmdir()


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex; links are not followed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def numbered(name: str) -> Iterator[str]:
    """The name, then the same with a number before its endings, shortened where it would be too long."""
    yield name
    stem, dot, ending = name.partition(".")
    for number in count(2):
        yield fitting(stem, f"-{number}{dot}{ending}")


def fitting(stem: str, ending: str) -> str:
    """A name of at most 255 bytes: the stem gives way."""
    room = LONGEST - len(os.fsencode(ending))
    return os.fsdecode(os.fsencode(stem)[:room]) + ending if room > 0 else os.fsdecode(os.fsencode(ending)[-LONGEST:])


NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""What a file system says that has no hard links (vfat, exFAT, some shares): a name is looked for, then taken."""


def place_new(path: Path, folder: Path, name: str, *, number: bool = True) -> Path:
    """Gives a file its name in a folder, and never another's: a hard link fails where a rename would overwrite.
    Raises FileExistsError when the name is taken and `number` is not wanted."""
    for fresh in numbered(name) if number else (name,):
        if _took(path, folder / fresh):
            sync(folder)
            return folder / fresh
    raise FileExistsError(name)


def _took(path: Path, wanted: Path) -> bool:
    """Whether the file has that name now; False where another has it."""
    try:
        os.link(path, wanted, follow_symlinks=False)
    except FileExistsError:
        # A death between the link and the unlink below left the file under both names: it is not another's.
        if not _is_same(path, wanted):
            return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if seen(wanted.parent, wanted.name) is not None:
            return False
        path.rename(wanted)
        return True
    path.unlink()
    return True


def same(path: Path, folder: Path, name: str, *, number: bool = True) -> str | None:
    """The name, numbered or not, under which a folder has a file's bytes already."""
    for taken in numbered(name) if number else (name,):
        if seen(folder, taken) is None:
            return None
        if filecmp.cmp(folder / taken, path, shallow=False):
            return taken
    return None


def _is_same(path: Path, other: Path) -> bool:
    return os.path.samestat(path.stat(follow_symlinks=False), other.stat(follow_symlinks=False))


def move(path: Path, folder: Path, name: str) -> Path:
    """Into a folder that is made when it is not there, numbered when the name is taken; copied first when the folder is
    on another device."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return place_new(path, folder, name)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    part = folder / f".{uuid4().hex}.part"
    try:
        shutil.copy2(path, part, follow_symlinks=False)
        sync_file(part)
        place = place_new(part, folder, name)
    finally:
        part.unlink(missing_ok=True)
    path.unlink()
    return place


def sweep(folder: Path) -> None:
    """Removes what a process that was killed left half written an hour ago or more."""
    for part in folder.glob(".*.part"):
        if PART.fullmatch(part.name) and time.time() - part.lstat().st_mtime > STALE:
            part.unlink(missing_ok=True)


def begin_part(folder: Path) -> BinaryIO:
    """A new file under a temporary name."""
    return (folder / f".{uuid4().hex}.part").open("xb")


def finish_part(file: BinaryIO) -> None:
    """All that was written is on disk when it returns."""
    with file:
        file.flush()
        os.fsync(file.fileno())


def write_part(folder: Path, data: bytes) -> Path:
    """The data under a temporary name in a folder, fsynced; nothing is left of what could not be written."""
    file = begin_part(folder)
    try:
        with file:
            file.write(data)
            finish_part(file)
    except OSError:
        Path(file.name).unlink(missing_ok=True)
        raise
    return Path(file.name)


def write_over(place: Path, data: bytes) -> None:
    """A whole file or the one before: temporary name, fsync, rename, fsync of the folder."""
    write_part(place.parent, data).rename(place)
    sync(place.parent)


def sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync(folder: Path) -> None:
    """A rename is on disk when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
