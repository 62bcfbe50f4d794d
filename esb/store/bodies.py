"""Large bodies as files of their own, named by their row and written before it (R7)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from esb.errors import Invalid, StoreError
from esb.store.opening import as_disk_error, sync_folder
from esb.store.records import NewBody

log = logging.getLogger(__name__)

INLINE = 65_536
"""Bodies up to this many bytes live in the row."""
PIECE = 262_144
FORSAKEN = 3600.0
"""Seconds after which a kept body that no row has named is unlinked: whoever kept it has failed or was refused."""


def _closed() -> int:
    raise StoreError("bodies are kept by an open store only")


class Bodies:
    """The folder of large bodies. `number` gives the row of the next one; without it they are only read."""

    def __init__(self, folder: Path, number: Callable[[], int] = _closed, *, durable: bool) -> None:
        self.folder = folder
        self._number = number
        self._durable = durable
        self._unnamed: dict[str, float] = {}
        self._holds = 0
        self._loose: list[str] = []
        folder.mkdir(mode=0o700, exist_ok=True)

    async def keep(self, body: bytes | Path | AsyncIterator[bytes], limit: int | None = None) -> NewBody:
        """A body ready for a row: inline when it is small, else on disk, fsynced, with its SHA-256.

        Raises Invalid (413) over `limit` bytes, StoreFull, StoreError.
        """
        if isinstance(body, bytes):
            if limit is not None and len(body) > limit:
                raise _too_large(limit)
            return _inline(body) if len(body) <= INLINE else await self._in_thread(self._write, body)
        if isinstance(body, Path):
            return await self._in_thread(self._copy, body, limit)
        return await self._drain(body, limit)

    async def _in_thread(self, call: Callable[..., NewBody], *arguments: object) -> NewBody:
        """Shielded, so that a file is whole or gone also when the caller is cancelled."""
        return await asyncio.shield(asyncio.to_thread(call, *arguments))

    async def _drain(self, chunks: AsyncIterator[bytes], limit: int | None) -> NewBody:
        head = bytearray()
        async for chunk in chunks:
            head += chunk
            if limit is not None and len(head) > limit:
                raise _too_large(limit)
            if len(head) > INLINE:
                return await self._stream(bytes(head), chunks, limit)
        return _inline(bytes(head))

    async def _stream(self, head: bytes, chunks: AsyncIterator[bytes], limit: int | None) -> NewBody:
        with self._sheet() as sheet:
            await asyncio.to_thread(sheet.write, head)
            async for chunk in chunks:
                if limit is not None and sheet.size + len(chunk) > limit:
                    raise _too_large(limit)
                await asyncio.to_thread(sheet.write, chunk)
            return self._named(await asyncio.to_thread(sheet.finish))

    def _write(self, body: bytes) -> NewBody:
        with self._sheet() as sheet:
            sheet.write(body)
            return self._named(sheet.finish())

    def _copy(self, path: Path, limit: int | None) -> NewBody:
        """A source's file, copied and never moved; links are not followed."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise StoreError(f"{path.name!r} cannot be read: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as file:
            head = file.read(INLINE + 1)
            if len(head) <= INLINE:
                return _inline(head)
            with self._sheet() as sheet:
                piece = head
                while piece:
                    if limit is not None and sheet.size + len(piece) > limit:
                        raise _too_large(limit)
                    sheet.write(piece)
                    piece = file.read(PIECE)
                return self._named(sheet.finish())

    @contextmanager
    def _sheet(self) -> Iterator[Sheet]:
        try:
            sheet = Sheet(self.folder, str(self._number()), self._durable)
            try:
                yield sheet
            finally:
                sheet.discard()
        except OSError as error:
            raise as_disk_error(error, "a body cannot be kept") from error

    def _named(self, body: NewBody) -> NewBody:
        assert body.file is not None
        self._unnamed[body.file] = time.monotonic()
        return body

    def path(self, name: str) -> Path:
        """Where a kept body lies."""
        return self.folder / name

    def read(self, name: str) -> bytes:
        """All of it; raises StoreError when it is gone."""
        try:
            return self.path(name).read_bytes()
        except OSError as error:
            raise StoreError(f"body {name} cannot be read: {error.strerror}") from error

    async def stream(self, name: str) -> AsyncIterator[bytes]:
        """The body in pieces; raises StoreError when it is gone."""
        try:
            with self.path(name).open("rb") as file:
                while piece := await asyncio.to_thread(file.read, PIECE):
                    yield piece
        except OSError as error:
            raise StoreError(f"body {name} cannot be read: {error.strerror}") from error

    def committed(self, names: Collection[str]) -> None:
        """Rows name these files now."""
        for name in names:
            self._unnamed.pop(name, None)

    def forsaken(self) -> list[str]:
        """Files that were kept long ago and are named by no row still."""
        before = time.monotonic() - FORSAKEN
        names = [name for name, at in self._unnamed.items() if at < before]
        self.committed(names)
        return names

    def remove(self, names: Collection[str]) -> None:
        """Unlinks files after the commit that deleted their rows; a backup under way holds that back."""
        if self._holds:
            self._loose.extend(names)
            return
        for name in names:
            try:
                self.path(name).unlink(missing_ok=True)
            except OSError as error:
                # Its row is gone: the next start sweeps it.
                log.warning("the body %s cannot be removed: %s", self.path(name), error)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is unlinked meanwhile."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            if not self._holds:
                names, self._loose = self._loose, []
                self.remove(names)

    def sweep(self, known: Collection[str]) -> int:
        """At the start, before any source opens: files that no row names."""
        orphans = [path for path in self.folder.iterdir() if path.name not in known and path.is_file()]
        for path in orphans:
            path.unlink()
        return len(orphans)


class Sheet:
    """One body being written: temporary name, fsync, rename, fsync of the folder."""

    def __init__(self, folder: Path, name: str, durable: bool) -> None:
        self.size = 0
        self._name = name
        self._folder = folder
        self._durable = durable
        self._digest = hashlib.sha256()
        self._part = folder / f".{name}.part"
        self._file = self._part.open("xb")

    def write(self, piece: bytes) -> None:
        self._file.write(piece)
        self._digest.update(piece)
        self.size += len(piece)

    def finish(self) -> NewBody:
        self._file.flush()
        if self._durable:
            os.fsync(self._file.fileno())
        self._file.close()
        self._part.rename(self._folder / self._name)
        if self._durable:
            sync_folder(self._folder)
        return NewBody(file=self._name, size=self.size, sha256=self._digest.digest())

    def discard(self) -> None:
        """Removes what was not finished."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)


def _inline(data: bytes) -> NewBody:
    return NewBody(data=data, size=len(data), sha256=hashlib.sha256(data).digest())


def _too_large(limit: int) -> Invalid:
    return Invalid(f"the body is over {limit} bytes", code="M284", status=413)
