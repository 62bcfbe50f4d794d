"""Markers: a file that says that others are complete, used up together with them.

What a marker releases is written down before the marker goes, and forgotten when all of it is claimed: wherever a crash
comes between, the same files are claimed at the next start, and the marker releases no later ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from esb_plugins.file import folders
from esb_plugins.file.folders import Seen
from msgspec import Struct

NAME = "NAME"
_RECORD = re.compile(r"\.[0-9a-f]{32}\.release")


class Release(Struct, frozen=True):
    """A marker as it was seen, and the files that it releases as they were."""

    marker: Seen
    files: tuple[Seen, ...]


class Trigger:
    """`all.ok` releases all files of its folder; `NAME.ok` the one whose name stands for NAME."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._each = NAME in text
        pattern = re.escape(text).replace(NAME, ".+", 1) if self._each else re.escape(text)
        self._pattern = re.compile(pattern, re.DOTALL)

    def is_marker(self, name: str) -> bool:
        return self._pattern.fullmatch(name) is not None

    def releases(self, folder: Path, present: Sequence[Seen], ready: Sequence[Seen]) -> list[Release]:
        """What the markers of a folder release now. One for all waits until all that is there is settled."""
        if self._each:
            found = ((folders.seen(folder, self._text.replace(NAME, item.name, 1)), item) for item in ready)
            return [Release(marker, (item,)) for marker, item in found if marker is not None]
        marker = folders.seen(folder, self._text)
        if marker is None or not ready or len(ready) < len(present):
            return []
        return [Release(marker, tuple(ready))]


def carry_out(folder: Path, work: Path, release: Release) -> list[Path]:
    """The files of a release, claimed; its marker is used up. Raises OSError: then `unfinished` goes on from there."""
    work.mkdir(exist_ok=True)
    record = work / f".{uuid4().hex}.release"
    folders.write_over(record, "".join(_line(item) for item in (release.marker, *release.files)).encode())
    return _carry_out(folder, work, release, record)


def unfinished(folder: Path, work: Path) -> None:
    """Claims what a crash left unclaimed of earlier releases."""
    if not work.is_dir():
        return
    for record in sorted(path for path in work.iterdir() if _RECORD.fullmatch(path.name)):
        marker, *files = (_seen(line) for line in record.read_text().splitlines())
        _carry_out(folder, work, Release(marker, tuple(files)), record)


def _carry_out(folder: Path, work: Path, release: Release, record: Path) -> list[Path]:
    if folders.seen(folder, release.marker.name) == release.marker:
        (folder / release.marker.name).unlink(missing_ok=True)
        folders.sync(folder)
    claimed = [folders.claim(folder, work, item) for item in release.files]
    record.unlink()
    folders.sync(work)
    return [path for path in claimed if path is not None]


def _line(item: Seen) -> str:
    """Names are bytes, and may hold line breaks."""
    return f"{item.size} {item.mtime} {item.inode} {os.fsencode(item.name).hex()}\n"


def _seen(line: str) -> Seen:
    size, mtime, inode, name = line.split(" ")
    return Seen(os.fsdecode(bytes.fromhex(name)), int(size), int(mtime), int(inode))
