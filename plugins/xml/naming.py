"""The keys that elements and attributes have in a tree, and what the table declares of their paths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, Literal

from esb_plugins.xml.parsing import Element

from esb import DecodeError

XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"
XML: Final = "http://www.w3.org/XML/1998/namespace"
BUILT_IN: Final = {"xml": XML, "xsi": XSI}
NIL: Final = "@xsi:nil"
NIL_TAG: Final = f"{{{XSI}}}nil"
_MANY: Final = 4096
"""Names kept; a sender that invents names must not fill the memory."""

Kind = Literal["text", "int", "decimal", "bool"]


class Keys(dict[str, str]):
    """`{uri}local` to its key, worked out once a name. `clashing` are keys that several names share."""

    def __init__(self, mark: str, prefixes: Mapping[str, str] | None) -> None:
        """`mark` stands before each key; `prefixes` (URI to prefix) makes keys carry prefixes."""
        super().__init__()
        self.mark = mark
        self._prefixes = prefixes
        self._owners: dict[str, str] = {}
        self.clashing: set[str] = set()

    def __missing__(self, tag: str) -> str:
        key = self.mark + self._name(tag)
        if tag == NIL_TAG and self.mark:
            key = NIL
        if self._owners.setdefault(key, tag) != tag:
            self.clashing.add(key)
        self[tag] = key
        return key

    def _name(self, tag: str) -> str:
        if not tag.startswith("{"):
            return tag
        uri, _, local = tag[1:].partition("}")
        if self._prefixes is None:
            return local
        prefix = self._prefixes.get(uri)
        if prefix is None:
            message = f'"{local}" is in the namespace "{uri}", which has no prefix under [namespaces]'
            raise DecodeError(message, code="M292", place=f"body.{local}")
        return f"{prefix}:{local}"

    def trimmed(self) -> Keys:
        """These, or new ones where they have become too many."""
        return self if len(self) <= _MANY else Keys(self.mark, self._prefixes)


def attribute_keys(element: Element, keys: Keys) -> dict[str, str]:
    """Each attribute's key. Where two differ only by namespace, those that have one keep the document's prefix."""
    named = {tag: keys[tag] for tag in element.attrib}
    if len(set(named.values())) == len(named):
        return named
    times = Counter(named.values())
    prefixes = {uri: prefix for prefix, uri in element.nsmap.items() if prefix}
    for tag, key in named.items():
        if times[key] > 1 and tag.startswith("{"):
            uri, _, local = tag[1:].partition("}")
            named[tag] = f"{keys.mark}{prefixes.get(uri, 'xml')}:{local}"
    return named


class Node:
    """What is declared of one path: a list, a type, and what lies below."""

    __slots__ = ("array", "below", "kind")

    def __init__(self) -> None:
        self.array = False
        self.kind: Kind = "text"
        self.below: dict[str, Node] = {}

    def at(self, path: str) -> Node:
        """The node of a dotted path, made where it is not there yet."""
        node = self
        for key in path.split("."):
            node = node.below.setdefault(key, Node())
        return node

    def join(self, other: Node) -> None:
        """Takes over what the other declares."""
        self.array = self.array or other.array
        self.kind = other.kind if self.kind == "text" else self.kind
        for key, node in other.below.items():
            self.below.setdefault(key, Node()).join(node)

    def named(self, key: str) -> Node | None:
        """What is declared of elements of that name wherever they stand: what a part on its own can know."""
        found = [node for node in self._all() for name, node in node.below.items() if name == key]
        if len(found) < 2:
            return found[0] if found else None
        joined = Node()
        for node in found:
            joined.join(node)
        return joined

    def _all(self) -> Iterable[Node]:
        yield self
        for node in self.below.values():
            yield from node._all()


def declared(arrays: Iterable[str], types: Mapping[str, Kind]) -> Node | None:
    """The tree of what the table declares; None where it declares nothing."""
    root = Node()
    for path in arrays:
        root.at(path).array = True
    for path, kind in types.items():
        root.at(path).kind = kind
    return root if root.below else None
