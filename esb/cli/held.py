"""`dead parked quarantine`: the same verbs for everything that waits for a person."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import click
import msgspec

from esb.cli.asking import ask, json_option, show, stop, table_of, table_option, then
from esb.cli.look import journey

_WHICH = (
    click.argument("names", metavar="[ID]...", nargs=-1),
    click.option("--group", help="All of one group (its name is in the list)."),
    click.option("--all", "everything", is_flag=True, help="All of them."),
    click.option("--since", help="Accepted from this time on."),
    click.option("--until", help="Accepted up to this time."),
    click.option("--target", help="Deliveries to this target only."),
)


def _which(command: Any) -> Any:
    for option in reversed(_WHICH):
        command = option(command)
    return command


def _chosen(
    names: tuple[str, ...], group: Any, everything: bool, since: Any, until: Any, target: Any
) -> dict[str, Any]:
    """A selection; a target alone means everything of that target."""
    alone = not (names or group or since or until) and bool(target)
    chosen = {"ids": list(names) or None, "group": group, "since": since, "until": until, "target": target}
    return {**chosen, "all": True if everything or alone else None}


def verbs(kind: str, about: str) -> click.Group:
    """The commands for one kind."""

    @click.group(kind, help=about, epilog=f"Example: esb {kind} list")
    @table_option
    @click.pass_context
    def group(context: click.Context, file: Path | None) -> None:
        context.obj = file

    @group.command("list", epilog=f"Example: esb {kind} list --fail-if-any")
    @table_option
    @json_option
    @click.option("--limit", type=int, default=50, help="At most so many.")
    @click.option("--fail-if-any", is_flag=True, help="End with 1 when there is anything.")
    @click.pass_context
    def listed(context: click.Context, file: Path | None, as_json: bool, limit: int, fail_if_any: bool) -> None:
        """What is held, by reason, counts first."""
        answer = ask(file or context.obj, "GET", "/held/{kind}", {"kind": kind, "limit": limit})
        show(answer, as_json, _listed)
        then(answer)
        if fail_if_any and answer["groups"]:
            stop(f"something is {kind}", 1)

    @group.command("show", epilog=f"Example: esb {kind} show ID --body")
    @click.argument("name", metavar="ID")
    @click.option("--body", is_flag=True, help="Show the body too.")
    @table_option
    @json_option
    @click.pass_context
    def shown(context: click.Context, name: str, body: bool, file: Path | None, as_json: bool) -> None:
        """One of them: original bytes, every attempt, what to do next."""
        asked = {"id": name[:36], **({"body": "1"} if body else {})}
        answer = ask(file or context.obj, "GET", "/messages/{id}", asked)
        show(answer, as_json, journey)
        then(answer)

    @group.command("release", epilog=f"Example: esb {kind} release ID")
    @_which
    @table_option
    @json_option
    @click.pass_context
    def released(context: click.Context, /, file: Path | None, as_json: bool, **which: Any) -> None:
        """They go on: with the same id, so that the target still dedupes."""
        asked = {"kind": kind, **_chosen(**which)}
        _do(file or context.obj, as_json, "/held/{kind}/release", asked, "released")

    @group.command("discard", epilog=f'Example: esb {kind} discard ID --reason "a test order"')
    @_which
    @click.option("--reason", required=True, help="Why it is let go; kept for ever.")
    @table_option
    @json_option
    @click.pass_context
    def discarded(context: click.Context, /, file: Path | None, as_json: bool, reason: str, **which: Any) -> None:
        """A person lets them go, with the reason."""
        asked = {"kind": kind, "reason": reason, **_chosen(**which)}
        _do(file or context.obj, as_json, "/held/{kind}/discard", asked, "discarded")

    @group.command("edit", epilog=f"Example: esb {kind} edit ID mended.xml")
    @click.argument("name", metavar="ID")
    @click.argument("body", type=click.File("rb"))
    @click.option("--reason", help="Why; kept with who did it.")
    @table_option
    @json_option
    @click.pass_context
    def edited(
        context: click.Context, name: str, body: Any, reason: str | None, file: Path | None, as_json: bool
    ) -> None:
        """Other bytes for one of them, from a file; the original stays beside them."""
        asked = {"kind": kind, "id": name, "body": base64.b64encode(body.read()).decode(), "reason": reason}
        _do(file or context.obj, as_json, "/held/{kind}/edit", asked, "edited")

    @group.command("export", epilog=f"Example: esb {kind} export ID > order.xml")
    @click.argument("name", metavar="ID")
    @click.option("-o", "--output", type=click.File("wb"), default="-", help="The file to write; - is standard output.")
    @table_option
    @click.option("--json", "as_json", is_flag=True, help="Print JSON: id, media, and the body as text or base64.")
    @click.pass_context
    def exported(context: click.Context, name: str, output: Any, file: Path | None, as_json: bool) -> None:
        """The original bytes, as they came."""
        answer = ask(file or context.obj, "GET", "/messages/{id}", {"id": name[:36], "body": "1"})
        body = answer.get("body")
        if body is None:
            stop("its body is no longer kept", 1)
        if as_json:
            output.write(msgspec.json.encode({"id": answer["id"], "body": body}, enc_hook=str) + b"\n")
            return
        output.write(body["text"].encode() if "text" in body else base64.b64decode(body["base64"]))

    if kind == "dead":

        @group.command("replay", epilog="Example: esb dead replay --target erp")
        @_which
        @click.option("--delivered", is_flag=True, help="Also what was delivered: as a new round of its id.")
        @table_option
        @json_option
        @click.pass_context
        def replayed(
            context: click.Context, /, file: Path | None, as_json: bool, delivered: bool, **which: Any
        ) -> None:
            """Release with a target filter: never to a target that already has it, unless --delivered."""
            asked = {"kind": kind, **_chosen(**which), "delivered": True if delivered else None}
            _do(file or context.obj, as_json, "/held/{kind}/release", asked, "released")

    return group


def _do(file: Path | None, as_json: bool, path: str, asked: dict[str, Any], word: str) -> None:
    answer = ask(file, "POST", path, asked)
    show(answer, as_json, lambda said: click.echo(f"{said[word]} {word}"))
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


dead = verbs("dead", "Deliveries that failed for good.")
parked = verbs("parked", "Deliveries and messages that wait for a person.")
quarantine = verbs("quarantine", "Messages whose data is bad.")
