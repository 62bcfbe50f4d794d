"""Components that block: what they do is done in threads, where it holds no loop (R18, `blocking = true`)."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from msgspec.structs import replace

from esb.message import Delivery
from esb.ports import Accept, Accepted, Component, Context, Incoming, Receipt, Source, Target

R = TypeVar("R")


async def in_thread(call: Callable[..., R], *arguments: Any) -> R:
    """Runs a call in a thread of its own.

    Cancelled, it raises CancelledError in the thread as soon as that runs Python again, and does not wait for it: a
    call that never returns holds up neither the loop nor the end of the process.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[R] = loop.create_future()

    def work() -> None:
        try:
            result = call(*arguments)
        except BaseException as error:
            tell(future.set_exception, RuntimeError("StopIteration") if isinstance(error, StopIteration) else error)
        else:
            tell(future.set_result, result)

    def tell(outcome: Callable[[Any], None], value: Any) -> None:
        try:
            loop.call_soon_threadsafe(lambda: None if future.done() else outcome(value))
        except RuntimeError:
            return  # the loop has ended meanwhile: nobody waits for this any more

    thread = threading.Thread(target=work, name=getattr(call, "__qualname__", "blocking"), daemon=True)
    thread.start()
    try:
        return await future
    except asyncio.CancelledError:
        if thread.is_alive():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(asyncio.CancelledError)
            )
        raise


def _finished(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call comes to, written with `async` or without. In a thread there is no loop that could wait for it."""
    given = call(*arguments)
    if not isinstance(given, Coroutine):
        return given
    try:
        given.send(None)
    except StopIteration as done:
        return done.value
    given.close()
    raise TypeError("a component with blocking = true awaits only accept, body and chunks")


class BlockingTarget:
    """A target whose deliveries each run in a thread; the body is read before."""

    def __init__(self, target: Target) -> None:
        self._target = target

    async def deliver(self, delivery: Delivery, /) -> Receipt | None:
        held = replace(delivery, content=await delivery.body())
        receipt: Receipt | None = await in_thread(_finished, self._target.deliver, held)
        return receipt


class BlockingSource:
    """A source that runs in a thread; what it accepts is accepted on the loop."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def run(self, accept: Accept, /) -> None:
        await in_thread(_finished, self._source.run, BlockingAccept(accept, asyncio.get_running_loop()))


class BlockingAccept:
    """`accept` for a thread: it waits there until the message is on disk."""

    def __init__(self, accept: Accept, loop: asyncio.AbstractEventLoop) -> None:
        self._accept = accept
        self._loop = loop

    async def __call__(self, message: Incoming, /) -> Accepted:
        return self._wait(self._accept(message))

    async def many(self, messages: Sequence[Incoming], /) -> Sequence[Accepted | Exception]:
        return self._wait(self._accept.many(messages))

    def _wait(self, accepting: Coroutine[Any, Any, R]) -> R:
        return asyncio.run_coroutine_threadsafe(accepting, self._loop).result()


@asynccontextmanager
async def opened(component: Component[Any], options: Any, context: Context) -> AsyncIterator[Any]:
    """A source or target, opened; one that blocks is opened, run and closed in threads."""
    manager = component.open(options, context)
    if not component.blocking:
        async with manager as made:
            yield made
        return
    made = await in_thread(_finished, manager.__aenter__)
    try:
        yield BlockingTarget(made) if component.kind == "target" else BlockingSource(made)
    finally:
        await in_thread(_finished, manager.__aexit__, None, None, None)
