"""`docs/commands.md`, written from the commands themselves: what each does, its words, its options and an example."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final

import click

from esb.cli import ABOUT, esb

GROUPS: Final = {
    "Without a bus": (
        "They need a table at most.",
        ("init", "check", "test", "explain", "eval", "convert", "plugin", "key", "secrets", "doctor"),
    ),
    "Looking": (
        "They ask the running bus over its admin address, and read the store of a stopped one.",
        ("status", "account", "messages", "tail", "waiting"),
    ),
    "Acting": (
        "Each is written to the journal of actions with who did it and why. `now`, `release`, `replay`, `discard` and "
        "`edit`\nwork on a stopped bus too; the others need a running one.",
        ("run", "send", "now", "reclaim", "pause", "resume", "drain", "probe"),
    ),
    "Backup": (
        "What is in the store; the table, its folders and its secrets are files of yours.",
        ("backup", "restore"),
    ),
    "What waits for a person": (
        "Lists read the store of a stopped bus too. `parked` and `quarantine` have the same verbs as `dead`, without "
        "`replay`.",
        ("dead", "parked", "quarantine"),
    ),
}
"""Title, a line about it, its commands."""
_SAME: Final = ("parked", "quarantine")
"""Their verbs are told once, under `dead`."""
_EVERYWHERE: Final = {"--help", "--json", "-f", "--file"}


def examples(command: click.Command) -> list[str]:
    """The commands of its epilog."""
    return (command.epilog or "").removeprefix("Example: ").split("; ")


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command by its full name, those of a group after it."""
    context = click.Context(esb)
    for _, names in GROUPS.values():
        for name in names:
            command = esb.get_command(context, name)
            assert command is not None, name
            yield name, command
            if isinstance(command, click.Group):
                yield from ((f"{name} {verb}", under) for verb, under in command.commands.items())


def page() -> str:
    """All of `docs/commands.md`."""
    found = dict(commands())
    parts = [(files("esb.cli") / "reference.md").read_text("utf-8")]
    for title, (text, names) in GROUPS.items():
        rows = "\n".join(f"| `esb {name}` | {ABOUT[name]} |" for name in names)
        parts.append(f"## {title}\n\n{text}\n\n| command | does |\n| --- | --- |\n{rows}\n")
        for name, command in found.items():
            if name.split()[0] in names and name.split()[0] not in _SAME:
                parts.append(_section(name, command))
    return "\n".join(parts)


def _section(name: str, command: click.Command) -> str:
    words = [_word(item) for item in command.params if isinstance(item, click.Argument)]
    about = inspect.cleandoc(command.help or "")
    parts = [f"### esb {' '.join([name, *words])}\n", f"{about}\n", *_options(command)]
    if not isinstance(command, click.Group) or command.invoke_without_command:
        parts += ["```sh", *examples(command), "```\n"]
    return "\n".join(parts)


def _word(argument: click.Argument) -> str:
    """An argument as `--help` names it."""
    return argument.make_metavar(click.Context(click.Command("esb")))


def _options(command: click.Command) -> list[str]:
    given = [item for item in command.params if isinstance(item, click.Option)]
    rows = [_row(item) for item in given if not _EVERYWHERE & set(item.opts)]
    return ["| option | default | what it is for |", "| --- | --- | --- |", *rows, ""] if rows else []


def _row(option: click.Option) -> str:
    preset = option.default
    known = isinstance(preset, (int, float, str, Path)) and str(preset) and not option.is_flag
    told = "must be given" if option.required else f"`{preset}`" if known else ""
    kind = option.type.choices if isinstance(option.type, click.Choice) else ()
    about = " ".join(filter(None, [option.help, ("One of " + ", ".join(f"`{word}`" for word in kind)) if kind else ""]))
    cells = (", ".join(f"`{name}`" for name in option.opts), told, about)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), "utf-8")
