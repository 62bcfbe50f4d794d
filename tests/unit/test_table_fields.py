"""Fields that expressions ask for, held against contracts and maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from table_of_tests import BEGIN, registry, written

from esb.table.load import check
from esb.table.shapes import Shape, shape_of

ORDER = {
    "type": "object",
    "required": ["id", "lines"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string"},
        "customer": {"$ref": "#/$defs/party"},
        "total": {"type": "number"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
    },
    "$defs": {
        "party": {"type": "object", "properties": {"name": {}, "vat": {}}},
        "line": {"additionalProperties": False, "required": ["sku"], "properties": {"sku": {}, "qty": {}}},
    },
}
XSD = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:o="urn:o" targetNamespace="urn:o">
  <xs:element name="Order" type="o:OrderType"/>
  <xs:complexType name="OrderType">
    <xs:sequence>
      <xs:element name="Customer" type="xs:string"/>
      <xs:element name="Note" type="xs:string" minOccurs="0"/>
      <xs:element name="Line" maxOccurs="unbounded">
        <xs:complexType>
          <xs:complexContent><xs:extension base="o:Base"><xs:sequence><xs:element name="Qty"/></xs:sequence>
          </xs:extension></xs:complexContent>
        </xs:complexType>
      </xs:element>
      <xs:element name="Price"><xs:complexType><xs:simpleContent><xs:extension base="xs:decimal">
        <xs:attribute name="currency" use="required"/></xs:extension></xs:simpleContent></xs:complexType></xs:element>
      <xs:choice><xs:element name="Mail"/><xs:element name="Phone"/></xs:choice>
    </xs:sequence>
    <xs:attribute name="id" use="required"/>
  </xs:complexType>
  <xs:complexType name="Base"><xs:sequence><xs:element name="Sku"/></xs:sequence></xs:complexType>
</xs:schema>"""


def told(folder: Path, do: str, rest: str, *, contract: Any = ORDER, more: str = "") -> list[str]:
    """What is told of a route whose steps stand in line 9 and whose rest begins in line 10."""
    (folder / "contracts").mkdir(exist_ok=True)
    (folder / "contracts" / "order@1.json").write_bytes(msgspec.json.encode(contract))
    (folder / "contracts" / "xml@1.xsd").write_text(XSD)
    text = f'{BEGIN}[route.a]\nfrom = {{ http = "POST /a" }}\ndo = [{do}]\n{rest}\n{more}'
    return [
        f"{problem.line}:{problem.column} {problem.code} {problem.message}; {problem.hint}"
        for problem in check(written(folder, text), registry())
    ]


JSON = '{ read = "json" }, { check = "order@1" }'
XML = '{ read = "xml" }, { check = "xml@1" }'


def when(expression: str) -> str:
    return f'cases = [{{ when = \'{expression}\', to = "erp" }}, {{ otherwise = true, to = "erp" }}]'


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("body.idd == \"x\"", '10:25 E216 route "a": contract order@1 has no field "idd" here; did you mean "id"?'),
        ("body.lines.all(l, l.skuu == \"x\")", '10:40 E216 route "a": contract order@1 has no field "skuu" here; did you mean "sku"?'),
        ("body.lines[0].price > 1", '10:34 E216 route "a": contract order@1 has no field "price" here; it has qty, sku'),
        ("body.customer.nam == \"x\"", '10:34 W306 route "a": contract order@1 does not name a field "nam" here; did you mean "name"?'),
        ("has(body.totl)", '10:29 E216 route "a": contract order@1 has no field "totl" here; did you mean "total"?'),
        ("body.total != 5", '10:25 W305 route "a": body.total may be missing by contract order@1: then this is not true; '),
    ],
)  # fmt: skip
def test_a_field_that_the_contract_does_not_know_is_told_at_its_name(
    tmp_path: Path, expression: str, expected: str
) -> None:
    (line,) = told(tmp_path, JSON, when(expression))
    assert line.startswith(expected)


@pytest.mark.parametrize(
    "expression",
    [
        'body.id == "x" && body.lines.exists(l, l.sku == "y" && l.qty > 1)',
        'body.customer.street == "x"',
        'has(body.total) && has(body.other)',
        'body.?total.orValue(1) != 5',
        'body.id != "x"',
        'body[header.x] == 1',
        'size(body) > 1 && header.x != "1"',
    ],
)  # fmt: skip
def test_what_the_contract_knows_or_leaves_open_is_right(tmp_path: Path, expression: str) -> None:
    assert told(tmp_path, JSON, when(expression)) == []


def test_a_noted_or_conditional_check_promises_nothing(tmp_path: Path) -> None:
    for step in ('{ check = "order@1", bad = "note" }', '{ check = "order@1", if = \'header.x == "1"\' }'):
        assert told(tmp_path, f'{{ read = "json" }}, {step}', when('body.idd == "x"')) == []


def test_an_open_contract_and_one_that_is_no_schema_say_nothing(tmp_path: Path) -> None:
    contract = {"properties": {"id": {}}, "patternProperties": {"^x": {}}}
    assert told(tmp_path, JSON, when('body.total == "x"'), contract=contract) == []
    assert told(tmp_path, JSON, when('body.total == "x"'), contract=True) == []


def test_what_set_adds_is_known_and_a_split_leads_to_its_part(tmp_path: Path) -> None:
    steps = JSON + ', { set = { "body.extra" = \'1\' } }, { write = "json" }'
    assert told(tmp_path, steps, when('body.extra == 1 && body.id == ""')) == []
    parts = JSON + ', { split = "body.lines" }'
    assert told(tmp_path, parts, when('body.sku == ""')) == []
    assert [line[:10] for line in told(tmp_path, parts, when('body.id == ""'))] == ["10:25 E216"]


def test_templates_steps_and_maps_are_held_against_the_contract_too(tmp_path: Path) -> None:
    steps = JSON + ', { keep = \'body.idd != ""\', reason = "x" }, { map = "out" }, { write = "json" }'
    more = "[map.out]\nx = 'body.cust.name'\n"
    found = told(tmp_path, steps, 'to = "erp"\nonce = "{body.idd}-{body.totl}"', more=more)
    assert [line.split(" route")[0] for line in found] == [
        "9:64 E216", "11:15 E216", "11:26 E216", "13:11 E216"
    ]  # fmt: skip


def test_after_a_map_its_fields_are_those_of_the_map(tmp_path: Path) -> None:
    more = "[map.out]\nid = 'body.id'\nsum.net = '1'\nlines = { each = 'body.lines', map = \"line\" }\nnote = 'optional(body.n)'\n"
    more += "[map.line]\nsku = 'item.sku'\n"
    steps = '{ read = "json" }, { map = "out" }, { write = "json" }'
    right = "body.id == 1 && body.sum.net == 1 && body.lines[0].sku == 2 && body.note == 3"
    assert told(tmp_path, steps, when(right), more=more) == []
    for wrong, at in (("body.customer", 25), ("body.sum.gross", 29), ("body.lines[0].qty", 34)):
        (line,) = told(tmp_path, steps, when(f"{wrong} == 1"), more=more)
        assert line.startswith(f'10:{at} E216 route "a": map out has no field ')
    (line,) = told(tmp_path, steps, when("body.note != 1"), more=more)
    assert "W305" in line


def test_an_xml_schema_knows_elements_attributes_and_inherited_ones(tmp_path: Path) -> None:
    right = 'body.Order["@id"] == "" && body.Order.Line.all(l, l.Sku == "" && l.Qty == "") && body.Order.Price["#text"] == ""'
    assert told(tmp_path, XML, when(right)) == []
    (line,) = told(tmp_path, XML, when('body.Order.Custmer == ""'))
    assert line.startswith('10:31 E216 route "a": contract xml@1 has no field "Custmer" here; did you mean "Customer"?')
    (line,) = told(tmp_path, XML, when('body.Order.Note != ""'))
    assert "W305" in line
    (line,) = told(tmp_path, XML, when('body.Order.Mail != ""'))
    assert "W305" in line


def test_an_xml_schema_before_the_read_counts_after_it_and_prefixes_change_the_names(tmp_path: Path) -> None:
    assert len(told(tmp_path, '{ check = "xml@1" }, { read = "xml" }', when('body.Ordr == ""'))) == 1
    assert told(tmp_path, '{ check = "xml@1" }, { read = "xml", prefixes = true }', when('body["o:Order"] == ""')) == []


def test_a_schema_that_is_not_wholly_understood_is_open(tmp_path: Path) -> None:
    def root(text: str) -> Shape:
        (tmp_path / "x@1.xsd").write_text(f'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">{text}</xs:schema>')
        shape = shape_of(tmp_path, "x@1")
        assert shape is not None
        return shape

    element = '<xs:element name="a"><xs:complexType><xs:sequence>{}</xs:sequence></xs:complexType></xs:element>'
    assert root(element.format('<xs:element name="b"/>')).fields["a"].closed
    assert not root(element.format("<xs:any/>")).fields["a"].closed
    assert not root('<xs:include schemaLocation="other.xsd"/>' + element.format("")).closed
    tree = '<xs:element name="n" type="T"/><xs:complexType name="T"><xs:sequence><xs:element name="n" type="T"/></xs:sequence></xs:complexType>'
    assert not root(tree).fields["n"].fields["n"].known


def test_choices_and_references_of_a_json_schema(tmp_path: Path) -> None:
    def shape(schema: Any) -> Shape:
        (tmp_path / "x@1.json").write_bytes(msgspec.json.encode(schema))
        found = shape_of(tmp_path, "x@1")
        assert found is not None
        return found

    one = {"properties": {"a": {}}, "required": ["a"], "additionalProperties": False}
    two = {"properties": {"a": {}, "b": {}}, "required": ["a", "b"], "additionalProperties": False}
    either = shape({"oneOf": [one, two]})
    assert (set(either.fields), either.required) == ({"a", "b"}, {"a"})
    assert set(shape({"allOf": [one, two]}).fields) == {"a", "b"}
    assert not shape({"oneOf": [one, True]}).known
    assert not shape({"properties": {"n": {"$ref": "#"}}}).fields["n"].fields["n"].known
    assert not shape({"$ref": "elsewhere.json"}).known
    assert shape_of(tmp_path, "missing@1") is None
    (tmp_path / "bad@1.json").write_text("{")
    assert shape_of(tmp_path, "bad@1") is None
