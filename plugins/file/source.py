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
from msgspec import Struct

from esb import Accept, Busy, Closing, Component, Context, Duration, Incoming, MessageError, OptionError, StoreError

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
        self._zone = ZoneInfo(context.time_zone)

    async def run(self, accept: Accept) -> None:
        away = False
        while True:
            try:
                await self._round(accept)
                if away:
                    self._context.health("up")
                    away = False
            except OSError as error:
                away = True
                self._context.health("down", f"folder away: {self._folder}: {error.strerror or error}")
            await self._context.clock.sleep(self._every)

    async def _round(self, accept: Accept) -> None:
        """One look: what is left over, then what is settled. The folder's subfolders too, when `recursive`."""
        for folder in await self._context.thread(self._places):
            left = await self._context.thread(folders.claimed, folder / "work")
            await self._all(left, folder, accept)
            while names := await self._context.thread(self._ready, folder):
                taken = await self._context.thread(self._claim, folder, names)
                await self._all(taken, folder, accept)

    def _places(self) -> list[Path]:
        if not self._options.recursive:
            return [self._folder]
        ours = {"work", Path(self._options.done).parts[0], Path(self._options.bad).parts[0]}
        found = [self._folder]
        for place, names, _ in os.walk(self._folder, followlinks=False):
            names[:] = sorted(name for name in names if name not in ours and not name.startswith("."))
            found += [Path(place) / name for name in names]
        return found

    def _ready(self, folder: Path) -> list[str]:
        """Names whose size and time did not change for `settled`, on our own clock; in the order asked for."""
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
        return [item.name for item in ready[:UNDER_WAY]]

    def _claim(self, folder: Path, names: list[str]) -> list[Path]:
        made = [folders.claim(folder, folder / "work", name) for name in names]
        for name in names:
            self._steady.pop(folder / name, None)
        return [path for path in made if path is not None]

    async def _all(self, paths: list[Path], folder: Path, accept: Accept) -> None:
        async with asyncio.TaskGroup() as tasks:
            for path in paths:
                tasks.create_task(self._one(path, folder, accept), name=f"file {path.name}")

    async def _one(self, path: Path, folder: Path, accept: Accept) -> None:
        """Offers one claimed file until it is accepted or refused for good, then puts it away."""
        while True:
            try:
                await self._offered(path, folder, accept)
                return
            except MessageError as error:
                await self._refused(path, folder, f"{error.code} {error}")
                return
            except (Busy, StoreError) as error:
                log.info("%s waits: %s", path.name, error)
                await self._context.clock.sleep(getattr(error, "retry_after", AGAIN))
            except Closing:
                await asyncio.Event().wait()

    async def _offered(self, path: Path, folder: Path, accept: Accept) -> None:
        claim, name = folders.claim_of(path)
        about = await self._context.thread(self._about, path, folder, name)
        headers = {"x-file-name": _shown(name), "x-file-sha256": about["sha256"]}
        accepted = await accept(Incoming(body=path, about=about, headers=headers, claim=claim))
        if accepted.planned is None:
            await self._done(path, folder, name)
            return
        outcome = await accepted.planned()
        if outcome.state == "quarantined" and not outcome.parts:
            await self._refused(path, folder, outcome.reason, accepted.id)
            return
        if outcome.rejected:
            await self._context.thread(self._write_rejected, folder, name, outcome.rejected)
        if outcome.state == "quarantined":
            await self._refused(path, folder, outcome.reason, accepted.id)
            return
        await self._done(path, folder, name)

    def _about(self, path: Path, folder: Path, name: str) -> dict[str, Any]:
        state = path.stat(follow_symlinks=False)
        return {
            "name": _shown(name),
            "path": _shown(str(folder / name)),
            "size": state.st_size,
            "sha256": folders.digest(path),
            "mtime": datetime.fromtimestamp(state.st_mtime, UTC),
        }

    def _write_rejected(self, folder: Path, name: str, rejected: Any) -> None:
        """Once: a file that an earlier run wrote before it was killed is replaced by the same."""
        place = self._put_away(folder, self._options.bad)
        place.mkdir(parents=True, exist_ok=True)
        folders.write_over(place / f"{name.removesuffix('.csv')}.bad.csv", rejects.bad_rows(rejected))

    async def _done(self, path: Path, folder: Path, name: str) -> None:
        await self._context.thread(folders.move, path, self._put_away(folder, self._options.done), name)

    async def _refused(self, path: Path, folder: Path, reason: str, message: str = "") -> None:
        """The file and why, in the bad folder."""
        name = folders.claim_of(path)[1]
        bad = self._put_away(folder, self._options.bad)
        text = f"{reason}\n" + (f"message {message}: esb quarantine show {message}\n" if message else "")

        def put() -> None:
            bad.mkdir(parents=True, exist_ok=True)
            folders.write_over(bad / f"{name}.reason.txt", text.encode())
            folders.move(path, bad, name)

        await self._context.thread(put)

    def _put_away(self, folder: Path, named: str) -> Path:
        """`done` and `bad` count from the table's folder when they begin like the source's own path, else from the
        watched folder."""
        today = datetime.fromtimestamp(self._context.clock.now(), self._zone).date().isoformat()
        place = Path(named.replace("{today}", today))
        first = Path(self._options.folder).parts[:1]
        return self._context.folder / place if place.is_absolute() or place.parts[:1] == first else folder / place


def _shown(name: str) -> str:
    """A file name as text, whatever bytes it is made of."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@asynccontextmanager
async def open_source(options: FileOptions, context: Context) -> AsyncIterator[FileSource]:
    check_options(options)
    yield FileSource(options, context)


def check_options(options: FileOptions) -> None:
    """Raises OptionError for a folder that leads out of the watched one."""
    for name in ("done", "bad"):
        text = getattr(options, name).replace("{today}", "")
        if ".." in Path(text).parts or "{" in text:
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
