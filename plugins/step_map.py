"""The step `map`: makes a new body, or a part of it, by a `[map.NAME]`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Protocol

from msgspec import Struct

from esb import Component, Context, Message, MessageError, OptionError, TreePath, hook


class Mapping(Protocol):
    """What `context.mapping` gives: a map that takes a message."""

    def apply(self, message: Message, /) -> Any: ...


class MapOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`into` is a path of the body that takes the result; without it the result replaces the body."""

    name: str
    into: str | None = None


class Map:
    """A replaced body has no format any more: a `write` must say one."""

    def __init__(self, mapping: Mapping, into: TreePath | None) -> None:
        self._mapping = mapping
        self._into = into

    def apply(self, message: Message) -> Sequence[Message]:
        into = self._into
        if into is not None and type(message.body) is bytes:
            raise MessageError("map: the body is bytes; put a read before it", code="M280", place=into.text)
        made = self._mapping.apply(message)
        if into is None:
            return (message.with_(body=made, changed=True, format="", codec=None, memory=None, media_type=""),)
        media_type = message.codec.media_type if message.codec is not None else message.media_type
        return (message.with_(body=into.put(message.body, made), changed=True, media_type=media_type),)


def _into(text: str | None) -> TreePath | None:
    if text is None:
        return None
    try:
        path = TreePath.parse(text, ("body",))
    except ValueError as error:
        raise OptionError("into", str(error), code="E231") from error
    if not path.keys:
        raise OptionError(
            "into", "into names a field of the body", 'write into = "body.erp", or leave it out', code="E231"
        )
    return path


def _open(options: MapOptions, context: Context) -> AbstractAsyncContextManager[Map]:
    return nullcontext(Map(context.mapping(options.name), _into(options.into)))


@hook
def esb_steps() -> Iterable[Component[Any]]:
    return [
        Component(
            kind="step",
            name="map",
            about="Makes a new body by a [map.NAME]; `into` adds the result to the body instead.",
            options=MapOptions,
            main="name",
            open=_open,
            example='do = [{ read = "xml" }, { map = "order_to_erp" }, { write = "json" }]',
        )
    ]
