"""Senders that wait for an outcome (R6)."""

from __future__ import annotations

import asyncio
import json

from esb.ports import Reply
from esb.testing import running

TABLE = """
esb = 1
[defaults]
owner = "tests@example.org"
[target.erp]
http = "POST http://127.0.0.1:1/orders"
[route.orders]
from = { http = "POST /orders", reply = "%s" }
do = [{ read = "json" }]
once = "{body.id}"
to = ["erp"]
"""


async def test_200_after_delivered_waits_for_the_target() -> None:
    async with running(TABLE % "200 after delivered") as bus:
        accepted = await bus.send("orders", '{"id": "1"}')
        assert accepted.reply is not None
        assert accepted.reply.status == 200
        assert len(bus.targets["erp"].taken) == 1


async def test_a_dead_delivery_answers_502_with_the_id() -> None:
    async with running(TABLE % "200 after delivered") as bus:
        bus.targets["erp"].answer("400")
        accepted = await bus.send("orders", '{"id": "1"}')
        assert accepted.reply is not None
        assert accepted.reply.status == 502
        assert json.loads(accepted.reply.body)["id"] == accepted.id


async def test_when_the_time_is_over_first_the_answer_is_202_and_never_a_5xx() -> None:
    async with running(TABLE % "200 after delivered") as bus:
        bus.targets["erp"].answer("down")
        sent = asyncio.ensure_future(bus.send("orders", '{"id": "1"}'))
        bus.targets["erp"].answer(*["down"] * 20)
        await bus.advance(40)
        accepted = await sent
        assert accepted.reply is not None
        assert accepted.reply.status == 202


async def test_the_answer_of_a_target_is_the_answer_to_the_sender_and_to_its_resend() -> None:
    async with running(TABLE % "from:erp") as bus:
        bus.targets["erp"].answer(Reply(status=201, body=b'{"made": 1}'))
        first = await bus.send("orders", '{"id": "1"}')
        again = await bus.send("orders", '{"id": "1"}')
        assert first.reply is not None
        assert again.reply is not None
        assert (first.reply.status, first.reply.body) == (201, b'{"made": 1}')
        assert (again.reply.status, again.reply.body) == (201, b'{"made": 1}')
        assert again.duplicate
        assert len(bus.targets["erp"].taken) == 1


async def test_a_resend_of_a_key_in_progress_waits_for_the_same_answer_r3() -> None:
    async with running(TABLE % "200 after delivered") as bus:
        both = await asyncio.gather(bus.send("orders", '{"id": "1"}'), bus.send("orders", '{"id": "1"}'))
        assert [item.reply.status for item in both if item.reply is not None] == [200, 200]
        assert len(bus.targets["erp"].taken) == 1
