"""Finding the component that a table names, and its options as that component's Struct."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import msgspec

from esb.plugins import Registry
from esb.ports import RESERVED, Component, Kind
from esb.table import values
from esb.table.model import Place
from esb.table.notes import Notes, closest, route_of

LATER = {"poll", "batch", "window", "except", "lookup", "topic"}
"""Words of the table that this version does not have."""
COMMON: Mapping[Kind, frozenset[str]] = {kind: RESERVED[kind] for kind in RESERVED}  # type: ignore[misc]


class Found(msgspec.Struct, frozen=True):
    """A component, its options, and the common keys that stood beside them."""

    component: Component[Any]
    options: Any
    common: Mapping[str, Any]


class Catalogue:
    """The registry, asked in the table's words."""

    def __init__(self, registry: Registry, notes: Notes) -> None:
        self._registry = registry
        self._notes = notes

    def find(self, kind: Kind, value: Mapping[str, Any], place: Place) -> Found | None:
        """Exactly one key of `value` names a component; the others are its options or belong to the bus."""
        component = self._named(kind, value, place)
        if component is None:
            return None
        common = {key: item for key, item in value.items() if key in RESERVED[kind] and key != component.name}
        options = {key: item for key, item in value.items() if key not in common and key != component.name}
        later = sorted(LATER & value.keys())
        for key in later:
            self._later(key, (*place, key))
        options[component.main] = value[component.name]
        made = self._options(component, options, place)
        return None if made is None or later else Found(component, made, common)

    def _named(self, kind: Kind, value: Mapping[str, Any], place: Place) -> Component[Any] | None:
        known = {name: self._registry.get(kind, name) for name in self._registry.names(kind)}
        named = [key for key in value if key in known]
        if len(named) > 1:
            # A component's name may also be an option of another: the one whose options cover the rest is meant.
            named = [key for key in named if self._covers(known[key], kind, value)] or named
        if len(named) != 1:
            self._not_one(kind, value, named, known, place)
            return None
        component = known[named[0]]
        assert component is not None
        return component if self._usable(component, (*place, component.name)) else None

    def _covers(self, component: Component[Any] | None, kind: Kind, value: Mapping[str, Any]) -> bool:
        assert component is not None
        fields = set(component.options.__struct_encode_fields__) | {component.name} | RESERVED[kind]
        return set(value) <= fields

    def _not_one(
        self, kind: Kind, value: Mapping[str, Any], named: list[str], known: Mapping[str, Any], place: Place
    ) -> None:
        front = route_of(place)
        if named:
            said = " and ".join(f'"{name}"' for name in named)
            self._notes.add(place, "E202", f"{front}{said} are both a {kind}", "keep one")
            return
        if later := sorted(LATER & value.keys()):
            self._later(later[0], (*place, later[0]))
            return
        word = next((key for key in value if key not in RESERVED[kind]), "")
        refused = next((item for item in self._registry.plugins if item.refused and word in item.name), None)
        hint = f"the plugin {refused.name} was left out: {refused.refused}" if refused else closest(word, known)
        self._notes.add((*place, word) if word else place, "E203", f'{front}no {kind} named "{word}"', hint, key=True)

    def _later(self, key: str, place: Place) -> None:
        self._notes.add(
            place, "E150", f'{route_of(place)}"{key}" is not in this version of esb', "leave it out", key=True
        )

    def _usable(self, component: Component[Any], place: Place) -> bool:
        """A missing extra is told with the exact line to type, before the first message."""
        for module, extra in component.needs.items():
            if importlib.util.find_spec(module) is None:
                said = f'{route_of(place)}"{component.name}" needs a package that is not installed'
                self._notes.add(place, "E204", said, f"pip install 'esb[{extra}]'", key=True)
                return False
        return True

    def _options(self, component: Component[Any], options: Mapping[str, Any], place: Place) -> Any:
        aliases = {component.main: component.name}
        if "codec_options" in component.options.__struct_fields__:
            options = self._with_codec(component, options, place)
            if options is None:
                return None
        return values.convert(options, component.options, place, self._notes, aliases)

    def _with_codec(self, component: Component[Any], options: Mapping[str, Any], place: Place) -> Any:
        """read and write take their format's options beside their own."""
        own = component.options.__struct_encode_fields__
        rest = {key: item for key, item in options.items() if key not in own}
        name = options[component.main]
        codec = self._registry.get("codec", name) if isinstance(name, str) else None
        if codec is None:
            known = self._registry.names("codec")
            self._notes.add(
                (*place, component.name), "E205", f'{route_of(place)}no format "{name}"', closest(str(name), known)
            )
            return None
        checked = values.convert(
            {codec.main: name, **rest}, codec.options, place, self._notes, {codec.main: component.name}
        )
        if checked is None:
            return None
        return {**{key: item for key, item in options.items() if key in own}, "codec_options": rest}
