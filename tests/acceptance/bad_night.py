"""A bus in a bad night: one target away, one that refuses the login, one that says no, messages that wait for a person."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from documents import ROOT, Neighbour, free_port
from house_process import House

TABLE = """
esb = 1

[bus]
http = "127.0.0.1:{bus}"
plugins = "adapters"

[defaults]
owner = "you@example.org"

[secrets]
bank = "file:bank.key"

[auth.partners]
api-key = "file:partners.keys"

[auth.bank]
bearer = "secret:bank"

[retry.patient]
transient = {{ first = "1h", factor = 1, cap = "1h", max_age = "7d" }}

[target.erp]
http = "POST http://127.0.0.1:{erp}/orders"
id_header = "Idempotency-Key"

[target.crm]
http = "POST http://127.0.0.1:{crm}/customers"
id_header = "Idempotency-Key"
retry = "patient"

[target.bank]
http = "POST http://127.0.0.1:{bank}/payments"
id_header = "Idempotency-Key"
auth = "bank"

[target.out]
file = "out"
name = "{{message.id}}.json"

[route.orders]
from = [{{ http = "POST /orders" }}, {{ file = "drop", match = "*.xml", settled = "100ms", bad = "drop/bad" }}]
do = [{{ read = "xml" }}, {{ write = "json" }}]
keys = {{ order = '{{body.Order["@id"]}}' }}
cases = [
  {{ name = "customer", when = 'body.Order.Customer == "new"', to = ["crm"] }},
  {{ name = "payment", when = 'body.Order.Customer == "bank"', to = ["bank"] }},
  {{ name = "order", when = 'body.Order.Customer == "ACME"', to = ["erp"] }},
  {{ name = "file", when = 'body.Order.Customer == "file"', to = ["out"] }},
]

[[test]]
name = "an order goes to the erp"
route = "orders"
given = {{ file = "sample.xml" }}
expect = {{ case = "order", delivered = {{ erp = 1 }} }}
"""
SAMPLE = (ROOT / "esb" / "table" / "starter" / "sample.xml").read_text()
ORDER = '<Order id="{id}"><Customer>{customer}</Customer><Total>{total}</Total></Order>'
HELD = {"dead": 14, "quarantine": 14, "parked": 14}
FILES = {
    "sample.xml": SAMPLE,
    "order.xml": SAMPLE,
    "mended.xml": ORDER.format(id="9000", customer="ACME", total="1.00"),
    "order.json": '{"total": "1.10", "Order": {"Customer": "ACME"}}',
    "rows.csv": "order;total\n4711;120.50\n",
    "bank.key": "0123456789abcdef",
    "drop/away.xml": "<Order",
}


class Night:
    """The folder, the bus in it, and what its reader knows."""

    def __init__(self, folder: Path, house: House) -> None:
        self.folder = folder
        self._house = house

    def ask(self, path: str) -> Any:
        return asyncio.run(self._house.ask(path))[1]

    def filled(self, line: str) -> str:
        """A command of a page with its placeholders filled by what holds tonight: `ID` is one that the verb can use."""
        words = line.split()
        kind = words[1] if len(words) > 1 else ""
        known = {
            "TARGET": "crm",
            "ROUTE": "orders",
            "WHY": "'by hand'",
            "CODE": "E203",
            "NAME": "telex",
            "AUTH": "partners",
        }
        known |= {"FILE": "adapters/fax.py" if kind == "plugin" else "sample.xml"}
        if kind == "release" or "--target NAME" in line:
            known["NAME"] = "erp"
        if "ID" in words:
            known["ID"] = self.an_id(kind)
        return " ".join(known.get(word, word) for word in words) if known.keys() & set(words) else line

    def an_id(self, kind: str) -> str:
        if kind in ("dead", "parked", "quarantine"):
            held = self.ask(f"/held/{kind}")
            return str([*held["deliveries"], *held["messages"]][0]["id"])
        return str(self.ask("/messages")["messages"][0]["id"])


def _post(port: int, body: str) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/orders", body.encode(), {"Content-Type": "text/xml"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 202


async def _until(night: Night, house: House) -> None:
    """Returns when the night is as bad as it gets."""
    for _ in range(400):
        held = {kind: (await house.ask(f"/held/{kind}"))[1]["groups"] for kind in HELD}
        back = (night.folder / "drop" / "bad" / "away.xml.reason.txt").exists()
        enough = back and all(sum(group["count"] for group in held[kind]) >= count for kind, count in HELD.items())
        _, status = await house.ask("/status")
        targets = {item["name"]: item for item in status["targets"]}
        if enough and targets["bank"]["paused"] and targets["crm"]["waiting"]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"the night is not bad enough: {held} {status}")


@contextmanager
def bad_night(folder: Path) -> Iterator[Night]:
    """A running bus with all that goes wrong; ended and cleaned up at the end."""
    erp, bank, away = Neighbour(), Neighbour(), free_port()
    erp.answer = lambda path, body: (400, b"no such article") if b"none" in body else (200, b"taken")
    bank.answer = lambda path, body: (401, b"who?")
    port = free_port()
    (folder / "drop").mkdir()
    (folder / "adapters").mkdir(mode=0o755)
    table = TABLE.format(bus=port, erp=erp.port, crm=away, bank=bank.port)
    for name, text in {"routes.toml": table, **FILES}.items():
        (folder / name).write_text(text)
    house = House(folder)
    with ExitStack() as stack:
        stack.enter_context(erp.there())
        stack.enter_context(bank.there())
        house.start()
        stack.callback(_ended, house)
        asyncio.run(house.ready(port))
        _post(port, SAMPLE)
        for number in range(HELD["dead"]):
            _post(port, ORDER.format(id=number, customer="ACME", total="none"))
            _post(port, ORDER.format(id=number, customer="nobody", total="1"))
            _post(port, f"<Order id='{number}'>")
        for number in range(3):
            _post(port, ORDER.format(id=100 + number, customer="new", total="1"))
            _post(port, ORDER.format(id=200 + number, customer="bank", total="1"))
        night = Night(folder, house)
        asyncio.run(_until(night, house))
        yield night


def _ended(house: House) -> None:
    with contextlib.suppress(Exception):
        house.stop(10)
    if house.process is not None and house.process.poll() is None:
        house.kill()
