"""The step `read`: bytes to a plain tree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from msgspec import Struct

from esb import Codec, Component, Context, Message, MessageError, hook


class ReadOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`codec_options` are the step's other keys: the options of the codec."""

    format: str
    codec_options: dict[str, Any] = {}


class Read:
    """Decodes the body. `codec` and `format` are public: a split reads the parts of a large body by them."""

    def __init__(self, format: str, codec: Codec) -> None:
        self.format = format
        self.codec = codec

    def apply(self, message: Message) -> Sequence[Message]:
        body = message.body
        if type(body) is not bytes:
            raise MessageError(
                f"read {self.format}: the body is a tree already (read as {message.format or 'made by a map'}); "
                "put a write before this read, or leave it out",
                code="M281",
                place="body",
            )
        decoded = self.codec.decode(body)
        return (
            message.with_(
                body=decoded.tree,
                tree=None,
                format=self.format,
                codec=self.codec,
                memory=decoded.memory,
                source={**message.source, **decoded.about} if decoded.about else message.source,
                media_type=message.media_type or self.codec.media_type,
                changed=body is not message.raw and body != message.raw,
            ),
        )


def _open(options: ReadOptions, context: Context) -> AbstractAsyncContextManager[Read]:
    return nullcontext(Read(options.format, context.codec(options.format, options.codec_options)))


@hook
def esb_steps() -> Iterable[Component[Any]]:
    return [
        Component(
            kind="step",
            name="read",
            about="Decodes the body by a codec into a plain tree; the other keys are that codec's options.",
            options=ReadOptions,
            main="format",
            open=_open,
            example='do = [{ read = "csv", delimiter = ";", bad = "quarantine" }]',
        )
    ]
