"""What the readers of routes, targets and steps share while the specs are made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from esb.table import forms
from esb.table.components import Catalogue
from esb.table.model import Defaults, OutcomeSpec, Place
from esb.table.notes import Notes, closest, route_of
from esb.table.plain import Plain
from esb.units import Template


class Said(NamedTuple):
    """An expression, or a template with expressions in it, and where it stands."""

    text: str
    place: Place
    template: bool


class Names(NamedTuple):
    """The plain tables that can be referred to by name."""

    steps: Mapping[str, Any]
    targets: Mapping[str, Any]
    routes: Mapping[str, Any]
    retry: Mapping[str, Any]
    auth: Mapping[str, Any]


class Draft:
    """Notes what is wrong, and gathers the expressions that stand outside of components' options. `broken` are the
    routes and targets with a step that could not be made: what follows from their steps is not looked at."""

    def __init__(self, notes: Notes, catalogue: Catalogue, defaults: Defaults, names: Names, main: Path) -> None:
        self.notes = notes
        self.catalogue = catalogue
        self.defaults = defaults
        self.names = names
        self.said: list[Said] = []
        self.broken: set[Place] = set()
        self._main = main

    def folder(self, place: Place) -> Path | None:
        """The folder of the file a place stands in; None for the main file's."""
        folder = self.notes.atlas.folder(place)
        return None if folder == self._main else folder

    def lacks(self, owner: Place, place: Place) -> None:
        """A route or a target needs what is not to be had at another place (in `[steps.NAME]`)."""
        why = self.notes.why_lacking(place)
        if why is not None:
            self.notes.lacking.setdefault(owner, why)

    def known(
        self, name: Any, known: Mapping[str, Any], place: Place, what: str, code: str, *, offset: int | None = None
    ) -> Any:
        """The same name; noted when it is none of those there are."""
        if name is not None and name not in known:
            said = f'{route_of(place)}no {what} named "{name}"'
            self.notes.add(place, code, said, closest(str(name), known), offset=offset)
        return name

    def auth(self, plain: Plain, place: Place) -> Any:
        return self.known(plain.text("auth", None), self.names.auth, (*place, "auth"), "auth", "E209")

    def retry(self, plain: Plain, place: Place, default: str | None) -> Any:
        return self.known(plain.text("retry", default), self.names.retry, (*place, "retry"), "retry policy", "E208")

    def expression(self, text: str | None, place: Place) -> str | None:
        """Plain CEL, remembered to be checked."""
        if text is not None:
            self.said.append(Said(text, place, False))
        return text

    def template(self, plain: Plain, place: Place, key: str) -> Template | None:
        """A text with `{CEL}`, remembered to be checked."""
        found = plain.template(key)
        if found is not None:
            self.said.append(Said(found, (*place, key), True))
        return found

    def outcome(
        self, value: Mapping[str, Any], key: str, place: Place, allowed: tuple[str, ...], default: OutcomeSpec
    ) -> OutcomeSpec:
        """An outcome, or the default where none is said."""
        if key not in value:
            return default
        return forms.read(lambda: forms.outcome(value[key], allowed), (*place, key), self.notes) or default

    def wrong(self, place: Place, said: str, hint: str) -> None:
        """Notes a value of the wrong shape."""
        self.notes.add(place, "E112", f"{route_of(place)}{said}", hint)
