"""`[route.NAME]`: where its messages come from, its steps, its cases, and what becomes of the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esb.table import forms, keys, values
from esb.table.draft import Draft, Said
from esb.table.model import CaseSpec, OutcomeSpec, Place, ReplySpec, Retain, RouteSpec, SourceSpec
from esb.table.notes import closest, route_of
from esb.table.plain import Plain
from esb.table.steps import read_steps
from esb.table.targets import read_to
from esb.units import Duration, Template

_PLACEMENT = ("every node", "one node")


def read_route(draft: Draft, name: str, value: Mapping[str, Any]) -> RouteSpec:
    place: Place = ("route", name)
    values.check_name(name, place, draft.notes)
    for key in sorted(set(value) - keys.ROUTE):
        keys.unknown(draft.notes, place, key, closest(key, keys.ROUTE), f'route "{name}": ')
    plain = Plain(value, place, draft.notes)
    sources, from_route, once = _sources(draft, value, place)
    cases = _cases(draft, value.get("cases", []), place)
    to = read_to(draft, value.get("to", []), (*place, "to"))
    if not value.get("cases") and not value.get("to"):
        draft.notes.add(place, "E167", f'route "{name}" leads nowhere', "give it to = [...] or cases = [...]")
    return RouteSpec(
        name=name,
        place=place,
        about=plain.text("about"),
        owner=_owner(draft, plain, place),
        contact=plain.text("contact"),
        runbook=plain.text("runbook"),
        why=plain.text("why"),
        review_by=str(value.get("review_by", "")),
        sources=sources,
        from_route=from_route,
        do=read_steps(draft, value.get("do", []), (*place, "do")),
        cases=cases,
        to=to,
        match=plain.choice("match", ("first", "all"), "first"),
        once=draft.template(plain, place, "once") or once,
        once_for=plain.quantity("once_for", Duration, draft.defaults.once_for),
        keys=_keys(draft, value.get("keys", {}), (*place, "keys")),
        retain=_retain(draft, value, place),
        expires=plain.quantity("expires", Duration),
        retry=draft.retry(plain, place, None),
        bad=draft.outcome(value, "bad", place, forms.BAD, draft.defaults.bad),
        unmatched=draft.outcome(value, "unmatched", place, forms.UNMATCHED, draft.defaults.unmatched),
        off=plain.text("off", None),
        paused=plain.text("paused", None),
    )


def _owner(draft: Draft, plain: Plain, place: Place) -> str:
    owner: str = plain.text("owner", draft.defaults.owner)
    if not owner.strip():
        hint = 'write owner = "team@example.org" here or under [defaults]'
        draft.notes.add(place, "E168", f"{route_of(place)}nobody owns it", hint)
    return owner


def _retain(draft: Draft, value: Mapping[str, Any], place: Place) -> Retain:
    found = value.get("retain")
    if found is None:
        return draft.defaults.retain
    if not isinstance(found, Mapping):
        draft.wrong((*place, "retain"), "retain is not a table", 'write retain = { body = "7d", journey = "90d" }')
        return draft.defaults.retain
    return values.convert(found, Retain, (*place, "retain"), draft.notes) or draft.defaults.retain


def _keys(draft: Draft, value: Any, place: Place) -> Mapping[str, Template]:
    """Business keys by which a message is found again."""
    if not isinstance(value, Mapping) or not all(isinstance(item, str) for item in value.values()):
        draft.wrong(place, "keys is not a table of texts", 'write keys = { order = "{body.id}" }')
        return {}
    draft.said += [Said(text, (*place, name), True) for name, text in value.items()]
    return {name: Template(text) for name, text in value.items()}


def _sources(
    draft: Draft, route: Mapping[str, Any], place: Place
) -> tuple[tuple[SourceSpec, ...], bool, Template | None]:
    """The sources, whether other routes hand messages over, and the first `once` that a source says."""
    value = route.get("from", [])
    items = value if isinstance(value, list) else [value]
    made: list[SourceSpec] = []
    from_route = False
    for index, item in enumerate(items):
        here: Place = (*place, "from", index) if isinstance(value, list) else (*place, "from")
        if not isinstance(item, Mapping):
            draft.wrong(here, "from is not a table", 'write from = { http = "POST /orders" }')
        elif "route" in item:
            from_route = True
            _handed(draft, item, here)
        else:
            source = _source(draft, item, here)
            made += [source] if source is not None else []
    if not items:
        hint = 'write from = { file = "in" }, or from = { route = true } when other routes lead here'
        draft.notes.add(place, "E162", f"{route_of(place)}no from says where its messages come from", hint)
    once = next((source.once for source in made if source.once is not None), None)
    return tuple(made), from_route, once


def _handed(draft: Draft, item: Mapping[str, Any], place: Place) -> None:
    if item["route"] is not True:
        draft.wrong((*place, "route"), "route takes true", "write from = { route = true }")
    for key in sorted(set(item) - {"route"}):
        hint = "what other routes hand over comes without options"
        keys.unknown(draft.notes, place, key, hint, route_of(place))


def _source(draft: Draft, value: Mapping[str, Any], place: Place) -> SourceSpec | None:
    found = draft.catalogue.find("source", value, place)
    plain = Plain(value if found is None else found.common, place, draft.notes)
    reply, auth = _reply(draft, value, place), draft.auth(plain, place)
    if found is None:
        return None
    if "reply" in value and not found.component.answers:
        said = f"{route_of(place)}a {found.component.name} source has nobody to answer"
        draft.notes.add((*place, "reply"), "E177", said, "leave reply out", key=True)
    if getattr(found.options, "cron", "") is None and "every" not in value:
        said = f"{route_of(place)}a {found.component.name} needs one of every and cron"
        hint = 'write every = "5m" or cron = "0 6 * * 1-5"'
        draft.notes.add((*place, found.component.name), "E241", said, hint, key=True)
    return SourceSpec(
        component=found.component,
        options=found.options,
        place=place,
        folder=draft.folder(place),
        once=draft.template(plain, place, "once"),
        reply=reply,
        every=plain.quantity("every", Duration),
        auth=auth,
        placement=plain.choice("placement", _PLACEMENT, None),
    )


def _reply(draft: Draft, value: Mapping[str, Any], place: Place) -> ReplySpec:
    if "reply" not in value:
        return ReplySpec()
    here: Place = (*place, "reply")
    said = value["reply"]
    spec = forms.read(lambda: forms.reply(said), here, draft.notes) or ReplySpec()
    if spec.target is not None:
        if isinstance(said, Mapping):
            key = "from" if "from" in said else "answer"
            here, said = (*here, key), said[key]
        offset = said.rfind(spec.target)
        draft.known(spec.target, draft.names.targets, here, "target", "E206", offset=offset)
    return spec


def _cases(draft: Draft, value: Any, route: Place) -> tuple[CaseSpec, ...]:
    place: Place = (*route, "cases")
    if isinstance(value, Mapping):
        draft.catalogue.not_yet("cases", place, "a decision table")
        return ()
    if not isinstance(value, list):
        draft.wrong(place, "cases is not a list", "write cases = [{ name = ..., when = ..., to = [...] }]")
        return ()
    made: list[CaseSpec] = []
    names: set[str] = set()
    otherwise = False
    for index, item in enumerate(value):
        here: Place = (*place, index)
        if not isinstance(item, Mapping):
            draft.wrong(here, "a case is a table", 'write { name = "big", when = ..., to = [...] }')
            continue
        case = _case(draft, item, here, index)
        _in_order(draft, case, names, otherwise)
        otherwise = otherwise or item.get("otherwise") is True
        names.add(case.name)
        made.append(case)
    return tuple(made)


def _in_order(draft: Draft, case: CaseSpec, names: set[str], otherwise: bool) -> None:
    front = route_of(case.place)
    if otherwise:
        said = f'{front}case "{case.name}" stands after the otherwise and is never asked'
        draft.notes.add(case.place, "E163", said, "put the otherwise last")
    if case.name in names:
        said = f'{front}two cases are named "{case.name}"'
        draft.notes.add((*case.place, "name"), "E164", said, "the name shows up in every list: make it tell them apart")


def _case(draft: Draft, value: Mapping[str, Any], place: Place, index: int) -> CaseSpec:
    for key in sorted(set(value) - keys.CASE):
        keys.unknown(draft.notes, place, key, closest(key, keys.CASE), route_of(place))
    plain = Plain(value, place, draft.notes)
    name = plain.text("name", "") or f"case-{index + 1}"
    when = draft.expression(_when(draft, plain, place, name), (*place, "when"))
    return CaseSpec(
        place=place,
        name=name,
        when=when,
        do=read_steps(draft, value.get("do", []), (*place, "do")),
        to=read_to(draft, value.get("to", []), (*place, "to")),
        outcome=_end(draft, value, place, name),
        note=plain.text("note"),
    )


def _end(draft: Draft, value: Mapping[str, Any], place: Place, name: str) -> OutcomeSpec | None:
    """What the case comes to, when not to targets."""
    ends = [key for key in keys.ENDS if key in value]
    if len(ends) != 1:
        said = "has no end" if not ends else f"has {' and '.join(ends)}"
        hint = "a case ends in exactly one of to, drop, park, dead, reply"
        draft.notes.add(place, "E165", f'{route_of(place)}case "{name}" {said}', hint)
        return None
    (kind,) = ends
    said = value[kind]
    if kind == "to":
        if said in ([], ""):
            draft.notes.add(
                (*place, "to"), "E165", f'{route_of(place)}case "{name}" leads nowhere', 'write drop = "why"'
            )
        return None
    if not isinstance(said, str):
        draft.wrong((*place, kind), f"{kind} is not a text", f'write {kind} = "why"')
        return None
    return forms.read(lambda: forms.reasoned(kind, said, forms.CASE), (*place, kind), draft.notes)


def _when(draft: Draft, plain: Plain, place: Place, name: str) -> str | None:
    otherwise = plain.truth("otherwise")
    when: str | None = plain.text("when", None)
    if otherwise == (when is not None):
        hint = "write when = 'CEL', or otherwise = true"
        draft.notes.add(place, "E166", f'{route_of(place)}case "{name}" needs one of when and otherwise', hint)
    return when
