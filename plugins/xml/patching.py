"""A changed tree put back into the document it came from: what did not change stays as it stood, comments included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esb_plugins.xml.naming import NIL_TAG, attribute_keys
from esb_plugins.xml.origin import Name, Origin, Path, elements_of
from esb_plugins.xml.parsing import SPACE, Element, options
from esb_plugins.xml.reading import TEXT, Reader
from esb_plugins.xml.writing import Writer, escaped
from lxml import etree


class CannotPatch(Exception):
    """The change does not fit into the old document; the new tree must be written as a whole."""


class Patch:
    """Edits one document in place. `root` was parsed whole and is changed; `reader` is the one its tree came from."""

    def __init__(self, root: Element, reader: Reader, writer: Writer, origin: Origin) -> None:
        self._root = root
        self._reader = reader
        self._writer = writer
        self._origin = origin

    def apply(self, old: Any, new: Any) -> None:
        """Turns the root's content from the old value into the new one. Raises CannotPatch with nothing to keep."""
        self._element(self._root, old, new, (self._reader.elements[self._root.tag],))

    def _element(self, element: Element, old: Any, new: Any, path: Path) -> Element:
        """The element that stands there afterwards."""
        if same(old, new):
            return element
        if _is_nil(new):
            return self._replaced(element, new, path)
        if _is_nil(old):
            element.attrib.pop(NIL_TAG, None)
            old = {key: value for key, value in (old or {}).items() if key != TEXT}
        before, after = _as_object(old), _as_object(new)
        for tag, key in attribute_keys(element, self._reader.attributes).items():
            if key in before and key not in after:
                del element.attrib[tag]
        self._attributes(element, before, after, path)
        self._children(element, before, after, path)
        self._text(element, before, after, f"body.{'.'.join(path)}")
        return element

    def _attributes(self, element: Element, before: Mapping[str, Any], after: Mapping[str, Any], path: Path) -> None:
        tags = {key: tag for tag, key in attribute_keys(element, self._reader.attributes).items()}
        for key, value in after.items():
            if key.startswith("@") and not (key in before and same(before[key], value)):
                if value is None or isinstance(value, (Mapping, list, tuple)):
                    raise CannotPatch
                text = self._checked(value, f"body.{'.'.join(path)}.{key}")
                if key in tags:
                    element.set(tags[key], text)
                else:
                    self._graft_attribute(element, key, text, path)

    def _graft_attribute(self, element: Element, key: str, text: str, path: Path) -> None:
        """Written and parsed as a document of its own, so that the writer alone knows names and namespaces."""
        names = self._writer.taken(self._origin, path[:-1], self._name(element))
        made = self._parsed(self._writer.fragment(path[-1], {key: text}, names, f"body.{'.'.join(path)}"))
        for tag, value in made[0].items():
            element.set(tag, value)

    def _children(self, element: Element, before: Mapping[str, Any], after: Mapping[str, Any], path: Path) -> None:
        keys = self._reader.elements
        children: dict[str, list[Element]] = {}
        for child in elements_of(element):
            children.setdefault(keys[child.tag], []).append(child)
        for key in children:
            if key not in after:
                for child in children[key]:
                    self._remove(element, child)
        behind: Element | None = None
        for key, value in after.items():
            if key == TEXT or key.startswith("@"):
                continue
            there = children.get(key, [])
            old = before.get(key, [])
            wanted = list(value) if isinstance(value, (list, tuple)) else [value]
            stands = self._line_up(element, there, old if isinstance(old, list) else [old], wanted, (*path, key))
            for item in wanted[len(stands) :]:
                for made in self._made(element, key, item, path):
                    anchor = stands[-1] if stands else behind
                    self._insert(element, made, anchor)
                    stands.append(made)
            behind = stands[-1] if stands else behind

    def _line_up(
        self, element: Element, there: list[Element], old: list[Any], wanted: list[Any], path: Path
    ) -> list[Element]:
        """The elements of one name made to hold the wanted values, as far as there are enough of them.

        Equal ones at the beginning and at the end stay; what is too many goes from the middle.
        """
        excess = len(old) - len(wanted)
        if excess > 0:
            start = 0
            while start < len(wanted) and same(old[start], wanted[start]):
                start += 1
            for child in there[start : start + excess]:
                self._remove(element, child)
            there = there[:start] + there[start + excess :]
            old = old[:start] + old[start + excess :]
        stands = []
        for child, value, new in zip(there, old, wanted, strict=False):
            if isinstance(new, (list, tuple)):
                raise CannotPatch
            stands.append(self._element(child, value, new, path))
        return stands

    def _checked(self, value: Any, place: str) -> str:
        """The text of a value; raises EncodeError for characters that no XML may hold."""
        text = self._writer.text(value, place)
        escaped(text, place)
        return text

    def _made(self, element: Element, key: str, value: Any, path: Path) -> list[Element]:
        names = self._writer.taken(self._origin, path, self._name(element))
        return self._parsed(self._writer.fragment(key, value, names, f"body.{'.'.join((*path, key))}"))

    def _parsed(self, documents: list[str]) -> list[Element]:
        return [etree.fromstring(text.encode(), etree.XMLParser(**options(lean=False))) for text in documents]

    def _name(self, element: Element) -> Name:
        return Name(etree.QName(element).namespace or "", element.prefix or "")

    def _replaced(self, element: Element, new: Any, path: Path) -> Element:
        """For null, whose form the writer decides."""
        parent = element.getparent()
        if parent is None:
            raise CannotPatch
        made = self._made(parent, path[-1], new, path[:-1])
        if len(made) != 1:
            raise CannotPatch
        made[0].tail = element.tail
        parent.replace(element, made[0])
        return made[0]

    def _insert(self, parent: Element, made: Element, anchor: Element | None) -> None:
        """Behind the anchor, or in front; with the white space that its neighbours have."""
        others = len(parent)
        if _is_text(parent.text) and others:
            raise CannotPatch
        if anchor is None:
            made.tail = parent.text if others else None
            parent.insert(0, made)
        elif _is_text(anchor.tail):
            raise CannotPatch
        else:
            made.tail = anchor.tail
            if anchor.getnext() is None:
                before = anchor.getprevious()
                space = parent.text if before is None else before.tail
                anchor.tail = None if _is_text(space) else space
            parent.insert(parent.index(anchor) + 1, made)

    def _remove(self, parent: Element, child: Element) -> None:
        if _is_text(child.tail):
            raise CannotPatch
        before = child.getprevious()
        if child.getnext() is None and before is not None and not _is_text(before.tail):
            before.tail = child.tail
        parent.remove(child)
        if not elements_of(parent) and not _is_text(parent.text):
            parent.text = None
            for comment in parent:
                comment.tail = None

    def _text(self, element: Element, before: Mapping[str, Any], after: Mapping[str, Any], place: str) -> None:
        old, new = before.get(TEXT, ""), after.get(TEXT, "")
        has_children = bool(elements_of(element))
        if same(old, new) and not (has_children and before.keys() != after.keys() and TEXT in after):
            return
        if has_children or new is None or isinstance(new, (Mapping, list, tuple)):
            raise CannotPatch
        element.text = self._checked(new, place) or None
        for comment in element:
            comment.tail = None


def same(one: Any, other: Any) -> bool:
    """Whether two values are written alike: 1 is not true, and 1.0 is not 1.00."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) and str(one) == str(other)


def _is_nil(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping) and value.get(TEXT, "") is None)


def _as_object(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    return {} if value == "" and isinstance(value, str) else {TEXT: value}


def _is_text(text: str | None) -> bool:
    return bool(text) and bool(text.strip(SPACE))  # type: ignore[union-attr]  # bool() hides from mypy that it is a text
