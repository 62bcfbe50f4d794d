"""JSON text to a plain tree, exactly: no digit is lost, and what two readers could read differently is refused."""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, NoReturn

import msgspec
from esb_plugins.json.faults import find_fault, place_of
from esb_plugins.json.nesting import deeper

from esb import DecodeError

BOM: Final = codecs.BOM_UTF8
_OTHER_BOMS: Final = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
_SHORT: Final = 18
"""Digits that surely fit into 64 bit."""

_decode: Final = msgspec.json.Decoder(float_hook=Decimal).decode
_COLONS: Final = (b" :", b"\n:", b"\t:", b"\r:")
_SHAPE: Final = bytes.maketrans(b"123456789ED", b"000000000ed")
_MANY_DIGITS: Final = b"0" * (_SHORT + 1)
_ESCAPE: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


class _Fault(Exception):
    """What the parser's hooks found: a code and a text; where it stands is looked up afterwards."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Reader:
    """Reads whole documents. Raises DecodeError and nothing else, whatever the bytes are."""

    def __init__(
        self, *, encoding: str = "utf-8", depth: int = 100, max_number: int = 1000, keep_last: bool = False
    ) -> None:
        self.encoding = encoding
        self._utf8 = codecs.lookup(encoding).name == "utf-8"
        self._depth = depth
        self._max_number = max_number
        self._keep_last = keep_last
        pairs = dict if keep_last else _unique
        self._strict = json.JSONDecoder(
            object_pairs_hook=pairs, parse_float=Decimal, parse_constant=_no_constant
        ).decode
        self._careful = json.JSONDecoder(
            object_pairs_hook=pairs, parse_float=self._fraction, parse_int=self._integer, parse_constant=_no_constant
        ).decode

    def read(self, body: bytes) -> Any:
        """The tree of one document.

        Fractions, and integers beyond 64 bit, are Decimals with every digit they were written with.
        """
        if not self._utf8:
            body = self.recode(body)
        elif body.startswith(BOM):
            body = body[3:]
        if deeper(body, self._depth):
            raise DecodeError(f"nested deeper than {self._depth} levels (option depth)", code="M214", line=1)
        shape = body.translate(_SHAPE)
        if _MANY_DIGITS in shape or b"0e" in shape or b"\\ud" in shape:
            return self._read(body, self._careful, escapes=b"\\ud" in shape)
        try:
            tree = _decode(body)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return self._read(body, self._careful, escapes=True)
        if self._keep_last:
            return tree
        # The quick parser keeps the last of two equal keys: as many in the tree as in the text means there are none.
        keys = _count_keys(tree)
        if keys == body.count(b":") or (keys == body.count(b'":') and not any(colon in body for colon in _COLONS)):
            return tree
        return self._read(body, self._strict, escapes=False)

    def _read(self, body: bytes, parse: Callable[[str], Any], *, escapes: bool) -> Any:
        """The thorough way: every object, number and escape is looked at."""
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise _bad_bytes(body, error) from None
        try:
            tree = parse(text)
        except (_Fault, ValueError, RecursionError) as error:
            self._explain(text, error)
        if escapes:
            _refuse_lone_surrogates(text)
        return tree

    def recode(self, body: bytes) -> bytes:
        """The document in UTF-8."""
        try:
            text = body.decode(self.encoding)
        except UnicodeError as error:
            offset = error.start if isinstance(error, UnicodeDecodeError) else 0
            raise DecodeError(f"not {self.encoding}: {error}", code="M213", offset=offset) from None
        return text.removeprefix("\ufeff").encode("utf-8", "surrogatepass")

    def _integer(self, text: str) -> int | Decimal:
        if len(text) <= _SHORT:
            return int(text)
        if len(text) > self._max_number:
            raise self._long()
        if len(text) > 20:
            return Decimal(text)
        value = int(text)
        return value if _SMALLEST <= value <= _LARGEST else Decimal(text)

    def _fraction(self, text: str) -> Decimal:
        if len(text) > self._max_number:
            raise self._long()
        exponent = text.lower().partition("e")[2]
        if exponent and (len(exponent) > 9 or abs(int(exponent)) > self._max_number):
            raise self._long()
        return Decimal(text)

    def _long(self) -> _Fault:
        return _Fault("M212", f"a number of over {self._max_number} digits (option max_number)")

    def _explain(self, text: str, error: Exception) -> NoReturn:
        """The parser's refusal as a DecodeError with its place."""
        if isinstance(error, RecursionError):
            raise DecodeError(f"nested deeper than {self._depth} levels (option depth)", code="M214", line=1) from None
        found = find_fault(text, self._max_number, duplicates=not self._keep_last)
        if found is not None and (isinstance(error, _Fault) or found.code != "M210"):
            raise found from None
        if isinstance(error, json.JSONDecodeError):
            line, offset, place = place_of(text, error.pos)
            said = error.msg[0].lower() + error.msg[1:]
            raise DecodeError(
                f"not JSON: {said} (line {line} column {error.colno})",
                line=line, offset=offset, place=place,
            ) from None  # fmt: skip
        code = error.code if isinstance(error, _Fault) else "M212"
        raise DecodeError(str(error), code=code) from None


def _count_keys(tree: Any) -> int:
    """How many keys all the objects in it have."""
    keys = 0
    containers = [tree]
    for container in containers:  # grows while it is walked
        kind = type(container)
        if kind is dict:
            keys += len(container)
            container = container.values()
        elif kind is not list:
            continue
        for value in container:
            kind = type(value)
            if kind is dict or kind is list:
                containers.append(value)
    return keys


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        times = Counter(key for key, _ in pairs)
        key = next(key for key, count in times.items() if count > 1)
        raise _Fault("M211", f"the key {json.dumps(key[:40], ensure_ascii=False)} stands there twice")
    return tree


def _no_constant(word: str) -> NoReturn:
    raise _Fault("M212", f"{word} is no JSON number")


def _refuse_lone_surrogates(text: str) -> None:
    for match in _ESCAPE.finditer(text):
        if match[1] is not None:
            line, offset, place = place_of(text, match.start())
            message = f"half of a surrogate pair, \\{match[1]} (line {line}): it stands for no character"
            raise DecodeError(message, code="M213", line=line, offset=offset, place=place)


def _bad_bytes(body: bytes, error: UnicodeDecodeError) -> DecodeError:
    line = body.count(b"\n", 0, error.start) + 1
    hint = ""
    if body.startswith(_OTHER_BOMS) or b"\0" in body[:4]:
        hint = '; it looks like UTF-16: declare encoding = "utf-16"'
    message = f"not UTF-8 at byte {error.start} (line {line}){hint}"
    return DecodeError(message, code="M213", line=line, offset=error.start)
