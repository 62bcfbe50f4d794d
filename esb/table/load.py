"""`routes.toml` and what it includes, into one Table; or every fault of it at once, with its place."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from esb.errors import ConfigError, Problem
from esb.plugins import Registry
from esb.retry import RetryPolicy
from esb.table import forms, syntax, values
from esb.table.components import Catalogue
from esb.table.lint import Lint
from esb.table.logins import read_auth, read_secrets
from esb.table.model import (
    Bus,
    Defaults,
    Listener,
    MapSpec,
    Place,
    Table,
    TestSpec,
)
from esb.table.notes import Atlas, Notes, Source, closest
from esb.table.routes import BAD, UNMATCHED, Drafting

FORMAT = 1
NAMED = ("auth", "listener", "retry", "steps", "target", "map", "route")
SINGLE = ("secrets", "namespaces", "var")
MAIN_ONLY = ("esb", "include", "bus", "defaults")
KNOWN = {*NAMED, *SINGLE, *MAIN_ONLY, "test"}
LATER = ("lookup", "topic", "probe")


def load(file: Path, registry: Registry, *, text_overrides: Mapping[str, str] = {}) -> Table:
    """The table; raises ConfigError with every error found. `text_overrides` stands in for files, by their name
    relative to the main file's folder (an older table from its kept text)."""
    table, problems = read(file, registry, text_overrides)
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors or table is None:
        raise ConfigError(errors)
    return table


def check(file: Path, registry: Registry) -> list[Problem]:
    """Errors and warnings, by place."""
    try:
        _, problems = read(file, registry, {})
    except ConfigError as error:
        problems = list(error.problems)
    return problems


def read(file: Path, registry: Registry, overrides: Mapping[str, str]) -> tuple[Table | None, list[Problem]]:
    """The table as far as it could be made, and all that is to be said about it."""
    atlas = Atlas()
    notes = Notes(atlas)
    try:
        merged, texts = Files(file, notes, overrides).merge()
    except ConfigError as error:
        return None, list(error.problems)
    table = Assembly(file, registry, merged, texts, notes).table()
    ordered = sorted(notes.problems, key=lambda found: (found.file or "", found.line or 0, found.column or 0))
    return table, list(dict.fromkeys(ordered))


class Files:
    """The main file and its includes, merged by name."""

    def __init__(self, file: Path, notes: Notes, overrides: Mapping[str, str]) -> None:
        self._file = file
        self._notes = notes
        self._overrides = overrides
        self._texts: dict[str, str] = {}

    def merge(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Raises ConfigError when a file cannot be read or is no TOML."""
        main, source = self._parse(self._file)
        self._notes.atlas.main = source
        merged: dict[str, Any] = {key: value for key, value in main.items() if key in MAIN_ONLY}
        problems: list[Problem] = []
        self._join(merged, main, source, main_file=True)
        for included in self._included(main):
            try:
                content, source = self._parse(included)
            except ConfigError as error:
                problems += error.problems
                continue
            self._join(merged, content, source, main_file=False)
        if problems:
            raise ConfigError(problems)
        return merged, self._texts

    def _parse(self, path: Path) -> tuple[dict[str, Any], Source]:
        name = _relative(path, self._file.parent)
        text = self._overrides.get(name)
        if text is None:
            try:
                text = syntax.decoded(path.read_bytes(), str(path))
            except OSError as error:
                raise ConfigError(Problem("E103", f"{path} cannot be read: {error.strerror}", file=str(path))) from None
        self._texts[name] = text
        return syntax.parse(text, str(path)), Source(str(path), path.parent, text)

    def _included(self, main: Mapping[str, Any]) -> list[Path]:
        found: list[Path] = []
        patterns = values.texts(main.get("include", []), ("include",), self._notes)
        for pattern in patterns:
            matched = sorted(self._file.parent.glob(pattern)) if not self._overrides else self._overridden()
            if not matched and not any(letter in pattern for letter in "*?["):
                self._notes.add(
                    ("include",), "E103", f'there is no file "{pattern}"', "it counts from this file's folder"
                )
            found += [path for path in matched if (path not in found and path.is_file()) or self._overrides]
        return found

    def _overridden(self) -> list[Path]:
        main = _relative(self._file, self._file.parent)
        return [self._file.parent / name for name in sorted(self._overrides) if name != main]

    def _join(self, merged: dict[str, Any], content: Mapping[str, Any], source: Source, *, main_file: bool) -> None:
        atlas = self._notes.atlas
        for key, value in content.items():
            place: Place = (key,)
            if key in MAIN_ONLY:
                if not main_file:
                    atlas.claim(("included", key), source, place)
                    said = f"[{key}] stands in the main file only"
                    self._notes.add(("included", key), "E104", said, f"move it to {self._file.name}", key=True)
            elif key == "test" and isinstance(value, list):
                self._join_tests(merged, value, source)
            elif isinstance(value, dict):
                self._join_named(merged, key, value, source)
            else:
                atlas.claim(place, source)
                merged[key] = value

    def _join_tests(self, merged: dict[str, Any], value: list[Any], source: Source) -> None:
        tests = merged.setdefault("test", [])
        for index, test in enumerate(value):
            self._notes.atlas.claim(("test", len(tests)), source, ("test", index))
            tests.append(test)

    def _join_named(self, merged: dict[str, Any], key: str, value: Mapping[str, Any], source: Source) -> None:
        table = merged.setdefault(key, {})
        for name, content in value.items():
            place: Place = (key, name)
            if name in table:
                before = self._notes.atlas.source(place)
                first = self._notes.atlas.locate(place, Problem("", "")) if before else None
                self._notes.atlas.claim(("twice", key, name), source, place)
                hint = f"the first stands in {first.file}:{first.line}" if first else ""
                self._notes.add(("twice", key, name), "E105", f'{key} "{name}" is defined twice', hint, key=True)
                continue
            self._notes.atlas.claim(place, source)
            table[name] = content


class Assembly:
    """One Table from the merged values."""

    def __init__(
        self, file: Path, registry: Registry, merged: Mapping[str, Any], texts: Mapping[str, str], notes: Notes
    ) -> None:
        self._file = file
        self._registry = registry
        self._merged = merged
        self._texts = texts
        self._notes = notes

    def table(self) -> Table:
        self._top()
        bus = self._struct("bus", Bus) or Bus()
        defaults = self._defaults()
        retry = {"patient": RetryPolicy(), **self._named("retry", RetryPolicy)}
        secrets = read_secrets(self._tables("secrets"), self._notes)
        auth = read_auth(self._tables("auth"), secrets, self._notes)
        listeners = {"default": Listener(bind=bus.http), **self._named("listener", Listener)}
        drafting = Drafting(
            Catalogue(self._registry, self._notes), self._notes, defaults, steps=self._tables("steps"),
            targets=self._tables("target"), routes=self._tables("route"), retry=retry, auth=auth,
        )  # fmt: skip
        self._retry_of(defaults, retry)
        targets = {name: drafting.target(name, value) for name, value in self._each("target")}
        routes = {name: drafting.route(name, value) for name, value in self._each("route")}
        table = Table(
            file=self._file,
            hash=self._hash(),
            bus=bus,
            defaults=defaults,
            secrets=secrets,
            auth=auth,
            listeners=listeners,
            retry=retry,
            namespaces=self._tables("namespaces"),
            var=self._tables("var"),
            targets={name: spec for name, spec in targets.items() if spec is not None},
            maps={name: MapSpec(name, ("map", name), value) for name, value in self._each("map")},
            routes=routes,
            tests=self._tests(routes),
            text=self._texts,
            atlas=self._notes.atlas,
        )
        Lint(table, self._registry, self._notes).run()
        return table

    def _top(self) -> None:
        """The format, and keys that no table has."""
        version = self._merged.get("esb")
        if version is None:
            self._notes.add((), "E106", "the format is missing", "begin with esb = 1")
        elif version != FORMAT:
            newer = isinstance(version, int) and version > FORMAT
            hint = "this esb is older than the table" if newer else f"write esb = {FORMAT}"
            self._notes.add(("esb",), "E106", f"this esb reads format {FORMAT}, not {version}", hint)
        for key in self._merged:
            if key in LATER:
                self._notes.add((key,), "E150", f"[{key}] is not in this version of esb", "leave it out", key=True)
            elif key not in KNOWN:
                self._notes.add((key,), "E110", f'unknown table or key "{key}"', closest(key, KNOWN), key=True)

    def _tables(self, key: str) -> Mapping[str, Any]:
        value = self._merged.get(key, {})
        if isinstance(value, dict):
            return value
        self._notes.add((key,), "E112", f"{key} is not a table", f"[{key}]")
        return {}

    def _each(self, key: str) -> list[tuple[str, Mapping[str, Any]]]:
        """The tables under `[key.NAME]`."""
        found: list[tuple[str, Mapping[str, Any]]] = []
        for name, value in self._tables(key).items():
            if isinstance(value, dict):
                found.append((name, value))
            else:
                said = f'"{name}" landed in [{key}], which holds tables only'
                self._notes.add(
                    (key, name), "E115", said, f"move it above the first [{key}.NAME], or to its own table", key=True
                )
        return found

    def _struct(self, key: str, kind: Any) -> Any:
        return values.convert(self._tables(key), kind, (key,), self._notes)

    def _named(self, key: str, kind: Any) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, value in self._each(key):
            values.check_name(name, (key, name), self._notes)
            spec = values.convert(value, kind, (key, name), self._notes)
            made[name] = spec if spec is not None else (RetryPolicy() if kind is RetryPolicy else Listener(bind=""))
        return made

    def _defaults(self) -> Defaults:
        value = dict(self._tables("defaults"))
        outcomes = {}
        for key, allowed in (("unmatched", UNMATCHED), ("bad", BAD)):
            if key in value:
                outcome = forms.outcome(value.pop(key), ("defaults", key), self._notes, allowed)
                outcomes |= {} if outcome is None else {key: outcome}
        made = values.convert(value, Defaults, ("defaults",), self._notes) or Defaults()
        return replace(made, **outcomes)

    def _retry_of(self, defaults: Defaults, retry: Mapping[str, RetryPolicy]) -> None:
        if defaults.retry not in retry:
            said = f'no retry policy named "{defaults.retry}"'
            self._notes.add(("defaults", "retry"), "E208", said, closest(defaults.retry, retry))

    def _tests(self, routes: Mapping[str, Any]) -> tuple[TestSpec, ...]:
        made: list[TestSpec] = []
        for index, value in enumerate(self._merged.get("test", [])):
            place: Place = ("test", index)
            test = (
                values.convert({**value, "place": place}, TestSpec, place, self._notes)
                if isinstance(value, dict)
                else None
            )
            if test is not None:
                if test.route not in routes:
                    said = f'test "{test.name}": no route named "{test.route}"'
                    self._notes.add((*place, "route"), "E212", said, closest(test.route, routes))
                made.append(test)
        return tuple(made)

    def _hash(self) -> str:
        """Every file that shapes what the table does: itself, local plugins, contracts, stylesheets."""
        digest = hashlib.sha256()
        for name, text in sorted(self._texts.items()):
            digest.update(f"{name}\0{len(text)}\0{text}\0".encode())
        for plugin in self._registry.plugins:
            digest.update(f"{plugin.name}\0{plugin.hash}\0".encode())
        for folder in ("contracts", "maps"):
            for path in sorted((self._file.parent / folder).rglob("*")):
                if path.is_file():
                    digest.update(f"{path.relative_to(self._file.parent)}\0".encode() + path.read_bytes())
        return digest.hexdigest()


def _relative(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
