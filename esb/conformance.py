"""The laws of a plugin, held against one file with no test written (`esb plugin check`)."""

from __future__ import annotations

import asyncio
import gc
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
from esb.errors import Busy, ConfigError, DeliveryError, EsbError, Invalid, Problem, describe
from esb.message import Delivery
from esb.plugins import Registry, load_file, load_plugins
from esb.ports import Accepted, Component, Incoming
from esb.services import BusServices
from esb.table.load import read
from esb.table.model import Table

HANG = 5.0
"""Seconds after which what should end is a hang."""

_SHAPES = {
    "source": 'esb = 1\n[target.sink]\nmemory = "check"\n[route.check]\nowner = "check"\n{example}\nto = ["sink"]\n',
    "target": 'esb = 1\n{example}\n[route.check]\nowner = "check"\nfrom = {{ memory = "check" }}\nto = ["{name}"]\n',
    "step": 'esb = 1\n[target.sink]\nmemory = "check"\n[route.check]\nowner = "check"\nfrom = {{ memory = "check" }}\n'
    'do = [{example}]\nto = ["sink"]\n',
    "codec": 'esb = 1\n[target.sink]\nmemory = "check"\n[route.check]\nowner = "check"\nfrom = {{ memory = "check" }}\n'
    'do = [{example}]\nto = ["sink"]\n',
}


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
        if self._component.kind == "source" and not example.lstrip().startswith("from"):
            example = f"from = {example}"
        target = example.split("[target.")[-1].split("]")[0] if "[target." in example else ""
        text = _SHAPES[self._component.kind].format(example=example, name=target)
        file = folder / "routes.toml"
        file.write_text(text)
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
            case _:
                return route.do[0]

    async def _once(self, services: BusServices, spec: Any) -> bool:
        try:
            async with asyncio.timeout(HANG), AsyncExitStack() as stack:
                opened = await services.open(spec, self._name, stack)
                if self._component.kind == "target":
                    await self._delivers(opened, spec, services)
                if self._component.kind == "source":
                    await self._runs(opened)
        except TimeoutError:
            return self._note("it opens and closes", False, f"it hangs for over {HANG:g} s")
        except (EsbError, OSError) as error:
            return self._note("it opens and closes", True, f"it says why it cannot: {describe(error)}")
        except Exception as error:
            return self._note("it opens and closes", False, f"{type(error).__name__}: {describe(error)}")
        return True

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

    async def _runs(self, source: Any) -> None:
        if any(item.law.startswith("it runs") for item in self.findings):
            return
        self._note("it runs until it is cancelled", *await _cancelled(lambda: source.run(Refusing())))


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
