"""A stream of XML in UTF-8 and small pieces, after the refusals that a parser must not come to."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from typing import Final

from esb_plugins.xml.parsing import encoding_of, refuse_crowd, refuse_doctype, root_at

from esb import DecodeError

PIECE: Final = 65_536
LONGEST_PROLOG: Final = 200_000
LONGEST_TAG: Final = 1_000_000
_WHOLE_TAG: Final = re.compile(rb"""<[^<>"']*(?:(?:"[^"<]*"|'[^'<]*')[^<>"']*)*>""")
_ENDS: Final = {b"<!--": b"-->", b"<![CDATA[": b"]]>", b"<?": b"?>"}
_NO_TAG: Final = re.compile(b"|".join(map(re.escape, _ENDS)))
_ENOUGH: Final = 1024
"""Bytes that surely hold the declaration."""


def pieces(chunks: Iterable[bytes], encoding: str | None, max_attributes: int) -> Iterator[bytes]:
    """The first piece holds the whole prolog and the beginning of the root."""
    tags = Tags()
    for piece in _after_prolog(_recoded(_small(chunks), encoding)):
        tag = tags.open_after(piece)
        if len(tag) > LONGEST_TAG:
            raise DecodeError(f"a tag of over {LONGEST_TAG // 1_000_000} MB", code="M215")
        if tag.count(b"=") > max_attributes:
            refuse_crowd(tag + b">", max_attributes)
        yield piece


class Tags:
    """Follows a stream and knows the start of a tag that a piece leaves open, comments and the like aside."""

    def __init__(self) -> None:
        self._held = b""
        self._until = b""

    def open_after(self, piece: bytes) -> bytes:
        """Everything from the `<` of a tag on that is not closed yet; `b""` where none is open."""
        text = self._held + piece
        at = 0
        while True:
            if self._until:
                end = text.find(self._until, at)
                if end < 0:
                    self._held = text[max(at, len(text) - len(self._until) + 1) :]
                    return b""
                at, self._until = end + len(self._until), b""
            begin = _NO_TAG.search(text, at)
            if begin is None:
                break
            at, self._until = begin.end(), _ENDS[begin[0]]
        last = text.rfind(b"<", at)
        self._held = b"" if last < 0 or _WHOLE_TAG.match(text, last) else text[last:]
        return self._held


def _after_prolog(stream: Iterator[bytes]) -> Iterator[bytes]:
    prolog = b""
    for piece in stream:
        prolog += piece
        at = root_at(prolog)
        refuse_doctype(prolog[: at + len(b"<!DOCTYPE")])
        if at < len(prolog) - 1 and prolog[at : at + 2] not in (b"<!", b"<?"):
            break
        if len(prolog) > LONGEST_PROLOG:
            raise DecodeError("no root element in the first 200 kB", code="M215", line=1)
    yield prolog
    yield from stream


def _small(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for at in range(0, len(chunk), PIECE):
            yield chunk[at : at + PIECE]


def _recoded(stream: Iterator[bytes], encoding: str | None) -> Iterator[bytes]:
    """In UTF-8 and without a BOM, by what the beginning says."""
    start = b""
    for piece in stream:
        start += piece
        if len(start) >= _ENOUGH:
            break
    source = encoding_of(start, encoding)
    if source == "utf-8":
        yield start.removeprefix(codecs.BOM_UTF8)
        yield from stream
        return
    decoder = codecs.getincrementaldecoder(source)()
    try:
        yield decoder.decode(start).removeprefix("\ufeff").encode("utf-8", "surrogatepass")
        for piece in stream:
            yield decoder.decode(piece).encode("utf-8", "surrogatepass")
        yield decoder.decode(b"", True).encode("utf-8", "surrogatepass")
    except UnicodeError as error:
        raise DecodeError(f"not {source}: {error}", code="M213") from None
