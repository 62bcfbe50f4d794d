"""Collecting what is wrong with a table: every problem with its file, line and column, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from esb.errors import Problem
from esb.table.model import Place
from esb.table.positions import Positions


def closest(name: str, known: Iterable[str]) -> str:
    """`did you mean "x"?`, or what there is."""
    names = sorted(known)
    near = near_to(name, names)
    if near:
        return f'did you mean "{near}"?'
    return f"there is {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}" if names else "there is none"


def one_of(value: object, words: Iterable[str]) -> str:
    """The hint for a word that is none of those there are."""
    known = list(words)
    near = near_to(str(value), known)
    return f'did you mean "{near}"?' if near else f"it is one of {', '.join(known)}"


def near_to(name: str, known: Iterable[str]) -> str:
    """The known name that is meant, or ""."""
    names = {known.lower().replace("-", "_"): known for known in known}
    near = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=1, cutoff=0.6)
    return names[near[0]] if near else ""


class Source:
    """One TOML file: its name as it is told to people, and the spots in it."""

    def __init__(self, file: str, folder: Path, text: str) -> None:
        self.file = file
        self.folder = folder
        self.text = text
        self._positions: Positions | None = None

    @property
    def positions(self) -> Positions:
        """Scanned when first asked: a table without faults is hardly ever asked."""
        if self._positions is None:
            self._positions = Positions(self.text)
        return self._positions


class Atlas:
    """Which file each place of the whole table stands in, and where there. Some places of the merged table have another
    path in their own file (arrays of several files are joined: `[[test]]`)."""

    def __init__(self) -> None:
        self._files: dict[Place, tuple[Source, Place]] = {}
        self.main: Source | None = None

    def claim(self, place: Place, source: Source, own: Place | None = None) -> None:
        """What stands under `place` comes from this file."""
        self._files[place] = (source, place if own is None else own)

    def source(self, place: Place) -> tuple[Source, Place] | None:
        """The file that a place stands in, and its path there."""
        for length in range(len(place), 0, -1):
            found = self._files.get(place[:length])
            if found is not None:
                return found[0], (*found[1], *place[length:])
        return None if self.main is None else (self.main, place)

    def folder(self, place: Place) -> Path:
        """What relative paths at a place count from."""
        found = self.source(place)
        return Path() if found is None else found[0].folder

    def has(self, place: Place) -> bool:
        """Whether something stands at exactly this place."""
        found = self.source(place)
        return found is not None and found[1] in found[0].positions

    def locate(self, place: Place, problem: Problem, offset: int | None = None, *, key: bool = False) -> Problem:
        """The same problem with file, line and column; `offset` counts characters into a text value."""
        found = self.source(place)
        if found is None:
            return problem
        source, own = found
        spots = source.positions
        spot = spots.where(own, key=key) if offset is None else spots.inside(own, offset)
        line, column = spot or (1, 1)
        return replace(problem, file=source.file, line=line, column=column)


class Notes:
    """The problems found so far."""

    def __init__(self, atlas: Atlas) -> None:
        self.atlas = atlas
        self.problems: list[Problem] = []
        self.lacking: dict[Place, str] = {}
        self._of_machine: set[Problem] = set()

    def lack(
        self,
        place: Place,
        code: str,
        message: str,
        hint: str,
        why: str,
        *,
        offset: int | None = None,
        key: bool = False,
    ) -> None:
        """Notes what is right and not to be had on this machine: it stops what needs it, not the whole table."""
        self.add(place, code, message, hint, offset=offset, key=key)
        self._of_machine.add(self.problems[-1])
        self.lacking[place] = why

    def why_lacking(self, place: Place) -> str | None:
        """Why something at a place, or inside it, is not to be had."""
        return next((why for found, why in self.lacking.items() if found[: len(place)] == place), None)

    def add(
        self,
        place: Place,
        code: str,
        message: str,
        hint: str = "",
        *,
        offset: int | None = None,
        key: bool = False,
        severity: str = "error",
    ) -> None:
        """Notes a problem at a place: at its value, at its key, or at the character `offset` of its text."""
        problem = Problem(code, message, hint, severity=severity)
        self.problems.append(self.atlas.locate(place, problem, offset, key=key))

    def warn(
        self, place: Place, code: str, message: str, hint: str = "", *, offset: int | None = None, key: bool = False
    ) -> None:
        """Notes what does not stop the table from being used."""
        self.add(place, code, message, hint, offset=offset, key=key, severity="warning")

    @property
    def errors(self) -> list[Problem]:
        """What is wrong in the table itself."""
        return [item for item in self.problems if item.severity == "error" and item not in self._of_machine]

    def sorted(self) -> list[Problem]:
        """Each problem once, by file and place."""
        ordered = sorted(self.problems, key=lambda found: (found.file or "", found.line or 0, found.column or 0))
        return list(dict.fromkeys(ordered))


def route_of(place: Place) -> str:
    """`route "orders": ` in front of a message, where the place is inside one."""
    if len(place) > 1 and place[0] in ("route", "target", "map", "steps", "retry", "auth", "listener"):
        return f'{place[0]} "{place[1]}": '
    return ""
