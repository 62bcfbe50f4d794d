"""Single values taken out of a TOML table by key, each checked for its type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from esb.table.model import Place
from esb.table.notes import Notes, one_of, route_of
from esb.table.values import spelled
from esb.units import Duration, Rate, Size, Template

Quantity = type[Duration] | type[Size] | type[Rate]


class Plain:
    """One table of the file. What is wrong is noted, and the default is given instead."""

    def __init__(self, value: Mapping[str, Any], place: Place, notes: Notes) -> None:
        self._value = value
        self._place = place
        self._notes = notes

    def text(self, key: str, default: Any = "") -> Any:
        return self._of(key, str, default, "a text", "str")

    def truth(self, key: str) -> bool:
        return bool(self._of(key, bool, False, "true or false", "bool"))

    def number(self, key: str, default: Any) -> Any:
        """A whole number of 1 or more."""
        found = self._of(key, int, default, "a whole number", "int")
        if found is not default and found < 1:
            self._note(key, "E112", f"is {found}", "it must be 1 or more")
            return default
        return found

    def quantity(self, key: str, kind: Quantity, default: Any = None) -> Any:
        if key not in self._value:
            return default
        try:
            return kind.parse(self._value[key])
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            self._note(key, "E112", f"is wrong: {message}", hint)
            return default

    def choice(self, key: str, words: Sequence[str], default: Any) -> Any:
        found = self.text(key, default)
        if found not in words and found is not default:
            self._note(key, "E113", f'cannot be "{found}"', one_of(found, words))
            return default
        return found

    def template(self, key: str) -> Template | None:
        found = self.text(key, None)
        return None if found is None else Template(found)

    def _of(self, key: str, kind: type, default: Any, wanted: str, word: str) -> Any:
        if key not in self._value:
            return default
        found = self._value[key]
        if type(found) is not kind:
            self._note(key, "E112", f"is not {wanted}", spelled(found, [word], key))
            return default
        return found

    def _note(self, key: str, code: str, said: str, hint: str = "") -> None:
        self._notes.add((*self._place, key), code, f'{route_of(self._place)}"{key}" {said}', hint)
