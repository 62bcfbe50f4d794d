"""cel-spec's own cases, and what docs/expressions.md says of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cel_cases
import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "expressions.md"
BEGIN, END = "<!-- conformance: begin -->", "<!-- conformance: end -->"

EXACT = "whole numbers and doubles are compared exactly, not by rounding the whole number"
REASONS = {
    "unbound_is_runtime_error": "an unknown name is found when the table is checked, not when a message comes",
    "short_circuit_type": "a constant that is neither true nor false is found when the table is checked",
    "not_lt_dyn_int_big_lossy_double": EXACT,
    "not_gt_dyn_big_double_int": EXACT,
    "lte_dyn_big_double_int": EXACT,
    "gte_dyn_int_big_lossy_double": EXACT,
    "self_eval_container_lookup": "there are no containers: a name is a variable of the table",
    "map_null_entry_no_such_key": "a field of null counts as missing",
    "map support (all key types)": "a map's keys 1 and true are one key in Python",
    "nanos": "timestamps and durations are exact to the microsecond",
}
RESERVED = "an unknown name or function is found when the table is checked, not when a message comes"


def reason(name: str) -> str:
    """Why a case does not go as stated; "" when nobody has said."""
    return next((text for part, text in REASONS.items() if part in name), "")


def results(corpora: Path) -> tuple[Counter[str], dict[str, list[tuple[str, str]]], Counter[str], Counter[str]]:
    """Passed, failed (name, why), left out for protobuf, and suites not offered."""
    passed: Counter[str] = Counter()
    failed: dict[str, list[tuple[str, str]]] = {}
    left_out: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for case in cel_cases.load(corpora):
        suite = case["suite"]
        if not cel_cases.offered(case):
            others[suite] += 1
            continue
        try:
            said = cel_cases.run(case)
        except cel_cases.NeedsProtobuf:
            left_out[suite] += 1
            continue
        if said:
            failed.setdefault(suite, []).append((case["name"], said))
        else:
            passed[suite] += 1
    return passed, failed, left_out, others


def section(corpora: Path) -> str:
    """The generated part of the page."""
    passed, failed, left_out, others = results(corpora)
    lines = ["| suite | passed | of | left out (protobuf) |", "| --- | --- | --- | --- |"]
    for suite in cel_cases.OFFERED:
        count = passed[suite] + len(failed.get(suite, ()))
        lines.append(f"| {suite} | {passed[suite]} | {count} | {left_out[suite]} |")
    whole = sum(passed.values()) + sum(len(items) for items in failed.values())
    lines += [
        f"| all | {sum(passed.values())} | {whole} | {sum(left_out.values())} |",
        "",
        "Not as stated, and why:",
        "",
    ]
    for suite, items in failed.items():
        for name, _ in items:
            why = reason(name) or (RESERVED if suite == "parse" else "")
            lines.append(f"- {suite}/{name}: {why}")
    lines += [
        "",
        "Suites that are not offered: " + ", ".join(f"{name} ({n})" for name, n in sorted(others.items())) + ".",
    ]
    return "\n".join(lines)


@pytest.mark.corpus
def test_at_least_95_percent_of_the_offered_suites_go_as_stated(corpora: Path) -> None:
    passed, failed, _, _ = results(corpora)
    count = sum(passed.values()) + sum(len(items) for items in failed.values())
    assert count > 1400
    assert sum(passed.values()) / count >= 0.95


@pytest.mark.corpus
def test_every_case_that_goes_otherwise_has_its_reason(corpora: Path) -> None:
    _, failed, _, _ = results(corpora)
    bare = [name for suite, items in failed.items() for name, _ in items if not reason(name) and suite != "parse"]
    assert bare == []


@pytest.mark.corpus
def test_the_page_says_what_was_counted(corpora: Path) -> None:
    """To write it anew: python tests/unit/test_cel_conformance.py CORPORA"""
    text = PAGE.read_text()
    assert text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip() == section(corpora).strip()


if __name__ == "__main__":
    import sys

    page = PAGE.read_text()
    start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    PAGE.write_text(f"{page[:start]}\n{section(Path(sys.argv[1]))}\n{page[end:]}")
