"""Finding plugins: the shipped ones, the entry-point group `esb`, and the folder that `[bus] plugins` names."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import pkgutil
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy
from msgspec import Struct
from msgspec.structs import replace

import esb.hookspecs
from esb.admission import Offer, ask, check_hooks
from esb.errors import ConfigError, Problem, describe
from esb.ports import Component, Kind

_WORD = re.compile(r"""["']([a-z0-9][a-z0-9_-]{0,47})["']""")
_NAMED = re.compile(r"""(?:\bname\s*=\s*["']|["'](?=[a-z0-9_-]+["']\s*:))([a-z0-9][a-z0-9_-]{0,47})["']""")
"""A quoted word; one that is given as a component's name, or as a function's in a dict."""


class PluginFile(Struct, frozen=True, kw_only=True):
    """One plugin as `esb plugin list` shows it. `refused` says why it was left out, "" when it is in; `problems` the
    same for `esb check`. `distribution` is the package that an entry point came with, and its version; `api` the plugin
    API it says, None where it could not be asked; `words` all that a refused one may have been about to bring."""

    name: str
    file: str = ""
    distribution: str = ""
    hash: str = ""
    version: str = ""
    api: int | None = None
    refused: str = ""
    problems: tuple[Problem, ...] = ()
    components: tuple[str, ...] = ()
    words: frozenset[str] = frozenset()


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

    def left_out(self, word: str) -> PluginFile | None:
        """The refused plugin that would have brought this word: the one named so, or one whose text quotes it."""
        refused = [plugin for plugin in self.plugins if plugin.refused]
        named = [plugin for plugin in refused if word in plugin.name.split("_") or word == plugin.name]
        return next(iter([*named, *(plugin for plugin in refused if word in plugin.words)]), None)


def is_foreign(made: object) -> bool:
    """Whether a step, source or target comes from a plugin that is not shipped: such a one is not trusted."""
    return not type(made).__module__.startswith("esb_plugins")


class Candidate(Struct, frozen=True, kw_only=True):
    """A plugin before it is loaded. A `trusted` one (shipped, or given by code) raises what is wrong with it."""

    name: str
    file: str
    load: Callable[[], object]
    path: Path | None = None
    distribution: str = ""
    trusted: bool = False


def load_plugins(folder: Path | None = None, *, extra: Iterable[object] = ()) -> Registry:
    """Finds, checks and asks every plugin once.

    A plugin of the folder or of an entry point that breaks a rule is left out with its reason: a route that needs it is
    told so by name, and the others run. So are two that bring one name, since which one is meant would depend on the
    order of loading. What is wrong with a shipped plugin, or with one of `extra`, raises ConfigError.
    """
    manager = pluggy.PluginManager("esb")
    manager.add_hookspecs(esb.hookspecs)
    candidates = list(_told_apart(_candidates(folder, extra)))
    found = {item.name: _register(manager, item) for item in candidates}
    offers = {item.name: Offer() for item in candidates if not found[item.name].refused}
    for item in candidates:
        if item.name in offers:
            try:
                ask(manager, item.name, offers[item.name])
            except ConfigError as error:
                if item.trusted:
                    raise
                found[item.name] = _left_out(item, error.problems, offers.pop(item.name))
    for item, problem in _twice(candidates, offers):
        found[item.name] = _left_out(item, (problem,), offers.pop(item.name))
    return Registry(
        components={key: one for offer in offers.values() for key, one in offer.components.items()},
        functions={name: one for offer in offers.values() for name, one in offer.functions.items()},
        plugins=tuple(
            replace(item, components=offers[name].names, api=offers[name].api) if name in offers else item
            for name, item in found.items()
        ),
    )


def _twice(candidates: Sequence[Candidate], offers: Mapping[str, Offer]) -> list[tuple[Candidate, Problem]]:
    """Those that bring a name which another one brings too; a trusted one keeps it. Raises ConfigError for two trusted
    ones."""
    found: dict[str, tuple[Candidate, Problem]] = {}
    owners: dict[str, Candidate] = {}
    for item in candidates:
        for name in offers[item.name].names if item.name in offers else ():
            first = owners.setdefault(name, item)
            if first is item:
                continue
            kind, _, word = name.partition(" ")
            said = f'two plugins bring a {kind} named "{word}": {first.name} and {item.name}'
            problem = Problem("E131", said, "rename one of them")
            if first.trusted and item.trusted:
                raise ConfigError(problem)
            found |= {other.name: (other, problem) for other in (first, item) if not other.trusted}
    return list(found.values())


def _candidates(folder: Path | None, extra: Iterable[object]) -> Iterator[Candidate]:
    """In the order of registering: the built-in ones first."""
    for module in _shipped():
        yield Candidate(name=module, file=module, load=partial(importlib.import_module, module), trusted=True)
    for entry in entry_points(group="esb"):
        package = "" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
        yield Candidate(
            name=entry.name, file=entry.value, load=entry.load, distribution=package, path=_module_file(entry)
        )
    if folder is not None:
        for path in sorted(folder.glob("*.py")):
            if not path.name.startswith(("_", ".", "test_")):
                yield Candidate(name=path.stem, file=str(path), load=partial(load_file, path), path=path)
    for plugin in extra:
        name = getattr(plugin, "__name__", type(plugin).__name__)
        yield Candidate(name=name, file="", load=partial(_given, plugin), trusted=True)


def _told_apart(candidates: Iterable[Candidate]) -> Iterator[Candidate]:
    """A second one of a name is called by its file too."""
    seen: set[str] = set()
    for item in candidates:
        name = f"{item.name} ({item.file or len(seen)})" if item.name in seen else item.name
        seen.add(name)
        yield replace(item, name=name)


def _given(plugin: object) -> object:
    return plugin


def _module_file(entry: EntryPoint) -> Path | None:
    """Where an installed plugin's module lies, without importing it."""
    if entry.dist is None:
        return None
    inner = entry.module.replace(".", "/")
    places = [Path(str(entry.dist.locate_file(name))) for name in (f"{inner}.py", f"{inner}/__init__.py")]
    return next((place for place in places if place.is_file()), None)


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


def _register(manager: pluggy.PluginManager, item: Candidate) -> PluginFile:
    try:
        plugin = item.load()
        manager.register(plugin, name=item.name)
        check_hooks(manager, plugin, item.name)
    except ConfigError as error:
        problems = error.problems
    except (Exception, SystemExit) as error:
        if item.file.startswith("esb_plugins."):
            raise
        said = f"plugin {item.name} cannot be loaded: {type(error).__name__}: {describe(error)}"
        problems = (Problem("E138", said, "mend or remove it; esb plugin list shows the others"),)
    else:
        version = str(getattr(plugin, "__version__", "")) or item.distribution.rpartition(" ")[2]
        return PluginFile(
            name=item.name, file=item.file, distribution=item.distribution, hash=_hash(item), version=version
        )
    if manager.has_plugin(item.name):
        manager.unregister(name=item.name)
    return _left_out(item, problems)


def _hash(item: Candidate) -> str:
    """Of a plugin that is one file of the folder: it shapes what the table does. "" where it cannot be read."""
    try:
        return hashlib.sha256(Path(item.file).read_bytes()).hexdigest() if item.file.endswith(".py") else ""
    except OSError:
        return ""


def _left_out(item: Candidate, problems: Sequence[Problem], offer: Offer = Offer()) -> PluginFile:
    return PluginFile(
        name=item.name,
        file=item.file,
        distribution=item.distribution,
        hash=_hash(item),
        version=item.distribution.rpartition(" ")[2],
        api=offer.api,
        refused="; ".join(f"{problem.code} {problem.message}" for problem in problems),
        problems=tuple(problems),
        words=frozenset({name.partition(" ")[2] for name in offer.names} | _words(item.path)),
    )


def _words(path: Path | None) -> set[str]:
    """The names that a plugin's text gives to what it brings; all the words it quotes where it names nothing so."""
    try:
        text = "" if path is None else path.read_text("utf-8", "replace")
    except OSError:
        return set()
    return set(_NAMED.findall(text)) or set(_WORD.findall(text))
