"""Where the table is found, what must be known of it before it is read, and the last one that ran."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from esb.errors import ConfigError, Problem
from esb.table import syntax
from esb.table.files import BESIDE, beside
from esb.table.model import Bus, Table

SYSTEM_WIDE: Final = Path("/etc/esb/routes.toml")
_FOLDER: Final = "last-good"
_ELSEWHERE: Final = "absolute"
"""Where the copy has the included files that lie outside of the main file's folder."""
_DATA: Final = re.compile(r"""^\s*data\s*=\s*(?:"([^"\n]+)"|'([^'\n]+)')""", re.MULTILINE)


def find_table(given: Path | None, environ: Mapping[str, str]) -> Path:
    """`-f`, else `$ESB_TABLE`, else `./routes.toml`, else `/etc/esb/routes.toml`; raises ConfigError. A folder stands
    for the routes.toml in it."""
    named = given if given is not None else Path(environ["ESB_TABLE"]) if environ.get("ESB_TABLE") else None
    if named is not None:
        place = named / "routes.toml" if named.is_dir() else named
        if place.is_file():
            return place
        hint = "-f names it" if given is not None else "ESB_TABLE names it"
        raise ConfigError(Problem("E103", f"there is no table {place}", hint))
    for place in (Path("routes.toml"), SYSTEM_WIDE):
        if place.is_file():
            return place
    hint = f"name one with -f or ESB_TABLE, or begin with esb init shop; {SYSTEM_WIDE} is not there either"
    raise ConfigError(Problem("E103", "there is no routes.toml here", hint))


def plugins_folder(file: Path, text: str | None = None) -> Path | None:
    """The folder of plugins that a table names, which must be loaded before the table is; None when it names none, or
    is no TOML. `text` stands in for the file."""
    named = _bus(file, text).get("plugins")
    return file.parent / named if isinstance(named, str) and named else None


def _bus(file: Path, text: str | None = None) -> Mapping[str, Any]:
    try:
        text = syntax.decoded(file.read_bytes(), str(file)) if text is None else text
        found = syntax.parse(text, str(file)).get("bus", {})
    except (OSError, ConfigError):
        return {}
    return found if isinstance(found, Mapping) else {}


def data_folder(file: Path) -> Path:
    """Where the store of a table lies; of one that is broken as far as it can still be read."""
    named = _bus(file).get("data")
    if named is None:
        text = file.read_bytes().decode("utf-8", "replace") if file.is_file() else ""
        found = _DATA.search(text)
        named = (found[1] or found[2]) if found else Bus().data
    return file.parent / str(named)


class LastGood(Struct, frozen=True):
    """A kept copy: the texts by their names relative to the main file's folder, and the folder that has the contracts
    of that day."""

    texts: Mapping[str, str]
    folder: Path


def keep_last_good(table: Table) -> None:
    """A copy of the table that runs, with all that shapes it, in data/last-good; the copy before it stays until this
    one is whole."""
    kept, fresh = table.data / _FOLDER, table.data / f".{_FOLDER}.part"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, text in table.text.items():
        path = fresh / _kept_name(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    source = table.folder if table.kept is None else table.kept
    for folder in BESIDE:
        if (source / folder).is_dir():
            shutil.copytree(source / folder, fresh / folder)
    shutil.rmtree(kept, ignore_errors=True)
    fresh.rename(kept)


class Definition(Struct, frozen=True):
    """A table as the store keeps it by its hash (R11): its texts by name, and the files beside them that shape it."""

    texts: dict[str, str]
    beside: dict[str, bytes]


def packed(table: Table) -> bytes:
    """What `unpacked` makes the table of again, whatever became of the files on disk."""
    source = table.folder if table.kept is None else table.kept
    files = {str(path.relative_to(source)): path.read_bytes() for path in beside(source)}
    return msgspec.msgpack.encode(Definition(dict(table.text), files))


def unpacked(kept: bytes, folder: Path) -> LastGood:
    """An older table, for `load`; the files beside it are written into the folder, which is made anew."""
    definition = msgspec.msgpack.decode(kept, type=Definition)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in definition.beside.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return LastGood(definition.texts, folder)


def _kept_name(name: str) -> str:
    path = Path(name)
    return str(Path(_ELSEWHERE, *path.parts[1:])) if path.is_absolute() else name


def last_good(file: Path) -> LastGood | None:
    """The table that ran last from this file, for `load(file, registry, text_overrides=.texts, kept=.folder)`; None
    when none did."""
    folder = data_folder(file) / _FOLDER
    if not (folder / file.name).is_file():
        return None
    texts: dict[str, str] = {}
    for path in sorted(folder.rglob("*.toml")):
        name = path.relative_to(folder)
        if name.parts[0] not in BESIDE:
            own = Path("/", *name.parts[1:]) if name.parts[0] == _ELSEWHERE else name
            texts[str(own)] = path.read_bytes().decode()
    return LastGood(texts, folder)
