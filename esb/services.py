"""What the bus does for its components while they are opened and run: one object behind every Context."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from esb.clock import Clock
from esb.contracts import Contract, Contracts
from esb.errors import OptionError
from esb.expressions import Environment, ExpressionProblems, TemplateProgram
from esb.expressions import Program as Compiled
from esb.mapping import CompiledMap as CompiledMapping
from esb.mapping import compile_mapping
from esb.message import Message, Scope
from esb.plugins import Registry
from esb.ports import Auth, Codec, Context
from esb.secrets import Secrets
from esb.table.model import ComponentSpec, Listener, Table
from esb.units import decode_option

log = logging.getLogger(__name__)


class Health(msgspec.Struct, frozen=True):
    """How a component is doing: `up`, `down` or `degraded`, since when (seconds since the epoch) and why."""

    state: str
    reason: str
    since: float


class ScopedProgram:
    """A compiled expression that takes a message (or, for `ok` and the like, a plain mapping)."""

    def __init__(self, program: Compiled, services: BusServices) -> None:
        self.text = program.text
        self._program = program
        self._services = services

    def evaluate(self, given: Message | Mapping[str, Any], /) -> Any:
        scope = self._services.scope(given) if isinstance(given, Message) else given
        return self._program.evaluate(scope)


class ScopedText:
    """A compiled template that takes a message."""

    def __init__(self, program: TemplateProgram, services: BusServices) -> None:
        self.text = program.text
        self._program = program
        self._services = services

    def fill(self, message: Message, /, quote: Any = None) -> Any:
        return self._program.fill(self._services.scope(message), quote)


class ScopedMapping:
    """A compiled map that takes a message."""

    def __init__(self, mapping: CompiledMapping, services: BusServices) -> None:
        self._mapping = mapping
        self._services = services

    def apply(self, message: Message, /) -> Any:
        return self._mapping.apply(self._services.scope(message))


class BusServices:
    """Compiles, finds, reads and shares what components ask their Context for."""

    def __init__(
        self,
        table: Table,
        registry: Registry,
        clock: Clock,
        *,
        checkpoint: Callable[[str, str], Awaitable[bytes | None]] | None = None,
        whereabouts: Callable[[str], Awaitable[Any]] | None = None,
    ) -> None:
        self.table = table
        self.registry = registry
        self.clock = clock
        self.zone = ZoneInfo(table.bus.time_zone)
        self.environment = Environment(functions=registry.functions, budget=table.bus.budget, zone=self.zone)
        self.secrets = Secrets(table.secrets, table.folder)
        self.contracts = Contracts((table.kept or table.folder) / "contracts")
        self.healths: dict[str, Health] = {}
        self.auths: dict[str, Auth] = {}
        self._checkpoint = checkpoint
        self._whereabouts = whereabouts
        self._stack = AsyncExitStack()
        self._shared: dict[object, asyncio.Future[Any]] = {}
        self._maps: dict[str, CompiledMapping] = {}
        self._scope: tuple[Message | None, Any, Scope | None] = (None, None, None)

    async def __aenter__(self) -> BusServices:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def scope(self, message: Message) -> Scope:
        """The variables of this message; the last one is kept, since steps ask in a row."""
        known, _, scope = self._scope
        if known is message and scope is not None:
            return scope
        scope = Scope(message, self.table.var, self.zone)
        if self.table.namespaces:
            scope["namespaces"] = self.table.namespaces
        self._scope = (message, None, scope)
        return scope

    def context(self, spec: ComponentSpec, name: str) -> Context:
        """Where this component stands."""
        auth = getattr(spec, "auth", None)
        return Context(
            name=name,
            folder=spec.folder or self.table.folder,
            services=self,
            clock=self.clock,
            every=_seconds(getattr(spec, "every", None)),
            timeout=float(getattr(spec, "timeout", 30.0)),
            auth=None if auth is None else self.auths.get(auth),
            time_zone=self.table.bus.time_zone,
            id_header=getattr(spec, "id_header", None),
        )

    async def open(self, spec: ComponentSpec, name: str, stack: AsyncExitStack) -> Any:
        """Opens a component for as long as `stack` lives; raises OptionError with the option that is wrong."""
        return await stack.enter_async_context(spec.component.open(spec.options, self.context(spec, name)))

    def expression(self, text: str, /) -> ScopedProgram:
        try:
            return ScopedProgram(self.environment.compile(text), self)
        except ExpressionProblems as problems:
            raise _option_error(problems) from problems

    def template(self, text: str, /) -> ScopedText:
        try:
            return ScopedText(self.environment.compile_template(text), self)
        except ExpressionProblems as problems:
            raise _option_error(problems) from problems

    def secret(self, reference: str, /) -> str:
        return self.secrets.read(reference)

    def codec(self, name: str, options: Mapping[str, Any], /) -> Codec:
        component = self.registry.get("codec", name)
        if component is None:
            known = ", ".join(self.registry.names("codec"))
            raise OptionError("", f'no codec named "{name}"', f"codecs are {known}", code="E203")
        given = {component.main: name, **options}
        try:
            decoded = msgspec.convert(given, component.options, dec_hook=decode_option)
        except msgspec.ValidationError as error:
            raise OptionError("", f"codec {name}: {error}") from error
        spec = ComponentSpec(component=component, options=decoded, place=())
        opened = component.open(decoded, self.context(spec, f"codec.{name}"))
        return _entered(opened)

    def contract(self, name: str, /) -> Contract:
        return self.contracts.get(name)

    def mapping(self, name: str, /) -> ScopedMapping:
        return ScopedMapping(self._compiled_map(name), self)

    def _compiled_map(self, name: str) -> CompiledMapping:
        if name not in self._maps:
            spec = self.table.maps.get(name)
            if spec is None:
                raise OptionError("", f'no map named "{name}"', f"maps are {', '.join(self.table.maps)}", code="E207")
            self._maps[name] = compile_mapping(spec, self.environment, self._compiled_map)
        return self._maps[name]

    def resource(self, path: str, /) -> Path:
        folder = self.table.folder.resolve()
        found = (folder / path).resolve()
        if not found.is_relative_to(folder):
            raise OptionError("", f'"{path}" lies outside the folder of the table', code="E121")
        if self.table.kept is not None and (self.table.kept / found.relative_to(folder)).is_file():
            return self.table.kept.resolve() / found.relative_to(folder)
        if not found.is_file():
            raise OptionError("", f'there is no file "{found.relative_to(folder)}" beside the table', code="E121")
        return found

    def listener(self, name: str, /) -> Listener:
        found = self.table.listeners.get(name)
        if found is None:
            known = ", ".join(self.table.listeners)
            raise OptionError("listener", f'no listener named "{name}"', f"listeners are {known}", code="E214")
        return found

    def namespaces(self) -> Mapping[str, str]:
        return self.table.namespaces

    def health(self, component: str, state: str, reason: str, /) -> None:
        before = self.healths.get(component)
        if before is None or (before.state, before.reason) != (state, reason):
            self.healths[component] = Health(state, reason, self.clock.now())
            if state != "up":
                log.warning("%s is %s: %s", component, state, reason)
            elif before is not None:
                log.info("%s is up again", component)

    async def checkpoint(self, source: str, name: str, /) -> bytes | None:
        return None if self._checkpoint is None else await self._checkpoint(source, name)

    async def whereabouts(self, uid: str, /) -> Any:
        return None if self._whereabouts is None else await self._whereabouts(uid)

    async def shared(self, key: object, open: Callable[[], AbstractAsyncContextManager[Any]], /) -> Any:
        """Opened by who asks first; the others wait for it, and get its error where it has one."""
        if key not in self._shared:
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._shared[key] = future
            try:
                future.set_result(await self._stack.enter_async_context(open()))
            except BaseException as error:
                del self._shared[key]
                future.set_exception(error)
                future.exception()
                raise
        return await asyncio.shield(self._shared[key])

    async def thread(self, call: Callable[..., Any], /, *arguments: Any) -> Any:
        return await asyncio.to_thread(call, *arguments)


def _entered(opened: AbstractAsyncContextManager[Codec]) -> Codec:
    """Codecs are pure: their context must be ready without waiting."""
    entering = opened.__aenter__()
    try:
        entering.send(None)
    except StopIteration as ready:
        codec: Codec = ready.value
        return codec
    raise OptionError("", "a codec may not wait while it is opened")


def _option_error(problems: ExpressionProblems) -> OptionError:
    finding = problems.findings[0]
    return OptionError("", finding.message, finding.hint, code=finding.code, offset=finding.offset)


def _seconds(value: float | None) -> float | None:
    return None if value is None else float(value)
