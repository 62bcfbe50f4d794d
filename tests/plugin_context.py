"""A Context with small services behind it, and an `accept` that remembers: for tests of one plugin without a bus."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from esb.clock import Clock, SystemClock
from esb.errors import OptionError, SecretMissing
from esb.ports import Accepted, Auth, Component, Context, Incoming, Source
from esb.table.model import Listener
from esb.units import decode_option


class FakeProgram:
    """An expression of a test: its text, and the function that stands for it."""

    def __init__(self, text: str, evaluate: Callable[[Any], Any]) -> None:
        self.text = text
        self.evaluate = evaluate


class FakeServices:
    """What a bus does for its components, as plain as can be. `expressions` maps a text to the function it stands for;
    `codecs` and `resources` hold ready things by name."""

    def __init__(
        self,
        *,
        folder: Path = Path(),
        listeners: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
        expressions: Mapping[str, Callable[[Any], Any]] | None = None,
        codecs: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.listeners = dict(listeners or {})
        self.secrets = dict(secrets or {})
        self.expressions = dict(expressions or {})
        self.codecs = dict(codecs or {})
        self.cursors: dict[tuple[str, str], bytes] = {}
        self.healths: list[tuple[str, str, str]] = []
        self.stack = AsyncExitStack()
        self._shared: dict[object, Any] = {}

    async def __aenter__(self) -> FakeServices:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stack.aclose()

    def expression(self, text: str, /) -> FakeProgram:
        if text not in self.expressions:
            raise OptionError("", f"the test knows no expression {text}", offset=0)
        return FakeProgram(text, self.expressions[text])

    def template(self, text: str, /) -> Any:
        raise OptionError("", "the test knows no templates")

    def secret(self, reference: str, /) -> str:
        try:
            return self.secrets[reference.removeprefix("secret:")]
        except KeyError:
            raise SecretMissing(f"no secret {reference}") from None

    def codec(self, name: str, options: Mapping[str, Any], /) -> Any:
        return self.codecs[name]

    def contract(self, name: str, /) -> Any:
        raise OptionError("", f"no contract {name}")

    def mapping(self, name: str, /) -> Any:
        raise OptionError("", f"no map {name}")

    def resource(self, path: str, /) -> Path:
        return self.folder / path

    def listener(self, name: str, /) -> Any:
        if name not in self.listeners:
            raise OptionError("listener", f'no listener named "{name}"')
        return self.listeners[name]

    def namespaces(self) -> Mapping[str, str]:
        return {}

    def health(self, component: str, state: str, reason: str, /) -> None:
        self.healths.append((component, state, reason))

    async def whereabouts(self, uid: str, /) -> Any:
        return None

    async def checkpoint(self, source: str, name: str, /) -> bytes | None:
        return self.cursors.get((source, name))

    async def shared(self, key: object, open: Callable[[], Any], /) -> Any:
        if key not in self._shared:
            self._shared[key] = await self.stack.enter_async_context(open())
        return self._shared[key]

    async def thread(self, call: Callable[..., Any], /, *arguments: Any) -> Any:
        return await asyncio.to_thread(call, *arguments)


def make_context(services: FakeServices, name: str = "route.orders", **fields: Any) -> Context:
    """A Context over these services; `fields` are the Context's own (clock, timeout, auth, id_header, ...)."""
    clock: Clock = fields.pop("clock", None) or SystemClock()
    auth: Auth | None = fields.pop("auth", None)
    return Context(name=name, folder=services.folder, services=services, clock=clock, auth=auth, **fields)


def options_of(component: Component[Any], **given: Any) -> Any:
    """The component's options as the table's loader makes them."""
    return msgspec.convert(given, component.options, dec_hook=decode_option)


class Taken(Struct, frozen=True):
    """A message that FakeAccept took, its body read."""

    body: bytes
    incoming: Incoming


class FakeAccept:
    """Takes messages as a bus does: the body is read, an id is given; or raises what `answers` holds next."""

    def __init__(self, answers: Sequence[Any] = ()) -> None:
        self.answers = list(answers)
        self.taken: list[Taken] = []
        self.arrived = asyncio.Event()
        self.hold: asyncio.Event | None = None

    async def __call__(self, message: Incoming, /) -> Accepted:
        body = message.body
        if isinstance(body, Path):
            data = await asyncio.to_thread(body.read_bytes)
        else:
            data = body if isinstance(body, bytes) else b"".join([chunk async for chunk in body])
        self.arrived.set()
        if self.hold is not None:
            await self.hold.wait()
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, BaseException):
            raise answer
        self.taken.append(Taken(data, message))
        return answer if isinstance(answer, Accepted) else Accepted(id=f"id-{len(self.taken)}")

    async def many(self, messages: Sequence[Incoming], /) -> Sequence[Accepted | Exception]:
        done = await asyncio.gather(*(self(message) for message in messages), return_exceptions=True)
        return [one for one in done if not isinstance(one, BaseException) or isinstance(one, Exception)]


async def eventually(truth: Callable[[], Any]) -> None:
    """Returns once `truth()` holds; for what another task brings about."""
    for _ in range(10_000):
        if truth():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it never came about")


@asynccontextmanager
async def running(source: Source, accept: Any) -> AsyncIterator[asyncio.Task[None]]:
    """The source runs inside the block and is cancelled after it; its own error comes out."""
    task = asyncio.ensure_future(source.run(accept))
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with closing(socket.socket()) as tried:
        tried.bind(("127.0.0.1", 0))
        port: int = tried.getsockname()[1]
        return port


def make_listener(bind: str = "127.0.0.1:0", **fields: Any) -> Listener:
    """`[listener.NAME]` as the loader makes it; on a port the system picks unless told."""
    return msgspec.convert({"bind": bind, **fields}, Listener, dec_hook=decode_option)
