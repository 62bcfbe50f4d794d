"""`NAME.bad.csv`: the rows that were rejected, as the sender wrote them, with line number and reason."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

SNIFFED = ";\t|,"


def bad_rows(rejected: Sequence[tuple[int | None, bytes, str]]) -> bytes:
    """One CSV of header-and-row documents: header once, then each row with its line and reason as the last columns.

    The delimiter is the header's own; what is no CSV is given as one line a part.
    """
    made = io.StringIO()
    writer: Any = None
    for line, raw, reason in rejected:
        text = raw.decode("utf-8-sig", "replace")
        delimiter = _delimiter(text)
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row]
        head, body = (rows[0], rows[1:]) if len(rows) > 1 else ([], rows or [[]])
        if writer is None:
            writer = csv.writer(made, delimiter=delimiter, lineterminator="\n")
            if head:
                writer.writerow([*head, "line", "reason"])
        for row in body:
            writer.writerow([*row, "" if line is None else line, reason])
    return made.getvalue().encode("utf-8")


def _delimiter(text: str) -> str:
    """The separator that the header uses most."""
    head = text.split("\n", 1)[0]
    return max(SNIFFED, key=lambda mark: (head.count(mark), mark == ","))
