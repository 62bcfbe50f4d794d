"""Archives: unpacked whole into a scratch folder, or refused whole. Members lie there under numbers: no name in an
archive ever becomes a path."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final, Literal, Protocol, cast

from msgspec import Struct

from esb import MessageError, Size

Kind = Literal["zip", "tar", "tar.gz", "gz"]

_ENDINGS: Final[tuple[tuple[str, Kind], ...]] = (
    (".zip", "zip"), (".tar.gz", "tar.gz"), (".tgz", "tar.gz"), (".tar", "tar"), (".gz", "gz"),
)  # fmt: skip
_PIECE: Final = 65_536
_FREE: Final = 1_000_000
"""Unpacked bytes below which no ratio is looked at: a small file of blanks is no bomb."""
_LONGEST_HEADER: Final = 1_000_000
"""Bytes that tarfile may ask for at once; it asks for as many as a header says that it is long."""
_LONGEST_NAME: Final = 1000
_BLOCK: Final = 512
_DIRECTORY_END: Final = b"PK\x05\x06"
_LOCATOR_64: Final = b"PK\x06\x07"
_ENTRY: Final = 400
"""Bytes of an entry in a zip's directory: 46, and names and notes."""
_DRIVE: Final = re.compile(r"[A-Za-z]:")
_BROKEN: Final = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, RuntimeError,
    struct.error, UnicodeError, ValueError, OverflowError,
)  # fmt: skip
"""What the readers raise for bytes that are no archive, or half of one."""


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Unpack(Struct, frozen=True, forbid_unknown_fields=True):
    """The limits of one archive: members, bytes unpacked, and how many times larger than packed (from 1 MB on)."""

    files: int = 10_000
    size: Size = Size(1_000_000_000)
    ratio: int = 200


class Member(Struct, frozen=True):
    """One file of an archive: its name in it, where it lies unpacked, its size and its SHA-256 in hex."""

    name: str
    path: Path
    size: int
    sha256: str

    @property
    def base(self) -> str:
        """The last part of its name."""
        return _parts(self.name)[-1]


def kind_of(name: str) -> Kind | None:
    """Which archive a file's name says it is; None for a plain file."""
    lowered = name.lower()
    return next((kind for ending, kind in _ENDINGS if lowered.endswith(ending) and lowered != ending), None)


def unpack(path: Path, name: str, scratch: Path, limits: Unpack) -> list[Member]:
    """Every member, in the archive's order, in a fresh scratch folder.

    Raises MessageError M296 for an archive that is not wholly sound: then no member is to be used. Raises OSError when
    the disk fails.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    room = _Room(limits, path.stat(follow_symlinks=False).st_size)
    try:
        found = list(_members(path, name, scratch, room))
    except _BROKEN as error:
        raise _refused(f"it cannot be read: {error or type(error).__name__}") from error
    if not found:
        raise _refused("there is no file in it")
    return found


def _refused(why: str) -> MessageError:
    return MessageError(f"the archive is refused: {why}", code="M296")


def _members(path: Path, name: str, scratch: Path, room: _Room) -> Iterator[Member]:
    match kind_of(name):
        case "zip":
            yield from _zipped(path, scratch, room)
        case "tar":
            yield from _tarred(path, scratch, room)
        case "tar.gz":
            inner = scratch / "tar"
            with gzip.open(path) as packed:
                _copy(packed, inner, room.spare())
            yield from _tarred(inner, scratch, room)
            inner.unlink()
        case _:
            with gzip.open(path) as packed:
                yield room.keep(packed, name[: -len(".gz")], scratch)


class _Room:
    """What is left of the limits. Counts what really comes out, whatever a header says."""

    def __init__(self, limits: Unpack, packed: int) -> None:
        self._limits = limits
        self._packed = max(packed, 1)
        self._names: set[str] = set()
        self._size = 0

    def admit(self, name: str, said: int = 0) -> None:
        """A name, checked; `said` is the size that its header tells. Raises MessageError."""
        _check_name(name)
        same = "/".join(_parts(name))
        if same in self._names:
            raise _refused(f"two members are called {_shown(name)}")
        self._names.add(same)
        if len(self._names) > self._limits.files:
            raise _refused(f"over {self._limits.files} members (option unpack: files)")
        self._allow(self._size + said)

    def keep(self, data: Readable, name: str, scratch: Path, said: int = 0) -> Member:
        """A member's bytes, in the scratch folder under their number."""
        self.admit(name, said)
        place = scratch / f"{len(self._names):06}"
        size, digest = _copy(data, place, self._take)
        return Member(name, place, size, digest)

    def allow_directory(self, size: int) -> None:
        if size > _ENTRY * (self._limits.files + 100):
            raise _refused(f"a directory of {size} bytes, for over {self._limits.files} members (option unpack: files)")

    def spare(self) -> Callable[[int], None]:
        """Counts a tar on its way through gzip: its headers come on top of its members."""
        seen = 0

        def count(more: int) -> None:
            nonlocal seen
            seen += more
            self._allow(max(0, seen - _BLOCK * 4 * (self._limits.files + 1)))

        return count

    def _take(self, more: int) -> None:
        self._size += more
        self._allow(self._size)

    def _allow(self, size: int) -> None:
        if size > self._limits.size:
            raise _refused(f"over {self._limits.size} unpacked (option unpack: size)")
        if size > _FREE and size > self._packed * self._limits.ratio:
            raise _refused(f"over {self._limits.ratio} times larger unpacked than packed (option unpack: ratio)")


def _parts(name: str) -> list[str]:
    """A name's parts; tools of Windows write backslashes."""
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]


def _check_name(name: str) -> None:
    """Raises MessageError for a name that leads elsewhere, though nothing is ever written under it."""
    parts = _parts(name)
    if name.startswith(("/", "\\")) or _DRIVE.match(name):
        raise _refused(f"the member {_shown(name)} has an absolute name")
    if ".." in parts:
        raise _refused(f"the member {_shown(name)} leads out of the archive by ..")
    if not parts or "\0" in name or len(name) > _LONGEST_NAME:
        raise _refused(f"the member {_shown(name)} has a name that no file can have")


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:80]}...")


def _zipped(path: Path, scratch: Path, room: _Room) -> Iterator[Member]:
    _check_directory(path, room)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            _check_entry(info)
            if info.is_dir() and not info.file_size:
                room.admit(info.orig_filename)
                continue
            with archive.open(info) as data:
                yield room.keep(data, info.orig_filename, scratch, info.file_size)


def _check_directory(path: Path, room: _Room) -> None:
    """zipfile makes an object of each entry before it gives the first: a directory that is too large is not opened."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 66_000))
        tail = file.read()
    at = tail.rfind(_DIRECTORY_END)
    if at < 0 or len(tail) < at + 22:
        raise zipfile.BadZipFile("it ends without a directory, so it may be cut off")
    (size,) = struct.unpack_from("<I", tail, at + 12)
    if at >= 76 and tail[at - 20 : at - 16] == _LOCATOR_64:
        (size,) = struct.unpack_from("<Q", tail, at - 76 + 40)
    room.allow_directory(size)


def _check_entry(info: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.flag_bits & 0x2041:
        raise _refused(f"the member {_shown(info.filename)} is encrypted")
    if kind and kind not in (stat.S_IFREG, stat.S_IFDIR):
        raise _refused(f"the member {_shown(info.filename)} is a link or a device, not a file")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _refused(f"the member {_shown(info.filename)} is packed by method {info.compress_type}, not deflate")


def _tarred(path: Path, scratch: Path, room: _Room) -> Iterator[Member]:
    with path.open("rb") as file:
        archive = tarfile.TarFile(fileobj=cast(IO[bytes], _Careful(file)))
        behind = 0
        while (info := archive.next()) is not None:
            if archive.offset <= behind:
                raise tarfile.ReadError("a member of negative size")  # tarfile would read it for ever
            behind = archive.offset
            if info.isdir():
                room.admit(info.name)
                continue
            data = archive.extractfile(info) if info.isreg() and not info.issparse() else None
            if data is None:
                raise _refused(f"the member {_shown(info.name)} is a link or a device, not a file")
            yield room.keep(data, info.name, scratch, info.size)
        _check_end(file, archive.offset)


def _check_end(file: IO[bytes], at: int) -> None:
    """tarfile stops without a word at a header that is cut off or spoilt, and at a second archive behind the first."""
    file.seek(at)
    if len(file.read(_BLOCK)) < _BLOCK:
        raise tarfile.ReadError("it ends without an end mark, so it may be cut off")
    file.seek(at)
    while piece := file.read(_PIECE):
        if piece.strip(b"\0"):
            raise tarfile.ReadError(f"what stands at byte {at} is no member")


class _Careful:
    """A file that is never read in one large piece: tarfile holds as much of a header as the header says it has."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tell = file.tell

    def seek(self, at: int) -> int:
        if at < 0:
            raise tarfile.ReadError("a member of negative size")
        return self._file.seek(at)

    def read(self, size: int) -> bytes:
        if size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of over {_LONGEST_HEADER} bytes")
        return self._file.read(size)


def _copy(data: Readable, place: Path, count: Callable[[int], None]) -> tuple[int, str]:
    """Bytes into a new file, counted before they are written; gives how many, and their SHA-256 in hex."""
    size, digest = 0, hashlib.sha256()
    with place.open("xb") as file:
        while piece := data.read(_PIECE):
            count(len(piece))
            digest.update(piece)
            file.write(piece)
            size += len(piece)
    return size, digest.hexdigest()
