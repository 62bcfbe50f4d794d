"""Code that computes too long: stopped in Python, named where it stays in C (R18)."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from esb.errors import StepTimeout

log = logging.getLogger(__name__)

STALL = 0.05
"""Seconds after which code that holds the loop is named."""

GIVE_UP = 30.0
"""Seconds past its time after which code that cannot be stopped ends the process: the next start knows what it was."""

PER_BYTE = 1e-6
"""Seconds more that a thread has for each byte it works on: one for a megabyte."""

P = ParamSpec("P")
R = TypeVar("R")


class Stopped(StepTimeout):
    """Raised in a thread from outside, where it can be given no text."""

    def __init__(self) -> None:
        super().__init__("computed for longer than step_timeout allows and was stopped")


class Stretch:
    """One stretch of code in a thread: what it is, until when it may compute, and when the process gives it up."""

    __slots__ = ("end", "fired", "name", "owner", "time", "until")

    def __init__(self, owner: str, name: str, seconds: float) -> None:
        self.owner = owner
        self.name = name
        self.time = seconds
        self.until = time.monotonic() + seconds
        self.end = self.until + GIVE_UP
        self.fired = False


class Watchdog:
    """Watches what computes, on the loop and in threads. A guarded call costs three assignments; a thread looks ten
    times a second. `owner` is on whose account something computes (`route orders`, `target erp`); `ended` hears of it,
    and for how many seconds it held on, just before the process is ended for its sake."""

    def __init__(
        self,
        step_timeout: float,
        stalled: Callable[[str, float], None] | None = None,
        ended: Callable[[str, float], None] | None = None,
    ) -> None:
        self._timeout = step_timeout
        self._stalled = stalled or (lambda name, seconds: None)
        self._last_words = ended or (lambda owner, seconds: None)
        self._owner = ""
        self._since = 0.0
        self._begun = 0.0
        self._stop = threading.Event()
        self._main = threading.main_thread().ident
        self._threads: dict[int, Stretch] = {}
        self._lock = threading.Lock()

    def guard(self, owner: str, call: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        """Runs a call on the loop; raises StepTimeout in it when it computes longer than `step_timeout`."""
        self._owner = owner
        self._since = self._begun = time.monotonic()
        try:
            return call(*arguments, **options)
        finally:
            self._ended(call)

    def _ended(self, what: Any) -> None:
        took = time.monotonic() - self._begun
        self._since = 0.0
        if took > STALL:
            self._stalled(getattr(what, "__qualname__", repr(what)), took)

    @types.coroutine
    def driven(self, owner: str, coroutine: Coroutine[Any, Any, R]) -> Generator[Any, Any, R]:
        """Awaits a stranger's coroutine; each stretch between two of its waits is guarded like a call."""
        given: Any = None
        error: BaseException | None = None
        while True:
            self._owner = owner
            self._since = self._begun = time.monotonic()
            try:
                waited = coroutine.send(given) if error is None else coroutine.throw(error)
            except StopIteration as done:
                result: R = done.value
                return result
            finally:
                self._ended(coroutine)
            try:
                given, error = (yield waited), None
            except BaseException as thrown:
                error = thrown

    async def threaded(self, owner: str, size: int, call: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        """Runs a call that works on `size` bytes in a thread; StepTimeout is raised in it after `step_timeout` and a
        second more for each megabyte."""

        def guarded() -> R:
            return self.within(owner, size, call, *arguments, **options)

        return await asyncio.to_thread(guarded)

    def within(self, owner: str, size: int, call: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        """The same in the thread that asks."""
        thread = threading.get_ident()
        stretch = Stretch(owner, getattr(call, "__qualname__", repr(call)), self._timeout + size * PER_BYTE)
        with self._lock:
            self._threads[thread] = stretch
        try:
            return call(*arguments, **options)
        except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            # Out of a thread of asyncio's these would end the loop, and the bus with it.
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        finally:
            with self._lock:
                self._threads.pop(thread, None)
                if stretch.fired:
                    # What was sent and did not arrive yet must not hit whatever this thread does next.
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The thread and the signal's handler, for as long as the block. Outside a process's main thread, where no
        handler can be set, only what runs in threads is stopped."""
        handles = threading.get_ident() == self._main and sys.platform != "win32"
        before = signal.signal(signal.SIGALRM, self._raise) if handles else None
        thread = threading.Thread(target=self._watch, args=(handles,), name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(timeout=1.0)
            if handles:
                signal.signal(signal.SIGALRM, before)

    def _watch(self, handles: bool) -> None:
        interval = min(0.1, self._timeout / 4)
        while not self._stop.wait(interval):
            now = time.monotonic()
            if handles:
                self._watch_loop(now)
            self._watch_threads(now)

    def _watch_loop(self, now: float) -> None:
        since, begun = self._since, self._begun
        if not since:
            return
        if now - begun > self._timeout + GIVE_UP:
            self._end(self._owner, "the loop", self._main or 0, now - begun)
        elif now - since > self._timeout:
            os.kill(os.getpid(), signal.SIGALRM)

    def _watch_threads(self, now: float) -> None:
        with self._lock:
            for thread, stretch in self._threads.items():
                if now > stretch.end:
                    held = now - stretch.end + GIVE_UP + stretch.time
                    self._end(stretch.owner, f"the thread of {stretch.name}", thread, held)
                elif now > stretch.until:
                    stretch.fired = True
                    stretch.until = now + self._timeout
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Stopped))

    def _raise(self, number: int, frame: object) -> None:
        """Runs in the main thread between two bytecodes: only code that is still guarded is stopped."""
        since = self._since
        if since and time.monotonic() - since > self._timeout:
            self._since = time.monotonic()
            raise StepTimeout(f"computed for longer than {self._timeout:g} s and was stopped")

    def _end(self, owner: str, what: str, thread: int, held: float) -> None:
        frame = sys._current_frames().get(thread)
        where = "".join(traceback.format_stack(frame)[-3:]) if frame is not None else ""
        said = "%s is held for %.0f s by code of %s that cannot be stopped; ending the process\n%s"
        log.critical(said, what, held, owner, where)
        self._last_words(owner, held)
        os._exit(70)
