"""XML elements to a plain tree: attributes as `@name`, text as `#text`, leaves as texts, repeated names as lists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from esb_plugins.xml.naming import NIL, Keys, Node, attribute_keys
from esb_plugins.xml.parsing import SPACE, Element, crowded

from esb import DecodeError

TEXT: Final = "#text"
_INT: Final = re.compile(r"[+-]?\d{1,1000}")
_DECIMAL: Final = re.compile(r"[+-]?(\d{1,1000}(\.\d{0,1000})?|\.\d{1,1000})")
_BOOL: Final = {"true": True, "1": True, "false": False, "0": False}
_LARGEST: Final = 2**63 - 1
_SHOWN: Final = 40


class Reader:
    """Makes trees of elements whose comments and instructions are left out already."""

    def __init__(
        self,
        *,
        prefixes: Mapping[str, str] | None = None,
        root: Node | None = None,
        depth: int = 100,
        max_attributes: int = 256,
    ) -> None:
        self.prefixes = prefixes
        self.elements = Keys("", prefixes)
        self.attributes = Keys("@", prefixes)
        self.root = root
        self._depth = depth
        self._max_attributes = max_attributes

    def document(self, root: Element) -> dict[str, Any]:
        """`{root name: its content}`."""
        self._trim()
        key = self.elements[root.tag]
        return {key: self._value(root, None if self.root is None else self.root.below.get(key), self._depth)}

    def content(self, element: Element) -> Any:
        """An element's content without its own name, as it stands on its own."""
        self._trim()
        return self._value(element, self.part_node(element), self._depth)

    def part_node(self, element: Element) -> Node | None:
        return None if self.root is None else self.root.named(self.elements[element.tag])

    def attributes_of(self, element: Element) -> dict[str, Any]:
        """An element's attributes alone."""
        return self._attributes(element, element.items(), None)

    def add(self, tree: dict[str, Any], element: Element, node: Node | None) -> None:
        """Puts one more child into a tree; `node` is what is declared of its parent."""
        key = self.elements[element.tag]
        below = None if node is None else node.below.get(key)
        value = self._value(element, below, self._depth)
        if key in tree:
            _again(tree, key, value)
        else:
            tree[key] = [value] if below is not None and below.array else value

    def _trim(self) -> None:
        self.elements = self.elements.trimmed()
        self.attributes = self.attributes.trimmed()

    def _value(self, element: Element, node: Node | None, depth: int) -> Any:
        items = element.items()
        tree = self._attributes(element, items, node) if items else {}
        if not len(element):
            return self._leaf(element, tree, node)
        if depth <= 0:
            raise self._fault(element, f"nested deeper than {self._depth} levels (option depth)", "M214")
        keys, mixed, repeated = self.elements, bool((text := element.text) and text.strip(SPACE)), False
        for child in element:
            key = keys[child.tag]
            below = None if node is None else node.below.get(key)
            if below is None and not len(child) and not child.keys():
                value: Any = child.text or ""
            else:
                value = self._value(child, below, depth - 1)
            if key in tree:
                repeated = True
                _again(tree, key, value)
            else:
                tree[key] = [value] if below is not None and below.array else value
            if (text := child.tail) and text.strip(SPACE):
                mixed = True
        if repeated and keys.clashing:
            self._refuse_clash(element, keys)
        if mixed:
            tree[TEXT] = (element.text or "") + "".join([child.tail or "" for child in element])
        if tree.pop(NIL, False):
            raise self._fault(element, "says xsi:nil and has content", "M293")
        return tree

    def _refuse_clash(self, element: Element, keys: Keys) -> None:
        """Children of one key must be of one name. Only looked at where a document has names that could be confused."""
        tags: dict[str, str] = {}
        for child in element:
            key = keys[child.tag]
            if key in keys.clashing and tags.setdefault(key, child.tag) != child.tag:
                message = f'several elements are called "{key}" and differ only by namespace; write prefixes = true'
                raise self._fault(element, message, "M211")

    def _attributes(self, element: Element, items: list[tuple[str, str]], node: Node | None) -> dict[str, Any]:
        if len(items) > self._max_attributes:
            raise crowded(self._max_attributes, element.sourceline)
        keys = self.attributes
        tree: dict[str, Any] = {keys[name]: value for name, value in items}
        if len(tree) < len(items):
            named = attribute_keys(element, keys)
            tree = {named[name]: value for name, value in items}
        if NIL in tree and _BOOL.get(tree[NIL].strip(SPACE)) is not True:
            del tree[NIL]
        if node is not None:
            for key, value in tree.items():
                below = node.below.get(key)
                if below is not None and below.kind != "text":
                    tree[key] = self._typed(value, below, element, key)
        return tree

    def _leaf(self, element: Element, tree: dict[str, Any], node: Node | None) -> Any:
        value: Any = element.text or ""
        if tree and NIL in tree:
            if value.strip(SPACE):
                raise self._fault(element, "says xsi:nil and has content", "M293")
            del tree[NIL]
            value = None
        elif node is not None and node.kind != "text":
            value = self._typed(value, node, element)
        if not tree:
            return value
        if value != "":
            tree[TEXT] = value
        return tree

    def _typed(self, text: str, node: Node, element: Element, key: str = "") -> Any:
        value = text.strip(SPACE)
        if node.kind == "decimal" and _DECIMAL.fullmatch(value):
            return Decimal(value)
        if node.kind == "int" and _INT.fullmatch(value):
            number = Decimal(value)
            return int(number) if -_LARGEST <= number <= _LARGEST else number
        if node.kind == "bool" and value in _BOOL:
            return _BOOL[value]
        raise self._fault(element, f"{text[:_SHOWN]!r} is no {node.kind}", "M293", key)

    def _fault(self, element: Element, message: str, code: str, key: str = "") -> DecodeError:
        line = element.sourceline
        place = self.path(element) + (f".{key}" if key else "")
        return DecodeError(f"{message} (line {line})", code=code, line=line, place=place)

    def path(self, element: Element) -> str:
        """`body.Order.Lines`, as an expression would write it."""
        names = [self.elements[item.tag] for item in element.iterancestors()][::-1]
        names.append(self.elements[element.tag])
        said = ".".join(["body", *names[:20]])
        return said if len(names) <= 20 else said + "..."


def _again(tree: dict[str, Any], key: str, value: Any) -> None:
    """A name that stands there a second time makes a list."""
    before = tree[key]
    if type(before) is list:
        before.append(value)
    else:
        tree[key] = [before, value]
