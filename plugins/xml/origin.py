"""What a tree cannot hold of the document it came from: namespaces by path, and the kinds of things that are lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from esb_plugins.xml.naming import Keys, attribute_keys
from esb_plugins.xml.parsing import SPACE, Element
from lxml import etree

Loss = Literal["comments", "pi", "order", "mixed", "namespaces"]
Path = tuple[str, ...]

LOSSES: Final[Mapping[Loss, str]] = {
    "comments": "comments",
    "pi": "processing instructions",
    "order": "elements of one name between those of another",
    "mixed": "texts between elements",
    "namespaces": "elements of one path in different namespaces",
}


class Name(NamedTuple):
    """A namespace and the prefix that stood for it; `""` is none."""

    uri: str
    prefix: str


class Origin:
    """The names of one document by path.

    `declared` are the prefixes that its root declares; `ambiguous` tells that one path has names in several namespaces.
    """

    def __init__(self, root: Element, elements: Keys, attributes: Keys) -> None:
        self._elements = elements
        self._attributes = attributes
        self.names: dict[Path, Name] = {}
        self.declared: dict[str, str] = {prefix or "": uri for prefix, uri in root.nsmap.items()}
        self.ambiguous = False
        self._walk(root, ())

    def _walk(self, element: Element, above: Path) -> None:
        path = (*above, self._elements[element.tag])
        name = Name(etree.QName(element).namespace or "", element.prefix or "")
        self.ambiguous = self.ambiguous or self.names.setdefault(path, name).uri != name.uri
        for tag, key in attribute_keys(element, self._attributes).items():
            uri = etree.QName(tag).namespace
            if uri:
                prefixes = [prefix for prefix, known in element.nsmap.items() if known == uri and prefix]
                self.names.setdefault((*path, key), Name(uri, prefixes[0] if prefixes else "xml"))
        for child in elements_of(element):
            self._walk(child, path)


def elements_of(element: Element) -> list[Element]:
    """The child elements; comments and instructions are nobody's children here."""
    return [child for child in element if isinstance(child.tag, str)]


def losses(root: Element, *, ordered: bool) -> set[Loss]:
    """What a tree does not hold of this document. `ordered`: the tree keeps order and mixed text (JsonML)."""
    lost: set[Loss] = set()
    for item in (*root.itersiblings(preceding=True), *root.itersiblings(), *root.iter()):
        if item.tag is etree.Comment:
            lost.add("comments")
        elif item.tag is etree.PI:
            lost.add("pi")
        elif not ordered and len(item):
            lost.update(_out_of_order(item))
    return lost


def _out_of_order(element: Element) -> set[Loss]:
    lost: set[Loss] = set()
    tags = [child.tag for child in elements_of(element)]
    if tags and any(text and text.strip(SPACE) for text in (element.text, *(child.tail for child in element))):
        lost.add("mixed")
    seen, last = set(), None
    for tag in tags:
        if tag != last and tag in seen:
            lost.add("order")
        seen.add(tag)
        last = tag
    return lost
