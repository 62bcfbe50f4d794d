"""The elements at a path out of a stream, in constant memory: what was given is taken off the tree at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from esb_plugins.xml.parsing import Element, options, refused, root_at
from esb_plugins.xml.pieces import pieces
from esb_plugins.xml.reading import Reader
from lxml import etree

from esb import BadPart, DecodeError, Part

BESIDE: Final = 4_000_000
"""Bytes that may stand before the first part: they are held for `carry`."""

_ROOT: Final = re.compile(rb"<(?:[^\s<>/:]+:)?([^\s<>/:]+)[\s/>]")


class Elements:
    """One walk through one stream. `content` makes a part's value of its element, `memory` what `encode` needs."""

    def __init__(
        self,
        reader: Reader,
        path: str,
        *,
        encoding: str | None,
        content: Callable[[Element], Any],
        memory: Callable[[bytes], Any],
    ) -> None:
        self._reader = reader
        self._path = path
        self._keys = path.split(".")
        self._encoding = encoding
        self._content = content
        self._memory = memory
        self._root: Element | None = None
        self._seen = 0
        self._outer: Any = None

    def parts(self, chunks: Iterable[bytes], max_attributes: int) -> Iterator[Part | BadPart]:
        """Each element; a DecodeError where the document stops being XML."""
        tags = tuple(f"{{*}}{key.rpartition(':')[2]}" for key in self._keys)
        parser = etree.XMLPullParser(events=("start", "end"), tag=tags, **options(lean=True))
        beside = 0
        try:
            for piece in pieces(chunks, self._encoding, max_attributes):
                if not beside:
                    self._compare_root(piece)
                parser.feed(piece)
                beside += len(piece)
                yield from self._found(parser)
                if self._outer is not None:
                    self._sweep()
                elif beside > BESIDE:
                    message = f"over {BESIDE // 1_000_000} MB before the first element at {self._path}"
                    raise DecodeError(message, code="M215", place=f"body.{self._path}")
            parser.close()
            yield from self._found(parser)
        except etree.XMLSyntaxError as error:
            yield from self._found(parser)
            raise refused(error) from None
        if self._seen < max(1, len(self._keys) - 1):
            raise self._missing(self._seen)

    def _compare_root(self, start: bytes) -> None:
        """A document of another kind is refused before it is read through."""
        found = _ROOT.match(start, root_at(start))
        if found is not None and found[1].decode("utf-8", "replace") != self._keys[0].rpartition(":")[2]:
            raise self._missing(0)

    def _missing(self, level: int) -> DecodeError:
        missing = ".".join(self._keys[: level + 1])
        message = f'there is no "{missing}" in this document, so nothing at "{self._path}"'
        return DecodeError(message, code="M219", place=f"body.{missing}")

    def _found(self, parser: Any) -> Iterator[Part | BadPart]:
        for event, element in parser.read_events():
            above = [element, *element.iterancestors()]
            self._root = above[-1]
            if len(above) > len(self._keys) or not self._on_path(above):
                continue
            self._seen = max(self._seen, len(above))
            if event == "end" and len(above) == len(self._keys):
                yield self._part(element, above)
                element.clear(keep_tail=True)

    def _on_path(self, above: list[Element]) -> bool:
        names = self._reader.elements
        return all(names[item.tag] == key for item, key in zip(reversed(above), self._keys, strict=False))

    def _part(self, element: Element, above: list[Element]) -> Part | BadPart:
        raw: bytes = etree.tostring(element, encoding="utf-8", with_tail=False)
        if self._encoding is not None and self._encoding != "utf-8":
            raw = raw.decode().encode(self._encoding, "xmlcharrefreplace")
        if self._outer is None:
            self._outer = self._around(above)
        line = element.sourceline
        try:
            tree = self._content(element)
        except DecodeError as error:
            return BadPart(raw, error, line)
        return Part(tree=tree, raw=raw, line=line, outer=self._outer, memory=self._memory(raw))

    def _around(self, above: list[Element]) -> dict[str, Any]:
        """The attributes of what stands around the part, and what stands before it."""
        node = self._reader.root
        whole: dict[str, Any] = {}
        tree = whole
        for element in reversed(above):
            for sibling in reversed(list(element.itersiblings(preceding=True))):
                self._reader.add(tree, sibling, node)
            if element is not above[0]:
                key = self._reader.elements[element.tag]
                node = None if node is None else node.below.get(key)
                inner = self._reader.attributes_of(element)
                before = tree.get(key)
                tree[key] = inner if before is None else [*(before if isinstance(before, list) else [before]), inner]
                tree = inner
        return whole

    def _sweep(self) -> None:
        """Takes off the tree what is read; only what is still open is kept."""
        element, on_path, level = self._root, True, 1
        while element is not None and len(element):
            del element[:-1]
            element = element[-1]
            level += 1
            on_path = on_path and self._on_path([element, *element.iterancestors()]) and level <= len(self._keys)
            if on_path and level == len(self._keys):
                return
