"""A window over a stream of JSON, read token by token without holding more than one value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from esb import DecodeError

DEEPEST: Final = 1000
"""Levels that are followed at all; what a document may have is the reader's to say."""

SPACE: Final = b" \t\r\n"
_TOKEN: Final = re.compile(rb'[ \t\r\n]*(?:("[^"\\]*(?:\\.[^"\\]*)*")|([{}\[\],:])|([^\s{}\[\],:"]+))', re.DOTALL)
_FLAT: Final = rb'[^"{}\[\]]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_LEAVES: Final = rb"%b|\{(?:%b)*+\}|\[(?:%b)*+\]" % (_FLAT, _FLAT, _FLAT)
_RUN: Final = re.compile(rb"(?:%b|\{(?:%b)*+\}|\[(?:%b)*+\])*+" % (_FLAT, _LEAVES, _LEAVES), re.DOTALL)
"""Everything up to a bracket that is not closed within the next two levels: one step in C instead of one a text."""

_SPACES: Final = re.compile(rb"[ \t\r\n]*")


class Tape:
    """`offset` and `line` say where the next `cut` begins. What was cut is let go when more is taken in."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = b""
        self._start = 0
        self._at = 0
        self.offset = 0
        self.line = 1

    def token(self, limit: int) -> bytes:
        """The next string, mark or word; `b""` at the end. `limit` is how many bytes may be held to see it whole."""
        while True:
            match = _TOKEN.match(self._buffer, self._at)
            if match is not None and not (match[3] and match.end() == len(self._buffer)):
                break
            if not self._more(limit):
                break
        if match is None:
            if self._buffer[self._at :].strip(SPACE):
                raise self.broken("not JSON: a text that does not end, or a character that means nothing here")
            return b""
        self._at = match.end()
        return match[match.lastindex or 0]

    def peek(self, limit: int) -> bytes:
        """The next token, which stays where it is."""
        ahead = self._at - self._start
        token = self.token(limit)
        self._at = self._start + ahead
        return token

    def skip_space(self) -> None:
        """Goes on to the next token and cuts off what stands before it."""
        while True:
            self._at = _SPACES.match(self._buffer, self._at).end()  # type: ignore[union-attr]  # matches nothing, too
            self.cut()
            if self._at < len(self._buffer) or not self._more(1):
                return

    def skip_value(self, limit: int) -> None:
        """Goes on to just behind one value."""
        first = self.token(limit)
        if first in (b"{", b"["):
            self._close(limit)
        elif first in (b"", b"}", b"]", b",", b":"):
            raise self.broken("not JSON: a value is missing")

    def _close(self, limit: int) -> None:
        """Goes on behind the bracket that closes the one just read."""
        level = 1
        while True:
            self._at = _RUN.match(self._buffer, self._at).end()  # type: ignore[union-attr]  # matches nothing, too
            mark = self._buffer[self._at : self._at + 1]
            if mark in (b"", b'"'):  # the end of the window, or a text that goes on behind it
                if not self._more(limit):
                    raise self.broken("not JSON: the document ends in the middle of a value")
                continue
            self._at += 1
            level += 1 if mark in b"{[" else -1
            if not level:
                return
            if level > DEEPEST:
                raise self.broken(f"nested deeper than {DEEPEST} levels", "M214")

    def cut(self) -> bytes:
        """Takes off, and gives, everything up to here."""
        taken = self._buffer[self._start : self._at]
        self._start = self._at
        self.offset += len(taken)
        self.line += taken.count(b"\n")
        return taken

    def finish(self, limit: int) -> bool:
        """Takes in all that is left and goes to its end; False when that is over the limit."""
        while len(self._buffer) - self._start <= limit:
            if not self._more(limit):
                self._at = len(self._buffer)
                return True
        return False

    def _more(self, limit: int) -> bool:
        """Takes in at least as much as is held, so that a long value is looked through no more than twice."""
        held = len(self._buffer) - self._start
        if held > limit:
            raise self.broken(f"a value of over {limit / 1_000_000:g} MB", "M215")
        pieces, size = [self._buffer[self._start :]], 0
        for chunk in self._chunks:
            pieces.append(chunk)
            size += len(chunk)
            if size and size >= held:
                break
        self._buffer = b"".join(pieces)
        self._at -= self._start
        self._start = 0
        return size > 0

    def broken(self, what: str, code: str = "M210") -> DecodeError:
        """An error at this place."""
        line = self.line + self._buffer.count(b"\n", self._start, self._at)
        offset = self.offset + self._at - self._start
        return DecodeError(f"{what} (line {line})", code=code, line=line, offset=offset)
