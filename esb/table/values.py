"""Plain TOML values into typed Structs, with every fault named at its place."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any, Final, TypeVar, Union

import msgspec
from msgspec import Struct

from esb.table import keys
from esb.table.model import Place
from esb.table.notes import Notes, closest, near_to, one_of, route_of
from esb.units import Secret, decode_option

S = TypeVar("S", bound=Struct)
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")
_PATH: Final = re.compile(r" - at `\$([^`]*)`$")
_TYPE: Final = re.compile(r"Expected `([^`]+)`, got `([^`]+)`")
_WORDS: Final = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number with a fraction",
    "bool": "true or false",
    "object": "a table",
    "array": "a list",
    "null": "nothing",
}


def convert(
    value: Mapping[str, Any],
    kind: type[S],
    place: Place,
    notes: Notes,
    aliases: Mapping[str, str] = {},
    also: Iterable[str] = (),
) -> S | None:
    """The Struct, or None with everything that is wrong noted. `aliases` maps a field to the key it stands under in the
    file; `also` are keys that stand beside the Struct's own (for the did-you-mean)."""
    try:
        made: S = msgspec.convert(value, kind, strict=True, dec_hook=decode_option)
    except msgspec.ValidationError as error:
        before = len(notes.problems)
        Faults(notes, route_of(place)).of_struct(value, kind, place, aliases, also)
        if len(notes.problems) == before:
            notes.add(place, "E112", f"{route_of(place)}{_PATH.sub('', str(error))}")
        return None
    return made


def salvaged(value: Mapping[str, Any], kind: type[S], instead: S) -> S:
    """What is right in a table whose faults are noted, so that what follows from it can be looked at as well."""
    right: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        with suppress(msgspec.ValidationError):
            if field.encode_name in value:
                item = value[field.encode_name]
                msgspec.convert(item, field.type, strict=True, dec_hook=decode_option)
                right[field.encode_name] = item
    try:
        return msgspec.convert(right, kind, strict=True, dec_hook=decode_option)
    except msgspec.ValidationError:
        return instead


class Faults:
    """Finds all that is wrong with a value that msgspec refused: msgspec itself stops at the first fault, and hides the
    names in nested ones."""

    def __init__(self, notes: Notes, front: str) -> None:
        self._notes = notes
        self._front = front

    def of_struct(
        self,
        value: Mapping[str, Any],
        kind: type[Struct],
        place: Place,
        aliases: Mapping[str, str] = {},
        also: Iterable[str] = (),
    ) -> None:
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        known = [aliases.get(name, name) for name in fields if name != "codec_options"]
        for key, item in value.items():
            if key in fields:
                self.of_value(item, fields[key].type, (*place, aliases.get(key, key)))
            else:
                near = near_to(key, [*known, *also])
                hint = f'did you mean "{near}"?' if near else closest(key, known)
                keys.unknown(self._notes, place, key, hint, self._front)
        for name, field in fields.items():
            if field.required and name not in value:
                key = aliases.get(name, name)
                self._notes.add(place, "E111", f'{self._front}"{key}" is missing', f"add {key} = ...", key=True)

    def of_value(self, value: Any, kind: Any, place: Place) -> None:
        """What is wrong with one value; nothing where it is right."""
        for choice in _choices(kind):
            inner = typing.get_args(choice)
            origin = typing.get_origin(choice)
            if isinstance(value, Mapping) and isinstance(choice, type) and issubclass(choice, Struct):
                return self.of_struct(value, choice, place)
            if isinstance(value, Mapping) and isinstance(origin, type) and issubclass(origin, Mapping):
                for key, item in value.items():
                    self.of_value(item, inner[1], (*place, key))
                return None
            if isinstance(value, list) and origin in (list, tuple):
                for index, item in enumerate(value):
                    self.of_value(item, inner[0], (*place, index))
                return None
        return self._of_single(value, kind, place)

    def _of_single(self, value: Any, kind: Any, place: Place) -> None:
        try:
            msgspec.convert(value, kind, strict=True, dec_hook=decode_option)
        except msgspec.ValidationError as error:
            said = _PATH.sub("", str(error))
            name = '"' + ".".join(str(part) for part in place[-1:]) + '" '
            self._note(said, name, value, kind, place)

    def _note(self, said: str, name: str, value: Any, kind: Any, place: Place) -> None:
        """msgspec's sentence in ours."""
        front = self._front + name
        if wrong := _TYPE.search(said):
            wanted = [word.strip() for word in wrong[1].split("|")]
            told = " or ".join(_WORDS.get(word, word) for word in wanted)
            got = _WORDS.get(wrong[2], wrong[2])
            self._notes.add(place, "E112", f"{front}is {got}, not {told}", spelled(value, wanted, place[-1]))
        elif said.startswith("Invalid enum value"):
            words = [str(word) for choice in _choices(kind) for word in typing.get_args(choice)]
            self._notes.add(place, "E113", f'{front}cannot be "{value}"', one_of(value, words))
        else:
            message, _, hint = said.partition("; ")
            code = "E172" if Secret in _choices(kind) else "E112"
            self._notes.add(place, code, f"{front}is wrong: {message[0].lower() + message[1:]}", hint)


def _choices(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the type alone."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is Union:
        return tuple(choice for choice in typing.get_args(kind) if choice is not type(None))
    return (kind,)


def spelled(value: Any, wanted: list[str], key: object) -> str:
    """The right spelling for a value of the wrong type, where it can be guessed."""
    given = "true" if value is True else "false" if value is False else str(value)
    if "str" in wanted and isinstance(value, (bool, int, Decimal)):
        return f'write {key} = "{given}"'
    if "bool" in wanted and given.lower() in ("true", "yes", "on", "1"):
        return f"write {key} = true"
    if "bool" in wanted and given.lower() in ("false", "no", "off", "0"):
        return f"write {key} = false"
    if {"int", "float"} & set(wanted) and isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value):
        return f"write {key} = {value}"
    if "array" in wanted and isinstance(value, str):
        return f'write {key} = ["{value}"]'
    return ""


def check_name(name: str, place: Place, notes: Notes) -> bool:
    """Names become queues, labels, URLs and folders."""
    if NAME.fullmatch(name):
        return True
    hint = "names are a-z 0-9 _ -, at most 48, and begin with a-z or 0-9"
    notes.add(place, "E114", f'"{name}" cannot be a name', hint, key=True)
    return False


def texts(value: Any, place: Place, notes: Notes) -> tuple[str, ...]:
    """A text or a list of texts."""
    items = value if isinstance(value, list) else [value]
    if all(isinstance(item, str) for item in items):
        return tuple(items)
    notes.add(place, "E112", f"{route_of(place)}not a text", "it must be a text or a list of texts")
    return ()
