"""The step `xslt`: XSLT 1.0 on the XML as it stands; no file outside `contracts/` and `maps/`, no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any

from lxml import etree
from msgspec import Struct

from esb import Component, Context, DecodeError, Expression, Message, MessageError, OptionError, Program, hook

PARSER: Mapping[str, Any] = {"resolve_entities": False, "no_network": True, "huge_tree": False, "load_dtd": False}


class XsltOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`stylesheet` stands beside the table; `params` are expressions over the message."""

    stylesheet: str
    params: Mapping[str, Expression] = {}


_BESIDE = ("contracts", "maps")


class Shelf(etree.Resolver):
    """Finds what a stylesheet includes in the table's `contracts` and `maps`, and nowhere else (DENY_ALL alone still
    lets xsl:include read a file)."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._allowed = [(folder / name).resolve() for name in _BESIDE]

    def resolve(self, url: Any, public_id: Any, context: Any) -> Any:  # type: ignore[override]  # the stubs lack it
        place = Path(url.removeprefix("file://")).resolve()
        if not any(place.is_relative_to(folder) for folder in self._allowed):
            # An error raised here would be lost and the file read all the same: an empty document fails to parse.
            return self.resolve_string("", context, base_url=None)
        return self.resolve_filename(str(place), context)  # type: ignore[attr-defined]  # the stubs lack it


class Xslt:
    """Gives bytes; read them again to go on with a tree."""

    def __init__(self, transform: Any, params: Mapping[str, Program]) -> None:
        self._transform = transform
        self._params = params

    def apply(self, message: Message) -> Sequence[Message]:
        data = message.body if type(message.body) is bytes else self._written(message)
        params = {name: etree.XSLT.strparam(_text(item.evaluate(message))) for name, item in self._params.items()}
        try:
            document: Any = etree.fromstring(data, etree.XMLParser(**PARSER))
            if document.getroottree().docinfo.doctype:
                raise DecodeError("a DOCTYPE is refused", code="M288")
            made = bytes(self._transform(document, **params))
        except etree.XMLSyntaxError as error:
            raise DecodeError(f"no XML: {error.msg}", code="M288", line=error.lineno) from error
        except etree.XSLTError as error:
            raise MessageError(f"xslt: {error}", code="M287", place="xslt") from error
        after = message.with_body(made)
        return (after.with_(media_type="application/xml", format="", codec=None, memory=None),)

    def _written(self, message: Message) -> bytes:
        if not message.changed:
            return message.raw
        if message.format != "xml" or message.codec is None:
            raise MessageError("xslt: the body is no XML; write it as xml before", code="M288", place="xslt")
        written: bytes = message.codec.encode(message.body, message.memory)
        return written


def _text(value: Any) -> str:
    return "true" if value is True else "false" if value is False else str(value)


def _open(options: XsltOptions, context: Context) -> AbstractAsyncContextManager[Xslt]:
    path = context.resource(options.stylesheet)
    parser = etree.XMLParser(**PARSER)
    beside = next((place for place in path.parents if place.name in _BESIDE), None)
    parser.resolvers.add(Shelf(context.folder if beside is None else beside.parent))
    try:
        sheet = etree.parse(str(path), parser)
        deny_all = etree.XSLTAccessControl.DENY_ALL  # type: ignore[attr-defined]  # the stubs lack it
        transform = etree.XSLT(sheet, access_control=deny_all)
    except (etree.XMLSyntaxError, etree.XSLTParseError) as error:
        raise OptionError("stylesheet", f"no stylesheet: {error}", "XSLT 1.0 in XML", code="E234") from error
    return nullcontext(Xslt(transform, {name: context.expression(text) for name, text in options.params.items()}))


XSLT = Component(
    kind="step",
    name="xslt",
    about="Transforms XML by an XSLT 1.0 stylesheet",
    options=XsltOptions,
    main="stylesheet",
    open=_open,
    example='{ xslt = "maps/order.xsl", params = { run = \'header["x-run"]\' } }',
)


@hook
def esb_steps() -> Iterable[Component[Any]]:
    return [XSLT]
