"""The step `remove`: takes single fields and headers away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from msgspec import Struct

from esb import Component, Context, Headers, Message, MessageError, OptionError, TreePath, hook


class RemoveOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Paths: `["body.note", "header.x-debug"]`. What is not there stays away: no error."""

    paths: tuple[str, ...]


class Remove:
    """The message without these fields. One that has none of them stays the very same message."""

    def __init__(self, paths: Sequence[TreePath]) -> None:
        self._body = [path for path in paths if path.root == "body"]
        self._headers = {path.keys[0].lower() for path in paths if path.root == "header"}

    def apply(self, message: Message) -> Sequence[Message]:
        if self._headers & message.headers.keys():
            kept = {name: value for name, value in message.headers.items() if name not in self._headers}
            message = message.with_(headers=Headers(kept))
        if not self._body:
            return (message,)
        if type(message.body) is bytes:
            raise MessageError("remove: the body is bytes; put a read before it", code="M280", place=self._body[0].text)
        body = message.body
        for path in self._body:
            body = path.drop(body)
        if body is message.body:
            return (message,)
        media_type = message.codec.media_type if message.codec is not None else message.media_type
        return (message.with_(body=body, changed=True, media_type=media_type),)


def _path(text: str) -> TreePath:
    try:
        path = TreePath.parse(text, ("body", "header"))
    except ValueError as error:
        raise OptionError("paths", str(error), code="E231") from error
    if not path.keys:
        raise OptionError("paths", f'"{text}" is the whole {text}', f'name a field: "{text}.note"', code="E231")
    if path.root == "header" and len(path.keys) != 1:
        raise OptionError("paths", f'"{text}" is not a header', 'write "header.x-run"', code="E231")
    return path


def _open(options: RemoveOptions, context: Context) -> AbstractAsyncContextManager[Remove]:
    return nullcontext(Remove([_path(text) for text in options.paths]))


@hook
def esb_steps() -> Iterable[Component[Any]]:
    return [
        Component(
            kind="step",
            name="remove",
            about="Takes fields of the body and headers away.",
            options=RemoveOptions,
            main="paths",
            open=_open,
            example="""do = [{ read = "json" }, { remove = ["body.note", "header.x-debug"] }]""",
        )
    ]
