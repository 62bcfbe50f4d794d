"""Writing a tree that came from a document: the document edited, else written anew with its names and nothing lost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from esb_plugins.xml.jsonml import JsonmlReader
from esb_plugins.xml.names import spelled_encoding
from esb_plugins.xml.naming import Keys
from esb_plugins.xml.origin import LOSSES, Loss, Origin, losses
from esb_plugins.xml.parsing import Element, Parser, encoding_of
from esb_plugins.xml.patching import CannotPatch, Patch, same
from esb_plugins.xml.reading import Reader
from esb_plugins.xml.writing import Writer, encoded
from lxml import etree
from msgspec import Struct

from esb import EncodeError

_STANDALONE: Final = re.compile(rb"""<\?xml [^>]*?(\sstandalone\s*=\s*["'](?:yes|no)["'])""")


class Memory(Struct, frozen=True):
    """The document a tree came from, and how it was read.

    `part` tells that the tree is its root's content without the name.
    """

    raw: bytes
    parser: Parser
    reader: Reader | JsonmlReader
    part: bool = False

    def tree(self) -> Any:
        """The tree as it was before anybody changed it."""
        root = self.parser.parse(self.raw)
        return self.reader.content(root) if self.part else self.reader.document(root)


class Form(Struct, frozen=True, kw_only=True):
    """What the step asks of the output; None and 0 leave it as the document had it."""

    encoding: str | None = None
    declaration: bool | None = None
    indent: int = 0
    lossy: Sequence[Loss] = ()
    names_root: bool = False

    def asks(self, encoding: str) -> bool:
        """Whether a document in that encoding must be spelled anew, though nothing in it changed."""
        return self.declaration is not None or self.indent > 0 or self.encoding not in (None, encoding)


class Editor:
    """Writes trees with a memory. `writer` writes what is new."""

    def __init__(self, writer: Writer, form: Form) -> None:
        self._writer = writer
        self._form = form

    def write(self, tree: Any, memory: Memory) -> bytes:
        """Raises EncodeError where the document must be written anew and held more than the tree does."""
        root = memory.parser.parse_whole(memory.raw)
        reader = memory.reader
        origin = Origin(root, Keys("", reader.prefixes), Keys("@", reader.prefixes))
        named = self._named(tree, reader.elements[root.tag], memory)
        edited = self._edited(named, memory, root, origin)
        if edited is not None:
            return edited
        self._refuse_losses(memory, origin)
        return self._writer.write(named, origin)

    def _named(self, tree: Any, name: str, memory: Memory) -> Any:
        """A part's content gets its own name back."""
        if memory.part and isinstance(memory.reader, Reader) and not self._form.names_root:
            return {name: tree}
        return tree

    def _edited(self, tree: Any, memory: Memory, root: Element, origin: Origin) -> bytes | None:
        """The document with the changes in it; None where they do not fit."""
        old = memory.tree()
        if not isinstance(memory.reader, Reader):
            return self._spelled(root, memory, untouched=True) if same(old, tree) else None
        key, content = self._writer.one_root(tree)
        if key != memory.reader.elements[root.tag]:
            return None
        if not memory.part:
            old = old[key]
        untouched = same(old, content)
        if not untouched:
            try:
                Patch(root, memory.reader, self._writer, origin).apply(old, content)
            except CannotPatch:
                return None
        return self._spelled(root, memory, untouched=untouched)

    def _refuse_losses(self, memory: Memory, origin: Origin) -> None:
        ordered = isinstance(memory.reader, JsonmlReader)
        lost = losses(memory.parser.parse_whole(memory.raw), ordered=ordered)
        if origin.ambiguous:
            lost.add("namespaces")
        refused = sorted(lost.difference(self._form.lossy))
        if refused:
            named = ", ".join(LOSSES[loss] for loss in refused)
            spelled = ", ".join(f'"{loss}"' for loss in refused)
            message = f"the document came with {named}, which would be lost; write lossy = [{spelled}] to allow that"
            raise EncodeError(message, code="M222", place="body")

    def _spelled(self, root: Element, memory: Memory, *, untouched: bool) -> bytes:
        """The document in its own encoding and with its own declaration, unless the step asks otherwise."""
        form = self._form
        own = encoding_of(memory.raw, memory.parser.encoding)
        if untouched and not form.asks(own):
            return memory.raw
        encoding = form.encoding or own
        original = memory.parser.utf8(memory.raw)
        if form.indent:
            etree.indent(root.getroottree(), space=" " * form.indent)
        around = [*reversed(list(root.itersiblings(preceding=True))), root, *root.itersiblings()]
        lines = [etree.tostring(item, encoding="unicode", with_tail=False) for item in around]
        declared = original.startswith(b"<?xml ") if form.declaration is None else form.declaration
        if declared:
            standalone = _STANDALONE.match(original)
            alone = standalone[1].decode() if standalone is not None else ""
            lines.insert(0, f'<?xml version="1.0" encoding="{spelled_encoding(encoding)}"{alone}?>')
        return encoded("\n".join(lines) + ("\n" if original.endswith(b"\n") else ""), encoding)
