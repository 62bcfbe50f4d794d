"""One body cut into parts, each planned: streamed where the codec can, in constant memory (R5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from esb.errors import DecodeError, MessageError
from esb.ids import derived_uid
from esb.message import BadPart, Headers, Message, Part, hops_of
from esb.pipeline import Planner
from esb.ports import Codec
from esb.stepping import Trace, Voice
from esb.store.records import NewBody, NewMessage, OpenMessage
from esb.watchdog import Watchdog

CHUNK_PARTS = 200
"""Parts of one commit at most."""

CHUNK_BYTES = 2_000_000
"""Bytes of one commit's parts, about."""

READ = 262_144
"""Bytes read from a body's file at a time."""


class Cut:
    """One body being cut into planned parts; runs in a thread, a chunk at a time, under the watchdog's eyes."""

    def __init__(
        self, planner: Planner, row: OpenMessage, json: Codec, watchdog: Watchdog, voice: Voice | None = None
    ) -> None:
        self._planner = planner
        self._row = row
        self._json = json
        self._watchdog = watchdog
        self._voice = voice
        self._message = stored_message(row, row.body or b"")
        self._split: Any = None
        self._index = 0
        self._parts: Iterator[tuple[Part | BadPart, bool]] = iter(())
        self._carried: tuple[Any, Mapping[str, Any], bytes] | None = None
        self._raw_json = False

    def start(self, skip: int) -> MessageError | None:
        """Gets ready and passes over what is made already; the error that nothing of the body can be used for."""
        try:
            self._watchdog.within(f"route {self._row.route}", self._row.size, self._start, skip)
        except MessageError as error:
            return error
        return None

    def _start(self, skip: int) -> None:
        split_at = self._planner.blueprint.split_at
        assert split_at is not None
        self._split = self._planner.blueprint.steps[split_at].step
        if self._split.whole or self._has_totals():
            for _ in self._source():
                pass
        self._parts = with_last(iter(self._source()))
        for _ in range(skip):
            next(self._parts)
        self._index = skip

    def _has_totals(self) -> bool:
        """Whether the file is to be compared with control totals before anything of it is used (codec.whole)."""
        return self._planner.blueprint.streaming and bool(getattr(codec_of(self._planner), "whole", False))

    def _source(self) -> Iterable[Part | BadPart]:
        """The parts: streamed from the bytes where only a read stands before the split, else of the tree."""
        blueprint = self._planner.blueprint
        if blueprint.streaming:
            codec = codec_of(self._planner)
            self._message = self._message.with_(format=blueprint.steps[0].step.format, codec=codec)
            return codec.parts(_chunks(self._row), self._split.path)
        if self._row.body is None and self._row.body_file is not None:
            data = self._row.body_file.read_bytes()
            self._message = self._message.with_(body=data, raw=data)
        before = self._planner.before_split(self._message)
        self._message = before
        items = self._split.items(before.body, before.format)
        self._raw_json = True
        return [Part(tree=item, raw=self._json.encode(item), outer=before.body, count=len(items)) for item in items]

    def chunk(self) -> tuple[list[NewMessage], MessageError | None, bool]:
        """The next parts, planned; the error that ends the input, if it does; whether that was all."""
        made: list[NewMessage] = []
        size = 0
        within, owner = self._watchdog.within, f"route {self._row.route}"
        try:
            while (found := within(owner, self._row.size, next, self._parts, None)) is not None:
                part, last = found
                self._index += 1
                made.append(within(owner, len(part.raw), self._plan, part, last))
                size += len(part.raw)
                if len(made) >= CHUNK_PARTS or size >= CHUNK_BYTES:
                    return made, None, last
        except MessageError as error:
            return made, error, False
        return made, None, True

    def _plan(self, part: Part | BadPart, last: bool) -> NewMessage:
        uid = derived_uid(self._row.uid, "part", str(self._index))
        count = part.count if isinstance(part, Part) else None
        trace = Trace(part=(self._index, count, last, part.line), raw_json=self._raw_json)
        body = NewBody(data=part.raw, size=len(part.raw), media=self._message.media_type)
        message = self._message.with_(uid=uid, raw=part.raw, changed=False, memory=None, tree=None)
        if isinstance(part, BadPart):
            return self._planner.bad_part(message, body, self._row.uid, trace, last, part.error)
        try:
            carried, trace.carry = self._carry(part)
        except MessageError as error:
            return self._planner.bad_part(message, body, self._row.uid, trace, last, error)
        codec = self._json if self._raw_json and message.codec is None else message.codec
        message = message.with_(
            body=part.tree,
            codec=codec,
            part=place_of(trace),
            parent=carried,
            memory=part.memory,
            source={**message.source, **part.about} if part.about else message.source,
        )
        return self._planner.part(message, body, self._row.uid, trace, last, self._voice)

    def _carry(self, part: Part) -> tuple[Mapping[str, Any], bytes]:
        """What the parts take along from the whole; worked out once for one `outer`."""
        if not self._split.carry:
            return {}, b""
        if self._carried is None or self._carried[0] is not part.outer:
            seen = self._message.with_(body=part.outer)
            values = {name: program.evaluate(seen) for name, program in self._split.carry.items()}
            self._carried = (part.outer, values, self._json.encode(values))
        return self._carried[1], self._carried[2]


def with_last(items: Iterator[Part | BadPart]) -> Iterator[tuple[Part | BadPart, bool]]:
    """Each part with whether it is the last. What comes before an error is given before it is raised."""
    try:
        item = next(items)
    except StopIteration:
        return
    while True:
        try:
            following = next(items)
        except StopIteration:
            yield item, True
            return
        except MessageError:
            yield item, False
            raise
        yield item, False
        item = following


def place_of(trace: Trace) -> Mapping[str, Any]:
    """`part.*` in expressions."""
    assert trace.part is not None
    index, count, last, line = trace.part
    return {"index": index, "count": count, "last": last, "line": line}


def codec_of(planner: Planner) -> Codec:
    """The codec of the read before the split."""
    blueprint = planner.blueprint
    assert blueprint.split_at is not None
    for step in reversed(blueprint.steps[: blueprint.split_at]):
        if step.kind == "read":
            codec: Codec = step.step.codec
            return codec
    raise DecodeError("no read before the split says what the parts are", code="M219")


def _chunks(row: OpenMessage) -> Iterator[bytes]:
    if row.body is not None:
        yield row.body
        return
    assert row.body_file is not None
    with Path(row.body_file).open("rb") as file:
        while chunk := file.read(READ):
            yield chunk


def stored_message(row: OpenMessage, data: bytes) -> Message:
    """A stored message as its route sees it first."""
    return Message(
        uid=row.uid,
        route=row.route,
        accepted_at=row.accepted_at,
        body=data,
        raw=data,
        headers=Headers(row.headers),
        source=row.source,
        media_type=row.media,
        hops=hops_of(row.headers),
        caller=row.caller,
    )
