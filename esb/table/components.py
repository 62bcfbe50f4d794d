"""Finding the component that a table names, and its options as that component's Struct."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from esb.plugins import PluginFile, Registry
from esb.ports import RESERVED, Component, Kind
from esb.table import keys, values
from esb.table.model import Place
from esb.table.notes import Notes, closest, near_to, one_of, route_of

LATER: Final = frozenset({"poll", "batch", "window", "except", "accepts", "node", "lookup", "topic"})
"""Words of the table that this version does not have."""
_TAKEN: Final[Mapping[Kind, frozenset[str]]] = {
    "source": keys.SOURCE,
    "target": keys.TARGET,
    "step": keys.STEP,
    "codec": frozenset(),
}
_OTHER: Final = {"read": "writing", "write": "reading"}
"""What a codec's options are for that such a step does not do."""
_LONG: Final = "codec_options"
"""A step whose options have this field takes its format's options beside its own (read, write)."""


class Found(msgspec.Struct, frozen=True):
    """A component, its options, and the common keys that stood beside them."""

    component: Component[Any]
    options: Any
    common: Mapping[str, Any]


class Catalogue:
    """The registry, asked in the table's words. `codecs` are the formats that reads and writes were given, with
    their options, by the step's place."""

    def __init__(self, registry: Registry, notes: Notes) -> None:
        self._registry = registry
        self._notes = notes
        self._known: dict[Kind, dict[str, Component[Any]]] = {kind: {} for kind in RESERVED}  # type: ignore[misc]
        for (kind, name), component in registry.components.items():
            self._known[kind][name] = component
        self.codecs: list[tuple[Place, Found]] = []

    def find(self, kind: Kind, value: Mapping[str, Any], place: Place) -> Found | None:
        """Exactly one key of `value` names a component; the others are its options or belong to the bus."""
        component = self._named(kind, value, place)
        if component is None:
            return None
        reserved = RESERVED[kind] - {component.name}
        common = {key: item for key, item in value.items() if key in reserved}
        options = {key: item for key, item in value.items() if key not in reserved and key != component.name}
        later = [key for key in common if key not in _TAKEN[kind]]
        for key in later:
            self.not_yet(key, (*place, key))
        options[component.main] = value[component.name]
        made = self._options(component, options, place)
        return None if made is None or later else Found(component, made, common)

    def _named(self, kind: Kind, value: Mapping[str, Any], place: Place) -> Component[Any] | None:
        known = self._known[kind]
        named = [key for key in value if key in known]
        if len(named) > 1:
            # A component's name may also be an option of another: the one whose options cover the rest is meant.
            named = [key for key in named if self._covers(known[key], kind, value)] or named
        if len(named) == 1:
            component = known[named[0]]
            return component if self._usable(component, (*place, component.name)) else None
        if named:
            said = " and ".join(f'"{name}"' for name in named)
            self._notes.add(place, "E202", f"{route_of(place)}{said} are both a {kind}", "keep one")
        else:
            self._none(kind, value, place)
        return None

    def _covers(self, component: Component[Any], kind: Kind, value: Mapping[str, Any]) -> bool:
        return set(value) <= keys.fields(component.options) | {component.name} | RESERVED[kind]

    def _none(self, kind: Kind, value: Mapping[str, Any], place: Place) -> None:
        """No key is a component's name: the one that was meant is pointed at."""
        words = [key for key in value if key not in RESERVED[kind]]
        later = sorted(LATER & set(value))
        front = route_of(place)
        if later:
            self.not_yet(later[0], (*place, later[0]))
        elif not words:
            hint = f"name one of {', '.join(sorted(self._known[kind]))}"
            self._notes.add(place, "E201", f"{front}this names no {kind}", hint)
        else:
            word = next((word for word in words if near_to(word, self._known[kind])), words[0])
            word = next((word for word in words if self._registry.left_out(word)), word)
            said = f'{front}no {kind} named "{word}"'
            left_out = self._registry.left_out(word)
            if left_out is not None:
                self._left_out(left_out, (*place, word), "E203", said, key=True)
                return
            self._notes.add((*place, word), "E203", said, self._meant(kind, word), key=True)

    def _left_out(self, plugin: PluginFile, place: Place, code: str, said: str, *, key: bool = False) -> None:
        why = f"the plugin {plugin.name} was left out: {plugin.refused}"
        self._notes.lack(place, code, said, why, why, key=key)

    def _meant(self, kind: Kind, word: str) -> str:
        if kind == "step" and word in self._known["codec"]:
            return f'write {{ read = "{word}" }} or {{ write = "{word}" }}'
        for other, names in self._known.items():
            if word in names and other != kind:
                return f"{word} is a {other}"
        return closest(word, self._known[kind])

    def names(self, kind: Kind) -> list[str]:
        """The known names of one kind, sorted."""
        return sorted(self._known[kind])

    def not_yet(self, key: str, place: Place, what: str = "") -> None:
        """Notes a word of the table that this version does not have."""
        said = f"{route_of(place)}{what or chr(34) + key + chr(34)} is not in this version of esb"
        self._notes.add(place, "E150", said, "leave it out", key=True)

    def _usable(self, component: Component[Any], place: Place) -> bool:
        """A missing extra is told with the exact line to type, before the first message."""
        for module, extra in component.needs.items():
            if importlib.util.find_spec(module.partition(".")[0]) is None:
                said = f'{route_of(place)}"{component.name}" needs a package that is not installed'
                why = f"{component.name} needs the package {module}: pip install 'esb[{extra}]'"
                self._notes.lack(place, "E204", said, f"pip install 'esb[{extra}]'", why, key=True)
                return False
        return True

    def _options(self, component: Component[Any], options: dict[str, Any], place: Place) -> Any:
        if _LONG in component.options.__struct_fields__:
            return self._with_codec(component, options, place)
        aliases = {component.main: component.name}
        also = RESERVED[component.kind] if component.kind != "codec" else ()
        return values.convert(options, component.options, place, self._notes, aliases, also)

    def _with_codec(self, component: Component[Any], options: Mapping[str, Any], place: Place) -> Any:
        """read and write take their format's options beside their own."""
        own = keys.fields(component.options) - {_LONG}
        rest = {key: item for key, item in options.items() if key not in own}
        name = options[component.main]
        codec = self._known["codec"].get(name) if isinstance(name, str) else None
        if codec is None:
            said, here = f'{route_of(place)}no format named "{name}"', (*place, component.name)
            left_out = self._registry.left_out(name) if isinstance(name, str) else None
            if left_out is not None:
                self._left_out(left_out, here, "E205", said)
            else:
                self._notes.add(here, "E205", said, one_of(name, sorted(self._known["codec"])))
            return None
        if not self._usable(codec, (*place, component.name)):
            return None
        aliases = {codec.main: component.name}
        also = RESERVED["step"]
        checked = values.convert({codec.main: name, **rest}, codec.options, place, self._notes, aliases, also)
        if checked is None:
            return None
        for key, other in ((key, _OTHER.get(component.name, "")) for key in rest):
            if other and key in getattr(codec, other):
                verb = component.name
                said = f"{route_of(place)}{key} is for {other}, and this {verb} does nothing with it"
                hint = f"put it at the {'write' if verb == 'read' else 'read'}, or leave it out"
                self._notes.warn((*place, key), "W309", said, hint, key=True)
        self.codecs.append((place, Found(codec, checked, {})))
        mine = {key: item for key, item in options.items() if key in own}
        return values.convert(
            {**mine, _LONG: rest}, component.options, place, self._notes, {component.main: component.name}
        )
