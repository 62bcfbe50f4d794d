"""A document from one format into another, outside of any route: what `esb convert` does."""

from __future__ import annotations

from typing import Any, Final

from esb.errors import EncodeError
from esb.ports import Codec

ROOT: Final = "document"
ITEM: Final = "item"
ROW: Final = "row"


def convert(body: bytes, source: Codec, target: Codec) -> bytes:
    """The tree of one format in the other; raises DecodeError or EncodeError.

    Where the formats' trees differ in shape, and the target refuses the tree as it is, the shape is the only one that
    loses nothing: XML gets a root `document` (rows are its `row` elements, a list's items its `item` elements), CSV
    takes the one list of flat objects there is. Between two codecs of one format the original is kept where possible.
    """
    decoded = source.decode(body)
    if source.media_type == target.media_type:
        return target.encode(decoded.tree, decoded.memory)
    try:
        return target.encode(decoded.tree)
    except EncodeError as error:
        shaped = _shaped(decoded.tree, error.code, target.media_type)
        if shaped is None:
            raise
        return target.encode(shaped)


def _shaped(tree: Any, code: str, media_type: str) -> Any:
    """The tree as the target needs it; None where there is no such thing."""
    if media_type == "application/xml" and code == "M223":
        return _rooted(tree)
    if media_type.startswith("text/csv") and code in ("M220", "M227"):
        return _rows(tree)
    return None


def _rooted(tree: Any) -> dict[str, Any]:
    if isinstance(tree, list):
        return {ROOT: {ITEM: tree}}
    if isinstance(tree, dict) and list(tree) == ["rows"]:
        return {ROOT: {ROW: tree["rows"]}}
    return {ROOT: tree}


def _rows(tree: Any) -> list[Any] | None:
    """The list of objects under the only keys there are; one object there is one row."""
    while isinstance(tree, dict) and len(tree) == 1:
        tree = next(iter(tree.values()))
    rows = tree if isinstance(tree, list) else [tree]
    return rows if all(isinstance(row, dict) for row in rows) else None
