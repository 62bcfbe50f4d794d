"""Formats on their way through a bus: documents edited, files split, totals compared."""

from __future__ import annotations

import json

from esb.testing import running

HEAD = """
esb = 1
[defaults]
owner = "tests@example.org"
[namespaces]
o = "urn:shop:order"
[target.erp]
http = "POST http://127.0.0.1:1/orders"
"""
ORDER = b"""<?xml version="1.0"?>
<p:Order xmlns:p="urn:shop:order" id="7"><!-- by hand -->
  <p:Lines>
    <p:Line><p:Sku>007</p:Sku></p:Line>
    <p:Line><p:Sku>008</p:Sku><p:Note/></p:Line>
  </p:Lines>
</p:Order>
"""


def route(steps: str, rest: str = 'to = ["erp"]') -> str:
    return f"""{HEAD}
[route.orders]
from = {{ http = "POST /orders" }}
do = [{steps}]
{rest}
"""


async def test_a_field_set_in_xml_changes_the_original_document_and_nothing_else() -> None:
    steps = '{ read = "xml" }, { set = { "body.Order.Status" = \'"seen"\' } }, { write = "xml" }'
    async with running(route(steps)) as bus:
        await bus.send("orders", ORDER)
        await bus.settled()
        added = ORDER.replace(b"  </p:Lines>\n", b"  </p:Lines>\n  <p:Status>seen</p:Status>\n")
        assert bus.targets["erp"].bodies == [added.replace(b'"1.0"', b'"1.0" encoding="UTF-8"')]


async def test_xml_that_is_only_looked_at_goes_on_as_it_came() -> None:
    when = 'xpath("//o:Line[1]/o:Sku") == "007" && body.Order["@id"] == "7"'
    rest = f"cases = [{{ name = 'a', when = '{when}', to = ['erp'] }}]"
    async with running(route('{ read = "xml" }', rest)) as bus:
        await bus.send("orders", ORDER)
        await bus.settled()
        assert bus.targets["erp"].bodies == [ORDER]


async def test_elements_become_messages_that_know_where_they_came_from() -> None:
    steps = """
      { read = "xml" }, { split = "body.Order.Lines.Line", carry = { order = 'body.Order["@id"]' } },
      { set = { "body.Order" = 'parent.order', "body.Nr" = 'part.index' } }, { write = "json" }"""
    async with running(route(steps)) as bus:
        await bus.send("orders", ORDER)
        await bus.settled()
        assert [json.loads(body) for body in bus.targets["erp"].bodies] == [
            {"Sku": "007", "Order": "7", "Nr": 1},
            {"Sku": "008", "Note": "", "Order": "7", "Nr": 2},
        ]


async def test_a_changed_element_stays_xml_of_its_own_name() -> None:
    steps = (
        '{ read = "xml" }, { split = "body.Order.Lines.Line" }, { set = { "body.Sku" = \'"x"\' } }, { write = "xml" }'
    )
    async with running(route(steps)) as bus:
        await bus.send("orders", ORDER)
        await bus.settled()
        assert bus.targets["erp"].bodies[0] == (b'<p:Line xmlns:p="urn:shop:order"><p:Sku>x</p:Sku></p:Line>')


async def test_good_rows_are_delivered_and_a_ragged_one_is_quarantined() -> None:
    steps = '{ read = "csv", delimiter = ";" }, { split = "rows" }, { write = "json" }'
    async with running(route(steps)) as bus:
        await bus.send("orders", b"id;qty\r\n001;2\r\n002\r\n003;4\r\n")
        await bus.settled()
        assert bus.targets["erp"].bodies == [b'{"id":"001","qty":"2"}', b'{"id":"003","qty":"4"}']


async def test_nothing_is_sent_before_the_control_totals_agree() -> None:
    steps = """
      { read = "csv", foot = 1, count = 'int(source.foot[0][1])', sum = { qty = 'decimal(source.foot[0][2])' } },
      { split = "rows" }, { write = "json" }"""
    async with running(route(steps)) as bus:
        await bus.send("orders", b"id,qty,x\n1,2.5,\n2,0.25,\nT,2,2.74\n")
        await bus.settled()
        assert bus.targets["erp"].bodies == []
        await bus.send("orders", b"id,qty,x\n1,2.5,\n2,0.25,\nT,2,2.75\n")
        await bus.settled()
        assert len(bus.targets["erp"].bodies) == 2


async def test_items_of_a_json_document_keep_every_digit() -> None:
    async with running(route('{ read = "json" }, { split = "body.data.items" }')) as bus:
        await bus.send("orders", b'{"data": {"items": [{"price": 1.10}, {"price":1.000000000000000005}]}}')
        await bus.settled()
        assert bus.targets["erp"].bodies == [b'{"price": 1.10}', b'{"price":1.000000000000000005}']
