"""Parsing TOML, and hints of our own for the slips people make in it at three in the morning."""

from __future__ import annotations

import re
from typing import Any, Final

import tomli

from esb.errors import ConfigError, Problem

_PLACE: Final = re.compile(r"\(at (?:line (\d+), column (\d+)|end of document)\)$")

_HINTS: Final[tuple[tuple[str, str], ...]] = (
    (r"^\s*[\w.-]+\s*:\s", "TOML wants `key = value`, with an equals sign"),
    (r"=\s*(yes|no|on|off|Yes|No|True|False|TRUE|FALSE)\b", "write true or false, in lower case"),
    (r"=\s*(null|None|nil|~)\s*(#|,|$)", "TOML has no null: leave the key out"),
    (r"=\s*\d+(\.\d+)?\s*(ms|s|m|h|d|w|B|kB|MB|GB|KiB|MiB|GiB|%|/s|/m|/h)\b?", 'quote a value with its unit: "30s"'),
    (r"[{,\[=]\s*@[\w.-]+", 'quote a name with @ in it: "@id"'),
    (r"^\s*[\w-]+:[\w-]+\s*=", 'quote a name with a colon in it: "soap:Body"'),
    (
        r'"[^"\n]*\\[^btnfre"\\uUx\n][^"\n]*"',
        r"a backslash in double quotes is an escape: use single quotes, '\d' or 'C:\in'",
    ),
    (r'"[^"\n]*==\s*"\w', "put an expression with quotes in it in single quotes: 'x == \"EU\"'"),
    (r"'[^'\n]*\w'\w[^'\n]*'", "an apostrophe ends a text in single quotes: use double quotes around it"),
    (r"=\s*[A-Za-z_][\w.-]*\s*(#|,|\}|$)", "quote a text"),
)


def parse(text: str, file: str) -> dict[str, Any]:
    """The file's values; raises ConfigError with one problem at its line and column (the parser stops at the first)."""
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ConfigError(_located(text, file, str(error))) from None
    except RecursionError:
        raise ConfigError(Problem("E101", "nested too deeply", file=file, line=1, column=1)) from None


def decoded(data: bytes, file: str) -> str:
    """The file's text; a byte order mark is tolerated. Raises ConfigError with the line of the first bad byte."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        said = Problem("E102", "not UTF-8", "save the file as UTF-8", file=file, line=line, column=column)
        raise ConfigError(said) from None


def _located(text: str, file: str, said: str) -> Problem:
    found = _PLACE.search(said)
    lines = text.splitlines() or [""]
    line, column = (int(found[1]), int(found[2])) if found and found[1] else (len(lines), len(lines[-1]) + 1)
    message = _PLACE.sub("", said).strip()
    return Problem(
        "E101", message[0].lower() + message[1:], _hint(lines, line, message), file=file, line=line, column=column
    )


def _hint(lines: list[str], line: int, message: str) -> str:
    if "Cannot declare" in message or "overwrite" in message:
        return _defined_twice(lines, line)
    near = lines[line - 1] if line <= len(lines) else ""
    before = next((text for text in reversed(lines[: line - 1]) if text.strip()), "")
    for pattern, hint in _HINTS:
        if re.search(pattern, near):
            return hint
    if before.rstrip().endswith("}") and near.lstrip().startswith("{"):
        return "a comma is missing at the end of the line above"
    return "see the TOML page of docs/table.md"


def _defined_twice(lines: list[str], line: int) -> str:
    """Both places of a table or key that stands twice."""
    name = lines[line - 1].split("=")[0].strip().strip("[]").strip() if line <= len(lines) else ""
    pattern = re.compile(rf"^\s*\[{{0,2}}\s*{re.escape(name)}\s*(\]|=)")
    first = next((number for number, text in enumerate(lines[: line - 1], 1) if pattern.match(text)), None)
    return f"it stands already in line {first}" if first else "it stands already further up"
