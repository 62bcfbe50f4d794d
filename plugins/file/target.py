"""The target `file`: a file a message, whole or not at all; or a line a message in one file."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from esb_plugins.file import folders
from esb_plugins.file.journal import Journal, OtherHead, kept_as
from esb_plugins.file.rolling import Names, Roll, check_roll
from msgspec import Struct

from esb import Component, Context, Delivery, NameTemplate, OptionError, Receipt, Rejected, Unavailable

_HELD: Final = 1_000_000
"""Bytes of a body over which it is written piece by piece."""
_NUMBERS: Final = 40
"""Bytes that a roll adds to a name at most."""


class FileTargetOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`exists` is what becomes of a name that is taken; `append` writes lines into one file, or with `roll` into one
    after the other."""

    folder: str
    name: NameTemplate = NameTemplate("{message.id}")
    exists: Literal["error", "replace", "number"] = "error"
    append: bool = False
    roll: Roll | None = None


class FileTarget:
    """Writes under a temporary name, fsyncs, renames. A repeat of a delivery finds its own file and is done."""

    def __init__(self, options: FileTargetOptions, folder: Path, context: Context) -> None:
        self._options = options
        self._folder = folder
        self._context = context
        self._turn = asyncio.Lock()
        self._journals: dict[str, Journal] = {}

    async def deliver(self, delivery: Delivery) -> Receipt:
        name = delivery.values["name"]
        if not name or "/" in name or "\0" in name or name.startswith((".", "-")) or len(os.fsencode(name)) > 255:
            raise Rejected(f"{name[:40]!r} cannot be a file's name", code="D470")
        try:
            if self._options.append:
                return await asyncio.shield(self._in_turn(name, await delivery.body(), delivery))
            if delivery.size > _HELD:
                return await self._large(name, delivery)
            return await self._thread(self._write, name, await delivery.body(), delivery)
        except FileExistsError as error:
            raise Rejected(f"{name} is there already", code="D471") from error
        except OSError as error:
            raise Unavailable(f"{name} cannot be written: {error.strerror or error}", code="D472") from error

    async def _in_turn(self, name: str, body: bytes, delivery: Delivery) -> Receipt:
        """Shielded: a thread goes on when its delivery's time is over, and the next write waits for it."""
        async with self._turn:
            return await self._thread(self._append, name, body, delivery)

    async def _thread(self, call: Callable[..., Receipt], *given: Any) -> Receipt:
        made: Receipt = await self._context.thread(call, *given)
        return made

    async def _large(self, name: str, delivery: Delivery) -> Receipt:
        """Piece by piece, never held whole."""
        await self._context.thread(self._make_folder)
        file = await self._context.thread(folders.begin_part, self._folder)
        try:
            async for piece in delivery.chunks():
                await self._context.thread(file.write, piece)
            await self._context.thread(folders.finish_part, file)
            return await self._thread(self._place, Path(file.name), name, delivery)
        finally:
            file.close()
            Path(file.name).unlink(missing_ok=True)

    def _write(self, name: str, body: bytes, delivery: Delivery) -> Receipt:
        self._make_folder()
        part = folders.write_part(self._folder, body)
        try:
            return self._place(part, name, delivery)
        finally:
            part.unlink(missing_ok=True)

    def _make_folder(self) -> None:
        """What stands where the folder should be may go away again: that is no taken name."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, f"{self._folder} is no folder") from error

    def _place(self, part: Path, name: str, delivery: Delivery) -> Receipt:
        """A written file, given its name."""
        number = self._options.exists == "number"
        # A crash between the rename and our commit repeats the delivery: its own file is there already.
        if self._options.exists == "error" or delivery.maybe_sent:
            written = folders.same(part, self._folder, name, number=number)
            if written is not None:
                return Receipt(note=written)
        if self._options.exists == "replace":
            part.rename(self._folder / name)
            folders.sync(self._folder)
            return Receipt(note=name)
        return Receipt(note=folders.place_new(part, self._folder, name, number=number).name)

    def _append(self, name: str, body: bytes, delivery: Delivery) -> Receipt:
        """Lines, written once: the journal names them before they are written, so that after a crash what is half there
        is cut off and what is whole is not written again. A body with a head ends its lines itself."""
        self._make_folder()
        journal = self._journal(name)
        if journal.has(delivery.id):
            return Receipt(note=f"{name}, written before")
        lines = body if delivery.head or body.endswith(b"\n") else body + b"\n"
        try:
            written = journal.append(delivery.id, lines, head=delivery.head, now=self._context.clock.now())
        except OtherHead as error:
            said = f"{error.file} begins with another header than this message"
            raise Rejected(said, code="D473") from error
        return Receipt(note=f"{written.file} at {written.start}")

    def _journal(self, name: str) -> Journal:
        journal = self._journals.get(name)
        if journal is None:
            if len(os.fsencode(kept_as(name))) > folders.LONGEST - (0 if self._options.roll is None else _NUMBERS):
                raise Rejected(f"the name {name!r:.40}... is too long for its journal beside it", code="D472")
            roll = self._options.roll
            names = None if roll is None else Names(name, roll, ZoneInfo(self._context.time_zone))
            journal = self._journals[name] = Journal(self._folder, name, names)
        return journal


@asynccontextmanager
async def open_target(options: FileTargetOptions, context: Context) -> AsyncIterator[FileTarget]:
    check_options(options)
    await context.thread(folders.sweep, context.folder / options.folder)
    yield FileTarget(options, context.folder / options.folder, context)


def check_options(options: FileTargetOptions) -> None:
    """Raises OptionError for a folder that leads out of the table's, and for a roll that is none."""
    if ".." in Path(options.folder).parts:
        raise OptionError("folder", "the folder may not hold ..", "name it from the table's folder", code="E240")
    if options.roll is not None:
        if not options.append:
            raise OptionError("roll", "roll is for files that are appended to", "write append = true beside it")
        check_roll(options.roll)


TARGET = Component(
    kind="target",
    name="file",
    about="Writes a file, or a line, for each message",
    options=FileTargetOptions,
    main="folder",
    open=open_target,
    check=check_options,
    heads=lambda options: options.append,
    example='[target.archive]\nfile = "archive"\nname = "{message.id}.json"',
    idempotent="by id",
)
