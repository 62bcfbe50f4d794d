"""The source `file`: takes files from a folder, one message each, and puts them away when all is known of them."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from esb_plugins.file import folders
from esb_plugins.file.archives import Unpack
from esb_plugins.file.folders import Seen
from esb_plugins.file.handover import Handover, slices
from esb_plugins.file.releases import NAME, Trigger, carry_out, unfinished
from esb_plugins.file.shelves import TODAY, Shelf
from msgspec import Struct

from esb import Accept, Component, Context, Duration, OptionError


class FileOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`settled`: how long size and time must not change; `trigger`: a file that says the others are complete, or
    NAME.ok, which says it of one; `unpack`: each member of an archive becomes a message; `done` and `bad` may hold
    {today}."""

    folder: str
    match: str = "*"
    settled: Duration = Duration(2)
    order: Literal["name", "mtime"] = "name"
    trigger: str | None = None
    recursive: bool = False
    unpack: bool | Unpack = False
    done: str = "done"
    bad: str = "bad"


class FileSource:
    """Looks every so often; claims by renaming into `work`; a claim that a crash left is finished first (R2)."""

    def __init__(self, options: FileOptions, context: Context) -> None:
        self._options = options
        self._context = context
        self._folder = context.folder / options.folder
        self._every = context.every or 1.0
        self._device: int | None = None
        self._steady: dict[Path, tuple[Seen, float]] = {}
        self._trigger = None if options.trigger is None else Trigger(options.trigger)
        zone = ZoneInfo(context.time_zone)
        self._done = Shelf(context.folder, options.folder, options.done, zone)
        self._bad = Shelf(context.folder, options.folder, options.bad, zone)
        unpack = Unpack() if options.unpack is True else options.unpack or None
        self._handover = Handover(context, self._done, self._bad, unpack)

    async def run(self, accept: Accept) -> None:
        while True:
            try:
                await self._round(accept)
            except OSError as error:
                self._context.health("down", f"folder away: {self._folder}: {error.strerror or error}")
            else:
                self._report()
            await self._context.clock.sleep(self._every)

    def _report(self) -> None:
        troubles = self._handover.troubles
        if not troubles:
            self._context.health("up")
            return
        name, reason = next(iter(troubles.items()))
        more = f" (and {len(troubles) - 1} more)" if len(troubles) > 1 else ""
        self._context.health("degraded", f"{name} waits in work: {reason}{more}")

    async def _round(self, accept: Accept) -> None:
        """One look: what is left over, then what is settled. The folder's subfolders too, when `recursive`."""
        self._handover.troubles.clear()
        for folder in await self._context.thread(self._places):
            await self._handover.all(await self._context.thread(self._left_over, folder), folder, accept)
            present, ready = await self._context.thread(self._look, folder)
            if self._trigger is None:
                for some in slices(ready):
                    await self._handover.all(await self._context.thread(_claim, folder, some), folder, accept)
            else:
                for release in await self._context.thread(self._trigger.releases, folder, present, ready):
                    taken = await self._context.thread(carry_out, folder, folder / "work", release)
                    await self._handover.all(taken, folder, accept)

    def _left_over(self, folder: Path) -> list[Path]:
        """What an earlier run claimed, or was about to claim."""
        unfinished(folder, folder / "work")
        return folders.claimed(folder / "work")

    def _places(self) -> list[Path]:
        """The watched folder, and with `recursive` those below it that are not our own; OSError when it is away."""
        self._check_mounted()
        if not self._options.recursive:
            return [self._folder]
        found = [self._folder]
        for place, names, _ in os.walk(self._folder, followlinks=False):
            parent = Path(place)
            names[:] = sorted(name for name in names if not self._is_ours(parent / name, parent))
            found += [parent / name for name in names]
        return found

    def _check_mounted(self) -> None:
        """A share that is gone leaves an empty folder of our own disk: that one is not looked at."""
        device, ours = self._folder.stat().st_dev, self._context.folder.stat().st_dev
        if device == ours != (self._device or ours):
            raise OSError(errno.ENODEV, "the share is not mounted")
        self._device = device

    def _is_ours(self, folder: Path, parent: Path) -> bool:
        hidden = folder.name == "work" or folder.name.startswith(".")
        return hidden or self._done.holds(folder, parent) or self._bad.holds(folder, parent)

    def _look(self, folder: Path) -> tuple[list[Seen], list[Seen]]:
        """The files that are there, and those of them whose size and time did not change for `settled`, on our own
        clock; both in the order asked for. What is claimed or gone by the next look is forgotten then."""
        now = self._context.clock.now()
        marks = self._trigger
        present = [
            item for item in folders.look(folder, self._options.match) if not (marks and marks.is_marker(item.name))
        ]
        steady: dict[Path, tuple[Seen, float]] = {}
        for item in present:
            before = self._steady.get(folder / item.name)
            since = before[1] if before is not None and before[0] == item else now
            steady[folder / item.name] = (item, since)
        kept = {path: entry for path, entry in self._steady.items() if path.parent != folder}
        self._steady = {**kept, **steady}
        if self._options.order == "mtime":
            present.sort(key=lambda item: (item.mtime, item.name))
        return present, [item for item in present if now - steady[folder / item.name][1] >= self._options.settled]


def _claim(folder: Path, ready: Sequence[Seen]) -> list[Path]:
    made = [folders.claim(folder, folder / "work", item) for item in ready]
    return [path for path in made if path is not None]


@asynccontextmanager
async def open_source(options: FileOptions, context: Context) -> AsyncIterator[FileSource]:
    check_options(options)
    yield FileSource(options, context)


def check_options(options: FileOptions) -> None:
    """Raises OptionError for a folder that leads out of the watched one, a marker or a limit that makes no sense."""
    for name in ("done", "bad"):
        text = getattr(options, name).replace(TODAY, "")
        place = Path(text)
        itself = place == Path(options.folder) or not place.parts
        if ".." in place.parts or "{" in text or itself:
            raise OptionError(name, f"{name} is a folder below the watched one", "it may hold {today}", code="E240")
    if options.trigger is not None and (options.trigger in ("", NAME) or "/" in options.trigger):
        raise OptionError("trigger", "trigger is the name of a marker", 'write "all.ok", or "NAME.ok" for one a file')
    if isinstance(options.unpack, Unpack) and min(options.unpack.files, options.unpack.size, options.unpack.ratio) < 1:
        raise OptionError("unpack", "a limit is at least 1", "leave out the limit that shall be as it is")


SOURCE = Component(
    kind="source",
    name="file",
    about="Takes files from a folder",
    options=FileOptions,
    main="folder",
    open=open_source,
    check=check_options,
    claims=lambda options: [f"{options.match} in folder {os.path.normpath(options.folder)}"],
    example='from = { file = "drop", match = "*.xml", settled = "2s" }',
    placement="one node",
)
