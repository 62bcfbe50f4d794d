"""XML: a safe parser, a plain tree by local names, and the original document kept where it can be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final, Literal

from esb_plugins.xml.jsonml import JsonmlReader
from esb_plugins.xml.names import spelled_encoding
from esb_plugins.xml.naming import BUILT_IN, Keys, Kind, declared
from esb_plugins.xml.origin import LOSSES, Loss, Origin, losses
from esb_plugins.xml.parsing import Element, Parser, encoding_of
from esb_plugins.xml.parts import Elements
from esb_plugins.xml.patching import CannotPatch, Patch, same
from esb_plugins.xml.reading import Reader
from esb_plugins.xml.writing import Style, Writer, encoded
from esb_plugins.xml.xpath import XPath
from lxml import etree
from msgspec import Struct

from esb import BadPart, Component, Context, Decoded, DecodeError, EncodeError, Encoding, OptionError, Part, Size, hook

DEEPEST = 250
"""Levels that the parser reads; `depth` goes no further."""


_STANDALONE: Final = re.compile(rb"""<\?xml [^>]*?(\sstandalone\s*=\s*["'](?:yes|no)["'])""")


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


class Memory(Struct, frozen=True):
    """The document a tree came from; `part` tells that the tree is its root's content without the name."""

    raw: bytes
    codec: XmlCodec
    part: bool = False


class XmlCodec:
    """Reads and writes XML."""

    media_type = "application/xml"

    def __init__(self, options: Options, namespaces: Mapping[str, str]) -> None:
        self._options = options
        given = {**namespaces, **{prefix: uri for prefix, uri in options.namespaces.items() if prefix != "default"}}
        self._prefixes = {uri: prefix for prefix, uri in {**BUILT_IN, **given}.items()} if options.prefixes else None
        self._parser = Parser(encoding=options.encoding, max_attributes=options.max_attributes)
        self._reader = Reader(
            prefixes=self._prefixes,
            root=declared(options.arrays, options.types),
            depth=options.depth,
            max_attributes=options.max_attributes,
        )
        self._jsonml = JsonmlReader(prefixes=self._prefixes, depth=options.depth, max_attributes=options.max_attributes)
        self._document: Callable[[Element], Any] = self._reader.document
        self._content: Callable[[Element], Any] = self._reader.content
        if options.mode == "jsonml":
            self._document = self._content = self._jsonml.document
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

    def decode(self, body: bytes, /) -> Decoded:
        """`{root: content}`. The memory keeps the document, for what a tree cannot hold."""
        self._refuse_size(body)
        return Decoded(self._document(self._parser.parse(body)), memory=Memory(body, self))

    def decode_part(self, raw: bytes, /) -> Decoded:
        """The content of an element that `parts` gave, without its name."""
        self._refuse_size(raw)
        return Decoded(self._content(self._parser.parse(raw)), memory=Memory(raw, self, True))

    def parts(self, chunks: Iterable[bytes], path: str, /) -> Iterator[Part | BadPart]:
        """The elements at a path of names: `"Order.Lines.Line"`."""
        if not path:
            raise DecodeError("a split of XML names a path, the body itself is one element", code="M219", place="body")
        options = self._options
        walk = Elements(
            self._reader,
            path,
            encoding=options.encoding,
            content=self._content,
            memory=lambda raw: Memory(raw, self, True),
        )
        return walk.parts(chunks, options.max_attributes)

    def encode(self, tree: Any, memory: Any = None, /) -> bytes:
        """With `memory` a changed tree is put back into its document; what does not fit is written as a whole, and
        refused where the document held more than the tree does (option lossy)."""
        if isinstance(memory, Memory):
            return self._edited(tree, memory)
        return self._writer.write(tree)

    def keeps(self, read: object) -> bool:
        """Whether what `read` took in is what this codec would write: the original bytes may go on."""
        return isinstance(read, XmlCodec) and read._options.encoding in (None, self._options.encoding)

    def _refuse_size(self, body: bytes) -> None:
        if len(body) > self._options.max_size:
            raise DecodeError(f"a document of over {self._options.max_size} (option max_size)", code="M215", offset=0)

    def _edited(self, tree: Any, memory: Memory) -> bytes:
        read = memory.codec
        root = read._parser.parse_whole(memory.raw)
        origin = Origin(root, Keys("", read._prefixes), Keys("@", read._prefixes))
        if read._options.mode == self._options.mode == "tree":
            edited = self._patched(tree, memory, root, origin)
            if edited is not None:
                return edited
        elif same(tree, read.decode(memory.raw).tree):
            return self._spelled(root, memory)
        root = read._parser.parse_whole(memory.raw)
        lost = losses(root, ordered=self._options.mode == "jsonml")
        if origin.ambiguous:
            lost.add("namespaces")
        refused = sorted(lost.difference(self._options.lossy))
        if refused:
            named = ", ".join(LOSSES[loss] for loss in refused)
            spelled = ", ".join(f'"{loss}"' for loss in refused)
            message = f"the document came with {named}, which would be lost; write lossy = [{spelled}] to allow that"
            raise EncodeError(message, code="M222", place="body")
        return self._writer.write(self._named(tree, root, memory), origin)

    def _named(self, tree: Any, root: Element, memory: Memory) -> Any:
        """A part's content gets its own name back."""
        if not memory.part or self._options.root is not None or self._options.mode == "jsonml":
            return tree
        return {memory.codec._reader.elements[root.tag]: tree}

    def _patched(self, tree: Any, memory: Memory, root: Element, origin: Origin) -> bytes | None:
        """The document with the changes in it; None where they do not fit."""
        reader = memory.codec._reader
        key, content = self._writer.one_root(self._named(tree, root, memory))
        if key != reader.elements[root.tag]:
            return None
        lean = memory.codec._parser.parse(memory.raw)
        old = reader.content(lean) if memory.part else reader.document(lean)[key]
        try:
            Patch(root, reader, self._writer, origin).apply(old, content)
        except CannotPatch:
            return None
        return self._spelled(root, memory)

    def _spelled(self, root: Element, memory: Memory) -> bytes:
        """The edited document in its own encoding and with its own declaration, unless the options say otherwise."""
        options = self._options
        encoding = options.encoding or encoding_of(memory.raw, memory.codec._options.encoding)
        original = memory.codec._parser.utf8(memory.raw)
        declares = original.startswith(b"<?xml ") if options.declaration is None else options.declaration
        if options.indent:
            etree.indent(root.getroottree(), space=" " * options.indent)
        around = [*reversed(list(root.itersiblings(preceding=True))), root, *root.itersiblings()]
        lines = [etree.tostring(item, encoding="unicode", with_tail=False) for item in around]
        if declares:
            standalone = _STANDALONE.match(original)
            alone = standalone[1].decode() if standalone is not None else ""
            lines.insert(0, f'<?xml version="1.0" encoding="{spelled_encoding(encoding)}"{alone}?>')
        return encoded("\n".join(lines) + ("\n" if original.endswith(b"\n") else ""), encoding)


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
            open=open_codec,
            example='do = [{ read = "xml", arrays = ["Order.Lines.Line"], types = { "Order.Total" = "decimal" } }]',
        )
    ]


@hook
def esb_functions() -> Mapping[str, Callable[..., Any]]:
    return {"xpath": XPath()}
