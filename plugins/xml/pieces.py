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
_ENOUGH: Final = 1024
"""Bytes that surely hold the declaration."""


def pieces(chunks: Iterable[bytes], encoding: str | None, max_attributes: int) -> Iterator[bytes]:
    """The first piece holds the whole prolog and the beginning of the root."""
    tag = b""
    for piece in _after_prolog(_recoded(_small(chunks), encoding)):
        tag = _open_tag(tag, piece)
        if len(tag) > LONGEST_TAG:
            raise DecodeError(f"a tag of over {LONGEST_TAG // 1_000_000} MB", code="M215")
        if tag.count(b"=") > max_attributes:
            refuse_crowd(tag[1:] + b">", max_attributes)
        yield piece


def _open_tag(tag: bytes, piece: bytes) -> bytes:
    """The start of a tag that this piece leaves open."""
    at = piece.rfind(b"<")
    if at >= 0:
        tag = piece[at:]
    elif tag:
        tag += piece
    if tag.startswith((b"<!", b"<?")) or _WHOLE_TAG.match(tag):
        return b""
    return tag


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
