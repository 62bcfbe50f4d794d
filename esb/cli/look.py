"""`status account messages tail waiting`: looking, never touching."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from esb.cli.asking import ask, json_option, plain, show, stop, table_of, table_option, then

NEWEST = 10
"""Messages that `esb tail` begins with."""


@click.command(epilog="Example: esb status --json")
@table_option
@json_option
@click.option("--html", is_flag=True, help="Print the status page, complete in one file.")
@click.option("--running", is_flag=True, help="End with 3 when the bus does not run, for a health check.")
def status(file: Path | None, as_json: bool, html: bool, running: bool) -> None:
    """Routes, targets, what waits, what is wrong."""
    answer = ask(file, "GET", "/status", local=not running)
    if html:
        from esb.admin.pages import status_page

        held = {kind: ask(file, "GET", "/held/{kind}", {"kind": kind}) for kind in ("dead", "parked", "quarantine")}
        click.echo(status_page(answer, ask(file, "GET", "/account"), held, inline=True))
        return
    show(answer, as_json, _status)
    if not answer["running"]:
        click.echo("the bus is stopped: this is what its store says", err=True)


def _status(answer: Any) -> None:
    state = "running" if answer["running"] else "stopped"
    click.echo(f"{answer['bus']}: {state}, {Path(answer['table']).name} {answer['hash'][:12]}")
    for item in answer["problems"]:
        click.echo(f"! {item['component']} is {item['state']}: {plain(item['reason'])}")
    for item in answer["targets"]:
        if item["failing"]:
            click.echo(f"! target.{item['name']} fails: {plain(item['failing'])}")
        if item["dead"]:
            click.echo(f"! target.{item['name']} has dead letters: {item['dead']}")
    if answer["running"] and not answer["accepting"]:
        click.echo("! the bus is drained: it takes nothing more; end it and start it anew with esb run")
    if answer["log_lines_lost"]:
        click.echo(f"! {answer['log_lines_lost']} log lines were lost: what reads the log is away, or its disk is full")
    routes = [
        [
            item["name"],
            item["accepted"],
            item["open"],
            " ".join(f"{k}={n}" for k, n in item["states"].items()),
            _halted(item),
        ]
        for item in answer["routes"]
    ]
    table_of(routes, ["route", "accepted", "open", "states", "paused"])
    click.echo()
    targets = [
        [item["name"], item["delivered"], item["waiting"], item["parked"], item["dead"], item["oldest"], _halted(item)]
        for item in answer["targets"]
    ]
    table_of(targets, ["target", "delivered", "waiting", "parked", "dead", "oldest", "paused"])
    for item in answer["targets"]:
        if item["in_broker"]:
            click.echo(f"{item['in_broker']} of what waits for {item['name']} are in the broker")
    dead = sum(item["dead"] for item in answer["targets"])
    then({"next": "esb dead list" if dead else "esb messages"})


def _halted(item: Any) -> str:
    """Why a route or a target stands still."""
    return f"stopped: {item['stopped']}" if item["stopped"] else str(item["paused"])


@click.command(epilog="Example: esb account --json")
@table_option
@json_option
def account(file: Path | None, as_json: bool) -> None:
    """The books: everything that came in has its outcome, or waits. Ends with 1 when they do not balance."""
    answer = ask(file, "GET", "/account")
    show(answer, as_json, _account)
    if not answer["balanced"]:
        stop("the books do not balance", 1)


def _account(answer: Any) -> None:
    rows = [
        [
            item["book"], item["name"], item["came"], item["closed"], item["left"],
            " ".join(f"{name}={n}" for name, n in sorted(item["entries"].items())),
        ]
        for item in answer["books"]
    ]  # fmt: skip
    table_of(rows, ["book", "of", "came", "closed", "left", "entries"])
    for difference in answer["differences"]:
        click.echo(f"! {difference}")
    click.echo("balanced" if answer["balanced"] else "NOT balanced", err=True)


@click.group(invoke_without_command=True, epilog="Example: esb messages --route orders --key order=4711")
@table_option
@json_option
@click.option("--route", help="Of this route only.")
@click.option("--state", help="In this state only: open done quarantined unmatched dropped dead expired split")
@click.option("--since", help="From this time on, such as 2026-03-01T02:10:00+01:00.")
@click.option("--key", help="NAME=VALUE of a business key (the route's `keys`), or its value alone.")
@click.option("--limit", type=int, default=50, help="At most so many.")
@click.pass_context
def messages(context: click.Context, /, file: Path | None, as_json: bool, **wanted: Any) -> None:
    """The newest messages; `esb messages show ID` is what became of one."""
    context.obj = file
    if context.invoked_subcommand is None:
        answer = ask(file, "GET", "/messages", wanted)
        show(answer, as_json, _messages)
        newest = answer["messages"][:1]
        then({"next": f"esb messages show {newest[0]['id']}" if newest else "esb status"})


def _messages(answer: Any, *, above: bool = True) -> None:
    rows = [
        [item["accepted"], item["id"], item["route"], item["state"], _keys(item["keys"]), item["reason"]]
        for item in answer["messages"]
    ]
    table_of(rows, ["accepted", "id", "route", "state", "keys", "reason"], above=above)


def _keys(keys: Any) -> str:
    return " ".join(f"{name}={value}" for name, value in keys.items())


@messages.command("show", epilog="Example: esb messages show ID")
@click.argument("name", metavar="ID")
@click.option("--body", is_flag=True, help="Show the body too.")
@table_option
@json_option
@click.pass_context
def show_message(context: click.Context, name: str, body: bool, file: Path | None, as_json: bool) -> None:
    """One message and all that became of it."""
    answer = ask(file or context.obj, "GET", "/messages/{id}", {"id": name, **({"body": "1"} if body else {})})
    show(answer, as_json, journey)
    then(answer)


def journey(answer: Any) -> None:
    """One message, told."""
    click.echo(f"{answer['id']}  {answer['route']}  {answer['state']}  {plain(answer['reason'])}")
    click.echo(
        f"accepted {answer['accepted']}, {answer['size']} bytes, {answer['made']}, keys: {_keys(answer['keys'])}"
    )
    if answer["parts"]:
        click.echo(f"parts: {' '.join(f'{state}={n}' for state, n in answer['parts'].items())}")
    if answer["trace"]:
        click.echo(f"decision: {_flat(answer['trace'])}")
    for item in answer["deliveries"]:
        click.echo(f"-> {item['id']}  {item['state']}  attempts {item['attempts']}  {plain(item['reason'])}")
        if item["waits"] is not None:
            click.echo(f"     {_told(item['waits'])}")
        for attempt in item["history"]:
            said = plain(" ".join(str(value) for value in attempt["said"].values()))
            click.echo(
                f"     {attempt['n']}. {attempt['at']} {attempt['class']} {attempt['code']} {attempt['ms']} ms {said}"
            )
    if answer.get("body"):
        click.echo("body:")
        click.echo(answer["body"].get("text") or answer["body"].get("base64"))


def _flat(trace: Mapping[str, Any]) -> str:
    """A decision in words: `cases big, note is missing`; what is empty is left out."""
    return "; ".join(f"{name} {plain(_said(value))}" for name, value in _filled(trace))


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_said(item)}" for name, item in _filled(value))
    return ", ".join(_said(item) for item in value) if isinstance(value, list) else str(value)


def _filled(mapping: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in mapping.items() if value not in (None, "", [], {})]


def _told(waits: Any) -> str:
    """Why, since when, until when, what to do."""
    until = waits["until"] or "no time is set"
    return f"waits: {plain(waits['why'])}; since {waits['since']}; until: {until}; to do: {plain(waits['do'])}"


@click.command(epilog="Example: esb tail --route orders --count 1")
@table_option
@json_option
@click.option("--route", help="Of this route only.")
@click.option("--every", default=1.0, help="Seconds between two looks.")
@click.option("--count", type=int, help="End after so many messages.")
def tail(file: Path | None, as_json: bool, route: str | None, every: float, count: int | None) -> None:
    """The newest messages, then those that come, until Ctrl-C; a message whose state has changed comes again.

    Ends with 3 when the bus stops."""
    seen: dict[str, str] = {}
    left, above = count, True
    while left is None or left > 0:
        answer = ask(file, "GET", "/messages", {"route": route, "limit": 200}, local=False)
        fresh = [item for item in reversed(answer["messages"]) if seen.get(item["id"]) != item["state"]]
        if not seen:
            fresh = fresh[-min(NEWEST, left or NEWEST) :]
        seen.update({item["id"]: item["state"] for item in answer["messages"]})
        for item in fresh[:left]:
            show({"messages": [item]}, as_json, partial(_messages, above=above))
            above = False
        left = None if left is None else left - len(fresh)
        if left is None or left > 0:
            time.sleep(every)


@click.group(invoke_without_command=True, epilog="Example: esb waiting --target erp")
@table_option
@json_option
@click.option("--target", help="Of this target only.")
@click.option("--limit", type=int, default=50, help="At most so many.")
@click.option("--fail-if-any", is_flag=True, help="End with 1 when anything waits.")
@click.pass_context
def waiting(
    context: click.Context, file: Path | None, as_json: bool, target: str | None, limit: int, fail_if_any: bool
) -> None:
    """Deliveries that wait, by target; `esb waiting now TARGET` clears retry clocks."""
    context.obj = file
    if context.invoked_subcommand is not None:
        return
    answer = ask(file, "GET", "/waiting", {"target": target, "limit": limit})
    show(answer, as_json, _waiting)
    then(answer)
    if fail_if_any and answer["groups"]:
        stop("something waits", 1)


def _waiting(answer: Any) -> None:
    table_of(
        [
            [item["waiting"], item["target"], item["next"], item.get("since"), item.get("why"), item.get("do")]
            for item in answer["groups"]
        ],
        ["waiting", "target", "next try", "since", "why", "what to do"],
    )
    click.echo()
    rows = [
        [item["id"], item["attempts"], *(item["waits"][name] for name in ("since", "until", "why", "do"))]
        for item in answer["deliveries"]
    ]
    table_of(rows, ["delivery", "attempts", "since", "until", "why", "what to do"])


@waiting.command("now", epilog="Example: esb waiting now erp")
@click.argument("target")
@table_option
@json_option
@click.pass_context
def waiting_now(context: click.Context, target: str, file: Path | None, as_json: bool) -> None:
    """The target is back: everything that waits for a time is due."""
    answer = ask(file or context.obj, "POST", "/now", {"target": target})
    show(answer, as_json, lambda said: click.echo(f"{said['now']} deliveries are due now"))
    then(answer)
