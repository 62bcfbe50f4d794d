"""The step `write`: a plain tree to bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from msgspec import Struct

from esb import Codec, Component, Context, HeadedCodec, Message, MessageError, hook


class WriteOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`codec_options` are the step's other keys: the options of the codec."""

    format: str
    codec_options: dict[str, Any] = {}


class Write:
    """Encodes the body. What came in this format and was not changed goes out as the very bytes that came."""

    def __init__(self, format: str, codec: Codec, plain: bool) -> None:
        self.format = format
        self.codec = codec
        self._plain = plain
        self._headed = codec if isinstance(codec, HeadedCodec) else None

    def apply(self, message: Message) -> Sequence[Message]:
        tree = message.body
        if type(tree) is bytes:
            raise MessageError(
                f"write {self.format}: the body is bytes, there is no tree to write; put a read before it",
                code="M280",
                place="body",
            )
        same = message.format == self.format
        if same and not message.changed and self._plain and self._keeps(message.codec):
            return (message.with_(body=message.raw, tree=tree),)
        data = self.codec.encode(tree, message.memory if same else None)
        head = 0 if self._headed is None else len(self._headed.head(tree))
        return (message.with_(body=data, tree=tree, media_type=self.codec.media_type, changed=True, head=head),)

    def _keeps(self, read: Codec) -> bool:
        """A codec that reads one form and writes another (a CSV's delimiter) says so by `keeps`."""
        keeps: Callable[[Codec], bool] | None = getattr(self.codec, "keeps", None)
        return keeps is None or keeps(read)


def _open(options: WriteOptions, context: Context) -> AbstractAsyncContextManager[Write]:
    codec = context.codec(options.format, options.codec_options)
    return nullcontext(Write(options.format, codec, plain=not options.codec_options))


@hook
def esb_steps() -> Iterable[Component[Any]]:
    return [
        Component(
            kind="step",
            name="write",
            about="Encodes the tree by a codec into bytes; the other keys are that codec's options.",
            options=WriteOptions,
            main="format",
            open=_open,
            example='do = [{ read = "json" }, { write = "xml", root = "Order" }]',
        )
    ]
