"""`[map.NAME]`: a target tree, field by field, each an expression over the message (TABLE section 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from esb.errors import ExpressionError, MissingField
from esb.expressions import Environment, Optional, Program
from esb.expressions.values import Uint
from esb.table.model import MapSpec

Field = Callable[[Mapping[str, Any]], Any]
_LEFT_OUT = object()


class CompiledMap:
    """One map, compiled. Pure; output order is the order of the file."""

    def __init__(self, name: str, fields: tuple[tuple[tuple[str, ...], str, Field], ...]) -> None:
        self.name = name
        self._fields = fields

    def apply(self, scope: Mapping[str, Any]) -> dict[str, Any]:
        """The new tree; raises ExpressionError or MissingField with the map's field as its place."""
        made: dict[str, Any] = {}
        for path, shown, field in self._fields:
            try:
                value = field(scope)
            except ExpressionError as error:
                raise self._placed(error, shown) from error
            if value is not _LEFT_OUT:
                self._put(made, path, value, shown)
        return made

    def _put(self, tree: dict[str, Any], path: tuple[str, ...], value: Any, shown: str) -> None:
        """Sets a nested field. What an earlier field took from the message is copied first: other branches share it."""
        for key in path[:-1]:
            inner = tree.get(key, {})
            if not isinstance(inner, dict):
                place = f"map.{self.name}.{shown}"
                raise ExpressionError(f"{place} cannot be set: {key} is no map", code="M282", place=place)
            inner = dict(inner)
            tree[key] = inner
            tree = inner
        tree[path[-1]] = value

    def _placed(self, error: ExpressionError, shown: str) -> ExpressionError:
        kind = MissingField if isinstance(error, MissingField) else ExpressionError
        place = error.place if error.place.startswith("map.") else f"map.{self.name}.{shown}"
        text = str(error) if error.place.startswith("map.") else f"{place}: {error}"
        return kind(text, code=error.code, text=error.text, offset=error.offset, place=place)


def compile_mapping(spec: MapSpec, environment: Environment, others: Callable[[str], CompiledMap]) -> CompiledMap:
    """`others` finds a map by name, when it is first needed; raises ExpressionProblems."""
    fields: list[tuple[tuple[str, ...], str, Field]] = []
    for key, value in _flat(spec.fields):
        fields.append((key, ".".join(key), _field(value, environment, others)))
    return CompiledMap(spec.name, tuple(fields))


def _flat(fields: Mapping[str, Any], above: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Dotted keys and sub-tables are one thing in TOML: nested objects."""
    found: list[tuple[tuple[str, ...], Any]] = []
    for key, value in fields.items():
        path = (*above, *key.split("."))
        if isinstance(value, Mapping) and set(value) != {"text"} and set(value) != {"each", "map"}:
            found += _flat(value, path)
        else:
            found.append((path, value))
    return found


def _field(value: Any, environment: Environment, others: Callable[[str], CompiledMap]) -> Field:
    match value:
        case str():
            return _expression(environment.compile(value))
        case {"text": text}:
            return lambda scope: text
        case {"each": each, "map": name}:
            return _list(environment.compile(each), name, others)
        case _:
            return lambda scope: value


def _expression(program: Program) -> Field:
    evaluate = program.evaluate

    def field(scope: Mapping[str, Any]) -> Any:
        value = evaluate(scope)
        if type(value) is Optional:
            return value.value if value.has_value else _LEFT_OUT
        return int(value) if type(value) is Uint else value

    return field


def _list(program: Program, name: str, others: Callable[[str], CompiledMap]) -> Field:
    """A map for each element, which it sees as `item`."""

    def field(scope: Mapping[str, Any]) -> Any:
        elements = program.evaluate(scope)
        if not isinstance(elements, list):
            raise ExpressionError("each wants a list; declare it with arrays = [...] at the read", text=program.text)
        mapping = others(name)
        return [mapping.apply(_Inner(scope, element)) for element in elements]

    return field


class _Inner(dict[str, Any]):
    """A scope with an `item` in it; everything else comes from the one around."""

    __slots__ = ("_outer",)

    def __init__(self, outer: Mapping[str, Any], item: Any) -> None:
        super().__init__(item=item)
        self._outer = outer

    def __missing__(self, name: str) -> Any:
        return self._outer[name]
