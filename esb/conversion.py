"""A document from one format into another, outside of any route: what `esb convert` does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from esb.errors import EncodeError
from esb.ports import Codec

_SHAPE: Final = ("M220", "M223", "M227")
"""The codes that say the whole tree is of the wrong shape, not that a value in it is wrong."""


def convert(body: bytes, source: Codec, target: Codec) -> bytes:
    """The tree of one format in the other; raises DecodeError or EncodeError.

    Trees of different formats differ in shape: CSV is `{"rows": [...]}`, XML has one root, JSON may be anything. The
    first shape that the target takes is written, and none of them loses a value: JSON gets a CSV's rows as a list; XML
    gets `row` elements under the target's `root`, else under `rows`, and any other tree without a root under
    `document`; CSV gets the one list of objects there is. Within one format the original is kept where possible.
    """
    decoded = source.decode(body)
    if source.media_type == target.media_type:
        return target.encode(decoded.tree, decoded.memory)
    shapes = list(_shapes(decoded.tree, source.media_type, target.media_type))
    for tree in shapes[:-1]:
        try:
            return target.encode(tree)
        except EncodeError as error:
            if error.code not in _SHAPE:
                raise
    return target.encode(shapes[-1])


def _shapes(tree: Any, source: str, target: str) -> Iterator[Any]:
    """The tree as the target may take it, the likeliest first."""
    rows = tree["rows"] if source.startswith("text/csv") else None
    if target.startswith("text/csv"):
        yield tree
        yield _only(tree)
    elif target == "application/xml" and rows is not None:
        yield {"row": rows}
        yield {"rows": {"row": rows}}
    elif target == "application/xml":
        yield tree
        yield {"document": {"item": tree} if isinstance(tree, list) else tree}
    else:
        yield tree if rows is None else rows


def _only(tree: Any) -> Any:
    """What stands under the only keys there are."""
    while isinstance(tree, dict) and len(tree) == 1:
        tree = next(iter(tree.values()))
    return tree
