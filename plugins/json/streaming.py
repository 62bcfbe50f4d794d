"""The items of a JSON array out of a stream, in constant memory: their ends by brackets, their trees by the reader."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import Final, NoReturn

from esb_plugins.json.reading import BOM, Reader
from esb_plugins.json.tape import Tape

from esb import BadPart, DecodeError, Part

BESIDE: Final = 4_000_000
"""Bytes that may stand beside the items (before the array and after it): they are held until the end."""

LARGEST_ITEM: Final = 64_000_000


class Items:
    """One walk through one stream. `reader` reads UTF-8; `encoding` is the stream's own."""

    def __init__(self, reader: Reader, chunks: Iterable[bytes], path: str, encoding: str) -> None:
        self._reader = reader
        self._path = path
        self._keys = path.split(".") if path else []
        self._encoding = None if is_utf8(encoding) else encoding
        self._tape = Tape(_without_bom(chunks) if self._encoding is None else _recoded(chunks, encoding))

    def parts(self) -> Iterator[Part | BadPart]:
        """Each item; a DecodeError where the document around the items is broken."""
        self._enter()
        before = self._tape.cut()
        outer = self._reader.read(before + b"]" + b"}" * len(self._keys))
        for raw, line, offset in self._items():
            own = raw if self._encoding is None else raw.decode("utf-8", "surrogatepass").encode(self._encoding)
            try:
                yield Part(tree=self._reader.read(raw), raw=own, line=line, outer=outer)
            except DecodeError as error:
                yield BadPart(own, moved(error, line - 1, offset), line)
        self._check_rest(before)

    def _enter(self) -> None:
        """Goes on to just behind the `[` of the array at the path."""
        for depth, key in enumerate(self._keys):
            if self._tape.token(BESIDE) != b"{" or not self._find(key):
                self._missing(".".join(self._keys[: depth + 1]))
        if self._tape.token(BESIDE) != b"[":
            self._missing(self._path)

    def _find(self, wanted: str) -> bool:
        """Goes on to just behind `"wanted":` in the object that was entered."""
        tape = self._tape
        while (token := tape.token(BESIDE)).startswith(b'"'):
            if tape.token(BESIDE) != b":":
                break
            if self._reader.read(token) == wanted:
                return True
            tape.skip_value(BESIDE)
            if tape.token(BESIDE) != b",":
                break
        return False

    def _missing(self, place: str) -> NoReturn:
        """The path is not there; or the document is broken anyway, which is then the news."""
        if self._tape.finish(BESIDE):
            self._reader.read(self._tape.cut())
        if not place:
            message = "the document is no array, and the split names no path into it"
        else:
            message = f'there is no array at "{self._path}": "{place}" is missing or something else'
        raise DecodeError(message, code="M219", place=f"body.{place}" if place else "body")

    def _items(self) -> Iterator[tuple[bytes, int, int]]:
        """(bytes, line, offset) of each item."""
        tape = self._tape
        while (mark := tape.peek(BESIDE)) != b"]":
            tape.skip_space()
            line, offset = tape.line, tape.offset
            tape.skip_value(LARGEST_ITEM)
            yield tape.cut(), line, offset
            if mark := tape.peek(BESIDE):
                if mark == b"]":
                    return
                if mark == b",":
                    tape.token(BESIDE)
                    if tape.peek(BESIDE) != b"]":
                        continue
            raise tape.broken("behind an item there must be a comma and the next one, or the end of the array")

    def _check_rest(self, before: bytes) -> None:
        """The document without its items must be as exact as any other."""
        tape = self._tape
        tape.skip_space()
        line, offset = tape.line, tape.offset
        if not tape.finish(BESIDE):
            raise tape.broken(f"over {BESIDE // 1_000_000} MB behind the items", "M215")
        try:
            self._reader.read(before + tape.cut())
        except DecodeError as error:
            raise moved(error, line - 1 - before.count(b"\n"), offset - len(before)) from None


def moved(error: DecodeError, lines: int, offset: int) -> DecodeError:
    """The same error in the whole stream's lines and bytes; a field path stays the part's own."""
    line = None if error.line is None else error.line + lines
    return DecodeError(
        str(error).replace(f"(line {error.line}", f"(line {line}"),
        code=error.code,
        line=line,
        offset=None if error.offset is None else error.offset + offset,
        place="" if error.place.startswith(("line ", "byte ")) else error.place,
    )


def is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name == "utf-8"


def _recoded(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The stream in UTF-8, without a BOM."""
    decoder = codecs.getincrementaldecoder(encoding)()
    first = True
    try:
        for chunk in chunks:
            text = decoder.decode(chunk)
            if first and text:
                first, text = False, text.removeprefix("\ufeff")
            yield text.encode("utf-8", "surrogatepass")
        yield decoder.decode(b"", True).encode("utf-8", "surrogatepass")
    except UnicodeError as error:
        raise DecodeError(f"not {encoding}: {error}", code="M213") from None


def _without_bom(chunks: Iterable[bytes]) -> Iterator[bytes]:
    start: bytes | None = b""
    for chunk in chunks:
        if start is None:
            yield chunk
            continue
        start += chunk
        if len(start) >= len(BOM) or not BOM.startswith(start):
            yield start.removeprefix(BOM)
            start = None
    if start:
        yield start
