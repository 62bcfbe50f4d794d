"""The command line: one file a group of commands, loaded when it is asked for. uvloop lives here and nowhere else."""

from __future__ import annotations

import importlib
import sys

import click

COMMANDS = {
    "run": "run:run",
    "check": "check:check",
    "init": "init:init",
    "send": "send:send",
    "test": "test:test",
    "explain": "explain:explain",
    "eval": "expressions:evaluate",
    "convert": "expressions:convert",
    "status": "look:status",
    "account": "look:account",
    "messages": "look:messages",
    "tail": "look:tail",
    "waiting": "look:waiting",
    "dead": "held:dead",
    "parked": "held:parked",
    "quarantine": "held:quarantine",
    "now": "act:now",
    "reclaim": "act:reclaim",
    "pause": "act:pause",
    "resume": "act:resume",
    "drain": "act:drain",
    "probe": "act:probe",
    "backup": "copies:backup",
    "restore": "copies:restore",
    "plugin": "plugin:plugin",
    "key": "secrets:key",
    "secrets": "secrets:secrets",
    "doctor": "doctor:doctor",
}
ABOUT = {
    "run": "Run the bus",
    "check": "Say everything that is wrong with the table",
    "init": "Write a small working project",
    "send": "Send a file into a route",
    "test": "Run the table's own tests",
    "explain": "Why a message goes where it goes",
    "eval": "Work out an expression on a file",
    "convert": "Turn a file from one format into another",
    "status": "Routes, targets, what waits, what is wrong",
    "account": "The books: does everything that came in have its outcome?",
    "messages": "The newest messages, and what became of one",
    "tail": "Messages as they come",
    "waiting": "Deliveries that wait",
    "dead": "Deliveries that failed for good",
    "parked": "Deliveries and messages that wait for a person",
    "quarantine": "Messages whose data is bad",
    "now": "Clear a target's retry clocks",
    "reclaim": "Send again what the broker lost",
    "pause": "Stop a target or a route",
    "resume": "Let a target or a route go on",
    "drain": "Close the sources, finish what is under way",
    "probe": "Reach a target, send nothing",
    "backup": "Copy the store while the bus runs",
    "restore": "Put a backup in place",
    "plugin": "List, write and check plugins",
    "key": "Make API keys",
    "secrets": "List secrets, never their values",
    "doctor": "Look over machine, table and store",
}


class Lazy(click.Group):
    """A command's module is imported when the command is used: a health check starts quickly."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        found = COMMANDS.get(name)
        if found is None:
            return None
        module, _, attribute = found.partition(":")
        command: click.Command = getattr(importlib.import_module(f"esb.cli.{module}"), attribute)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The list without importing every command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, ABOUT[name]) for name in COMMANDS])

    def resolve_command(
        self, context: click.Context, words: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(context, words)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(words[0], COMMANDS, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            raise click.UsageError(f'no command "{words[0]}"{hint}', context) from error


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="esb", prog_name="esb")
def esb() -> None:
    """A lightweight service bus: one table, nothing lost, nothing silent. Begin with: esb init shop"""


def main() -> None:
    """The entry point. Exit codes: 0 answered, 1 what was asked to hold does not, 2 wrong usage or configuration, 3 the
    bus cannot be reached."""
    try:
        esb(prog_name="esb")
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
