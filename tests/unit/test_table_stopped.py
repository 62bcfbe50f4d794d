"""What this machine cannot run of a right table stops the routes that need it, and no other (FAULTS 47)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace
from table_of_tests import HEAD, loaded, registry, told

from esb.errors import ConfigError
from esb.plugins import PluginFile, Registry
from esb.ports import Component

OUT = '[target.out]\nmemory = "out"\n'
GOOD = '[route.good]\nfrom = { memory = "good" }\nto = ["out"]\n'
GONE = PluginFile(name="own", refused="E138 no luck", words=frozenset({"own_codec", "luhn"}))
WHY = "the plugin own was left out: E138 no luck"


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    name: str = ""


def without(*added: Component[Any]) -> Registry:
    """The shipped plugins and these, one plugin refused."""
    known = registry()
    components = {**known.components, **{(item.kind, item.name): item for item in added}}
    return replace(known, components=components, plugins=(*known.plugins, GONE))


NEEDS = {
    "a source": 'from = { own = "x" }\nto = ["out"]\n',
    "a step": 'from = { memory = "x" }\ndo = [{ own = "x" }]\nto = ["out"]\n',
    "a step in a case": 'from = { memory = "x" }\ncases = [{ otherwise = true, do = [{ own = "x" }], to = ["out"] }]\n',
    "a format": 'from = { memory = "x" }\ndo = [{ read = "own_codec" }]\nto = ["out"]\n',
    "a function in a case": 'from = { memory = "x" }\ncases = [{ when = "luhn(header.a)", to = ["out"] }]\n',
    "a function in a step": 'from = { memory = "x" }\ndo = [{ keep = "luhn(header.a)", reason = "x" }]\nto = ["out"]\n',
    "steps that need it": 'from = { memory = "x" }\ndo = [{ use = "both" }]\nto = ["out"]\n[steps.both]\ndo = [{ own = 1 }]\n',
    "a map that needs it": (
        'from = { memory = "x" }\ndo = [{ read = "json" }, { map = "a" }, { write = "json" }]\nto = ["out"]\n'
        '[map.a]\nlines = { each = "body.a", map = "b" }\n[map.b]\nn = "luhn(item.n)"\n'
    ),
    "a target": 'from = { memory = "x" }\nto = ["away"]\n[target.away]\nown = "x"\n',
    "a target's step": (
        'from = { memory = "x" }\nto = ["slow"]\n[target.slow]\nmemory = "slow"\ndo = [{ own = "x" }]\n'
    ),
    "a route that needs it": (
        'from = { memory = "x" }\nto = ["route:next"]\n'
        '[route.next]\nfrom = { route = true }\ndo = [{ own = "x" }]\nto = ["out"]\n'
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", NEEDS.values(), ids=NEEDS)
def test_a_route_stops_that_needs_what_a_refused_plugin_would_bring(text: str) -> None:
    table = loaded(f"{HEAD}{OUT}{GOOD}[route.needs]\n{text}", plugins=without())
    assert WHY in table.stopped["needs"]
    assert "good" not in table.stopped
    assert table.absent == ({"away": WHY} if "away" in text else {})


def test_a_package_that_is_not_installed_stops_its_route() -> None:
    sftp = Component(
        kind="source", name="sftp", about="", options=Nothing, main="name", example="",
        open=lambda options, context: nullcontext(None), needs={"no_such_module": "sftp"},
    )  # fmt: skip
    table = loaded(f'{HEAD}{OUT}{GOOD}[route.needs]\nfrom = {{ sftp = "x" }}\nto = ["out"]\n', plugins=without(sftp))
    assert table.stopped == {"needs": "sftp needs the package no_such_module: pip install 'esb[sftp]'"}


def test_a_slip_beside_a_refused_plugin_is_an_error_of_the_table() -> None:
    text = f'{HEAD}{OUT}{GOOD}[route.needs]\nfrom = {{ memory = "x" }}\ndo = [{{ raed = "json" }}]\nto = ["out"]\n'
    with pytest.raises(ConfigError) as wrong:
        loaded(text, plugins=without())
    assert [problem.code for problem in wrong.value.problems] == ["E203"]
    assert any('did you mean "read"?' in line for line in told(text, plugins=without()))
