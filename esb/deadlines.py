"""The time that each attempt of a lane has: all have the same, so that one timer watches the oldest."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


class Deadline:
    """One attempt's. `over` once the attempt has ended; `passed` when the task was cancelled because time was up."""

    __slots__ = ("at", "over", "passed", "task")

    def __init__(self, task: asyncio.Task[Any], at: float) -> None:
        self.task = task
        self.at = at
        self.over = False
        self.passed = False

    def end(self) -> bool:
        """The attempt is over, however it ended. True the first time when its task was cancelled for this and nothing
        else; that cancellation is taken back."""
        first, self.over = not self.over, True
        return first and self.passed and self.task.uncancel() <= 0


class Deadlines:
    """Cheaper than a timer an attempt where thousands end in time every second."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: deque[Deadline] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: asyncio.Task[Any]) -> Deadline:
        """The task has so many seconds from now on, until it says `end`."""
        loop = task.get_loop()
        deadline = Deadline(task, loop.time() + self._seconds)
        running = self._running
        while running and running[0].over:
            running.popleft()
        running.append(deadline)
        if self._timer is None:
            self._timer = loop.call_at(deadline.at, self._look)
        return deadline

    def _look(self) -> None:
        """Cancels what is late, and looks again when the next one would be."""
        self._timer = None
        running = self._running
        while running:
            oldest = running[0]
            if not oldest.over:
                loop = oldest.task.get_loop()
                if loop.time() < oldest.at:
                    self._timer = loop.call_at(oldest.at, self._look)
                    return
                oldest.passed = True
                oldest.task.cancel()
            running.popleft()
