"""Every step in a route: what goes in, what comes out, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from esb.errors import ConfigError, Invalid
from esb.testing import running

HEAD = """
esb = 1
[defaults]
owner = "tests@example.org"
[target.erp]
http = "POST http://127.0.0.1:1/orders"
"""


def table(*steps: str, more: str = "") -> str:
    do = ",\n".join(steps)
    return f'{HEAD}{more}\n[route.r]\nfrom = {{ http = "POST /r" }}\ndo = [\n{do},\n]\nto = ["erp"]\n'


async def through(text: str, body: str, files: dict[str, str] | None = None, **headers: str) -> list[bytes]:
    async with running(text, files=files) as bus:
        await bus.send("r", body, headers=headers)
        await bus.settled()
        return bus.targets["erp"].bodies


async def fate(text: str, body: str, files: dict[str, str] | None = None) -> tuple[str, str]:
    async with running(text, files=files) as bus:
        accepted = await bus.send("r", body)
        await bus.settled()
        state = await bus.bus.store.message_state(accepted.id)
        assert state is not None
        return state.state, state.reason


async def test_keep_drops_what_is_false_with_its_reason() -> None:
    text = table('{ read = "json" }', "{ keep = 'body.n > 1', reason = \"too small\" }")
    assert await fate(text, '{"n": 1}') == ("dropped", "too small")
    assert await through(text, '{"n": 2}') == [b'{"n": 2}']


async def test_set_and_remove_change_a_copy_and_a_header() -> None:
    text = table(
        '{ read = "json" }',
        '{ set = { "body.total" = \'body.n * 2\', "header.x-run" = \'"r" + string(body.n)\' } }',
        '{ remove = ["body.n"] }',
        '{ write = "json" }',
    )
    async with running(text) as bus:
        await bus.send("r", '{"n": 21, "a": null}')
        await bus.settled()
        taken = bus.targets["erp"].taken[0]
        assert json.loads(taken.body) == {"a": None, "total": 42}
        assert taken.headers["x-run"] == "r21"


async def test_if_runs_a_step_only_when_it_is_true() -> None:
    text = table('{ read = "json" }', "{ if = 'body.big', set = { \"body.seen\" = 'true' } }", '{ write = "json" }')
    assert await through(text, '{"big":false}') == [b'{"big":false}']
    assert json.loads((await through(text, '{"big":true}'))[0])["seen"] is True


async def test_a_map_keeps_order_nests_and_leaves_out_what_is_missing() -> None:
    more = """
[map.m]
"head.id" = 'body.id'
total = 'decimal(body.total)'
currency = { text = "EUR" }
note = 'optional(body.note)'
lines = { each = 'body.lines', map = "l" }
n = 3
[map.l]
sku = 'item.sku'
order = 'body.id'
"""
    text = table('{ read = "json" }', '{ map = "m" }', '{ write = "json" }', more=more)
    body = '{"id": "7", "total": "10.50", "lines": [{"sku": "a"}, {"sku": "b"}]}'
    (got,) = await through(text, body)
    lines = b'"lines":[{"sku":"a","order":"7"},{"sku":"b","order":"7"}],"n":3}'
    assert got == b'{"head":{"id":"7"},"total":10.50,"currency":"EUR",' + lines


async def test_a_map_s_error_names_the_field_of_the_map() -> None:
    more = "[map.m]\ntotal = 'int(body.total)'\n"
    state, reason = await fate(
        table('{ read = "json" }', '{ map = "m" }', '{ write = "json" }', more=more), '{"total": "x"}'
    )
    assert state == "quarantined"
    assert "map.m.total" in reason


SCHEMA = json.dumps(
    {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}, "n": {"type": "integer"}}}
)


async def test_check_names_every_error_with_its_path() -> None:
    files = {"contracts/order@1.json": SCHEMA}
    text = table('{ read = "json" }', '{ check = "order@1", bad = "reply 422" }')
    assert await through(text, '{"id": "1"}', files) == [b'{"id": "1"}']
    async with running(text, files=files) as bus:
        with pytest.raises(Invalid) as refused:
            await bus.send("r", '{"n": "x"}')
    assert refused.value.status == 422
    assert len(refused.value.errors) == 2


async def test_check_with_note_goes_on_and_with_dead_does_not() -> None:
    files = {"contracts/order@1.json": SCHEMA}
    note = table('{ read = "json" }', '{ check = "order@1", bad = "note" }')
    assert await through(note, '{"n": 1}', files) == [b'{"n": 1}']
    dead = table('{ read = "json" }', '{ check = "order@1", bad = "dead" }')
    assert (await fate(dead, '{"n": 1}', files))[0] == "dead"


XSL = """<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform"><xsl:param name="run"/>
<xsl:template match="/Order"><Out run="{$run}"><xsl:value-of select="@id"/></Out></xsl:template></xsl:stylesheet>"""


async def test_xslt_transforms_with_parameters() -> None:
    text = table('{ xslt = "maps/o.xsl", params = { run = \'header["x-run"]\' } }')
    (got,) = await through(text, '<Order id="7"/>', {"maps/o.xsl": XSL}, **{"x-run": "r1"})
    assert b'<Out run="r1">7</Out>' in got


async def test_a_stylesheet_reads_no_file_outside(tmp_path: Path) -> None:
    secret = tmp_path / "secret.xml"
    secret.write_text("<a>SECRET-OF-THE-MACHINE</a>")
    leak = XSL.replace('<xsl:value-of select="@id"/>', f"<xsl:copy-of select=\"document('{secret}')\"/>")
    got = await through(table('{ xslt = "maps/o.xsl" }'), '<Order id="7"/>', {"maps/o.xsl": leak})
    assert not any(b"SECRET-OF-THE-MACHINE" in body for body in got)


async def test_a_stylesheet_includes_nothing_from_outside(tmp_path: Path) -> None:
    outside = tmp_path / "outside.xsl"
    outside.write_text(XSL)
    sheet = '<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">'
    sheet += f'<xsl:include href="{outside}"/></xsl:stylesheet>'
    with pytest.raises(ConfigError) as refused:
        await through(table('{ xslt = "maps/o.xsl" }'), '<Order id="7"/>', {"maps/o.xsl": sheet})
    assert refused.value.problems[0].code == "E234"
    assert refused.value.problems[0].line == 11


async def test_use_runs_named_steps() -> None:
    more = '[steps.tidy]\ndo = [{ read = "json" }, { set = { "body.tidy" = \'true\' } }]\n'
    assert await through(table('{ use = "tidy" }', '{ write = "json" }', more=more), "{}") == [b'{"tidy":true}']


async def test_a_split_carries_from_the_whole_and_counts_its_parts() -> None:
    text = table(
        '{ read = "json" }',
        "{ split = \"body.lines\", carry = { id = 'body.id' } }",
        "{ set = { \"body.id\" = 'parent.id', \"body.i\" = 'part.index' } }",
        '{ write = "json" }',
    )
    got = await through(text, '{"id": "7", "lines": [{"s": "a"}, {"s": "b"}]}')
    assert got == [b'{"s":"a","id":"7","i":1}', b'{"s":"b","id":"7","i":2}']


async def test_a_map_never_changes_the_body_that_other_branches_share_r20() -> None:
    more = "[map.m]\norder = 'body.o'\n\"order.extra\" = '1'\n"
    to = """[
  { target = "erp", do = [{ map = "m" }, { write = "json" }] },
  { target = "erp", do = [{ set = { "body.z" = '1' } }, { write = "json" }] },
]"""
    text = table('{ read = "json" }', more=more).replace('to = ["erp"]', f"to = {to}")
    assert await through(text, '{"o": {"a": 1}}') == [b'{"order":{"a":1,"extra":1}}', b'{"o":{"a":1},"z":1}']


async def test_a_map_whose_fields_contradict_each_other_is_bad_data_and_no_fault_of_a_plugin() -> None:
    more = "[map.m]\na = 'body.a'\n\"a.b\" = '2'\n"
    text = table('{ read = "json" }', '{ map = "m" }', '{ write = "json" }', more=more)
    state, reason = await fate(text, '{"a": 7}')
    assert state == "quarantined"
    assert "map.m.a.b" in reason
    assert "own code" not in reason


async def test_set_with_an_empty_optional_sets_nothing() -> None:
    text = table('{ read = "json" }', "{ set = { \"body.x\" = 'optional(body.y)' } }", '{ write = "json" }')
    assert await through(text, '{"a":1}') == [b'{"a":1}']
    assert json.loads((await through(text, '{"y":2}'))[0]) == {"y": 2, "x": 2}


async def test_an_xml_element_that_stands_once_is_split_after_a_change_as_when_it_is_streamed() -> None:
    changed = '{ set = { "body.O.x" = \'"1"\' } }'
    for steps in ([], [changed]):
        text = table('{ read = "xml" }', *steps, '{ split = "body.O.L" }', '{ write = "json" }')
        assert len(await through(text, "<O><L><q>1</q></L></O>")) == 1


async def test_a_format_is_a_rule_where_the_step_says_so() -> None:
    schema = json.dumps({"properties": {"at": {"type": "string", "format": "date"}}})
    files = {"contracts/day@1.json": schema}
    loose = table('{ read = "json" }', '{ check = "day@1" }')
    strict = table('{ read = "json" }', '{ check = "day@1", formats = true }')
    assert len(await through(loose, '{"at": "soon"}', files)) == 1
    assert (await fate(strict, '{"at": "soon"}', files))[0] == "quarantined"


async def test_a_stylesheet_that_gives_up_and_a_body_that_is_no_xml_have_codes_of_their_own() -> None:
    stop = XSL.replace("<Out", '<xsl:message terminate="yes">no lines</xsl:message><Out')
    async with running(table('{ xslt = "maps/o.xsl" }'), files={"maps/o.xsl": stop}) as bus:
        for body, code in (('<Order id="7"/>', "M287"), ("no xml", "M288"), ("<!DOCTYPE a><Order/>", "M288")):
            accepted = await bus.send("r", body)
            journey = await bus.bus.store.journey(accepted.id)
            assert journey is not None
            assert journey.message.state == "quarantined"
            assert code.encode() in journey.trace, body
