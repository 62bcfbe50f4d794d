"""How deep a JSON text nests, found without parsing it: a hostile one must not reach a parser that recurses."""

from __future__ import annotations

from typing import Final

_QUOTED_QUOTES: Final = ((rb"\\", b""), (rb"\"", b""))
_NOT_STRUCTURE: Final = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_SQUARE: Final = bytes.maketrans(b"{}", b"[]")


def deeper(body: bytes, depth: int) -> bool:
    """Whether brackets nest deeper than that. Of a broken text the answer may be either."""
    if body.count(b"[") + body.count(b"{") <= depth:
        return False
    if b"\\" in body:
        for escaped, gone in _QUOTED_QUOTES:
            body = body.replace(escaped, gone)
    structure = body.translate(None, _NOT_STRUCTURE)
    brackets = b"".join(structure.split(b'"')[::2]).translate(_SQUARE)
    for _ in range(depth):
        fewer = brackets.replace(b"[]", b"")  # takes away the innermost level
        if len(fewer) == len(brackets):
            return _climbs(brackets, depth)
        brackets = fewer
    return bool(brackets)


def _climbs(brackets: bytes, depth: int) -> bool:
    """What no pairs are left of is broken: too deep only if it opens that often."""
    level = 0
    for byte in brackets:
        level += 1 if byte == 0x5B else -1
        if level > depth:
            return True
    return False
