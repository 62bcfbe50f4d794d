"""Large bodies as files of their own, named by an id and written before the row that names them (R7)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from uuid import uuid4

from esb.errors import Invalid, StoreError, StoreFull
from esb.store.records import NewBody

INLINE = 65_536
"""Bodies up to this many bytes live in the row."""
PIECE = 262_144


class Bodies:
    """The folder of large bodies."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.folder = folder
        self._durable = durable
        folder.mkdir(mode=0o700, exist_ok=True)

    async def keep(self, body: bytes | Path | AsyncIterator[bytes], limit: int | None = None) -> NewBody:
        """A body ready for a row: inline when it is small, else on disk, fsynced, with its SHA-256.

        Raises Invalid (413) over `limit` bytes, StoreFull, StoreError.
        """
        if isinstance(body, bytes):
            return _inline(body) if len(body) <= INLINE else await asyncio.to_thread(self._write_bytes, body)
        if isinstance(body, Path):
            return await asyncio.to_thread(self._copy, body, limit)
        return await self._drain(body, limit)

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
        sheet = Sheet(self.folder, self._durable)
        try:
            await asyncio.to_thread(sheet.write, head)
            async for chunk in chunks:
                if limit is not None and sheet.size + len(chunk) > limit:
                    raise _too_large(limit)
                await asyncio.to_thread(sheet.write, chunk)
            return await asyncio.to_thread(sheet.finish)
        except OSError as error:
            raise _disk(error) from error
        finally:
            sheet.discard()

    def _write_bytes(self, body: bytes) -> NewBody:
        sheet = Sheet(self.folder, self._durable)
        try:
            sheet.write(body)
            return sheet.finish()
        except OSError as error:
            raise _disk(error) from error
        finally:
            sheet.discard()

    def _copy(self, path: Path, limit: int | None) -> NewBody:
        """A source's file, copied and never moved; links are not followed."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise StoreError(f"{path.name!r} cannot be read: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if limit is not None and size > limit:
                raise _too_large(limit)
            if size <= INLINE:
                return _inline(file.read())
            sheet = Sheet(self.folder, self._durable)
            try:
                while piece := file.read(PIECE):
                    sheet.write(piece)
                return sheet.finish()
            except OSError as error:
                raise _disk(error) from error
            finally:
                sheet.discard()

    def path(self, name: str) -> Path:
        """Where a kept body lies."""
        return self.folder / name

    def read(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    async def stream(self, name: str) -> AsyncIterator[bytes]:
        """The body in pieces."""
        with self.path(name).open("rb") as file:
            while piece := await asyncio.to_thread(file.read, PIECE):
                yield piece

    def remove(self, names: Collection[str]) -> None:
        """After the commit that deleted their rows."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self.path(name).unlink()

    def sweep(self, known: Collection[str]) -> int:
        """At start, before any source opens: files that no row names."""
        orphans = [path for path in self.folder.iterdir() if path.name not in known]
        for path in orphans:
            path.unlink()
        return len(orphans)


class Sheet:
    """One body being written: temporary name, fsync, rename, fsync of the folder."""

    def __init__(self, folder: Path, durable: bool) -> None:
        self.size = 0
        self._name = uuid4().hex
        self._folder = folder
        self._durable = durable
        self._digest = hashlib.sha256()
        self._part = folder / f".{self._name}.part"
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
        self._file.close()
        self._part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """A rename is on disk when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _inline(data: bytes) -> NewBody:
    return NewBody(data=data, size=len(data), sha256=hashlib.sha256(data).digest())


def _too_large(limit: int) -> Invalid:
    return Invalid(f"the body is over {limit} bytes", code="M231", status=413)


def _disk(error: OSError) -> StoreError:
    return StoreFull("the disk is full") if error.errno == 28 else StoreError(f"a body cannot be written: {error}")
