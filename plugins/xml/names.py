"""The names that elements and attributes are written with, and which namespaces must be declared where."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from esb_plugins.xml.origin import Name, Origin, Path

from esb import EncodeError

_START: Final = (
    "A-Z_a-z\xc0-\xd6\xd8-\xf6\xf8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c-\u200d\u2070-\u218f\u2c00-\u2fef"
    "\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff"
)
_LOCAL: Final = re.compile(f"[{_START}][{_START}0-9.\xb7\u0300-\u036f\u203f-\u2040-]*")
_MANY: Final = 4096


class Names:
    """The names of a new document: those with a prefix in its namespace, the others in the default one.

    Every prefix is declared at the root, so the same object serves all levels. `simple` are keys that were checked
    before and are written as they are.
    """

    def __init__(self, namespaces: Mapping[str, str], encoding: str, simple: set[str] | None = None) -> None:
        self.namespaces = namespaces
        self.default = namespaces.get("", "")
        self.simple: set[str] = set() if simple is None else simple
        self._encoding = encoding
        self._used: dict[str, str] = {}

    def fresh(self) -> Names:
        """The same names for another document: what one declares is no other's business."""
        return Names(self.namespaces, self._encoding, self.simple)

    def element(self, key: str, place: str) -> tuple[str, str, Names]:
        """(name, declarations at this element, names below it)."""
        if key not in self.simple:
            prefix = self.checked(key, place)[0]
            if prefix and prefix != "xml":
                self._used[prefix] = self.namespaces[prefix]
        return key, "", self

    def attribute(self, key: str, place: str) -> tuple[str, str]:
        """(name, declarations). Without a prefix an attribute is in no namespace."""
        name, declares, _ = self.element(key, place)
        return name, declares

    def prefix(self, prefix: str, uri: str) -> tuple[str, str]:
        """(prefix, declarations) for a namespace that the writer itself needs."""
        self._used[prefix] = uri
        return prefix, ""

    def used(self) -> str:
        """What the root must declare."""
        used = self._used
        default = declaration("", self.default) if self.default else ""
        return default + "".join([declaration(prefix, used[prefix]) for prefix in sorted(used)])

    def checked(self, key: str, place: str, *, known: bool = False) -> tuple[str, str]:
        """(prefix, local name) of a key; raises EncodeError where it is no name, or its prefix not `known`."""
        prefix, colon, local = key.rpartition(":")
        if not _LOCAL.fullmatch(local) or (colon and not _LOCAL.fullmatch(prefix)) or "xmlns" in (prefix, key):
            raise EncodeError(f"{key[:60]!r} is no name for an element or attribute", code="M224", place=place)
        if prefix and not known and prefix not in self.namespaces:
            message = f'"{key[:60]}": the prefix "{prefix}" is not under [namespaces]'
            raise EncodeError(message, code="M224", place=place)
        try:
            key.encode(self._encoding)
        except UnicodeEncodeError:
            raise EncodeError(f"the name {key[:60]!r} is not in {self._encoding}", code="M225", place=place) from None
        if not prefix and len(self.simple) < _MANY:
            self.simple.add(key)
        return prefix, local


class TakenNames:
    """The names of a document that came as XML: by path what they were there, else their parent's.

    `scope` are the prefixes in force here. The root declares what it declared before.
    """

    def __init__(
        self,
        origin: Origin,
        new: Names,
        path: Path,
        scope: dict[str, str] | None,
        own: Name | None,
    ) -> None:
        self.simple: frozenset[str] = frozenset()
        self._here = set() if own is None else {own.prefix}
        self._origin = origin
        self._new = new
        self._path = path
        self._scope = scope
        self._own = own

    def element(self, key: str, place: str) -> tuple[str, str, TakenNames]:
        path = (*self._path, key)
        name = self._origin.names.get(path)
        prefix, local = self._new.checked(key, place, known=name is not None)
        if name is None and prefix:
            name = Name(self._new.namespaces[prefix], prefix)
        elif name is None:
            name = self._own or Name(self._new.default, "")
        scope = dict(self._scope) if self._scope is not None else self._rooted(name)
        declares = "" if self._scope is not None else _declarations(scope)
        declares += _bind(scope, name)
        below = TakenNames(self._origin, self._new, path, scope, name)
        if self._scope is None:
            below._here.update(scope)
        return _joined(name.prefix, local), declares, below

    def attribute(self, key: str, place: str) -> tuple[str, str]:
        name = self._origin.names.get((*self._path, f"@{key}"))
        prefix, local = self._new.checked(key, place, known=name is not None)
        if name is None and prefix:
            name = Name(self._new.namespaces[prefix], prefix)
        if name is None:
            return local, ""
        used, declares = self.prefix(name.prefix, name.uri)
        return f"{used}:{local}", declares

    def prefix(self, prefix: str, uri: str) -> tuple[str, str]:
        """Another prefix where this one means something else on the same element."""
        assert self._scope is not None
        free, number = prefix, 0
        while free in self._here and self._scope.get(free) != uri:
            number += 1
            free = f"{prefix}{number}"
        self._here.add(free)
        return free, _bind(self._scope, Name(uri, free))

    def used(self) -> str:
        """Nothing: every element declares what it needs."""
        return ""

    def _rooted(self, name: Name) -> dict[str, str]:
        """What the root declares, but for its own name, which follows."""
        return {prefix: uri for prefix, uri in self._origin.declared.items() if prefix != name.prefix}


def _bind(scope: dict[str, str], name: Name) -> str:
    """Makes the prefix mean the namespace from here on; what must be declared for that."""
    if name.prefix == "xml" or scope.get(name.prefix, "") == name.uri:
        return ""
    scope[name.prefix] = name.uri
    return declaration(name.prefix, name.uri)


def _declarations(scope: Mapping[str, str]) -> str:
    return "".join([declaration(prefix, scope[prefix]) for prefix in sorted(scope)])


def declaration(prefix: str, uri: str) -> str:
    quoted = uri.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return f' xmlns:{prefix}="{quoted}"' if prefix else f' xmlns="{quoted}"'


def _joined(prefix: str, local: str) -> str:
    return f"{prefix}:{local}" if prefix else local


def spelled_encoding(name: str) -> str:
    """An encoding's name as a declaration spells it."""
    if name.startswith("iso8859"):
        return name.replace("iso8859", "ISO-8859")
    if name.startswith("cp125"):
        return f"windows-{name[2:]}"
    known = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8", "ascii": "US-ASCII", "utf-16": "UTF-16", "latin-1": "ISO-8859-1"}
    return known.get(name, name.replace("_", "-"))
