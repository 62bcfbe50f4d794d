"""One message, many fates: a whole bus in memory, doubles for targets, a clock moved by hand."""

from __future__ import annotations

import json

import pytest

from esb.errors import Conflict, Invalid
from esb.testing import running

HEAD = """
esb = 1
[defaults]
owner = "tests@example.org"
[target.erp]
http = "POST http://127.0.0.1:1/orders"
[target.bank]
http = "POST http://127.0.0.1:1/pay/{body.id}"
"""

ORDERS = (
    HEAD
    + """
[route.orders]
from = { http = "POST /orders" }
do = [{ read = "json", bad = "reply 422" }]
cases = [
  { name = "big", when = 'body.total >= 1000', to = ["bank", "erp"] },
  { name = "local", when = 'body.country in ["DE", "AT"]', to = ["erp"] },
  { name = "closed", when = 'body.country == "XX"', drop = "closed country" },
]
"""
)


async def test_a_message_goes_where_the_first_true_case_says_with_its_original_bytes() -> None:
    async with running(ORDERS) as bus:
        await bus.send("orders", '{"id": "1",  "total": 5, "country": "DE"}')
        await bus.settled()
        assert bus.targets["erp"].bodies == [b'{"id": "1",  "total": 5, "country": "DE"}']
        assert bus.targets["bank"].bodies == []


async def test_two_targets_are_two_deliveries_and_one_that_is_down_holds_nobody_up() -> None:
    async with running(ORDERS) as bus:
        bus.targets["bank"].answer("down", "down", "503 Retry-After=60", "200")
        await bus.send("orders", '{"id": "7", "total": 5000, "country": "FR"}')
        await bus.settled()
        assert len(bus.targets["erp"].taken) == 1
        assert len(bus.targets["bank"].taken) == 0
        await bus.advance(120)
        bank = bus.targets["bank"]
        assert [item.answer for item in bank.received] == ["Unavailable", "Unavailable", "Throttled", "ok"]
        assert {item.id for item in bank.received} == {bank.received[0].id}
        assert [item.attempt for item in bank.received] == [1, 2, 3, 4]


async def test_what_a_target_s_template_asks_for_is_filled_in_and_escaped() -> None:
    async with running(ORDERS) as bus:
        await bus.send("orders", '{"id": "a/b c", "total": 5000, "country": "FR"}')
        await bus.settled()
        assert bus.targets["bank"].taken[0].values["http"].endswith("/pay/a%2Fb%20c")


async def test_no_true_case_parks_the_message_and_never_drops_it() -> None:
    async with running(ORDERS) as bus:
        accepted = await bus.send("orders", '{"id": "2", "total": 5, "country": "US"}')
        await bus.settled()
        state = await bus.bus.store.message_state(accepted.id)
        assert state is not None
        assert state.state == "unmatched"
        assert bus.targets["erp"].received == []


async def test_a_drop_has_its_reason() -> None:
    async with running(ORDERS) as bus:
        accepted = await bus.send("orders", '{"id": "2", "total": 5, "country": "XX"}')
        state = await bus.bus.store.message_state(accepted.id)
        assert state is not None
        assert (state.state, state.reason) == ("dropped", "closed country")


async def test_bad_data_is_refused_in_the_sender_s_language_and_nothing_is_stored_r6() -> None:
    async with running(ORDERS) as bus:
        with pytest.raises(Invalid) as refused:
            await bus.send("orders", '{"id": ')
        assert refused.value.status == 422
        account = await bus.bus.store.account()
        assert account.balanced
        assert await bus.bus.store.backlog() == {} or bus.targets["erp"].received == []


async def test_a_missing_field_makes_its_case_false_and_the_next_one_is_asked() -> None:
    async with running(ORDERS) as bus:
        await bus.send("orders", '{"id": "3", "country": "AT"}')
        await bus.settled()
        assert len(bus.targets["erp"].taken) == 1


async def test_any_other_error_in_a_case_quarantines_and_never_falls_through() -> None:
    async with running(ORDERS) as bus:
        accepted = await bus.send("orders", '{"id": "3", "total": "a lot", "country": "AT"}')
        await bus.settled()
        state = await bus.bus.store.message_state(accepted.id)
        assert state is not None
        assert state.state == "quarantined"
        assert bus.targets["erp"].received == []


async def test_a_permanent_failure_is_a_dead_letter_at_once() -> None:
    async with running(ORDERS) as bus:
        bus.targets["erp"].answer("422")
        accepted = await bus.send("orders", '{"id": "3", "total": 1, "country": "AT"}')
        await bus.settled()
        state = await bus.bus.store.message_state(accepted.id)
        assert state is not None
        assert state.state == "dead"
        assert (await bus.bus.store.account()).balanced


async def test_three_refused_logins_pause_the_target_and_a_probe_resumes_it_r17() -> None:
    async with running(ORDERS) as bus:
        bus.targets["erp"].answer("401", "401", "401", "401", "ok")
        for number in range(3):
            await bus.send("orders", json.dumps({"id": str(number), "total": 1, "country": "AT"}))
        await bus.settled()
        lane = bus.bus.lanes["erp"]
        assert lane.gate.pause is not None
        assert "login" in lane.gate.pause.reason
        for _ in range(6):  # the store's thread decides which probe finds its row read already
            await bus.advance(301)
        assert lane.gate.pause is None
        assert len(bus.targets["erp"].taken) == 3


async def test_a_target_that_a_person_resumes_after_refused_logins_is_up_again_r17() -> None:
    async with running(ORDERS) as bus:
        bus.targets["erp"].answer("401", "401", "401", "ok")
        for number in range(3):
            await bus.send("orders", json.dumps({"id": str(number), "total": 1, "country": "AT"}))
        await bus.settled()
        assert bus.bus.services.healths["target.erp"].state == "down"
        await bus.bus.pauses.resume("target", "erp")
        assert bus.bus.services.healths["target.erp"].state == "up"


async def test_a_target_that_fails_again_and_again_is_told_until_it_answers() -> None:
    async with running(ORDERS) as bus:
        bus.targets["erp"].answer(*["down"] * 6, "ok")
        await bus.send("orders", '{"id": "1", "total": 1, "country": "AT"}')
        lane = bus.bus.lanes["erp"]
        await bus.settled()
        assert lane.gate.failing == ""
        said = []
        while not bus.targets["erp"].taken:
            await bus.advance(30)
            said.append(lane.gate.failing)
        assert any(" failures in a row: D4" in text for text in said)
        assert lane.gate.failing == ""
        assert len(bus.targets["erp"].taken) == 1


ONCE = (
    HEAD
    + """
[route.orders]
from = { http = "POST /orders" }
do = [{ read = "json" }]
once = "{body.id}"
to = ["erp"]
"""
)


async def test_the_same_key_twice_is_one_message_r3() -> None:
    async with running(ONCE) as bus:
        first = await bus.send("orders", '{"id": "1"}')
        again = await bus.send("orders", '{"id": "1"}')
        await bus.settled()
        assert again.duplicate
        assert again.id == first.id
        assert len(bus.targets["erp"].taken) == 1


async def test_the_same_key_with_another_payload_is_a_conflict_r3() -> None:
    async with running(ONCE) as bus:
        await bus.send("orders", '{"id": "1"}')
        with pytest.raises(Conflict):
            await bus.send("orders", '{"id": "1", "more": true}')


SPLIT = (
    HEAD
    + """
[map.row]
id = 'body.id'
qty = 'int(body.qty)'
run = 'parent.run'
[route.rows]
from = { http = "POST /rows" }
do = [
  { read = "csv" },
  { split = "rows", carry = { run = 'header["x-run"]' } },
  { map = "row" },
  { write = "json" },
]
to = ["erp"]
"""
)


async def test_a_row_is_a_message_and_a_bad_row_never_stops_the_good_ones_r5() -> None:
    async with running(SPLIT) as bus:
        accepted = await bus.send("rows", "id,qty\na,1\nb,many\nc,3,4\nd,4\n", headers={"X-Run": "r1"}, claim="one")
        assert accepted.planned is not None
        outcome = await accepted.planned()
        await bus.settled()
        assert bus.targets["erp"].bodies == [
            b'{"id":"a","qty":1,"run":"r1"}',
            b'{"id":"d","qty":4,"run":"r1"}',
        ]
        assert outcome.state == "split"
        assert outcome.parts == 4
        assert [line for line, _, _ in outcome.rejected] == [3, 4]
        assert (await bus.bus.store.account()).balanced


async def test_a_claim_read_again_is_finished_and_not_accepted_again_r2() -> None:
    async with running(SPLIT) as bus:
        first = await bus.send("rows", "id,qty\na,1\n", claim="file-1")
        again = await bus.send("rows", "id,qty\na,1\n", claim="file-1")
        await bus.settled()
        assert again.duplicate
        assert again.id == first.id
        assert len(bus.targets["erp"].taken) == 1


async def test_a_message_is_handed_to_another_route_in_the_same_commit() -> None:
    table = (
        HEAD
        + """
[route.door]
from = { http = "POST /door" }
do = [{ read = "json" }]
to = ["route:inner", "bank"]
[route.inner]
from = { route = true }
do = [{ read = "json" }, { set = { "body.seen" = 'true' } }, { write = "json" }]
to = ["erp"]
"""
    )
    async with running(table) as bus:
        await bus.send("door", '{"id": "9"}')
        await bus.settled()
        assert bus.targets["erp"].bodies == [b'{"id":"9","seen":true}']
        assert len(bus.targets["bank"].taken) == 1
        assert (await bus.bus.store.account()).balanced


async def test_routes_that_hand_to_each_other_end_as_a_loop_and_not_for_ever() -> None:
    table = (
        HEAD
        + """
[route.a]
from = [{ http = "POST /a" }, { route = true }]
to = ["route:b"]
[route.b]
from = { route = true }
to = ["route:a"]
"""
    )
    async with running(table) as bus:
        await bus.send("a", "x")
        await bus.settled()
        account = await bus.bus.store.account()
        assert account.balanced
        dead = await bus.bus.store.messages(state="dead", limit=10)
        assert len(dead) == 1
        assert "loop" in dead[0].reason


async def test_an_ordered_key_waits_for_its_first_and_other_keys_go_on_r14() -> None:
    table = (
        HEAD.replace("[target.bank]", 'order_by = "{body.key}"\n[target.bank]')
        + """
[route.orders]
from = { http = "POST /orders" }
do = [{ read = "json" }]
to = ["erp"]
"""
    )
    async with running(table) as bus:
        bus.targets["erp"].answer("down", "ok")
        for key, number in (("k", 1), ("k", 2), ("other", 3)):
            await bus.send("orders", json.dumps({"key": key, "n": number}))
        await bus.settled()
        await bus.advance(60)
        taken = [json.loads(item.body)["n"] for item in bus.targets["erp"].taken]
        assert sorted(taken) == [1, 2, 3]
        assert taken.index(1) < taken.index(2)
        assert taken.index(3) < taken.index(2)


async def test_what_expires_is_not_delivered_and_says_so() -> None:
    table = (
        HEAD.replace("[target.bank]", 'expires = "1m"\n[target.bank]')
        + """
[route.orders]
from = { http = "POST /orders" }
to = ["erp"]
"""
    )
    async with running(table) as bus:
        bus.targets["erp"].answer(*["down"] * 50)
        accepted = await bus.send("orders", "x")
        await bus.advance(600)
        state = await bus.bus.store.message_state(accepted.id)
        assert state is not None
        assert state.state == "expired"
        assert (await bus.bus.store.account()).balanced


async def test_headers_that_steer_the_bus_are_stripped_at_the_door() -> None:
    async with running(ORDERS) as bus:
        headers = {"esb-target": "bank", "X-Mine": "yes"}
        await bus.send("orders", '{"id": "1", "total": 5, "country": "DE"}', headers=headers)
        await bus.settled()
        got = bus.targets["erp"].taken[0].headers
        assert "esb-target" not in got
        assert got["x-mine"] == "yes"


async def test_a_route_s_own_retry_policy_counts_for_its_deliveries_alone() -> None:
    table = (
        HEAD
        + """
[retry.twice]
transient = { attempts = 2 }
[route.hasty]
from = { http = "POST /hasty" }
retry = "twice"
to = ["erp"]
[route.calm]
from = { http = "POST /calm" }
to = ["erp"]
"""
    )
    async with running(table) as bus:
        bus.targets["erp"].answer(*["down"] * 6)
        hasty = await bus.send("hasty", "x")
        calm = await bus.send("calm", "y")
        await bus.advance(8)
        states = [await bus.bus.store.message_state(accepted.id) for accepted in (hasty, calm)]
        assert [state.state for state in states if state is not None] == ["dead", "open"]
