"""Message ids: UUIDv7 for what is accepted, UUIDv8 of a SHA-256 for what can be derived again (R13, RFC 9562)."""

from __future__ import annotations

import hashlib
import os

_NOISE = 4096
_noise: list[int] = []


def new_uid(now: float) -> str:
    """A UUIDv7 for this moment (seconds since the epoch): sorts by time, 36 characters."""
    if not _noise:
        _refill()
    noise = _noise.pop()
    stamp = int(now * 1000) & 0xFFFFFFFFFFFF
    return _text((stamp << 80) | 0x7_000_8000_000000000000 | noise)


def _refill() -> None:
    """Random bits for the next ids (12 and 62 of each), many at once: a system call an id costs more than the id."""
    data = os.urandom(10 * _NOISE)
    low = (1 << 62) - 1
    for start in range(0, len(data), 10):
        number = int.from_bytes(data[start : start + 10])
        _noise.append(((number >> 68) << 64) | (number & low))


os.register_at_fork(after_in_child=_noise.clear)


def derived_uid(*parts: str) -> str:
    """The same parts give the same UUIDv8. Lengths are hashed too, so that no two lists of parts are alike."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    number = int.from_bytes(digest.digest()[:16])
    return _text((number & ~(0xF << 76) & ~(0b11 << 62)) | (0x8 << 76) | (0b10 << 62))


def claimed_uid(route: str, claim: str) -> str:
    """The id of a message by the claim of its source (R2)."""
    return derived_uid("claim", route, claim)


def _text(number: int) -> str:
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
