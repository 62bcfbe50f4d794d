"""The source `file`: takes files from a folder, one message each, and puts them away when all is known of them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from esb_plugins.file import folders, rejects
from esb_plugins.file.shelves import TODAY, Shelf
from msgspec import Struct

from esb import (
    Accept,
    Accepted,
    Busy,
    Closing,
    Component,
    Context,
    Duration,
    Incoming,
    MessageError,
    OptionError,
    StoreError,
)

log = logging.getLogger(__name__)

UNDER_WAY = 64
"""Files handed over at once, so that one commit takes many."""
AGAIN = 1.0
"""Seconds before a refused file is offered again."""


class FileOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`settled`: how long size and time must not change; `trigger`: a file that says the others are complete; `done`
    and `bad` may hold {today}."""

    folder: str
    match: str = "*"
    settled: Duration = Duration(2)
    order: Literal["name", "mtime"] = "name"
    trigger: str | None = None
    recursive: bool = False
    done: str = "done"
    bad: str = "bad"


class FileSource:
    """Looks every so often; claims by renaming into `work`; a claim that a crash left is finished first (R2)."""

    def __init__(self, options: FileOptions, context: Context) -> None:
        self._options = options
        self._context = context
        self._folder = context.folder / options.folder
        self._every = context.every or 1.0
        self._steady: dict[Path, tuple[folders.Seen, float]] = {}
        self._troubles: dict[str, str] = {}
        zone = ZoneInfo(context.time_zone)
        self._done = Shelf(context.folder, options.folder, options.done, zone)
        self._bad = Shelf(context.folder, options.folder, options.bad, zone)

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
        if not self._troubles:
            self._context.health("up")
            return
        name, reason = next(iter(self._troubles.items()))
        more = f" (and {len(self._troubles) - 1} more)" if len(self._troubles) > 1 else ""
        self._context.health("degraded", f"{name} waits in work: {reason}{more}")

    async def _round(self, accept: Accept) -> None:
        """One look: what is left over, then what is settled. The folder's subfolders too, when `recursive`."""
        self._troubles.clear()
        for folder in await self._context.thread(self._places):
            await self._all(await self._context.thread(folders.claimed, folder / "work"), folder, accept)
            ready = await self._context.thread(self._ready, folder)
            for start in range(0, len(ready), UNDER_WAY):
                taken = await self._context.thread(self._claim, folder, ready[start : start + UNDER_WAY])
                await self._all(taken, folder, accept)

    def _places(self) -> list[Path]:
        """The watched folder, and with `recursive` those below it that are not our own."""
        if not self._options.recursive:
            return [self._folder]
        found = [self._folder]
        for place, names, _ in os.walk(self._folder, followlinks=False):
            parent = Path(place)
            names[:] = sorted(name for name in names if not self._is_ours(parent / name, parent))
            found += [parent / name for name in names]
        return found

    def _is_ours(self, folder: Path, parent: Path) -> bool:
        hidden = folder.name == "work" or folder.name.startswith(".")
        return hidden or self._done.holds(folder, parent) or self._bad.holds(folder, parent)

    def _ready(self, folder: Path) -> list[folders.Seen]:
        """Files whose size and time did not change for `settled`, on our own clock; in the order asked for."""
        now = self._context.clock.now()
        seen = folders.look(folder, self._options.match)
        if self._options.trigger is not None and not (folder / self._options.trigger).is_file():
            return []
        steady: dict[Path, tuple[folders.Seen, float]] = {}
        ready: list[folders.Seen] = []
        for item in seen:
            if item.name == self._options.trigger:
                continue
            before = self._steady.get(folder / item.name)
            since = before[1] if before is not None and before[0] == item else now
            steady[folder / item.name] = (item, since)
            if now - since >= self._options.settled:
                ready.append(item)
        kept = {path: entry for path, entry in self._steady.items() if path.parent != folder}
        self._steady = {**kept, **steady}
        if self._options.order == "mtime":
            ready.sort(key=lambda item: (item.mtime, item.name))
        return ready

    def _claim(self, folder: Path, ready: list[folders.Seen]) -> list[Path]:
        made = [folders.claim(folder, folder / "work", item) for item in ready]
        for item in ready:
            self._steady.pop(folder / item.name, None)
        return [path for path in made if path is not None]

    async def _all(self, paths: list[Path], folder: Path, accept: Accept) -> None:
        """Some claimed files: looked at side by side, handed over in their order, each put away when all is known."""
        offered = await asyncio.gather(*(self._incoming(path, folder) for path in paths))
        handed = [(path, item) for path, item in zip(paths, offered, strict=True) if item is not None]
        outcomes = await accept.many([item for _, item in handed])
        async with asyncio.TaskGroup() as tasks:
            for (path, item), outcome in zip(handed, outcomes, strict=True):
                tasks.create_task(self._one(path, folder, item, outcome, accept), name=f"file {path.name}")

    async def _incoming(self, path: Path, folder: Path) -> Incoming | None:
        """What is offered of a file; None for one that cannot be read now: it waits in `work` and is tried again."""
        claim, name = folders.claim_of(path)
        try:
            about = await self._context.thread(_about, path, folder, name)
        except OSError as error:
            self._trouble(path, error)
            return None
        headers = {"x-file-name": shown(name), "x-file-sha256": about["sha256"]}
        return Incoming(body=path, about=about, headers=headers, claim=claim)

    def _trouble(self, path: Path, error: Exception) -> None:
        """One file's trouble is its own: the others go on."""
        said = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
        self._troubles[shown(folders.claim_of(path)[1])] = said
        log.warning("%s waits in work: %s", shown(path.name), said)

    async def _one(
        self, path: Path, folder: Path, item: Incoming, outcome: Accepted | Exception, accept: Accept
    ) -> None:
        """One offered file until it is accepted or refused for good, then away with it."""
        while True:
            try:
                if isinstance(outcome, Exception):
                    raise outcome
                await self._put_away(path, folder, outcome)
                return
            except MessageError as error:
                await self._return(path, folder, f"{error.code} {error}")
                return
            except (Busy, StoreError) as error:
                log.info("%s waits: %s", shown(path.name), error)
                await self._context.clock.sleep(getattr(error, "retry_after", AGAIN))
            except Closing:
                await asyncio.Event().wait()
            except Exception as error:
                self._trouble(path, error)
                return
            outcome = await self._again(item, accept)

    async def _again(self, item: Incoming, accept: Accept) -> Accepted | Exception:
        try:
            return await accept(item)
        except Exception as error:
            return error

    async def _put_away(self, path: Path, folder: Path, accepted: Accepted) -> None:
        """An accepted file, when every part of it is planned."""
        name = folders.claim_of(path)[1]
        if accepted.planned is not None:
            outcome = await accepted.planned()
            if outcome.rejected:
                await self._context.thread(self._write_rejected, folder, name, outcome.rejected)
            if outcome.state == "quarantined":
                await self._return(path, folder, outcome.reason, accepted.id)
                return
        place = self._done.place(folder, self._context.clock.now())
        await self._context.thread(_move, path, place, name)

    def _write_rejected(self, folder: Path, name: str, rejected: Any) -> None:
        """Once: a file that an earlier run wrote before it was killed is replaced by the same."""
        place = self._bad.place(folder, self._context.clock.now())
        place.mkdir(parents=True, exist_ok=True)
        named = folders.fitting(name.removesuffix(".csv"), ".bad.csv")
        folders.write_over(place / named, rejects.bad_rows(rejected))

    async def _return(self, path: Path, folder: Path, reason: str, message: str = "") -> None:
        """The file and why, in the bad folder. What fails here leaves it in `work`."""
        name = folders.claim_of(path)[1]
        place = self._bad.place(folder, self._context.clock.now())
        text = f"{reason}\n" + (f"message {message}: esb quarantine show {message}\n" if message else "")
        try:
            await self._context.thread(_give_back, path, place, name, text.encode())
        except OSError as error:
            self._trouble(path, error)


def _about(path: Path, folder: Path, name: str) -> dict[str, Any]:
    state = path.stat(follow_symlinks=False)
    return {
        "name": shown(name),
        "path": shown(str(folder / name)),
        "size": state.st_size,
        "sha256": folders.digest(path),
        "mtime": datetime.fromtimestamp(state.st_mtime, UTC),
    }


def _move(path: Path, place: Path, name: str) -> None:
    folders.move(path, place, name)
    folders.finish(path)


def _give_back(path: Path, place: Path, name: str, reason: bytes) -> None:
    place.mkdir(parents=True, exist_ok=True)
    folders.write_over(place / folders.fitting(name, ".reason.txt"), reason)
    _move(path, place, name)


def shown(name: str) -> str:
    """A file name as text, whatever bytes it is made of."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@asynccontextmanager
async def open_source(options: FileOptions, context: Context) -> AsyncIterator[FileSource]:
    check_options(options)
    yield FileSource(options, context)


def check_options(options: FileOptions) -> None:
    """Raises OptionError for a folder that leads out of the watched one."""
    for name in ("done", "bad"):
        text = getattr(options, name).replace(TODAY, "")
        place = Path(text)
        itself = place == Path(options.folder) or not place.parts
        if ".." in place.parts or "{" in text or itself:
            raise OptionError(name, f"{name} is a folder below the watched one", "it may hold {today}", code="E240")


SOURCE = Component(
    kind="source",
    name="file",
    about="Takes files from a folder",
    options=FileOptions,
    main="folder",
    open=open_source,
    check=check_options,
    example='from = { file = "drop", match = "*.xml", settled = "2s" }',
    placement="one node",
)
