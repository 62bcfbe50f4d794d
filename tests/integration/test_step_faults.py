"""Steps that give what no step may give, and targets that come back to a heap of work (FAULTS 51, 66, 79)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from msgspec import Struct

from esb import Component, hook
from esb.testing import running

TABLE = """
esb = 1
[defaults]
owner = "tests@example.org"
[target.one]
http = "POST http://127.0.0.1:1/one"
[target.two]
http = "POST http://127.0.0.1:1/two"
[route.odd]
from = { http = "POST /odd" }
do = [{ read = "json" }, { give = "shared", if = 'has(body.give)' }, { write = "json" }]
to = ["one"]
[route.shared]
from = { http = "POST /shared" }
do = [{ read = "json" }]
to = [
  { target = "one", do = [{ give = "mutated" }, { write = "json" }] },
  { target = "two", do = [{ write = "json" }] },
]
"""


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    main: str


def half_consumed(message: Any) -> Any:
    made = iter([message, message])
    next(made)
    return made


def mutated(message: Any) -> Any:
    message.body["n"] = "changed under your feet"
    message.body["items"].append("one more")
    return [message]


GIVEN = {
    "nothing": lambda message: None,
    "one": lambda message: message,
    "text": lambda message: "text",
    "number": lambda message: 42,
    "tree": lambda message: message.body,
    "nones": lambda message: [None],
    "trees": lambda message: [message.body],
    "iterator": half_consumed,
    "generator": lambda message: (item for item in [message]),
    "mutated": mutated,
    "changed": lambda message: [item.with_body(item.body) for item in mutated(message)],
}


class Give:
    """A step that gives what the message, or else its option, says."""

    def __init__(self, options: Options) -> None:
        self._main = options.main

    def apply(self, message: Any) -> Any:
        return GIVEN[message.body.get("give", self._main)](message)


class Plugin:
    __name__ = "give_plugin"

    @hook
    def esb_steps(self) -> Any:
        return [
            Component(
                kind="step", name="give", about="gives nonsense", options=Options, main="main",
                open=lambda options, context: nullcontext(Give(options)), example="{ give = 'nothing' }",
            )
        ]  # fmt: skip


@pytest.mark.parametrize("given", sorted(GIVEN.keys() - {"mutated", "changed"}))
async def test_a_step_that_gives_no_sequence_of_messages_is_at_fault_for_one_message_faults_51(given: str) -> None:
    async with running(TABLE, plugins=[Plugin()]) as bus:
        bad = await bus.send("odd", f'{{"give": "{given}"}}')
        await bus.send("odd", '{"n": 1}')
        await bus.settled()
        fate = await bus.bus.store.message_state(bad.id)
        assert fate is not None
        assert fate.state == "quarantined"
        assert "not a sequence of Messages" in fate.reason
        assert bus.targets["one"].bodies == [b'{"n": 1}']
        assert (await bus.bus.store.account()).balanced


async def test_a_step_that_changes_its_input_is_at_fault_and_changes_no_other_branch_faults_51() -> None:
    async with running(TABLE, plugins=[Plugin()]) as bus:
        bad = await bus.send("odd", '{"give": "mutated", "items": []}')
        await bus.settled()
        fate = await bus.bus.store.message_state(bad.id)
        assert fate is not None
        assert fate.state == "quarantined"
        assert "changed the body in place" in fate.reason
        table = TABLE.replace('give = "mutated"', 'give = "changed"')
    async with running(table, plugins=[Plugin()]) as bus:
        await bus.send("shared", '{"n": 1, "items": ["a"]}')
        await bus.settled()
        assert bus.targets["one"].bodies == [b'{"n":"changed under your feet","items":["a","one more"]}']
        assert bus.targets["two"].bodies == [b'{"n": 1, "items": ["a"]}']


async def test_each_kind_of_answer_has_its_own_end_and_the_order_of_a_key_stays_faults_66() -> None:
    """500 and no answer are tried again with the same id, 422 is dead at once, a key's later ones wait for it."""
    table = TABLE.replace("[target.one]\n", '[target.one]\norder_by = "{body.key}"\nwhen_stuck = "block"\n')
    async with running(table, plugins=[Plugin()]) as bus:
        one = bus.targets["one"]
        one.answer("503", "timeout", "500", "ok", "422")
        for number in range(4):
            await bus.send("odd", f'{{"key": "k", "n": {number}}}')
        await bus.advance(120)
        assert [item.body for item in one.received[:4]] == [one.received[0].body] * 4
        assert len({item.id for item in one.received[:4]}) == 1
        assert one.received[4].answer == "Rejected"
        assert len(one.received) == 5, "the key stands still behind its dead one"
        assert len(one.taken) == 1
        assert (await bus.bus.store.account()).balanced


async def test_a_heap_of_waiting_messages_does_not_starve_live_ones_of_another_target_faults_79() -> None:
    table = TABLE.replace("[target.one]\n", "[target.one]\nconcurrency = 2\n").replace('"mutated"', '"changed"')
    async with running(table, plugins=[Plugin()]) as bus:
        one, heap = bus.targets["one"], 40
        away = True
        one.answer(*[lambda delivery: "down" if away else "ok"] * 20_000)
        for number in range(heap):
            await bus.send("odd", f'{{"n": {number}}}')
        await bus.advance(30)
        assert len(one.taken) == 0
        away = False
        for _ in range(20):
            await bus.send("shared", '{"n": 1, "items": []}')
        await bus.settled()
        assert len(bus.targets["two"].taken) == 20, "the other target has had its own at once"
        await bus.advance(120)
        assert len(one.taken) == heap + 20
        assert len({item.id for item in one.taken}) == heap + 20, "each once"
        assert (await bus.bus.store.account()).balanced
