"""Claimed files, handed over and put away: to `done` when all is known of them, to `bad` with the reason."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from esb_plugins.file import archives, folders, rejects
from esb_plugins.file.archives import Member, Unpack
from esb_plugins.file.shelves import Shelf
from msgspec import Struct

from esb import Accept, Accepted, Busy, Closing, Context, Incoming, MessageError, StoreError

log = logging.getLogger(__name__)

UNDER_WAY = 64
"""Files handed over at once, so that one commit takes many."""
AGAIN = 1.0
"""Seconds before a refused file is offered again."""


class Piece(Struct, frozen=True):
    """What becomes one message: a claimed file, or a member of a claimed archive. `name` is what it is called in the
    bad folder; `folder` is the watched one that it, or its archive, lay in."""

    path: Path
    name: str
    folder: Path
    incoming: Incoming
    member: bool = False


class Handover:
    """Offers claimed files in their order. `troubles` are the files that wait in `work`, each with the reason."""

    def __init__(self, context: Context, done: Shelf, bad: Shelf, unpack: Unpack | None) -> None:
        self._context = context
        self._done = done
        self._bad = bad
        self._unpack = unpack
        self.troubles: dict[str, str] = {}

    async def all(self, paths: Sequence[Path], folder: Path, accept: Accept) -> None:
        """Claimed files of one folder, in their order; those side by side are looked at and handed over together."""
        for packed, group in groupby(paths, self._is_archive):
            if packed:
                for path in group:
                    await self._archive(path, folder, accept)
            else:
                for some in slices(list(group)):
                    found = await asyncio.gather(*(self._whole(path, folder) for path in some))
                    await self._offer([piece for piece in found if piece is not None], accept)

    def _is_archive(self, path: Path) -> bool:
        return self._unpack is not None and archives.kind_of(folders.claim_of(path)[1]) is not None

    async def _whole(self, path: Path, folder: Path) -> Piece | None:
        """What is offered of a file; None for one that cannot be read now: it waits in `work` and is tried again."""
        claim, name = folders.claim_of(path)
        try:
            about = await self._context.thread(_about, path, folder, name)
        except OSError as error:
            self._trouble(path, error)
            return None
        headers = {"x-file-name": shown(name), "x-file-sha256": about["sha256"]}
        return Piece(path, name, folder, Incoming(body=path, about=about, headers=headers, claim=claim))

    async def _archive(self, path: Path, folder: Path, accept: Accept) -> None:
        """An archive: wholly checked before its first member is offered; away when the last one is stored."""
        claim, name = folders.claim_of(path)
        scratch = folder / "work" / f".{claim}.unpacked"
        try:
            about = await self._context.thread(_about, path, folder, name)
            members = await self._context.thread(archives.unpack, path, name, scratch, self._unpack)
        except MessageError as error:
            await self._context.thread(_forget, scratch)
            await self._return(path, name, folder, f"{error.code} {error}")
            return
        except OSError as error:
            await self._context.thread(_forget, scratch)
            self._trouble(path, error)
            return
        settled = True
        pieces = [_piece(member, number, claim, about, folder) for number, member in enumerate(members, 1)]
        for some in slices(pieces):
            settled = await self._offer(some, accept) and settled
        await self._context.thread(_forget, scratch)
        if settled:
            await self._away(path, name, folder)

    async def _offer(self, pieces: Sequence[Piece], accept: Accept) -> bool:
        """Some pieces in one commit; whether all of them are settled."""
        outcomes = await accept.many([piece.incoming for piece in pieces])
        async with asyncio.TaskGroup() as tasks:
            made = [
                tasks.create_task(self._one(piece, outcome, accept), name=f"file {piece.name}")
                for piece, outcome in zip(pieces, outcomes, strict=True)
            ]
        return all(task.result() for task in made)

    async def _one(self, piece: Piece, outcome: Accepted | Exception, accept: Accept) -> bool:
        """One offered piece until it is accepted or refused for good; whether that was put on record."""
        while True:
            try:
                if isinstance(outcome, Exception):
                    raise outcome
                return await self._accepted(piece, outcome)
            except MessageError as error:
                return await self._refused(piece, f"{error.code} {error}")
            except (Busy, StoreError) as error:
                log.info("%s waits: %s", shown(piece.name), error)
                await self._context.clock.sleep(getattr(error, "retry_after", AGAIN))
            except Closing:
                await asyncio.Event().wait()
            except Exception as error:
                self._trouble(piece.path, error, piece.name)
                return False
            outcome = await self._again(piece.incoming, accept)

    async def _again(self, item: Incoming, accept: Accept) -> Accepted | Exception:
        try:
            return await accept(item)
        except Exception as error:
            return error

    async def _accepted(self, piece: Piece, accepted: Accepted) -> bool:
        """An accepted piece, when every part of it is planned."""
        if accepted.planned is not None:
            outcome = await accepted.planned()
            if outcome.rejected:
                await self._context.thread(self._write_rejected, piece, outcome.rejected)
            if outcome.state == "quarantined":
                return await self._refused(piece, outcome.reason, accepted.id)
        return piece.member or await self._away(piece.path, piece.name, piece.folder)

    def _write_rejected(self, piece: Piece, rejected: Any) -> None:
        """Once: a file that an earlier run wrote before it was killed is replaced by the same."""
        place = self._bad.place(piece.folder, self._context.clock.now())
        place.mkdir(parents=True, exist_ok=True)
        named = folders.fitting(piece.name.removesuffix(".csv"), ".bad.csv")
        folders.write_over(place / named, rejects.bad_rows(rejected))

    async def _refused(self, piece: Piece, reason: str, message: str = "") -> bool:
        text = f"{reason}\n" + (f"message {message}: esb quarantine show {message}" if message else "")
        return await self._return(piece.path, piece.name, piece.folder, text.rstrip("\n"), member=piece.member)

    async def _return(self, path: Path, name: str, folder: Path, reason: str, *, member: bool = False) -> bool:
        """The file and why, in the bad folder. What fails here leaves it in `work`."""
        place = self._bad.place(folder, self._context.clock.now())
        give = _give_member if member else _give_back
        try:
            await self._context.thread(give, path, place, name, f"{reason}\n".encode())
        except OSError as error:
            self._trouble(path, error, name)
            return False
        return True

    async def _away(self, path: Path, name: str, folder: Path) -> bool:
        place = self._done.place(folder, self._context.clock.now())
        try:
            await self._context.thread(_move, path, place, name)
        except OSError as error:
            self._trouble(path, error, name)
            return False
        return True

    def _trouble(self, path: Path, error: Exception, name: str = "") -> None:
        """One file's trouble is its own: the others go on."""
        said = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
        self.troubles[shown(name or folders.claim_of(path)[1])] = said
        log.warning("%s waits in work: %s", shown(path.name), said)


def slices(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """As many at a time as one commit takes."""
    for start in range(0, len(items), UNDER_WAY):
        yield items[start : start + UNDER_WAY]


def _piece(member: Member, number: int, claim: str, archive: dict[str, Any], folder: Path) -> Piece:
    """A member as a message: its claim is the archive's, its content and its own name, the same after a crash."""
    name = shown(member.name)
    about = {
        **archive,
        "name": shown(member.base),
        "size": member.size,
        "sha256": member.sha256,
        "member": name,
        "archive": archive["name"],
        "archive_sha256": archive["sha256"],
    }
    headers = {
        "x-file-name": about["name"],
        "x-file-sha256": member.sha256,
        "x-archive-name": archive["name"],
        "x-archive-sha256": archive["sha256"],
        "x-archive-member": name,
    }
    incoming = Incoming(body=member.path, about=about, headers=headers, claim=f"{claim}/{archive['sha256']}/{name}")
    return Piece(member.path, f"{archive['name']}-{number}-{about['name']}", folder, incoming, member=True)


def _about(path: Path, folder: Path, name: str) -> dict[str, Any]:
    state = path.stat(follow_symlinks=False)
    return {
        "name": shown(name),
        "path": shown(str(folder / name)),
        "size": state.st_size,
        "sha256": folders.digest(path),
        "mtime": datetime.fromtimestamp(state.st_mtime, UTC),
    }


def _forget(scratch: Path) -> None:
    shutil.rmtree(scratch, ignore_errors=True)


def _move(path: Path, place: Path, name: str) -> None:
    folders.move(path, place, name)
    folders.finish(path)


def _give_back(path: Path, place: Path, name: str, reason: bytes) -> None:
    place.mkdir(parents=True, exist_ok=True)
    folders.write_over(place / folders.fitting(name, ".reason.txt"), reason)
    _move(path, place, name)


def _give_member(path: Path, place: Path, name: str, reason: bytes) -> None:
    """A member's copy, once: an archive that a crash cut off is unpacked and looked at again."""
    name = folders.fitting(name, "")
    place.mkdir(parents=True, exist_ok=True)
    folders.write_over(place / folders.fitting(name, ".reason.txt"), reason)
    if folders.same(path, place, name) is None:
        folders.move(path, place, name)


def shown(name: str) -> str:
    """A file name as text, whatever bytes it is made of."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
