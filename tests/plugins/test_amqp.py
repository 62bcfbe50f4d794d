"""The amqp source and target, with a real broker of another system."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from msgspec.structs import replace
from rabbit import Rabbit, rabbit

from esb.bus import Bus, open_bus
from esb.errors import ConfigError
from esb.plugins import load_plugins
from esb.ports import Incoming
from esb.table.load import load
from esb.testing import Double, with_doubles, write_table

BEGIN = 'esb = 1\n[defaults]\nowner = "tests@example.org"\n'
FAST = '[retry.patient]\ntransient = { first = "50ms", cap = "100ms", jitter = "0%" }\n'


@asynccontextmanager
async def running(folder: Path, text: str, *, data: str = "var") -> AsyncIterator[tuple[Bus, dict[str, Double]]]:
    """A bus whose `erp` is a double and whose other targets are real."""
    registry = load_plugins()
    table = load(write_table(folder, BEGIN + text + FAST, {}), registry)
    doubles = {name: Double(name) for name in table.targets if name == "erp"}
    targets = {
        **table.targets,
        **with_doubles(replace(table, targets={n: table.targets[n] for n in doubles}), doubles).targets,
    }
    table = replace(table, targets=targets, bus=replace(table.bus, data=str(folder / data)))
    async with open_bus(table, registry) as bus:
        yield bus, doubles


@asynccontextmanager
async def channel(broker: Rabbit) -> AsyncIterator[Any]:
    connection = await aio_pika.connect(broker.url)
    async with connection:
        yield await connection.channel(on_return_raises=True)


async def until(true: Callable[[], Any], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while True:
            found = true()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.02)


@pytest.fixture
def queue() -> str:
    return f"q{uuid4().hex[:10]}"


def source(broker: Rabbit, queue: str, more: str = "", rest: str = "") -> str:
    url = f"amqp://127.0.0.1:{broker.port}/"
    return f'[target.erp]\nmemory = "erp"\n[route.in]\nfrom = {{ amqp = "{url}", queue = "{queue}"{more} }}\n{rest}to = ["erp"]\n'


def target(broker: Rabbit, key: str, more: str = "") -> str:
    url = f"amqp://127.0.0.1:{broker.port}/"
    return f'[target.out]\namqp = "{url}"\nrouting_key = "{key}"\n{more}\n[route.go]\nfrom = {{ memory = "in" }}\nto = ["out"]\n'


async def publish(broker: Rabbit, queue: str, *messages: aio_pika.Message) -> None:
    async with channel(broker) as made:
        await made.declare_queue(queue, durable=True)
        for message in messages:
            await made.default_exchange.publish(message, routing_key=queue)


async def waiting(broker: Rabbit, queue: str) -> int:
    async with channel(broker) as made:
        found = await made.declare_queue(queue, passive=True)
        return int(found.declaration_result.message_count)


async def state(bus: Bus, uid: str) -> str:
    found = await bus.store.message_state(uid)
    return "" if found is None else found.state


async def test_messages_of_a_queue_are_stored_acknowledged_and_delivered(
    broker: Rabbit, queue: str, tmp_path: Path
) -> None:
    await publish(
        broker, queue,
        *(aio_pika.Message(f"m{n}".encode(), headers={"X-N": n, "nested": {"a": [1]}}, message_id=f"id{n}") for n in range(250)),
    )  # fmt: skip
    async with running(tmp_path, source(broker, queue)) as (_, doubles):
        await until(lambda: len(doubles["erp"].taken) == 250)
        assert sorted(item.body for item in doubles["erp"].taken) == sorted(f"m{n}".encode() for n in range(250))
        first = doubles["erp"].taken[0]
        assert first.headers["x-n"] == first.body.decode()[1:]
        assert first.headers["nested"] == '{"a":[1]}'
    assert await waiting(broker, queue) == 0


async def test_a_message_that_comes_again_is_known_by_its_id_r2(broker: Rabbit, queue: str, tmp_path: Path) -> None:
    again = aio_pika.Message(b"once", message_id="order-7")
    await publish(broker, queue, again, aio_pika.Message(b"other", message_id="order-8"))
    async with running(tmp_path, source(broker, queue)) as (_, doubles):
        await until(lambda: len(doubles["erp"].taken) == 2)
        await publish(broker, queue, again, aio_pika.Message(b"last"))
        await until(lambda: len(doubles["erp"].taken) == 3)
        assert [item.body for item in doubles["erp"].taken].count(b"once") == 1


async def test_what_cannot_be_stored_stays_with_the_queue(broker: Rabbit, queue: str, tmp_path: Path) -> None:
    rest = 'do = [{ read = "json", bad = "reply 422" }]\n'
    await publish(broker, queue, aio_pika.Message(b"{no json"), aio_pika.Message(b"{}"))
    async with running(tmp_path, source(broker, queue, rest=rest)) as (bus, doubles):
        await until(lambda: len(doubles["erp"].taken) == 1)
        await until(lambda: "refused" in bus.services.healths["route.in"].reason)

    async def back() -> bool:
        return await waiting(broker, queue) == 1

    await until(back)


async def test_a_refused_message_goes_to_the_dead_letter_exchange_where_that_is_asked_for(
    broker: Rabbit, queue: str, tmp_path: Path
) -> None:
    async with channel(broker) as made:
        await made.declare_queue(f"{queue}.dead", durable=True)
        dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{queue}.dead"}
        await made.declare_queue(queue, durable=True, arguments=dead)
        await made.default_exchange.publish(aio_pika.Message(b"{no json"), routing_key=queue)
    rest = 'do = [{ read = "json", bad = "reply 422" }]\n'
    async with running(tmp_path, source(broker, queue, ', refused = "reject"', rest)):

        async def dead_letter() -> bool:
            return await waiting(broker, f"{queue}.dead") == 1

        await until(dead_letter)


async def test_a_queue_is_declared_and_bound_only_where_that_is_asked_for(
    broker: Rabbit, queue: str, tmp_path: Path
) -> None:
    async with running(tmp_path, source(broker, queue)) as (bus, _):
        await until(lambda: "no queue" in getattr(bus.services.healths.get("route.in"), "reason", ""))
    more = ', declare = true, exchange = "amq.topic", bindings = ["order.*"]'
    async with running(tmp_path, source(broker, queue, more)) as (bus, doubles), channel(broker) as made:
        exchange = await made.get_exchange("amq.topic")

        async def routed() -> bool:
            try:
                await exchange.publish(aio_pika.Message(b"bound"), routing_key="order.new")
            except aio_pika.exceptions.DeliveryError:
                return False
            return True

        await until(routed)
        await until(lambda: doubles["erp"].bodies == [b"bound"])


async def test_a_broker_that_dies_between_loses_nothing(queue: str, tmp_path: Path) -> None:
    with rabbit(tmp_path) as own:
        text = source(own, queue) + target(own, queue)
        await publish(own, queue)
        async with running(tmp_path, text) as (bus, doubles):
            await asyncio.sleep(1.5)
            sent = [(await bus.inject("go", Incoming(body=f"m{n}".encode()))).id for n in range(100)]
            await asyncio.to_thread(own.kill)
            sent += [(await bus.inject("go", Incoming(body=f"n{n}".encode()))).id for n in range(100)]
            await asyncio.to_thread(own.start)

            async def done() -> bool:
                return all([await state(bus, uid) == "done" for uid in sent])

            await until(done, 40)
            wanted = {f"m{n}".encode() for n in range(100)} | {f"n{n}".encode() for n in range(100)}
            await until(lambda: set(doubles["erp"].bodies) == wanted)
            assert (await bus.store.account()).balanced


async def test_a_delivery_is_persistent_confirmed_and_has_its_id(broker: Rabbit, queue: str, tmp_path: Path) -> None:
    await publish(broker, queue)
    more = 'headers = { x-from = "esb" }\npriority = 3\ntype = "order"\nreply_to = "answers"\n'
    async with running(tmp_path, target(broker, queue, more)) as (bus, _), channel(broker) as made:
        sent = await bus.inject("go", Incoming(body=b"hello", media_type="text/plain"))
        got = None
        while got is None:
            got = await (await made.get_queue(queue)).get(fail=False, no_ack=True)
        assert (got.body, got.message_id, got.delivery_mode) == (
            b"hello",
            f"{sent.id}.out",
            aio_pika.DeliveryMode.PERSISTENT,
        )
        assert (got.headers["x-from"], got.priority, got.type, got.reply_to) == ("esb", 3, "order", "answers")


FAILS = {
    "no queue": ("nowhere", "", "D482"),
    "no exchange": ("x", 'exchange = "none"\n', "D485"),
    "no such user": ("x", 'user = "nobody"\n', "D480"),
}


@pytest.mark.parametrize("case", FAILS)
async def test_what_the_broker_does_not_take_waits_with_its_reason(case: str, broker: Rabbit, tmp_path: Path) -> None:
    key, more, code = FAILS[case]
    async with running(tmp_path, target(broker, key, more)) as (bus, _):
        sent = await bus.inject("go", Incoming(body=b"hello"))

        async def tried() -> bool:
            journey = await bus.store.journey(sent.id)
            return journey is not None and any(item.code == code for item in journey.deliveries[0].attempt_rows)

        await until(tried)
        assert await state(bus, sent.id) == "open"


async def test_a_full_queue_is_tried_again_until_it_has_room(broker: Rabbit, queue: str, tmp_path: Path) -> None:
    async with channel(broker) as made:
        full = {"x-max-length": 1, "x-overflow": "reject-publish"}
        theirs = await made.declare_queue(queue, durable=True, arguments=full)
        await made.default_exchange.publish(aio_pika.Message(b"first"), routing_key=queue)
        async with running(tmp_path, target(broker, queue)) as (bus, _):
            sent = await bus.inject("go", Incoming(body=b"second"))
            await asyncio.sleep(0.3)
            assert await state(bus, sent.id) == "open"
            await theirs.get(no_ack=True)

            async def done() -> bool:
                return await state(bus, sent.id) == "done"

            await until(done)


@pytest.mark.parametrize(
    "options",
    [
        'amqp = "mq:5672"',
        'amqp = "amqp://u:p@mq/"',
        'amqp = "amqp://mq/"\npriority = 256',
        'amqp = "amqp://mq/"\ncert = "x"',
    ],
)
def test_a_wrong_option_is_told(options: str, tmp_path: Path) -> None:
    text = f'[target.out]\n{options}\nrouting_key = "x"\n[route.go]\nfrom = {{ memory = "in" }}\nto = ["out"]\n'
    with pytest.raises(ConfigError):
        load(write_table(tmp_path, BEGIN + text, {}), load_plugins())
