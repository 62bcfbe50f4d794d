"""docs/table.md says what the code says: every key has a word and an example, and every example is accepted."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
import tomli

from esb.cli import COMMANDS, reference
from esb.conformance import Examination
from esb.plugins import load_plugins
from esb.ports import RESERVED
from esb.table import keys
from esb.table.load import read
from esb.table.reference import SECTIONS, of_struct, page, words

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = load_plugins()
WORDS = words()

HEAD = """esb = 1
{top}
[secrets]
admin = "env:A"
erp = "env:E"
hook = "env:H"
proxy = "env:P"
[target.erp]
memory = "erp"
[auth.partners]
api-key = "file:keys"
[steps.tidy]
do = [{{ remove = ["body.note"] }}]
[map.order]
id = 'body.id'
"""
ROUTE = {"owner": '"a"', "from": '{ memory = "in" }', "to": '["erp"]', "do": '[{ read = "json" }, { write = "json" }]'}
BESIDE = {
    "bus": "[bus]\n{line}",
    "bus admin": '[bus]\nadmin_key = "secret:admin"\n{line}',
    "bus.outbox": "[bus.outbox]\n{line}",
    "defaults": "[defaults]\n{line}",
    "target": '[target.x]\nmemory = "x"\n{line}',
    "target auth": '[target.x]\nmemory = "x"\n{line}\n[auth.erp]\nbearer = "secret:erp"',
    "listener": '[listener.x]\nbind = ":1"\n{line}',
    "listener bind": "[listener.x]\n{line}",
    "listener.tls": '[listener.x]\nbind = ":1"\ntls = {{ cert = "c", key = "k", {line} }}',
    "listener.tls cert": '[listener.x]\nbind = ":1"\ntls = {{ key = "k", {line} }}',
    "listener.tls key": '[listener.x]\nbind = ":1"\ntls = {{ cert = "c", {line} }}',
    "auth": "[auth.x]\n{line}",
    "auth basic": '[auth.x]\npassword = "secret:erp"\n{line}',
    "auth user": '[auth.x]\nbasic = true\npassword = "secret:erp"\n{line}',
    "auth password": '[auth.x]\nbasic = "u"\n{line}',
    "auth oauth2": '[auth.x]\nid = "u"\nsecret = "secret:erp"\n{line}',
    "auth id": '[auth.x]\noauth2 = "https://x/t"\nsecret = "secret:erp"\n{line}',
    "auth secret": '[auth.x]\noauth2 = "https://x/t"\nid = "u"\n{line}',
    "auth scope": '[auth.x]\noauth2 = "https://x/t"\nid = "u"\nsecret = "secret:erp"\n{line}',
    "auth header": '[auth.x]\nsecret = "secret:erp"\n{line}',
    "auth value": '[auth.x]\nheader = "X-Key"\n{line}',
}
"""Where a line stands; a section's own key may need more beside it."""
STEPS = {
    "codec.csv": '[{{ read = "json" }}, {{ write = "csv", {line} }}]',
    "codec.json": '[{{ read = "json", {line} }}]',
    "codec.xml": '[{{ read = "json" }}, {{ write = "xml", {line} }}]',
    "step": '[{{ read = "json", {line} }}, {{ write = "json" }}]',
    "step.write": '[{{ read = "json" }}, {options}]',
    "step.read": "[{options}]",
    "step.xslt": "[{options}]",
    "step.map": '[{{ read = "json" }}, {options}, {{ write = "json" }}]',
}


def test_the_page_is_fresh() -> None:
    """`make docs` writes it anew."""
    assert (ROOT / "docs" / "table.md").read_text() == page(REGISTRY)


def test_the_page_of_the_commands_is_fresh() -> None:
    """`make docs` writes it anew."""
    assert (ROOT / "docs" / "commands.md").read_text() == reference.page()


def test_every_command_stands_in_one_group_of_its_page_and_every_option_has_its_word() -> None:
    assert sorted(name for _, names in reference.GROUPS.values() for name in names) == sorted(COMMANDS)
    options = [(name, item) for name, command in reference.commands() for item in command.params]
    bare = [(name, item.name) for name, item in options if isinstance(item, click.Option) and not item.help]
    assert bare == []


def test_the_verbs_that_the_page_tells_once_are_the_same() -> None:
    found = [name for name, _ in reference.commands()]
    verbs = {
        kind: {name.split()[1] for name in found if name.startswith(f"{kind} ")}
        for kind in ("dead", "parked", "quarantine")
    }
    assert verbs["dead"] - verbs["parked"] == {"replay"}
    assert verbs["parked"] == verbs["quarantine"]


def test_every_key_of_the_table_has_its_word() -> None:
    for name, _, kind, _ in SECTIONS:
        if kind is not None:
            assert WORDS[name].keys() == of_struct(kind).keys(), name
    assert WORDS["top"].keys() == {"esb", "include"}
    assert WORDS["route"].keys() == keys.ROUTE
    assert WORDS["case"].keys() == keys.CASE
    assert WORDS["source"].keys() == keys.SOURCE
    assert WORDS["target"].keys() == keys.TARGET
    assert WORDS["step"].keys() == keys.STEP == RESERVED["step"]
    assert WORDS["test"].keys() == {"name", "route", "given", "answers", "expect"}


def test_every_option_of_every_component_has_its_word() -> None:
    for (kind, name), component in REGISTRY.components.items():
        told = {name if field == component.main else field for field in of_struct(component.options)}
        left_out = {"codec_options", *((name,) if kind == "codec" else ())}
        assert WORDS[f"{kind}.{name}"].keys() == told - left_out, (kind, name)


def shown(section: str, key: str, example: str) -> str:
    """A table that has the example at its place."""
    line = f"{key} = {example}"
    kind, _, name = section.partition(".")
    beside, route, after = "", dict(ROUTE), ""
    if section == "route":
        route[key] = example
    elif section == "retain":
        route["retain"] = f"{{ {line} }}"
    elif section == "case":
        route["cases"] = f"[{case(key, example)}]"
    elif section == "test":
        given = {"name": '"x"', "route": '"orders"', "given": "{}", "expect": "{ parts = 0 }", key: example}
        after = "[[test]]\n" + body(given)
    elif section == "source":
        route["from"] = f"{{ {'file = 1' if key == 'every' else 'http = 1'}, {line} }}".replace("1", '"POST /o"', 1)
    elif kind in ("step", "codec"):
        route["do"] = STEPS.get(section, STEPS["step.map"]).format(line=line, options=options(kind, name, key, example))
    elif name and kind == "source":
        route["from"] = options(kind, name, key, example)
    elif name and kind == "target":
        beside = "[target.x]\n" + body(whole(kind, name, key, example))
    elif kind == "retry":
        beside = f"[retry.x]\n{name} = {{ {line} }}"
    elif section != "top":
        beside = BESIDE.get(f"{section} {key}", BESIDE.get(section, "")).format(line=line)
    top = line if section == "top" and key != "esb" else ""
    return f"{HEAD.format(top=top)}{beside}\n[route.orders]\n{body(route)}{after}"


def case(key: str, example: str) -> str:
    given = {"name": '"x"', "when": "'true'", "to": '["erp"]', key: example}
    left_out = {"otherwise": "when", "drop": "to", "park": "to", "dead": "to", "reply": "to"}.get(key)
    return "{ " + ", ".join(f"{word} = {value}" for word, value in given.items() if word != left_out) + " }"


def body(given: dict[str, str]) -> str:
    return "".join(f"{key} = {value}\n" for key, value in given.items())


def whole(kind: str, name: str, key: str, example: str) -> dict[str, str]:
    """A component with one option: what else it must have comes from words.toml."""
    component = REGISTRY.components[kind, name]  # type: ignore[index]
    must = [field for field, (_, preset) in of_struct(component.options).items() if preset == "must be given"]
    known = WORDS[f"{kind}.{name}"]
    given = {word: known[word]["example"] for word in (name if field == component.main else field for field in must)}
    if name == "timer":
        given["cron"] = known["cron"]["example"]
    if key == "roll":
        given["append"] = known["append"]["example"]
    if key in ("cert", "key"):
        given |= {word: known[word]["example"] for word in ("cert", "key")}
    return {**given, key: example}


def options(kind: str, name: str, key: str, example: str) -> str:
    if not name or kind == "codec":
        return ""
    return "{ " + ", ".join(f"{word} = {value}" for word, value in whole(kind, name, key, example).items()) + " }"


EXAMPLES = [(section, key, word["example"]) for section, known in WORDS.items() for key, word in known.items()]


@pytest.mark.parametrize(("section", "key", "example"), EXAMPLES, ids=[f"{name} {key}" for name, key, _ in EXAMPLES])
def test_an_example_of_the_page_is_accepted(section: str, key: str, example: str, tmp_path: Path) -> None:
    text = shown(section, key, example)
    tomli.loads(text)
    assert example in text
    (tmp_path / "routes.toml").write_text(text)
    _, problems = read(tmp_path / "routes.toml", REGISTRY, {})
    assert [str(problem) for problem in problems if problem.severity == "error"] == [], text


@pytest.mark.parametrize("key", sorted(REGISTRY.components), ids=lambda key: "-".join(key))
def test_a_component_says_its_name_one_line_and_its_options(key: tuple[str, str]) -> None:
    component = REGISTRY.components[key]  # type: ignore[index]
    assert component.name == key[1]
    assert component.about and "\n" not in component.about
    assert component.main in component.options.__struct_fields__
    assert component.example


def test_the_conformance_kit_knows_every_kind() -> None:
    assert {kind for kind, _ in REGISTRY.components} == {"source", "target", "step", "codec"}
    assert Examination(REGISTRY.components["target", "file"], REGISTRY).findings == []
