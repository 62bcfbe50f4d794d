"""Other people's files through the codecs: the verdicts of their makers, and values that come through unchanged."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from codecs_of_tests import csv_codec, json_codec, xml_codec
from lxml import etree

from esb import DecodeError, EncodeError

pytestmark = pytest.mark.corpus

CORPORA = Path(os.environ.get("ESB_CORPORA", Path(__file__).resolve().parents[3] / "shared" / "corpora"))
NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
COLON_NAMES = "o-p05pass1"
"""Well-formed by XML 1.0 alone, but its prefixes are declared nowhere: refused by XML with namespaces, and by us."""


DUPLICATES = ("duplicated_key", "duplicated_key_and_value")


def cases(corpus: str) -> list[dict[str, Any]]:
    lines = (CORPORA / "manifest.jsonl").read_text().splitlines()
    return [case for case in map(json.loads, lines) if case["corpus"] == corpus]


def body(case: dict[str, Any], index: int = 0) -> bytes:
    return (CORPORA / case["files"][index]).read_bytes()


def verdict(codec: Any, data: bytes) -> str:
    """`accept`, or the error's code. Anything but a DecodeError is a crash."""
    try:
        codec.decode(data)
    except DecodeError as error:
        assert str(error)
        assert error.place
        return error.code
    return "accept"


def wrong(corpus: str, codec: Any) -> Iterator[str]:
    """The cases whose verdict is another than their maker's, or not twice the same."""
    for case in cases(corpus):
        data = body(case)
        said = verdict(codec, data)
        if said != verdict(codec, data):
            yield f"{case['id']}: two verdicts"
        expect = case["expect"]
        if (expect.startswith("accept") and said != "accept") or (expect.startswith("reject") and said == "accept"):
            yield f"{case['id']}: {said} instead of {expect}"


def test_every_y_of_jsontestsuite_is_accepted_and_every_n_refused() -> None:
    assert list(wrong("json-testsuite", json_codec(duplicates="last"))) == []


def test_of_jsontestsuite_only_duplicate_keys_are_refused_beyond_its_verdicts() -> None:
    said = list(wrong("json-testsuite", json_codec()))
    assert said == [f"y_object_{name}.json: M211 instead of accept" for name in DUPLICATES]


def test_what_jsontestsuite_accepts_is_the_same_tree_after_writing() -> None:
    codec = json_codec()
    for case in cases("json-testsuite"):
        if verdict(codec, body(case)) == "accept":
            tree = codec.decode(body(case)).tree
            assert codec.decode(codec.encode(tree)).tree == tree, case["id"]


def test_well_formed_xml_is_accepted_and_other_xml_refused() -> None:
    assert list(wrong("xmlconf-nodtd", xml_codec())) == [f"{COLON_NAMES}: M210 instead of accept"]


def test_every_document_with_a_doctype_is_refused() -> None:
    codec = xml_codec()
    said = {case["id"]: verdict(codec, body(case)) for case in cases("xmlconf-dtd")}
    assert [id for id, code in said.items() if code == "accept"] == []
    well_formed = [code for id, code in said.items() if id.startswith(("valid-", "invalid-"))]
    assert set(well_formed) <= {"M216", "M213"}


def test_xml_attacks_are_refused_at_once() -> None:
    started = time.perf_counter()
    assert list(wrong("xml-attack", xml_codec())) == []
    assert time.perf_counter() - started < 1


def test_streaming_gives_the_same_verdicts_on_xml() -> None:
    codec = xml_codec()
    differing = []
    for corpus in ("xmlconf-nodtd", "xmlconf-dtd", "xml-attack"):
        for case in cases(corpus):
            data = body(case)
            whole = verdict(codec, data)
            root = next(iter(codec.decode(data).tree)) if whole == "accept" else "doc"
            try:
                list(codec.parts([data[at : at + 50] for at in range(0, len(data), 50)], f"{root}.nothing"))
                streamed = "accept"
            except DecodeError as error:
                streamed = error.code
            if (streamed == "accept") != (whole == "accept"):
                differing.append((case["id"], whole, streamed))
    assert differing == []


def test_rows_equal_the_json_twin_of_csv_spectrum() -> None:
    for case in cases("csv-spectrum"):
        if not case["expect"].startswith("exclude"):
            twin = json.loads(body(case, 1))
            assert csv_codec().decode(body(case)).tree == {"rows": twin}, case["id"]


def test_wild_csv_is_read_or_refused_with_its_line_and_never_shifted() -> None:
    for case in cases("csv-wild"):
        codec = csv_codec()
        try:
            rows = codec.decode(body(case)).tree["rows"]
        except DecodeError as error:
            assert error.line is not None, case["id"]
            assert error.code in ("M210", "M211", "M213", "M217", "M218"), case["id"]
            continue
        assert len({tuple(row) for row in rows}) <= 1
        if rows:
            assert codec.decode(codec.encode({"rows": rows})).tree == {"rows": rows}


def test_naughty_strings_come_through_unchanged_or_are_refused() -> None:
    strings: list[str] = json.loads((CORPORA / "blns/blns.json").read_text())
    assert len(strings) == len(cases("blns"))
    codecs = {"json": json_codec(), "xml": xml_codec(), "csv": csv_codec()}
    refused = set()
    for text in strings:
        for name, codec in codecs.items():
            tree = {"rows": [{"a": text, "b": ""}]} if name == "csv" else {"doc": {"@a": text, "b": text}}
            try:
                written = codec.encode(tree)
            except EncodeError as error:
                assert error.code == "M225"
                refused.add((name, text))
                continue
            assert codec.decode(written).tree == tree, text
    assert refused == {("xml", text) for text in strings if NO_XML.search(text)}


def canonical(document: bytes) -> bytes:
    """C14N 2.0, which (unlike 1.0) has a form for relative namespace names, too."""
    return etree.canonicalize(document.decode("utf-8-sig"), with_comments=True).encode()


@pytest.mark.parametrize("corpus", ["ubl", "iso20022", "camt"])
def test_business_documents_are_canonically_equal_after_passing_through(corpus: str) -> None:
    for case in cases(corpus):
        data = body(case)
        codec = xml_codec()
        decoded = codec.decode(data)
        assert canonical(codec.encode(decoded.tree, decoded.memory)) == canonical(data), case["id"]


@pytest.mark.parametrize("corpus", ["ubl", "iso20022", "camt"])
def test_business_documents_keep_every_value_when_written_anew(corpus: str) -> None:
    for case in cases(corpus):
        codec = xml_codec()
        tree = codec.decode(body(case)).tree
        assert codec.decode(codec.encode(tree)).tree == tree, case["id"]


@pytest.mark.parametrize("corpus", ["ubl", "iso20022", "camt"])
def test_business_documents_cross_into_json_and_back(corpus: str) -> None:
    for case in cases(corpus):
        xml, over = xml_codec(), json_codec()
        decoded = xml.decode(body(case))
        crossed = over.decode(over.encode(decoded.tree)).tree
        assert crossed == decoded.tree, case["id"]
        assert canonical(xml.encode(crossed, decoded.memory)) == canonical(body(case)), case["id"]


@pytest.mark.parametrize("corpus", ["ubl", "iso20022", "camt"])
def test_business_documents_in_jsonml_lose_nothing_but_what_the_step_allows(corpus: str) -> None:
    for case in cases(corpus):
        codec = xml_codec(mode="jsonml", lossy=["comments", "pi"])
        decoded = codec.decode(body(case))
        changed = json.loads(json.dumps(decoded.tree))
        changed[1]["added"] = "1"
        try:
            written = etree.fromstring(codec.encode(changed, decoded.memory))
        except EncodeError as error:
            assert "namespaces" in str(error), case["id"]
            continue
        assert written.attrib.pop("added") == "1"
        lean = etree.fromstring(body(case), etree.XMLParser(remove_comments=True, remove_pis=True))
        assert canonical(etree.tostring(written)) == canonical(etree.tostring(lean)), case["id"]


def test_amounts_of_camt_equal_the_json_twin() -> None:
    compared = 0
    for case in cases("camt"):
        told = [entry["getAmount"] for entry in json.loads(body(case, 1))["getEntries"]]
        entries = entries_of(xml_codec(arrays=ENTRIES).decode(body(case)).tree["Document"])
        assert [minor_units(entry) for entry in entries] == [int(amount["getAmount"]) for amount in told], case["id"]
        assert [entry["Amt"]["@Ccy"] for entry in entries] == [item["getCurrency"]["getCode"] for item in told]
        compared += len(entries)
    assert compared >= 12


ROOTS = ("BkToCstmrStmt", "BkToCstmrAcctRpt", "BkToCstmrDbtCdtNtfctn")


ENTRIES = [f"Document.{root}.{name}.Ntry" for root in ROOTS for name in ("Stmt", "Rpt", "Ntfctn")]


def entries_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The twin's maker numbers the entries of each record anew and keeps the last of each number."""
    numbered = {}
    for record in records(document):
        numbered.update(enumerate(record.get("Ntry", [])))
    return list(numbered.values())


def records(document: dict[str, Any]) -> list[dict[str, Any]]:
    message = next(document[root] for root in ROOTS if root in document)
    found = next(message[name] for name in ("Stmt", "Rpt", "Ntfctn") if name in message)
    return found if isinstance(found, list) else [found]


def minor_units(entry: dict[str, Any]) -> int:
    """By exact arithmetic on the written digits, as the twin's maker counted."""
    amount = Decimal(entry["Amt"]["#text"])
    places = 0 if entry["Amt"]["@Ccy"] == "JPY" else 2
    sign = -1 if entry["CdtDbtInd"] == "DBIT" else 1
    assert re.fullmatch(r"[0-9.]+", entry["Amt"]["#text"])
    return sign * int(amount.scaleb(places))
