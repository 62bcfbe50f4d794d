"""Finding plugins: the shipped ones, the entry-point group `esb`, and the folder that `[bus] plugins` names."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import pkgutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pluggy
from msgspec import Struct

import esb.hookspecs
from esb.errors import ConfigError, Problem, describe
from esb.ports import RESERVED, Component, Kind

API = 1
HOOKS: Mapping[str, Kind] = {
    "esb_codecs": "codec",
    "esb_steps": "step",
    "esb_sources": "source",
    "esb_targets": "target",
}


class PluginFile(Struct, frozen=True, kw_only=True):
    """One plugin as `esb plugin list` shows it. `refused` says why it was left out, "" when it is in."""

    name: str
    file: str = ""
    hash: str = ""
    version: str = ""
    refused: str = ""
    components: tuple[str, ...] = ()


class Registry(Struct, frozen=True, kw_only=True):
    """Every component and function that plugins offer, and the files they came from."""

    components: Mapping[tuple[Kind, str], Component[Any]]
    functions: Mapping[str, Callable[..., Any]] = {}
    plugins: tuple[PluginFile, ...] = ()

    def get(self, kind: Kind, name: str) -> Component[Any] | None:
        return self.components.get((kind, name))

    def names(self, kind: Kind) -> list[str]:
        """The names of one kind, sorted."""
        return sorted(name for found, name in self.components if found == kind)


def is_foreign(made: object) -> bool:
    """Whether a step, source or target comes from a plugin that is not shipped: such a one is not trusted."""
    return not type(made).__module__.startswith("esb_plugins")


def load_plugins(folder: Path | None = None, *, extra: Iterable[object] = ()) -> Registry:
    """Finds, checks and asks every plugin once.

    A plugin of the folder or of an entry point that cannot be loaded is left out with its reason (a route that needs it
    is then told so by name); two components of one name, and a shipped plugin that fails, raise ConfigError.
    """
    manager = pluggy.PluginManager("esb")
    manager.add_hookspecs(esb.hookspecs)
    found: list[PluginFile] = []
    for name, file, load in _candidates(folder, extra):
        found.append(_register(manager, name, file, load))
    components: dict[tuple[Kind, str], Component[Any]] = {}
    owners: dict[tuple[Kind, str], str] = {}
    functions: dict[str, Callable[..., Any]] = {}
    offered: dict[str, list[str]] = {}
    for hook, kind in HOOKS.items():
        for plugin, component in _offers(manager, hook):
            _admit(component, kind, plugin)
            key = (kind, component.name)
            if key in components:
                raise ConfigError(
                    Problem(
                        "E131",
                        f'two plugins bring a {kind} named "{component.name}": {owners[key]} and {plugin}',
                        "rename one of them",
                    )
                )
            components[key], owners[key] = component, plugin
            offered.setdefault(plugin, []).append(f"{kind} {component.name}")
    for plugin, named in _functions(manager):
        for name, function in named.items():
            if name in functions:
                raise ConfigError(Problem("E131", f'two plugins bring a function named "{name}"', f"one is {plugin}"))
            functions[name] = function
            offered.setdefault(plugin, []).append(f"function {name}")
    plugins = tuple(
        PluginFile(
            name=item.name,
            file=item.file,
            hash=item.hash,
            version=item.version,
            refused=item.refused,
            components=tuple(offered.get(item.name, ())),
        )
        for item in found
    )
    return Registry(components=components, functions=functions, plugins=plugins)


def _candidates(folder: Path | None, extra: Iterable[object]) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """(name, file, load), in the order of registering: the built-in ones first."""
    for module in _shipped():
        yield module, module, lambda module=module: importlib.import_module(module)  # type: ignore[misc]
    for entry in entry_points(group="esb"):
        yield entry.name, entry.value, entry.load
    if folder is not None:
        for path in sorted(folder.glob("*.py")):
            if not path.name.startswith(("_", ".", "test_")):
                yield path.stem, str(path), lambda path=path: load_file(path)  # type: ignore[misc]
    for plugin in extra:
        yield getattr(plugin, "__name__", type(plugin).__name__), "", lambda plugin=plugin: plugin  # type: ignore[misc]


def _shipped() -> list[str]:
    package = importlib.import_module("esb_plugins")
    return sorted(f"esb_plugins.{module.name}" for module in pkgutil.iter_modules(package.__path__))


def load_file(path: Path) -> ModuleType:
    """One plugin file as a module. Raises ConfigError when it belongs to a stranger or others may write it."""
    _refuse_strangers(path)
    name = f"esb_local.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(Problem("E132", f"{path} is not a Python file"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _refuse_strangers(path: Path) -> None:
    for place in (path, path.parent):
        state = place.stat()
        if state.st_uid not in (0, os.geteuid()):
            raise ConfigError(
                Problem("E133", f"{place} belongs to another user", "chown it to root or to the bus's user")
            )
        if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(Problem("E133", f"{place} may be written by others", f"run chmod go-w {place}"))


def _register(manager: pluggy.PluginManager, name: str, file: str, load: Callable[[], object]) -> PluginFile:
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file.endswith(".py") else ""
    try:
        plugin = load()
        manager.register(plugin, name=name)
        _check_hooks(manager, plugin, name)
    except ConfigError as error:
        return _refused(
            manager, name, file, digest, "; ".join(f"{problem.code} {problem.message}" for problem in error.problems)
        )
    except (Exception, SystemExit) as error:
        if file.startswith("esb_plugins."):
            raise
        return _refused(manager, name, file, digest, f"{type(error).__name__}: {describe(error)}")
    return PluginFile(name=name, file=file, hash=digest, version=str(getattr(plugin, "__version__", "")))


def _refused(manager: pluggy.PluginManager, name: str, file: str, digest: str, reason: str) -> PluginFile:
    if manager.has_plugin(name):
        manager.unregister(name=name)
    return PluginFile(name=name, file=file, hash=digest, refused=reason)


def _check_hooks(manager: pluggy.PluginManager, plugin: object, name: str) -> None:
    """A misspelt hook passes silently in pluggy; here it is refused by name."""
    known = {*HOOKS, "esb_functions"}
    for attribute in dir(plugin):
        if attribute.startswith("esb_") and attribute not in known and callable(getattr(plugin, attribute)):
            raise ConfigError(
                Problem("E134", f"{name}: there is no hook named {attribute}", f"hooks are {', '.join(sorted(known))}")
            )
    manager.check_pending()


def _offers(manager: pluggy.PluginManager, hook: str) -> Iterator[tuple[str, Component[Any]]]:
    caller = getattr(manager.hook, hook)
    for implementation in caller.get_hookimpls():
        for component in _offered(implementation):
            yield implementation.plugin_name, component


def _offered(implementation: Any) -> Any:
    """What a hook gives; raises ConfigError, with the plugin named, when it fails."""
    try:
        return implementation.function()
    except Exception as error:
        name = implementation.function.__name__
        said = f"{implementation.plugin_name}: its {name} failed: {type(error).__name__}: {describe(error)}"
        raise ConfigError(Problem("E135", said, "mend it; esb plugin check FILE shows it")) from error


def _functions(manager: pluggy.PluginManager) -> Iterator[tuple[str, Mapping[str, Callable[..., Any]]]]:
    for implementation in manager.hook.esb_functions.get_hookimpls():
        offered: Mapping[str, Callable[..., Any]] = cast("Mapping[str, Callable[..., Any]]", _offered(implementation))
        yield implementation.plugin_name, offered


def _admit(component: Component[Any], kind: Kind, plugin: str) -> None:
    if not isinstance(component, Component):
        raise ConfigError(
            Problem("E135", f"{plugin} offers a {type(component).__name__} as a {kind}", "return Components")
        )
    if component.kind != kind:
        raise ConfigError(Problem("E135", f'{plugin}: "{component.name}" says it is a {component.kind}, not a {kind}'))
    if component.api != API:
        raise ConfigError(
            Problem(
                "E136", f'{plugin}: "{component.name}" is written for plugin API {component.api}; this esb has {API}'
            )
        )
    fields = set(component.options.__struct_encode_fields__)
    if component.main not in component.options.__struct_fields__:
        raise ConfigError(
            Problem("E135", f'{plugin}: "{component.name}" has no option named by main "{component.main}"')
        )
    taken = ({component.name} | (fields - {component.main})) & RESERVED[kind]
    if taken:
        raise ConfigError(
            Problem("E137", f'{plugin}: "{component.name}" uses {sorted(taken)}, which belongs to the bus', "rename it")
        )
