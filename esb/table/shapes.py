"""What a contract says of a message's fields: which there are, which may be missing, whether there may be others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import msgspec
from msgspec import Struct
from msgspec.structs import replace

_XS: Final = "{http://www.w3.org/2001/XMLSchema}"
_DEEPEST: Final = 40


class Shape(Struct, frozen=True):
    """One value: the fields of a map, or what the items of a list are. `known` is False where nothing can be said;
    `closed` says that there are no other fields."""

    fields: Mapping[str, Shape] = {}
    required: frozenset[str] = frozenset()
    closed: bool = False
    items: Shape | None = None
    known: bool = True

    def inner(self) -> Shape:
        """What a path goes on in: lists are passed through."""
        return self.items.inner() if self.items is not None and not self.fields else self

    def at(self, keys: Sequence[str]) -> Shape | None:
        """What stands at a path; None where nothing is known of it."""
        shape = self.inner()
        for key in keys:
            if key not in shape.fields:
                return None
            shape = shape.fields[key].inner()
        return shape if shape.known else None

    def with_field(self, keys: Sequence[str], value: Shape) -> Shape:
        """The same with one more field at a path."""
        if not keys or not self.known:
            return value
        below = self.fields.get(keys[0], Shape(closed=True))
        return replace(self, fields={**self.fields, keys[0]: below.with_field(keys[1:], value)})

    def requiring(self, keys: Sequence[str]) -> Shape:
        """The same where the field at a path is never missing."""
        fields = self.fields
        if len(keys) > 1 and keys[0] in fields:
            fields = {**fields, keys[0]: fields[keys[0]].requiring(keys[1:])}
        return replace(self, fields=fields, required=self.required | {keys[0]})


ANY: Final = Shape(known=False)


def shape_of(folder: Path, name: str) -> Shape | None:
    """The shape that `contracts/NAME` gives a body; None where there is no such contract, or it cannot be read (which
    the opening of the step tells)."""
    try:
        if (folder / f"{name}.json").is_file():
            schema = msgspec.json.decode((folder / f"{name}.json").read_bytes().removeprefix(b"\xef\xbb\xbf"))
            return JsonShapes(schema).of(schema, ())
        if (folder / f"{name}.xsd").is_file():
            return XsdShapes(folder / f"{name}.xsd").document()
    except (OSError, ValueError, ElementTree.ParseError):
        pass
    return None


class JsonShapes:
    """The shapes of one JSON Schema. What refers to another file says nothing here."""

    def __init__(self, root: Any) -> None:
        self._root = root

    def of(self, schema: Any, through: tuple[str, ...]) -> Shape:
        if not isinstance(schema, dict):
            return ANY
        shape = self._own(schema, through)
        both = [self.of(part, through) for part in schema.get("allOf", ())]
        if "$ref" in schema:
            both.append(self._referred(str(schema["$ref"]), through))
        for part in both:
            shape = _both(shape, part)
        for word in ("anyOf", "oneOf"):
            choices = [self.of(part, through) for part in schema.get(word, ())]
            shape = _both(shape, _one_of(choices)) if choices else shape
        return replace(shape, closed=False) if "if" in schema or "patternProperties" in schema else shape

    def _own(self, schema: Mapping[str, Any], through: tuple[str, ...]) -> Shape:
        fields = schema.get("properties")
        if isinstance(fields, dict):
            others = [schema.get("additionalProperties", True), schema.get("unevaluatedProperties", True)]
            return Shape(
                {name: self.of(part, through) for name, part in fields.items()},
                frozenset(schema.get("required", ())),
                closed=any(other is False for other in others),
            )
        if "items" in schema:
            return Shape(items=self.of(schema["items"], through))
        return ANY

    def _referred(self, reference: str, through: tuple[str, ...]) -> Shape:
        if not reference.startswith("#") or reference in through or len(through) > _DEEPEST:
            return ANY
        found = self._root
        for part in reference[1:].strip("/").split("/") if reference != "#" else ():
            found = found.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, dict) else {}
        return self.of(found, (*through, reference))


def _both(one: Shape, other: Shape) -> Shape:
    """A value that is both: the fields of both, others only where both let them."""
    if not one.known or not other.known:
        return other if other.known else one
    return Shape({**one.fields, **other.fields}, one.required | other.required, False, one.items or other.items)


def _one_of(choices: Sequence[Shape]) -> Shape:
    """A value that is one of them: nothing can be said where one of them says nothing."""
    if not all(choice.known for choice in choices):
        return ANY
    fields: dict[str, Shape] = {}
    for choice in choices:
        fields |= choice.fields
    required = frozenset.intersection(*(choice.required for choice in choices))
    return Shape(fields, required, all(choice.closed for choice in choices), choices[0].items)


class XsdShapes:
    """The shapes of one XML Schema, by local names as `read` gives them: attributes are `@name`, a text beside them is
    `#text`. What is included from the same folder is read too."""

    def __init__(self, file: Path) -> None:
        self._named: dict[tuple[str, str], ElementTree.Element] = {}
        self._whole = True
        self._read(file, set())
        self._substituted = any(item.get("substitutionGroup") for item in self._named.values())

    def _read(self, file: Path, seen: set[Path]) -> None:
        seen.add(file)
        for item in ElementTree.fromstring(file.read_bytes()):
            kind = item.tag.removeprefix(_XS)
            if kind in ("include", "import", "redefine"):
                other = (file.parent / item.get("schemaLocation", "")).resolve()
                if other.is_file() and other.is_relative_to(file.parent.resolve()):
                    if other not in seen:
                        self._read(other, seen)
                else:
                    self._whole = False
            elif item.get("name"):
                self._named.setdefault((kind, str(item.get("name"))), item)

    def document(self) -> Shape:
        """The body: one root element of those that the schema declares."""
        roots = [name for kind, name in self._named if kind == "element"]
        fields = {name: self._element(self._named["element", name], ()) for name in roots}
        return Shape(fields, frozenset(roots) if len(roots) == 1 else frozenset(), closed=self._whole)

    def _element(self, item: ElementTree.Element, through: tuple[str, ...]) -> Shape:
        if item.get("ref"):
            named = self._named.get(("element", _local(item.get("ref"))))
            return ANY if named is None else self._element(named, through)
        name = _local(item.get("type"))
        if name in through or len(through) > _DEEPEST:
            return ANY
        inline = item.find(f"{_XS}complexType")
        found = self._named.get(("complexType", name)) if inline is None else inline
        return ANY if found is None else self._complex(found, (*through, name) if name else through)

    def _complex(self, item: ElementTree.Element, through: tuple[str, ...]) -> Shape:
        """A complex type; ANY where a part of it is not understood."""
        shape = self._content(item, through, required=True)
        return replace(shape, closed=shape.closed and self._whole and not self._substituted)

    def _content(self, item: ElementTree.Element, through: tuple[str, ...], *, required: bool) -> Shape:
        shape = Shape(closed=item.get("mixed") != "true")
        for part in item:
            shape = _joined(shape, self._part(part, through, required=required))
        return shape

    def _part(self, part: ElementTree.Element, through: tuple[str, ...], *, required: bool) -> Shape:
        needed = required and part.get("minOccurs", "1") != "0"
        match part.tag.removeprefix(_XS):
            case "element":
                name = _local(part.get("ref")) or str(part.get("name"))
                return _single(name, self._element(part, through), needed)
            case "attribute":
                name = _local(part.get("ref")) or str(part.get("name"))
                return _single(f"@{name}", ANY, part.get("use") == "required")
            case "sequence" | "all" | "complexContent":
                return self._content(part, through, required=needed)
            case "choice":
                return self._content(part, through, required=False)
            case "simpleContent":
                return _joined(_single("#text", ANY, False), self._content(part, through, required=required))
            case "group" | "attributeGroup" as kind if part.get("ref"):
                named = self._named.get((kind, _local(part.get("ref"))))
                return Shape() if named is None else self._content(named, through, required=needed)
            case "extension":
                base = self._named.get(("complexType", _local(part.get("base"))))
                inherited = Shape(closed=True) if base is None else self._content(base, through, required=required)
                return _joined(inherited, self._content(part, through, required=required))
            case "restriction":
                return self._content(part, through, required=required)
            case "any" | "anyAttribute":
                return Shape()
            case _:
                return Shape(closed=True)


def _single(name: str, shape: Shape, required: bool) -> Shape:
    return Shape({name: shape}, frozenset({name}) if required else frozenset(), closed=True)


def _joined(one: Shape, other: Shape) -> Shape:
    """Two parts of one element's content."""
    return Shape({**one.fields, **other.fields}, one.required | other.required, one.closed and other.closed)


def _local(name: str | None) -> str:
    return "" if name is None else name.rpartition(":")[2]
