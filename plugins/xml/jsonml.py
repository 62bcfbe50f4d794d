"""JsonML: every element is a list `[name, {attributes}, content...]`, so that order and mixed text are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esb_plugins.xml.naming import Keys, attribute_keys
from esb_plugins.xml.parsing import Element, crowded

from esb import DecodeError, EncodeError


class JsonmlReader:
    """Makes JsonML of elements. Texts stay as they are, white space included."""

    def __init__(self, *, prefixes: Mapping[str, str] | None, depth: int, max_attributes: int) -> None:
        self.prefixes = prefixes
        self.elements = Keys("", prefixes)
        self._depth = depth
        self._max_attributes = max_attributes

    def document(self, root: Element) -> list[Any]:
        """`[name, {attributes}, content...]` of the root."""
        self.elements = self.elements.trimmed()
        return self._element(root, self._depth)

    def content(self, element: Element) -> list[Any]:
        """A part is a document like any other."""
        return self.document(element)

    def _element(self, element: Element, depth: int) -> list[Any]:
        if depth <= 0:
            message = f"nested deeper than {self._depth} levels (option depth, line {element.sourceline})"
            raise DecodeError(message, code="M214", line=element.sourceline)
        items = element.items()
        if len(items) > self._max_attributes:
            raise crowded(self._max_attributes, element.sourceline)
        named = attribute_keys(element, self.elements)
        attributes = {named[name]: value for name, value in items}
        made: list[Any] = [self.elements[element.tag], attributes]
        if element.text:
            made.append(element.text)
        for child in element:
            made.append(self._element(child, depth - 1))
            if child.tail:
                made.append(child.tail)
        return made


def taken_apart(tree: Any, place: str) -> tuple[str, Mapping[str, Any], list[Any]]:
    """(name, attributes, content) of a JsonML element; raises EncodeError where it is none."""
    if not isinstance(tree, (list, tuple)) or not tree or not isinstance(tree[0], str):
        raise EncodeError("JsonML is a list that begins with a name: [name, {attributes}, content...]", place=place)
    if len(tree) > 1 and isinstance(tree[1], Mapping):
        return tree[0], tree[1], list(tree[2:])
    return tree[0], {}, list(tree[1:])
