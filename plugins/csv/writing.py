"""Rows to CSV bytes. A value that one cell cannot hold is refused by its column, never flattened or dropped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final, Literal

from esb_plugins.csv.rows import Dialect
from msgspec import Struct

from esb import EncodeError, spell_moment, spell_number

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
_NUMBER: Final = re.compile(r"[+-]?\d+([.,]\d+)?")


class Style(Struct, frozen=True, kw_only=True):
    """What is written, as the options of `write` say it."""

    dialect: Dialect = Dialect()
    encoding: str = "utf-8"
    header: bool = True
    columns: tuple[str, ...] = ()
    newline: str = "\r\n"
    replace_unmappable: bool = False
    decimal: str = "."
    null: str | None = None
    true: str = "true"
    false: str = "false"
    dates: str | None = None
    formula: Literal["keep", "quote", "refuse"] = "keep"
    comment: str = ""


class Writer:
    """Writes whole documents. Raises EncodeError that names row and column."""

    def __init__(self, style: Style) -> None:
        self._style = style
        dialect = style.dialect
        special = re.escape("".join(dialect) + "\r\n\ufeff")  # a BOM at the beginning would be taken off
        self._special = re.compile(f"[{special}]")

    def write(self, tree: Any) -> bytes:
        """`{"rows": [...]}`, a list of rows, or one row."""
        rows = _rows(tree)
        columns = self._columns(rows)
        lines = [self._line(columns, "the header")] if self._style.header else []
        lines += [self._row(row, columns, number) for number, row in enumerate(rows)]
        return self._bytes("".join(lines), columns, rows)

    def head(self, tree: Any) -> bytes:
        """The header line that `write` begins with, of a tree that it has written."""
        columns = self._columns(_rows(tree))
        return self._bytes(self._line(columns, "the header"), columns, ())

    def _columns(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        columns = self._style.columns or _columns(rows)
        if not columns:
            raise EncodeError(
                "there are no rows to take the columns from; declare columns", code="M228", place="body.rows"
            )
        return columns

    def _row(self, row: Mapping[str, Any], columns: Sequence[str], number: int) -> str:
        place = f"body.rows[{number}]"
        if len(row) != len(columns) or any(column not in row for column in columns):
            self._compare(row, columns, place)
        cells = [self._text(row.get(column), f"{place}.{column}") for column in columns]
        return self._line(cells, place)

    def _text(self, value: Any, place: str) -> str | None:
        """What stands in the cell, quotes aside; None is null."""
        if value is None:
            return None
        if type(value) is not str:
            return self._spell(value, place)
        if self._style.formula != "keep" and value.startswith(_FORMULA):
            return self._defused(value, place)
        return value

    def _compare(self, row: Mapping[str, Any], columns: Sequence[str], place: str) -> None:
        foreign = [key for key in row if key not in columns]
        if foreign:
            named = ", ".join(f'"{key}"' for key in foreign[:5])
            declared = "declared columns" if self._style.columns else "columns of the first row; declare columns"
            raise EncodeError(f"{named} is not among the {declared}", code="M228", place=place)
        lacking = [column for column in columns if column not in row]
        if lacking and not self._style.columns:
            named = ", ".join(f'"{column}"' for column in lacking[:5])
            raise EncodeError(f"{named} is missing, the first row has it; declare columns", code="M228", place=place)

    def _line(self, cells: Sequence[str | None], place: str) -> str:
        written = [self._cell(cell, index, place) for index, cell in enumerate(cells)]
        if len(written) == 1 and not written[0]:
            if cells[0] is None and self._style.null == "":
                raise EncodeError("null in the only column would be a blank line", code="M294", place=place)
            written[0] = self._quoted("", place)  # an empty line would be no row at all
        return self._style.dialect.delimiter.join(written) + self._style.newline

    def _cell(self, text: str | None, index: int, place: str) -> str:
        style = self._style
        if text is None:
            return style.null or ""
        if self._special.search(text) or text == style.null or (index == 0 and self._reads_as_comment(text)):
            return self._quoted(text, place)
        if "\0" in text:
            raise EncodeError("a NUL character, which no CSV may hold", code="M225", place=place)
        return text

    def _reads_as_comment(self, text: str) -> bool:
        return bool(self._style.comment) and text.startswith(self._style.comment)

    def _quoted(self, text: str, place: str) -> str:
        quote, escape = self._style.dialect.quote, self._style.dialect.escape
        if "\0" in text:
            raise EncodeError("a NUL character, which no CSV may hold", code="M225", place=place)
        if quote:
            if escape:
                text = text.replace(escape, escape * 2)
            return f"{quote}{text.replace(quote, quote * 2)}{quote}"
        if not escape or not text or "\n" in text or "\r" in text or text == self._style.null:
            raise EncodeError("a cell that needs quotes, and there are none (option quote)", code="M225", place=place)
        escaped = self._special.sub(lambda match: escape + match[0], text)
        return escape + escaped if self._reads_as_comment(escaped) else escaped

    def _spell(self, value: Any, place: str) -> str:
        """The cell of a value that is no text."""
        if isinstance(value, bool):
            return self._style.true if value else self._style.false
        if isinstance(value, (int, float, Decimal)):
            try:
                return spell_number(value).replace(".", self._style.decimal)
            except ValueError as error:
                raise EncodeError(str(error), code="M226", place=place) from None
        if isinstance(value, date) and self._style.dates is not None:
            return value.strftime(self._style.dates)
        if isinstance(value, (date, timedelta)):
            return spell_moment(value)
        if isinstance(value, (Mapping, list, tuple)):
            kind = "an object" if isinstance(value, Mapping) else "a list"
            message = f'column "{place.rpartition(".")[2]}" holds {kind}; a cell holds one value'
            raise EncodeError(message, code="M227", place=place)
        raise EncodeError(f"CSV has no form for {type(value).__name__}", place=place)

    def _defused(self, text: str, place: str) -> str:
        """A spreadsheet runs a text that begins like a formula (ASVS 1.2.10)."""
        if _NUMBER.fullmatch(text):
            return text
        if self._style.formula == "refuse":
            message = f"a text that begins with {text[0]!r} is a formula to a spreadsheet (option formula)"
            raise EncodeError(message, code="M229", place=place)
        return f"'{text}"

    def _bytes(self, text: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
        encoding = self._style.encoding
        try:
            return text.encode(encoding, "replace" if self._style.replace_unmappable else "strict")
        except UnicodeEncodeError as error:
            letter = text[error.start]
            place = next(
                (
                    f"body.rows[{number}].{column}"
                    for number, row in enumerate(rows)
                    for column in columns
                    if letter in str(row.get(column))
                ),
                "body.rows",
            )
            message = f'U+{ord(letter):04X} is not in {encoding}; write unmappable = "replace" to give it up'
            raise EncodeError(message, code="M225", place=place) from None


def _rows(tree: Any) -> Sequence[Mapping[str, Any]]:
    rows = tree
    if isinstance(tree, Mapping):
        rows = tree["rows"] if len(tree) == 1 and isinstance(tree.get("rows"), (list, tuple)) else [tree]
    if not isinstance(rows, (list, tuple)):
        raise EncodeError("CSV is written from rows: a list of objects, or one object", place="body")
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise EncodeError("a row is an object, its keys are the columns", place=f"body.rows[{number}]")
    return rows


def _columns(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    if not rows:
        return ()
    for column in rows[0]:
        if not isinstance(column, str) or not column.strip():
            raise EncodeError(f"{column!r} is no name for a column", code="M224", place="body.rows[0]")
    return tuple(rows[0])
