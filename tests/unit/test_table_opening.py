"""Steps are opened when a table is checked: what only shows then stands at its place too."""

from __future__ import annotations

import time
from pathlib import Path

from table_of_tests import BEGIN, registry, written

from esb.clock import SystemClock
from esb.services import BusServices
from esb.table.language import late_environment
from esb.table.load import load, read
from esb.table.model import Table
from esb.table.opening import check_components

OPEN = '[route.a]\nfrom = { http = "POST /a" }\n'


async def opened(folder: Path, text: str, **files: str) -> list[str]:
    """What opening tells of a table that is right otherwise."""
    table = load(written(folder, text, **files), registry())
    return [
        f"{Path(problem.file or '').name}:{problem.line}:{problem.column} {problem.code} {problem.message}"
        for problem in await problems_of(table)
    ]


async def problems_of(table: Table) -> list:  # type: ignore[type-arg]
    async with BusServices(table, registry(), SystemClock()) as services:
        services.environment = late_environment(table, registry())
        return await check_components(table, services.open)


async def test_a_table_whose_steps_can_be_opened_is_right(tmp_path: Path) -> None:
    assert await opened(tmp_path, BEGIN + OPEN + 'do = [{ read = "json" }]\nto = "erp"\n') == []


async def test_every_step_that_cannot_be_opened_is_told_at_its_option(tmp_path: Path) -> None:
    text = OPEN + (
        'do = [\n  { read = "json" },\n  { check = "order@1" },\n  { split = "body.a[0]" },\n'
        '  { set = { "bdy.x" = \'1\' } },\n  { map = "m", into = "header.x" },\n]\nto = "erp"\n[map.m]\nx = \'1\'\n'
    )
    assert await opened(tmp_path, BEGIN + text) == [
        'routes.toml:11:13 E232 route "a": there is no contract "order@1" in contracts/',
        'routes.toml:12:13 E231 route "a": "body.a[0]" is not a path at "[0]"; write names with dots, '
        "other names as body.Order['@id']",
        'routes.toml:13:11 E231 route "a": "bdy.x" is not a path; begin with body or header, as in "body.Order.Total"',
        'routes.toml:14:23 E231 route "a": "header.x" is not a path; begin with body, as in "body.Order.Total"',
    ]


async def test_the_same_fault_in_two_places_is_told_at_both_and_a_shared_step_once(tmp_path: Path) -> None:
    steps = '[steps.s]\ndo = [{ read = "json" }, { check = "y@1" }]\n'
    a = OPEN + 'do = [{ use = "s" }, { check = "x@1" }]\nto = "erp"\n'
    b = a.replace("route.a", "route.b").replace("/a", "/b")
    found = await opened(tmp_path, BEGIN + steps + a + b)
    assert [line.split(" ")[:2] for line in found] == [
        ["routes.toml:8:36", "E232"], ["routes.toml:11:32", "E232"], ["routes.toml:15:32", "E232"],
    ]  # fmt: skip


async def test_a_stylesheet_is_looked_for_beside_the_file_that_names_it(tmp_path: Path) -> None:
    sheet = '<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform"/>'
    (tmp_path / "routes.d" / "maps").mkdir(parents=True)
    (tmp_path / "routes.d" / "maps" / "x.xsl").write_text(sheet)
    route = OPEN + 'do = [{ read = "xml" }, { xslt = "maps/x.xsl" }]\nto = "erp"\n'
    assert await opened(tmp_path, 'include = ["routes.d/a.toml"]\n' + BEGIN, routes_d__a=route) == []
    (line,) = await opened(tmp_path, BEGIN + route)
    assert line.startswith('routes.toml:9:34 E121 route "a": there is no file "maps/x.xsl" beside the table')


async def test_five_hundred_routes_are_checked_in_well_under_a_second(tmp_path: Path) -> None:
    route = """
[route.r{n}]
from = {{ http = "POST /r{n}" }}
do = [{{ read = "xml", bad = "reply 422" }}, {{ keep = 'body.Order.Kind != "{n}"', reason = "x" }}, {{ write = "json" }}]
once = '{{body.Order["@id"]}}'
cases = [
  {{ name = "big", when = 'decimal(body.Order.Total) >= {n}', to = ["erp"] }},
  {{ name = "rest", otherwise = true, to = ["erp"] }},
]
"""
    file = written(tmp_path, BEGIN + "".join(route.format(n=number) for number in range(500)))
    begun = time.process_time()
    table, problems = read(file, registry(), {})
    assert table is not None
    problems += await problems_of(table)
    spent = time.process_time() - begun
    assert problems == []
    assert len(table.routes) == 500
    assert spent < 1.0
