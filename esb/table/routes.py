"""Routes, targets and steps: plain values into the specs of model.py, with every name looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from esb.table import forms, values
from esb.table.components import Catalogue
from esb.table.model import (
    CaseSpec,
    Defaults,
    OutcomeSpec,
    Place,
    ReplySpec,
    Retain,
    RouteSpec,
    SourceSpec,
    StepSpec,
    TargetSpec,
    ToSpec,
)
from esb.table.notes import Notes, closest, route_of
from esb.units import Duration, Rate, Size, Template

BAD = ("quarantine", "reply", "dead", "note")
UNMATCHED = ("park", "dead", "drop", "reply")
_ENDS = ("to", "drop", "park", "dead", "reply")
_CASE = {"name", "when", "otherwise", "do", "note", *_ENDS}
_ROUTE = {
    "about", "owner", "contact", "runbook", "why", "review_by", "keys", "once", "once_for", "retain", "expires", "retry",
    "bad", "unmatched", "match", "from", "do", "cases", "to", "off", "paused",
}  # fmt: skip
_TARGET_LATER = ("batch", "window", "except", "accepts", "open_after")


class Plain:
    """Single values of a table taken out by key, each checked for its type."""

    def __init__(self, value: Mapping[str, Any], place: Place, notes: Notes) -> None:
        self._value = value
        self._place = place
        self._notes = notes

    def text(self, key: str, default: Any = "") -> Any:
        return self._of(key, str, default, "a text")

    def truth(self, key: str) -> bool:
        return bool(self._of(key, bool, False, "true or false"))

    def number(self, key: str, default: Any) -> Any:
        found = self._of(key, int, default, "a whole number")
        if found is not default and found < 1:
            self._notes.add(
                (*self._place, key), "E112", f"{route_of(self._place)}{key} is {found}", "it must be 1 or more"
            )
            return default
        return found

    def quantity(self, key: str, kind: type[Duration] | type[Size] | type[Rate], default: Any = None) -> Any:
        if key not in self._value:
            return default
        try:
            return kind.parse(self._value[key])
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            self._notes.add((*self._place, key), "E112", f"{route_of(self._place)}{key}: {message}", hint)
            return default

    def choice(self, key: str, words: Sequence[str], default: str) -> Any:
        found = self.text(key, default)
        if found not in words:
            said = f'{route_of(self._place)}{key} cannot be "{found}"'
            self._notes.add((*self._place, key), "E113", said, f"it is one of {', '.join(words)}")
            return default
        return found

    def template(self, key: str) -> Template | None:
        found = self.text(key, None)
        return None if found is None else Template(found)

    def _of(self, key: str, kind: type, default: Any, wanted: str) -> Any:
        if key not in self._value:
            return default
        found = self._value[key]
        if type(found) is not kind:
            self._notes.add((*self._place, key), "E112", f"{route_of(self._place)}{key} is not {wanted}")
            return default
        return found


class Drafting:
    """Makes the specs of one table. `steps`, `targets` and `routes` are the plain tables by name."""

    def __init__(
        self,
        catalogue: Catalogue,
        notes: Notes,
        defaults: Defaults,
        *,
        steps: Mapping[str, Any],
        targets: Mapping[str, Any],
        routes: Mapping[str, Any],
        retry: Mapping[str, Any],
        auth: Mapping[str, Any],
    ) -> None:
        self._catalogue = catalogue
        self._notes = notes
        self._defaults = defaults
        self._steps = steps
        self._targets = targets
        self._routes = routes
        self._retry = retry
        self._auth = auth

    def target(self, name: str, value: Mapping[str, Any]) -> TargetSpec | None:
        place: Place = ("target", name)
        values.check_name(name, place, self._notes)
        for key in _TARGET_LATER:
            if key in value:
                said = f'target "{name}": "{key}" is not in this version of esb'
                self._notes.add((*place, key), "E150", said, "leave it out", key=True)
        found = self._catalogue.find("target", value, place)
        if found is None:
            return None
        plain = Plain(found.common, place, self._notes)
        return TargetSpec(
            component=found.component,
            options=found.options,
            place=place,
            name=name,
            auth=self._known(plain.text("auth", None), self._auth, (*place, "auth"), "auth", "E209"),
            limit=plain.quantity("limit", Rate),
            concurrency=plain.number("concurrency", 8),
            order_by=plain.template("order_by"),
            when_stuck=plain.choice("when_stuck", ("block", "skip", "park-key"), "block"),
            retry=self._known(
                plain.text("retry", self._defaults.retry), self._retry, (*place, "retry"), "retry policy", "E208"
            ),
            timeout=plain.quantity("timeout", Duration, Duration(30)),
            owner=plain.text("owner", self._defaults.owner),
            about=plain.text("about"),
            off=plain.text("off", None),
            paused=plain.text("paused", None),
            do=self.steps(found.common.get("do", []), (*place, "do")),
            id_header=plain.text("id_header", None),
            expires=plain.quantity("expires", Duration),
        )

    def _known(self, name: Any, known: Mapping[str, Any], place: Place, what: str, code: str) -> Any:
        if name is not None and name not in known:
            self._notes.add(place, code, f'{route_of(place)}no {what} named "{name}"', closest(str(name), known))
        return name

    def route(self, name: str, value: Mapping[str, Any]) -> RouteSpec:
        place: Place = ("route", name)
        values.check_name(name, place, self._notes)
        for key in sorted(set(value) - _ROUTE):
            self._notes.add(
                (*place, key), "E110", f'route "{name}": unknown key "{key}"', closest(key, _ROUTE), key=True
            )
        plain = Plain(value, place, self._notes)
        sources, from_route, once = self._sources(value.get("from", []), place)
        cases = self._cases(value.get("cases", []), place)
        to = self.to(value.get("to", []), (*place, "to"))
        if not cases and not to and "cases" not in value:
            self._notes.add(place, "E160", f'route "{name}" leads nowhere', "give it to = [...] or cases = [...]")
        return RouteSpec(
            name=name,
            place=place,
            about=plain.text("about"),
            owner=self._owner(plain, place),
            contact=plain.text("contact"),
            runbook=plain.text("runbook"),
            why=plain.text("why"),
            review_by=str(value.get("review_by", "")),
            sources=sources,
            from_route=from_route,
            do=self.steps(value.get("do", []), (*place, "do")),
            cases=cases,
            to=to,
            match=plain.choice("match", ("first", "all"), "first"),
            once=plain.template("once") or once,
            once_for=plain.quantity("once_for", Duration, self._defaults.once_for),
            keys=self._keys(value.get("keys", {}), (*place, "keys")),
            retain=self._retain(value, place),
            expires=plain.quantity("expires", Duration),
            retry=self._known(plain.text("retry", None), self._retry, (*place, "retry"), "retry policy", "E208"),
            bad=self._outcome(value, "bad", place, BAD, self._defaults.bad),
            unmatched=self._outcome(value, "unmatched", place, UNMATCHED, self._defaults.unmatched),
            off=plain.text("off", None),
            paused=plain.text("paused", None),
        )

    def _owner(self, plain: Plain, place: Place) -> str:
        owner: str = plain.text("owner", self._defaults.owner)
        if not owner:
            hint = 'write owner = "team@example.org" here or under [defaults]'
            self._notes.add(place, "E161", f"{route_of(place)}nobody owns it", hint)
        return owner

    def _retain(self, value: Mapping[str, Any], place: Place) -> Retain:
        if "retain" not in value:
            return self._defaults.retain
        if not isinstance(value["retain"], Mapping):
            self._notes.add((*place, "retain"), "E112", f"{route_of(place)}retain is not a table", '{ body = "7d" }')
            return self._defaults.retain
        return values.convert(value["retain"], Retain, (*place, "retain"), self._notes) or self._defaults.retain

    def _outcome(
        self, value: Mapping[str, Any], key: str, place: Place, allowed: tuple[str, ...], default: OutcomeSpec
    ) -> OutcomeSpec:
        if key not in value:
            return default
        return forms.outcome(value[key], (*place, key), self._notes, allowed) or default

    def _keys(self, value: Any, place: Place) -> Mapping[str, Template]:
        if not isinstance(value, Mapping) or not all(isinstance(item, str) for item in value.values()):
            self._notes.add(
                place, "E112", f"{route_of(place)}keys is not a table of texts", 'keys = { order = "{body.id}" }'
            )
            return {}
        return {name: Template(text) for name, text in value.items()}

    def _sources(self, value: Any, place: Place) -> tuple[tuple[SourceSpec, ...], bool, Template | None]:
        items = value if isinstance(value, list) else [value]
        made: list[SourceSpec] = []
        from_route, once = False, None
        for index, item in enumerate(items):
            here: Place = (*place, "from", index) if isinstance(value, list) else (*place, "from")
            if not isinstance(item, Mapping):
                self._notes.add(
                    here, "E112", f"{route_of(here)}from is not a table", 'from = { http = "POST /orders" }'
                )
            elif item == {"route": True}:
                from_route = True
            else:
                source = self._source(item, here)
                made += [source] if source is not None else []
                once = once or (source.once if source is not None else None)
        if not items:
            self._notes.add(
                place, "E162", f"{route_of(place)}no from says where its messages come from", "from = { ... }"
            )
        return tuple(made), from_route, once

    def _source(self, value: Mapping[str, Any], place: Place) -> SourceSpec | None:
        found = self._catalogue.find("source", value, place)
        if found is None:
            return None
        plain = Plain(found.common, place, self._notes)
        reply = ReplySpec()
        if "reply" in found.common:
            reply = forms.reply(found.common["reply"], (*place, "reply"), self._notes) or reply
            if reply.target is not None:
                self._known(reply.target, self._targets, (*place, "reply"), "target", "E206")
        return SourceSpec(
            component=found.component,
            options=found.options,
            place=place,
            once=plain.template("once"),
            reply=reply,
            every=plain.quantity("every", Duration),
            auth=self._known(plain.text("auth", None), self._auth, (*place, "auth"), "auth", "E209"),
            placement=plain.text("placement", None),
        )

    def steps(self, value: Any, place: Place, through: tuple[str, ...] = ()) -> tuple[StepSpec, ...]:
        """`do`, with `use` written out."""
        if not isinstance(value, list):
            self._notes.add(place, "E112", f"{route_of(place)}do is not a list", "do = [{ ... }, { ... }]")
            return ()
        made: list[StepSpec] = []
        for index, item in enumerate(value):
            here: Place = (*place, index)
            if not isinstance(item, Mapping):
                self._notes.add(here, "E112", f"{route_of(here)}a step is a table", '{ read = "json" }')
            elif set(item) == {"use"}:
                made += self._use(item["use"], here, through)
            else:
                made += self._step(item, here)
        return tuple(made)

    def _use(self, name: Any, place: Place, through: tuple[str, ...]) -> tuple[StepSpec, ...]:
        if name not in self._steps:
            self._notes.add(
                (*place, "use"), "E210", f'{route_of(place)}no steps named "{name}"', closest(str(name), self._steps)
            )
            return ()
        if name in through:
            self._notes.add((*place, "use"), "E211", f'steps "{name}" use themselves: {" -> ".join((*through, name))}')
            return ()
        return self.steps(self._steps[name].get("do", []), ("steps", name, "do"), (*through, name))

    def _step(self, value: Mapping[str, Any], place: Place) -> list[StepSpec]:
        common = {key: value[key] for key in ("if", "bad", "note") if key in value}
        found = self._catalogue.find("step", {key: item for key, item in value.items() if key not in common}, place)
        if found is None:
            return []
        plain = Plain(common, place, self._notes)
        bad = forms.outcome(common["bad"], (*place, "bad"), self._notes, BAD) if "bad" in common else None
        return [
            StepSpec(
                component=found.component, options=found.options, place=place, condition=plain.text("if", None), bad=bad,
                note=plain.text("note"),
            )
        ]  # fmt: skip

    def to(self, value: Any, place: Place) -> tuple[ToSpec, ...]:
        """`["wms", "route:invoices", { target = "bank", do = [...] }]`, or one of them."""
        items = value if isinstance(value, list) else [value]
        made: list[ToSpec] = []
        for index, item in enumerate(items):
            here: Place = (*place, index) if isinstance(value, list) else place
            spec = self._item(item, here)
            made += [spec] if spec is not None else []
        return tuple(made)

    def _item(self, item: Any, place: Place) -> ToSpec | None:
        do: tuple[StepSpec, ...] = ()
        name = item
        where = place
        if isinstance(item, Mapping):
            for key in sorted(set(item) - {"target", "do"}):
                said = f'{route_of(place)}unknown key "{key}"'
                self._notes.add((*place, key), "E110", said, closest(key, ("target", "do")), key=True)
            name = item.get("target")
            where = (*place, "target")
            do = self.steps(item.get("do", []), (*place, "do"))
        if not isinstance(name, str):
            self._notes.add(
                place, "E112", f"{route_of(place)}not a target", 'to = ["erp", { target = "bank", do = [...] }]'
            )
            return None
        if name.startswith("route:"):
            self._known(name[6:], self._routes, where, "route", "E212")
            return ToSpec(place=place, route=name[6:], do=do)
        self._known(name, self._targets, where, "target", "E206")
        return ToSpec(place=place, target=name, do=do)

    def _cases(self, value: Any, route: Place) -> tuple[CaseSpec, ...]:
        place: Place = (*route, "cases")
        if isinstance(value, Mapping):
            self._notes.add(
                place, "E150", f"{route_of(place)}decision tables are not in this version of esb", "write cases"
            )
            return ()
        if not isinstance(value, list):
            self._notes.add(
                place, "E112", f"{route_of(place)}cases is not a list", "cases = [{ name = ..., when = ... }]"
            )
            return ()
        made: list[CaseSpec] = []
        names: set[str] = set()
        for index, item in enumerate(value):
            case = self._case(item, (*place, index), index)
            if case is None:
                continue
            if made and made[-1].when is None:
                said = f'{route_of(place)}case "{case.name}" stands after the otherwise and is never asked'
                self._notes.add(case.place, "E163", said, "put the otherwise last")
            if case.name in names:
                self._notes.add((*case.place, "name"), "E164", f'{route_of(place)}two cases are named "{case.name}"')
            names.add(case.name)
            made.append(case)
        return tuple(made)

    def _case(self, value: Any, place: Place, index: int) -> CaseSpec | None:
        if not isinstance(value, Mapping):
            self._notes.add(
                place, "E112", f"{route_of(place)}a case is a table", '{ name = "big", when = ..., to = [...] }'
            )
            return None
        for key in sorted(set(value) - _CASE):
            self._notes.add(
                (*place, key), "E110", f'{route_of(place)}unknown key "{key}"', closest(key, _CASE), key=True
            )
        plain = Plain(value, place, self._notes)
        name = plain.text("name", f"case-{index + 1}")
        self._one_end(value, place, name)
        when = self._when(value, plain, place, name)
        kind = next((key for key in _ENDS[1:] if isinstance(value.get(key), str)), None)
        outcome = None
        if kind is not None:
            outcome = forms.outcome_of(kind, value[kind], (*place, kind), self._notes, _ENDS[1:])
        return CaseSpec(
            place=place,
            name=name,
            when=when,
            do=self.steps(value.get("do", []), (*place, "do")),
            to=self.to(value.get("to", []), (*place, "to")),
            outcome=outcome,
            note=plain.text("note"),
        )

    def _one_end(self, value: Mapping[str, Any], place: Place, name: str) -> None:
        ends = [key for key in _ENDS if key in value]
        if len(ends) != 1:
            said = "has no end" if not ends else f"has {' and '.join(ends)}"
            hint = "a case ends in exactly one of to, drop, park, dead, reply"
            self._notes.add(place, "E165", f'{route_of(place)}case "{name}" {said}', hint)

    def _when(self, value: Mapping[str, Any], plain: Plain, place: Place, name: str) -> str | None:
        otherwise = plain.truth("otherwise")
        when: str | None = plain.text("when", None)
        if otherwise == (when is not None):
            hint = "write when = 'CEL', or otherwise = true"
            self._notes.add(place, "E166", f'{route_of(place)}case "{name}" needs one of when and otherwise', hint)
        return when
