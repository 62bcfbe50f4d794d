"""`docs/table.md`, written from the Structs and from words.toml: every key with its type, default, example and use."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import msgspec
import tomli
from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from esb import retry, units
from esb.plugins import Registry, load_plugins
from esb.ports import Component
from esb.table import model

_UNITS: Final = {
    units.Duration: "duration",
    units.Size: "size",
    units.Rate: "rate",
    units.Percent: "percent",
    units.Expression: "expression",
    units.Template: "text with `{CEL}`",
    units.UrlTemplate: "URL with `{CEL}`",
    units.HeaderTemplate: "header with `{CEL}`",
    units.NameTemplate: "file name with `{CEL}`",
    units.Secret: "`secret:NAME`",
    units.Encoding: "encoding",
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    type(None): "",
    Any: "anything",
    model.OutcomeSpec: "outcome",
}
SECTIONS: Final[tuple[tuple[str, str, type[Struct] | None, str], ...]] = (
    ("top", "At the top of the file", None, "Before the first `[table]`."),
    ("bus", "`[bus]`", model.Bus, "The house itself. Main file only."),
    ("bus.outbox", "`[bus.outbox]`", model.OutboxLimits, "What the store holds before sources refuse (R9)."),
    ("defaults", "`[defaults]`", model.Defaults, "For whatever says nothing else. Main file only."),
    ("retain", "`retain = { ... }`", model.Retain, "In `[defaults]` or a route: how long closed messages stay (R10)."),
    ("route", "`[route.NAME]`", None, "One way of messages, from sources to targets."),
    ("case", "An item of `cases`", None, "The first true one wins; no true one is `unmatched`."),
    ("source", "Beside every source", None, "In `from = { ... }`, next to the source's own options."),
    ("step", "Beside every step", None, "In `do`, next to the step's own options."),
    ("target", "`[target.NAME]`", None, "Next to the one key that names the adapter, and its options."),
    ("listener", "`[listener.NAME]`", model.Listener, "An address that http sources share."),
    ("listener.tls", "`tls = { ... }`", model.TlsOptions, "Of a listener. Read again when the files change."),
    ("retry.transient", "`[retry.NAME]` transient", retry.Transient, "Down, 5xx, no network."),
    ("retry.throttled", "`[retry.NAME]` throttled", retry.ThrottledPolicy, "429 and 503 that ask for a pause."),
    ("retry.auth", "`[retry.NAME]` auth", retry.AuthPolicy, "401: our login is wrong (R17)."),
    ("retry.permanent", "`[retry.NAME]` permanent", retry.PermanentPolicy, "Other 4xx: it will never be taken."),
    ("retry.unknown", "`[retry.NAME]` unknown", retry.UnknownPolicy, "Sent, no answer (R16)."),
    ("retry.fault", "`[retry.NAME]` fault", retry.FaultPolicy, "The plugin's own error."),
    ("auth", "`[auth.NAME]`", None, "A login: exactly one of `bearer basic oauth2 header api-key` says which."),
    ("test", "`[[test]]`", None, "Run by `esb test`: no network, a clock it moves itself."),
)  # fmt: skip
"""Section of words.toml, title, the Struct that types and defaults come from, a line about it."""
_KINDS: Final = {
    "source": "Sources: `from = { ... }`",
    "target": "Targets: `[target.NAME]`",
    "step": "Steps: `do = [{ ... }]`",
    "codec": "Formats: beside `read` and `write`",
}


def words() -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    """words.toml: section, key, and its `about`, `example` and where no Struct says them `type` and `default`."""
    text = (files("esb.table") / "words.toml").read_text("utf-8")
    return msgspec.convert(tomli.loads(text), dict[str, dict[str, dict[str, str]]])


def typed(kind: Any) -> str:
    """A type as people read it."""
    if kind in _UNITS:
        return _UNITS[kind]
    origin = get_origin(kind)
    if origin is Literal:
        return " or ".join(f"`{_spelled(item)}`" for item in get_args(kind))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(filter(None, (typed(item) for item in get_args(kind)))))
    if origin in (tuple, list):
        return f"list of {typed(get_args(kind)[0])}"
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return f"table of {typed(get_args(kind)[1])}"
    return "table" if isinstance(kind, type) and issubclass(kind, Struct) else getattr(kind, "__name__", str(kind))


def _spelled(value: Any) -> str:
    """A text as TOML writes it in double quotes: a line break is seen."""
    return repr(str(value))[1:-1]


def default(value: Any) -> str:
    """A default as the table would write it; "" for none."""
    match value:
        case None | "" | ():
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case model.OutcomeSpec():
            return f'`"{value.kind}"`'
        case Struct():
            return "as below"
        case units.Duration() | units.Size() | units.Rate() | units.Percent() | str():
            return f'`"{_spelled(value)}"`'
        case list() | tuple():
            return f"`[{', '.join(str(item) for item in value)}]`" if value else ""
        case dict():
            return f"`{value}`" if value else ""
        case _:
            return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def of_struct(kind: type[Struct]) -> Mapping[str, tuple[str, str]]:
    """Type and default of each key."""
    found: dict[str, tuple[str, str]] = {}
    hints = typing.get_type_hints(kind)
    for field in fields(kind):
        value = field.default
        if value is NODEFAULT and field.default_factory is not NODEFAULT:
            value = field.default_factory()
        found[field.encode_name] = (typed(hints[field.name]), "must be given" if field.required else default(value))
    return found


def _row(key: str, kind: str, preset: str, word: Mapping[str, str]) -> str:
    example = f"`{word['example']}`" if word.get("example") else ""
    cells = (f"`{key}`", kind, preset, example, word.get("about", ""))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _table(rows: Iterator[str]) -> str:
    return "\n".join(["| key | type | default | example | what it is for |", "| --- | --- | --- | --- | --- |", *rows])


def _section(name: str, title: str, kind: type[Struct] | None, text: str) -> str:
    known = words()[name]
    told = {} if kind is None else of_struct(kind)
    rows = (
        _row(key, *told.get(key, (word.get("type", ""), word.get("default", ""))), word) for key, word in known.items()
    )
    return f"## {title}\n\n{text}\n\n{_table(rows)}\n"


def _component(item: Component[Any]) -> str:
    """One component: what it is, its options, its example. What words.toml does not know comes from the Struct."""
    known = words().get(f"{item.kind}.{item.name}", {})
    told = inspect.getdoc(item.options) or ""
    about = "" if known or told.startswith(f"{item.options.__name__}(") else f" {told}"
    rows = []
    for field, (kind, preset) in of_struct(item.options).items():
        key = item.name if field == item.main else field
        if field != "codec_options" and not (item.kind == "codec" and field == item.main):
            rows.append(_row(key, kind, preset, known.get(key, {})))
    needs = "".join(f" Needs `pip install 'esb[{extra}]'`." for extra in sorted(set(item.needs.values())))
    example = item.example.strip("\n")
    return (
        f"### {item.name}\n\n{item.about.rstrip('.')}.{about}{needs}\n\n{_table(iter(rows))}\n\n```\n{example}\n```\n"
    )


def page(registry: Registry) -> str:
    """All of `docs/table.md`."""
    head = (files("esb.table") / "reference.md").read_text("utf-8")
    parts = [head, *(_section(*section) for section in SECTIONS)]
    for kind, title in _KINDS.items():
        parts.append(f"## {title}\n")
        parts += [_component(item) for (known, _), item in sorted(registry.components.items()) if known == kind]
    return "\n".join(parts)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(load_plugins()), "utf-8")
