"""Asking the bus: over its admin address when it runs, in its store when it does not."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import msgspec
from msgspec.structs import replace

from esb.errors import ConfigError, EsbError, SecretMissing, StoreError, StoreLocked
from esb.plugins import Registry, load_plugins
from esb.table.load import load
from esb.table.model import Table
from esb.table.places import find_table, last_good, plugins_folder

F = TypeVar("F", bound=Callable[..., Any])


def table_option(command: F) -> F:
    """`-f routes.toml`."""
    option = click.option(
        "-f", "--file", "file", type=click.Path(path_type=Path), help="The table (default routes.toml)."
    )
    return option(command)


def json_option(command: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


class Unconnected(ConnectionError):
    """Nothing took the connection: the question did not leave this process."""


class Answered(EsbError):
    """The bus said no."""

    def __init__(self, said: str, code: str) -> None:
        super().__init__(said)
        self.code = code


PATIENCE = {"/backup": None}
"""Seconds that an answer may take where that is not five minutes; None: as long as it takes."""
USAGE = ("C400", "C420")
"""What the bus answers to a question that makes no sense: a wrong name, a time that is none."""


class Failed(click.ClickException):
    """Ends the command with a code and one line."""

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # click reads it; a class-wide number is not enough here
        return self.code

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code

    def show(self, file: Any = None) -> None:
        click.echo(self.message, err=True)


def plugins_of(file: Path, text: str | None = None) -> Registry:
    """The plugins of a table, before it is loaded as a whole: those of `[bus] plugins` too. `text` stands in for what
    the file says."""
    folder = plugins_folder(file, text)
    return load_plugins(folder if folder is not None and folder.is_dir() else None)


def load_table(file: Path | None) -> tuple[Table, Registry]:
    """The table and its plugins; ends with 2 and every error when it is wrong."""
    try:
        place = find_table(file, os.environ)
        registry = plugins_of(place)
        return load(place, registry), registry
    except ConfigError as error:
        raise Failed(str(error), 2) from error


def ask(
    file: Path | None,
    method: str,
    path: str,
    question: Mapping[str, Any] | None = None,
    *,
    local: bool = True,
    patience: float = 0.0,
) -> Any:
    """One question to the bus; a stopped one answers from its store where that is enough, one that is just starting is
    waited for as many seconds as `patience` says.

    Ends with 3 when the bus cannot be reached, 1 when it says no, 2 when the question is wrong.
    """
    table = _running_table(file)
    asked = {**dict(question or {})}
    if method == "POST":
        asked.setdefault("actor", _actor())
    try:
        answer = asyncio.run(_asked(table, method, path, asked, local, patience))
        if isinstance(answer, dict) and answer.get("absent"):
            click.echo(f"! no answer of worker {', '.join(answer['absent'])}: what it knows is missing", err=True)
        return answer
    except (ConnectionError, FileNotFoundError) as error:
        raise Failed(f"the bus cannot be reached ({error}); is it running? esb run", 3) from error
    except StoreError as error:
        raise Failed(str(error), 3) from error
    except SecretMissing as error:
        raise Failed(f"{error.code} {error}", 2) from error
    except EsbError as error:
        raise Failed(f"{error.code} {error}", 2 if error.code in USAGE else 1) from error


def _running_table(file: Path | None) -> Table:
    """The table on disk; where that is wrong, the last one that ran: a running bus is reached all the same."""
    try:
        return load_table(file)[0]
    except Failed as failed:
        kept = last_good_table(file)
        if kept is None:
            raise
        click.echo(failed.message, err=True)
        click.echo("the table on disk is wrong: this asks with the last one that ran", err=True)
        return kept[0]


def last_good_table(file: Path | None) -> tuple[Table, Registry] | None:
    """The table that ran last from the same file, in the same folder and store; None when there is none."""
    try:
        place = find_table(file, os.environ)
        kept = last_good(place)
        if kept is None:
            return None
        registry = plugins_of(place, kept.texts[place.name])
        return load(place, registry, text_overrides=kept.texts, kept=kept.folder), registry
    except ConfigError:
        return None


def _actor() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


async def _asked(table: Table, method: str, path: str, asked: Mapping[str, Any], local: bool, patience: float) -> Any:
    until = time.monotonic() + patience
    while time.monotonic() < until:
        try:
            return await _over_http(table, method, path, asked)
        except Unconnected:
            await asyncio.sleep(0.1)
    try:
        return await _over_http(table, method, path, asked)
    except (ConnectionError, FileNotFoundError):
        if not local:
            raise
    return await _in_store(table, method, path, asked)


async def _over_http(table: Table, method: str, path: str, asked: Mapping[str, Any]) -> Any:
    import aiohttp

    address = table.bus.admin or f"unix:{table.data / 'admin.sock'}"
    unix = address.startswith("unix:")
    socket = table.folder / address.removeprefix("unix:")
    connector: Any = aiohttp.UnixConnector(path=str(socket)) if unix else aiohttp.TCPConnector()
    base = "http://esb" if unix else f"http://{address}"
    sent, rest = _placed(path, asked)
    content: dict[str, Any] = {"json": rest} if method == "POST" else {"params": _query(rest)}
    headers = {}
    timeout = aiohttp.ClientTimeout(total=PATIENCE.get(path, 300))
    if not unix and table.bus.admin_key is not None:
        from esb.secrets import Secrets

        headers["Authorization"] = f"Bearer {Secrets(table.secrets, table.folder).read(table.bus.admin_key)}"
    try:
        async with (
            aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session,
            session.request(method, base + sent, **content) as answer,
        ):
            return _answer(answer.status, await answer.read())
    except aiohttp.ClientConnectorError as error:
        raise Unconnected(str(error)) from error
    except aiohttp.ClientError as error:
        raise ConnectionError(str(error)) from error


def _answer(status: int, body: bytes) -> Any:
    said = json.loads(body)
    if status < 400 or (status == 503 and "problems" in said):
        return said
    raise Answered(said.get("title", ""), str(said.get("code", status)))


def _placed(path: str, asked: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Path parameters go into the path."""
    from urllib.parse import quote

    rest = {name: value for name, value in asked.items() if value is not None}
    if "{" not in path:
        return path, _known(path, rest)
    sent = path
    for name in list(rest):
        if f"{{{name}}}" in sent:
            sent = sent.replace(f"{{{name}}}", quote(str(rest.pop(name)), safe=""))
    return sent, _known(path, rest)


def _known(path: str, rest: dict[str, Any]) -> dict[str, Any]:
    """Only what the door takes: an actor is not asked everywhere."""
    from esb.admin.doors import DOORS

    names = {item.name for door in DOORS if door.path == path for item in door.parameters}
    return {name: value for name, value in rest.items() if name in names}


def _query(rest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each name with its value; a list as its name once for each item."""
    return [
        (name, "1" if item is True else str(item))
        for name, value in rest.items()
        for item in (value if isinstance(value, list) else [value])
    ]


async def _in_store(table: Table, method: str, path: str, asked: Mapping[str, Any]) -> Any:
    """A stopped bus: read-only for questions, the store itself for acts; all stores where it ran with workers."""
    from esb.admin.group import COPIED_STOPPED, merged
    from esb.admin.question import BadRequest, NotFound
    from esb.cli.workers import stores

    found = stores(table.data)
    if not found:
        raise ConnectionError(f"it never ran here: there is no store in {table.data}")
    if path == "/backup" and len(found) > 1:
        raise BadRequest(COPIED_STOPPED)
    answers: list[Any] = []
    unknown: NotFound | None = None
    for data in found.values():
        try:
            answers.append(await _in_one(replace(table, bus=replace(table.bus, data=str(data))), method, path, asked))
        except NotFound as error:
            unknown = error
    if not answers and unknown is not None:
        raise unknown
    return answers[0] if len(answers) == 1 else merged(answers)


async def _in_one(table: Table, method: str, path: str, asked: Mapping[str, Any]) -> Any:
    from esb.admin.access import Access, access_to
    from esb.admin.control import Control
    from esb.admin.doors import DOORS
    from esb.clock import SystemClock
    from esb.store import open_reader, open_store
    from esb.store.bodies import Bodies

    door = next(door for door in DOORS if door.method == method and door.path == path)
    if method == "GET":
        with open_reader(table.data) as reader:

            async def query(call: Any, /, *arguments: Any, **options: Any) -> Any:
                return reader.query(call, *arguments, **options)

            access = Access(query=query, bodies=Bodies(table.data / "bodies", durable=True))
            return await door.answer(Control(table, access, None), asked)
    try:
        async with open_store(table.data, clock=SystemClock()) as store:
            return await door.answer(Control(table, access_to(store), None), asked)
    except StoreLocked as error:
        raise ConnectionError(str(error)) from error


def show(answer: Any, as_json: bool, text: Callable[[Any], None]) -> None:
    """Prints an answer: JSON, or as text."""
    if as_json:
        click.echo(msgspec.json.encode(answer, enc_hook=str).decode())
    else:
        text(answer)


def paths(answer: Any) -> None:
    """The files that were written, a line each."""
    for path in answer["files"]:
        click.echo(path)


def table_of(rows: list[list[Any]], heads: list[str], *, above: bool = True) -> None:
    """Columns for a person, the heads `above` them; tab-separated ones, without heads, for a pipe."""
    cells = [["" if cell is None else plain(str(cell)) for cell in row] for row in rows]
    if not os.isatty(1):
        for row in cells:
            click.echo("\t".join(row))
        return
    widths = [max(len(line[at]) for line in [heads, *cells]) for at in range(len(heads))]
    for line in [heads, *cells] if above else cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def plain(text: str) -> str:
    """Control characters made visible: what a sender wrote never steers a terminal."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def then(answer: Mapping[str, Any]) -> None:
    """The next command to type; to standard error, so that a pipe stays clean."""
    if answer.get("next"):
        click.echo(f"next: {answer['next']}", err=True)


def stop(message: str, code: int) -> NoReturn:
    raise Failed(message, code)
