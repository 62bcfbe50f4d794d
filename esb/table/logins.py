"""`[secrets]` and `[auth.NAME]`: references only; a literal secret is an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from esb.table.model import AuthSpec, Place
from esb.table.notes import Notes, closest

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
    "oauth2": ("id", "secret"),
    "header": ("secret", "value"),
}


def read_secrets(value: Mapping[str, Any], notes: Notes) -> Mapping[str, str]:
    """Name to reference."""
    made: dict[str, str] = {}
    for name, reference in value.items():
        if isinstance(reference, str) and _REFERENCE.fullmatch(reference):
            made[name] = reference
        else:
            hint = 'write "env:NAME", "file:/path" or "credential:NAME"; the secret itself never stands here'
            notes.add(("secrets", name), "E170", f'secret "{name}" is not a reference', hint)
    return made


def read_auth(value: Mapping[str, Any], secrets: Mapping[str, str], notes: Notes) -> Mapping[str, AuthSpec]:
    """Every login by name."""
    made: dict[str, AuthSpec] = {}
    for name, content in value.items():
        place: Place = ("auth", name)
        kinds = [kind for kind in _KINDS if isinstance(content, Mapping) and kind in content]
        if len(kinds) != 1:
            notes.add(place, "E171", f'auth "{name}" needs one of {", ".join(_KINDS)}', key=True)
            continue
        kind = kinds[0]
        for key in sorted(set(content) - _KEYS[kind]):
            notes.add((*place, key), "E110", f'auth "{name}": unknown key "{key}"', closest(key, _KEYS[kind]), key=True)
        _check_secrets(kind, content, secrets, place, notes)
        made[name] = _spec(name, kind, content, place)
    return made


def _check_secrets(
    kind: str, content: Mapping[str, Any], secrets: Mapping[str, str], place: Place, notes: Notes
) -> None:
    for key in _SECRET.get(kind, ()):
        found = content.get(key)
        if found is None:
            continue
        if not isinstance(found, str) or not found.startswith("secret:"):
            notes.add((*place, key), "E172", f'auth "{place[1]}": {key} stands here literally', 'write "secret:NAME"')
        elif found.removeprefix("secret:") not in secrets:
            missing = found.removeprefix("secret:")
            notes.add((*place, key), "E213", f'no secret named "{missing}"', closest(missing, secrets))


def _spec(name: str, kind: Any, content: Mapping[str, Any], place: Place) -> AuthSpec:
    def text(key: str) -> str | None:
        found = content.get(key)
        return None if found is None else str(found)

    return AuthSpec(
        name=name,
        place=place,
        kind=kind,
        value=str(content[kind]),
        user=text("user"),
        password=text("password"),
        id=text("id"),
        secret=text("secret") or text("value"),
        scope=text("scope"),
    )
