"""Code that computes too long: stopped in Python, named where it stays in C (R18)."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from esb.errors import StepTimeout

log = logging.getLogger(__name__)

STALL = 0.05
"""Seconds after which code that holds the loop is named."""

GIVE_UP = 30.0
"""Seconds after which a process whose loop is held for good ends itself, so that the next start can open it paused."""

BEAT = 0.1
"""Seconds between two signs of life of the loop."""

HELD = 1.0
"""Seconds without a sign of life after which whatever holds the loop is named."""

STOOD = 5.0
"""Seconds between two looks after which it was the process that stood still (SIGSTOP, a sleeping machine)."""

P = ParamSpec("P")
R = TypeVar("R")


class Watchdog:
    """Watches what runs on the loop. A guarded call costs two assignments; a thread looks ten times a second.

    What is not guarded (a target's or a source's own code) cannot be stopped: it is named, and ends the process when it
    holds the loop for good."""

    def __init__(self, step_timeout: float, stalled: Callable[[str, float], None] | None = None) -> None:
        self._timeout = step_timeout
        self._stalled = stalled or (lambda name, seconds: None)
        self._since = 0.0
        self._name = ""
        self._fired = False
        self._beat = 0.0
        self._told = False
        self._stop = threading.Event()
        self._main = threading.main_thread().ident

    def guard(self, call: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        """Runs a call on the loop; raises StepTimeout in it when it computes longer than `step_timeout`."""
        begun = self._since = time.monotonic()
        try:
            return call(*arguments, **options)
        finally:
            took = time.monotonic() - begun
            self._since = 0.0
            if took > STALL:
                self._beat = begun + took
                self._stalled(getattr(call, "__qualname__", repr(call)), took)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The thread and the signal's handler, for as long as the block; only in a process's main thread."""
        if threading.get_ident() != self._main or sys.platform == "win32":
            yield
            return
        before = signal.signal(signal.SIGALRM, self._raise)
        thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._pulse(asyncio.get_running_loop())
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._timer.cancel()
            thread.join(timeout=1.0)
            signal.signal(signal.SIGALRM, before)

    def _pulse(self, loop: asyncio.AbstractEventLoop) -> None:
        """A sign of life, and the next one."""
        self._beat = time.monotonic()
        self._timer = loop.call_later(BEAT, self._pulse, loop)

    def _watch(self) -> None:
        interval = min(0.1, self._timeout / 4)
        looked = time.monotonic()
        while not self._stop.wait(interval):
            now, before, looked = time.monotonic(), looked, time.monotonic()
            if now - before > STOOD:
                self._beat = now
            since = self._since
            held = time.monotonic() - since if since else 0.0
            if held > GIVE_UP:
                self._end(held)
            elif held > self._timeout:
                os.kill(os.getpid(), signal.SIGALRM)
            elif not since and self._beat:
                self._look_at_loop(now - self._beat)

    def _look_at_loop(self, held: float) -> None:
        """Names what holds the loop, once; ends the process when it does so for good."""
        if held > GIVE_UP:
            self._end(held)
        elif held > HELD and not self._told:
            log.error("the loop is held for %.1f s by code that cannot be stopped:\n%s", held, self._where())
        self._told = held > HELD

    def _raise(self, number: int, frame: object) -> None:
        """Runs in the main thread between two bytecodes: only code that is still guarded is stopped."""
        since = self._since
        if since and time.monotonic() - since > self._timeout:
            self._since = time.monotonic()
            raise StepTimeout(f"computed for longer than {self._timeout:g} s and was stopped")

    def _end(self, held: float) -> None:
        text = "the loop is held for %.0f s by code that cannot be stopped; ending the process\n%s"
        log.critical(text, held, self._where())
        os._exit(70)

    def _where(self) -> str:
        """The innermost calls of the main thread now."""
        frame = sys._current_frames().get(self._main or 0)
        return "" if frame is None else "".join(traceback.format_stack(frame)[-3:])
