"""A route made ready to plan with: its steps opened, its expressions compiled, its names resolved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Literal, Protocol

from msgspec import Struct

from esb.errors import ConfigError, OptionError, Problem
from esb.expressions import Environment, Program, TemplateProgram
from esb.plugins import is_foreign
from esb.routing import Router
from esb.table.model import CaseSpec, ComponentSpec, OutcomeSpec, RouteSpec, StepSpec, Table, TargetSpec, ToSpec
from esb.units import QUOTES, Template

StepKind = Literal["read", "check", "pure", "split", "remote"]


class ReadyStep(Struct, frozen=True, kw_only=True):
    """One step, opened. `foreign` ones come from a stranger and get a copy of the tree; with a `blocking` one the whole
    route is planned in threads."""

    name: str
    kind: StepKind
    step: Any
    condition: Program | None = None
    bad: OutcomeSpec | None = None
    foreign: bool = False
    blocking: bool = False


class Placeholder(Struct, frozen=True):
    """One `{CEL}` of a target's options: `key` is how its value is kept with the delivery (its text and quoting)."""

    key: str
    program: Program
    quote: str | None


class ReadyTarget(Struct, frozen=True, kw_only=True):
    """What planning needs of a target: its steps, its order and the values of its placeholders."""

    name: str
    steps: tuple[ReadyStep, ...]
    order_by: TemplateProgram | None
    placeholders: tuple[Placeholder, ...]
    expires: float | None


class ReadyTo(Struct, frozen=True, kw_only=True):
    """One item of `to`: a target or a route's name, and the steps for it alone."""

    target: ReadyTarget | None
    route: str | None
    steps: tuple[ReadyStep, ...]


class ReadyCase(Struct, frozen=True, kw_only=True):
    spec: CaseSpec
    steps: tuple[ReadyStep, ...]
    to: tuple[ReadyTo, ...]


class Blueprint(Struct, frozen=True, kw_only=True):
    """One route, ready. `once_at` counts the leading read and check steps; `split_at` is the index of the split (None
    without one) and `streaming` tells that the read before it need not hold the whole body; `opaque` that planning
    never looks at the body; `blocking` that one of its steps is."""

    spec: RouteSpec
    steps: tuple[ReadyStep, ...]
    cases: tuple[ReadyCase, ...]
    always: tuple[ReadyTo, ...]
    router: Router
    once: TemplateProgram | None
    keys: Mapping[str, TemplateProgram]
    once_at: int
    split_at: int | None
    streaming: bool
    opaque: bool
    blocking: bool
    table_hash: str
    targets: frozenset[str]
    namespaces: Mapping[str, str] = {}


def encoding_of(blueprint: Blueprint) -> str | None:
    """The encoding that the route's first step reads, where it is a read and its format does not say it itself."""
    first = blueprint.steps[0] if blueprint.steps else None
    read = first is not None and first.kind == "read" and first.condition is None
    found: str | None = getattr(first.step.codec, "encoding", None) if first is not None and read else None
    return found


class Opener(Protocol):
    """Opens one component of the table in its context; what it gives lives as long as `stack`."""

    async def __call__(self, spec: ComponentSpec, name: str, stack: AsyncExitStack, /) -> Any: ...


class Draft:
    """Makes blueprints from a table: opens the steps of every route and compiles what they say."""

    def __init__(self, table: Table, environment: Environment, opener: Opener, stack: AsyncExitStack) -> None:
        self._table = table
        self._environment = environment
        self._opener = opener
        self._stack = stack
        self._targets: dict[str, ReadyTarget] = {}

    async def route(self, spec: RouteSpec) -> Blueprint:
        """Raises ConfigError with the place of what cannot be opened or compiled."""
        place = f"route.{spec.name}"
        steps = await self._steps(spec.do, place)
        cases = [await self._case(case, place) for case in spec.cases]
        always = tuple([await self._to(item, place) for item in spec.to])
        split_at = next((index for index, step in enumerate(steps) if step.kind == "split"), None)
        once_at = next((index for index, step in enumerate(steps) if step.kind not in ("read", "check")), len(steps))
        once = None if spec.once is None else self._environment.compile_template(spec.once)
        keys = {name: self._environment.compile_template(text) for name, text in spec.keys.items()}
        reads_body = _mentions_body([spec.once or "", *spec.keys.values()])
        streaming = split_at is not None and _streams(steps, split_at) and not reads_body
        asks_body = reads_body or _mentions_body([case.when or "" for case in spec.cases])
        return Blueprint(
            spec=spec,
            steps=steps,
            cases=tuple(cases),
            always=always,
            router=Router(self._environment.compile_cases([case.when for case in spec.cases]), spec.cases, spec.match),
            once=once,
            keys=keys,
            once_at=once_at,
            split_at=split_at,
            streaming=streaming,
            opaque=streaming or not (steps or asks_body or _look_at_body(cases, always)),
            blocking=any(step.blocking for step in _all_steps(steps, cases, always)),
            table_hash=self._table.hash,
            namespaces=self._table.namespaces,
            targets=frozenset(self._reached(spec, set())),
        )

    def _reached(self, spec: RouteSpec, seen: set[str]) -> Iterator[str]:
        """Every target that a message of the route may come to, by way of other routes too."""
        seen.add(spec.name)
        for to in spec.leads_to:
            following = self._table.routes.get(to.route or "")
            if to.target is not None:
                yield to.target
            elif following is not None and following.name not in seen:
                yield from self._reached(following, seen)

    async def _case(self, spec: CaseSpec, place: str) -> ReadyCase:
        place = f"{place}.{spec.name}"
        to = [await self._to(item, place) for item in spec.to]
        return ReadyCase(spec=spec, steps=await self._steps(spec.do, place), to=tuple(to))

    async def _to(self, spec: ToSpec, place: str) -> ReadyTo:
        target = None if spec.target is None else await self.target(self._table.targets[spec.target])
        return ReadyTo(target=target, route=spec.route, steps=await self._steps(spec.do, place))

    async def target(self, spec: TargetSpec) -> ReadyTarget:
        """The planning half of a target; the same one for every route that names it."""
        if spec.name not in self._targets:
            self._targets[spec.name] = ReadyTarget(
                name=spec.name,
                steps=await self._steps(spec.do, f"target.{spec.name}"),
                order_by=None if spec.order_by is None else self._environment.compile_template(spec.order_by),
                placeholders=tuple(placeholders(spec.options, self._environment)),
                expires=spec.expires,
            )
        return self._targets[spec.name]

    async def _steps(self, specs: Sequence[StepSpec], place: str) -> tuple[ReadyStep, ...]:
        return tuple([await self._step(spec, place) for spec in specs])

    async def _step(self, spec: StepSpec, place: str) -> ReadyStep:
        try:
            step = await self._opener(spec, f"{place}.{spec.component.name}", self._stack)
        except OptionError as error:
            raise ConfigError([self._located(spec, error)]) from error
        kind = _kind(spec, step)
        if kind == "remote":
            said = f"step {spec.component.name} waits (async apply), which is not in this version of esb"
            raise ConfigError([self._located(spec, OptionError("", said, "make apply a plain function", code="E150"))])
        return ReadyStep(
            name=spec.component.name,
            kind=kind,
            step=step,
            condition=None if spec.condition is None else self._environment.compile(spec.condition),
            bad=spec.bad,
            foreign=is_foreign(step),
            blocking=spec.component.blocking,
        )

    def _located(self, spec: ComponentSpec, error: OptionError) -> Problem:
        """The option's problem with its file, line and column."""
        problem = error.problems[0]
        option = error.option or spec.component.main
        name = spec.component.name if option == spec.component.main else option
        return self._table.locate((*spec.place, *name.split(".")), problem, error.offset)


def _kind(spec: StepSpec, step: Any) -> StepKind:
    match spec.component.name:
        case "read" | "check" | "split" as name:
            return name
        case _:
            return "remote" if not hasattr(step, "apply") or _is_async(step.apply) else "pure"


def _is_async(call: Any) -> bool:
    code = getattr(getattr(call, "__func__", call), "__code__", None)
    return bool(code is not None and code.co_flags & 0x80)  # CO_COROUTINE


def _streams(steps: Sequence[ReadyStep], split_at: int) -> bool:
    """A read right before the split, both unconditional, and nothing but them: the body need not be held whole."""
    before = steps[:split_at]
    return len(before) == 1 and before[0].kind == "read" and before[0].condition is None


def _items(cases: Sequence[ReadyCase], always: Sequence[ReadyTo]) -> list[ReadyTo]:
    return [*always, *(to for case in cases for to in case.to)]


def _all_steps(
    steps: Sequence[ReadyStep], cases: Sequence[ReadyCase], always: Sequence[ReadyTo]
) -> Iterator[ReadyStep]:
    """Every step that a message of the route may meet."""
    yield from steps
    for case in cases:
        yield from case.steps
    for to in _items(cases, always):
        yield from to.steps
        if to.target is not None:
            yield from to.target.steps


def _look_at_body(cases: Sequence[ReadyCase], always: Sequence[ReadyTo]) -> bool:
    items = _items(cases, always)
    targets = [to.target for to in items if to.target is not None]
    texts = [item.program.text for target in targets for item in target.placeholders]
    texts += [target.order_by.text for target in targets if target.order_by is not None]
    return any(_all_steps((), cases, always)) or any(to.route for to in items) or _mentions_body(texts)


def _mentions_body(texts: Sequence[str]) -> bool:
    return any("body" in text or "raw" in text or "xpath" in text for text in texts)


def templates(options: Any, path: str = "") -> Iterator[tuple[str, Template]]:
    """Every template among a component's options, with its dotted path."""
    if isinstance(options, Template):
        yield path, options
    elif isinstance(options, Struct):
        for name in options.__struct_fields__:
            yield from templates(getattr(options, name), f"{path}.{name}" if path else name)
    elif isinstance(options, Mapping):
        for key, value in options.items():
            yield from templates(value, f"{path}.{key}" if path else str(key))
    elif isinstance(options, (list, tuple)):
        for index, value in enumerate(options):
            yield from templates(value, f"{path}.{index}" if path else str(index))


def placeholders(options: Any, environment: Environment) -> Iterator[Placeholder]:
    """Each distinct `{CEL}` of a target's templates, in order."""
    seen = set()
    for _, template in templates(options):
        quote = QUOTES[type(template)]
        for segment in environment.compile_template(template).segments:
            if not isinstance(segment, str):
                key = placeholder_key(segment.text, quote)
                if key not in seen:
                    seen.add(key)
                    yield Placeholder(key, segment, quote)


def placeholder_key(text: str, quote: str | None) -> str:
    """How a placeholder's value is kept with a delivery, so that a mended template finds it again (R11)."""
    return f"{quote}:{text}" if quote else text


def assemble(template: TemplateProgram, quote: str | None, values: Mapping[str, str]) -> str:
    """A template's text from kept values; raises KeyError for a placeholder that was not planned."""
    return "".join(
        segment if isinstance(segment, str) else values[placeholder_key(segment.text, quote)]
        for segment in template.segments
    )
