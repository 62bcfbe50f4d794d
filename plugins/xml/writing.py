"""A plain tree to XML text. What XML cannot say, or only by losing something, is refused by its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final, Literal

from esb_plugins.xml.jsonml import taken_apart
from esb_plugins.xml.names import Names, TakenNames, spelled_encoding
from esb_plugins.xml.naming import BUILT_IN, XSI
from esb_plugins.xml.origin import Name, Origin, Path
from esb_plugins.xml.reading import TEXT
from msgspec import Struct

from esb import EncodeError, spell_moment, spell_number

_IN_TEXT: Final = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_IN_ATTRIBUTE: Final = re.compile('[&<>"\t\n\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]')
_ENTITIES: Final = {
    "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;",
}  # fmt: skip


class Style(Struct, frozen=True, kw_only=True):
    """What is written, as the options of `write` say it; `namespaces` are prefixes to URIs, `""` the default one."""

    root: str | None = None
    declaration: bool = True
    encoding: str = "utf-8"
    indent: int = 0
    namespaces: Mapping[str, str] = {}
    empty: Literal["short", "long"] = "short"
    nulls: Literal["nil", "omit", "empty"] | None = None
    jsonml: bool = False
    depth: int = 100


class Writer:
    """Writes whole documents. Raises EncodeError with the place in the tree."""

    def __init__(self, style: Style) -> None:
        self._style = style
        self._names = Names({**BUILT_IN, **style.namespaces}, style.encoding)
        self._long = style.empty == "long"

    def taken(self, origin: Origin, path: Path = (), own: Name | None = None) -> TakenNames:
        """The names of a document that came as XML, from the element at `path` on."""
        return TakenNames(origin, self._names.fresh(), path, None, own)

    def write(self, tree: Any, origin: Origin | None = None) -> bytes:
        """The same tree gives the same bytes. `origin` gives names the namespaces they had where the tree came from."""
        style = self._style
        names = self._names.fresh() if origin is None else self.taken(origin)
        out: list[str] = []
        pad = "\n" if style.indent else ""
        if style.jsonml:
            self._jsonml(out, tree, names, "body", style.depth)
        else:
            key, value = self.one_root(tree)
            self._element(out, key, value, names, pad, f"body.{key}", style.depth)
        if not out:
            raise EncodeError("the root is null and would be left out", code="M294", place="body")
        used = names.used()
        if used:
            out[0] = f"{out[0]}{used}"
        head = f'<?xml version="1.0" encoding="{spelled_encoding(style.encoding)}"?>\n' if style.declaration else ""
        return encoded(head + "".join(out) + pad, style.encoding)

    def fragment(self, key: str, value: Any, names: TakenNames, place: str) -> list[str]:
        """The elements of one field, each a document of its own."""
        made = []
        for item in value if isinstance(value, list) else [value]:
            out: list[str] = []
            self._element(out, key, item, names, "", place, self._style.depth)
            if out:
                out[0] = f"{out[0]}{names.used()}"
                made.append("".join(out))
        return made

    def text(self, value: Any, place: str) -> str:
        """The text of one value that is no object or list."""
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, (int, float, Decimal)):
            try:
                return spell_number(value)
            except ValueError as error:
                raise EncodeError(str(error), code="M226", place=place) from None
        if isinstance(value, (date, timedelta)):
            return spell_moment(value)
        raise EncodeError(f"XML has no form for {type(value).__name__}", place=place)

    def one_root(self, tree: Any) -> tuple[str, Any]:
        """The root's name and content."""
        root = self._style.root
        keys = list(tree) if isinstance(tree, Mapping) else []
        if root is not None and keys != [root]:
            if isinstance(tree, (list, tuple)):
                message = f'a list has no names for its items; put it under one: {{"{root}": {{"item": [...]}}}}'
                raise EncodeError(message, code="M223", place="body")
            return root, tree
        if not keys:
            message = 'a document has one root; write root = "NAME", or a tree with one key'
            raise EncodeError(message, code="M223", place="body")
        if len(keys) > 1 or isinstance(tree[keys[0]], (list, tuple)) or str(keys[0]).startswith(("@", "#")):
            named = ", ".join(f'"{key}"' for key in keys[:8])
            message = (
                f'a document has one root, but here would stand {named}; write root = "NAME" to put them under one'
            )
            if len(keys) == 1:
                message = f'a document has one root, but "{keys[0]}" is a list or no element; write root = "NAME"'
            raise EncodeError(message, code="M223", place="body")
        return keys[0], tree[keys[0]]

    def _element(
        self, out: list[str], key: str, value: Any, names: Names | TakenNames, pad: str, place: str, depth: int
    ) -> None:
        if value is None and self._style.nulls == "omit":
            return
        name, declares, below = names.element(key, place)
        out.append(f"<{name}{declares}")
        if value.__class__ is str:
            self._close(out, name, escaped(value, place) if value else "")
        elif isinstance(value, Mapping):
            self._object(out, name, value, below, pad, place, depth)
        elif value is None:
            self._null(out, name, below, place)
        elif isinstance(value, (list, tuple)):
            raise EncodeError("a list of lists has no names in XML", place=place)
        else:
            self._close(out, name, self.text(value, place))

    def _close(self, out: list[str], name: str, text: str) -> None:
        if text or self._long:
            out.append(f">{text}</{name}>")
        else:
            out.append("/>")

    def _null(self, out: list[str], name: str, below: Names | TakenNames, place: str) -> None:
        """`nulls` decides; there is no default, because each answer means something else to the reader."""
        if self._style.nulls is None:
            message = 'null has no form of its own in XML; write nulls = "nil", "omit" or "empty"'
            raise EncodeError(message, code="M294", place=place)
        if self._style.nulls == "nil":
            prefix, declares = below.prefix("xsi", XSI)
            out.append(f'{declares} {prefix}:nil="true"')
        self._close(out, name, "")

    def _object(
        self, out: list[str], name: str, tree: Mapping[str, Any], below: Names | TakenNames, pad: str, place: str,
        depth: int,
    ) -> None:  # fmt: skip
        if depth <= 0:
            raise EncodeError("nested deeper than the option depth allows", code="M214", place=place[:80])
        children = []
        for key, value in tree.items():
            if not isinstance(key, str):
                raise EncodeError(f"names are texts, not {key!r}", code="M224", place=place)
            if key[:1] == "@":
                if value.__class__ is str and key[1:] in below.simple and not _IN_ATTRIBUTE.search(value):
                    out.append(f' {key[1:]}="{value}"')
                else:
                    self._attribute(out, key, value, below, place)
            elif key != TEXT and not (value is None and self._style.nulls == "omit") and value != []:
                children.append((key, value))
        text = ""
        if TEXT in tree:
            if tree[TEXT] is not None:
                text = escaped(self.text(tree[TEXT], f"{place}.{TEXT}"), place)
            elif not children:
                self._null(out, name, below, place)
                return
        if not children:
            self._close(out, name, text)
            return
        out.append(f">{text}")
        inner = "" if text or not pad else pad + " " * self._style.indent
        self._children(out, children, below, inner, place, depth - 1)
        out.append(f"{pad if inner else ''}</{name}>")

    def _children(
        self, out: list[str], children: list[tuple[str, Any]], below: Names | TakenNames, pad: str, place: str,
        depth: int,
    ) -> None:  # fmt: skip
        simple = below.simple
        for key, value in children:
            for item in value if isinstance(value, (list, tuple)) else (value,):
                if item.__class__ is str and item and key in simple and not _IN_TEXT.search(item):
                    out.append(f"{pad}<{key}>{item}</{key}>")  # most elements by far
                    continue
                if pad:
                    out.append(pad)
                self._element(out, key, item, below, pad, f"{place}.{key}", depth)

    def _attribute(self, out: list[str], key: str, value: Any, below: Names | TakenNames, place: str) -> None:
        place = f"{place}.{key}"
        if value is None:
            if self._style.nulls == "omit":
                return
            if self._style.nulls != "empty":
                message = 'an attribute cannot be null; write nulls = "omit" or "empty"'
                raise EncodeError(message, code="M294", place=place)
            value = ""
        if isinstance(value, (Mapping, list, tuple)):
            raise EncodeError("an attribute holds one value", code="M227", place=place)
        name, declares = below.attribute(key[1:], place)
        out.append(f'{declares} {name}="{escaped(self.text(value, place), place, _IN_ATTRIBUTE)}"')

    def _jsonml(self, out: list[str], tree: Any, names: Names | TakenNames, place: str, depth: int) -> None:
        key, attributes, content = taken_apart(tree, place)
        if depth <= 0:
            raise EncodeError("nested deeper than the option depth allows", code="M214", place=place[:80])
        name, declares, below = names.element(key, place)
        out.append(f"<{name}{declares}")
        for attribute, value in attributes.items():
            self._attribute(out, f"@{attribute}", value, below, place)
        if not any(item != "" for item in content):
            self._close(out, name, "")
            return
        out.append(">")
        for index, item in enumerate(content):
            inner = f"{place}[{index + 2}]"
            if isinstance(item, (list, tuple)):
                self._jsonml(out, item, below, inner, depth - 1)
            else:
                out.append(escaped(self.text(item, inner), inner))
        out.append(f"</{name}>")


def escaped(text: str, place: str, special: re.Pattern[str] = _IN_TEXT) -> str:
    """With what has a meaning in XML written as an entity; raises for characters that no XML may hold."""
    if special.search(text) is None:
        return text

    def entity(match: re.Match[str]) -> str:
        letter = match[0]
        if letter not in _ENTITIES:
            message = f"U+{ord(letter):04X} is a character that no XML may hold"
            raise EncodeError(message, code="M225", place=place)
        return _ENTITIES[letter]

    return special.sub(entity, text)


def encoded(text: str, encoding: str) -> bytes:
    """Characters that the encoding lacks become character references."""
    return text.encode(encoding, "xmlcharrefreplace")
