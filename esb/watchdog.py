"""Code that computes too long: stopped in Python, named where it stays in C (R18)."""

from __future__ import annotations

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

P = ParamSpec("P")
R = TypeVar("R")


class Watchdog:
    """Watches what runs on the loop. A guarded call costs two assignments; a thread looks ten times a second."""

    def __init__(self, step_timeout: float, stalled: Callable[[str, float], None] | None = None) -> None:
        self._timeout = step_timeout
        self._stalled = stalled or (lambda name, seconds: None)
        self._since = 0.0
        self._name = ""
        self._fired = False
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
                self._stalled(getattr(call, "__qualname__", repr(call)), took)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The thread and the signal's handler, for as long as the block; only in a process's main thread."""
        if threading.get_ident() != self._main or sys.platform == "win32":
            yield
            return
        before = signal.signal(signal.SIGALRM, self._raise)
        thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(timeout=1.0)
            signal.signal(signal.SIGALRM, before)

    def _watch(self) -> None:
        interval = min(0.1, self._timeout / 4)
        while not self._stop.wait(interval):
            since = self._since
            held = time.monotonic() - since if since else 0.0
            if held > GIVE_UP:
                self._end(held)
            elif held > self._timeout:
                os.kill(os.getpid(), signal.SIGALRM)

    def _raise(self, number: int, frame: object) -> None:
        """Runs in the main thread between two bytecodes: only code that is still guarded is stopped."""
        since = self._since
        if since and time.monotonic() - since > self._timeout:
            self._since = time.monotonic()
            raise StepTimeout(f"computed for longer than {self._timeout:g} s and was stopped")

    def _end(self, held: float) -> None:
        frame = sys._current_frames().get(self._main or 0)
        where = "".join(traceback.format_stack(frame)[-3:]) if frame is not None else ""
        log.critical("the loop is held for %.0f s by code that cannot be stopped; ending the process\n%s", held, where)
        os._exit(70)
