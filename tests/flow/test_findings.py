"""What an adversarial reading found, each shown from outside."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import held_letters
import pytest
from msgspec import Struct

from esb import Busy, Component, Incoming, hook
from esb.bus import open_bus
from esb.clock import SystemClock
from esb.errors import ConfigError
from esb.intake import Intake
from esb.plugins import load_plugins
from esb.store import Act, Which
from esb.table.load import load
from esb.testing import Harness, running

HEAD = """
esb = 1
[defaults]
owner = "tests@example.org"
[target.arch]
memory = "arch"
[target.x]
memory = "x"
[target.y]
memory = "y"
"""


def table(route: str) -> str:
    return HEAD + route


async def state_of(bus: Harness, uid: str) -> tuple[str, str]:
    found = await bus.bus.store.message_state(uid)
    assert found is not None
    return found.state, found.reason


@pytest.mark.parametrize("always", ['["arch"]', '["arch", "y"]'])
async def test_a_message_that_no_case_wants_stays_parked_when_its_always_targets_have_it_r19(always: str) -> None:
    text = table(
        f"[route.r]\nfrom = {{ memory = 'r' }}\ndo = [{{ read = 'json' }}]\nto = {always}\n"
        "[[route.r.cases]]\nname = 'n'\nwhen = 'body.z == 1'\nto = ['x']\n"
    )
    async with running(text) as bus:
        sent = await bus.send("r", '{"z": 2}')
        await bus.settled()
        assert await state_of(bus, sent.id) == ("unmatched", "no case is true")
        assert len(bus.targets["arch"].taken) == 1
        assert (await bus.bus.store.account()).balanced


async def test_releasing_it_plans_what_is_missing_and_repeats_nothing_r13(tmp_path: Path) -> None:
    def written(case: str) -> str:
        return table(
            "[route.b]\nfrom = { route = true }\nto = ['y']\n"
            "[route.r]\nfrom = { memory = 'r' }\ndo = [{ read = 'json' }]\nto = ['arch', 'route:b']\n"
            f"[[route.r.cases]]\nname = 'n'\nwhen = '{case}'\nto = ['x']\n"
        )

    async with running(written("body.z == 1"), folder=tmp_path) as bus:
        sent = await bus.send("r", '{"z": 2}')
        await bus.settled()
        assert (await state_of(bus, sent.id))[0] == "unmatched"
        (tmp_path / "routes.toml").write_text(written("body.z == 2"))
        changed = load(tmp_path / "routes.toml", bus.bus.registry)
        async with AsyncExitStack() as stack:
            bus.bus.planners = await bus.bus._draft(changed, bus.bus.services, stack)
            await held_letters.release(bus.bus.store, "parked", Which(ids=(sent.id,)), Act(what="release", actor="t"))
            bus.bus.look()
            assert bus.bus.splitter is not None
            await bus.bus.splitter.planned(sent.id)
            await bus.settled()
        assert {name: len(double.taken) for name, double in bus.targets.items()} == {"arch": 1, "x": 1, "y": 1}
        assert (await state_of(bus, sent.id))[0] == "done"
        assert (await bus.bus.store.account()).balanced


@pytest.mark.parametrize(("outcome", "state"), [("dead", "dead"), ("park", "unmatched")])
async def test_what_a_case_sets_aside_stays_so_beside_other_deliveries_r19(outcome: str, state: str) -> None:
    text = table(
        "[route.r]\nfrom = { memory = 'r' }\ndo = [{ read = 'json' }]\nto = ['arch']\nmatch = 'all'\n"
        "[[route.r.cases]]\nname = 'a'\nwhen = 'body.z == 2'\nto = ['x']\n"
        f"[[route.r.cases]]\nname = 'b'\nwhen = 'body.z == 2'\n{outcome} = 'look at it'\n"
    )
    async with running(text) as bus:
        sent = await bus.send("r", '{"z": 2}')
        await bus.settled()
        assert await state_of(bus, sent.id) == (state, "look at it")
        assert [len(bus.targets[name].taken) for name in ("arch", "x")] == [1, 1]
        assert (await bus.bus.store.account()).balanced


async def test_a_handed_message_whose_key_is_known_is_no_second_one_and_refuses_nobody_r3() -> None:
    text = table(
        "[route.b]\nfrom = { route = true }\ndo = [{ read = 'json' }]\nonce = '{body.id}'\nto = ['x']\n"
        "[route.a]\nfrom = { memory = 'a' }\ndo = [{ read = 'json' }]\nto = ['arch', 'route:b']\n"
    )
    async with running(text) as bus:
        await bus.send("a", '{"id": 1, "n": 1}')
        again = await bus.send("a", '{"id": 1, "n": 2}')
        await bus.settled()
        assert [len(bus.targets[name].taken) for name in ("arch", "x")] == [2, 1]
        assert "duplicate" in (await state_of(bus, again.id))[1]
        assert (await bus.bus.store.account()).balanced


async def test_after_delivered_means_all_targets_for_a_resend_too_r6() -> None:
    text = table(
        "[route.r]\nfrom = { http = 'POST /r', reply = '200 after delivered' }\ndo = [{ read = 'json' }]\n"
        "once = '{body.id}'\nto = ['x', 'y']\n"
    )
    async with running(text) as bus:
        bus.targets["y"].answer("down", "422")
        first = asyncio.ensure_future(bus.send("r", '{"id": 1}'))
        await bus.settled()
        again = asyncio.ensure_future(bus.send("r", '{"id": 1}'))
        await bus.settled()
        assert not first.done()
        assert not again.done()
        await bus.advance(10)
        for sent in (await first, await again, await bus.send("r", '{"id": 1}')):
            assert sent.reply is not None
            assert sent.reply.status == 502


async def test_a_parked_message_is_not_told_as_delivered_r6() -> None:
    text = table(
        "[route.r]\nfrom = { http = 'POST /r', reply = '200 after delivered' }\ndo = [{ read = 'json' }]\nto = ['x']\n"
        "[[route.r.cases]]\nname = 'b'\nwhen = 'true'\npark = 'look at it'\n"
    )
    async with running(text) as bus:
        sent = await bus.send("r", "{}")
        assert sent.reply is not None
        assert sent.reply.status == 502


async def test_an_order_that_waited_out_a_pause_is_not_too_old_r12() -> None:
    text = table(
        "[retry.p]\ntransient = { first = '1s', max_age = '60s' }\n[target.z]\nmemory = 'z'\nretry = 'p'\n"
        "[route.r]\nfrom = { memory = 'r' }\nto = ['z']\n"
    )
    async with running(text) as bus:
        bus.targets["z"].answer("down")
        await bus.bus.pauses.pause("target", "z", "maintenance")
        sent = await bus.send("r", "{}")
        await bus.advance(600)
        await bus.bus.pauses.resume("target", "z")
        await bus.advance(30)
        assert (await state_of(bus, sent.id))[0] == "done"


async def test_a_target_that_says_at_once_is_left_alone_for_a_second() -> None:
    text = table("[route.r]\nfrom = { memory = 'r' }\nto = ['x']\n")
    async with running(text) as bus:
        bus.targets["x"].answer(*["429 retry-after=0"] * 50)
        await bus.send("r", "{}")
        await bus.advance(10)
        assert len(bus.targets["x"].received) <= 12


async def test_a_case_false_for_a_missing_field_is_named_with_match_all_too() -> None:
    text = table(
        "[route.r]\nfrom = { memory = 'r' }\ndo = [{ read = 'json' }]\nmatch = 'all'\n"
        "[[route.r.cases]]\nname = 'one'\nwhen = 'true'\nto = ['x']\n"
        "[[route.r.cases]]\nname = 'two'\nwhen = 'body.missing == 1'\nto = ['y']\n"
    )
    async with running(text) as bus:
        sent = await bus.send("r", "{}")
        await bus.settled()
        journey = await bus.bus.store.journey(sent.id)
        assert journey is not None
        assert "two" in str(journey)


async def test_a_full_target_behind_another_route_is_refused_at_the_first_door_r9() -> None:
    text = table(
        "[route.b]\nfrom = { route = true }\nto = ['x']\n[route.a]\nfrom = { memory = 'a' }\nto = ['route:b']\n"
        "[route.free]\nfrom = { memory = 'f' }\nto = ['y']\n"
    ).replace("[defaults]", "[bus]\noutbox = { rows = 8 }\n[defaults]")
    async with running(text) as bus:
        await bus.bus.pauses.pause("target", "x", "down")
        taken = [await bus.send("a", "1"), await bus.send("a", "2")]
        with pytest.raises(Busy):
            await bus.send("a", "3")
        await bus.send("free", "4")
        await bus.settled()
        assert len(taken) == 2
        assert len(bus.targets["y"].taken) == 1


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    main: str


class Wrong:
    calls = 0

    async def deliver(self, delivery: Any) -> Any:
        Wrong.calls += 1
        return "ok"


class Cancels:
    """A source whose library cancels it."""

    runs = 0

    async def run(self, accept: Any) -> None:
        Cancels.runs += 1
        raise asyncio.CancelledError


def opening(thing: Any) -> Any:
    @asynccontextmanager
    async def open_it(options: Options, context: Any) -> Any:
        yield thing()

    return open_it


class Plugin:
    __name__ = "wrong"

    @hook
    def esb_targets(self) -> Any:
        return [
            Component(
                kind="target", name="wrong", about="gives a text", options=Options, main="main", open=opening(Wrong),
                example='[target.x]\nwrong = "x"',
            )
        ]  # fmt: skip

    @hook
    def esb_sources(self) -> Any:
        return [
            Component(
                kind="source", name="cancels", about="ends by itself", options=Options, main="main",
                open=opening(Cancels), example='from = { cancels = "x" }',
            )
        ]  # fmt: skip


async def test_a_target_that_gives_nonsense_is_a_fault_tried_three_times_and_parked_faults_51() -> None:
    Wrong.calls = 0
    text = table("[target.w]\nwrong = 'w'\n[route.r]\nfrom = { memory = 'r' }\nto = ['w']\n")
    async with running(text, plugins=[Plugin()], real=["w"]) as bus:
        await bus.send("r", "{}")
        await bus.advance(60)
        assert Wrong.calls == 3
        (group,) = await held_letters.groups(bus.bus.store, "parked")
        assert "not a Receipt" in group.reason


async def test_a_source_that_its_library_cancels_is_opened_again_after_a_wait_faults_5(tmp_path: Path) -> None:
    Cancels.runs = 0
    (tmp_path / "routes.toml").write_text(table("[route.r]\nfrom = { cancels = 'x' }\nto = ['x']\n"))
    registry = load_plugins(extra=[Plugin()])
    file = load(tmp_path / "routes.toml", registry)
    async with open_bus(file, registry, clock=SystemClock(), durable=False) as bus:
        await asyncio.sleep(0.5)
        assert Cancels.runs == 1
        assert bus.services.healths["route.r"].state == "down"
        assert "cancelled" in bus.services.healths["route.r"].reason


async def test_a_route_that_hands_over_or_splits_has_no_one_outcome_to_answer_with(tmp_path: Path) -> None:
    for do, to in (("[]", '["route:b"]'), ("[{ read = 'csv' }, { split = 'rows' }]", '["x"]')):
        (tmp_path / "routes.toml").write_text(
            table(
                "[route.b]\nfrom = { route = true }\nto = ['y']\n"
                f"[route.a]\nfrom = {{ http = 'POST /a', reply = '200 after delivered' }}\ndo = {do}\nto = {to}\n"
            )
        )
        with pytest.raises(ConfigError, match="E184"):
            load(tmp_path / "routes.toml", load_plugins())


async def test_the_reply_of_a_second_source_counts_too_r6() -> None:
    text = table(
        "[route.r]\nfrom = [{ memory = 'r' }, { http = 'POST /r', reply = '200 after delivered' }]\nto = ['x']\n"
    )
    async with running(text) as bus:
        spec = bus.bus.table.routes["r"].sources[1].reply
        intake = Intake(bus.bus.planners["r"], spec, bus.bus._door())
        sent = await intake(Incoming(body=b"1"))
        assert sent.reply is not None
        assert sent.reply.status == 200


async def test_a_circuit_opens_after_failures_in_a_row_and_a_probe_closes_it() -> None:
    text = table(
        "[retry.p]\ntransient = { first = '1s', factor = 1, jitter = '0%' }\nauth = { probe = '30s' }\n"
        "[target.z]\nmemory = 'z'\nretry = 'p'\nopen_after = 3\nconcurrency = 1\n"
        "[route.r]\nfrom = { memory = 'r' }\nto = ['z']\n"
    )
    async with running(text) as bus:
        bus.targets["z"].answer(*["down"] * 4)
        for body in ("1", "2", "3"):
            await bus.send("r", body)
        await bus.settled()
        pause = bus.bus.lanes["z"].gate.pause
        assert pause is not None
        assert pause.reason.startswith("circuit open after 3 failures")
        await bus.advance(29)
        assert len(bus.targets["z"].received) == 3
        await bus.advance(90)
        assert bus.bus.lanes["z"].gate.pause is None
        assert len(bus.targets["z"].taken) == 3


class Waits:
    async def apply(self, message: Any) -> Any:
        return [message]


class WaitingPlugin:
    __name__ = "waits"

    @hook
    def esb_steps(self) -> Any:
        return [
            Component(
                kind="step", name="waits", about="asks", options=Options, main="main", open=opening(Waits),
                example="{ waits = 'x' }",
            )
        ]  # fmt: skip


async def test_a_step_that_waits_is_refused_before_anything_runs() -> None:
    text = table("[route.r]\nfrom = { memory = 'r' }\ndo = [{ waits = 'x' }]\nto = ['x']\n")
    with pytest.raises(ConfigError, match="E150 step waits waits"):
        async with running(text, plugins=[WaitingPlugin()]):
            pass
