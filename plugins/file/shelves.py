"""Where a file source puts what it is done with, and how it knows these folders again."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

TODAY = "{today}"


class Shelf:
    """`done` or `bad`: counted from the table's folder when it begins like the source's own path, else from the folder
    that a file lay in."""

    def __init__(self, base: Path, watched: str, named: str, zone: ZoneInfo) -> None:
        self._base = base
        self._named = named
        self._zone = zone
        place = Path(named)
        self._fixed = place.is_absolute() or place.parts[:1] == Path(watched).parts[:1]

    def place(self, folder: Path, now: float) -> Path:
        """Where a file of this folder goes at this time (seconds since the epoch)."""
        today = datetime.fromtimestamp(now, self._zone).date().isoformat()
        return self._within(folder) / self._named.replace(TODAY, today)

    def _within(self, folder: Path) -> Path:
        return self._base if self._fixed else folder

    def holds(self, folder: Path, parent: Path) -> bool:
        """Whether a folder is this shelf, of whatever day; `parent` is the one it lies in."""
        first = Path(self._named).parts[0]
        whole = self._base / self._named if self._fixed else parent / first
        pattern = re.escape(str(whole)).replace(re.escape(TODAY), r"\d{4}-\d\d-\d\d")
        return re.fullmatch(pattern, str(folder)) is not None
