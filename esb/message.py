"""Message and Delivery: what travels through a route, and what leaves it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace


class Headers(dict[str, str]):
    """Header names are lower-cased; an absent header is `""` (but `in` tells the truth)."""

    __slots__ = ()

    def __missing__(self, name: str) -> str:
        return ""


class Decoded(Struct, frozen=True):
    """What a codec made of bytes.

    `about` joins `source.*` (CSV: `head`, `foot`); `memory` is handed back to `encode` of a codec of the same name,
    so that an untouched or lightly changed document keeps what a tree cannot hold.
    """

    tree: Any
    about: Mapping[str, Any] = {}
    memory: Any = None


class Part(Struct, frozen=True):
    """One part of a split body.

    `raw` is a document of its own that the same codec can `decode_part` again; `line` counts from 1 in the whole input;
    `outer` is the tree of what stands before the first part (for `carry`); `count` is None while it is unknown;
    `about` and `memory` are those of `Decoded` for this part.
    """

    tree: Any
    raw: bytes
    line: int | None = None
    outer: Any = None
    count: int | None = None
    about: Mapping[str, Any] = {}
    memory: Any = None


class BadPart(Struct, frozen=True):
    """A part that cannot be read, while the ones after it can: `raw` is what stood there (a document like Part.raw)."""

    raw: bytes
    error: Exception
    line: int | None = None


HOPS_HEADER = "esb-hops"
"""How many routes and buses a message has come through; the only header of ours that is taken from a sender."""


def hops_of(headers: Mapping[str, str]) -> int:
    """The hops that kept headers tell."""
    return int(headers.get(HOPS_HEADER, "0"))


class Message(Struct, frozen=True, kw_only=True):
    """Headers and a body inside a route. Immutable: steps return new ones through `with_...`.

    `body` is bytes before a `read` and a plain tree (dict, list, str, int, bool, None, Decimal) after it.
    `raw` are the bytes it came as. `format` names the codec of the last read ("" before one) and `codec` is that
    codec; `changed` tells that the tree no longer says what `raw` says; `tree` is what a `write` made bytes of, so that
    cases and templates still see it; `head` is how many of its first bytes stand once at the beginning of a file that
    joins several such bodies (a CSV's header line). `accepted_at` is in seconds since the epoch, UTC, the same on every
    attempt.
    """

    uid: str
    route: str
    accepted_at: float
    body: Any
    raw: bytes
    headers: Headers
    source: Mapping[str, Any] = {}
    part: Mapping[str, Any] | None = None
    parent: Mapping[str, Any] | None = None
    format: str = ""
    codec: Any = None
    memory: Any = None
    media_type: str = ""
    changed: bool = False
    tree: Any = None
    head: int = 0
    hops: int = 0
    caller: str = ""

    def with_body(self, body: Any) -> Message:
        """The same message with another tree (or other bytes) as its body."""
        return replace(self, body=body, changed=True, head=0)

    def with_header(self, name: str, value: str) -> Message:
        """The same message with one header set."""
        headers = Headers(self.headers)
        headers[name.lower()] = value
        return replace(self, headers=headers)

    def with_(self, **fields: Any) -> Message:
        """The same message with other fields; another body has no head unless it is given with it."""
        if "body" in fields:
            fields.setdefault("head", 0)
        return replace(self, **fields)


class Scope(dict[str, Any]):
    """The variables of an expression over one message (TABLE section 6); the rare ones are made when first asked."""

    __slots__ = ("_message", "_zone")

    def __init__(self, message: Message, var: Mapping[str, Any], zone: ZoneInfo) -> None:
        super().__init__(
            body=message.body if message.tree is None else message.tree,
            raw=message.raw,
            header=message.headers,
            source=message.source,
            part=message.part,
            parent=message.parent,
            var=var,
        )
        self._message = message
        self._zone = zone

    def __missing__(self, name: str) -> Any:
        message = self._message
        value: Any
        if name == "now":
            value = datetime.fromtimestamp(message.accepted_at, UTC)
        elif name == "today":
            value = self.today().isoformat()
        elif name == "message":
            accepted = datetime.fromtimestamp(message.accepted_at, UTC)
            value = {"id": message.uid, "route": message.route, "accepted": accepted}
        else:
            raise KeyError(name)
        self[name] = value
        return value

    def today(self) -> date:
        """The date of acceptance in the bus's time zone."""
        return datetime.fromtimestamp(self._message.accepted_at, self._zone).date()


class Delivery(Struct, frozen=True, kw_only=True):
    """One message for one target, as a target sees it. `id` is the same on every attempt. `head` is how many of the
    body's first bytes stand once at the beginning of a file that joins several bodies; a target that joins none writes
    them as any others."""

    id: str
    message_id: str
    route: str
    target: str
    attempt: int = 1
    maybe_sent: bool = False
    replayed: bool = False
    created: float = 0.0
    headers: Mapping[str, str] = {}
    size: int = 0
    media_type: str = ""
    head: int = 0
    values: Mapping[str, str] = {}
    content: bytes | None = None
    load: Callable[[], Awaitable[bytes]] | None = None
    stream: Callable[[], AsyncIterator[bytes]] | None = None

    @property
    def hops(self) -> int:
        """How many routes and buses the message has come through."""
        return hops_of(self.headers)

    async def body(self) -> bytes:
        """All of the body."""
        if self.content is not None:
            return self.content
        return await self.load() if self.load is not None else b""

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces, without holding all of it when it is large (over 64 kB)."""
        if self.stream is not None and self.content is None:
            async for chunk in self.stream():
                yield chunk
        else:
            yield await self.body()
