"""`dead parked quarantine`: the same verbs for everything that waits for a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from esb.cli.asking import ask, json_option, plain, show, stop, table_of, table_option, then
from esb.cli.bodies import edit_command, export_command, text_of
from esb.cli.which import chosen, named, question_of, some, which_options


def verbs(kind: str, about: str) -> click.Group:
    """The commands for one kind."""

    @click.group(kind, help=about, epilog=f"Example: esb {kind} list")
    @table_option
    @click.pass_context
    def group(context: click.Context, file: Path | None) -> None:
        context.obj = file

    made = [list_command, show_command, release_command, discard_command, edit_command, export_command]
    for command in [*made, replay_command] if kind == "dead" else made:
        group.add_command(command(kind))
    return group


def list_command(kind: str) -> click.Command:
    """`esb dead list`."""

    @click.command("list", epilog=f"Example: esb {kind} list --fail-if-any")
    @which_options
    @table_option
    @json_option
    @click.option("--limit", type=int, default=50, help="At most so many.")
    @click.option("--fail-if-any", is_flag=True, help="End with 1 when there is anything.")
    @click.pass_context
    def listed(
        context: click.Context, /, file: Path | None, as_json: bool, limit: int, fail_if_any: bool, **which: Any
    ) -> None:
        """What is held, by reason, counts first; of ids, one line each."""
        asked = {"kind": kind, "limit": limit, **question_of(**which)}
        answer = ask(file or context.obj, "GET", "/held/{kind}", asked)
        show(answer, as_json, _lines if which["names"] else _listed)
        then(answer)
        if fail_if_any and (answer["deliveries"] or answer["messages"]):
            stop(f"something is {kind}", 1)

    return listed


def show_command(kind: str) -> click.Command:
    """`esb dead show`."""

    @click.command("show", epilog=f"Example: esb {kind} show ID; esb {kind} show --since 2025-03-01 --json")
    @which_options
    @click.option("--limit", type=int, default=50, help="At most so many.")
    @click.option("--body", is_flag=True, help="Show long bodies whole; else their first 4000 bytes.")
    @table_option
    @json_option
    @click.pass_context
    def shown(
        context: click.Context, /, file: Path | None, as_json: bool, limit: int, body: bool, **which: Any
    ) -> None:
        """The original bytes, those at the failing point, step, error class, table, every attempt, what to do next."""
        some(which)
        found = [
            item for item, _ in zip(chosen(file or context.obj, kind, which, whole=body), range(limit), strict=False)
        ]
        if not found:
            stop(f"nothing of that is {kind}", 1)
        answer = {"letters": found, "next": found[0]["next"]}
        show(answer, as_json, _letters)
        then(answer)

    return shown


def release_command(kind: str) -> click.Command:
    """`esb dead release`."""

    @click.command("release", epilog=f"Example: esb {kind} release ID")
    @which_options
    @table_option
    @json_option
    @click.pass_context
    def released(context: click.Context, /, file: Path | None, as_json: bool, **which: Any) -> None:
        """They go on: with the same id, so that the target still dedupes. The first 500 are due at once, the others at
        100 a second (`esb now TARGET` sends all of them)."""
        _do(file or context.obj, as_json, "/held/{kind}/release", {"kind": kind, **named(**which)}, "released")

    return released


def discard_command(kind: str) -> click.Command:
    """`esb dead discard`."""

    @click.command("discard", epilog=f'Example: esb {kind} discard ID --reason "a test order"')
    @which_options
    @click.option("--reason", required=True, help="Why it is let go; kept for ever.")
    @table_option
    @json_option
    @click.pass_context
    def discarded(context: click.Context, /, file: Path | None, as_json: bool, reason: str, **which: Any) -> None:
        """A person lets them go, with the reason."""
        asked = {"kind": kind, "reason": reason, **named(**which)}
        _do(file or context.obj, as_json, "/held/{kind}/discard", asked, "discarded")

    return discarded


def replay_command(kind: str) -> click.Command:
    """`esb dead replay`."""

    @click.command("replay", epilog=f"Example: esb {kind} replay --target erp")
    @which_options
    @click.option("--delivered", is_flag=True, help="Also what was delivered: as a new round of its id.")
    @table_option
    @json_option
    @click.pass_context
    def replayed(context: click.Context, /, file: Path | None, as_json: bool, delivered: bool, **which: Any) -> None:
        """Release with a target filter: never to a target that already has it, unless --delivered."""
        asked = {"kind": kind, **named(**which), "delivered": True if delivered else None}
        _do(file or context.obj, as_json, "/held/{kind}/release", asked, "released")

    return replayed


def _do(file: Path | None, as_json: bool, path: str, asked: dict[str, Any], word: str) -> None:
    answer = ask(file, "POST", path, asked)
    show(answer, as_json, lambda said: click.echo(f"{said[word]} {word}"))
    if not answer[word] and (asked.get("ids") or asked.get("group")):
        stop(f"nothing of that is {asked['kind']}", 1)
    then(answer)


def _listed(answer: Any) -> None:
    if not answer["groups"]:
        click.echo("nothing", err=True)
        return
    rows = [
        [item["count"], item["route"], item["target"], item["reason"], item["first"], item["example"], item["group"]]
        for item in answer["groups"]
    ]
    table_of(rows, ["count", "route", "target", "reason", "since", "one of them", "group"])


def _lines(answer: Any) -> None:
    """One line each: the sums of what is named one by one say nothing."""
    rows = [
        [item["id"], item["route"], item["state"], item["attempts"], item["accepted"], item["reason"], item["group"]]
        for item in [*answer["deliveries"], *answer["messages"]]
    ]
    table_of(rows, ["id", "route", "state", "attempts", "accepted", "reason", "group"])


def _letters(answer: Any) -> None:
    for number, item in enumerate(answer["letters"]):
        if number:
            click.echo()
        _letter(item)


def _letter(item: Any) -> None:
    """One held thing, told."""
    click.echo(f"{item['id']}  {item['route']}  {item['state']}  {plain(item['reason'])}")
    click.echo(f"accepted {item['accepted']}, {item['size']} bytes, table {item['table'][:12]}, group {item['group']}")
    place = f" at {item['place']}" if item["place"] else ""
    click.echo(f"failed in step: {item['step'] or 'none'}, class: {item['class'] or 'none'}, {item['code']}{place}")
    if item["note"]:
        click.echo(f"note: {plain(item['note'])}")
    for error in item["errors"]:
        click.echo(f"  {error.get('place', '')} {error['code']} {plain(error['message'])}".rstrip())
    click.echo(f"attempts: {item['attempts']}")
    for attempt in item["history"]:
        said = plain(" ".join(str(value) for value in attempt["said"].values()))
        click.echo(f"  {attempt['n']}. {attempt['at']} {attempt['class']} {attempt['code']} {attempt['ms']} ms {said}")
    for name, title in (("original", "original"), ("failing", "at the failing point"), ("edited", "edited")):
        if name != "edited" or item[name] is not None:
            click.echo(f"{title}{_about(item[name])}:")
            click.echo(text_of(item[name]))


def _about(body: Any) -> str:
    if body is None:
        return ""
    kind = f", {body['media']}" if body.get("media") else ""
    head = "; --body shows the whole" if body.get("cut") else ""
    return f" ({body['size']} bytes{kind}{head})"


dead = verbs("dead", "Deliveries that failed for good.")
parked = verbs("parked", "Deliveries and messages that wait for a person.")
quarantine = verbs("quarantine", "Messages whose data is bad.")
