"""Deliveries over RabbitMQ: forwarded, delivered on any node, settled at home by receipts (R22 to R26)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import aio_pika
import pytest
from nodes import BEGIN, PLAIN, Node, node, until
from rabbit import Rabbit, rabbit

from esb.broker.topology import Topology

FAST = '[retry.patient]\ntransient = {{ attempts = 3, first = "50ms", cap = "100ms", jitter = "0%" }}\n'


def group() -> str:
    return f"g{uuid4().hex[:8]}"


async def settled(node: Node, uid: str, state: str = "done") -> None:
    async def ended() -> bool:
        return await node.state(uid) == state

    await until(ended)


async def test_one_node_delivers_over_the_broker_and_settles_r23(broker: Rabbit, tmp_path: Path) -> None:
    async with node(tmp_path, broker.url, PLAIN, group()) as one:
        sent = [await one.send(f'{{"n": {n}}}') for n in range(500)]
        await settled(one, sent[-1].id)
        assert {item.id for item in one.targets["erp"].taken} == {f"{item.id}.erp" for item in sent}
        assert await one.forwarded() == 0
        assert await one.balanced()


async def test_any_node_delivers_and_the_outcome_comes_home_r23(broker: Rabbit, tmp_path: Path) -> None:
    name = group()
    async with AsyncExitStack() as stack:
        two = await stack.enter_async_context(node(tmp_path, broker.url, PLAIN, name, "b"))
        one = await stack.enter_async_context(node(tmp_path, broker.url, PLAIN, name, "a"))
        sent = [await one.send(f'{{"n": {n}}}') for n in range(2000)]
        for item in sent:
            await settled(one, item.id)
        taken = [*one.targets["erp"].taken, *two.targets["erp"].taken]
        assert {item.id for item in taken} == {f"{item.id}.erp" for item in sent}
        assert len(taken) == len(sent), "nobody got anything twice"
        assert two.targets["erp"].taken, "the other node took its share"
        assert await one.balanced()
        assert await two.balanced()


async def test_failed_attempts_and_dead_letters_are_kept_at_home_r23(broker: Rabbit, tmp_path: Path) -> None:
    name = group()
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(node(tmp_path, broker.url, PLAIN + FAST, name, "a"))
        two = await stack.enter_async_context(node(tmp_path, broker.url, PLAIN + FAST, name, "b", doubles=one.targets))
        one.targets["erp"].answer("down", "down", "422", "422")
        dead = [await one.send("{}"), await two.send("{}")]
        await settled(one, dead[0].id, "dead")
        await settled(two, dead[1].id, "dead")
        journey = await one.bus.store.journey(dead[0].id)
        assert journey is not None
        kept = journey.deliveries[0]
        assert kept.state == "dead"
        assert kept.attempts >= 1
        assert await one.balanced()


async def test_a_sender_hears_the_answer_that_another_node_got_r6(broker: Rabbit, tmp_path: Path) -> None:
    text = (
        BEGIN + '[target.erp]\nmemory = "erp"\n[route.orders]\n'
        'from = {{ memory = "nodes", reply = "200 after delivered" }}\ndo = [{{ read = "json" }}]\nto = ["erp"]\n'
    )
    async with node(tmp_path, broker.url, text, group()) as one:
        accepted = await asyncio.wait_for(one.send("{}"), 20)
        assert accepted.reply is not None
        assert accepted.reply.status == 200


async def test_the_order_of_a_key_is_kept_over_two_nodes_r25(broker: Rabbit, tmp_path: Path) -> None:
    name = group()
    text = PLAIN.replace('memory = "erp"', 'memory = "erp"\norder_by = "{{body.k}}"', 1) + FAST
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(node(tmp_path, broker.url, text, name, "a"))
        await stack.enter_async_context(node(tmp_path, broker.url, text, name, "b", doubles=one.targets))
        one.targets["erp"].answer(*["down", "ok", "ok", "down", "timeout", "ok"] * 5)
        sent = [await one.send(f'{{"k": "{n % 10}", "n": {n}}}') for n in range(200)]
        for item in sent:
            await settled(one, item.id)
        first: dict[str, None] = {}
        for item in one.targets["erp"].taken:
            first.setdefault(item.id)
        place = {uid: at for at, uid in enumerate(first)}
        for key in range(10):
            places = [place[f"{item.id}.erp"] for n, item in enumerate(sent) if n % 10 == key]
            assert places == sorted(places)


async def test_a_large_delivery_goes_to_no_broker_r24(broker: Rabbit, tmp_path: Path) -> None:
    async with node(tmp_path, broker.url, PLAIN, group()) as one:
        sent = await one.send(f'{{"x": "{"x" * 1_500_000}"}}')
        await settled(one, sent.id)
        assert len(one.targets["erp"].bodies[0]) > 1_500_000


async def test_sources_are_accepted_while_the_broker_is_away_faults_15(tmp_path: Path) -> None:
    with rabbit(tmp_path) as own:
        own.stop()
        async with node(tmp_path, own.url, PLAIN, group()) as one:
            sent = [await one.send("{}") for _ in range(50)]
            assert one.bus.services.healths["broker"].state == "degraded"
            assert not one.targets["erp"].taken
            await asyncio.to_thread(own.start)
            for item in sent:
                await settled(one, item.id)
            assert one.bus.services.healths["broker"].state == "up"
            assert await one.balanced()


async def test_a_broker_that_is_killed_loses_nothing_faults_16(tmp_path: Path) -> None:
    with rabbit(tmp_path) as own:
        async with node(tmp_path, own.url, PLAIN, group()) as one:
            await asyncio.sleep(1.5)  # 3.10 loses the use of a queue declared less than a second before a SIGKILL
            sent = [await one.send(f'{{"n": {n}}}') for n in range(300)]
            await asyncio.to_thread(own.kill)
            sent += [await one.send(f'{{"n": {n}}}') for n in range(300)]
            await asyncio.to_thread(own.start)
            for item in sent:
                await settled(one, item.id)
            assert {item.id for item in one.targets["erp"].taken} == {f"{item.id}.erp" for item in sent}
            assert await one.balanced()


async def test_a_queue_that_is_deleted_is_made_anew_and_its_rows_go_out_again_faults_23(
    broker: Rabbit, tmp_path: Path
) -> None:
    name = group()
    async with node(tmp_path, broker.url, PLAIN, name) as one:
        first = await one.send("{}")
        await settled(one, first.id)
        await one.bus.pauses.pause("target", "erp", "maintenance")
        await asyncio.sleep(1.2)
        await until(lambda: broker.ctl("list_queues", "name", "consumers").count(f"{name}.target.erp\t0"))
        await one.bus.pauses.resume("target", "erp")
        for queue in ("target.erp", f"node.{one.bus.store.node}"):
            await asyncio.to_thread(broker.ctl, "delete_queue", f"{name}.{queue}")
        sent = [await one.send("{}") for _ in range(20)]
        for item in sent:
            await settled(one, item.id)
        assert await one.balanced()


async def test_rows_of_a_paused_target_wait_at_home(broker: Rabbit, tmp_path: Path) -> None:
    async with node(tmp_path, broker.url, PLAIN, group()) as one:
        await one.bus.pauses.pause("target", "erp", "maintenance")
        sent = await one.send("{}")
        await asyncio.sleep(1.5)
        assert not one.targets["erp"].taken
        await one.bus.pauses.resume("target", "erp")
        await settled(one, sent.id)


async def test_what_was_forwarded_before_a_restart_is_settled_after_it_r23(broker: Rabbit, tmp_path: Path) -> None:
    name = group()
    off = PLAIN.replace("[defaults]", 'drain = "1s"\n[defaults]', 1)
    async with node(tmp_path, broker.url, off, name) as one:
        gate = asyncio.Event()

        async def slow(delivery: object) -> None:
            await gate.wait()

        one.targets["erp"].deliver = slow  # type: ignore[assignment,method-assign]
        sent = [await one.send("{}") for _ in range(30)]

        async def forwarded() -> bool:
            return await one.forwarded() == 30

        await until(forwarded)
    async with node(tmp_path, broker.url, off, name) as again:
        for item in sent:
            await settled(again, item.id)
        assert len({item.id for item in again.targets["erp"].taken}) == 30
        assert await again.balanced()


async def test_what_a_broker_had_goes_out_again_without_one_and_parks_without_a_target_r23(
    broker: Rabbit, tmp_path: Path
) -> None:
    name = group()
    off = PLAIN.replace("[defaults]", 'drain = "1s"\n[defaults]', 1)

    async def stuck(folder: str) -> list[str]:
        async with node(tmp_path, broker.url, off, name, folder) as one:

            async def never(delivery: object) -> None:
                await asyncio.Event().wait()

            one.targets["erp"].deliver = never  # type: ignore[assignment,method-assign]
            sent = [(await one.send("{}")).id for _ in range(5)]

            async def forwarded() -> bool:
                return await one.forwarded() == 5

            await until(forwarded)
            return sent

    sent = await stuck("a")
    async with node(tmp_path, "embedded", off, name, "a") as again:
        for uid in sent:
            await settled(again, uid)
        assert await again.balanced()
    sent = await stuck("b")
    other = off.replace("erp", "crm")
    async with node(tmp_path, broker.url, other, name, "b") as again:
        journey = await again.bus.store.journey(sent[0])
        assert journey is not None
        assert journey.deliveries[0].state == "parked"
        assert await again.balanced()


async def test_what_was_settled_before_a_restart_is_not_sent_again_r24(broker: Rabbit, tmp_path: Path) -> None:
    """A frame whose acknowledgement was lost comes again: its deliveries have had their outcome."""
    name = group()
    async with node(tmp_path, broker.url, PLAIN, name) as one:
        assert one.bus.brokered is not None
        frames: list[bytes] = []
        publish = one.bus.brokered.broker.publish

        async def kept(queue: str, body: bytes, media: str) -> None:
            frames.append(body)
            await publish(queue, body, media)

        one.bus.brokered.broker.publish = kept  # type: ignore[method-assign]
        sent = [await one.send("{}") for _ in range(20)]
        for item in sent:
            await settled(one, item.id)
    async with node(tmp_path, broker.url, PLAIN, name) as again:
        assert again.bus.brokered is not None
        await again.bus.brokered.broker.up()
        for frame in frames:
            await again.bus.brokered.broker.publish(f"{name}.target.erp", frame, "")
        last = await again.send("{}")
        await settled(again, last.id)
        assert [item.id for item in again.targets["erp"].taken] == [f"{last.id}.erp"]


async def test_the_arguments_are_exactly_these_and_a_frame_outlives_thirty_consumers_r22(
    broker: Rabbit, tmp_path: Path
) -> None:
    name = group()
    async with node(tmp_path, broker.url, PLAIN, name) as one:
        await until(lambda: one.bus.brokered is not None and one.bus.brokered.broker.connected)
    said = broker.ctl("list_queues", "name", "arguments", "durable")
    (line,) = [line for line in said.splitlines() if line.startswith(f"{name}.target.erp\t")]
    for argument in (
        '{"x-queue-type","quorum"}', '{"x-delivery-limit",1000000}', '{"x-overflow","reject-publish"}',
        '{"x-dead-letter-strategy","at-least-once"}', '{"x-dead-letter-exchange",[]}',
        f'{{"x-dead-letter-routing-key","{name}.dead-frames"}}',
    ):  # fmt: skip
        assert argument.replace("[]", '""') in line or argument in line, line
    queue = Topology(name).target("erp")
    connection = await aio_pika.connect(broker.url)
    async with connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(
            aio_pika.Message(b"frame", delivery_mode=aio_pika.DeliveryMode.PERSISTENT), routing_key=queue
        )
        for _ in range(30):
            other = await connection.channel()
            got = await (await other.get_queue(queue)).get(timeout=5)
            assert got is not None
            await other.close()
        last = await (await channel.get_queue(queue)).get(timeout=5)
        assert last is not None
        assert last.body == b"frame"
        await last.ack()


async def test_a_frame_that_is_none_is_kept_and_said_and_stops_nothing(broker: Rabbit, tmp_path: Path) -> None:
    name = group()
    async with node(tmp_path, broker.url, PLAIN, name) as one:
        first = await one.send("{}")
        await settled(one, first.id)
        connection = await aio_pika.connect(broker.url)
        async with connection:
            channel = await connection.channel()
            await channel.default_exchange.publish(aio_pika.Message(b"nonsense"), routing_key=f"{name}.target.erp")
        await until(lambda: "broker.dead-frames" in one.bus.services.healths)
        (kept,) = (one.bus.store.folder / "dead-frames").iterdir()
        assert kept.read_bytes() == b"nonsense"
        second = await one.send("{}")
        await settled(one, second.id)


@pytest.mark.parametrize("url", ["amqp://guest:wrong@127.0.0.1:{port}/", "amqp://guest:guest@127.0.0.1:{port}/none"])
async def test_a_broker_that_refuses_us_is_said_without_the_password_faults_30(
    url: str, broker: Rabbit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with node(tmp_path, url.format(port=broker.port), PLAIN, group()) as one:
        sent = await one.send("{}")
        await until(lambda: "not connected yet" not in one.bus.services.healths["broker"].reason)
        assert "wrong" not in caplog.text + one.bus.services.healths["broker"].reason
        assert one.bus.services.healths["broker"].state == "degraded"
        assert await one.state(sent.id) == "open"
