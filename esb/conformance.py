"""The laws of a plugin, held against one file with no test written (`esb plugin check`)."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import re
import tempfile
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from esb.clock import VirtualClock
from esb.dispatch import programs
from esb.errors import Busy, ConfigError, DeliveryError, EsbError, Invalid, MessageError, Problem, describe
from esb.ids import new_uid
from esb.message import Delivery, Headers, Message
from esb.plugins import Registry, load_file, load_plugins
from esb.ports import Accepted, Component, Dropped, Incoming
from esb.services import BusServices
from esb.table.load import read
from esb.table.model import Table

HANG = 5.0
"""Seconds after which what should end is a hang."""

_SINK = '[target.sink]\nmemory = "check"\n'
_ROUTE = '[route.check]\nowner = "check"\n'


def _whole(kind: str, example: str) -> str:
    """A table with the example in its place: what stands there may be as short as the component itself."""
    if kind == "target":
        name = example.split("[target.")[-1].split("]")[0] if "[target." in example else "out"
        target = example if "[target." in example else f"[target.out]\n{example}"
        return f'esb = 1\n{target}\n{_ROUTE}from = {{ memory = "check" }}\nto = ["{name}"]\n'
    if kind == "source":
        source = example if example.startswith("from") else f"from = {example}"
        return f'esb = 1\n{_SINK}{_ROUTE}{source}\nto = ["sink"]\n'
    steps = example if example.startswith("do") else f"do = [{example}]"
    return f'esb = 1\n{_SINK}{_ROUTE}from = {{ memory = "check" }}\n{steps}\nto = ["sink"]\n'


class Finding(Struct, frozen=True):
    """One law and how it was kept."""

    component: str
    law: str
    kept: bool
    said: str = ""


def _refusal(said: str) -> Problem | str:
    """Why a file was left out, with its own code where it has one."""
    code, _, rest = said.partition(" ")
    return Problem(code, rest) if re.fullmatch(r"E\d{3}", code) else said


def _loaded(path: Path) -> ModuleType:
    """The file as a module; what its own code raises is one line, with where."""
    try:
        return load_file(path.resolve())
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        said = f"{path.name} cannot be loaded: {type(error).__name__}: {describe(error)}"
        raise ConfigError(Problem("E132", said, "mend what it says; python FILE shows the line")) from error


async def examine(path: Path) -> list[Finding]:
    """Every component of one file against every law; raises ConfigError when the file cannot be loaded."""
    module = _loaded(path)
    registry = load_plugins(extra=[module])
    ours = next((item for item in registry.plugins if item.name == module.__name__), None)
    if ours is None or ours.refused:
        raise ConfigError(_refusal(ours.refused) if ours else f"{path} offers nothing")
    findings: list[Finding] = []
    for offered in ours.components:
        kind, _, name = offered.partition(" ")
        component = registry.get(kind, name) if kind != "function" else None  # type: ignore[arg-type]
        if component is not None:
            findings += await Examination(component, registry).run()
    return findings


class Examination:
    """One component being examined."""

    def __init__(self, component: Component[Any], registry: Registry) -> None:
        self._component = component
        self._registry = registry
        self._name = f"{component.kind} {component.name}"
        self.findings: list[Finding] = []

    def _note(self, law: str, kept: bool, said: str = "") -> bool:
        self.findings.append(Finding(self._name, law, kept, said))
        return kept

    async def run(self) -> list[Finding]:
        with tempfile.TemporaryDirectory() as folder:
            table = self._accepted(Path(folder))
            if table is not None:
                self._bad_option(Path(folder))
                await self._opened(table)
        return self.findings

    def _table(self, folder: Path, example: str) -> tuple[Table | None, list[str]]:
        file = folder / "routes.toml"
        file.write_text(_whole(self._component.kind, example.strip()))
        table, problems = read(file, self._registry, {})
        return table, [str(problem) for problem in problems if problem.severity == "error"]

    def _accepted(self, folder: Path) -> Table | None:
        table, problems = self._table(folder, self._component.example)
        return table if self._note("its example is accepted", not problems, "; ".join(problems)) else None

    def _bad_option(self, folder: Path) -> None:
        """An option that no one has is refused at its place."""
        name = self._component.name
        example = self._component.example
        bad = example.replace(f"{name} =", f"no_such_option = 1, {name} =", 1)
        if "[target." in example or bad == example:
            bad = f"{example}\nno_such_option = 1"
        _, problems = self._table(folder, bad)
        self._note(
            "an unknown option is refused with its place",
            any(":" in text for text in problems),
            problems[0] if problems else "it was accepted",
        )

    async def _opened(self, table: Table) -> None:
        spec = self._spec(table)
        services = BusServices(table, self._registry, VirtualClock())
        before = _held()
        for _ in range(2):
            if not await self._once(services, spec):
                return
        gc.collect()
        await asyncio.sleep(0.05)
        after = _held()
        self._note(
            "opening and closing twice leaks nothing", after <= before, f"tasks, files, threads {before} -> {after}"
        )

    def _spec(self, table: Table) -> Any:
        route = table.routes["check"]
        match self._component.kind:
            case "target":
                return next(iter(table.targets.values()))
            case "source":
                return route.sources[0]
            case "step":
                return next(step for step in route.do if step.component.name == self._component.name)
            case _:
                return route.do[0]

    async def _once(self, services: BusServices, spec: Any) -> bool:
        stack = AsyncExitStack()
        try:
            async with asyncio.timeout(HANG):
                opened = await services.open(spec, self._name, stack)
            try:
                await self._used(opened, spec, services)
            finally:
                async with asyncio.timeout(HANG):
                    await stack.aclose()
        except TimeoutError:
            return self._note("it opens and closes", False, f"it hangs for over {HANG:g} s")
        except (EsbError, OSError) as error:
            return self._note("it opens and closes", True, f"it says why it cannot: {describe(error)}")
        except Exception as error:
            return self._note("it opens and closes", False, f"{type(error).__name__}: {describe(error)}")
        return True

    async def _used(self, opened: Any, spec: Any, services: BusServices) -> None:
        match self._component.kind:
            case "target":
                await self._delivers(opened, spec, services)
            case "source":
                await self._runs(opened)
            case "step":
                await self._applies(opened)

    async def _delivers(self, target: Any, spec: Any, services: BusServices) -> None:
        if any(item.law.startswith("a delivery") for item in self.findings):
            return
        found = programs(spec, services.environment.compile_template)
        values = {path: program.constant or "check" for path, (program, _) in found.items()}
        delivery = Delivery(
            id="check.out", message_id="check", route="check", target=spec.name, content=b"{}", values=values
        )
        outcome = await _outcome(target.deliver(delivery))
        self._note("a delivery returns, or raises a DeliveryError", not isinstance(outcome, Wrong), str(outcome))
        again = await _outcome(target.deliver(replace(delivery, attempt=2, maybe_sent=True)))
        self._note("a repeat with the same id is taken too", not isinstance(again, Wrong), str(again))
        self._note("it can be cancelled at any await", *await _cancelled(lambda: target.deliver(delivery)))

    async def _applies(self, step: Any) -> None:
        """A tree and bytes: what the step cannot use it refuses in words, and it leaves what it was given as it is."""
        if any(item.law.startswith("a message") for item in self.findings):
            return
        for body in ({"id": "check"}, b"check"):
            given = copy.deepcopy(body)
            said = await self._applied(step, given)
            kept = not isinstance(said, Wrong)
            law = f"a message with {'a tree' if isinstance(body, dict) else 'bytes'} gives messages, or is refused"
            self._note(law, kept, said)
            if given != body:
                self._note("it leaves the body that it was given", False, f"{body!r} became {given!r:.80}")

    async def _applied(self, step: Any, body: Any) -> str:
        now = 1_750_000_000.0
        raw = body if isinstance(body, bytes) else b""
        message = Message(
            uid=new_uid(now), route="check", accepted_at=now, body=body, raw=raw, headers=Headers({}), source={}
        )
        try:
            made = step.apply(message)
            if inspect.isawaitable(made):
                async with asyncio.timeout(HANG):
                    made = await made
        except (MessageError, Dropped) as refusal:
            return f"{type(refusal).__name__}: {describe(refusal)}"
        except Exception as error:
            return Wrong(f"{type(error).__name__}: {describe(error)} (raise MessageError for what cannot be used)")
        if type(made) not in (list, tuple) or any(type(item) is not Message for item in made):
            return Wrong(f"it gave {type(made).__name__}, not a sequence of Messages")
        return f"{len(made)} message{'' if len(made) == 1 else 's'}"

    async def _runs(self, source: Any) -> None:
        if any(item.law.startswith("it runs") for item in self.findings):
            return
        running = asyncio.ensure_future(source.run(Refusing()))
        await asyncio.sleep(0.05)
        if running.done() and running.exception() is None:
            self._note("it runs until it is cancelled", False, "it ended by itself")
            return
        self._note("it runs until it is cancelled", *await _ends(running))


class Refusing:
    """An accept that says Busy, then Invalid, then yes."""

    def __init__(self) -> None:
        self._answers: list[Exception] = [Busy("check", retry_after=0.01), Invalid("check")]

    async def __call__(self, message: Incoming, /) -> Accepted:
        if self._answers:
            raise self._answers.pop(0)
        return Accepted(id="check")

    async def many(self, messages: Sequence[Incoming], /) -> Sequence[Accepted | Exception]:
        return [Accepted(id="check") for _ in messages]


class Wrong(str):
    """What a law forbids, in words."""


async def _outcome(call: Coroutine[Any, Any, Any]) -> str:
    try:
        async with asyncio.timeout(HANG):
            await call
    except DeliveryError as error:
        return f"{type(error).__name__}: {describe(error)}"
    except TimeoutError:
        return Wrong(f"it hangs for over {HANG:g} s")
    except Exception as error:
        return Wrong(f"{type(error).__name__}: {describe(error)} (translate foreign errors)")
    return "taken"


async def _cancelled(call: Callable[[], Coroutine[Any, Any, Any]]) -> tuple[bool, str]:
    """Cancels after a few turns of the loop: what is cancelled must end, and not with another error."""
    task = asyncio.ensure_future(call())
    await asyncio.sleep(0.05)
    return await _ends(task)


async def _ends(task: asyncio.Future[Any]) -> tuple[bool, str]:
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=HANG)
    if not done:
        return False, "it goes on although it is cancelled"
    if task.cancelled() or isinstance(task.exception(), (DeliveryError, type(None))):
        return True, ""
    return False, f"{type(task.exception()).__name__}: {task.exception()}"


def _held() -> tuple[int, int, int]:
    """Tasks, open files and threads of this process (the default pool's threads stay)."""
    pool = sum(thread.name.startswith("asyncio_") for thread in threading.enumerate())
    return len(asyncio.all_tasks()), len(list(Path("/proc/self/fd").iterdir())), threading.active_count() - pool
