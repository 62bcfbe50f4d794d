"""Words for quantities: "2s", "5MB", "50/s", "20%", and the option types that a component's Struct may use."""

from __future__ import annotations

import codecs
import re
from typing import Any, Final

from msgspec import Struct

_DURATION: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE: Final = {
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SIZE_TEXT: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|KiB|MiB|GiB)")
_RATE_TEXT: Final = re.compile(r"(\d+(?:\.\d+)?)/(s|m|h|d)")
_PERCENT_TEXT: Final = re.compile(r"(\d+(?:\.\d+)?)%")


class Duration(float):
    """Seconds. In the table: `"2s"`, `"1h30m"`; `ms s m h d w`, where m is minutes."""

    @classmethod
    def parse(cls, value: object) -> Duration:
        """Raises ValueError with the right spelling in its text."""
        if isinstance(value, Duration):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            raise ValueError(f'a duration needs its unit; write "{value}s"')
        if not isinstance(value, str):
            raise ValueError('not a duration; write for example "30s"')
        text = value.strip()
        parts = _DURATION_PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            right = f'write "{text}s"' if re.fullmatch(r"\d+(\.\d+)?", text) else 'write for example "30s" or "1h30m"'
            raise ValueError(f'"{text}" is not a duration; {right}')
        return cls(sum(float(number) * _DURATION[unit] for number, unit in parts))

    def __str__(self) -> str:
        return _spell(float(self))


def _spell(seconds: float) -> str:
    if seconds == 0:
        return "0s"
    said, left = [], round(seconds * 1000)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, size)
        if count:
            said.append(f"{count}{unit}")
    return "".join(said)


class Size(int):
    """Bytes. In the table: `"5MB"` (1000s) or `"5MiB"` (1024s)."""

    @classmethod
    def parse(cls, value: object) -> Size:
        if isinstance(value, Size):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            raise ValueError(f'a size needs its unit; write "{value}B"')
        found = _SIZE_TEXT.fullmatch(value.strip()) if isinstance(value, str) else None
        if found is None:
            raise ValueError(f'"{value}" is not a size; write for example "5MB"')
        return cls(round(float(found[1]) * _SIZE[found[2]]))

    def __str__(self) -> str:
        for unit in ("GB", "MB", "kB"):
            if int(self) and int(self) % _SIZE[unit] == 0:
                return f"{int(self) // _SIZE[unit]}{unit}"
        return f"{int(self)}B"


class Rate(Struct, frozen=True):
    """So many in so many seconds. In the table: `"50/s"`, `"300/m"`."""

    count: float
    seconds: float

    @classmethod
    def parse(cls, value: object) -> Rate:
        if isinstance(value, Rate):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            raise ValueError(f'a rate needs its time; write "{value}/s"')
        found = _RATE_TEXT.fullmatch(value.strip()) if isinstance(value, str) else None
        if found is None or not float(found[1]):
            raise ValueError(f'"{value}" is not a rate; write for example "50/s" or "300/m"')
        return cls(float(found[1]), _DURATION[found[2]])

    @property
    def per_second(self) -> float:
        return self.count / self.seconds

    def __str__(self) -> str:
        unit = {1.0: "s", 60.0: "m", 3600.0: "h", 86400.0: "d"}.get(self.seconds, f"{self.seconds:g}s")
        return f"{self.count:g}/{unit}"


class Percent(float):
    """A share from 0 to 1. In the table: `"20%"`."""

    @classmethod
    def parse(cls, value: object) -> Percent:
        if isinstance(value, Percent):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            raise ValueError(f'a share is written with its sign; write "{value}%"')
        found = _PERCENT_TEXT.fullmatch(value.strip()) if isinstance(value, str) else None
        if found is None:
            raise ValueError(f'"{value}" is not a share; write for example "20%"')
        return cls(float(found[1]) / 100)

    def __str__(self) -> str:
        return f"{float(self) * 100:g}%"


class Expression(str):
    """Plain CEL. An option of this type is checked with the table and compiled by `context.expression`."""

    __slots__ = ()


class Template(str):
    """A text with `{CEL}` in it. A target finds its value in `delivery.values` under the option's name."""

    __slots__ = ()


class UrlTemplate(Template):
    """A template whose values are percent-encoded, because it becomes part of a URL."""

    __slots__ = ()


class HeaderTemplate(Template):
    """A template whose values may not hold CR, LF or NUL, because it becomes a header."""

    __slots__ = ()


class NameTemplate(Template):
    """A template whose values may not hold separators, NUL, or a leading dot or dash: it becomes a file name."""

    __slots__ = ()


QUOTES: Final[dict[type[Template], str | None]] = {
    Template: None,
    UrlTemplate: "url",
    HeaderTemplate: "header",
    NameTemplate: "file",
}


class Secret(str):
    """`secret:NAME`: a reference into `[secrets]`, read at use with `context.secret`, never printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Encoding(str):
    """The name of a character encoding, as Python knows it: `"utf-8"`, `"windows-1252"`, `"utf-16"`."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Encoding:
        """Raises ValueError for an unknown one, and for those that hide characters in escapes (UTF-7, ISO-2022)."""
        right = 'write for example "utf-8", "windows-1252", "iso-8859-15" or "utf-16"'
        try:
            found = codecs.lookup(str(value))
        except (LookupError, ValueError):
            raise ValueError(f'"{value}" is not a character encoding; {right}') from None
        if found.name.replace("_", "-").startswith(_NO_ENCODINGS) or not getattr(found, "_is_text_encoding", True):
            raise ValueError(f'"{value}" is no encoding for messages; {right}')
        return cls(found.name)


_NO_ENCODINGS: Final = ("utf-7", "iso2022", "hz", "unicode-escape", "raw-unicode-escape", "punycode", "idna")

OPTION_TYPES: Final = (Duration, Size, Rate, Percent, Expression, Template, Secret, Encoding)
_TEXTS: Final = (Expression, *QUOTES, Secret)


def decode_option(kind: type, value: Any) -> Any:
    """msgspec's `dec_hook` for the types above. Raises ValueError with the right spelling."""
    if kind in (Duration, Size, Rate, Percent, Encoding):
        return kind.parse(value)
    if kind in _TEXTS:
        if not isinstance(value, str):
            raise ValueError(f"Expected `str`, got `{type(value).__name__}`")
        if kind is Secret and not value.startswith("secret:"):
            raise ValueError('a secret is given by reference; write "secret:NAME" and declare NAME under [secrets]')
        return kind(value)
    raise ValueError(f"no option can have the type {kind.__name__}")


def encode_option(value: Any) -> Any:
    """msgspec's `enc_hook`: the table's spelling again; a secret prints as `***`."""
    if isinstance(value, Secret):
        return "***"
    if isinstance(value, OPTION_TYPES):
        return str(value)
    raise ValueError(f"cannot write a {type(value).__name__} into a table")
