"""XML bytes to elements, safely: no DOCTYPE, no entities, no network, known encodings, limits on all that can grow."""

from __future__ import annotations

import codecs
import re
from functools import lru_cache
from typing import Any, Final, TypeAlias

from lxml import etree

from esb import DecodeError, Encoding

Element: TypeAlias = Any
"""An lxml element. The stubs say `str | bytes` and `...` where only texts and numbers can stand."""

SPACE: Final = " \t\r\n"
LARGE: Final = 65_536
"""Bytes above which a document gets a parser of its own: one parser serves one thread at a time."""

_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF32: Final = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_DECLARED: Final = re.compile(rb"""<\?xml\s[^>]*?encoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]*)["']""")
_PROLOG: Final = re.compile(rb"(?:[ \t\r\n]+|<\?.*?\?>|<!--.*?-->)*", re.DOTALL)
_NO_TAGS: Final = re.compile(rb"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>", re.DOTALL)
_BAD_CHARACTERS: Final = frozenset({9, 81})
_LIMITS: Final = 114


def options(*, lean: bool) -> dict[str, Any]:
    """What every parser here is told. A lean one leaves out comments and instructions, so that texts stay whole."""
    return {
        "encoding": "utf-8",
        "resolve_entities": False,
        "load_dtd": False,
        "no_network": True,
        "huge_tree": False,
        "remove_comments": lean,
        "remove_pis": lean,
        "strip_cdata": lean,
    }


class Parser:
    """Parses whole documents. Raises DecodeError and nothing else, whatever the bytes are."""

    def __init__(self, *, encoding: str | None = None, max_attributes: int = 256) -> None:
        self.encoding = encoding
        self._max_attributes = max_attributes
        self._lean = etree.XMLParser(**options(lean=True))

    def parse(self, body: bytes) -> Element:
        """The root; comments and processing instructions are left out."""
        body = self.utf8(body)
        return self._parse(body, self._lean if len(body) <= LARGE else etree.XMLParser(**options(lean=True)))

    def parse_whole(self, body: bytes) -> Element:
        """The root, with comments, processing instructions and CDATA sections as they stand."""
        return self._parse(self.utf8(body), etree.XMLParser(**options(lean=False)))

    def utf8(self, body: bytes) -> bytes:
        """The document in UTF-8 and without a BOM, after the cheap refusals."""
        body = in_utf8(body, self.encoding)
        refuse_doctype(body)
        if body.count(b"=") > self._max_attributes:
            refuse_crowd(body, self._max_attributes)
        return body

    def _parse(self, body: bytes, parser: etree.XMLParser) -> Element:
        try:
            return etree.fromstring(body, parser)
        except etree.XMLSyntaxError as error:
            raise refused(error) from None


def in_utf8(body: bytes, encoding: str | None) -> bytes:
    """By BOM, by `encoding` (which overrules the declaration), by the declaration, else UTF-8."""
    source = encoding_of(body, encoding)
    if source == "utf-8":
        return body.removeprefix(codecs.BOM_UTF8)
    try:
        text = body.decode(source)
    except UnicodeError as error:
        offset = error.start if isinstance(error, UnicodeDecodeError) else 0
        line = body.count(b"\n", 0, offset) + 1
        raise DecodeError(f"not {source} (line {line}, byte {offset})", code="M213", line=line, offset=offset) from None
    recoded = text.removeprefix("\ufeff").encode("utf-8", "surrogatepass")
    if source == "utf-16" and _declared(recoded) not in (None, "utf-16", "utf-16-le", "utf-16-be"):
        raise DecodeError(f"the BOM says UTF-16, the declaration {_declared(recoded)}", code="M213", line=1)
    return recoded


def encoding_of(body: bytes, encoding: str | None) -> str:
    """Python's name of the encoding a document is in."""
    if body.startswith(_UTF32):
        raise DecodeError("UTF-32 is not read", code="M213", line=1)
    if body.startswith(_UTF16):
        return _agreed("utf-16", encoding, body)
    if body.startswith(codecs.BOM_UTF8):
        return _agreed("utf-8", encoding or _declared(body[3:]), body)
    if encoding is not None:
        return encoding
    declared = _declared(body) or "utf-8"
    if declared.startswith(("utf-16", "utf-32")):
        raise DecodeError(f"declared as {declared}, but there is no byte order mark", code="M213", line=1)
    return declared


def _agreed(found: str, told: str | None, body: bytes) -> str:
    if told is not None and told.removesuffix("-sig") not in (found, f"{found}-le", f"{found}-be"):
        raise DecodeError(f"the byte order mark says {found}, but {told} is declared", code="M213", line=1)
    return found


def _declared(body: bytes) -> str | None:
    if not body.startswith(b"<?xml"):
        return None
    end = body.find(b"?>", 0, 1000)
    return None if end < 0 else _declaration(body[:end])


@lru_cache(maxsize=256)
def _declaration(start: bytes) -> str | None:
    found = _DECLARED.match(start)
    if found is None:
        return None
    try:
        return str(Encoding.parse(found[1].decode()))
    except ValueError as error:
        raise DecodeError(str(error), code="M213", line=1) from None


def refuse_doctype(body: bytes) -> None:
    """Anything before the root that reads `<!DOCTYPE`, a comment included: readers differ on where comments end."""
    found = body.find(b"<!DOCTYPE")
    if found >= 0 and found <= root_at(body):
        line = body.count(b"\n", 0, found) + 1
        message = f"a DOCTYPE (line {line}): it is refused, whatever it says"
        raise DecodeError(message, code="M216", line=line, offset=found)


def root_at(body: bytes) -> int:
    """Where the prolog is over: at the root, at a DOCTYPE, or at something broken."""
    prolog = _PROLOG.match(body)
    return 0 if prolog is None else prolog.end()


def refuse_crowd(body: bytes, limit: int) -> None:
    """An element of too many attributes, before a parser makes them all."""
    if _crowd(body, limit) is not None:  # perhaps only something in a comment looks so
        line = _crowd(_NO_TAGS.sub(_blank, body), limit)
        if line is not None:
            raise crowded(limit, line)


def _crowd(body: bytes, limit: int) -> int | None:
    """The line of the first crowded element."""
    at = 0
    for piece in body.split(b"<"):
        if piece.count(b"=") > limit and _crowded_tag(limit).match(piece):
            return body.count(b"\n", 0, at) + 1
        at += len(piece) + 1
    return None


@lru_cache(maxsize=16)
def _crowded_tag(limit: int) -> re.Pattern[bytes]:
    """A tag, without its `<`, of more attributes than that."""
    attribute = rb"""\s++[^\s<>"'=/]++\s*+=\s*+(?:"[^"<]*+"|'[^'<]*+')"""
    return re.compile(rb"""[^\s<>"'=/]++(?:%b){%d}""" % (attribute, limit + 1))


def _blank(match: re.Match[bytes]) -> bytes:
    return b"\n" * match[0].count(b"\n")


def crowded(limit: int, line: int | None) -> DecodeError:
    message = f"an element of over {limit} attributes (line {line}, option max_attributes)"
    return DecodeError(message, code="M215", line=line)


def refused(error: etree.XMLSyntaxError) -> DecodeError:
    """What the parser says, in our words."""
    said = (error.msg or "broken").partition(", line ")[0].strip()
    line = error.lineno or 1
    number: int = getattr(error, "code", 0)
    code = "M213" if number in _BAD_CHARACTERS else "M210"
    if number == _LIMITS:
        code = "M214" if "depth" in said else "M215"
    column = error.position[1] if error.position else 0
    return DecodeError(f"not XML: {said} (line {line} column {column})", code=code, line=line)
