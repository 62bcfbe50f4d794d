"""`xpath("...")` in expressions: a look into XML that was not decoded, with the table's prefixes."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from esb_plugins.xml.parsing import Element, Parser
from lxml import etree

from esb import ExpressionError, MissingField

_LARGEST_KEPT: Final = 4_000_000
_parser: Final = Parser()


class XPath:
    """Texts of what the path finds: one text, or a list where it finds several; numbers and booleans as themselves."""

    wants_scope = True

    def __init__(self) -> None:
        self._last: tuple[bytes, Element] | None = None

    def __call__(self, scope: Mapping[str, Any], path: Any) -> Any:
        """Raises MissingField where nothing is found, DecodeError where `raw` is no XML."""
        if not isinstance(path, str):
            raise ExpressionError("xpath takes a text: the path", text=str(path))
        prefixes: Mapping[str, str] = scope.get("namespaces", {}) or {}
        try:
            found = _compiled(path, tuple(sorted(prefixes.items())))(self._root(scope["raw"]))
        except etree.XPathError as error:
            raise ExpressionError(f"xpath: {error}", text=path) from None
        if isinstance(found, list):
            return _texts(found, path)
        return _number(found, path) if isinstance(found, float) else found

    def _root(self, raw: bytes) -> Element:
        """The parsed document; the last one is kept, because cases ask about the same message again and again."""
        last = self._last
        if last is not None and last[0] is raw:
            return last[1]
        root = _parser.parse(raw)
        self._last = (raw, root) if len(raw) <= _LARGEST_KEPT else None
        return root


def _texts(found: list[Any], path: str) -> Any:
    if not found:
        raise MissingField(f"xpath: there is nothing at {path}", text=path)
    texts = [item if isinstance(item, str) else "".join(item.itertext()) for item in found]
    return texts[0] if len(texts) == 1 else texts


def _number(value: float, path: str) -> Decimal | int:
    if value.is_integer():
        return int(value)
    number = Decimal(repr(value))
    if not number.is_finite():
        raise ExpressionError(f"xpath: {path} is no number", text=path)
    return number


@lru_cache(maxsize=256)
def _compiled(path: str, prefixes: tuple[tuple[str, str], ...]) -> Any:
    return etree.XPath(path, namespaces=dict(prefixes), regexp=False, smart_strings=False)
