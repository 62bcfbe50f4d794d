"""The keys that each table of `routes.toml` has, and how a key comes to stand in the wrong one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from esb.ports import RESERVED
from esb.table.model import Bus, Defaults, Listener, Place
from esb.table.notes import Notes
from esb.table.positions import Path, Positions

NAMED: Final = ("auth", "listener", "retry", "steps", "target", "map", "route")
"""Tables of named tables: `[route.orders]`."""
SINGLE: Final = ("secrets", "namespaces", "var")
MAIN_ONLY: Final = ("include", "bus", "defaults")
TOP: Final = frozenset({*NAMED, *SINGLE, *MAIN_ONLY, "esb", "test"})
LATER: Final = frozenset({"lookup", "topic", "probe"})
"""Tables that this version does not have."""

ENDS: Final = ("to", "drop", "park", "dead", "reply")
"""A case ends in exactly one of them."""
CASE: Final = frozenset({"name", "when", "otherwise", "do", "note", *ENDS})
ROUTE: Final = frozenset(
    {
        "about", "owner", "contact", "runbook", "why", "review_by", "keys", "once", "once_for", "retain", "expires",
        "retry", "bad", "unmatched", "match", "from", "do", "cases", "to", "off", "paused",
    }
)  # fmt: skip
SOURCE: Final = frozenset({"reply", "once", "every", "auth", "placement"})
TARGET: Final = frozenset(
    {
        "auth", "limit", "concurrency", "order_by", "when_stuck", "retry", "timeout", "owner", "about", "off", "paused",
        "open_after", "do", "id_header", "expires", "backlog",
    }
)  # fmt: skip
GIVEN: Final = frozenset({"file", "text", "header"})
EXPECT: Final = frozenset({"case", "delivered", "bodies", "dropped", "reply", "state", "parts", "within"})
STEP: Final = frozenset({"if", "bad", "note"})


def fields(kind: type[msgspec.Struct]) -> frozenset[str]:
    """The keys of a Struct's table."""
    return frozenset(kind.__struct_encode_fields__)


_TABLES: Final[Mapping[str, frozenset[str]]] = {
    "bus": fields(Bus),
    "defaults": fields(Defaults),
    "listener": fields(Listener),
    "route": ROUTE,
    "target": TARGET | RESERVED["target"],
}


def _keys_of(path: Path) -> frozenset[str]:
    """What a table may hold; nothing where that depends on a plugin."""
    if not path:
        return frozenset({"esb", "include"})
    if len(path) == 4 and path[0] == "route" and path[2] == "cases":
        return CASE
    depth = 1 if path[0] in MAIN_ONLY else 2
    return _TABLES.get(str(path[0]), frozenset()) if len(path) == depth else frozenset()


def landed(notes: Notes, place: Place, key: str) -> str:
    """The hint for a key that belongs to a table further up than the header it stands under, or ""."""
    found = notes.atlas.source((*place, key))
    if found is None:
        return ""
    source, own = found
    below = _header_of(source.positions, own[:-1])
    for length in range(len(below) - 1, -1, -1):
        if key in _keys_of(below[:length]):
            where = f"to {_shown(below[:length])}" if length else "to the top of the file"
            return f"it landed in {_shown(below)}; it belongs {where}, above that header"
    return ""


def _header_of(positions: Positions, path: Path) -> Path:
    """The table whose header stands above: the deepest one that has a header of its own."""
    return next((path[:length] for length in range(len(path), 0, -1) if positions.has_header(path[:length])), ())


def _shown(path: Path) -> str:
    name = ".".join(str(part) for part in path if isinstance(part, str))
    return f"[[{name}]]" if any(isinstance(part, int) for part in path[-1:]) else f"[{name}]"


def unknown(notes: Notes, place: Place, key: str, hint: str, front: str) -> None:
    """Notes a key that its table does not have."""
    notes.add((*place, key), "E110", f'{front}unknown key "{key}"', landed(notes, place, key) or hint, key=True)
