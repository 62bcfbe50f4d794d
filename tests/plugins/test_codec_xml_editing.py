"""A changed tree goes back into the document it came from; what would be lost is refused until the step allows it."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import pytest
from codecs_of_tests import xml_codec
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from xml_trees import contents, documents

from esb import EncodeError

ORDER = b"""<?xml version='1.0' encoding='ISO-8859-1' standalone='yes'?>
<!-- from the shop -->
<o:Order xmlns:o="urn:x:order" xmlns:x="urn:x:extra" id="4711" x:kind='a'>
  <o:Customer>
    <o:Name>M\xfcller<!-- checked --></o:Name>
  </o:Customer>
  <o:Lines>
    <o:Line nr="1"><o:Sku><![CDATA[A<1]]></o:Sku></o:Line>
    <!-- the second -->
    <o:Line nr="2"><x:Sku>B</x:Sku></o:Line>
    <?print two?>
    <o:Line nr="3"><o:Sku>C</o:Sku></o:Line>
  </o:Lines>
  <o:Total>10.50</o:Total>
</o:Order>
<!-- the end -->
"""


def edited(change: Any, body: bytes = ORDER, **options: Any) -> str:
    """The document after a change of its tree."""
    codec = xml_codec({"x": "urn:x:extra", "n": "urn:new"}, **options)
    decoded = codec.decode(body)
    tree = copy.deepcopy(decoded.tree)
    change(tree)
    return codec.encode(tree, decoded.memory).decode(codec._options.encoding or "latin-1")


def order(change: Any) -> Any:
    """A change of what is in the order."""
    return lambda tree: change(tree["Order"])


def expect(*changes: tuple[str, str]) -> str:
    text = ORDER.decode("latin-1").replace(
        "<?xml version='1.0' encoding='ISO-8859-1' standalone='yes'?>",
        """<?xml version="1.0" encoding="ISO-8859-1" standalone='yes'?>""",
    )
    text = text.replace("x:kind='a'", 'x:kind="a"')
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize(
    ("change", "changes"),
    [
        (lambda o: o.update(Total=Decimal("11.00")), [("10.50", "11.00")]),
        (lambda o: o.update({"@id": 4712}), [("4711", "4712")]),
        (lambda o: o.update({"@kind": "b"}), [('kind="a"', 'kind="b"')]),
        (lambda o: o.pop("@kind"), [(' x:kind="a"', "")]),
        (lambda o: o.update({"@new": "<"}), [(' x:kind="a"', ' x:kind="a" new="&lt;"')]),
        (lambda o: o.update({"@x:new": "1"}), [(' x:kind="a"', ' x:kind="a" x:new="1"')]),
        (lambda o: o["Customer"].update(Name="Meier"), [("M\xfcller", "Meier")]),
        (lambda o: o["Customer"].update(Phone="1"),
         [("--></o:Name>\n", "--></o:Name>\n    <o:Phone>1</o:Phone>\n")]),
        (lambda o: o["Customer"].update({"x:Phone": "1"}),
         [("--></o:Name>\n", "--></o:Name>\n    <x:Phone>1</x:Phone>\n")]),
        (lambda o: o["Customer"].update({"n:Phone": "1"}),
         [("--></o:Name>\n", '--></o:Name>\n    <n:Phone xmlns:n="urn:new">1</n:Phone>\n')]),
        (lambda o: o.pop("Total"), [("  <o:Total>10.50</o:Total>\n", "")]),
        (lambda o: o["Lines"]["Line"][1].update(Sku="Z"), [(">B<", ">Z<")]),
        (lambda o: o["Lines"]["Line"].pop(1), [('<o:Line nr="2"><x:Sku>B</x:Sku></o:Line>\n    ', "")]),
        (lambda o: o["Lines"]["Line"].pop(2), [('\n    <o:Line nr="3"><o:Sku>C</o:Sku></o:Line>', "")]),
        (lambda o: o["Lines"]["Line"].append({"@nr": "4", "Sku": "D&"}),
         [("C</o:Sku></o:Line>\n", 'C</o:Sku></o:Line>\n    <o:Line nr="4"><o:Sku>D&amp;</o:Sku></o:Line>\n')]),
        (lambda o: o.update(Total={"@cur": "EUR", "#text": "1"}),
         [("<o:Total>10.50", '<o:Total cur="EUR">1')]),
        (lambda o: o["Customer"].pop("Name"),
         [("<o:Customer>\n    <o:Name>M\xfcller<!-- checked --></o:Name>\n  </o:Customer>", "<o:Customer/>")]),
        (lambda o: o.update(Customer=""),
         [("<o:Customer>\n    <o:Name>M\xfcller<!-- checked --></o:Name>\n  </o:Customer>", "<o:Customer/>")]),
        (lambda o: o.update(Note=[{"a": "1"}, ""]),
         [("</o:Total>\n", "</o:Total>\n  <o:Note><o:a>1</o:a></o:Note>\n  <o:Note/>\n")]),
    ],
)  # fmt: skip
def test_only_what_changed_is_another(change: Any, changes: list[tuple[str, str]]) -> None:
    assert edited(order(change)) == expect(*changes)


def test_an_untouched_tree_is_its_original_bytes() -> None:
    assert edited(lambda tree: None) == ORDER.decode("latin-1")
    assert edited(lambda tree: None, encoding="latin-1") == ORDER.decode("latin-1")
    assert edited(lambda tree: None, declaration=True) == expect()


def test_a_character_that_the_encoding_lacks_becomes_a_reference() -> None:
    assert edited(order(lambda o: o.update(Total="\u20ac"))) == expect(("10.50", "&#8364;"))


def test_the_form_of_the_output_follows_the_step() -> None:
    text = edited(order(lambda o: o.update(Total="1")), encoding="latin-1", declaration=False, indent=1)
    assert text.startswith("<!-- from the shop -->\n<o:Order ")
    assert '\n <o:Lines>\n  <o:Line nr="1">' in text
    assert "<!-- the second -->" in text


def test_another_write_step_edits_the_document_as_it_was_read() -> None:
    read = xml_codec(arrays=["Order.Lines.Line"], types={"Order.Total": "decimal"})
    decoded = read.decode(ORDER)
    tree = copy.deepcopy(decoded.tree)
    tree["Order"]["Total"] += 1
    written = xml_codec().encode(tree, decoded.memory).decode("latin-1")
    assert written == expect(("10.50", "11.50"))


def test_null_in_an_old_document_takes_the_form_of_the_step() -> None:
    def change(o: dict[str, Any]) -> None:
        o["Total"] = None
        o["Customer"]["Name"] = None

    with pytest.raises(EncodeError, match="nulls") as caught:
        edited(order(change))
    assert (caught.value.code, caught.value.place) == ("M294", "body.Order.Customer.Name")
    text = edited(order(change), nulls="nil")
    nil = '<o:Total xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:nil="true"/>'
    assert nil in text
    assert "<!-- the second -->" in text
    assert "<o:Total/>" in edited(order(change), nulls="empty")


@pytest.mark.parametrize(
    ("body", "change", "lost"),
    [
        (b"<a><!-- x --><b>1</b></a>", lambda t: t.update(c=t.pop("a")), ["comments"]),
        (b"<a><?x y?><b>1</b></a>", lambda t: t.update(c=t.pop("a")), ["pi"]),
        (b"<!-- x --><a><b>1</b></a>", lambda t: t.update(c=t.pop("a")), ["comments"]),
        (b"<a><b>1</b><c/><b>2</b></a>", lambda t: t.update(c=t.pop("a")), ["order"]),
        (b"<a>x <b>1</b> y</a>", lambda t: t["a"].update({"#text": "z"}), ["mixed"]),
        (b"<a>x <b>1</b> y</a>", lambda t: t.update(a="z"), ["mixed"]),
        (b"<a>x <b>1</b> y</a>", lambda t: t["a"].update(c="1"), ["mixed"]),
        (b'<a><c xmlns="u1"><d/></c><e><c xmlns="u1"/></e></a>', lambda t: t.update(c=t.pop("a")), []),
        (b'<a><c><d xmlns="u1"/></c><c><d xmlns="u2"/></c></a>', lambda t: t.update(c=t.pop("a")), ["namespaces"]),
    ],
)
def test_what_would_be_lost_is_refused_until_the_step_allows_it(body: bytes, change: Any, lost: list[str]) -> None:
    if lost:
        with pytest.raises(EncodeError) as caught:
            edited(change, body)
        assert caught.value.code == "M222"
        assert all(f'"{loss}"' in str(caught.value) for loss in lost)
    codec = xml_codec(lossy=lost)
    decoded = codec.decode(body)
    tree = copy.deepcopy(decoded.tree)
    change(tree)
    assert codec.decode(codec.encode(tree, decoded.memory)).tree == tree


def test_a_document_written_as_a_whole_keeps_the_namespaces_it_had() -> None:
    body = b'<o:a xmlns:o="u1" xmlns="u2" o:i="1"><b xmlns:p="u3" p:j="2"><p:c/></b><d xmlns=""/></o:a>'
    codec = xml_codec({"n": "u4"}, root="w", declaration=False)
    decoded = codec.decode(body)
    tree = {"a": {**decoded.tree["a"], "new": {"n:x": "1", "y": "2"}}}
    written = xml_codec({"n": "u4"}, declaration=False, mode="tree").encode(tree, decoded.memory)
    assert written == (
        b'<o:a xmlns:o="u1" xmlns="u2" o:i="1"><b xmlns:p="u3" p:j="2"><p:c/></b><d xmlns=""/>'
        b'<o:new><n:x xmlns:n="u4">1</n:x><o:y>2</o:y></o:new></o:a>'
    )
    whole = etree.fromstring(codec.encode(decoded.tree, decoded.memory))
    assert whole.tag == "w"
    names = [element.tag for element in whole.iter()]
    assert names == ["w", "a", "b", "c", "d"]


def test_a_changed_part_keeps_its_name_and_namespaces() -> None:
    codec = xml_codec(declaration=False)
    first, _, _ = codec.parts([ORDER], "Order.Lines.Line")
    decoded = codec.decode_part(first.raw)
    assert decoded.tree == {"@nr": "1", "Sku": "A<1"}
    written = codec.encode({"@nr": "1", "Sku": "A", "Qty": 2}, decoded.memory)
    root = etree.fromstring(written)
    assert [element.tag for element in root.iter()] == [f"{{urn:x:order}}{name}" for name in ("Line", "Sku", "Qty")]
    assert codec.decode_part(written).tree == {"@nr": "1", "Sku": "A", "Qty": "2"}


def test_jsonml_of_an_untouched_document_is_that_document() -> None:
    body = b'<!-- x --><o:a xmlns:o="u1" xmlns="u2">t<b o:c="1"/>u<?y z?></o:a>'
    codec = xml_codec(mode="jsonml", declaration=False)
    decoded = codec.decode(body)
    assert xml_codec(mode="jsonml").encode(copy.deepcopy(decoded.tree), decoded.memory) == body
    changed = [*decoded.tree, ["d", {}, "n"]]
    with pytest.raises(EncodeError, match=r'lossy = \["comments", "pi"\]'):
        codec.encode(changed, decoded.memory)
    lossy = xml_codec(mode="jsonml", lossy=["comments", "pi"], declaration=False)
    written = lossy.encode(changed, decoded.memory)
    assert written == b'<o:a xmlns="u2" xmlns:o="u1">t<b o:c="1"/>u<o:d>n</o:d></o:a>'


def commented(body: bytes, places: list[int]) -> bytes:
    """With comments between the tags."""
    pieces = body.split(b"><")
    for place in places:
        if len(pieces) > 1:
            at = place % (len(pieces) - 1)
            pieces[at] += b"><!-- c --"
    return b"><".join(pieces)


ALL = ["comments", "pi", "order", "mixed", "namespaces"]


@given(documents, contents, st.lists(st.integers(0, 20), max_size=3), st.sampled_from([0, 2]))
def test_whatever_changes_the_new_tree_is_what_the_new_document_says(
    tree: dict[str, Any], content: Any, places: list[int], indent: int
) -> None:
    codec = xml_codec(nulls="nil", lossy=ALL)
    body = commented(xml_codec(nulls="nil", indent=indent).encode(tree), places)
    decoded = codec.decode(body)
    assert decoded.tree == tree
    changed = {next(iter(tree)): content}
    assert codec.decode(codec.encode(changed, decoded.memory)).tree == changed


@st.composite
def changes(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """A tree, and the same one with a few places changed."""
    tree = draw(documents)
    new = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        holders = [(new, next(iter(new)))]
        for holder, key in holders:
            value = holder[key]
            if isinstance(value, dict):
                holders += [(value, name) for name in value if not name.startswith(("@", "#"))]
            elif isinstance(value, list):
                holders += [(value, index) for index in range(len(value))]
        holder, key = draw(st.sampled_from(holders))
        if not isinstance(holder[key], list):
            holder[key] = draw(contents)
        elif draw(st.booleans()):
            holder[key].insert(draw(st.integers(0, len(holder[key]))), draw(contents))
        elif len(holder[key]) > 2:
            holder[key].pop(draw(st.integers(0, len(holder[key]) - 1)))
    return tree, new


@given(changes(), st.lists(st.integers(0, 20), max_size=3))
def test_after_a_small_change_the_document_says_the_new_tree(
    change: tuple[dict[str, Any], dict[str, Any]], places: list[int]
) -> None:
    tree, new = change
    codec = xml_codec(nulls="nil", lossy=ALL)
    decoded = codec.decode(commented(codec.encode(tree), places))
    written = codec.encode(new, decoded.memory)
    assert codec.decode(written).tree == new
    assert codec.encode(codec.decode(written).tree, codec.decode(written).memory) == written
