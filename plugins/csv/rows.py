"""The records of a CSV stream, each with its own text and the line it begins on."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from esb import DecodeError

csv.field_size_limit(2**31 - 1)
"""The module's own limit (128 kB a field) is for the whole process and says nothing; `max_row` is ours."""

_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Dialect(NamedTuple):
    """The marks of one kind of CSV; `""` is none."""

    delimiter: str = ","
    quote: str = '"'
    escape: str = ""


class Record(NamedTuple):
    cells: list[str]
    text: str
    line: int


class BadRecord(NamedTuple):
    """A line whose quoting is wrong, and which is surely over at its end."""

    error: DecodeError
    text: str
    line: int


class Lines:
    """Feeds the parser physical lines and remembers those of the record under way."""

    def __init__(self, lines: Iterator[str], comment: str, max_row: int) -> None:
        self._lines = lines
        self._comment = comment
        self._max_row = max_row
        self._room = max_row
        self.record: list[str] = []
        self.line = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.line += 1
        while self._comment and not self.record and line.startswith(self._comment):
            line = next(self._lines)
            self.line += 1
        if "\0" in line:
            raise DecodeError(
                f"a NUL character (line {self.line}); is it UTF-16? then declare encoding = \"utf-16\"",
                code="M213", line=self.line,
            )  # fmt: skip
        self._room -= len(line)
        if self._room < 0:
            begin = self.line - len(self.record)
            raise DecodeError(
                f"the record that begins on line {begin} is over {self._max_row} characters long (option max_row); "
                "is a quote never closed?",
                code="M215",
                line=begin,
            )
        self.record.append(line)
        return line

    def skip(self, count: int) -> None:
        """Passes over lines, whatever is in them."""
        for _ in range(count):
            next(self._lines, None)
            self.line += 1

    @property
    def begin(self) -> int:
        """The line on which the record under way begins."""
        return self.line - len(self.record) + 1

    def done(self) -> str:
        """The text of the record that ends here."""
        text = self.record[0] if len(self.record) == 1 else "".join(self.record)
        self.record.clear()
        self._room = self._max_row
        return text


def records(lines: Lines, dialect: Dialect) -> Iterator[Record | BadRecord]:
    """Every record that is not empty text; a DecodeError where quotes leave open what belongs to which record."""
    reader = csv.reader(
        lines,
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        escapechar=dialect.escape or None,
        strict=True,
    )
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield _bad(lines, dialect, error)
            continue
        line = lines.begin
        yield Record(cells, lines.done(), line)


def _bad(lines: Lines, dialect: Dialect, error: csv.Error) -> BadRecord:
    line, parts = lines.begin, len(lines.record)
    text = lines.done()
    if "unexpected end" in str(error):
        message = f"a quote that is opened in the record on line {line} is never closed"
        raise DecodeError(message, code="M210", line=line)
    said = f"wrong quoting on line {line}: {error}"
    problem = DecodeError(said, code="M210", line=line)
    if parts > 1 or not dialect.quote or text.count(dialect.quote) % 2:
        raise problem
    return BadRecord(problem, text, line)


def text_lines(chunks: Iterable[bytes], encoding: str, longest: int) -> Iterator[str]:
    r"""The physical lines with their ends (`\n`, `\r\n` or `\r`), decoded chunk by chunk, without a BOM."""
    utf8 = encoding == "utf-8"
    decoder = codecs.getincrementaldecoder("utf-8-sig" if utf8 else encoding)()
    held, line, offset, first = "", 1, 0, b""
    for chunk in _padded(chunks):
        first = first or chunk[:2]
        try:
            text = decoder.decode(chunk, not chunk)
        except UnicodeError as error:
            hint = '; it looks like UTF-16: declare encoding = "utf-16"' if first in _UTF16 and utf8 else ""
            raise _undecodable(error, encoding, line, offset, hint) from None
        offset += len(chunk)
        pieces = list(io.StringIO(held + text, newline=""))
        held = pieces.pop() if pieces and not pieces[-1].endswith("\n") else ""
        if len(held) > longest:
            message = f"line {line + len(pieces)} is over {longest} characters long (option max_row)"
            raise DecodeError(message, code="M215", line=line + len(pieces))
        line += len(pieces)
        yield from pieces
    if held:
        yield held


def _padded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks that hold something, and an empty one as the end."""
    yield from filter(None, chunks)
    yield b""


def _undecodable(error: UnicodeError, encoding: str, line: int, offset: int, hint: str) -> DecodeError:
    start = 0
    if isinstance(error, UnicodeDecodeError):
        start = error.start
        line += error.object.count(b"\n", 0, start)
    message = f"not {encoding} on line {line} (byte {offset + start}){hint}"
    return DecodeError(message, code="M213", line=line, offset=offset + start)
