"""The step `set`: gives single fields and headers a value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from decimal import Decimal
from typing import Any

from msgspec import Struct

from esb import (
    Component,
    Context,
    Expression,
    Headers,
    Message,
    MessageError,
    Optional,
    OptionError,
    Program,
    TreePath,
    hook,
)


class SetOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Path to CEL: `{ "body.total" = 'CEL', "header.x-run" = 'CEL' }`."""

    fields: dict[str, Expression]


class Set:
    """All values are computed from the message as it comes in, then set: the order of the lines does not matter."""

    def __init__(self, fields: Sequence[tuple[TreePath, Program]]) -> None:
        self._body = [(path, program) for path, program in fields if path.root == "body"]
        self._headers = [(path.keys[0].lower(), program) for path, program in fields if path.root == "header"]

    def apply(self, message: Message) -> Sequence[Message]:
        values = [(path, value) for path, program in self._body for value in given(program.evaluate(message))]
        named = [
            (name, header_text(name, value))
            for name, program in self._headers
            for value in given(program.evaluate(message))
        ]
        if values:
            message = _with_values(message, values)
        if named:
            message = message.with_(headers=Headers({**message.headers, **dict(named)}))
        return (message,)


def _with_values(message: Message, values: Sequence[tuple[TreePath, Any]]) -> Message:
    if type(message.body) is bytes:
        raise MessageError("set: the body is bytes; put a read before it", code="M280", place=values[0][0].text)
    body = message.body
    for path, value in values:
        body = path.put(body, value)
    media_type = message.codec.media_type if message.codec is not None else message.media_type
    return message.with_(body=body, changed=True, media_type=media_type)


def given(value: Any) -> Sequence[Any]:
    """The value to set: an optional gives its own, and an empty one sets nothing."""
    if not isinstance(value, Optional):
        return (value,)
    return (value.value,) if value.has_value else ()


def header_text(name: str, value: Any) -> str:
    """A value as a header: texts, numbers and truths; never a line break (FAULTS 71)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, Decimal)):
        return str(value)
    place = f"header.{name}"
    if not isinstance(value, str):
        kind = "null" if value is None else f"a {type(value).__name__}"
        raise MessageError(f"{place} must be a text, and this is {kind}; write string(...)", code="M285", place=place)
    if any(mark in value for mark in "\r\n\0"):
        raise MessageError(f"{place} may not hold a line break or NUL", code="M285", place=place)
    return value


def _path(text: str) -> TreePath:
    try:
        path = TreePath.parse(text, ("body", "header"))
    except ValueError as error:
        raise OptionError("fields", str(error), code="E231") from error
    if path.root == "header" and len(path.keys) != 1:
        raise OptionError("fields", f'"{text}" is not a header', 'write "header.x-run"', code="E231")
    if path.root == "header" and path.keys[0].lower().startswith("esb-"):
        raise OptionError("fields", "headers that begin with esb- belong to the bus", "name it otherwise", code="E231")
    return path


def _open(options: SetOptions, context: Context) -> AbstractAsyncContextManager[Set]:
    return nullcontext(Set([(_path(path), context.expression(text)) for path, text in options.fields.items()]))


@hook
def esb_steps() -> Iterable[Component[Any]]:
    return [
        Component(
            kind="step",
            name="set",
            about="Sets fields of the body and headers to the values of expressions.",
            options=SetOptions,
            main="fields",
            open=_open,
            example="""do = [
  { read = "json" },
  { set = { "body.total" = 'body.net + body.tax', "header.x-run" = 'message.id' } },
]""",
        )
    ]
