"""Plain TOML values into typed Structs, with every fault named at its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from esb.table.model import Place
from esb.table.notes import Notes, closest, route_of
from esb.units import decode_option

S = TypeVar("S", bound=Struct)
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")
_PATH: Final = re.compile(r" - at `\$([^`]*)`$")
_STEP: Final = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d+)\]|\[\.\.\.\]")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `([^`]+)`")
_MISSING: Final = re.compile(r"Object missing required field `([^`]+)`")
_TYPE: Final = re.compile(r"Expected `([^`]+)`, got `([^`]+)`")
_WORDS: Final = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "a table",
    "array": "a list",
    "null": "nothing",
}


def convert(
    value: Mapping[str, Any], kind: type[S], place: Place, notes: Notes, aliases: Mapping[str, str] = {}
) -> S | None:
    """The Struct, or None with what is wrong noted. `aliases` maps a field to the key it stands under in the file."""
    faulty = unknown_fields(value, kind, place, notes, aliases)
    known = {key: item for key, item in value.items() if key not in faulty}
    try:
        made: S = msgspec.convert(known, kind, strict=True, dec_hook=decode_option)
    except msgspec.ValidationError as error:
        note_fault(str(error), kind, place, notes, aliases)
        return None
    return None if faulty else made


def unknown_fields(
    value: Mapping[str, Any], kind: type[Struct], place: Place, notes: Notes, aliases: Mapping[str, str] = {}
) -> set[str]:
    """Keys that the Struct does not have, each noted with a did-you-mean."""
    fields = [aliases.get(name, name) for name in kind.__struct_encode_fields__]
    unknown = {key for key in value if key not in kind.__struct_encode_fields__}
    for key in sorted(unknown):
        notes.add((*place, key), "E110", f'{route_of(place)}unknown key "{key}"', closest(key, fields), key=True)
    return unknown


def note_fault(said: str, kind: type[Struct], place: Place, notes: Notes, aliases: Mapping[str, str] = {}) -> None:
    """msgspec's sentence in ours, at the place its path leads to."""
    found = _PATH.search(said)
    inner = steps(found[1]) if found else ()
    text = _PATH.sub("", said)
    where: Place = (*place, *(aliases.get(str(item), item) if index == 0 else item for index, item in enumerate(inner)))
    name = ".".join(str(item) for item in where[len(place) :])
    shown = f'"{name}" ' if name else ""
    if unknown := _UNKNOWN.search(text):
        notes.add((*where, unknown[1]), "E110", f'{route_of(place)}unknown key "{unknown[1]}"', key=True)
    elif missing := _MISSING.search(text):
        key = aliases.get(missing[1], missing[1])
        notes.add(where, "E111", f'{route_of(place)}"{key}" is missing', f"add {key} = ...", key=True)
    elif wrong := _TYPE.search(text):
        wanted = " or ".join(_WORDS.get(word.strip(), word.strip()) for word in wrong[1].split("|"))
        got = _WORDS.get(wrong[2], wrong[2])
        notes.add(where, "E112", f"{route_of(place)}{shown}is {got}", f"it must be {wanted}")
    elif text.startswith("Invalid enum value"):
        notes.add(where, "E113", f"{route_of(place)}{shown}cannot be {text.split()[-1]}", _choices(kind, inner))
    else:
        message, _, hint = text.partition("; ")
        notes.add(where, "E112", f"{route_of(place)}{shown}{message[0].lower() + message[1:]}", hint)


def _choices(kind: type[Struct], inner: tuple[str | int, ...]) -> str:
    """The words that a field takes."""
    info = msgspec.inspect.type_info(kind)
    for item in inner:
        fields = {field.encode_name: field.type for field in getattr(info, "fields", ())}
        if item not in fields:
            break
        info = fields[str(item)]
    options = [info, *getattr(info, "types", ())]
    words = [str(word) for option in options for word in getattr(option, "values", ())]
    return f"it is one of {', '.join(words)}" if words else ""


def steps(path: str) -> tuple[str | int, ...]:
    """msgspec's `.a[0].b` as a place."""
    return tuple(found[1] if found[1] is not None else int(found[2] or 0) for found in _STEP.finditer(path))


def check_name(name: str, place: Place, notes: Notes) -> bool:
    """Names become queues, labels, URLs and folders."""
    if NAME.fullmatch(name):
        return True
    notes.add(place, "E114", f'"{name}" cannot be a name', "names are a-z 0-9 _ -, at most 48, and begin with a-z or 0-9",
              key=True)  # fmt: skip
    return False


def texts(value: Any, place: Place, notes: Notes) -> tuple[str, ...]:
    """A text or a list of texts."""
    items = value if isinstance(value, list) else [value]
    if all(isinstance(item, str) for item in items):
        return tuple(items)
    notes.add(place, "E112", f"{route_of(place)}not a text", "it must be a text or a list of texts")
    return ()
