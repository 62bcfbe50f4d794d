"""A plugin that does everything a plugin must not do, when a message or its option tells it to."""

from __future__ import annotations

import asyncio
import locale
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from msgspec import Struct

from esb import Component, Message, hook


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    main: str


def spin() -> None:
    while True:
        pass


def hold() -> None:
    """As code in C does that never comes back to Python."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(60)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def litter() -> None:
    """Everything that changes the process under the bus's feet."""
    print("printed by a plugin")
    os.chdir("/")
    os.umask(0)
    locale.setlocale(locale.LC_ALL, "C")
    logging.getLogger("esb").setLevel(logging.ERROR)
    logging.getLogger().handlers.clear()
    sys.stdout = None
    os.environ.clear()


ERRORS = {error.__name__: error for error in (SystemExit, KeyboardInterrupt, GeneratorExit, RecursionError)}
DEEDS = {"spin": spin, "sleep": lambda: time.sleep(60), "hold": hold, "die": die, "litter": litter}


def do(said: str) -> None:
    """What the first word of a body says; nothing for any other body."""
    word = said.partition(" ")[0]
    if word in ERRORS:
        raise ERRORS[word]("said so")
    DEEDS.get(word, lambda: None)()


class Step:
    def apply(self, message: Message) -> Any:
        do(message.raw[:100].decode())
        return [message]


class Target:
    async def deliver(self, delivery: Any) -> None:
        said = (await delivery.body()).decode()
        if said.startswith("hang"):
            await asyncio.Event().wait()
        do(said)


class Source:
    def __init__(self, options: Options) -> None:
        self._said = options.main

    async def run(self, accept: Any) -> None:
        await asyncio.sleep(0.05)
        do(self._said)


@asynccontextmanager
async def open_source(options: Options, context: Any) -> AsyncIterator[Source]:
    yield Source(options)


@hook
def esb_steps() -> Iterable[Component[Any]]:
    step = nullcontext(Step())
    yield Component(
        kind="step", name="faulty", about="fails", options=Options, main="main", example="{ faulty = '' }",
        open=lambda options, context: step,
    )  # fmt: skip


@hook
def esb_targets() -> Iterable[Component[Any]]:
    yield Component(
        kind="target", name="faulty", about="fails", options=Options, main="main", example="[target.x]\nfaulty = ''",
        open=lambda options, context: nullcontext(Target()),
    )  # fmt: skip


@hook
def esb_sources() -> Iterable[Component[Any]]:
    yield Component(
        kind="source", name="faulty", about="fails", options=Options, main="main", example="from = { faulty = '' }",
        open=open_source,
    )  # fmt: skip
