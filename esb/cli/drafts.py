"""What `esb plugin new` writes: one working file of each kind, and its test. NAME and CLASS are filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_TARGET = '''"""The target `NAME`: appends each message to a file. Change `deliver` to reach your system."""

import asyncio
from contextlib import asynccontextmanager

from msgspec import Struct

from esb import Component, Receipt, Unavailable, hook


class CLASSOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`path` is the file that messages are appended to."""

    path: str


class CLASS:
    """Return means delivered; raise means not: Unavailable, Throttled, Unauthorized, Rejected, MaybeSent."""

    def __init__(self, path):
        self._path = path

    async def deliver(self, delivery):
        body = await delivery.body()
        try:
            await asyncio.to_thread(self._append, delivery.id.encode() + b" " + body + b"\\n")
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be written: {error}") from error
        return Receipt(note=f"{len(body)} bytes")

    def _append(self, line):
        with self._path.open("ab") as file:
            file.write(line)


@asynccontextmanager
async def open_NAME(options, context):
    yield CLASS(context.folder / options.path)


@hook
def esb_targets():
    return [
        Component(
            kind="target",
            name="NAME",
            about="Appends each message to a file, after its id",
            options=CLASSOptions,
            main="path",
            open=open_NAME,
            idempotent="by id",
            example='[target.out]\\nNAME = "out.log"',
        )
    ]
'''
_SOURCE = '''"""The source `NAME`: takes a message a line of a file. Change `run` to reach your system."""

import asyncio
from contextlib import asynccontextmanager

from msgspec import Struct

from esb import Busy, Closing, Component, Incoming, MessageError, hook


class CLASSOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`path` is the file that messages are read from."""

    path: str


class CLASS:
    """`accept` returns when the message is on disk: acknowledge then, in your own protocol."""

    def __init__(self, path, context):
        self._path = path
        self._context = context

    async def run(self, accept):
        while True:
            lines = self._path.read_bytes().splitlines() if self._path.exists() else []
            for number, line in enumerate(lines):
                await self._handed_in(accept, number, line)
            await self._context.clock.sleep(1.0)

    async def _handed_in(self, accept, number, line):
        while True:
            try:
                # The same claim again is the same message: after a crash no line comes twice.
                return await accept(Incoming(body=line, claim=f"{self._path}:{number}", about={"line": number}))
            except (Busy, Closing) as later:
                await self._context.clock.sleep(getattr(later, "retry_after", 0) or 1.0)
            except MessageError as never:
                return self._context.health("degraded", f"line {number + 1} was refused: {never}")


@asynccontextmanager
async def open_NAME(options, context):
    yield CLASS(context.folder / options.path, context)


@hook
def esb_sources():
    return [
        Component(
            kind="source",
            name="NAME",
            about="Takes a message a line of a file",
            options=CLASSOptions,
            main="path",
            open=open_NAME,
            example='from = { NAME = "in.log" }',
        )
    ]
'''
_STEP = '''"""The step `NAME`: stamps each message. Change `apply`; it is pure: a message in, none, one or many out."""

from contextlib import asynccontextmanager

from msgspec import Struct

from esb import Component, MessageError, hook


class CLASSOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`field` is the field that the stamp is written into."""

    field: str


class CLASS:
    def __init__(self, field):
        self._field = field

    def apply(self, message):
        if not isinstance(message.body, dict):
            raise MessageError("NAME wants an object: read the message first")
        return [message.with_body({**message.body, self._field: "NAME"})]


@asynccontextmanager
async def open_NAME(options, context):
    yield CLASS(options.field)


@hook
def esb_steps():
    return [
        Component(
            kind="step",
            name="NAME",
            about="Stamps each message",
            options=CLASSOptions,
            main="field",
            open=open_NAME,
            example='{ NAME = "stamp" }',
        )
    ]
'''
_HEAD = '''"""NAME in a route: run it with `python -m pytest adapters`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import NAME

TABLE = """
esb = 1
[defaults]
owner = "tests@example.org"
[target.out]
'''
_TARGET_TEST = (
    _HEAD
    + '''NAME = "out.log"
[route.all]
from = { http = "POST /all" }
to = ["out"]
"""


@pytest.mark.esb(TABLE, plugins=[NAME], real=["out"])
def test_a_message_is_appended(send, tmp_path):
    send("all", "hello")
    assert (tmp_path / "out.log").read_text().endswith(" hello\\n")
'''
)
_SOURCE_TEST = (
    _HEAD
    + '''memory = "out"
[route.all]
from = { NAME = "in.log" }
to = ["out"]
"""


@pytest.mark.esb(TABLE, plugins=[NAME], sources=True)
def test_each_line_is_one_message(bus, targets, tmp_path):
    (tmp_path / "in.log").write_text("one\\ntwo\\n")
    bus.advance(5)
    assert targets["out"].bodies == [b"one", b"two"]
'''
)
_STEP_TEST = (
    _HEAD
    + '''memory = "out"
[route.all]
from = { http = "POST /all" }
do = [{ read = "json" }, { NAME = "stamp" }, { write = "json" }]
to = ["out"]
"""


@pytest.mark.esb(TABLE, plugins=[NAME])
def test_a_message_is_stamped(send, targets):
    send("all", \'{"id": 1}\')
    assert targets["out"].bodies == [b\'{"id":1,"stamp":"NAME"}\']
'''
)

DRAFTS: Final[Mapping[str, tuple[str, str]]] = {
    "target": (_TARGET, _TARGET_TEST),
    "source": (_SOURCE, _SOURCE_TEST),
    "step": (_STEP, _STEP_TEST),
}
"""By kind: the plugin and its test."""
