"""`[target.NAME]`, and the items of `to` that name one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esb.table import forms, keys, values
from esb.table.draft import Draft
from esb.table.model import Place, StepSpec, TargetBacklog, TargetSpec, ToSpec
from esb.table.notes import one_of, route_of
from esb.table.plain import Plain
from esb.table.steps import read_steps
from esb.units import Duration

_TO = ("target", "do")
_STUCK = ("block", "skip", "park-key")


def read_target(draft: Draft, name: str, value: Mapping[str, Any]) -> TargetSpec | None:
    place: Place = ("target", name)
    values.check_name(name, place, draft.notes)
    found = draft.catalogue.find("target", value, place)
    plain = Plain(value if found is None else found.common, place, draft.notes)
    rate = forms.read(lambda: forms.limit(value["limit"]), (*place, "limit"), draft.notes) if "limit" in value else None
    do = read_steps(draft, value.get("do", []), (*place, "do"))
    auth, retry = draft.auth(plain, place), draft.retry(plain, place, draft.defaults.retry)
    if found is None:
        return None
    return TargetSpec(
        component=found.component,
        options=found.options,
        place=place,
        folder=draft.folder(place),
        name=name,
        auth=auth,
        limit=None if rate is None else rate[0],
        burst=None if rate is None else rate[1],
        concurrency=plain.number("concurrency", 8),
        order_by=draft.template(plain, place, "order_by"),
        when_stuck=plain.choice("when_stuck", _STUCK, "block"),
        retry=retry,
        timeout=plain.quantity("timeout", Duration, Duration(30)),
        owner=plain.text("owner", draft.defaults.owner),
        about=plain.text("about"),
        off=plain.text("off", None),
        paused=plain.text("paused", None),
        open_after=plain.number("open_after", None),
        do=do,
        id_header=plain.text("id_header", None),
        expires=plain.quantity("expires", Duration),
        backlog=_backlog(draft, value, place),
    )


def _backlog(draft: Draft, value: Mapping[str, Any], place: Place) -> TargetBacklog | None:
    found = value.get("backlog")
    if found is None:
        return None
    if not isinstance(found, Mapping):
        draft.wrong((*place, "backlog"), "backlog is not a table", 'write backlog = { rows = 100000, size = "1GB" }')
        return None
    return values.convert(found, TargetBacklog, (*place, "backlog"), draft.notes)


def read_to(draft: Draft, value: Any, place: Place) -> tuple[ToSpec, ...]:
    """`["wms", "route:invoices", { target = "bank", do = [...] }]`, or one of them."""
    items = value if isinstance(value, list) else [value]
    made: list[ToSpec] = []
    for index, item in enumerate(items):
        spec = _item(draft, item, (*place, index) if isinstance(value, list) else place)
        made += [spec] if spec is not None else []
    return tuple(made)


def _item(draft: Draft, item: Any, place: Place) -> ToSpec | None:
    name, where = item, place
    do: tuple[StepSpec, ...] = ()
    if isinstance(item, Mapping):
        for key in sorted(set(item) - set(_TO)):
            keys.unknown(draft.notes, place, key, one_of(key, _TO), route_of(place))
        name, where = item.get("target"), (*place, "target")
        do = read_steps(draft, item.get("do", []), (*place, "do"))
    if not isinstance(name, str):
        draft.wrong(place, "not a target", 'write to = ["erp", { target = "bank", do = [...] }]')
        return None
    if name.startswith("route:"):
        draft.known(name[6:], draft.names.routes, where, "route", "E212", offset=6)
        return ToSpec(place=place, route=name[6:], do=do)
    draft.known(name, draft.names.targets, where, "target", "E206", offset=0)
    return ToSpec(place=place, target=name, do=do)
