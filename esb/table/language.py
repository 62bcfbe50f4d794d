"""The expressions of a table, read and checked, each with its findings at their place in the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import tzinfo
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from esb.expressions import Environment, ExpressionProblems, Finding, Program, TemplateProgram
from esb.masking import is_secret
from esb.plugins import Registry
from esb.table.model import Place, Table
from esb.table.notes import Notes, closest, route_of

Scope = Literal["message", "item", "answer"]
_MESSAGE: Final = frozenset({"body", "raw", "header", "source", "part", "parent", "message", "now", "today", "var"})
_VARIABLES: Final[Mapping[Scope, frozenset[str]]] = {
    "message": _MESSAGE,
    "item": _MESSAGE | {"item"},
    "answer": frozenset({"status", "reply", "var"}),
}
"""What an expression may name: over a message, in a map that `each` uses, in a target's `ok`."""
_WORD: Final = re.compile(r"\w+")
_MOMENTS: Final = {
    "item": "item is the element in a map that an each uses",
    "status": "status and reply are what a target's ok looks at",
    "reply": "status and reply are what a target's ok looks at",
}
_LOGINS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"})
_FORMS: Final = 'write { text = "EUR" } or { each = CEL, map = "NAME" }'


def late_environment(table: Table, registry: Registry) -> Environment:
    """What a bus of this table would compile with; for opening its steps without running any."""
    return Environment(functions=registry.functions, budget=table.bus.budget, zone=_zone(table))


def _zone(table: Table) -> tzinfo:
    try:
        return ZoneInfo(table.bus.time_zone)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")


class Language:
    """Checks each text once, however often it stands in the table."""

    def __init__(self, table: Table, registry: Registry, notes: Notes) -> None:
        self._table = table
        self._notes = notes
        self._registry = registry
        self._mapped: set[str] = set()
        self._faults: dict[tuple[str, bool, Scope], ExpressionProblems] = {}
        zone = _zone(table)
        self._environments = {
            scope: Environment(registry.functions, table.bus.budget, zone, variables)
            for scope, variables in _VARIABLES.items()
        }

    def program(self, text: str, scope: Scope = "message") -> Program | None:
        """The expression; None when it is none."""
        found = self._tried(text, False, scope)
        return found if isinstance(found, Program) else None

    def template(self, text: str) -> TemplateProgram | None:
        """The template; None when it is none."""
        found = self._tried(text, True, "message")
        return found if isinstance(found, TemplateProgram) else None

    def programs(self, text: str, template: bool) -> list[Program]:
        """The expression, or all of a template."""
        if not template:
            found = self.program(text)
            return [] if found is None else [found]
        filled = self.template(text)
        return [] if filled is None else [part for part in filled.segments if not isinstance(part, str)]

    def check(self, text: str, place: Place, *, template: bool, scope: Scope = "message") -> None:
        """Notes what is wrong with a text, at its place."""
        if template and "{" not in text and "}" not in text:
            return
        if isinstance(problems := self._tried(text, template, scope), ExpressionProblems):
            for finding in problems.findings:
                hint = self._hint(finding.hint, text, finding.offset, finding.length, place)
                said = f"{route_of(place)}{finding.message}"
                left_out = self._left_out(finding, text)
                if left_out:
                    self._notes.lack(place, finding.code, said, left_out, left_out, offset=finding.offset)
                    continue
                self._notes.add(
                    place, finding.code, said, hint, offset=finding.offset, severity=finding.severity
                )  # fmt: skip

    def _left_out(self, finding: Finding, text: str) -> str:
        """Why the plugin of a function that is not there was left out; "" for anything else."""
        word = _WORD.match(text, finding.offset)
        plugin = self._registry.left_out(word[0]) if finding.code == "E222" and word is not None else None
        return "" if plugin is None else f"the plugin {plugin.name} was left out: {plugin.refused}"

    def _tried(self, text: str, template: bool, scope: Scope) -> Program | TemplateProgram | ExpressionProblems:
        key = (text, template, scope)
        if key in self._faults:
            return self._faults[key]
        environment = self._environments[scope]
        try:
            return environment.compile_template(text) if template else environment.compile(text)
        except ExpressionProblems as problems:
            self._faults[key] = problems
            return problems

    def _hint(self, hint: str, text: str, offset: int, length: int, place: Place) -> str:
        word = text[offset : offset + length]
        if place[0] == "map" and text.isidentifier() and text != "item" and not hint.startswith("did you mean"):
            return f'for the text write {{ text = "{text}" }}'
        return _MOMENTS.get(word, hint)

    def is_literal_secret(self, name: str, text: str) -> bool:
        """A constant value under a name that says secret."""
        secret = name.lower() in _LOGINS or is_secret(name)
        return secret and bool(text.strip()) and not text.startswith("secret:") and "{" not in text

    def mapped(self, name: str) -> None:
        """A step makes a body by this map."""
        self._mapped.add(name)

    def maps(self) -> None:
        """Checks the fields of every map: one that only an `each` uses has an `item`."""
        for name, spec in self._table.maps.items():
            scope: Scope = "message" if name in self._mapped else "item"
            self._map(spec.fields, ("map", name), scope)

    def _map(self, fields: Mapping[str, Any], place: Place, scope: Scope) -> None:
        """A string is CEL, `{ text = }` a text, `{ each = CEL, map = NAME }` a list, any other table an object."""
        for key, value in fields.items():
            here: Place = (*place, key)
            if isinstance(value, str):
                self.check(value, here, template=False, scope=scope)
            elif isinstance(value, Mapping):
                self._form(value, here, scope)
            elif isinstance(value, (list, float)) or type(value).__module__ == "datetime":
                said = f"{route_of(place)}{key} is no value of a map"
                self._notes.add(here, "E174", said, "write CEL in quotes, a number, true or false")

    def _form(self, value: Mapping[str, Any], place: Place, scope: Scope) -> None:
        keys = set(value)
        if keys == {"text"} and isinstance(value["text"], str):
            return
        if keys == {"each", "map"} and isinstance(value["each"], str):
            self.check(value["each"], (*place, "each"), template=False, scope=scope)
            if str(value["map"]) not in self._table.maps:
                said = f'{route_of(place)}no map named "{value["map"]}"'
                hint = closest(str(value["map"]), self._table.maps)
                self._notes.add((*place, "map"), "E207", said, hint, offset=0)
        elif keys & {"text", "each"}:
            self._notes.add(place, "E174", f"{route_of(place)}not a form of a map's field", _FORMS)
        else:
            self._map(value, place, scope)
