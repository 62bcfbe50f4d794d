"""`docs/table.md`, written from the Structs: every key with its type, default and what it is for."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

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
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    type(None): "",
    Any: "anything",
    model.OutcomeSpec: "outcome",
}
_TABLES: Final[tuple[tuple[str, type[Struct], str], ...]] = (
    ("bus", model.Bus, "The house itself."),
    ("bus.outbox", model.OutboxLimits, "What the store holds before sources refuse."),
    ("defaults", model.Defaults, "For every route and target that says nothing else."),
    ("listener.NAME", model.Listener, "An address that http sources share; `[bus] http` is the one named default."),
    ("listener.NAME.tls", model.TlsOptions, "Certificates, read again when they change."),
    ("retry.NAME: transient", retry.Transient, "Down, 5xx, no network."),
    ("retry.NAME: throttled", retry.ThrottledPolicy, "429 and 503."),
    ("retry.NAME: auth", retry.AuthPolicy, "401."),
    ("retry.NAME: permanent", retry.PermanentPolicy, "Other 4xx."),
    ("retry.NAME: unknown", retry.UnknownPolicy, "Sent, no answer."),
    ("retry.NAME: fault", retry.FaultPolicy, "The plugin's own error."),
    ("retain", model.Retain, "In `[defaults]` or a route."),
)
_ROUTE: Final = {
    "about": ("text", "what it is for"),
    "owner": ("text", "who is called; mandatory here or under `[defaults]`"),
    "contact, runbook, why, review_by": ("text", "for people"),
    "from": ("table or list", "one source, or several; `{ route = true }` takes what other routes hand over"),
    "do": ("list of steps", "what happens to every message"),
    "cases": (
        "list",
        "`{ name, when \\| otherwise, do, to \\| drop \\| park \\| dead \\| reply }`; the first true one wins",
    ),
    "match": ("`first` or `all`", "whether one case wins or every true one"),
    "to": (
        "target, `route:NAME`, or list",
        "always, beside the cases; `{ target = NAME, do = [...] }` has steps of its own",
    ),
    "once": ("text with `{CEL}`", "the key by which a repeat is recognised"),
    "once_for": ("duration", "how long, default 7d"),
    "keys": ("table of texts with `{CEL}`", "business keys to find a message by"),
    "bad": ("outcome", "what becomes of bad data; default `quarantine`"),
    "unmatched": ("outcome", "what becomes of a message that no case is true for; default `park`"),
    "expires": ("duration", "after that a delivery is not tried any more"),
    "retain": ("table", "how long closed messages stay"),
    "retry": ("name", "the retry policy"),
    "off, paused": ("text", "closed, with the reason; starts paused, with the reason"),
}
_TARGET: Final = {
    "limit": ("rate", "deliveries in a time"),
    "concurrency": ("whole number", "deliveries under way at once, default 8"),
    "order_by": ("text with `{CEL}`", "one after the other per key"),
    "when_stuck": ("`block`, `skip` or `park-key`", "what a dead head means for its followers; default `block`"),
    "retry": ("name", "the retry policy, default `patient`"),
    "timeout": ("duration", "of one attempt, default 30s"),
    "auth": ("name", "a login of `[auth.NAME]`"),
    "id_header": ("text", "where the delivery id travels"),
    "expires": ("duration", "after that a delivery is not tried any more"),
    "do": ("list of steps", "for every delivery to it"),
    "about, owner": ("text", "for people"),
    "off, paused": ("text", "with the reason"),
}
_HEAD: Final = """# The routing table

Written by `make docs` from the code; a test keeps it fresh. `esb check` names every fault of a table at once.

Durations are written `2s`, `1h30m` (`ms s m h d w`, m is minutes), sizes `5MB` (`B kB MB GB KiB MiB GiB`), rates `50/s`
(`/s /m /h /d`), shares `20%`. An *outcome* is `"quarantine"`, `"park"`, `"dead"`, `"note"`, `"reply 422 why"` or
`{ drop = "why" }`, as far as it makes sense there. An *expression* is CEL ([expressions.md](expressions.md)).
`include = ["routes.d/*.toml"]` adds files; every path counts from the file it stands in.

"""


def spelled(value: Any) -> str:
    """A text as TOML writes it in double quotes: a line break is seen."""
    return repr(str(value))[1:-1]


def words(kind: Any) -> str:
    """A type as people read it."""
    if kind in _UNITS:
        return _UNITS[kind]
    origin = get_origin(kind)
    if origin is Literal:
        return " or ".join(f"`{spelled(item)}`" for item in get_args(kind))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(filter(None, (words(item) for item in get_args(kind)))))
    if origin in (tuple, list):
        return f"list of {words(get_args(kind)[0])}"
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return f"table of {words(get_args(kind)[1])}"
    return "table" if isinstance(kind, type) and issubclass(kind, Struct) else getattr(kind, "__name__", str(kind))


def default(value: Any) -> str:
    """A default as the table would write it."""
    match value:
        case None | "" | ():
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case model.OutcomeSpec():
            return f'`"{value.kind}"`'
        case Struct():
            return "its defaults"
        case units.Duration() | units.Size() | units.Rate() | units.Percent() | str():
            return f'`"{spelled(value)}"`'
        case dict() if not value:
            return ""
        case _:
            return f"`{value}`"


def rows(kind: type[Struct], *, without: frozenset[str] = frozenset()) -> Iterator[str]:
    """One row a key."""
    hints = typing.get_type_hints(kind)
    for field in fields(kind):
        if field.name in without:
            continue
        value = field.default if field.default is not NODEFAULT else None
        if field.default is NODEFAULT and field.default_factory is not NODEFAULT:
            value = field.default_factory()
        must = "must be given" if field.required else default(value)
        yield f"| `{field.encode_name}` | {words(hints[field.name])} | {must} |"


def section(title: str, kind: type[Struct], text: str) -> str:
    table = "\n".join(["| key | type | default |", "| --- | --- | --- |", *rows(kind)])
    return f"## `[{title}]`\n\n{text}\n\n{table}\n"


def listed(title: str, text: str, keys: Mapping[str, tuple[str, str]]) -> str:
    """A table that is not one Struct in the file."""
    found = [f"| `{name.replace(', ', '`, `')}` | {kind} | {about} |" for name, (kind, about) in keys.items()]
    return "\n".join([f"## `[{title}]`", "", text, "", "| key | type | what |", "| --- | --- | --- |", *found, ""])


def component(item: Component[Any]) -> str:
    """One component with its options and example."""
    told = inspect.getdoc(item.options) or ""
    told = "" if told.startswith(f"{item.options.__name__}(") else told
    table = "\n".join(["| option | type | default |", "| --- | --- | --- |", *rows(item.options)])
    table = table.replace(f"| `{item.main}` |", f"| `{item.name}` |", 1)
    return f"### `{item.name}` ({item.kind})\n\n{item.about}. {told}\n\n{table}\n\n```\n{item.example}\n```\n"


def page(registry: Registry) -> str:
    """All of `docs/table.md`."""
    parts = [_HEAD]
    parts += [section(title, kind, text) for title, kind, text in _TABLES]
    parts.append(listed("route.NAME", "One way of messages from a source to targets.", _ROUTE))
    parts.append(
        listed("target.NAME", "Beside the one key that names its adapter and that adapter's options.", _TARGET)
    )
    parts.append(_REST)
    for kind in ("source", "target", "step", "codec"):
        parts.append(f"## Components: {kind}s\n")
        parts += [component(registry.components[(kind, name)]) for name in registry.names(kind)]
    return "\n".join(parts)


_REST: Final = """## The others

| table | what stands in it |
| --- | --- |
| `[secrets]` | `name = "env:VAR"`, `"file:/path"` or `"credential:NAME"`; read at use, never printed |
| `[auth.NAME]` out | `bearer = "secret:x"`; `basic = true` with `user`, `password`; `header = "X-Key"` with `secret` |
| | `oauth2 = "https://token"` with `id`, `secret`, `scope` |
| `[auth.NAME]` in | `api-key = "file:keys"`; `esb key new` |
| `[namespaces]` | `prefix = "urn:..."` for XML and xpath; `default` |
| `[var]` | constants for expressions: `var.name` |
| `[steps.NAME]` | `do = [...]`, used as `{ use = "NAME" }` |
| `[map.NAME]` | target field = CEL; `{ text = "EUR" }`; `{ each = CEL, map = "NAME" }`; dotted keys nest |
| `[[test]]` | `name`, `route`, `given = { file or text, header }`, `answers = { TARGET = ["503", "200"] }` |
| | `expect = { case, delivered, bodies, dropped, reply, state, parts }` |

A source also takes `reply` (`"202 after stored"`, `"200 after delivered"`, `"200 after delivered:TARGET"`,
`"from:TARGET"`), `once`, `every`, `auth`; any step takes `if = 'CEL'`, `bad`, `note`.
"""


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(load_plugins()))
