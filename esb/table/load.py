"""`routes.toml` and what it includes, into one Table; or every fault of it at once, with its place."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from esb.errors import ConfigError, Problem
from esb.plugins import Registry
from esb.retry import RetryPolicy
from esb.table import forms, keys, settings, syntax, values
from esb.table.components import Catalogue
from esb.table.draft import Draft, Names
from esb.table.files import FORMAT, Files
from esb.table.lint import Lint
from esb.table.logins import read_auth, read_secrets
from esb.table.model import Bus, Defaults, Listener, MapSpec, OutcomeSpec, Place, RouteSpec, Table, TargetSpec, TestSpec
from esb.table.notes import Atlas, Notes, closest
from esb.table.routes import read_route
from esb.table.stopped import stopped_routes
from esb.table.targets import read_target

S = TypeVar("S", bound=Struct)


def load(file: Path, registry: Registry, *, text_overrides: Mapping[str, str] = {}, kept: Path | None = None) -> Table:
    """The table; raises ConfigError with every error found, but for what only this machine lacks: that stops the routes
    that need it (`Table.stopped`). `text_overrides` stands in for files, by their name
    relative to the main file's folder (an older table from its kept text); `kept` is the folder of its contracts."""
    table, problems, errors = _read(file, registry, text_overrides, kept)
    if errors or table is None:
        raise ConfigError([problem for problem in problems if problem.severity == "error"])
    return table


def check(file: Path, registry: Registry) -> list[Problem]:
    """Errors and warnings, by place."""
    return read(file, registry, {})[1]


def read(
    file: Path, registry: Registry, overrides: Mapping[str, str], kept: Path | None = None
) -> tuple[Table | None, list[Problem]]:
    """The table as far as it could be made, and all that is to be said about it and of plugins that were left out."""
    table, problems, _ = _read(file, registry, overrides, kept)
    left_out = [problem for plugin in registry.plugins for problem in plugin.problems]
    return table, [*dict.fromkeys(left_out), *problems]


def _read(
    file: Path, registry: Registry, overrides: Mapping[str, str], kept: Path | None
) -> tuple[Table | None, list[Problem], list[Problem]]:
    """The table, all its problems, and those of them that no machine could run it with."""
    notes = Notes(Atlas())
    files = Files(file, notes, overrides, kept)
    try:
        merged = files.merge()
    except ConfigError as error:
        return None, [*notes.sorted(), *error.problems], list(error.problems)
    _swallowed(files, notes)
    table = replace(Assembly(file, registry, merged, files, notes).table(), kept=kept)
    return table, notes.sorted(), notes.errors


def _swallowed(files: Files, notes: Notes) -> None:
    """Windows paths whose backslashes TOML took for escapes."""
    for name, text in files.texts.items():
        for offset in syntax.swallowed(text):
            line = text.count("\n", 0, offset) + 1
            column = offset - (text.rfind("\n", 0, offset) + 1) + 1
            said = Problem("W303", "a backslash and a letter in double quotes are an escape (\\t is a tab)",
                           r"write the path in single quotes: 'C:\temp'", file=str(files.path(name)), line=line,
                           column=column, severity="warning")  # fmt: skip
            notes.problems.append(said)


class Assembly:
    """One Table from the merged values."""

    def __init__(self, file: Path, registry: Registry, merged: Mapping[str, Any], files: Files, notes: Notes) -> None:
        self._file = file
        self._registry = registry
        self._merged = merged
        self._files = files
        self._notes = notes

    def table(self) -> Table:
        self._top()
        bus = self._settled(self._tables("bus"), Bus, ("bus",), Bus())
        defaults = self._defaults()
        retry = {"patient": RetryPolicy(), **self._named("retry", RetryPolicy, RetryPolicy())}
        secrets = read_secrets(self._tables("secrets"), self._notes)
        auth = read_auth(self._tables("auth"), secrets, self._notes)
        listener = Listener(bind=bus.http)
        listeners = {"default": listener, **self._named("listener", Listener, listener, default={"bind": bus.http})}
        catalogue = Catalogue(self._registry, self._notes)
        names = Names(self._tables("steps"), self._tables("target"), self._tables("route"), retry, auth)
        draft = Draft(self._notes, catalogue, defaults, names, self._file.parent)
        self._retry_of(defaults, retry)
        targets = {name: read_target(draft, name, value) for name, value in self._each("target")}
        routes = {name: read_route(draft, name, value) for name, value in self._each("route")}
        table = Table(
            file=self._file,
            hash=self._files.hash(self._registry),
            bus=bus,
            defaults=defaults,
            secrets=secrets,
            auth=auth,
            listeners=listeners,
            retry=retry,
            namespaces=settings.namespaces(self._tables("namespaces"), self._notes),
            var=settings.variables(self._tables("var"), self._notes),
            targets={name: spec for name, spec in targets.items() if spec is not None},
            maps={name: MapSpec(name, ("map", name), value) for name, value in self._each("map")},
            routes=routes,
            tests=self._tests(routes, targets),
            text=self._files.texts,
            atlas=self._notes.atlas,
        )
        settings.Settings(table, self._notes).check(name for name, _ in self._each("listener"))
        table = self._stopped(table, targets)
        Lint(table, self._registry, self._notes, draft).run()
        return self._stopped(table, targets)

    def _stopped(self, table: Table, targets: Mapping[str, TargetSpec | None]) -> Table:
        """The same table with what this machine cannot run of it, as far as that is known."""
        lacking: dict[Place, str] = {}
        for place, why in self._notes.lacking.items():
            lacking.setdefault(place[:2], why)
        absent = {name: lacking.get(("target", name), "") for name, spec in targets.items() if spec is None}
        return replace(
            table,
            stopped=stopped_routes(table.routes, targets, table.maps, lacking),
            absent={name: why for name, why in absent.items() if why},
        )

    def _top(self) -> None:
        """The format, and keys that no table has."""
        version = self._merged.get("esb")
        if version is None:
            self._notes.add((), "E106", "the format is missing", f"begin the file with esb = {FORMAT}")
        elif type(version) is not int or version != FORMAT:
            newer = type(version) is int and version > FORMAT
            hint = "this esb is older than the table" if newer else f"write esb = {FORMAT}"
            self._notes.add(("esb",), "E106", f"this esb reads format {FORMAT}, not {version}", hint)
        for key in self._merged:
            if key in keys.LATER:
                self._notes.add((key,), "E150", f"[{key}] is not in this version of esb", "leave it out", key=True)
            elif key not in keys.TOP:
                self._notes.add((key,), "E110", f'unknown table or key "{key}"', closest(key, keys.TOP), key=True)

    def _tables(self, key: str) -> Mapping[str, Any]:
        value = self._merged.get(key, {})
        if isinstance(value, dict):
            return value
        right = f"[{key}.NAME]" if key in keys.NAMED else f"[{key}]"
        self._notes.add((key,), "E112", f"{key} is not a table", f"write {right}", key=True)
        return {}

    def _each(self, key: str) -> list[tuple[str, Mapping[str, Any]]]:
        """The tables under `[key.NAME]`."""
        found: list[tuple[str, Mapping[str, Any]]] = []
        for name, value in self._tables(key).items():
            if isinstance(value, dict):
                found.append((name, value))
            else:
                said = f'"{name}" stands in [{key}], which holds only tables of its own'
                hint = keys.landed(self._notes, (key,), name) or f"put it under a [{key}.NAME]"
                self._notes.add((key, name), "E115", said, hint, key=True)
        return found

    def _named(self, key: str, kind: type[S], instead: S, *, default: Mapping[str, Any] = {}) -> dict[str, S]:
        """`[key.NAME]` as Structs; `default` is what the one named "default" need not say."""
        made: dict[str, S] = {}
        for name, value in self._each(key):
            values.check_name(name, (key, name), self._notes)
            given = {**default, **value} if name == "default" else value
            made[name] = self._settled(given, kind, (key, name), instead)
        return made

    def _settled(self, value: Mapping[str, Any], kind: type[S], place: Place, instead: S) -> S:
        """The Struct; what is right in it where something is wrong."""
        made = values.convert(value, kind, place, self._notes)
        return values.salvaged(value, kind, instead) if made is None else made

    def _defaults(self) -> Defaults:
        value = dict(self._tables("defaults"))
        outcomes: dict[str, OutcomeSpec] = {}
        for key, allowed in (("unmatched", forms.UNMATCHED), ("bad", forms.BAD)):
            if key in value:
                given = value.pop(key)
                parse = partial(forms.outcome, given, allowed)
                outcome = forms.read(parse, ("defaults", key), self._notes)
                outcomes |= {} if outcome is None else {key: outcome}
        return replace(self._settled(value, Defaults, ("defaults",), Defaults()), **outcomes)

    def _retry_of(self, defaults: Defaults, retry: Mapping[str, RetryPolicy]) -> None:
        if defaults.retry not in retry:
            said = f'no retry policy named "{defaults.retry}"'
            self._notes.add(("defaults", "retry"), "E208", said, closest(defaults.retry, retry), offset=0)

    def _tests(self, routes: Mapping[str, RouteSpec], targets: Mapping[str, Any]) -> tuple[TestSpec, ...]:
        value = self._merged.get("test", [])
        if not isinstance(value, list):
            self._notes.add(("test",), "E112", "test is not a list of tables", "write [[test]]", key=True)
            return ()
        made = [settings.test(item, ("test", index), routes, targets, self._notes) for index, item in enumerate(value)]
        return tuple(test for test in made if test is not None)
