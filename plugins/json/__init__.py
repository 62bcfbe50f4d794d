"""JSON, exactly: every digit kept, and duplicate keys, NaN, half characters and over-deep documents refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Literal

from esb_plugins.json.reading import Reader
from esb_plugins.json.streaming import Items
from esb_plugins.json.writing import Writer
from msgspec import Struct

from esb import BadPart, Component, Context, Decoded, DecodeError, Encoding, OptionError, Part, Size, hook

DEEPEST = 200
"""Levels that the parser surely reads; `depth` goes no further."""


class Options(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How JSON is read and written.

    `encoding`: the characters' encoding; a BOM is tolerated. `depth`: how many levels may nest (up to 200).
    `duplicates`: a key that stands twice in an object is refused, or `"last"` keeps the last value as many readers do.
    `max_number`: characters of the longest number, and its largest exponent. `max_size`: the largest document that is
    held whole; a `split` streams and has no such limit. `nulls`: `"omit"` leaves fields with null out when writing.
    `indent`: spaces a level when writing; 0 writes one line.
    """

    format: Literal["json"] = "json"
    encoding: Encoding = Encoding("utf-8")
    depth: int = 100
    duplicates: Literal["refuse", "last"] = "refuse"
    max_number: int = 1000
    max_size: Size = Size(64_000_000)
    nulls: Literal["keep", "omit"] = "keep"
    indent: int = 0


class JsonCodec:
    """Reads and writes JSON."""

    media_type = "application/json"

    def __init__(self, options: Options) -> None:
        self._options = options
        self._reader = _reader(options, options.encoding)
        self.encoding: str = options.encoding
        self._items = _reader(options, "utf-8")
        self._write = Writer(
            encoding=options.encoding, nulls=options.nulls, indent=options.indent, depth=options.depth
        ).write

    def decode(self, body: bytes, /) -> Decoded:
        """Raises DecodeError with line, offset and field path."""
        if len(body) > self._options.max_size:
            raise DecodeError(f"a document of over {self._options.max_size} (option max_size)", code="M215", offset=0)
        return Decoded(self._reader.read(body))

    def decode_part(self, raw: bytes, /) -> Decoded:
        """The tree of a part that `parts` gave, from its bytes."""
        return self.decode(raw)

    def encode(self, tree: Any, memory: Any = None, /) -> bytes:
        """Decimals by their exact digits, keys in the tree's order."""
        return self._write(tree)

    def keeps(self, read: object) -> bool:
        """Whether what `read` took in is what this codec would write: the original bytes may go on."""
        return isinstance(read, JsonCodec) and read._options.encoding == self._options.encoding

    def parts(self, chunks: Iterable[bytes], path: str, /) -> Iterator[Part | BadPart]:
        """The items of the array at `path` ("" is a document that is an array)."""
        return Items(self._items, chunks, path, self._options.encoding).parts()


def _reader(options: Options, encoding: str) -> Reader:
    return Reader(
        encoding=encoding,
        depth=options.depth,
        max_number=options.max_number,
        keep_last=options.duplicates == "last",
    )


def open_codec(options: Options, context: Context) -> AbstractAsyncContextManager[JsonCodec]:
    if not 1 <= options.depth <= DEEPEST:
        raise OptionError("depth", f"{options.depth} is not between 1 and {DEEPEST}")
    if not 20 <= options.max_number <= 4000:
        raise OptionError("max_number", f"{options.max_number} is not between 20 and 4000")
    if not 0 <= options.indent <= 16:
        raise OptionError("indent", f"{options.indent} is not between 0 and 16")
    return nullcontext(JsonCodec(options))


@hook
def esb_codecs() -> list[Component[Any]]:
    return [
        Component(
            kind="codec",
            name="json",
            about="JSON, exact: digits kept, duplicate keys refused",
            options=Options,
            main="format",
            reading=frozenset({"duplicates", "max_number", "max_size"}),
            writing=frozenset({"nulls", "indent"}),
            open=open_codec,
            example='do = [{ read = "json", depth = 50 }, { write = "json", nulls = "omit" }]',
        )
    ]
