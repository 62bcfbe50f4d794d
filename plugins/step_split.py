"""The step `split`: one message a row, element or item. The bus drives it, part by part, from the store (R5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from msgspec import Struct

from esb import Component, Context, Expression, MessageError, OptionError, Program, TreePath, hook


class SplitOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`path` is a path, not CEL: `"body.Order.Lines.Line"`, `"rows"` for CSV, `"body"` for a JSON array.

    `carry` are values of the whole that every part sees as `parent.NAME`; with `whole` the entire input is read before
    the first part is made.
    """

    path: str
    carry: dict[str, Expression] = {}
    whole: bool = False


class Split:
    """What the bus needs to cut a body: `path` without the leading `body`, `carry` compiled, `whole`."""

    def __init__(self, path: str, carry: Mapping[str, Program], whole: bool) -> None:
        self.path = path
        self.carry = carry
        self.whole = whole
        self._keys = () if path in ("", "rows") else TreePath.parse(f"body.{path}", ("body",)).keys

    def items(self, tree: Any, format: str = "") -> list[Any]:
        """The parts of a tree that is held already.

        In XML a name that stands once is no list, and one that stands nowhere is an empty one, as in the streaming
        form. Raises MessageError where the path is missing or leads to no list.
        """
        if type(tree) is bytes:
            raise MessageError("split: the body is bytes; put a read before it", code="M280", place="body")
        if self.path == "rows" and isinstance(tree, dict) and "rows" in tree:
            tree = tree["rows"]
        return _items(tree, "body", self._keys, format == "xml")


def _items(tree: Any, place: str, keys: tuple[str, ...], xml: bool) -> list[Any]:
    if not keys:
        if isinstance(tree, list):
            return tree
        if xml and tree is not None:
            return [tree]
        raise MessageError(f"split: {place} is no list", code="M283", place=place)
    key, rest = keys[0], keys[1:]
    if xml and isinstance(tree, list):
        return [item for branch in tree for item in _items(branch, place, keys, xml)]
    if not isinstance(tree, dict):
        raise MessageError(f"split: {place} has no fields, so no {key}", code="M283", place=place)
    if key not in tree:
        if xml and not rest:
            return []
        raise MessageError(f"split: {place}.{key} is missing", code="M283", place=f"{place}.{key}")
    return _items(tree[key], f"{place}.{key}", rest, xml)


def _path(text: str) -> str:
    if text in ("body", "rows"):
        return "" if text == "body" else text
    hint = 'a split takes a path, not CEL: "body.Order.Lines.Line", "rows" for CSV, "body" for a JSON array'
    try:
        TreePath.parse(text, ("body",))
    except ValueError as error:
        raise OptionError("path", str(error), hint, code="E231") from error
    if "[" in text:
        raise OptionError("path", f'"{text}" is not a path of dotted names', hint, code="E231")
    return text.removeprefix("body.")


def _open(options: SplitOptions, context: Context) -> AbstractAsyncContextManager[Split]:
    carry = {name: context.expression(text) for name, text in options.carry.items()}
    return nullcontext(Split(_path(options.path), carry, options.whole))


@hook
def esb_steps() -> Iterable[Component[Any]]:
    return [
        Component(
            kind="step",
            name="split",
            about="Makes one message of each row, element or item at a path.",
            options=SplitOptions,
            main="path",
            open=_open,
            example="""do = [
  { read = "xml" },
  { split = "body.Order.Lines.Line", carry = { order = 'body.Order["@id"]' } },
]""",
        )
    ]
