"""One timer for many attempts: who is late is cancelled and told so, nobody else."""

from __future__ import annotations

import asyncio

import pytest

from esb.deadlines import Deadlines


async def attempt(deadlines: Deadlines, work: asyncio.Future[None]) -> str:
    task = asyncio.current_task()
    assert task is not None
    deadline = deadlines.begin(task)
    try:
        await work
    except asyncio.CancelledError:
        if deadline.end():
            return "late"
        raise
    finally:
        deadline.end()
    assert task.cancelling() == 0
    return "in time"


async def stubborn(deadlines: Deadlines, work: asyncio.Future[None]) -> str:
    """An attempt that swallows its cancellation."""
    task = asyncio.current_task()
    assert task is not None
    deadline = deadlines.begin(task)
    try:
        await asyncio.wait({work})
    except asyncio.CancelledError:
        pass
    finally:
        deadline.end()
    return f"{task.cancelling()} left"


async def test_each_attempt_has_its_own_time_and_ends_by_itself_or_late() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(0.05)
    done, never = loop.create_future(), loop.create_future()
    first = [asyncio.ensure_future(attempt(deadlines, work)) for work in (never, done)]
    await asyncio.sleep(0)
    done.set_result(None)
    await asyncio.sleep(0.03)
    later = asyncio.ensure_future(attempt(deadlines, loop.create_future()))
    assert await asyncio.gather(*first) == ["late", "in time"]
    assert not later.done()
    assert await later == "late"


async def test_a_cancellation_from_outside_is_not_taken_for_a_deadline() -> None:
    deadlines = Deadlines(5.0)
    task = asyncio.ensure_future(attempt(deadlines, asyncio.get_running_loop().create_future()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_attempt_that_swallows_its_cancellation_leaves_none_behind() -> None:
    assert await stubborn(Deadlines(0.01), asyncio.get_running_loop().create_future()) == "0 left"
