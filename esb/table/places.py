"""Where the table is found, and the last one that ran."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from esb.errors import ConfigError, Problem
from esb.table.model import Table


def find_table(given: Path | None, environ: Mapping[str, str]) -> Path:
    """`-f`, else `$ESB_TABLE`, else `./routes.toml`, else `/etc/esb/routes.toml`; raises ConfigError."""
    named = given if given is not None else Path(environ["ESB_TABLE"]) if environ.get("ESB_TABLE") else None
    if named is not None:
        if named.is_dir():
            named = named / "routes.toml"
        if named.is_file():
            return named
        raise ConfigError(Problem("E103", f"there is no table {named}", "name one with -f, or begin with esb init"))
    for place in (Path("routes.toml"), Path("/etc/esb/routes.toml")):
        if place.is_file():
            return place
    raise ConfigError(Problem("E103", "there is no routes.toml here", "name one with -f, or begin with esb init shop"))


def keep_last_good(table: Table) -> None:
    """A copy of the table that runs, with all that shapes it, in data/last-good."""
    kept = table.data / "last-good"
    fresh = table.data / ".last-good.part"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, text in table.text.items():
        path = fresh / name if not Path(name).is_absolute() else fresh / Path(name).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for folder in ("contracts", "maps"):
        if (table.folder / folder).is_dir():
            shutil.copytree(table.folder / folder, fresh / folder)
    shutil.rmtree(kept, ignore_errors=True)
    fresh.rename(kept)


def last_good(data: Path, name: str = "routes.toml") -> Path | None:
    """The kept copy's main file; None when nothing ran yet."""
    file = data / "last-good" / name
    return file if file.is_file() else None
