"""An expression's text into tokens (cel-spec, section Syntax)."""

from __future__ import annotations

import re
from typing import Any, Final

from msgspec import Struct

from esb.expressions.syntax import ExpressionProblems, Finding
from esb.expressions.values import INT_MAX, UINT_MAX, Uint

_STRING: Final = (
    r"(?P<string>(?P<prefix>[bB]?[rR]?|[rR][bB])(?:"
    r'"""(?:[^\\]|\\[\s\S])*?"""' r"|'''(?:[^\\]|\\[\s\S])*?'''" r'|"(?:[^"\\\n\r]|\\.)*"' r"|'(?:[^'\\\n\r]|\\.)*'))"
)  # fmt: skip
_RAW: Final = (
    r"(?P<rawstring>(?P<rawprefix>[rR][bB]?|[bB][rR])(?:"
    r'"""[\s\S]*?"""' r"|'''[\s\S]*?'''" r'|"[^"\n\r]*"' r"|'[^'\n\r]*'))"
)  # fmt: skip
_TOKEN: Final = re.compile(
    r"(?P<blank>[ \t\r\n\f]+|//[^\n]*)"
    rf"|{_RAW}|{_STRING}"
    r"|(?P<double>(?:\d+\.\d+(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+))"
    r"|(?P<hex>0x[0-9a-fA-F]+[uU]?)|(?P<int>\d+[uU]?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<quoted>`[A-Za-z0-9_./ -]+`)"
    r"|(?P<operator>\.\?|\[\?|&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,(){}\[\]])"
)
_ESCAPE: Final = re.compile(r"\\(?:[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|([\s\S]))")
_SIMPLE: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_KEPT: Final = "\\?\"'`"


class Token(Struct, frozen=True):
    """`kind` is name, literal, operator or end; `digits` how a double was written."""

    kind: str
    text: str
    start: int
    end: int
    value: Any = None
    digits: str | None = None


def fault(text: str, start: int, end: int, message: str, hint: str = "", code: str = "E220") -> ExpressionProblems:
    """One finding as an error."""
    return ExpressionProblems(text, (Finding(start, max(end - start, 1), code, message, hint),))


def tokens(text: str, start: int = 0, *, until: str = "") -> list[Token]:
    """All tokens from `start`; with `until` "}" they stop at the brace that closes a template's placeholder."""
    found: list[Token] = []
    place, depth = start, 0
    while place < len(text):
        if until and depth == 0 and text[place] == until:
            break
        match = _TOKEN.match(text, place)
        if match is None:
            raise _unknown(text, place)
        if match.lastgroup != "blank" and not match["blank"]:
            token = _token(text, match)
            depth += (token.kind == "operator") * ((token.text == "{") - (token.text == "}"))
            found.append(token)
        place = match.end()
    found.append(Token("end", "", place, place))
    return found


def _token(text: str, match: re.Match[str]) -> Token:
    start, end, said = match.start(), match.end(), match[0]
    if match["name"]:
        return Token("name", said, start, end)
    if match["quoted"]:
        return Token("quoted", said[1:-1], start, end)
    if match["operator"]:
        return Token("operator", said, start, end)
    if match["double"]:
        return Token("literal", said, start, end, float(said), said)
    if match["hex"] or match["int"]:
        return Token("literal", said, start, end, _number(text, said, start, end))
    return Token("literal", said, start, end, _text(text, said, start, end))


def _number(text: str, said: str, start: int, end: int) -> int:
    unsigned = said[-1] in "uU"
    digits = said.rstrip("uU")
    value = int(digits, 16) if digits.startswith(("0x", "0X")) else int(digits)
    if value > (UINT_MAX if unsigned else INT_MAX + 1):
        raise fault(text, start, end, "a whole number over 64 bit", 'write decimal("...") for it')
    return Uint(value) if unsigned else value


def _text(text: str, said: str, start: int, end: int) -> str | bytes:
    prefix = re.match(r"[bBrR]*", said)
    assert prefix is not None
    marks = prefix[0].lower()
    body = said[len(marks) :]
    quotes = 3 if body[:3] in ('"""', "'''") and len(body) >= 6 else 1
    body = body[quotes:-quotes]
    if "r" not in marks:
        body = _unescaped(text, body, start, end, "b" in marks)
    if "b" not in marks:
        return body
    return _bytes(body)


def _unescaped(text: str, body: str, start: int, end: int, octets: bool) -> str:
    def one(match: re.Match[str]) -> str:
        hexed, short, long, octal, simple = match.groups()
        if hexed or octal:
            number = int(hexed, 16) if hexed else int(octal, 8)
            return chr(_OCTET + number) if octets else chr(number)
        if short or long:
            number = int(short or long, 16)
            if octets or 0xD800 <= number < 0xE000 or number > 0x10FFFF:
                raise fault(text, start, end, f"{match[0]} is no character here")
            return chr(number)
        if simple in _SIMPLE:
            return _SIMPLE[simple]
        if simple in _KEPT:
            return str(simple)
        raise fault(text, start, end, f"\\{simple} is no escape", r"write \\ for a backslash, or a raw text r'\d'")

    return _ESCAPE.sub(one, body)


_OCTET: Final = 0x10F000
"""Where octets given by number hide until the text becomes bytes: private use, never in a table."""


def _bytes(body: str) -> bytes:
    made = bytearray()
    for letter in body:
        number = ord(letter)
        made += bytes([number - _OCTET]) if _OCTET <= number < _OCTET + 256 else letter.encode("utf-8")
    return bytes(made)


def _unknown(text: str, place: int) -> ExpressionProblems:
    letter = text[place]
    if letter == "=":
        return fault(text, place, place + 1, "a single =", "compare with ==")
    if letter in "\"'":
        return fault(text, place, place + 1, "a text that is not closed", f"it ends with another {letter}")
    if letter in "&|":
        return fault(text, place, place + 1, f"a single {letter}", f"write {letter * 2}")
    return fault(text, place, place + 1, f"{letter!r} has no meaning here")
