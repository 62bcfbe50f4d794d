"""`now reclaim pause resume drain probe`: what a person does to a running bus."""

from __future__ import annotations

from pathlib import Path

import click

from esb.cli.asking import ask, json_option, plain, show, stop, table_option, then


@click.command(epilog="Example: esb now erp")
@click.argument("target")
@table_option
@json_option
def now(target: str, file: Path | None, as_json: bool) -> None:
    """The target is back: everything that waits for a time is due."""
    answer = ask(file, "POST", "/now", {"target": target})
    show(answer, as_json, lambda said: click.echo(f"{said['now']} deliveries are due now"))
    then(answer)


@click.command(epilog="Example: esb reclaim erp")
@click.argument("target")
@table_option
@json_option
def reclaim(target: str, file: Path | None, as_json: bool) -> None:
    """The broker lost what it had for a target: send it again, with the same ids. A target that dedupes sees no
    difference; one that does not may get a delivery twice."""
    answer = ask(file, "POST", "/reclaim", {"target": target}, local=False)
    show(answer, as_json, lambda said: click.echo(f"{said['reclaimed']} deliveries are due again"))
    then(answer)


@click.command(epilog='Example: esb pause target erp --reason "maintenance"')
@click.argument("scope", type=click.Choice(["target", "route"]))
@click.argument("name")
@click.option("--reason", required=True, help="Why; shown beside it in `esb status`.")
@click.option("--until", help="It goes on by itself then, such as 2026-03-01T06:00:00+01:00.")
@table_option
@json_option
def pause(scope: str, name: str, reason: str, until: str | None, file: Path | None, as_json: bool) -> None:
    """Stop a target's deliveries, or close a route's sources; kept over a restart."""
    asked = {"scope": scope, "name": name, "reason": reason, "until": until}
    answer = ask(file, "POST", "/pause", asked, local=False)
    show(answer, as_json, lambda said: click.echo(f"paused {said['paused']}"))
    then(answer)


@click.command(epilog="Example: esb resume target erp")
@click.argument("scope", type=click.Choice(["target", "route", "clock", "bus"]))
@click.argument("name", default="")
@table_option
@json_option
def resume(scope: str, name: str, file: Path | None, as_json: bool) -> None:
    """Let a target or a route go on; `esb resume clock` after the clock jumped, `esb resume bus` after a restore."""
    answer = ask(file, "POST", "/resume", {"scope": scope, "name": name}, local=False)
    show(answer, as_json, lambda said: click.echo(f"resumed {said['resumed']}"))
    then(answer)


@click.command(epilog="Example: esb drain")
@table_option
@json_option
def drain(file: Path | None, as_json: bool) -> None:
    """Close the sources and finish what is under way; the process stays."""
    answer = ask(file, "POST", "/drain", {}, local=False)
    show(answer, as_json, lambda said: click.echo("drained" if said["drained"] else "not all was finished in time"))
    if not answer["drained"]:
        stop("not drained", 1)


@click.command(epilog="Example: esb probe erp")
@click.argument("target")
@table_option
@json_option
def probe(target: str, file: Path | None, as_json: bool) -> None:
    """Reach a target and log in; nothing is sent. Ends with 1 when it cannot be reached."""
    answer = ask(file, "POST", "/probe", {"target": target}, local=False)
    show(answer, as_json, lambda said: click.echo(f"{said['target']}: {plain(str(said['said']))}"))
    if answer["ok"] is False:
        stop(f"{target} cannot be reached", 1)
