"""What one route hands to another knows the other's keys; what plugins do wrong in planning ends one message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import held_letters
import pytest

from esb import hook
from esb.errors import StoreError
from esb.store import Act, Which
from esb.testing import Harness, running

BEGIN = 'esb = 1\n[defaults]\nowner = "tests@example.org"\n'
ORDERS = '[route.orders]\nfrom = { route = true }\nonce = "{body.id}"\ndo = [{ read = "json" }]\nto = ["erp"]\n'
ERP = '[target.erp]\nmemory = "erp"\n'
ROWS = (
    BEGIN + ERP + '[route.files]\nfrom = { memory = "files" }\n'
    'do = [{ read = "csv" }, { split = "rows" }, { write = "json" }]\nto = ["route:orders"]\n' + ORDERS
)


def bodies(bus: Harness) -> list[Any]:
    return [json.loads(item) for item in bus.targets["erp"].bodies]


async def test_a_key_that_comes_twice_in_a_split_is_one_order_and_the_file_goes_on_r3_r5() -> None:
    async with running(ROWS) as bus:
        sent = await bus.send("files", "id,n\n1,a\n2,b\n1,a\n3,c\n")
        await bus.settled()
        assert sorted(item["id"] for item in bodies(bus)) == ["1", "2", "3"]
        again = await bus.send("files", "id,n\n5,e\n1,a\n6,f\n1,other\n")
        await bus.settled()
        assert sorted(item["id"] for item in bodies(bus)) == ["1", "2", "3", "5", "6"]
        for uid in (sent.id, again.id):
            state = await bus.bus.store.message_state(uid)
            assert state is not None
            assert state.state == "split"
        told = await bus.bus.store.query(
            lambda db: db.execute("SELECT reason FROM message WHERE made = 'part' AND reason <> ''").fetchall()
        )
        assert [reason for (reason,) in told] == [
            "duplicate: route orders has the key '1' already",
            "duplicate: route orders has the key '1' already",
            "duplicate: route orders has the key '1' already, with another body",
        ]
        assert (await bus.bus.store.account()).balanced


async def test_one_message_that_is_handed_over_twice_is_one() -> None:
    cases = 'match = "all"\ncases = [{ name = "x", when = "true", to = ["route:orders"] },'
    cases += ' { name = "y", when = "body.n > 1", to = ["route:orders"] }]\n'
    text = BEGIN + ERP + '[route.a]\nfrom = { memory = "a" }\ndo = [{ read = "json" }]\n' + cases + ORDERS
    async with running(text) as bus:
        await bus.send("a", '{"id": 1, "n": 2}')
        await bus.settled()
        assert len(bodies(bus)) == 1
        assert (await bus.bus.store.account()).balanced


async def test_a_known_key_leaves_no_one_waiting_behind_it_r14() -> None:
    ordered = ERP.replace('memory = "erp"', 'memory = "erp"\norder_by = "{body.c}"')
    text = BEGIN + ordered + '[route.a]\nfrom = { memory = "a" }\ndo = [{ read = "json" }]\nto = ["route:orders"]\n'
    async with running(text + ORDERS) as bus:
        await bus.send("a", '{"id": 1, "c": "X"}')
        await bus.settled()
        await asyncio.gather(bus.send("a", '{"id": 1, "c": "X"}'), bus.send("a", '{"id": 2, "c": "X"}'))
        await bus.send("a", '{"id": 3, "c": "X"}')
        await bus.settled()
        assert [item["id"] for item in bodies(bus)] == [1, 2, 3]


async def test_a_key_that_was_handed_over_is_known_to_the_route_s_own_source_and_outlives_the_journey_r3() -> None:
    both = ORDERS.replace("{ route = true }", '[{ route = true }, { memory = "b" }]').replace(
        "once =", 'once_for = "30d"\nretain = { body = "1h", journey = "1d" }\nonce ='
    )
    text = BEGIN + ERP + '[route.a]\nfrom = { memory = "a" }\ndo = [{ read = "json" }]\nto = ["route:orders"]\n' + both
    async with running(text) as bus:
        await bus.send("a", '{"id": 1}')
        assert (await bus.send("orders", '{"id": 1}')).duplicate
        bus.clock.advance(2 * 86400)
        await bus.advance(10)
        await bus.send("a", '{"id": 1}')
        await bus.settled()
        assert len(bodies(bus)) == 1


async def test_a_key_used_anew_after_its_time_is_answered_for_its_own_message_r6() -> None:
    route = '[route.r]\nfrom = { http = "POST /r", reply = "200 after delivered" }\nonce = "{body.id}"\n'
    text = BEGIN + ERP + route + 'once_for = "1h"\ndo = [{ read = "json" }]\nto = ["erp"]\n'
    async with running(text) as bus:
        first = await bus.send("r", '{"id": 1}')
        bus.clock.advance(7200)
        second = await asyncio.wait_for(bus.send("r", '{"id": 1}'), 10)
        assert second.reply is not None
        assert (second.reply.status, json.loads(second.reply.body)["id"]) == (200, second.id)
        assert first.id != second.id


async def test_what_is_set_aside_shows_beside_a_dead_delivery() -> None:
    text = BEGIN + ERP + '[target.audit]\nmemory = "audit"\n[route.r]\nfrom = { memory = "r" }\n'
    text += (
        'do = [{ read = "json" }]\nto = ["audit"]\ncases = [{ name = "de", when = "body.c == \'DE\'", to = ["erp"] }]\n'
    )
    async with running(text) as bus:
        bus.targets["audit"].answer("400")
        sent = await bus.send("r", '{"c": "US"}')
        await bus.settled()
        store = bus.bus.store
        assert [item.id for item in await held_letters.found(store, "parked")] == [sent.id]
        assert [item.id for item in await held_letters.found(store, "dead")] == [f"{sent.id}.audit"]
        assert (await held_letters.discard(store, "parked", Which(), Act(what="discard", why="known"))).count == 1
        assert (await store.account()).balanced


class Boom:
    __name__ = "boom"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    @hook
    def esb_functions(self) -> Mapping[str, Callable[..., Any]]:
        def boom(value: Any) -> Any:
            raise self.error

        return {"boom": boom}


@pytest.mark.parametrize("error", [ValueError("v"), SystemExit(3), KeyboardInterrupt(), RecursionError()])
async def test_a_function_that_raises_anything_ends_its_message_and_not_the_bus_faults_48(
    error: BaseException,
) -> None:
    target = '[target.erp]\nhttp = "POST http://127.0.0.1:1/{boom(body.id)}"\nid_header = "I"\n'
    route = '[route.r]\nfrom = { memory = "r" }\ndo = [{ read = "json" }]\nto = ["erp"]\n'
    async with running(BEGIN + target + route, plugins=[Boom(error)]) as bus:
        sent = await bus.send("r", '{"id": "1"}')
        state = await bus.bus.store.message_state(sent.id)
        assert state is not None
        assert state.state == "quarantined"
        assert (await bus.bus.store.account()).balanced


async def test_our_own_disk_is_no_fault_of_a_target_faults_74() -> None:
    route = '[route.r]\nfrom = { memory = "r" }\nto = ["erp"]\n'
    async with running(BEGIN + ERP + route) as bus:
        await bus.bus.pauses.pause("target", "erp", "x")
        await bus.send("r", "y" * 100_000)
        bodies, failures = bus.bus.store.bodies, [1] * 4
        reading = bodies.read

        def failing(name: str) -> bytes:
            if failures:
                failures.pop()
                raise StoreError("body 1 cannot be read: Too many open files")
            return reading(name)

        bodies.read = failing  # type: ignore[method-assign]
        await bus.bus.pauses.resume("target", "erp")
        await bus.advance(120)
        assert len(bus.targets["erp"].taken) == 1
