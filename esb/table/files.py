"""The files of a table: the main one and its includes, merged by name, each value remembering where it stands."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from esb.errors import ConfigError, Problem
from esb.plugins import Registry
from esb.table import keys, syntax, values
from esb.table.model import Place
from esb.table.notes import Notes, Source

FORMAT: Final = 1
BESIDE: Final = ("contracts", "maps")
"""Folders beside the main file whose files shape what the table does."""


class Files:
    """The main file and its includes. `overrides` stands in for files, by their name relative to the main file's
    folder; with it nothing is read from the disk."""

    def __init__(self, file: Path, notes: Notes, overrides: Mapping[str, str], kept: Path | None = None) -> None:
        self._file = file
        self._notes = notes
        self._overrides = overrides
        self._beside = file.parent if kept is None else kept
        self.texts: dict[str, str] = {}

    def merge(self) -> dict[str, Any]:
        """All values, by table and name. Raises ConfigError when a file cannot be read or is no TOML."""
        main, source = self._parse(self._file)
        self._notes.atlas.main = source
        merged: dict[str, Any] = {}
        problems: list[Problem] = []
        self._join(merged, main, source)
        for included in self._included(main):
            try:
                content, source = self._parse(included)
            except ConfigError as error:
                problems += error.problems
            else:
                self._join(merged, self._allowed(content, source), source)
        if problems:
            raise ConfigError(problems)
        return merged

    def _parse(self, path: Path) -> tuple[dict[str, Any], Source]:
        name = relative(path, self._file.parent)
        text = self._overrides.get(name)
        if text is None:
            text = self._read(path)
        self.texts[name] = text
        return syntax.parse(text, str(path)), Source(str(path), path.parent, text)

    def path(self, name: str) -> Path:
        """The file that a text is kept by the name of."""
        return self._file.parent / name

    def _read(self, path: Path) -> str:
        try:
            return syntax.decoded(path.read_bytes(), str(path))
        except OSError as error:
            raise ConfigError(Problem("E103", f"{path} cannot be read: {error.strerror}", file=str(path))) from None

    def _included(self, main: Mapping[str, Any]) -> Iterator[Path]:
        if self._overrides:
            own = relative(self._file, self._file.parent)
            yield from (self._file.parent / name for name in sorted(self._overrides) if name != own)
            return
        seen = {self._file.resolve()}
        for index, pattern in enumerate(values.texts(main.get("include", []), ("include",), self._notes)):
            for path in self._matching(pattern, index):
                if path.resolve() not in seen:
                    seen.add(path.resolve())
                    yield path

    def _matching(self, pattern: str, index: int) -> list[Path]:
        """The files of one pattern; a plain name must be there, a pattern may match nothing yet."""
        folder = self._file.parent
        if Path(pattern).is_absolute():
            found = sorted(Path("/").glob(pattern.lstrip("/")))
        else:
            found = sorted(folder.glob(os.path.normpath(pattern)))
        files = [path for path in found if path.is_file()]
        if not files and not any(letter in pattern for letter in "*?["):
            hint = "it counts from this file's folder"
            self._notes.add(("include", index), "E103", f'there is no file "{pattern}"', hint)
        return files

    def _allowed(self, content: Mapping[str, Any], source: Source) -> Mapping[str, Any]:
        """What an included file may hold; it may say its format, which is the main file's."""
        for key in keys.MAIN_ONLY:
            if key in content:
                said = "no file includes further ones" if key == "include" else f"[{key}] stands in the main file only"
                self._refuse(key, source, "E104", said, f"move it to {self._file.name}")
        if content.get("esb", FORMAT) != FORMAT:
            said = f"this esb reads format {FORMAT}, not {content['esb']}"
            self._refuse("esb", source, "E106", said, f"write esb = {FORMAT}, or leave it out")
        return {key: value for key, value in content.items() if key not in (*keys.MAIN_ONLY, "esb")}

    def _refuse(self, key: str, source: Source, code: str, said: str, hint: str) -> None:
        place: Place = ("included", source.file, key)
        self._notes.atlas.claim(place, source, (key,))
        self._notes.add(place, code, said, hint, key=True)

    def _join(self, merged: dict[str, Any], content: Mapping[str, Any], source: Source) -> None:
        atlas = self._notes.atlas
        for key, value in content.items():
            if key == "test" and isinstance(value, list):
                self._join_tests(merged, value, source)
            elif isinstance(value, dict) and isinstance(merged.get(key, {}), dict):
                self._join_named(merged, key, value, source)
            else:
                atlas.claim((key,), source)
                merged[key] = value

    def _join_tests(self, merged: dict[str, Any], value: list[Any], source: Source) -> None:
        tests = merged.setdefault("test", [])
        for index, test in enumerate(value):
            self._notes.atlas.claim(("test", len(tests)), source, ("test", index))
            tests.append(test)

    def _join_named(self, merged: dict[str, Any], key: str, value: Mapping[str, Any], source: Source) -> None:
        atlas = self._notes.atlas
        atlas.claim((key,), atlas.source((key,))[0] if key in merged else source)  # type: ignore[index]  # it was claimed
        table = merged.setdefault(key, {})
        for name, content in value.items():
            place: Place = (key, name)
            if name in table:
                self._twice(place, source)
            else:
                atlas.claim(place, source)
                table[name] = content

    def _twice(self, place: Place, source: Source) -> None:
        atlas = self._notes.atlas
        first = atlas.locate(place, Problem("", ""), key=True)
        again: Place = ("again", source.file, *place)
        atlas.claim(again, source, place)
        hint = f"the first stands in {first.file}:{first.line}:{first.column}"
        self._notes.add(again, "E105", f'{place[0]} "{place[1]}" is defined twice', hint, key=True)

    def hash(self, registry: Registry) -> str:
        """SHA-256 of every file that shapes what the table does: itself, local plugins, contracts, stylesheets."""
        digest = hashlib.sha256()
        for name, text in sorted(self.texts.items()):
            digest.update(f"{name}\0{len(text)}\0{text}\0".encode())
        for plugin in registry.plugins:
            if plugin.hash:
                digest.update(f"{plugin.name}\0{plugin.hash}\0".encode())
        for path in self._shaping():
            content = path.read_bytes()
            digest.update(f"{relative(path, self._beside)}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()

    def _shaping(self) -> Iterator[Path]:
        """Contracts and stylesheets beside the main file and beside each included one."""
        others = {self.path(name).parent for name in self.texts} - {self._file.parent}
        for folder in (self._beside, *sorted(others)):
            yield from beside(folder)


def beside(folder: Path) -> Iterator[Path]:
    """The contracts and stylesheets in a table's folder, in order."""
    for name in BESIDE:
        yield from (path for path in sorted((folder / name).rglob("*")) if path.is_file())


def relative(path: Path, folder: Path) -> str:
    """A file's name as the texts are kept by."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
