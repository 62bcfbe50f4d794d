"""Questions that are asked again and again stay quick however much waits: none of them walks through a whole table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from store_makings import opened

from esb.store import Store, held, journal, ledger, order, outbox, reading, retention, work

QUERIES: dict[str, str] = {
    "the rows due for a lane": reading._DUE,
    "the next due time": reading._NEXT_DUE,
    "the oldest that waits": reading._OLDEST,
    "what is planned halfway": reading._OPEN,
    "rejected parts": reading._REJECTED,
    "a delivery with its bytes": work._READ,
    "a key in the ledger": ledger._FIND,
    "who stands in a line": order._BEFORE,
    "the head of a line": order._NEXT,
    "parking a line": order._PARK,
    "settling in bulk": outbox._DELIVERED,
    "closing in bulk": outbox._DONE,
    "closing with several deliveries": outbox._SHRINK,
    "settling one": outbox._FOUND,
    "held deliveries": f"{held._DELIVERIES} AND d.id > :after ORDER BY d.id LIMIT 1",
    "held messages": f"{held._MESSAGES} AND m.id > :after ORDER BY m.id LIMIT 1",
    "groups of deliveries": f"{held._DELIVERY_GROUPS} GROUP BY 1, 2",
    "groups of messages": f"{held._MESSAGE_GROUPS} GROUP BY 1, 2",
    "a message by its key": f"{journal._MESSAGE} WHERE {journal._TERMS['key']} ORDER BY m.id DESC LIMIT 1",
    "bodies that may go": retention._FULL,
    "journeys that may go": retention._BARE,
    "held ones that may go": retention._DEAD,
    "parts left": retention._PARTS,
    "parts with bodies left": retention._PARTS_FULL,
    "the bodies of messages": retention._BODIES,
}


async def plan(store: Store, query: str) -> list[str]:
    names = ("t", "after", "state", "key", "name", "value", "n", "now", "ids")
    given: Any = dict.fromkeys(names) if ":" in query.replace("'", "") else (None,) * query.count("?")
    rows = await store.query(lambda db: db.execute(f"EXPLAIN QUERY PLAN {query}", given).fetchall())
    return [row[3] for row in rows]


@pytest.mark.parametrize("name", QUERIES)
async def test_no_question_of_the_hot_path_walks_through_a_table(tmp_path: Path, name: str) -> None:
    async with opened(tmp_path) as store:
        steps = await plan(store, QUERIES[name])
        tables = ("message", "delivery", "body", "ledger", "attempt")
        assert [step for step in steps if step.split(" USING ")[0] in {f"SCAN {table}" for table in tables}] == []
        assert [step for step in steps if step in {"SCAN m", "SCAN p", "SCAN b", "SCAN l"}] == []
        assert steps


async def test_such_a_walk_would_be_seen(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert "SCAN delivery" in await plan(store, "SELECT * FROM delivery WHERE size > ?")
