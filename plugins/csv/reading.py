"""CSV bytes to rows by name. Nothing is inferred: every cell is a text, every row has every column."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final

from esb_plugins.csv.rows import BadRecord, Dialect, Lines, Record, records, text_lines
from msgspec import Struct

from esb import DecodeError

_LONGEST: Final = 40
"""Characters of a cell that an error shows."""


class Layout(Struct, frozen=True, kw_only=True):
    """What a file looks like, as the options of `read` say it."""

    dialect: Dialect = Dialect()
    encoding: str = "utf-8"
    header: bool = True
    columns: tuple[str, ...] = ()
    skip_first: int = 0
    head: int = 0
    foot: int = 0
    comment: str = ""
    skip_blank: bool = True
    null: str | None = None
    decimal: str = "."
    max_row: int = 4_000_000
    sums: tuple[str, ...] = ()


class Row(Struct, frozen=True):
    """One row: by column, with its own text."""

    values: dict[str, str | None]
    text: str
    line: int


class BadRow(Struct, frozen=True):
    """A row that cannot be read, while the ones after it can."""

    error: DecodeError
    text: str
    line: int


class Table:
    """One walk through one stream. `head`, `header` and `foot` are known when `rows` has come past them."""

    def __init__(self, layout: Layout, chunks: Iterable[bytes], *, part: bool = False) -> None:
        self._layout = layout
        self._part = part
        lines = text_lines(chunks, layout.encoding, layout.max_row)
        self._lines = Lines(lines, layout.comment, layout.max_row)
        self.head: list[list[str]] = []
        self.foot: list[list[str]] = []
        self.header_text = ""
        self.columns: Sequence[str] = layout.columns
        self.count = 0
        self.sums = dict.fromkeys(layout.sums, Decimal(0))

    def rows(self) -> Iterator[Row | BadRow]:
        """Every row between head and foot."""
        layout = self._layout
        found = self._records()
        if layout.header:
            self._take_header(found)
        waiting: deque[Record | BadRecord] = deque()
        behind = 0 if self._part else layout.foot
        for record in found:
            waiting.append(record)
            if len(waiting) > behind:
                yield self._row(waiting.popleft())
        self.foot = [_cells(record, "foot") for record in waiting]

    def _records(self) -> Iterator[Record | BadRecord]:
        """All records but those before the header and the blank ones."""
        layout = self._layout
        if not self._part:
            self._lines.skip(layout.skip_first)
        found = records(self._lines, layout.dialect)
        if not self._part:
            for _ in range(layout.head):
                record = next(found, None)
                if record is not None:
                    self.head.append(_cells(record, "head"))
        for record in found:
            if isinstance(record, Record) and not record.cells:
                if layout.skip_blank:
                    continue
                error = DecodeError(f"line {record.line} is blank", code="M217", line=record.line)
                record = BadRecord(error, record.text, record.line)
            yield record

    def _take_header(self, found: Iterator[Record | BadRecord]) -> None:
        record = next(found, None)
        if record is None:
            raise DecodeError("there is no header line", code="M218", line=self._lines.line or 1)
        names = _cells(record, "header")
        for index, name in enumerate(names, 1):
            if not name.strip():
                raise DecodeError(
                    f"column {index} has no name in the header (line {record.line})", code="M218", line=record.line
                )
        doubled = [name for name, times in Counter(names).items() if times > 1]
        if doubled:
            message = f"the header names {_listed(doubled)} twice (line {record.line})"
            raise DecodeError(message, code="M211", line=record.line)
        self._compare(names, record.line)
        self.columns = names
        self.header_text = record.text

    def _compare(self, names: Sequence[str], line: int) -> None:
        """Declared columns must be the header's, in any order."""
        declared = self._layout.columns
        if declared and set(declared) != set(names):
            lacking = [name for name in declared if name not in names]
            foreign = [name for name in names if name not in declared]
            said = [f"lacks {_listed(lacking)}"] * bool(lacking) + [f"has {_listed(foreign)} besides"] * bool(foreign)
            message = f"the header (line {line}) is not as declared in columns: it {' and '.join(said)}"
            raise DecodeError(message, code="M218", line=line)

    def _row(self, record: Record | BadRecord) -> Row | BadRow:
        self.count += 1
        if isinstance(record, BadRecord):
            return BadRow(record.error, record.text, record.line)
        cells, columns = record.cells, self.columns
        if len(cells) != len(columns):
            message = f"line {record.line} has {len(cells)} cells, but there are {len(columns)} columns"
            return BadRow(DecodeError(message, code="M217", line=record.line), record.text, record.line)
        null = self._layout.null
        values: dict[str, str | None] = dict(zip(columns, cells, strict=True))
        if null is not None and null in cells:
            bare = _bare(record.text, self._layout.dialect)
            values = {
                name: None if cell == null and bare[index] else cell
                for index, (name, cell) in enumerate(zip(columns, cells, strict=True))
            }
        if self.sums:
            try:
                self._add(values, record.line)
            except DecodeError as error:
                return BadRow(error, record.text, record.line)
        return Row(values, record.text, record.line)

    def _add(self, values: dict[str, Any], line: int) -> None:
        for column in self.sums:
            text = values.get(column)
            try:
                number = Decimal("" if text is None else text.strip().replace(self._layout.decimal, "."))
            except InvalidOperation:
                number = Decimal("NaN")
            if not number.is_finite():
                said = repr(text)[:_LONGEST]
                message = f"line {line}: {column} is no number to add up: {said}"
                raise DecodeError(message, code="M293", line=line, place=f"rows.{column}")
            self.sums[column] += number


def _cells(record: Record | BadRecord, what: str) -> list[str]:
    if isinstance(record, BadRecord):
        raise record.error
    return record.cells


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name[:_LONGEST]}"' for name in names[:5]) + (" ..." if len(names) > 5 else "")


def _bare(text: str, dialect: Dialect) -> list[bool]:
    """Which cells of a record are written without quotes."""
    return [not (dialect.quote and cell.startswith(dialect.quote)) for cell in _cell_texts(dialect)(text)]


@lru_cache(maxsize=64)
def _cell_texts(dialect: Dialect) -> Any:
    """A function that cuts a record's text into the texts of its cells, quotes included."""
    mark, quote, escape = (re.escape(item) for item in dialect)
    escaped = rf"|{escape}." if escape else ""
    bare = rf"(?:[^{mark}{escape}\r\n]{escaped})*"
    cell = bare
    if quote:
        cell = rf"{quote}(?:[^{quote}{escape}]|{quote}{quote}{escaped})*{quote}|{bare}"
    return re.compile(rf"(?:^|(?<={mark}))(?:{cell})", re.DOTALL).findall
