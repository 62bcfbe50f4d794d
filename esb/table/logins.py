"""`[secrets]` and `[auth.NAME]`: references only; a literal secret is an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from esb.table import keys, values
from esb.table.model import AuthSpec, Place
from esb.table.notes import Notes, closest, route_of

_REFERENCE: Final = re.compile(r"(env|file|credential):.+")
_KINDS: Final = ("bearer", "basic", "oauth2", "header", "api-key")
_KEYS: Final = {
    "bearer": {"bearer"},
    "basic": {"basic", "user", "password"},
    "oauth2": {"oauth2", "id", "secret", "scope"},
    "header": {"header", "secret", "value"},
    "api-key": {"api-key"},
}
_SECRET: Final = {
    "bearer": ("bearer",),
    "basic": ("password",),
    "oauth2": ("secret",),
    "header": ("secret", "value"),
    "api-key": (),
}
_NEEDED: Final = {
    "bearer": (),
    "basic": ("password",),
    "oauth2": ("id", "secret"),
    "header": ("secret",),
    "api-key": (),
}


def read_secrets(value: Mapping[str, Any], notes: Notes) -> Mapping[str, str]:
    """Name to reference."""
    made: dict[str, str] = {}
    for name, reference in value.items():
        if isinstance(reference, str) and _REFERENCE.fullmatch(reference):
            made[name] = _beside(reference, ("secrets", name), notes)
        else:
            made[name] = ""
            hint = 'write "env:NAME", "file:/path" or "credential:NAME"; the secret itself never stands here'
            notes.add(("secrets", name), "E170", f'secret "{name}" is not a reference', hint)
    return made


def _beside(reference: str, place: Place, notes: Notes) -> str:
    """A relative file counts from the file of the table that it stands in."""
    main = notes.atlas.main
    folder = notes.atlas.folder(place)
    if not reference.startswith("file:") or main is None or folder == main.folder:
        return reference
    return f"file:{(folder / reference.removeprefix('file:')).absolute()}"


def read_auth(value: Mapping[str, Any], secrets: Mapping[str, str], notes: Notes) -> Mapping[str, AuthSpec]:
    """Every login by name. `basic` is true beside a `user`, or the user itself."""
    made: dict[str, AuthSpec] = {}
    for name, content in value.items():
        place: Place = ("auth", name)
        values.check_name(name, place, notes)
        kinds = [kind for kind in _KINDS if isinstance(content, Mapping) and kind in content]
        if len(kinds) == 1:
            _check(kinds[0], content, secrets, place, notes)
            made[name] = _spec(name, kinds[0], content, place, notes)
        else:
            said = "names no way to log in" if not kinds else f"has {' and '.join(kinds)}"
            notes.add(place, "E171", f'auth "{name}" {said}', f"it has exactly one of {', '.join(_KINDS)}", key=True)
            made[name] = AuthSpec(name=name, place=place, kind="bearer")
    return made


def _check(kind: str, content: Mapping[str, Any], secrets: Mapping[str, str], place: Place, notes: Notes) -> None:
    """Unknown keys, missing ones, texts that are none, and secrets that stand there themselves."""
    front = route_of(place)
    for key, item in content.items():
        if key not in _KEYS[kind]:
            keys.unknown(notes, place, key, closest(key, _KEYS[kind]), front)
        elif not isinstance(item, str) and not (key == "basic" and item is True):
            notes.add((*place, key), "E112", f'{front}"{key}" is not a text', f'write {key} = "..."')
        elif isinstance(item, str) and (key in _SECRET[kind] or item.startswith("secret:")):
            check_reference(item, secrets, (*place, key), notes)
    for key in _missing(kind, content):
        right = f'{key} = "secret:NAME"' if key in _SECRET[kind] else f'{key} = "..."'
        notes.add(place, "E111", f'{front}"{key}" is missing', f"add {right}", key=True)
    if kind == "api-key" and not str(content[kind]).startswith("file:"):
        hint = 'write api-key = "file:/etc/esb/partners.keys"; `esb key new` makes a line of it'
        notes.add((*place, kind), "E170", f"{front}the keys stand in a file", hint)


def _missing(kind: str, content: Mapping[str, Any]) -> list[str]:
    needed = set(_NEEDED[kind])
    if kind == "header" and "value" in content:
        needed.discard("secret")
    if kind == "basic" and content["basic"] is True:
        needed.add("user")
    return sorted(needed - content.keys())


def check_reference(value: str, secrets: Mapping[str, str], place: Place, notes: Notes) -> None:
    """A secret is given as `secret:NAME`, and NAME is declared."""
    front = route_of(place)
    name = value.removeprefix("secret:")
    if name == value:
        hint = f'write {place[-1]} = "secret:NAME" and declare NAME under [secrets]'
        notes.add(place, "E172", f"{front}a secret stands here itself", hint)
    elif name not in secrets:
        notes.add(place, "E213", f'{front}no secret named "{name}"', closest(name, secrets), offset=7)


def _spec(name: str, kind: Any, content: Mapping[str, Any], place: Place, notes: Notes) -> AuthSpec:
    def text(key: str) -> str | None:
        found = content.get(key)
        return None if found is None else str(found)

    value = str(content[kind])
    return AuthSpec(
        name=name,
        place=place,
        kind=kind,
        value=_beside(value, place, notes) if kind == "api-key" else value,
        user=text("user") or (value if kind == "basic" else None),
        password=text("password"),
        id=text("id"),
        secret=text("secret") or text("value"),
        scope=text("scope"),
    )
