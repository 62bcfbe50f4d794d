"""`eval convert`: expressions and formats without a bus."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import msgspec

from esb import conversion
from esb.cli.asking import Failed, load_table, table_option
from esb.cli.send import headers_of, headers_option
from esb.clock import SystemClock
from esb.errors import EsbError
from esb.expressions import ExpressionProblems
from esb.expressions.conversions import to_string
from esb.message import Headers, Message
from esb.plugins import load_plugins
from esb.ports import Codec
from esb.services import BusServices
from esb.table.model import Bus, Defaults, Table


def _services(file: Path | None) -> BusServices:
    """What components ask for: of the table that is named, else without one."""
    if file is not None:
        named, registry = load_table(file)
        return BusServices(named, registry, SystemClock())
    table = Table(file=Path("routes.toml").absolute(), hash="", bus=Bus(), defaults=Defaults())
    return BusServices(table, load_plugins(), SystemClock())


def _options(given: tuple[str, ...]) -> dict[str, Any]:
    """`k=v` pairs; a value that is JSON counts as that."""
    made: dict[str, Any] = {}
    for item in given:
        name, mark, value = item.partition("=")
        if not mark:
            raise click.UsageError("an option is NAME=VALUE")
        try:
            made[name] = json.loads(value)
        except ValueError:
            made[name] = value
    return made


def _codec(services: BusServices, name: str, options: tuple[str, ...]) -> Codec:
    try:
        return services.codec(name, _options(options))
    except EsbError as error:
        raise Failed(str(error), 2) from error


@click.command("eval", epilog="Example: esb eval 'body.Order.Total' --input order.xml --format xml")
@click.argument("expression")
@click.option("--input", "body", type=click.File("rb"), help="The message's body (- for standard input).")
@click.option("--format", "form", default="json", help="How to read it: json, xml, csv.")
@click.option("--opt", "options", multiple=True, help="NAME=VALUE of the format.")
@headers_option
@table_option
@click.option("--json", "_", is_flag=True, help="Print JSON, as it always does.")
@click.option("--trace", is_flag=True, help="Show the value of every leaf, and which decided.")
def evaluate(
    expression: str,
    body: Any,
    form: str,
    options: tuple[str, ...],
    headers: tuple[str, ...],
    file: Path | None,
    _: bool,
    trace: bool,
) -> None:
    """Work out an expression; prints JSON. With -f the table's variables, namespaces and plugins are known. Ends with 2
    when it is no expression, 1 when it fails on this message."""
    services = _services(file)
    data = b"" if body is None else body.read()
    try:
        program = services.environment.compile(expression)
        scope = services.scope(_message(services, data, form, options, headers))
        if trace:
            click.echo(as_json(msgspec.to_builtins(program.trace(scope), builtin_types=_KEPT, enc_hook=str)))
            return
        click.echo(as_json(program.evaluate(scope)))
    except ExpressionProblems as problems:
        raise Failed("\n".join(_shown(expression, finding) for finding in problems.findings), 2) from problems
    except EsbError as error:
        raise Failed(f"{error.code} {error}", 1) from error


_KEPT = (bytes, datetime, timedelta)


def _shown(text: str, finding: Any) -> str:
    hint = f"; {finding.hint}" if finding.hint else ""
    return f"{text}\n{' ' * finding.offset}^ {finding.code} {finding.message}{hint}"


def _message(
    services: BusServices, data: bytes, form: str, options: tuple[str, ...], headers: tuple[str, ...]
) -> Message:
    now = services.clock.now()
    given = Headers(headers_of(headers))
    message = Message(uid="", route="", accepted_at=now, body=data, raw=data, headers=given)
    if not data:
        return message
    decoded = _codec(services, form, options).decode(data)
    return message.with_(body=decoded.tree, source=dict(decoded.about), format=form)


def as_json(value: Any) -> str:
    """A result as JSON: decimals with their digits, moments as RFC 3339, bytes as text where they are."""
    from decimal import Decimal

    from esb.expressions import Optional

    if isinstance(value, Optional):
        return as_json(value.value) if value.has_value else "null"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {as_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(as_json(item) for item in value) + "]"
    if isinstance(value, (datetime, timedelta)):
        return json.dumps(to_string(value))
    if isinstance(value, bytes):
        return json.dumps(value.decode("utf-8", "backslashreplace"), ensure_ascii=False)
    if value is None or isinstance(value, (bool, int, float, str)):
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(str(value))


@click.command(epilog="Example: esb convert --from csv --to json --from-opt delimiter=';' rows.csv")
@click.option("--from", "source", required=True, help="json, xml, csv or a plugin's format.")
@click.option("--to", "target", required=True, help="The same.")
@click.option("--from-opt", "from_options", multiple=True, help="NAME=VALUE, as a read step takes it.")
@click.option("--to-opt", "to_options", multiple=True, help="NAME=VALUE, as a write step takes it.")
@table_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the format and the converted text.")
@click.argument("body", type=click.File("rb"))
def convert(
    source: str,
    target: str,
    from_options: tuple[str, ...],
    to_options: tuple[str, ...],
    file: Path | None,
    as_json: bool,
    body: Any,
) -> None:
    """Turn a file (- for standard input) from one format into another. Ends with 1 when its data is bad."""
    services = _services(file)
    reading, writing = _codec(services, source, from_options), _codec(services, target, to_options)
    try:
        made = conversion.convert(body.read(), reading, writing)
    except EsbError as error:
        raise Failed(f"{error.code} {error}", 1) from error
    if as_json:
        click.echo(msgspec.json.encode({"format": target, "text": made.decode("utf-8", "backslashreplace")}).decode())
        return
    sys.stdout.buffer.write(made)
