"""Expressions made at random from a small grammar, for comparing two engines: missing fields and overflow included."""

from __future__ import annotations

import random
import re
from typing import Any, Final

BODY: Final[dict[str, Any]] = {
    "one": 1, "minus": -7, "most": 2**63 - 1, "half": 2.5, "text": "text", "empty": "", "yes": True, "no": False,
    "nothing": None, "numbers": [1, 2, 3], "texts": ["a", "b", "text"], "mixed": [1, "a", None],
    "map": {"key": "value", "count": 5}, "lines": [{"sku": "a", "qty": 1}, {"sku": "b"}],
}  # fmt: skip
_ENDS: Final = {
    "whole": (
        "0", "1", "2", "-3", "7", "100", "9223372036854775807", "body.one", "body.minus", "body.most", "body.map.count",
        "body.missing", "body.numbers[0]", "body.numbers[5]", "size(body.text)", "size(body.numbers)", "size(body.map)",
        "int('12')", "int('x')", "int(body.text)", "body.lines[0].qty", "body.lines[1].qty", "body.nothing",
    ),
    "double": ("0.5", "2.0", "-1.25", "body.half", "double(body.one)", "double('1.5')", "1e3"),
    "text": ("'a'", "'text'", "''", "'12'", "body.text", "body.empty", "body.map.key", "body.zz", "body.one"),
    "truth": ("true", "false", "body.yes", "body.no", "body.missing", "has(body.one)", "has(body.zz)", "body.one"),
    "list": ("[]", "[1, 2]", "['a', 'b']", "body.numbers", "body.texts", "body.mixed", "body.gone", "body.text"),
    "compared": ("<", "<=", ">", ">=", "==", "!="),
    "worked": ("+", "-", "*", "/", "%"),
    "summed": ("+", "-", "*", "/"),
    "added": ("+", "-", "*"),
    "looped": ("all", "exists", "exists_one"),
    "looked": ("startsWith", "endsWith", "contains"),
}  # fmt: skip
_FORMS: Final = {
    "whole": (
        "({whole} {worked} {whole})", "(-{whole})", "({truth} ? {whole} : {whole})", "size({text})", "size({list})",
        "{list}[{whole}]", "int({double})",
    ),
    "double": ("({double} {added} {double})", "double({whole})"),
    "text": ("({text} + {text})", "string({whole})", "({truth} ? {text} : {text})"),
    "list": (
        "({list} + {list})", "[{whole}, {text}]", "{list}.map(v, v {summed} {whole})",
        "{list}.filter(v, v {compared} {whole})", "{list}.map(v, {list}.filter(w, w == v))",
    ),
    "truth": (
        "({truth} && {truth})", "({truth} || {truth})", "!(true && {truth})", "({whole} {compared} {whole})",
        "({text} {compared} {text})", "({double} {compared} {double})", "({list} == {list})", "({whole} in {list})",
        "({text} in {list})", "({text} in body.map)", "{text}.{looked}({text})",
        "{list}.{looped}(v, v {compared} {whole})", "{list}.{looped}(v, v == {text} || {truth})",
        "({truth} ? {truth} : {truth})", "body.lines.{looped}(l, l.qty {compared} {whole})", "({text} == {whole})",
    ),
}  # fmt: skip
_PART: Final = re.compile(r"\{(\w+)\}")


def expression(seed: int, depth: int = 4) -> str:
    """One expression; the same for the same seed."""
    chance = random.Random(seed)
    return _made(chance, chance.choice(("truth", "truth", "whole", "text", "list", "double")), depth)


def _made(chance: random.Random, kind: str, depth: int) -> str:
    forms = _FORMS.get(kind, ())
    if not forms or depth == 0 or chance.random() < 0.2:
        return chance.choice(_ENDS[kind])
    return _PART.sub(lambda part: _made(chance, part[1], depth - 1), chance.choice(forms))
