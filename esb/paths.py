"""Paths into a message: `body.Order.Total`, `body.Order["@id"]`, `header.x-run`; trees are changed by copying."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from esb.errors import MessageError

_KEY: Final = re.compile(r"""\.([^.\[\]\s"']+)|\["([^"]*)"\]|\['([^']*)'\]""")
_ROOT: Final = re.compile(r"[a-z]+")


class TreePath(Struct, frozen=True):
    """Where a value stands: `root` is the variable (`body`, `header`), `keys` lead into it."""

    text: str
    root: str
    keys: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, roots: Sequence[str]) -> TreePath:
        """Raises ValueError with the right spelling in its text."""
        found = _ROOT.match(text)
        if found is None or found[0] not in roots:
            raise ValueError(f'"{text}" is not a path; begin with {" or ".join(roots)}, as in "{roots[0]}.Order.Total"')
        keys, at = [], found.end()
        while at < len(text):
            key = _KEY.match(text, at)
            if key is None:
                raise ValueError(
                    f'"{text}" is not a path at "{text[at:]}"; '
                    f"""write names with dots, other names as {roots[0]}.Order['@id']"""
                )
            keys.append(next(group for group in key.groups() if group is not None))
            at = key.end()
        return cls(text, found[0], tuple(keys))

    def put(self, tree: Any, value: Any) -> Any:
        """The tree with this value at the path; maps on the way are copied, missing ones are made.

        Raises MessageError where the way leads through something that is no map.
        """
        return self._put(tree, 0, value)

    def _put(self, tree: Any, depth: int, value: Any) -> Any:
        if depth == len(self.keys):
            return value
        key = self.keys[depth]
        if tree is None:
            return {key: self._put(None, depth + 1, value)}
        if not isinstance(tree, dict):
            raise self._no_map(tree, depth)
        return {**tree, key: self._put(tree.get(key), depth + 1, value)}

    def drop(self, tree: Any) -> Any:
        """The tree without what stands at the path; the very same tree when nothing stands there."""
        return self._drop(tree, 0)

    def _drop(self, tree: Any, depth: int) -> Any:
        if tree is None:
            return tree
        if not isinstance(tree, dict):
            raise self._no_map(tree, depth)
        key = self.keys[depth]
        if key not in tree:
            return tree
        if depth + 1 == len(self.keys):
            return {name: value for name, value in tree.items() if name != key}
        below = self._drop(tree[key], depth + 1)
        return tree if below is tree[key] else {**tree, key: below}

    def _no_map(self, tree: Any, depth: int) -> MessageError:
        place = ".".join((self.root, *self.keys[:depth]))
        found = "bytes" if isinstance(tree, bytes) else "a list" if isinstance(tree, list) else "a single value"
        right = "put a read before it" if found == "bytes" else "use a map for what is inside it"
        return MessageError(f"{self.text} cannot be reached: {place} is {found}; {right}", code="M282", place=place)
