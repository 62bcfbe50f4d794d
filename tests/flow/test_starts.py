"""What a stop, a start and a clock that jumps leave as it is (R12, R14, R16)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from esb.clock import VirtualClock
from esb.errors import Busy
from esb.plugins import load_plugins
from esb.store import dead_letters
from esb.table.load import load
from esb.testing import Harness, running, running_table, write_table

BEGIN = 'esb = 1\n[defaults]\nowner = "tests@example.org"\n'
PLAIN = (
    BEGIN + '[target.erp]\nmemory = "erp"\n[route.orders]\nfrom = { memory = "starts" }\n'
    'do = [{ read = "json" }]\nto = ["erp"]\n'
)
ORDERED = PLAIN.replace('memory = "erp"', 'memory = "erp"\norder_by = "{body.k}"\nwhen_stuck = "skip"')
KEPT = PLAIN.replace("do = ", 'expires = "1h"\nonce = "{body.id}"\ndo = ')
PARK = '[retry.careful]\nunknown = { as = "park" }\n' + "[bus]\ndrain = '1s'\n"
DAY = 86400.0


@asynccontextmanager
async def start(folder: Path, text: str, clock: VirtualClock, *, sources: bool = False) -> AsyncIterator[Harness]:
    """A bus that finds the store of the one before."""
    registry = load_plugins()
    table = load(write_table(folder, text, {}), registry)
    async with running_table(table, registry, folder, clock=clock, sources=sources) as bus:
        yield bus


async def rows(bus: Harness, columns: str) -> list[Any]:
    found: list[Any] = await bus.bus.store.query(
        lambda db: db.execute(f"SELECT {columns} FROM delivery ORDER BY id").fetchall()
    )
    return found


async def state(bus: Harness, uid: str) -> str:
    found = await bus.bus.store.message_state(uid)
    assert found is not None
    return found.state


@pytest.mark.parametrize("back", [1800.0, DAY])
async def test_what_waits_for_a_time_follows_a_clock_that_is_set_back_r12(tmp_path: Path, back: float) -> None:
    clock = VirtualClock()
    async with start(tmp_path, PLAIN, clock) as bus:
        bus.targets["erp"].answer("down")
        await bus.send("orders", "{}")
        await bus.settled()
    async with start(tmp_path, PLAIN, VirtualClock(clock.now() - back)) as bus:
        await bus.advance(60)
        assert len(bus.targets["erp"].taken) == 1


async def test_a_timer_ticks_on_after_the_clock_was_set_back_r12(tmp_path: Path) -> None:
    text = BEGIN + '[target.erp]\nmemory = "erp"\n[route.tick]\nfrom = { timer = "t", every = "1m" }\nto = ["erp"]\n'
    begun = 1_790_000_000.0
    async with start(tmp_path, text, VirtualClock(begun), sources=True) as bus:
        await bus.advance(130)
        assert bus.targets["erp"].taken
    async with start(tmp_path, text, VirtualClock(begun - 365 * DAY), sources=True) as bus:
        await bus.advance(200)
        assert len(bus.targets["erp"].taken) == 3


async def test_a_jump_is_held_over_further_starts_and_nothing_is_let_go_until_somebody_agrees_r12(
    tmp_path: Path,
) -> None:
    clock = VirtualClock()
    async with start(tmp_path, KEPT, clock) as bus:
        await bus.send("orders", '{"id": 0}')
        await bus.bus.pauses.pause("target", "erp", "x")
        waits = await bus.send("orders", '{"id": 1}')
        await bus.settled()
    clock = VirtualClock(clock.now() + 365 * DAY)
    for _ in range(2):
        async with start(tmp_path, KEPT, clock) as bus:
            await bus.advance(10)
            assert bus.bus.lanes["erp"].hold_expiry
            assert (await bus.send("orders", '{"id": 0}')).duplicate, "no key is forgotten"
            assert await state(bus, waits.id) == "open"
        clock = VirtualClock(clock.now() + 5)
    async with start(tmp_path, KEPT, clock) as bus:
        await bus.bus.pauses.resume("clock", "")
        await bus.bus.pauses.resume("target", "erp")
        await bus.advance(10)
        assert await bus.bus.store.message_state(waits.id) is None or await state(bus, waits.id) == "expired"
    async with start(tmp_path, KEPT, clock) as bus:
        assert not bus.bus.lanes["erp"].hold_expiry, "an agreement holds"


async def test_a_pause_of_before_a_restart_counts_in_no_age_r12(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with start(tmp_path, PLAIN, clock) as bus:
        await bus.bus.pauses.pause("target", "erp", "vacation")
        sent = await bus.send("orders", "{}")
        await bus.settled()
        clock.advance(8 * DAY)
        bus.targets["erp"].answer("down")
        await bus.bus.pauses.resume("target", "erp")
        await bus.settled()
    async with start(tmp_path, PLAIN, clock) as bus:
        bus.targets["erp"].answer("down")
        await bus.advance(4)
        assert await state(bus, sent.id) == "open"


async def test_what_a_stop_cuts_off_is_parked_where_an_unknown_outcome_is_r16(tmp_path: Path) -> None:
    clock, text = VirtualClock(), PARK + PLAIN.replace('memory = "erp"', 'memory = "erp"\nretry = "careful"')
    text = "esb = 1\n" + text.replace("esb = 1\n", "")
    calls: list[str] = []
    async with start(tmp_path, text, clock) as bus:

        async def hang(delivery: Any) -> None:
            calls.append(delivery.id)
            await asyncio.sleep(3600)

        bus.targets["erp"].deliver = hang  # type: ignore[method-assign,assignment]
        await bus.send("orders", "{}")
        for _ in range(50):
            await asyncio.sleep(0.002)
    assert len(calls) == 1
    async with start(tmp_path, text, clock) as bus:
        await bus.advance(10)
        assert not bus.targets["erp"].received
        assert await rows(bus, "state, maybe_sent") == [("parked", 1)]


@pytest.mark.parametrize("why", ["poison", "no-value"])
async def test_a_head_that_is_set_aside_without_an_attempt_is_passed_by_too_r14(tmp_path: Path, why: str) -> None:
    clock = VirtualClock()
    async with start(tmp_path, ORDERED, clock) as bus:
        await bus.bus.pauses.pause("target", "erp", "x")
        for number in range(2 if why == "poison" else 1):
            await bus.send("orders", f'{{"k": "A", "n": {number}}}')
        await bus.settled()
        for _ in range(3 if why == "poison" else 0):
            await bus.bus.store.act(lambda work: dead_letters.count_crashes(work, [1], []))
    http = 'http = "POST http://127.0.0.1:1/{body.n}"\nid_header = "I"'
    text = ORDERED if why == "poison" else ORDERED.replace('memory = "erp"', http)
    async with start(tmp_path, text, clock) as bus:
        if why == "no-value":
            await bus.send("orders", '{"k": "A", "n": 1}')
        await bus.bus.pauses.resume("target", "erp")
        await bus.advance(60)
        assert bus.targets["erp"].bodies == [b'{"k": "A", "n": 1}']


async def test_nothing_goes_out_after_a_pause_whatever_waits_for_the_rate_limit() -> None:
    async with running(PLAIN.replace('memory = "erp"', 'memory = "erp"\nlimit = "1/m"')) as bus:
        for number in range(3):
            await bus.send("orders", json.dumps({"n": number}))
        for _ in range(50):
            await asyncio.sleep(0.002)
        await bus.bus.pauses.pause("target", "erp", "stop now")
        for _ in range(5):
            bus.clock.advance(60)
            for _ in range(20):
                await asyncio.sleep(0.002)
        assert len(bus.targets["erp"].taken) == 1


async def test_each_source_of_a_route_has_a_cursor_of_its_own_r2(tmp_path: Path) -> None:
    text = BEGIN + '[target.erp]\nmemory = "erp"\n[route.tick]\nto = ["erp"]\n'
    text += 'from = [{ timer = "a", every = "1d" }, { timer = "b", every = "1m" }]\n'
    clock = VirtualClock(1_790_000_040.0)
    async with start(tmp_path, text, clock, sources=True) as bus:
        await bus.advance(200)
    clock.advance(3600)
    async with start(tmp_path, text, clock, sources=True) as bus:
        await bus.settled()
        assert bus.targets["erp"].taken, "the ticks that were missed run as one"


async def test_a_live_tick_is_made_however_late_the_loop_is(tmp_path: Path) -> None:
    text = BEGIN + '[target.erp]\nmemory = "erp"\n[route.tick]\nto = ["erp"]\n'
    text += 'from = { timer = "nightly", cron = "0 2 * * *", missed = "skip" }\n'
    clock = VirtualClock(1_790_000_000.0)
    async with start(tmp_path, text, clock, sources=True) as bus:
        await bus.settled()
        night = (clock.now() // DAY) * DAY + 2 * 3600
        clock.advance((night if night > clock.now() else night + DAY) - clock.now() + 2.0)
        await bus.settled()
        assert len(bus.targets["erp"].taken) == 1


async def test_retries_are_paced_while_nobody_knows_the_time_r12(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with start(tmp_path, PLAIN, clock) as bus:
        bus.targets["erp"].answer(*["down"] * 40)
        for _ in range(40):
            await bus.send("orders", "{}")
        await bus.settled()
    clock = VirtualClock(clock.now() + 365 * DAY)
    async with start(tmp_path, PLAIN, clock) as bus:
        await bus.send("orders", '{"new": true}')
        await passed(clock, 1)
        assert len(bus.targets["erp"].taken) < 25, "all retries were due at once"
        await passed(clock, 10)
        assert len(bus.targets["erp"].taken) == 41


async def passed(clock: VirtualClock, seconds: float) -> None:
    """Time goes by in small steps, whatever is under way."""
    for _ in range(int(seconds * 10)):
        clock.advance(0.1)
        await asyncio.sleep(0.02)


async def test_a_target_may_have_a_backlog_of_its_own_r9(tmp_path: Path) -> None:
    text = PLAIN.replace('memory = "erp"', 'memory = "erp"\nbacklog = { rows = 2 }\npaused = "not yet"')
    async with start(tmp_path, text, VirtualClock()) as bus:
        for _ in range(2):
            await bus.send("orders", "{}")
        with pytest.raises(Busy, match="backlog of target erp is full"):
            await bus.send("orders", "{}")
