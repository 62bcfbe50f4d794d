"""Contracts: every finding with its field path; nothing outside the folder is read; verdicts as others have them."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from esb.contracts import Contracts, field_path
from esb.errors import DecodeError, MessageError, OptionError
from esb.message import Headers, Message

ORDER = {
    "type": "object",
    "required": ["id", "total"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "maxLength": 5},
        "total": {"type": "number", "multipleOf": 0.01, "maximum": 100},
        "when": {"format": "date"},
        "iban": {"type": "string", "maxLength": 4},
        "lines": {"type": "array", "items": {"$ref": "line@1.json"}},
    },
}
LINE = {"type": "object", "properties": {"qty": {"type": "integer", "minimum": 1}}}

XSD = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:include schemaLocation="types@1.xsd"/>
<xs:element name="Order"><xs:complexType><xs:sequence><xs:element name="Id" type="Short"/>
<xs:element name="Iban" minOccurs="0" type="Short"/>
<xs:element name="Line" maxOccurs="unbounded"><xs:complexType><xs:sequence>
<xs:element name="Qty" type="xs:int"/></xs:sequence></xs:complexType></xs:element>
</xs:sequence><xs:attribute name="n" type="xs:int"/></xs:complexType></xs:element></xs:schema>"""
TYPES = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:simpleType name="Short">
<xs:restriction base="xs:string"><xs:maxLength value="3"/></xs:restriction></xs:simpleType></xs:schema>"""


def message(body: Any, **more: Any) -> Message:
    raw = body if isinstance(body, bytes) else b""
    return Message(uid="1", route="r", accepted_at=0.0, body=body, raw=more.pop("raw", raw), headers=Headers(), **more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "contracts"
    place.mkdir()
    (place / "order@1.json").write_text(json.dumps(ORDER))
    (place / "line@1.json").write_text(json.dumps(LINE))
    (place / "xorder@1.xsd").write_text(XSD)
    (place / "types@1.xsd").write_text(TYPES)
    return place


def said(folder: Path, name: str, body: Any, formats: bool = False, **more: Any) -> dict[str, str]:
    return {p.place: p.message for p in Contracts(folder).get(name).check(message(body, **more), formats)}


def test_a_message_that_keeps_its_contract_has_no_findings(folder: Path) -> None:
    tree = {"id": "a", "total": Decimal("9.99"), "lines": [{"qty": 2}]}
    assert said(folder, "order@1", tree) == {}


def test_every_finding_is_named_with_its_field_path(folder: Path) -> None:
    tree = {"id": "too long", "lines": [{"qty": 1}, {"qty": 0}], "odd": 1}
    findings = said(folder, "order@1", tree)
    assert findings["body.total"] == "is missing"
    assert findings["body.id"] == 'is longer than 5 characters; it is "too long"'
    assert findings["body.lines[1].qty"] == "is less than the minimum of 1; it is 0"
    assert "odd" in findings["body"]


def test_a_decimal_is_judged_by_its_digits(folder: Path) -> None:
    assert said(folder, "order@1", {"id": "a", "total": Decimal("99.99")}) == {}
    assert "multiple" in said(folder, "order@1", {"id": "a", "total": Decimal("0.001")})["body.total"]
    problems = (
        Contracts(folder).get("order@1").check(message({"id": "a", "total": Decimal("100.000000000000000000001")}))
    )
    assert any("maximum of 100" in problem.message for problem in problems)


def test_a_value_of_a_field_named_like_a_secret_is_never_shown(folder: Path) -> None:
    findings = said(folder, "order@1", {"id": "a", "total": 1, "iban": "DE123456"})
    assert findings["body.iban"] == "is longer than 4 characters; it is ***"


def test_format_is_a_rule_only_where_it_is_asked_for(folder: Path) -> None:
    tree = {"id": "a", "total": 1, "when": "yesterday"}
    assert said(folder, "order@1", tree) == {}
    assert "body.when" in said(folder, "order@1", tree, formats=True)


def test_times_that_a_step_made_are_checked_as_they_will_be_written(folder: Path) -> None:
    assert said(folder, "order@1", {"id": "a", "total": Decimal(1), "when": date(2026, 1, 2)}, formats=True) == {}


def test_a_json_contract_on_bytes_asks_for_a_read(folder: Path) -> None:
    with pytest.raises(MessageError, match="put a read before"):
        said(folder, "order@1", b"{}")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ordr@1", 'did you mean "order@1"'),
        ("order", "NAME@VERSION"),
        ("../order@1", "NAME@VERSION"),
        ("zebra@9", "there are line@1"),
    ],
)
def test_a_contract_that_is_not_there_is_an_error_with_a_hint(folder: Path, name: str, words: str) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        Contracts(folder).get(name)
    assert caught.value.problems[0].code == "E232"


@pytest.mark.parametrize(
    "schema",
    [
        '{"type": "strin"}',
        "{not json",
        '{"$ref": "http://127.0.0.1:9/x.json"}',
        '{"$ref": "../secret.json"}',
        '{"$ref": "gone@1.json"}',
    ],
)
def test_a_schema_that_is_no_good_or_looks_outside_is_refused(folder: Path, schema: str) -> None:
    (folder.parent / "secret.json").write_text("{}")
    (folder / "bad@1.json").write_text(schema)
    with pytest.raises(OptionError) as caught:
        Contracts(folder).get("bad@1")
    assert caught.value.problems[0].code == "E233"


def test_a_schema_is_found_by_the_id_it_gives_itself(folder: Path) -> None:
    (folder / "a@1.json").write_text('{"$id": "https://example.org/a", "properties": {"x": {"$ref": "b"}}}')
    (folder / "b@1.json").write_text('{"$id": "https://example.org/b", "type": "string"}')
    assert list(said(folder, "a@1", {"x": 1})) == ["body.x"]


def test_the_hash_covers_what_a_contract_refers_to(folder: Path) -> None:
    before = Contracts(folder).get("order@1").hash
    (folder / "line@1.json").write_text(json.dumps({**LINE, "title": "a line"}))
    assert Contracts(folder).get("order@1").hash != before
    before = Contracts(folder).get("xorder@1").hash
    (folder / "types@1.xsd").write_text(TYPES.replace('"3"', '"4"'))
    assert Contracts(folder).get("xorder@1").hash != before


def test_an_xsd_finds_everything_with_paths_and_lines(folder: Path) -> None:
    xml = (
        b'<Order n="x">\n<Id>abcdef</Id>\n<Iban>DE9999</Iban><Line><Qty>1</Qty></Line><Line><Qty>x</Qty></Line></Order>'
    )
    contract = Contracts(folder).get("xorder@1")
    findings = {p.place: p for p in contract.check(message(xml))}
    assert set(findings) == {"body.Order", "body.Order.Id", "body.Order.Iban", "body.Order.Line[1].Qty"} or set(
        findings
    ) == {'body.Order["@n"]', "body.Order.Id", "body.Order.Iban", "body.Order.Line[1].Qty"}
    assert findings["body.Order.Id"].line == 2
    assert "DE9999" not in str(findings["body.Order.Iban"])
    assert contract.check(message(b"<Order><Id>a</Id><Line><Qty>1</Qty></Line></Order>")) == []


def test_an_xsd_sees_the_original_bytes_of_an_unchanged_tree_and_the_written_ones_of_a_changed_one(
    folder: Path,
) -> None:
    good = b"<Order><Id>a</Id><Line><Qty>1</Qty></Line></Order>"
    codec = SimpleNamespace(encode=lambda tree, memory: good.replace(b"<Id>a", b"<Id>" + tree.encode()))
    assert said(folder, "xorder@1", "a", raw=good, format="xml", codec=codec) == {}
    assert list(said(folder, "xorder@1", "abcd", raw=good, format="xml", codec=codec, changed=True)) == [
        "body.Order.Id"
    ]


def test_an_xsd_on_another_format_says_what_to_write(folder: Path) -> None:
    with pytest.raises(MessageError, match="read as json"):
        said(folder, "xorder@1", {}, format="json")


@pytest.mark.parametrize("xml", [b"<Order>", b'<!DOCTYPE o [<!ENTITY a "b">]><Order>&a;</Order>', b""])
def test_what_is_not_xml_or_brings_a_doctype_is_refused(folder: Path, xml: bytes) -> None:
    with pytest.raises(DecodeError):
        said(folder, "xorder@1", xml)


@pytest.mark.parametrize("place", ["http://127.0.0.1:9/x.xsd", "../types@1.xsd", "/etc/passwd", "gone@1.xsd"])
def test_an_xsd_that_looks_outside_is_refused(folder: Path, place: str) -> None:
    (folder.parent / "types@1.xsd").write_text(TYPES)
    (folder / "bad@1.xsd").write_text(XSD.replace("types@1.xsd", place))
    with pytest.raises(OptionError, match=r"not in contracts/") as caught:
        Contracts(folder).get("bad@1")
    assert caught.value.problems[0].code == "E233"


def test_a_schema_that_a_message_names_is_never_opened(folder: Path) -> None:
    (folder / "any@1.xsd").write_text(
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="Order"><xs:complexType><xs:sequence>'
        '<xs:any processContents="lax"/></xs:sequence></xs:complexType></xs:element></xs:schema>'
    )
    evil = folder.parent / "evil.xsd"
    evil.write_text(
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="X" type="xs:int"/></xs:schema>'
    )
    xsi = "http://www.w3.org/2001/XMLSchema-instance"
    xml = f'<Order xmlns:xsi="{xsi}" xsi:noNamespaceSchemaLocation="{evil}"><X>text</X></Order>'
    assert said(folder, "any@1", xml.encode()) == {}


def test_field_paths_are_written_as_an_expression_writes_them() -> None:
    assert field_path(["Order", "@id"]) == 'body.Order["@id"]'
    assert field_path(["lines", 0, "Ship-To"]) == 'body.lines[0]["Ship-To"]'
    assert field_path([]) == "body"


@pytest.mark.corpus
def test_the_verdicts_of_the_json_schema_suite_are_equal(corpora: Path, tmp_path: Path) -> None:
    cases = [
        json.loads(line) for line in (corpora / "manifest.jsonl").read_text().splitlines() if "jsonschema-" in line
    ]
    suites: dict[str, Any] = {}
    wrong, unreachable = [], []
    for case in cases:
        file = case["files"][0]
        suite = suites.setdefault(file, json.loads((corpora / file).read_text(), parse_float=Decimal))
        group, number = (int(part) for part in case["id"].rpartition("#")[2].split("."))
        key = f"{file}#{group}"
        if key not in suites:
            path = tmp_path / f"case{len(suites)}@1.json"
            path.write_text(json.dumps(suite[group]["schema"], default=float))
            try:
                suites[key] = Contracts(tmp_path).get(path.stem)
            except OptionError as error:
                suites[key] = error
            path.unlink()
        contract = suites[key]
        if isinstance(contract, OptionError):
            unreachable.append((case["id"], str(contract)))
            continue
        problems = contract.check(message(suite[group]["tests"][number]["data"]), "/format/" in file)
        if ("invalid" if problems else "valid") != case["expect"]:
            wrong.append(case["id"])
    assert wrong == []
    elsewhere = [name for name, why in unreachable if "localhost:1234" in why and "not in contracts/" in why]
    assert len(elsewhere) == len(unreachable)  # their schemas lie on a server that is not part of the corpora
    assert len(elsewhere) < 0.03 * len(cases)
