"""A plugin that fails takes down one message or itself, never the bus."""

from __future__ import annotations

from contextlib import asynccontextmanager, nullcontext
from typing import Any

import pytest
from msgspec import Struct

from esb import Component, hook
from esb.testing import running

TABLE = """
esb = 1
[defaults]
owner = "tests@example.org"
[target.erp]
http = "POST http://127.0.0.1:1/orders"
[target.odd]
odd = "{body.id}"
[route.r]
from = { http = "POST /r" }
do = [{ read = "json" }, { explode = "now", if = 'has(body.explode)' }]
to = ["erp", "odd"]
"""


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    main: str


class Explode:
    """A step that raises whatever it is told."""

    error: BaseException = SystemExit(3)

    def apply(self, message: Any) -> Any:
        raise Explode.error


class Odd:
    """A target whose opening fails twice in its own code."""

    opened = 0
    taken: list[str] = []

    async def deliver(self, delivery: Any) -> None:
        Odd.taken.append(delivery.id)


@asynccontextmanager
async def open_odd(options: Options, context: Any) -> Any:
    Odd.opened += 1
    if Odd.opened < 3:
        raise KeyError("not ready")
    yield Odd()


class Plugin:
    __name__ = "odd_plugin"

    @hook
    def esb_steps(self) -> Any:
        return [
            Component(
                kind="step", name="explode", about="fails", options=Options, main="main",
                open=lambda options, context: nullcontext(Explode()), example="{ explode = 'now' }",
            )
        ]  # fmt: skip

    @hook
    def esb_targets(self) -> Any:
        return [
            Component(
                kind="target", name="odd", about="fails", options=Options, main="main", open=open_odd,
                example='[target.x]\nodd = "x"',
            )
        ]  # fmt: skip


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), RecursionError("deep"), GeneratorExit(), KeyError("x")]
)
async def test_a_step_that_raises_anything_quarantines_one_message_and_the_bus_lives(error: BaseException) -> None:
    Explode.error = error
    table = TABLE.replace('to = ["erp", "odd"]', 'to = ["erp"]')
    async with running(table, plugins=[Plugin()]) as bus:
        bad = await bus.send("r", '{"id": 1, "explode": true}')
        await bus.send("r", '{"id": 2}')
        await bus.settled()
        state = await bus.bus.store.message_state(bad.id)
        assert state is not None
        assert state.state == "quarantined"
        assert "explode" in state.reason
        assert len(bus.targets["erp"].taken) == 1


async def test_a_target_whose_opening_fails_in_its_own_code_is_opened_again_and_the_others_go_on() -> None:
    Odd.opened, Odd.taken = 0, []
    async with running(TABLE, plugins=[Plugin()], real=["odd"]) as bus:
        await bus.send("r", '{"id": 1}')
        await bus.settled()
        assert len(bus.targets["erp"].taken) == 1
        assert bus.bus.services.healths["target.odd"].state == "down"
        await bus.advance(30)
        assert len(Odd.taken) == 1
        assert bus.bus.services.healths["target.odd"].state == "up"


async def test_a_target_that_raises_nonsense_is_tried_three_times_then_parked() -> None:
    table = TABLE.replace('to = ["erp", "odd"]', 'to = ["erp"]')
    async with running(table, plugins=[Plugin()]) as bus:
        bus.targets["erp"].answer(KeyError("a"), ValueError("b"), ZeroDivisionError("c"))
        await bus.send("r", '{"id": 1}')
        await bus.advance(60)
        assert len(bus.targets["erp"].received) == 3
        rows = await bus.bus.store.account()
        assert rows.balanced
        parked = next(item for item in rows.sums if item.book == "deliveries").entries
        assert parked["parked"] == 1
