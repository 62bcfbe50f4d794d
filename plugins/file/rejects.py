"""`NAME.bad.csv`: the rows that were rejected, byte for byte as they came, with line number and reason."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

SNIFFED = ";\t|,"
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def bad_rows(rejected: Sequence[tuple[int | None, bytes, str]]) -> bytes:
    """One CSV of header-and-row documents: the header once, then each row with its line and reason as the last columns.

    Rows are not parsed: whatever was wrong with them is still wrong with them. The encoding is kept; where it is not
    UTF-8 nor says itself what it is, bytes go through as they are and a reason is written in ASCII. The delimiter is
    the one that the header uses most.
    """
    encoding = _encoding([raw for _, raw, _ in rejected])
    made: list[str] = []
    delimiter = ""
    for line, raw, reason in rejected:
        head, row = _parted(raw.decode(encoding))
        delimiter = delimiter or _delimiter(head or row)
        if head and not made:
            made.append(delimiter.join([head, "line", "reason"]))
        said = reason if encoding != "latin-1" else reason.encode("ascii", "backslashreplace").decode()
        made.append(delimiter.join([row, "" if line is None else str(line), _cell(said, delimiter)]))
    return "".join(f"{line}\n" for line in made).encode(encoding)


def _encoding(raws: Sequence[bytes]) -> str:
    """What all of them are in."""
    for mark, name in _MARKS:
        if any(raw.startswith(mark) for raw in raws):
            return name
    try:
        for raw in raws:
            raw.decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def _parted(text: str) -> tuple[str, str]:
    """Header and row of a document; "" for the header of one that is a row alone. Line breaks in quotes end nothing."""
    text = text.rstrip("\r\n")
    quoted = False
    for at, letter in enumerate(text):
        if letter == '"':
            quoted = not quoted
        elif letter == "\n" and not quoted:
            return text[:at].rstrip("\r"), text[at + 1 :]
    return "", text


def _cell(text: str, delimiter: str) -> str:
    """A text as one cell."""
    if any(mark in text for mark in (delimiter, '"', "\n", "\r")):
        return '"' + text.replace('"', '""') + '"'
    return text


def _delimiter(text: str) -> str:
    """The separator that a line uses most; a comma where it uses none."""
    line = text.split("\n", 1)[0]
    return max(SNIFFED, key=lambda mark: (line.count(mark), mark == ","))
