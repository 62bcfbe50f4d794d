"""`export` and `edit`: the bytes of what is held, out to files and back."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from esb.cli.asking import ask, json_option, plain, show, stop, table_option, then
from esb.cli.which import chosen, one, some, which_options

_AS = ("original", "failing", "release")


def export_command(kind: str) -> click.Command:
    """`esb dead export`."""

    @click.command("export", epilog=f"Example: esb {kind} export ID > order.xml; esb {kind} export --all -o {kind}")
    @which_options
    @click.option("-o", "--output", default="-", help="The file; of several the folder, a file each, named by its id.")
    @click.option(
        "--as",
        "form",
        type=click.Choice(_AS),
        default="original",
        help="The bytes as they came, where they failed, or as a release takes them (to be edited).",
    )
    @table_option
    @click.option("--json", "as_json", is_flag=True, help="Print a line of JSON each: all that is known, whole bodies.")
    @click.pass_context
    def exported(
        context: click.Context, /, file: Path | None, as_json: bool, output: str, form: str, **which: Any
    ) -> None:
        """Their bytes: of one to standard output or a file, of several into a folder."""
        some(which)
        if output == "-" and not (as_json or one(which)):
            raise click.UsageError("several need a folder (-o FOLDER), or --json for a line each")
        found = chosen(file or context.obj, kind, which, whole=True)
        count, gone = _lines(found, output) if as_json else _files(found, output, form, folder=not one(which))
        if not count + gone:
            stop(f"nothing of that is {kind}", 1)
        if gone:
            stop(f"{gone} of {count + gone} have no {form} bytes: pruned, or the bus must run to tell them", 1)
        if output != "-":
            click.echo(f"{count} exported to {output}", err=True)

    return exported


def _lines(found: Iterator[Mapping[str, Any]], output: str) -> tuple[int, int]:
    count = 0
    with click.open_file(output, "wb") as stream:
        for item in found:
            stream.write(msgspec.json.encode(item, enc_hook=str) + b"\n")
            count += 1
    return count, 0


def _files(found: Iterator[Mapping[str, Any]], output: str, form: str, *, folder: bool) -> tuple[int, int]:
    """How many were written, and how many have no such bytes."""
    count = gone = 0
    place = Path(output)
    if folder:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    for item in found:
        body = _released(item) if form == "release" else item[form]
        if body is None:
            gone += 1
            continue
        count += 1
        with click.open_file(str(place / item["id"]) if folder or place.is_dir() else output, "wb") as stream:
            stream.write(bytes_of(body))
    return count, gone


def _released(item: Mapping[str, Any]) -> Any:
    """What a release takes: the edited bytes, else those that the target was sent or the message came with."""
    return item["edited"] or (item["failing"] if item["kind"] == "delivery" else item["original"])


def bytes_of(body: Mapping[str, Any]) -> bytes:
    """A body of an answer."""
    return str(body["text"]).encode() if "text" in body else base64.b64decode(body["base64"])


def text_of(body: Mapping[str, Any] | None) -> str:
    """A body of an answer for a person: nothing in it steers a terminal."""
    if body is None:
        return "(not there: pruned, or the bus must run to tell)"
    return "\n".join(plain(line) for line in str(body.get("text", body.get("base64"))).removesuffix("\n").split("\n"))


def edit_command(kind: str) -> click.Command:
    """`esb dead edit`."""

    @click.command("edit", epilog=f"Example: esb {kind} edit ID mended.xml")
    @which_options
    @click.argument("body", type=click.Path(exists=True, allow_dash=True))
    @click.option("--reason", help="Why; kept with who did it.")
    @table_option
    @json_option
    @click.pass_context
    def edited(
        context: click.Context, /, body: str, reason: str | None, file: Path | None, as_json: bool, **which: Any
    ) -> None:
        """Other bytes; the original stays beside them. Of one from a file; of several from a folder with a file each,
        named by its id, as `export --as release -o FOLDER` writes it: what did not change there is left alone."""
        some(which)
        place = file or context.obj
        if Path(body).is_dir():
            answer = _edit_all(place, kind, which, Path(body), reason)
        elif one(which):
            with click.open_file(body, "rb") as stream:
                answer = _edit(place, kind, which["names"][0], stream.read(), reason)
        else:
            raise click.UsageError("several are edited from a folder that has a file of each, named by its id")
        show(answer, as_json, _told)
        then(answer)

    return edited


def _edit(file: Path | None, kind: str, name: str, data: bytes, reason: str | None) -> dict[str, Any]:
    asked = {"kind": kind, "id": name, "body": base64.b64encode(data).decode(), "reason": reason}
    answer: dict[str, Any] = ask(file, "POST", "/held/{kind}/edit", asked)
    return answer


def _edit_all(
    file: Path | None, kind: str, which: Mapping[str, Any], folder: Path, reason: str | None
) -> dict[str, Any]:
    """Those that have another content in the folder."""
    counts = {"edited": 0, "unchanged": 0, "absent": 0}
    for item in chosen(file, kind, which, whole=True):
        path = folder / item["id"]
        if not path.is_file():
            counts["absent"] += 1
            continue
        data = path.read_bytes()
        if any(item[name] is not None and bytes_of(item[name]) == data for name in ("original", "failing", "edited")):
            counts["unchanged"] += 1
            continue
        counts["edited"] += _edit(file, kind, item["id"], data, reason)["edited"]
    return {**counts, "next": f"esb {kind} list"}


def _told(answer: Mapping[str, Any]) -> None:
    click.echo(f"{answer['edited']} edited")
    if "unchanged" in answer:
        click.echo(f"{answer['unchanged']} unchanged, {answer['absent']} without a file", err=True)
