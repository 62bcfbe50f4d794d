"""Folders: looking without following links, claiming by rename, moving across devices, fsync of what was renamed."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
from fnmatch import fnmatchcase
from pathlib import Path
from uuid import uuid4

from msgspec import Struct

UNTAKEN = (".bad.csv", ".part", ".tmp", ".reason.txt")
"""Endings that a file source never takes."""
_CLAIMED = re.compile(r"([0-9a-f]{32})\.(.+)", re.DOTALL)


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


def claim(folder: Path, work: Path, name: str) -> Path | None:
    """The file under a random id in the work folder; None when somebody else was quicker."""
    work.mkdir(exist_ok=True)
    short = os.fsdecode(os.fsencode(name)[-200:])
    claimed = work / f"{uuid4().hex}.{short}"
    try:
        (folder / name).rename(claimed)
    except FileNotFoundError:
        return None
    sync(work)
    return claimed


def claimed(work: Path) -> list[Path]:
    """What an earlier run claimed and did not finish."""
    if not work.is_dir():
        return []
    return sorted(path for path in work.iterdir() if _CLAIMED.fullmatch(path.name) and not path.is_symlink())


def claim_of(path: Path) -> tuple[str, str]:
    """The claim's id and the file's own name."""
    found = _CLAIMED.fullmatch(path.name)
    assert found is not None
    return found[1], found[2]


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex; links are not followed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_name(folder: Path, name: str) -> Path:
    """The name in a folder, with a number when it is taken."""
    place = folder / name
    stem, dot, ending = name.partition(".")
    number = 1
    while place.exists() or place.is_symlink():
        number += 1
        place = folder / f"{stem}-{number}{dot}{ending}"
    return place


def move(path: Path, folder: Path, name: str) -> Path:
    """Into a folder that is made when it is not there; copied, fsynced and renamed when it is on another device."""
    folder.mkdir(parents=True, exist_ok=True)
    place = free_name(folder, name)
    try:
        path.rename(place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        part = folder / f".{uuid4().hex}.part"
        shutil.copy2(path, part, follow_symlinks=False)
        sync_file(part)
        part.rename(place)
        path.unlink()
    sync(folder)
    return place


def write_new(place: Path, data: bytes) -> None:
    """A whole file or none: temporary name, fsync, rename, fsync of the folder."""
    part = place.parent / f".{uuid4().hex}.part"
    with part.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.rename(place)
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
