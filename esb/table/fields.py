"""Fields that expressions ask for, held against what the contract says that there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from esb.expressions.syntax import field_text
from esb.paths import TreePath
from esb.table.asked import Asked, asked
from esb.table.language import Language
from esb.table.model import Place, StepSpec, Table
from esb.table.notes import Notes, near_to
from esb.table.shapes import ANY, Shape, shape_of


class Known(Struct, frozen=True):
    """What the fields of a body are for certain: `by` says from where, `contract order@1` or `map order_to_erp`."""

    by: str
    shape: Shape

    def after(self, step: StepSpec) -> Known | None:
        """What is still certain after a step that goes on."""
        main = getattr(step.options, step.component.main)
        match step.component.name:
            case "set" | "remove":
                paths = [str(path) for path in main if str(path).startswith("body")]
                return self._changed(paths, gone=step.component.name == "remove")
            case "map" if getattr(step.options, "into", None) is not None:
                return self._changed([str(step.options.into)], gone=False)
            case "split":
                keys = ("rows",) if main == "rows" and "rows" in self.shape.fields else _keys(str(main))
                found = self.shape.at(keys)
                return None if found is None else replace(self, shape=found)
            case "read" if _plainly(step):
                return self
            case "check" | "keep" | "log" | "write":
                return self
            case _:
                return None

    def _changed(self, paths: Sequence[str], *, gone: bool) -> Known | None:
        """Fields that a step sets are there; what asks for one that is removed is told of it at run time."""
        shape = self.shape
        for path in paths if not gone else ():
            shape = shape.with_field(_keys(path), ANY)
        return replace(self, shape=shape) if shape.known else None


def _plainly(read: StepSpec) -> bool:
    """Names come as the contract has them: without prefixes, as a tree."""
    codec = getattr(read.options, "codec_options", {})
    return not codec.get("prefixes") and codec.get("mode", "tree") == "tree"


def _keys(path: str) -> tuple[str, ...]:
    try:
        return TreePath.parse(path, ("body",)).keys
    except ValueError:
        return ()


class Text(NamedTuple):
    """An expression or a template where it stands, with what is said in front of its faults."""

    text: str
    place: Place
    template: bool
    front: str


class Fields:
    """Looks each contract and map up once."""

    def __init__(self, table: Table, notes: Notes, language: Language) -> None:
        self._folder = (table.kept or table.folder) / "contracts"
        self._maps = table.maps
        self._notes = notes
        self._language = language
        self._shapes: dict[str, Shape | None] = {}

    def contracted(self, name: str) -> Known | None:
        """What is known of a body once it has been held against this contract."""
        if name not in self._shapes:
            self._shapes[name] = shape_of(self._folder, name)
        shape = self._shapes[name]
        return None if shape is None or not shape.known else Known(f"contract {name}", shape)

    def mapped(self, name: str) -> Known | None:
        """What is known of a body that this map made."""
        spec = self._maps.get(name)
        return None if spec is None else Known(f"map {name}", self._made(spec.fields, (name,)))

    def _made(self, fields: Mapping[str, Any], through: tuple[str, ...]) -> Shape:
        """The shape of a map's result; a field with optional(...) in it may be missing."""
        shape = Shape(closed=True)
        for key, value in fields.items():
            path = key.split(".")
            shape = shape.with_field(path, self._field(value, through))
            if not (isinstance(value, str) and ("optional" in value or "?" in value)):
                shape = shape.requiring(path)
        return shape

    def _field(self, value: Any, through: tuple[str, ...]) -> Shape:
        if not isinstance(value, Mapping) or set(value) == {"text"}:
            return ANY
        if set(value) == {"each", "map"}:
            spec = self._maps.get(str(value["map"]))
            if spec is None or spec.name in through:
                return ANY
            return Shape(items=self._made(spec.fields, (*through, spec.name)))
        return self._made(value, through)

    def check(self, said: Text, body: Known) -> None:
        """Notes the fields that the contract does not know, and those that may be missing where that is a surprise."""
        if "body" not in said.text:
            return
        found = list(self._asked(said))
        guarded = {chain.keys for _, chain in found if chain.guarded}
        for begin, chain in found:
            self._known(said, body, begin, chain._replace(negated=chain.negated and chain.keys not in guarded))

    def _asked(self, said: Text) -> Iterator[tuple[int, Asked]]:
        place = 0
        for program in self._language.programs(said.text, said.template):
            begin = max(said.text.find(program.text, place), 0) if said.template else 0
            place = begin
            yield from ((begin, chain) for chain in asked(program.tree))

    def _known(self, said: Text, body: Known, begin: int, chain: Asked) -> None:
        shape = body.shape.inner()
        for depth, (key, offset) in enumerate(zip(chain.keys, chain.offsets, strict=True)):
            if not shape.known or (not shape.fields and not shape.closed):
                return
            last = depth == len(chain.keys) - 1
            if key not in shape.fields:
                if not (last and chain.guarded) or near_to(key, shape.fields):
                    self._unknown(said, body, shape, key, begin + offset)
                return
            if last and chain.negated and not chain.guarded and key not in shape.required:
                path = "body" + "".join(field_text(part) for part in chain.keys)
                message = f"{said.front}{path} may be missing by {body.by}: then this is not true"
                hint = f"write !has({path}) || ... where a missing one counts too, has({path}) && ... where it does not"
                self._notes.warn(said.place, "W305", message, hint, offset=begin + offset)
            shape = shape.fields[key].inner()

    def _unknown(self, said: Text, body: Known, shape: Shape, key: str, offset: int) -> None:
        near = near_to(key, shape.fields)
        hint = (
            f'did you mean "{near}"?' if near else f"it has {', '.join(sorted(shape.fields)[:12]) or 'no fields here'}"
        )
        if shape.closed:
            message = f'{said.front}{body.by} has no field "{key}" here'
            self._notes.add(said.place, "E216", message, hint, offset=offset)
        elif near:
            message = f'{said.front}{body.by} does not name a field "{key}" here'
            self._notes.warn(said.place, "W306", message, hint, offset=offset)
