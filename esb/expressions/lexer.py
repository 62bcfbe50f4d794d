"""An expression's text into tokens (cel-spec, section Syntax)."""

from __future__ import annotations

import re
from typing import Any, Final

from msgspec import Struct

from esb.expressions.syntax import ExpressionProblems, Finding
from esb.expressions.values import INT_MAX, UINT_MAX, Uint

_TOKEN: Final = re.compile(
    r"(?P<blank>(?:[ \t\r\n\f]+|//[^\n]*)+)"
    r"|(?P<raw>(?:[rR][bB]?|[bB][rR])(?:"
    r'"""[\s\S]*?"""' r"|'''[\s\S]*?'''" r'|"[^"\n\r]*"' r"|'[^'\n\r]*'))"
    r"|(?P<text>[bB]?(?:"
    r'"""(?:[^\\]|\\[\s\S])*?"""' r"|'''(?:[^\\]|\\[\s\S])*?'''" r'|"(?:[^"\\\n\r]|\\.)*"' r"|'(?:[^'\\\n\r]|\\.)*'))"
    r"|(?P<double>\d+\.\d+(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)"
    r"|(?P<int>0[xX][0-9a-fA-F]+[uU]?|\d+[uU]?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<quoted>`[A-Za-z0-9_./ -]+`)"
    r"|(?P<operator>&&|\|\||[=!<>]=|[-+*/%<>!?:.,(){}\[\]])"
)  # fmt: skip
_ESCAPE: Final = re.compile(r"\\(?:[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|([\s\S]))")
_SIMPLE: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_KEPT: Final = "\\?\"'`"
_OCTET: Final = 0x10F000
"""Where octets given by number hide until the text becomes bytes: private use."""


class Token(Struct, frozen=True):
    """`kind` is name, quoted, literal, operator or end; `digits` is how a double was written."""

    kind: str
    text: str
    start: int
    end: int
    value: Any = None
    digits: str | None = None


def fault(text: str, start: int, end: int, message: str, hint: str = "", code: str = "E220") -> ExpressionProblems:
    """One finding as an error."""
    return ExpressionProblems(text, (Finding(start, max(end - start, 1), code, message, hint),))


def tokens(text: str, start: int = 0, *, placeholder: bool = False) -> list[Token]:
    """All tokens from `start`; of a placeholder they end before the brace that closes it."""
    found: list[Token] = []
    place, depth = start, 0
    while place < len(text):
        if placeholder and depth == 0 and text[place] == "}":
            break
        match = _TOKEN.match(text, place)
        if match is None:
            raise _unknown(text, place)
        kind, said = match.lastgroup or "", match[0]
        if kind == "operator":
            found.append(Token(kind, said, place, match.end()))
            depth += (said == "{") - (said == "}")
        elif kind != "blank":
            found.append(_token(text, kind, said, place))
        place = match.end()
    found.append(Token("end", "", place, place))
    return found


def _token(text: str, kind: str, said: str, start: int) -> Token:
    end = start + len(said)
    match kind:
        case "name":
            return Token(kind, said, start, end)
        case "quoted":
            return Token(kind, said[1:-1], start, end)
        case "double":
            return Token("literal", said, start, end, float(said), said)
        case "int":
            return Token("literal", said, start, end, _number(text, said, start, end))
        case _:
            return Token("literal", said, start, end, _text(text, said, start, end))


def _number(text: str, said: str, start: int, end: int) -> int:
    unsigned = said[-1] in "uU"
    digits = said.rstrip("uU")
    value = int(digits, 16) if digits[:2] in ("0x", "0X") else int(digits) if len(digits) < 30 else UINT_MAX + 1
    if value > (UINT_MAX if unsigned else INT_MAX + 1):
        raise too_long(text, start, end)
    return Uint(value) if unsigned else value


def too_long(text: str, start: int, end: int) -> ExpressionProblems:
    """A whole number that 64 bit cannot hold."""
    return fault(text, start, end, "a whole number over 64 bit", f'write decimal("{text[start:end]:.40}")')


def _text(text: str, said: str, start: int, end: int) -> str | bytes:
    marks = said[: len(said) - len(said.lstrip("bBrR"))].lower()
    body = said[len(marks) :]
    quotes = 3 if len(body) >= 6 and body[:3] in ('"""', "'''") else 1
    body = body[quotes:-quotes]
    if "r" not in marks and "\\" in body:
        body = _unescaped(text, body, start + len(marks) + quotes, "b" in marks)
    return _bytes(body) if "b" in marks else body


def _unescaped(text: str, body: str, start: int, octets: bool) -> str:
    def one(match: re.Match[str]) -> str:
        hexed, short, long, octal, simple = match.groups()
        if hexed or octal:
            number = int(hexed, 16) if hexed else int(octal, 8)
            return chr(_OCTET + number) if octets else chr(number)
        if short or long:
            number = int(short or long, 16)
            if octets or 0xD800 <= number < 0xE000 or number > 0x10FFFF:
                raise fault(text, start + match.start(), start + match.end(), f"{match[0]} is no character here")
            return chr(number)
        if simple in _SIMPLE:
            return _SIMPLE[simple]
        if simple in _KEPT:
            return str(simple)
        hint = f"write \\\\{simple} for a backslash, or a raw text: r'...'"
        raise fault(text, start + match.start(), start + match.end(), f"\\{simple} is no escape", hint)

    return _ESCAPE.sub(one, body)


def _bytes(body: str) -> bytes:
    made = bytearray()
    for letter in body:
        number = ord(letter) - _OCTET
        made += bytes([number]) if 0 <= number < 256 else letter.encode("utf-8")
    return bytes(made)


def _unknown(text: str, place: int) -> ExpressionProblems:
    """A character that begins no token."""
    letter, before = text[place], text[:place].rstrip()
    if letter == "=" and text[place + 1 : place + 2] == ">":
        return fault(text, place, place + 2, "there is no =>", "write list.map(x, x.field)")
    if letter == "=":
        return fault(text, place, place + 1, "a single =", "compare with ==")
    if letter in "\"'":
        return fault(text, place, len(text), "a text that is not closed", f"it ends with another {letter}")
    if letter in "&|":
        return fault(text, place, place + 1, f"a single {letter}", f"write {letter * 2}")
    if letter in "“”„‘’‚":
        return fault(text, place, place + 1, f"{letter} is no quote", "write \" or '")
    if letter in "@#$" and before.endswith("."):
        name = re.match(r"[@#$]\w*", text[place:])
        field = name[0] if name else letter
        hint = f'write ["{field}"] for the field'
        return fault(text, place, place + len(field), f"{field} cannot follow a dot", hint)
    if letter.isalpha():
        hint = f'write ["{_word(text, place)}"] for a field'
        return fault(text, place, place + 1, f"{letter!r} is no letter of a name here", hint)
    if letter == "`":
        return fault(text, place, place + 1, "a field in backquotes that is not closed", "it ends with another `")
    return fault(text, place, place + 1, f"{letter!r} has no meaning here")


def _word(text: str, place: int) -> str:
    """The whole word around a character."""
    start = end = place
    while start > 0 and (text[start - 1].isalnum() or text[start - 1] == "_"):
        start -= 1
    while end < len(text) and (text[end].isalnum() or text[end] == "_"):
        end += 1
    return text[start:end]
