"""The doors a plugin implements. Return means done, raise means not done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, Generic, Literal, Protocol, TypeVar, runtime_checkable

from msgspec import Struct

from esb.clock import Clock
from esb.message import BadPart, Decoded, Delivery, Message, Part

Body = bytes | Path | AsyncIterator[bytes]
Kind = Literal["source", "target", "codec", "step"]

RESERVED: Final[Mapping[str, frozenset[str]]] = {
    "source": frozenset({"reply", "once", "every", "auth", "placement", "window", "except", "name", "node"}),
    "target": frozenset(
        {
            "auth", "limit", "concurrency", "order_by", "when_stuck", "retry", "accepts", "timeout", "batch", "owner",
            "about", "off", "paused", "window", "except", "open_after", "do", "id_header", "expires", "backlog",
        }
    ),
    "step": frozenset({"if", "bad", "note"}),
    "codec": frozenset({"if", "bad", "note"}),
}  # fmt: skip
"""Keys that belong to the bus and never reach a plugin; a component whose name or options use one is refused at load.
(`bad` on a source is the plugin's: the file source's folder. What becomes of bad messages is the route's `bad`.)"""


class Incoming(Struct, frozen=True, kw_only=True):
    """What a source hands to `accept`.

    A Path is copied, never moved; an iterator is read once. Header names are lower-cased and `esb-` ones are stripped
    at the door. `once` is the sender's own id; `claim` survives a crash between our commit and the source's own ack
    (R2); `checkpoint` is a cursor that is committed with the message.
    """

    body: Body
    headers: Mapping[str, str] = {}
    about: Mapping[str, Any] = {}
    once: str | None = None
    claim: str | None = None
    checkpoint: bytes | None = None
    caller: str = ""
    media_type: str = ""


class Reply(Struct, frozen=True, kw_only=True):
    """An answer to the sender, in HTTP's words: other protocols translate the status."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}
    media_type: str = "application/json"


class Outcome(Struct, frozen=True, kw_only=True):
    """How a message's planning ended: when every part is made, or at once.

    `state` is the message's state in the books ("open" while deliveries wait). `rejected` are the parts that were
    quarantined, in order: (line, raw, reason).
    """

    state: str
    reason: str = ""
    parts: int = 0
    rejected: Sequence[tuple[int | None, bytes, str]] = ()


class Accepted(Struct, frozen=True, kw_only=True):
    """The message is on disk. `duplicate`: a known once-key or claim, answer as the first time.

    `reply` is set when the route answers more than "stored". `planned()` returns when the message is planned wholly.
    """

    id: str
    duplicate: bool = False
    reply: Reply | None = None
    planned: Callable[[], Awaitable[Outcome]] | None = None


class Accept(Protocol):
    """The one call of a source. On disk when it returns; raises `Busy`, `Closing` or a `MessageError`
    (`Invalid` with the HTTP `status` it stands for) when it is refused; `StoreError` when nothing is known."""

    async def __call__(self, message: Incoming, /) -> Accepted: ...

    async def many(self, messages: Sequence[Incoming], /) -> Sequence[Accepted | Exception]:
        """One commit, outcomes in order."""
        ...


@runtime_checkable
class Source(Protocol):
    """Runs until cancelled; `accept` is shielded from the cancellation."""

    async def run(self, accept: Accept, /) -> None: ...


class Receipt(Struct, frozen=True, kw_only=True):
    """What a target said: at most 1 kB of note for the journal, and its answer where a sender waits for it."""

    note: str = ""
    reply: Reply | None = None


@runtime_checkable
class Target(Protocol):
    """Takes a delivery or says why not: `Unavailable Throttled Unauthorized Rejected MaybeSent`.
    Any other exception is the plugin's own fault."""

    async def deliver(self, delivery: Delivery, /) -> Receipt | None: ...


@runtime_checkable
class BatchTarget(Target, Protocol):
    async def deliver_many(self, batch: Sequence[Delivery], /) -> Sequence[Receipt | Exception | None]: ...


@runtime_checkable
class Codec(Protocol):
    """Bytes to a plain tree and back. One typed error (`DecodeError`, `EncodeError`) from every codec."""

    media_type: str

    def decode(self, body: bytes, /) -> Decoded: ...

    def encode(self, tree: Any, memory: Any = None, /) -> bytes:
        """The same tree gives the same bytes. `memory` is what `decode` gave, when the tree comes from there."""
        ...

    def decode_part(self, raw: bytes, /) -> Decoded:
        """A part from its `Part.raw`: the tree is the one that the part had (a CSV row, an element's content)."""
        ...

    def parts(self, chunks: Iterable[bytes], path: str, /) -> Iterable[Part | BadPart]:
        """The parts at `path` in constant memory; a DecodeError ends them."""
        ...


@runtime_checkable
class HeadedCodec(Codec, Protocol):
    """A codec whose bodies may have a head that stands once at the beginning of a file that joins several of them."""

    def head(self, tree: Any, /) -> bytes:
        """The beginning of `encode(tree)` that is its head; b"" when it has none with these options."""
        ...


@runtime_checkable
class Step(Protocol):
    """Pure: one message in; none, one or many out. Never waits."""

    def apply(self, message: Message, /) -> Sequence[Message]: ...


@runtime_checkable
class RemoteStep(Protocol):
    """A step that asks a stranger; the core commits before it."""

    async def apply(self, message: Message, /) -> Sequence[Message]: ...


class Dropped(Exception):
    """Raised by a pure step: this message ends here on purpose, with the reason (mandatory)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Program(Protocol):
    """A compiled expression (see esb.expressions)."""

    text: str

    def evaluate(self, scope: Message | Mapping[str, Any], /) -> Any:
        """Over a message; or over the variables themselves, where they are not a message's (`ok`: status, reply)."""
        ...


class Text(Protocol):
    """A compiled template. `quote` escapes each value: `"url" "header" "file"`, or None."""

    text: str

    def fill(self, message: Message, /, quote: str | None = None) -> Any: ...


Post = Callable[[str, Mapping[str, str], Mapping[str, str]], Awaitable[tuple[int, bytes]]]
"""POSTs a form to a URL with headers; gives status and body, raises DeliveryError. For token endpoints."""


class Auth(Protocol):
    """A login of `[auth.NAME]`."""

    def use(self, post: Post, /) -> None:
        """Outbound: how a token endpoint is reached; said by an adapter that speaks HTTP before it asks for headers."""
        ...

    async def headers(self) -> Mapping[str, str]:
        """Outbound: the headers that log us in; raises `Unauthorized` or `Unavailable`."""
        ...

    def refused(self) -> None:
        """Outbound: the peer answered 401; a cached token is forgotten."""
        ...

    def caller(self, headers: Mapping[str, str], /) -> str:
        """Inbound: the id of the key that these headers carry; raises `Unauthorized`."""
        ...


class Services(Protocol):
    """What the bus does for a component while it is opened and runs; reached through `Context`."""

    def expression(self, text: str, /) -> Program: ...

    def template(self, text: str, /) -> Text: ...

    def secret(self, reference: str, /) -> str: ...

    def codec(self, name: str, options: Mapping[str, Any], /) -> Codec: ...

    def contract(self, name: str, /) -> Any: ...

    def mapping(self, name: str, /) -> Any: ...

    def resource(self, path: str, /) -> Path: ...

    def listener(self, name: str, /) -> Any: ...

    def namespaces(self) -> Mapping[str, str]: ...

    def health(self, component: str, state: str, reason: str, /) -> None: ...

    async def checkpoint(self, source: str, name: str, /) -> bytes | None: ...

    async def whereabouts(self, uid: str, /) -> Any: ...

    async def shared(self, key: object, open: Callable[[], AbstractAsyncContextManager[Any]], /) -> Any: ...

    async def thread(self, call: Callable[..., Any], /, *arguments: Any) -> Any: ...


class Context(Struct, frozen=True, kw_only=True):
    """Where a component stands.

    `name` is `route.orders`, `target.erp`, ...; `folder` is what relative paths count from (that of the table's file);
    `every`, `timeout` are the common options in seconds; `auth` is the login that `auth = "NAME"` names;
    `time_zone` is the bus's; `encoding` is what the route's first read takes bytes for, of a source.
    """

    name: str
    folder: Path
    services: Services
    clock: Clock
    every: float | None = None
    timeout: float = 30.0
    auth: Auth | None = None
    time_zone: str = "UTC"
    id_header: str | None = None
    reply: str | None = None
    encoding: str | None = None

    def expression(self, text: str) -> Program:
        """Compiles CEL; raises OptionError with the offset."""
        return self.services.expression(text)

    def template(self, text: str) -> Text:
        """Compiles a text with `{CEL}`; raises OptionError with the offset."""
        return self.services.template(text)

    def secret(self, reference: str) -> str:
        """The value behind `secret:NAME`, read now."""
        return self.services.secret(reference)

    def codec(self, name: str, options: Mapping[str, Any] | None = None) -> Codec:
        return self.services.codec(name, options or {})

    def contract(self, name: str) -> Any:
        """The contract `NAME@VERSION` (esb.contracts.Contract)."""
        return self.services.contract(name)

    def mapping(self, name: str) -> Any:
        """The compiled `[map.NAME]` (esb.mapping.Mapping)."""
        return self.services.mapping(name)

    def resource(self, path: str) -> Path:
        """A file beside the table (a stylesheet, a list), kept by hash with the table; raises OptionError."""
        return self.services.resource(str(self.folder / path))

    def listener(self, name: str = "default") -> Any:
        """The `[listener.NAME]` settings (esb.table.model.Listener)."""
        return self.services.listener(name)

    def namespaces(self) -> Mapping[str, str]:
        """The table's `[namespaces]`: prefix to URI."""
        return self.services.namespaces()

    def health(self, state: Literal["up", "down", "degraded"], reason: str = "") -> None:
        """Says how this component is doing; shown by status, doctor and `ready`."""
        self.services.health(self.name, state, reason)

    async def checkpoint(self, name: str = "") -> bytes | None:
        """The cursor last committed with a message of this source."""
        return await self.services.checkpoint(self.name, name)

    async def whereabouts(self, uid: str) -> Any:
        """What a sender may know of a message: `route`, `caller`, `state`; None when it is not known (any more)."""
        return await self.services.whereabouts(uid)

    async def shared(self, key: object, open: Callable[[], AbstractAsyncContextManager[Any]]) -> Any:
        """A thing that several components use (a port, a pool): opened once a bus, closed with it."""
        return await self.services.shared(key, open)

    async def thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a call that blocks in a thread of this component's own pool."""
        return await self.services.thread(call, *arguments)


O = TypeVar("O", bound=Struct)  # noqa: E741
Opened = Source | Target | Codec | Step | RemoteStep


class Component(Struct, Generic[O], frozen=True, kw_only=True):
    """One declaration: parsing, lint, docs, the editor's schema and a test of the example come from it.

    `name` is the key in the table, `main` the option that takes the value beside it, `example` TOML that `esb check`
    accepts; `needs` maps import names to extras: `{"asyncssh": "sftp"}`; `probe` reaches and logs in, sends nothing.
    `check` raises OptionError for what is wrong with options before anything is opened; `claims` names what only one
    place of a table may have (a path on a port). `heads` says of a codec whether its bodies have a head apart with
    these options, and of a target whether it writes such a head once for all bodies that it joins; `reading` and
    `writing` name those options of a codec that only a `read`, or only a `write`, goes by; `answers` of a
    source that its sender hears what `reply` says; `closed` lets a source tell those who send to it meanwhile that its
    route is paused or off.
    """

    kind: Kind
    name: str
    about: str
    options: type[O]
    main: str
    open: Callable[[O, Context], AbstractAsyncContextManager[Any]]
    example: str
    idempotent: Literal["yes", "by id", "no"] = "no"
    placement: Literal["every node", "one node"] = "every node"
    blocking: bool = False
    needs: Mapping[str, str] = {}
    probe: Callable[[O, Context], Awaitable[str]] | None = None
    check: Callable[[O], None] | None = None
    claims: Callable[[O], Sequence[str]] | None = None
    heads: Callable[[O], bool] | None = None
    reading: frozenset[str] = frozenset()
    writing: frozenset[str] = frozenset()
    answers: bool = False
    closed: Callable[[O, Context], Awaitable[None]] | None = None
    api: int = 1
