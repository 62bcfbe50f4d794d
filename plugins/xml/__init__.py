"""XML: a safe parser, a plain tree by local names, and the original document kept where it can be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Literal

from esb_plugins.xml.editing import Editor, Form, Memory
from esb_plugins.xml.jsonml import JsonmlReader
from esb_plugins.xml.naming import BUILT_IN, Kind, declared
from esb_plugins.xml.origin import Loss
from esb_plugins.xml.parsing import Parser
from esb_plugins.xml.parts import Elements
from esb_plugins.xml.reading import Reader
from esb_plugins.xml.writing import Style, Writer
from esb_plugins.xml.xpath import XPath
from msgspec import Struct

from esb import BadPart, Component, Context, Decoded, DecodeError, Encoding, OptionError, Part, Size, hook

DEEPEST = 250
"""Levels that the parser reads; `depth` goes no further."""


class Options(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How XML is read and written.

    Reading: `encoding` overrules what the document declares; `arrays` are paths that are lists even where one stands
    alone; `types` gives leaves and attributes (`"Order.@id"`) a type; `prefixes` makes names carry the prefix that
    `[namespaces]` gives; `mode = "jsonml"` keeps order and mixed text as lists; `depth`, `max_attributes` (of one
    element) and `max_size` (of a document that is held whole) are limits.

    Writing: `root` names the root of a tree that has none; `declaration`; `encoding` (the original's, else UTF-8);
    `indent`: spaces a level; `namespaces`: prefixes beside those of `[namespaces]`, and `default`; `empty`: `<a/>` or
    `<a></a>`; `nulls`: what null becomes (no default); `lossy`: what may be lost of the original document.
    """

    format: Literal["xml"] = "xml"
    encoding: Encoding | None = None
    arrays: list[str] = []
    types: dict[str, Kind] = {}
    prefixes: bool = False
    mode: Literal["tree", "jsonml"] = "tree"
    depth: int = 100
    max_attributes: int = 256
    max_size: Size = Size(64_000_000)
    root: str | None = None
    declaration: bool | None = None
    indent: int = 0
    namespaces: dict[str, str] = {}
    empty: Literal["short", "long"] = "short"
    nulls: Literal["nil", "omit", "empty"] | None = None
    lossy: list[Loss] = []


class XmlCodec:
    """Reads and writes XML."""

    media_type = "application/xml"

    def __init__(self, options: Options, namespaces: Mapping[str, str]) -> None:
        self._options = options
        given = {**namespaces, **{prefix: uri for prefix, uri in options.namespaces.items() if prefix != "default"}}
        prefixes = {uri: prefix for prefix, uri in {**BUILT_IN, **given}.items()} if options.prefixes else None
        self._parser = Parser(encoding=options.encoding, max_attributes=options.max_attributes)
        self._tree_reader = Reader(
            prefixes=prefixes,
            root=declared(options.arrays, options.types),
            depth=options.depth,
            max_attributes=options.max_attributes,
        )
        self._reader: Reader | JsonmlReader = self._tree_reader
        if options.mode == "jsonml":
            self._reader = JsonmlReader(prefixes=prefixes, depth=options.depth, max_attributes=options.max_attributes)
        self._writer = Writer(
            Style(
                root=options.root,
                declaration=options.declaration is not False,
                encoding=options.encoding or "utf-8",
                indent=options.indent,
                namespaces={**given, "": options.namespaces.get("default", "")},
                empty=options.empty,
                nulls=options.nulls,
                jsonml=options.mode == "jsonml",
                depth=options.depth,
            )
        )
        self._editor = Editor(
            self._writer,
            Form(
                encoding=options.encoding,
                declaration=options.declaration,
                indent=options.indent,
                lossy=tuple(options.lossy),
                names_root=options.root is not None,
            ),
        )

    def decode(self, body: bytes, /) -> Decoded:
        """`{root: content}`. The memory keeps the document, for what a tree cannot hold."""
        self._refuse_size(body)
        return Decoded(self._reader.document(self._parser.parse(body)), memory=self._memory(body))

    def decode_part(self, raw: bytes, /) -> Decoded:
        """The content of an element that `parts` gave, without its name."""
        self._refuse_size(raw)
        return Decoded(self._reader.content(self._parser.parse(raw)), memory=self._memory(raw, part=True))

    def parts(self, chunks: Iterable[bytes], path: str, /) -> Iterator[Part | BadPart]:
        """The elements at a path of names: `"Order.Lines.Line"`."""
        if not path:
            raise DecodeError("a split of XML names a path, the body itself is one element", code="M219", place="body")
        walk = Elements(
            self._tree_reader,
            path,
            encoding=self._options.encoding,
            content=self._reader.content,
            memory=lambda raw: self._memory(raw, part=True),
        )
        return walk.parts(chunks, self._options.max_attributes)

    def encode(self, tree: Any, memory: Any = None, /) -> bytes:
        """With `memory` a changed tree is put back into its document; what does not fit is written as a whole, and
        refused where the document held more than the tree does (option lossy)."""
        if isinstance(memory, Memory):
            return self._editor.write(tree, memory)
        return self._writer.write(tree)

    def keeps(self, read: object) -> bool:
        """Whether what `read` took in is what this codec would write: the original bytes may go on."""
        return isinstance(read, XmlCodec) and read._options.encoding in (None, self._options.encoding)

    def _refuse_size(self, body: bytes) -> None:
        if len(body) > self._options.max_size:
            raise DecodeError(f"a document of over {self._options.max_size} (option max_size)", code="M215", offset=0)

    def _memory(self, raw: bytes, *, part: bool = False) -> Memory:
        return Memory(raw, self._parser, self._reader, part)


def open_codec(options: Options, context: Context) -> AbstractAsyncContextManager[XmlCodec]:
    if not 1 <= options.depth <= DEEPEST:
        raise OptionError("depth", f"{options.depth} is not between 1 and {DEEPEST}")
    if not 1 <= options.max_attributes <= 10_000:
        raise OptionError("max_attributes", f"{options.max_attributes} is not between 1 and 10000")
    if not 0 <= options.indent <= 16:
        raise OptionError("indent", f"{options.indent} is not between 0 and 16")
    if options.mode == "jsonml" and (options.arrays or options.types):
        raise OptionError("mode", "JsonML keeps lists as they stand", "leave arrays and types out")
    return nullcontext(XmlCodec(options, context.namespaces()))


@hook
def esb_codecs() -> list[Component[Any]]:
    return [
        Component(
            kind="codec",
            name="xml",
            about="XML by local names, safely parsed; a changed document is edited in place",
            options=Options,
            main="format",
            reading=frozenset({"arrays", "types", "max_attributes", "max_size"}),
            writing=frozenset({"root", "declaration", "indent", "empty", "nulls", "lossy"}),
            open=open_codec,
            example='do = [{ read = "xml", arrays = ["Order.Lines.Line"], types = { "Order.Total" = "decimal" } }]',
        )
    ]


@hook
def esb_functions() -> Mapping[str, Callable[..., Any]]:
    return {"xpath": XPath()}
