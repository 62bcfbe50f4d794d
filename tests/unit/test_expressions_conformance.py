"""cel-spec's own cases, and what docs/expressions.md says of them.

The page's section is written anew by `python tests/unit/test_expressions_conformance.py`, with esb installed.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import corpus_cel
import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "expressions.md"
BEGIN, END = "<!-- conformance: begin -->", "<!-- conformance: end -->"
SENTINELS = (
    "a duration may be as long as cel-spec says, 10000 years; the case wants the limit of 64 bit in nanoseconds, 292"
    " years, and then no expression could subtract from a date such as 9999-12-31, which means forever in many systems"
)
REASONS = {
    "timestamps/sub_time_duration_over": SENTINELS,
    "timestamps/sub_time_duration_under": SENTINELS,
    "string_ext/map support (all key types)": (
        "1 and true are one key in Python: a map that has both is an error here, never a wrong value"
    ),
}


def test_the_suites_that_are_offered_go_as_stated(corpora: Path) -> None:
    outcomes = [outcome for outcome in corpus_cel.outcomes(corpora) if outcome.state != "protobuf"]
    failed = {f"{outcome.suite}/{outcome.name}": outcome.reason for outcome in outcomes if outcome.state == "failed"}
    assert len(outcomes) > 1500
    assert failed.keys() == REASONS.keys(), failed


def test_every_suite_that_is_offered_passes_at_95_percent(corpora: Path) -> None:
    counts = Counter((outcome.suite, outcome.state) for outcome in corpus_cel.outcomes(corpora))
    for suite in corpus_cel.OFFERED:
        assert counts[suite, "passed"] >= 0.95 * (counts[suite, "passed"] + counts[suite, "failed"]), suite


def test_the_page_says_what_was_counted(corpora: Path) -> None:
    text = PAGE.read_text()
    assert text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip() == section(corpora).strip()


pytestmark = pytest.mark.corpus


def section(corpora: Path) -> str:
    """The generated part of the page."""
    counts = Counter((outcome.suite, outcome.state) for outcome in corpus_cel.outcomes(corpora))
    rows = [_row(suite, *(counts[suite, state] for state in ("passed", "failed", "protobuf"))) for suite in SUITES]
    whole = [sum(count for (_, state), count in counts.items() if state == wanted) for wanted in STATES]
    failed = [outcome for outcome in corpus_cel.outcomes(corpora) if outcome.state == "failed"]
    others = Counter(case["suite"] for case in corpus_cel.cases(corpora) if not corpus_cel.offered(case))
    lines = [
        "| suite | passed | of | left out: needs protobuf |",
        "| --- | --- | --- | --- |",
        *rows,
        _row("**all**", *whole),
        "",
        "Not as stated, and why:",
        "",
        *(f"- `{outcome.suite}/{outcome.name}`: {_reason(outcome)}." for outcome in failed),
        "",
        f"Not offered: {', '.join(f'{suite} ({count})' for suite, count in sorted(others.items()))}.",
    ]
    return "\n".join(lines)


SUITES = corpus_cel.OFFERED
STATES = ("passed", "failed", "protobuf")


def _row(suite: str, passed: int, failed: int, protobuf: int) -> str:
    return f"| {suite} | {passed} | {passed + failed} | {protobuf} |"


def _reason(outcome: corpus_cel.Outcome) -> str:
    return REASONS.get(f"{outcome.suite}/{outcome.name}", outcome.reason)


def write(corpora: Path) -> None:
    """Writes the section anew."""
    text = PAGE.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    PAGE.write_text(f"{text[:begin]}\n{section(corpora)}\n{text[end:]}")


if __name__ == "__main__":
    write(Path(os.environ.get("ESB_CORPORA", sys.argv[1] if len(sys.argv) > 1 else "../shared/corpora")))
