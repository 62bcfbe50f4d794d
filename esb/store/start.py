"""Between being opened and being used: is the file sound, what was under way, has the clock jumped."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from esb.clock import Clock, SystemClock
from esb.errors import StoreCorrupt
from esb.store import copies, dead_letters, opening, reading
from esb.store.inflight import Inflight, mark_of, row_of
from esb.store.rows import Numbers
from esb.store.work import Work

log = logging.getLogger(__name__)

REMEMBERED = {"claim": 7 * 86400.0, "body": 3600.0}
"""Seconds that a crash is held against what was under way."""
JUMP = 3600.0
"""Seconds by which the clock must differ to be called a jump."""
BACK = 10.0
"""Seconds by which a clock may go back without a word."""
LONG_AWAY = 30 * 86400.0
"""A time away that is more likely a clock set wrong, when the machine itself cannot tell (it was started anew)."""

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Start(Struct, frozen=True, kw_only=True):
    """What was found at the start."""

    clean: bool
    check_later: bool
    clock_jump: float
    poisoned: int
    node: str
    generation: int
    crashes: Mapping[tuple[str, str], int]
    waiting: Mapping[str, tuple[int, int]]
    files: frozenset[str]

    @staticmethod
    def key(key: str | bytes) -> str:
        """How a claim or a body's hash stands in the table of crashes."""
        return mark_of(key).hex()


def begin(db: sqlite3.Connection, folder: Path, ring: Inflight, clock: Clock, numbers: Numbers) -> Start:
    """Looks at the file and counts what was under way; from now on the end is unclean until it is clean.

    Raises StoreCorrupt: the file is kept, nothing is accepted.
    """
    file = folder / opening.FILE
    clean = db.execute("SELECT clean FROM node").fetchone()[0]
    small = file.stat().st_size <= opening.CHECK_UP_TO
    if not clean:
        log.warning("the last end was not clean%s", ": checking the file" if small else "")
        finding = opening.check(db) if small else ""
        if finding:
            raise StoreCorrupt(f"{file} is damaged: {finding}; it is kept as it is")
    lost = opening.behind(db, ring.committed)
    if lost:
        raise StoreCorrupt(
            f"{file} is older than what was committed ({lost}): its -wal file is missing, or an older copy was put in"
            f" its place. Put the newer file back; to go on without what is lost, remove {folder / 'inflight'}",
            code="S531",
        )
    jump = _jump(db, clock)
    db.execute("BEGIN IMMEDIATE")
    work = Work(db, numbers, clock.now())
    poisoned = 0 if clean else _count_crashes(work, ring)
    _follow_back(work)
    copies.take_over(work)
    write_seen(work)
    db.execute("UPDATE node SET clean = 0")
    db.execute("COMMIT")
    node, generation = db.execute("SELECT id, generation FROM node").fetchone()
    now = clock.now()
    crashes = {key: n for key, n in reading.crashes(db, now - REMEMBERED["claim"]).items() if key[0] == "claim"}
    crashes |= {key: n for key, n in reading.crashes(db, now - REMEMBERED["body"]).items() if key[0] == "body"}
    return Start(
        clean=bool(clean),
        check_later=not clean and not small,
        clock_jump=jump,
        poisoned=poisoned,
        node=node,
        generation=generation,
        crashes=crashes,
        waiting=reading.waiting(db),
        files=frozenset(reading.files(db)),
    )


def _count_crashes(work: Work, ring: Inflight) -> int:
    deliveries = [row_of(mark) for kind, mark in ring.left_over if kind == "delivery"]
    others = [(kind, mark.hex()) for kind, mark in ring.left_over if kind != "delivery"]
    parked = dead_letters.count_crashes(work, deliveries, others)
    if parked:
        log.error("%d deliveries are parked: the process died again and again while they were under way", parked)
    return parked


def _jump(db: sqlite3.Connection, clock: Clock) -> float:
    """Seconds that the wall clock moved more than time went by; 0 when it did not, or when nobody can tell."""
    seen, boot, up = db.execute("SELECT seen, boot, up FROM node").fetchone()
    if seen is None:
        return 0.0
    gone: float = clock.now() - seen
    if isinstance(clock, SystemClock) and boot is not None and boot == _boot():
        jump = gone - (_up() - up)
        return jump if abs(jump) > JUMP else 0.0
    return gone if gone < -JUMP or gone > LONG_AWAY else 0.0


def _follow_back(work: Work) -> None:
    """The clock was set back: what waits for a time waits no longer than it was to (R12)."""
    seen = work.db.execute("SELECT seen FROM node").fetchone()[0]
    back = 0.0 if seen is None else seen - work.now
    if back > BACK:
        log.warning("the clock was set back by %.0f s: what waits for a time follows it", back)
        work.db.execute(
            "UPDATE delivery SET due = max(due - ?, ?) WHERE state = 'due' AND due > ?", (back, work.now, work.now)
        )


def _boot() -> str | None:
    return _BOOT.read_text().strip() if _BOOT.exists() else None


def _up() -> float:
    """Seconds since the machine was started, sleep included: no wall clock moves it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def write_seen(work: Work) -> None:
    """The time, and the machine's own count of it, as of now."""
    work.db.execute("UPDATE node SET seen = ?, boot = ?, up = ?", (work.now, _boot(), _up()))


def write_clean(work: Work) -> None:
    """The last thing written: the end is clean."""
    write_seen(work)
    work.db.execute("UPDATE node SET clean = 1")
