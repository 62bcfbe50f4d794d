"""Parsing TOML, and hints of our own for the slips people make in it at three in the morning."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

import tomli

from esb.errors import ConfigError, Problem
from esb.table.positions import Positions

_UNIT: Final = r"(ms|[smhdw]|[kMG]?B|[KMG]iB|%|/[smhd])"
_HINTS: Final[tuple[tuple[str, str, str], ...]] = (
    (r"^", r"<{7}|={7}|>{7}", "a merge conflict was left here: keep one side"),
    (r"", r"[“”„‟«»‘’‚‛]", "these are typographic quotes: write \" or '"),
    (r"", r"//", "a comment begins with #"),
    (r"(^|[{,])\s*[\w-]+", r":[\w-]+\s*=", 'quote a name with a colon in it: "soap:Body"'),
    (r"(^|[{,])\s*[\w.\"'-]+\s*", r":", "TOML wants `key = value`, with an equals sign"),
    (r'"[^"\n]+"', r"[^\W_]|[@$-]", "put a text with quotes in it in single quotes: 'x == \"EU\"'"),
    (r"", r"@[\w.-]+", 'quote a name with @ in it: "@id"'),
    (r"[=\[,]\s*", r"(?i:yes|no|on|off|true|false)\b", "write true or false, in lower case"),
    (r"[=\[,]\s*", r"(?i:null|none|nil|undefined)\b|~", "TOML has no null: leave the key out"),
    (r"[=\[,]\s*[\d.]+\s*", rf"{_UNIT}(\d+{_UNIT})*(?=[\s,\]}}#]|$)", 'quote a value with its unit: "30s"'),
    (r"'[^'\n]+'", r"[^\W_]", "an apostrophe ends a text in single quotes: use double quotes around it"),
    (r"=\s*", r"(#|$)", "the value is missing"),
    (r"[=\[,]\s*", r"[\w.]+\s*[^,\]}#=]*(==|!=|<|>|&&|\|\|)", "put an expression in single quotes: 'body.x == 1'"),
    (r"[=\[,]\s*", r"[A-Za-z_/.~*]", "quote a text"),
    (r"^\s*\[+[^\]]*", r"\s*(#|$)", "the header has no ]"),
    (r"^\s*\[+[^\]]*", r"", 'a name is made of a-z 0-9 _ -; any other is quoted: [map."o:Order"]'),
)
"""What stands in the line before the error, what at it, and what would be right."""
_BACKSLASH: Final = r"a backslash in double quotes is an escape: use single quotes, '\d' or 'C:\in'"
_DRIVE: Final = re.compile(r'"[A-Za-z]:(?:\\\\)*\\[btnfre][^"\n]*"')
_TWICE: Final = re.compile(r"cannot (declare|overwrite|redefine|mutate)|duplicate inline")
_TOKEN: Final = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}|\'\'\'(?:[^\']|\'(?!\'\'))*\'{3,5}'
    r"|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'|#[^\n]*|[\[\]{}]",
    re.DOTALL,
)
_CLOSES: Final = {"[": "]", "{": "}"}


def parse(text: str, file: str) -> dict[str, Any]:
    """The file's values, fractions exact; raises ConfigError with one problem at its line and column (the parser stops
    at the first)."""
    try:
        return tomli.loads(text, parse_float=Decimal)
    except tomli.TOMLDecodeError as error:
        raise ConfigError(Slip(text, file, error).problem()) from None
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


def swallowed(text: str) -> list[int]:
    """The offsets of paths such as "C:\\temp", where TOML reads a tab."""
    return [found.start() for found in _DRIVE.finditer(text)]


class Slip:
    """One syntax error, told to a person."""

    def __init__(self, text: str, file: str, error: tomli.TOMLDecodeError) -> None:
        self._text = text
        self._file = file
        self._said = error.msg[0].lower() + error.msg[1:]
        self._place = min(error.pos, len(text))
        self._begin = Positions(text[: self._place], broken=True).begun

    def problem(self) -> Problem:
        place, said, hint = self._told()
        line, column = self._line(place)
        return Problem("E101", said, hint, file=self._file, line=line, column=column)

    def _told(self) -> tuple[int, str, str]:
        """Where it is shown, what is wrong, what would be right."""
        if _TWICE.match(self._said):
            return self._twice()
        hint = self._near(self._place) or self._unclosed() or self._at_end_of_line()
        if hint:
            return self._place, self._said, hint
        if not self._text[self._place :].strip() and self._begin < self._place:
            return self._begin, self._said, self._near(self._begin) or "it begins here and has no end"
        return self._place, self._said, "docs/table.md shows how each part of the table is written"

    def _near(self, place: int) -> str:
        """The hint for what stands at an offset, in its line."""
        if re.match(r"unescaped|invalid hex|escaped character", self._said):
            return _BACKSLASH
        begin = self._text.rfind("\n", 0, place) + 1
        before, after = self._text[begin:place], self._text[place:].partition("\n")[0].rstrip("\r")
        return next((hint for left, right, hint in _HINTS if _stands(left, before) and re.match(right, after)), "")

    def _unclosed(self) -> str:
        """What an open bracket before the error lacks."""
        opened = self._open()
        if not opened:
            return ""
        bracket, begin = opened[-1]
        before = self._text[begin + 1 : self._place].rstrip()
        rest = self._text[self._place :].lstrip()
        if bracket == "[" and before.endswith(("}", "]", '"', "'")) and rest[:1] in ("{", '"', "'"):
            return f"a comma is missing between two {'tables' if rest[0] == '{' else 'values'} of the list"
        if bracket == "{" and re.match(r"[\w\"'.-]+\s*=", rest) and before[-1:] not in (",", "{", ""):
            return "a comma is missing before this key"
        return f"the {bracket} of line {self._line(begin)[0]} has no {_CLOSES[bracket]}"

    def _at_end_of_line(self) -> str:
        found = re.match(r"[ \t]*[;,][ \t]*(#|\r?\n|$)", self._text[self._place :])
        return "no comma or semicolon ends a line outside of [ ] and { }" if found else ""

    def _open(self) -> list[tuple[str, int]]:
        """The brackets open at the error, with their offsets; a header's own is none."""
        opened: list[tuple[str, int]] = []
        begin = self._begin
        for found in _TOKEN.finditer(self._text, begin, self._place):
            if found[0] in _CLOSES and not (found.start() - begin < 2 and self._text[begin] == "["):
                opened.append((found[0], found.start()))
            elif found[0] in ("]", "}") and opened:
                opened.pop()
        return opened

    def _twice(self) -> tuple[int, str, str]:
        """A table or key that stands twice: both places."""
        if (inline := re.search("key '(.+)'$", self._said)) is not None:
            return self._twice_inline(inline[1])
        before = Positions(self._text[: self._begin])
        path = before.next_path(self._text[self._begin : self._place])
        known = next((path[:length] for length in range(len(path), 0, -1) if path[:length] in before), None)
        if known is None:
            return self._place, self._said, "it stands already further up"
        name = ".".join(str(part) for part in path if isinstance(part, str))
        kind = f"table [{name}]" if self._text[self._begin] == "[" else f'key "{path[-1]}"'
        line, column = before.where(known, key=True) or (1, 1)
        return (
            self._begin,
            f"the {kind} is defined twice",
            f"it stands already at {line}:{column}: put the two together",
        )

    def _twice_inline(self, name: str) -> tuple[int, str, str]:
        pattern = re.compile(rf"[{{,\s][\"']?({re.escape(name)})[\"']?\s*=")
        places = [found.start(1) for found in pattern.finditer(self._text, self._begin, self._place + len(name) + 3)]
        if len(places) < 2:
            return self._place, self._said, "it stands already further up"
        line, column = self._line(places[-2])
        return (
            places[-1],
            f'the key "{name}" is defined twice',
            f"it stands already at {line}:{column}: put the two together",
        )

    def _line(self, place: int) -> tuple[int, int]:
        begin = self._text.rfind("\n", 0, place) + 1
        return self._text.count("\n", 0, place) + 1, place - begin + 1


def _stands(pattern: str, before: str) -> bool:
    """Whether a line up to the error ends in this."""
    return not pattern or re.search(rf"(?:{pattern})\Z", before) is not None
