"""`roll`: when a new file begins, and what it is called."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from esb import Duration, OptionError

_DAY: Final = 86_400


class Roll(Struct, frozen=True, forbid_unknown_fields=True):
    """A new file with each period `every`, counted from midnight in the bus's time zone (weeks from Monday), and before
    it would have more than `rows` lines."""

    every: Duration | None = None
    rows: int | None = None


class Names:
    """What the files of one name are called: `orders.csv` is `orders-20261124-0001.csv`, with the day, or the day and
    the time, at which the period began, and a number that begins anew with each period."""

    def __init__(self, name: str, roll: Roll, zone: ZoneInfo) -> None:
        self._roll = roll
        self._zone = zone
        self._stem, dot, ending = name.partition(".")
        self._ending = dot + ending
        front, back = re.escape(self._stem), re.escape(self._ending)
        self._pattern = re.compile(rf"{front}-(?:(\d{{8}}(?:T\d{{4}})?)-)?(\d{{4,}}){back}", re.DOTALL)

    def period(self, now: float) -> str:
        """The period at this time (seconds since the epoch), as a name has it; "" without `every`."""
        if self._roll.every is None:
            return ""
        moment, every = datetime.fromtimestamp(now, self._zone), int(self._roll.every)
        if every >= _DAY:
            days = every // _DAY
            return f"{date.fromordinal((moment.toordinal() - 1) // days * days + 1):%Y%m%d}"
        since = (moment.hour * 3600 + moment.minute * 60 + moment.second) // every * every
        return f"{datetime(moment.year, moment.month, moment.day) + timedelta(seconds=since):%Y%m%dT%H%M}"

    def name(self, period: str, number: int) -> str:
        return "-".join(filter(None, (self._stem, period, f"{number:04}"))) + self._ending

    def number(self, name: str, period: str) -> int | None:
        """The number of one of these names; None when it is of another period, or none of them."""
        found = self._pattern.fullmatch(name)
        return int(found[2]) if found is not None and (found[1] or "") == period else None

    def is_full(self, lines: int, more: int) -> bool:
        """Whether a file of so many lines has no room for so many more."""
        return self._roll.rows is not None and lines + more > self._roll.rows


def check_roll(roll: Roll) -> None:
    """Raises OptionError for a roll that never rolls, or at no time of the day that could be told."""
    if roll.every is None and roll.rows is None:
        raise OptionError("roll", "roll says neither every nor rows", 'write { every = "1d" } or { rows = 100000 }')
    if roll.rows is not None and roll.rows < 1:
        raise OptionError("roll.rows", "a file has at least one row")
    if roll.every is not None and not _is_regular(roll.every):
        hint = 'write "1h", "6h", "1d" or "7d": whole days, or minutes that divide a day'
        raise OptionError("roll.every", "these periods do not begin at the same time each day", hint)


def _is_regular(every: float) -> bool:
    return every >= 60 and every % 60 == 0 and (every % _DAY == 0 or _DAY % every == 0)
