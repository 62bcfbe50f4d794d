"""The target `file`: a file a message, whole or not at all; or a line a message in one file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from esb_plugins.file import folders
from esb_plugins.file.journal import Journal
from msgspec import Struct

from esb import Component, Context, Delivery, NameTemplate, OptionError, Receipt, Rejected, Unavailable


class FileTargetOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`exists` is what becomes of a name that is taken; `append` writes lines into one file."""

    folder: str
    name: NameTemplate = NameTemplate("{message.id}")
    exists: Literal["error", "replace", "number"] = "error"
    append: bool = False


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
        body = await delivery.body()
        if not name or "/" in name or "\0" in name or name.startswith((".", "-")) or len(os.fsencode(name)) > 255:
            raise Rejected(f"{name[:40]!r} cannot be a file's name", code="D470")
        try:
            if self._options.append:
                async with self._turn:
                    written: Receipt = await self._context.thread(self._append, name, body, delivery)
                    return written
            return await self._whole(name, body, delivery)
        except FileExistsError as error:
            raise Rejected(f"{name} is there already", code="D471") from error
        except OSError as error:
            raise Unavailable(f"{name} cannot be written: {error.strerror or error}", code="D472") from error

    async def _whole(self, name: str, body: bytes, delivery: Delivery) -> Receipt:
        made: Receipt = await self._context.thread(self._write, name, body, delivery)
        return made

    def _write(self, name: str, body: bytes, delivery: Delivery) -> Receipt:
        self._folder.mkdir(parents=True, exist_ok=True)
        place = self._folder / name
        # A crash between the rename and our commit repeats the delivery: its own file is there already.
        if self._options.exists == "error" or delivery.maybe_sent:
            written = self._written(name, body)
            if written is not None:
                return Receipt(note=written)
        if self._options.exists == "replace":
            folders.write_over(place, body)
            return Receipt(note=name)
        number = self._options.exists == "number"
        return Receipt(note=folders.write_new(self._folder, name, body, number=number).name)

    def _written(self, name: str, body: bytes) -> str | None:
        """The name, numbered or not, under which these bytes are there already."""
        for taken in folders.numbered(name):
            place = self._folder / taken
            if not place.is_file() or place.is_symlink():
                return None
            if place.read_bytes() == body:
                return taken
            if self._options.exists != "number":
                return None
        return None

    def _append(self, name: str, body: bytes, delivery: Delivery) -> Receipt:
        """A line, written once: the journal names it before it is written, so that after a crash what is half there is
        cut off and what is whole is not written again."""
        self._folder.mkdir(parents=True, exist_ok=True)
        journal = self._journals.get(name)
        if journal is None:
            kept = f".esb-{name}.journal"
            if len(os.fsencode(kept)) > folders.LONGEST:
                raise Rejected(f"the name {name!r:.40}... is too long for its journal beside it", code="D472")
            journal = self._journals[name] = Journal(self._folder / name, self._folder / kept)
        if journal.has(delivery.id):
            return Receipt(note=f"{name}, written before")
        start = journal.append(delivery.id, body if body.endswith(b"\n") else body + b"\n")
        return Receipt(note=f"{name} at {start}")


@asynccontextmanager
async def open_target(options: FileTargetOptions, context: Context) -> AsyncIterator[FileTarget]:
    check_options(options)
    await context.thread(folders.sweep, context.folder / options.folder)
    yield FileTarget(options, context.folder / options.folder, context)


def check_options(options: FileTargetOptions) -> None:
    """Raises OptionError for a folder that leads out of the table's."""
    if ".." in Path(options.folder).parts:
        raise OptionError("folder", "the folder may not hold ..", "name it from the table's folder", code="E240")


TARGET = Component(
    kind="target",
    name="file",
    about="Writes a file, or a line, for each message",
    options=FileTargetOptions,
    main="folder",
    open=open_target,
    check=check_options,
    example='[target.archive]\nfile = "archive"\nname = "{message.id}.json"',
    idempotent="by id",
)
