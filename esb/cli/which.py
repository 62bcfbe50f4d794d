"""Which of the held things are meant: by id, by group, by time, by target, or all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from esb.cli.asking import ask

_WHICH = (
    click.argument("names", metavar="[ID]...", nargs=-1),
    click.option("--group", help="All of one group (its name is in the list)."),
    click.option("--all", "everything", is_flag=True, help="All of them."),
    click.option("--since", help="Accepted from this time on."),
    click.option("--until", help="Accepted up to this time."),
    click.option("--target", help="Deliveries to this target only."),
)
_IDS = 50
"""Ids of one question: more would make a long address."""
_PAGE, _WHOLE = 100, 5
"""Held things of one answer; fewer where each brings its whole bytes."""


def which_options(command: Any) -> Any:
    """`[ID]... --group --all --since --until --target`."""
    for option in reversed(_WHICH):
        command = option(command)
    return command


def question_of(
    names: Sequence[str], group: Any, everything: bool, since: Any, until: Any, target: Any
) -> dict[str, Any]:
    """A selection as the admin API takes it."""
    return {"ids": list(names) or None, "group": group, "since": since, "until": until, "target": target}


def named(**which: Any) -> dict[str, Any]:
    """The same for what changes something: a target alone means everything of that target."""
    asked = question_of(**which)
    alone = not (asked["ids"] or asked["group"] or asked["since"] or asked["until"]) and bool(asked["target"])
    return {**asked, "all": True if which["everything"] or alone else None}


def some(which: Mapping[str, Any]) -> None:
    """Raises UsageError where nothing is chosen."""
    if not any(which.values()):
        raise click.UsageError("say which: an ID, --group, --since, --until, --target or --all")


def one(which: Mapping[str, Any]) -> bool:
    """Whether it is one thing, named by its id."""
    return len(which["names"]) == 1 and sum(bool(value) for value in which.values()) == 1


def chosen(file: Path | None, kind: str, which: Mapping[str, Any], *, whole: bool) -> Iterator[dict[str, Any]]:
    """Every held thing that is meant, with all that is known of it, a page a question; `whole` with all its bytes."""
    asked = {"kind": kind, "body": "1" if whole else None, **question_of(**which)}
    ids = asked.pop("ids")
    for some_ids in [ids[at : at + _IDS] for at in range(0, len(ids), _IDS)] if ids else [None]:
        after: str | None = None
        while True:
            page = {**asked, "ids": some_ids, "limit": _WHOLE if whole else _PAGE, "after": after}
            answer = ask(file, "GET", "/held/{kind}/show", page)
            yield from answer["letters"]
            after = answer["after"]
            if after is None:
                break
