"""CSV: rows by column name, nothing inferred; ragged rows and open quotes are errors with their line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from decimal import Decimal
from typing import Any, Final, Literal

from esb_plugins.csv.reading import BadRow, Layout, Row, Table
from esb_plugins.csv.rows import Dialect
from esb_plugins.csv.writing import Style, Writer
from msgspec import Struct

from esb import (
    BadPart,
    Component,
    Context,
    Decoded,
    DecodeError,
    Encoding,
    Expression,
    Headers,
    Message,
    OptionError,
    Part,
    Program,
    Size,
    hook,
)

_SLICE: Final = 262_144


class Options(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How CSV is read and written.

    Both: `delimiter`, `quote` and `escape` are single characters ("" is none); `encoding` (a UTF-8 BOM is tolerated);
    `header`: whether the first line names the columns; `columns`: their names (reading: what the header must say, or
    what there is without one; writing: which, in which order); `null`: the unquoted word that stands for null;
    `comment`: lines that begin so are passed over; `decimal`: the decimal mark.

    Reading: `skip_first` lines are passed over, then `head` records go to `source.head`; the last `foot` records go to
    `source.foot`; `blank`: blank lines; `count` and `sum` are control totals (CEL over `source`) that must agree with
    the number of rows and the sums of columns; `max_row`: characters of the longest record; `max_size`: the largest
    document that is held whole.

    Writing: `header = "once"` is for a target that appends: it begins each new file and stands nowhere else; `newline`;
    `unmappable`: what becomes of characters that the encoding lacks; `true`, `false` and `dates` (strftime): how those
    are written; `formula`: what becomes of texts that a spreadsheet would run.
    """

    format: Literal["csv"] = "csv"
    delimiter: str = ","
    quote: str = '"'
    escape: str = ""
    encoding: Encoding = Encoding("utf-8")
    header: bool | Literal["once"] = True
    columns: list[str] = []
    skip_first: int = 0
    head: int = 0
    foot: int = 0
    comment: str = ""
    blank: Literal["skip", "error"] = "skip"
    null: str | None = None
    count: Expression | None = None
    sum: dict[str, Expression] = {}
    max_row: Size = Size(4_000_000)
    max_size: Size = Size(64_000_000)
    newline: Literal["\r\n", "\n", "\r"] = "\r\n"
    unmappable: Literal["error", "replace"] = "error"
    decimal: Literal[".", ","] = "."
    true: str = "true"
    false: str = "false"
    dates: str | None = None
    formula: Literal["keep", "quote", "refuse"] = "keep"


class CsvCodec:
    """Reads and writes CSV. `whole` tells that control totals must be seen to agree before the first part is used."""

    def __init__(self, options: Options, count: Program | None, sums: Mapping[str, Program]) -> None:
        dialect = Dialect(options.delimiter, options.quote, options.escape)
        self._dialect = dialect
        self._options = options
        self._count = count
        self._sums = sums
        self.whole = count is not None or bool(sums)
        self.encoding: str = options.encoding
        self.media_type = "text/csv; header=present" if options.header == "once" else "text/csv"
        self._layout = Layout(
            dialect=dialect,
            encoding=options.encoding,
            header=bool(options.header),
            columns=tuple(options.columns),
            skip_first=options.skip_first,
            head=options.head,
            foot=options.foot,
            comment=options.comment,
            skip_blank=options.blank == "skip",
            null=options.null,
            decimal=options.decimal,
            max_row=int(options.max_row),
            sums=tuple(options.sum),
        )
        self._writer = Writer(
            Style(
                dialect=dialect,
                encoding=options.encoding,
                header=bool(options.header),
                columns=tuple(options.columns),
                newline=options.newline,
                replace_unmappable=options.unmappable == "replace",
                decimal=options.decimal,
                null=options.null,
                true=options.true,
                false=options.false,
                dates=options.dates,
                formula=options.formula,
                comment=options.comment,
            )
        )

    def decode(self, body: bytes, /) -> Decoded:
        """`{"rows": [...]}`, each row an object of texts by column; `source.head` and `source.foot` beside it."""
        if len(body) > self._options.max_size:
            raise DecodeError(f"a document of over {self._options.max_size} (option max_size)", code="M215", offset=0)
        table = Table(self._layout, _slices(body))
        rows = [_good(row).values for row in table.rows()]
        about = {"head": table.head, "foot": table.foot}
        self._agree(table, about)
        return Decoded({"rows": rows}, about)

    def decode_part(self, raw: bytes, /) -> Decoded:
        """One row, from the header and the row's own line."""
        table = Table(self._layout, [raw], part=True)
        rows = [_good(row).values for row in table.rows()]
        if len(rows) != 1:
            raise DecodeError(f"a part is one row, not {len(rows)}", code="M217", line=1)
        return Decoded(rows[0])

    def encode(self, tree: Any, memory: Any = None, /) -> bytes:
        """From `{"rows": [...]}`, a list of rows or one row."""
        return self._writer.write(tree)

    def head(self, tree: Any, /) -> bytes:
        """The header line, with `header = "once"`."""
        return self._writer.head(tree) if self._options.header == "once" else b""

    def keeps(self, read: object) -> bool:
        """Whether what `read` took in is what this codec would write: the original bytes may go on."""
        return isinstance(read, CsvCodec) and read._options == self._options

    def parts(self, chunks: Iterable[bytes], path: str, /) -> Iterator[Part | BadPart]:
        """Each row; a ragged one is bad alone. Ends with a DecodeError when a control total does not agree."""
        if path not in ("rows", ""):
            raise DecodeError(f'CSV has only "rows" to split, not "{path}"', code="M219", place=f"body.{path}")
        table = Table(self._layout, chunks)
        outer: dict[str, Any] = {"rows": []}
        about = {"head": table.head}
        for row in table.rows():
            raw = (table.header_text + row.text).encode(self._options.encoding)
            if isinstance(row, BadRow):
                yield BadPart(raw, row.error, row.line)
            else:
                yield Part(tree=row.values, raw=raw, line=row.line, outer=outer, about=about)
        self._agree(table, {"head": table.head, "foot": table.foot})

    def _agree(self, table: Table, about: Mapping[str, Any]) -> None:
        """Raises DecodeError where a control total differs from what was read."""
        if not self.whole:
            return
        seen = Message(uid="", route="", accepted_at=0.0, body={}, raw=b"", headers=Headers(), source=about)
        if self._count is not None:
            _compare("rows", self._count.evaluate(seen), table.count, "count")
        for column, program in self._sums.items():
            _compare(f'the sum of "{column}"', program.evaluate(seen), table.sums[column], f"sum.{column}")


def _compare(what: str, told: Any, found: int | Decimal, place: str) -> None:
    if isinstance(told, bool) or told != found:
        raise DecodeError(f"control total: {what}: told {told}, found {found}", code="M291", place=place)


def _good(row: Row | BadRow) -> Row:
    if isinstance(row, BadRow):
        raise row.error
    return row


def _slices(body: bytes) -> Sequence[bytes]:
    """Pieces of a large body, so that its text is never held twice."""
    return [body] if len(body) <= _SLICE else [body[at : at + _SLICE] for at in range(0, len(body), _SLICE)]


def open_codec(options: Options, context: Context) -> AbstractAsyncContextManager[CsvCodec]:
    _check_marks(options)
    for name in ("skip_first", "head", "foot"):
        if getattr(options, name) < 0:
            raise OptionError(name, "is a number of lines, so not negative")
    if not options.header and not options.columns:
        raise OptionError("header", "without a header the columns must be named", 'write columns = ["id", "name"]')
    if len(set(options.columns)) < len(options.columns) or not all(name.strip() for name in options.columns):
        raise OptionError("columns", "a column has no name, or two have the same")
    for column in options.sum:
        if options.columns and column not in options.columns:
            raise OptionError("sum", f'there is no column "{column}"', f"columns are {', '.join(options.columns)}")
    count = None if options.count is None else context.expression(options.count)
    sums = {column: context.expression(text) for column, text in options.sum.items()}
    return nullcontext(CsvCodec(options, count, sums))


def _check_marks(options: Options) -> None:
    if len(options.delimiter) != 1 or options.delimiter in "\r\n\0":
        raise OptionError("delimiter", f"{options.delimiter!r} is not one character", 'write ";" or "\\t"')
    seen = {options.delimiter}
    for name, mark in (("quote", options.quote), ("escape", options.escape)):
        if len(mark) > 1 or mark in ("\r", "\n", "\0", " "):
            raise OptionError(name, f"{mark!r} is not one character, nor none")
        if mark in seen:
            raise OptionError(name, f"{mark!r} has another meaning already")
        seen.update(mark)


@hook
def esb_codecs() -> list[Component[Any]]:
    return [
        Component(
            kind="codec",
            name="csv",
            about="CSV by column name: any dialect, nothing inferred, ragged rows with their line",
            options=Options,
            main="format",
            reading=frozenset({"skip_first", "head", "foot", "blank", "count", "sum", "max_row", "max_size"}),
            writing=frozenset({"newline", "unmappable", "true", "false", "dates", "formula"}),
            open=open_codec,
            heads=lambda options: options.header == "once",
            example='do = [{ read = "csv", delimiter = ";", encoding = "windows-1252", null = "NULL" }]',
        )
    ]
