"""Contracts: named, versioned schemas in `contracts/` that a message keeps, or every finding with its field path."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal, Protocol

import jsonschema_rs
import msgspec
from lxml import etree

from esb.errors import DecodeError, MessageError, OptionError, Problem
from esb.masking import is_secret, one_line, shown
from esb.message import Message

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9._-]*")
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HERE: Final = "contracts:///"
_MASK: Final = "the value"


class Checker(Protocol):
    """The half of a contract that knows its language."""

    def check(self, message: Message, formats: bool, /) -> list[Problem]: ...


class Contract:
    """One contract. `hash` is the SHA-256 (hex) of its file and of every file it refers to, `files` are those files."""

    def __init__(self, name: str, kind: Literal["json", "xsd"], files: Sequence[Path], checker: Checker) -> None:
        self.name = name
        self.kind = kind
        self.files = tuple(files)
        self.hash = hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()
        self._checker = checker

    def check(self, message: Message, formats: bool = False) -> list[Problem]:
        """Every finding, in order; none when the message keeps the contract.

        `formats` makes JSON Schema's `format` a rule, which it is not by itself in 2020-12. Raises MessageError for a
        body that a contract of this kind cannot look at.
        """
        return self._checker.check(message, formats)


class Contracts:
    """The contracts of one folder; nothing outside of it is ever read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, Contract] = {}

    def names(self) -> list[str]:
        """Every `NAME@VERSION` there is, sorted."""
        files = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted({file.stem for file in files if file.suffix in (".json", ".xsd") and _NAME.fullmatch(file.stem)})

    def get(self, name: str) -> Contract:
        """Raises OptionError when there is no such contract, or when it is no good."""
        if name not in self._known:
            self._known[name] = self._load(name)
        return self._known[name]

    def _load(self, name: str) -> Contract:
        if not _NAME.fullmatch(name):
            raise OptionError("", f'"{name}" is not a contract', 'write NAME@VERSION, "partner-order@1"', code="E232")
        found = [file for suffix in ("json", "xsd") if (file := self._folder / f"{name}.{suffix}").is_file()]
        if not found:
            raise OptionError("", f'there is no contract "{name}" in contracts/', self._advice(name), code="E232")
        if len(found) > 1:
            raise OptionError("", f'"{name}" stands twice in contracts/, as .json and as .xsd', "keep one", code="E232")
        return json_contract(name, found[0]) if found[0].suffix == ".json" else xsd_contract(name, found[0])

    def _advice(self, name: str) -> str:
        names = self.names()
        near = get_close_matches(name, names, 1)
        if near:
            return f'did you mean "{near[0]}"?'
        return f"there are {', '.join(names)}" if names else f"put {name}.json or {name}.xsd there"


class Shelf:
    """Finds what a schema refers to, in its own folder only; remembers what was read and the first thing refused."""

    def __init__(self, file: Path) -> None:
        self.folder = file.parent.resolve()
        self.files = [file]
        self.refused = ""

    def find(self, reference: str) -> Path:
        """Raises ValueError for what lies elsewhere."""
        path = (self.folder / reference).resolve()
        if not path.is_relative_to(self.folder) or not path.is_file():
            raise self._elsewhere(reference)
        if path not in (known.resolve() for known in self.files):
            self.files.append(path)
        return path

    def schema(self, uri: str) -> Any:
        """A JSON schema by its file's name or by the `$id` it gives itself."""
        uri = uri.split("#")[0]
        if uri.startswith(_HERE):
            return json_schema(self.find(uri.removeprefix(_HERE)))
        for path in sorted(self.folder.glob("*.json")):
            schema = json_schema(path)
            if isinstance(schema, dict) and schema.get("$id", "").split("#")[0] == uri:
                self.find(path.name)
                return schema
        raise self._elsewhere(uri)

    def _elsewhere(self, reference: str) -> ValueError:
        said = f"it refers to {one_line(reference, 80)}, which is not in contracts/"
        self.refused = self.refused or said
        return ValueError(said)


_decode: Final = msgspec.json.Decoder(float_hook=Decimal).decode


def json_schema(file: Path) -> Any:
    """The schema in a file, its numbers exact; raises ValueError."""
    return _decode(file.read_bytes().removeprefix(b"\xef\xbb\xbf"))


def json_contract(name: str, file: Path) -> Contract:
    """Raises OptionError with what is wrong in the schema."""
    shelf = Shelf(file)
    try:
        checker = JsonChecker(json_schema(file), file.name, shelf)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        said = shelf.refused or one_line(str(error).split("\n")[0], 200)
        raise OptionError("", f"{file.name} is not a JSON Schema that can be used: {said}", code="E233") from error
    return Contract(name, "json", shelf.files, checker)


class JsonChecker:
    """JSON Schema 2020-12 (or the draft that `$schema` names) on the tree; decimals are compared by their digits."""

    def __init__(self, schema: Any, name: str, shelf: Shelf) -> None:
        options: dict[str, Any] = {"retriever": shelf.schema, "base_uri": _HERE + name, "mask": _MASK}
        self._plain = jsonschema_rs.validator_for(schema, **options)
        self._strict = jsonschema_rs.validator_for(schema, **options, validate_formats=True)

    def check(self, message: Message, formats: bool, /) -> list[Problem]:
        if type(message.body) is bytes:
            raise MessageError(
                "a JSON Schema looks at a tree, and the body is bytes; put a read before the check",
                code="M280",
                place="body",
            )
        validator = self._strict if formats else self._plain
        try:
            return _findings(validator, message.body)
        except ValueError:  # a tree with times or the like, from a `set` or a `map`
            return _findings(validator, _plain(message.body))


def _findings(validator: Any, tree: Any) -> list[Problem]:
    return [] if validator.is_valid(tree) else [_finding(error) for error in validator.iter_errors(tree)]


def _plain(tree: Any) -> Any:
    """The tree with its times and other values as they will be written; decimals stay exact."""
    return msgspec.to_builtins(tree, builtin_types=(Decimal,), enc_hook=str)


def _finding(error: Any) -> Problem:
    """One finding in our words where theirs are about schemas rather than messages."""
    path = error.instance_path
    kind = error.kind.name
    if kind == "required":
        return Problem("M231", "is missing", place=field_path([*path, error.kind.property]))
    if kind == "falseSchema":
        return Problem("M231", "is not allowed", place=field_path(path))
    place = field_path(path)
    said = one_line(error.message.replace(f"{_MASK} ", "", 1), 200)
    if isinstance(error.instance, (dict, list)):
        return Problem("M231", said, place=place)
    return Problem("M231", f"{said}; it is {shown(error.instance, place)}", place=place)


def field_path(path: Sequence[str | int]) -> str:
    """`body.Order["@id"]`, `body.lines[0].qty`: as an expression would write it."""
    said = "body"
    for key in path:
        if isinstance(key, int):
            said += f"[{key}]"
        else:
            said += f".{key}" if _PLAIN.fullmatch(key) else f'["{one_line(key)}"]'
    return said


def xsd_contract(name: str, file: Path) -> Contract:
    """Raises OptionError with what is wrong in the schema."""
    shelf = Shelf(file)
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    parser.resolvers.add(ShelfResolver(shelf))
    try:
        schema = etree.XMLSchema(etree.fromstring(file.read_bytes(), parser, base_url=_HERE + file.name))
    except (etree.XMLSyntaxError, etree.XMLSchemaParseError, ValueError, OSError) as error:
        said = shelf.refused or one_line(str(error), 200)
        raise OptionError("", f"{file.name} is not an XML Schema that can be used: {said}", code="E233") from error
    if shelf.refused:  # libxml2 passes over an import that it cannot load
        raise OptionError("", f"{file.name} is not an XML Schema that can be used: {shelf.refused}", code="E233")
    return Contract(name, "xsd", shelf.files, XsdChecker(schema))


class ShelfResolver(etree.Resolver):
    """Gives a schema's includes and imports from its own folder; libxml2 itself never opens anything."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__()
        self._shelf = shelf

    def resolve(self, system_url: str, public_id: str, context: Any) -> Any:  # type: ignore[override]  # stubs lack it
        try:
            found = self._shelf.find(system_url.removeprefix(_HERE))
        except ValueError:  # raised from here it would be lost; the shelf remembers it
            return self.resolve_string("", context, base_url=None)
        return self.resolve_string(found.read_bytes(), context, base_url=_HERE + found.name)


class XsdChecker:
    """XSD 1.0 on the XML itself: the bytes that came, or what the tree is written as."""

    def __init__(self, schema: etree.XMLSchema) -> None:
        self._schema = schema
        self._lock = Lock()  # bodies are checked in threads too, and the log of errors is the schema's

    def check(self, message: Message, formats: bool, /) -> list[Problem]:
        root = parse_xml(xml_of(message))
        with self._lock:
            if self._schema.validate(root):
                return []
            log = list(self._schema.error_log)  # type: ignore[call-overload]  # the stubs do not know it is iterable
        return [_xsd_finding(entry, root) for entry in log]


def xml_of(message: Message) -> bytes:
    """The body as XML; raises MessageError when it is a tree of another format."""
    body = message.body
    if type(body) is bytes:
        return body
    if message.format != "xml":
        made = f"read as {message.format}" if message.format else "made by a map"
        right = 'put { write = "xml" } before the check'
        raise MessageError(f"an XSD looks at XML, and the body is {made}; {right}", code="M233", place="body")
    if not message.changed:
        return message.raw
    written: bytes = message.codec.encode(body, message.memory)
    return written


def parse_xml(data: bytes) -> etree._Element:
    """Raises DecodeError; a DOCTYPE is refused, nothing outside is ever fetched."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise DecodeError(one_line(str(error), 200), line=error.lineno) from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise DecodeError("a DOCTYPE is not taken", line=1)
    return root


def _xsd_finding(entry: Any, root: etree._Element) -> Problem:
    found = root.xpath(entry.path) if entry.path else []
    node = found[0] if isinstance(found, list) and found else None
    path, text = ([], "") if node is None else _standing(node)
    said = str(entry.message)
    if text and (len(text) > 40 or is_secret(str(path[-1]))):
        said = said.replace(text, "***" if is_secret(str(path[-1])) else one_line(text))
    return Problem("M232", one_line(said, 240), place=field_path(path), line=entry.line or None)


def _standing(node: Any) -> tuple[list[str | int], str]:
    """Where an element or attribute stands, by local names, and its text."""
    path: list[str | int] = []
    text = str(getattr(node, "text", None) or "") if isinstance(node, etree._Element) else str(node)
    if not isinstance(node, etree._Element):
        path.append(f"@{_local(node.attrname)}")
        node = node.getparent()
    while node is not None:
        parent = node.getparent()
        alike = [] if parent is None else [child for child in parent if child.tag == node.tag]
        if len(alike) > 1:
            path.append(alike.index(node))
        path.append(_local(node.tag))
        node = parent
    return path[::-1], text


def _local(name: str) -> str:
    return name.rpartition("}")[2]
