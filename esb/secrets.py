"""Secrets by reference: read when they are used, never printed; and what hides them in anything that is shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from esb.errors import SecretMissing
from esb.masking import is_secret

HIDDEN: Final = "***"
_LEAST: Final = 6
"""Known secrets shorter than this are not searched for in texts: they would hide half of every text."""

_FIELD: Final = re.compile(
    r"""(?:(?P<quote>["'])(?P<quoted>[^"'\\\n]{1,64})(?P=quote)|(?<![\w.-])(?P<bare>[\w.-]{1,64}))\s*[:=]\s*"""
)
_VALUE: Final = re.compile(
    r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|(?:(?:Bearer|Basic|Digest)\s+)?[^\s,;&<>"'{}\[\]]+""", re.IGNORECASE
)
_INSIDE: Final = re.compile(r""""(?:[^"\\]|\\.)*"|[\[\]{}]""")
_ELEMENT: Final = re.compile(r"<([\w.:-]{1,64})(?:\s[^<>]*)?(?<!/)>")
_SCHEME: Final = re.compile(r"\b(Bearer|Basic)(\s+)[A-Za-z0-9+/=._~-]{8,}", re.IGNORECASE)
_USERINFO: Final = re.compile(r"(?<=://)[^/@\s]+@")
_LOGIN_HEADERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key", "x-amz-security-token"}
)


class Secrets:
    """`[secrets]`: names to `env:VAR`, `file:PATH` (relative to `folder`) or `credential:NAME` (systemd)."""

    def __init__(self, references: Mapping[str, str], folder: Path) -> None:
        self._references = references
        self._folder = folder
        self._files: dict[Path, tuple[tuple[int, int, int], str]] = {}
        self._known: dict[str, str] = {}

    def read(self, reference: str) -> str:
        """The value behind `secret:NAME` now: a rotated file counts at once. Raises SecretMissing."""
        name = reference.removeprefix("secret:")
        place = self._references.get(name)
        if place is None:
            raise SecretMissing(f'no secret named "{name}" under [secrets]')
        value = self._value(name, place)
        self._known[name] = value
        return value

    def _value(self, name: str, place: str) -> str:
        kind, _, rest = place.partition(":")
        match kind:
            case "env":
                value = os.environ.get(rest)
                if value is None:
                    raise SecretMissing(f'secret "{name}": the environment has no {rest}')
                return value
            case "file":
                return self._file(name, self._folder / rest)
            case "credential":
                folder = os.environ.get("CREDENTIALS_DIRECTORY")
                if folder is None:
                    raise SecretMissing(f'secret "{name}": there are no credentials; the service unit loads them')
                return self._file(name, Path(folder) / rest)
        raise SecretMissing(f'secret "{name}" is not env:VAR, file:PATH or credential:NAME')

    def _file(self, name: str, path: Path) -> str:
        """A file's text without its last line end; read again only when the file changed."""
        try:
            state = path.stat()
            seen = (state.st_mtime_ns, state.st_size, state.st_ino)
            kept = self._files.get(path)
            if kept is None or kept[0] != seen:
                kept = (seen, path.read_text("utf-8").removesuffix("\n").removesuffix("\r"))
                self._files[path] = kept
            return kept[1]
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SecretMissing(f'secret "{name}": {path} cannot be read: {reason}') from error

    def known(self) -> frozenset[str]:
        """The values read so far that are long enough to be searched for."""
        return frozenset(value for value in self._known.values() if len(value) >= _LEAST)


class Mask:
    """Hides the values of fields named like a secret, those that `[bus] hide` names, logins in headers and URLs, and
    the secrets themselves wherever they stand."""

    def __init__(self, hide: Iterable[str] = (), secrets: Secrets | None = None) -> None:
        self._hide = frozenset(name.lower() for name in hide)
        self._secrets = secrets

    def hides(self, name: str) -> bool:
        """Whether a field of this name is hidden."""
        local = name.rpartition(":")[2].removeprefix("@").lower()
        return is_secret(local) or local in _LOGIN_HEADERS or local in self._hide or name.lower() in self._hide

    def text(self, text: str) -> str:
        """Evidence, a body or a log line, whatever its form: JSON, XML, a form, headers, prose."""
        masked = _SCHEME.sub(rf"\1\2{HIDDEN}", self._fields(self._elements(text)))
        return self._values(_USERINFO.sub(f"{HIDDEN}@", masked))

    def _values(self, text: str) -> str:
        if self._secrets is not None:
            for value in sorted(self._secrets.known(), key=len, reverse=True):
                text = text.replace(value, HIDDEN)
        return text

    def _fields(self, text: str) -> str:
        """`name: value` in any of its forms. After a name that is not hidden the search goes on in its value, which may
        be a field again: `error: password=...`."""
        out: list[str] = []
        done = at = 0
        while found := _FIELD.search(text, at):
            at = found.end()
            if not self.hides(found["quoted"] or found["bare"]):
                continue
            end = _value_end(text, at)
            if end > at:
                mark = text[at] if text[at] in "\"'" else '"' if found["quoted"] else ""
                out += [text[done:at], mark, HIDDEN, mark]
                done = at = end
        return "".join(out) + text[done:]

    def _elements(self, text: str) -> str:
        """Elements whose name is hidden, with all they hold."""
        out: list[str] = []
        done = at = 0
        while found := _ELEMENT.search(text, at):
            at = found.end()
            if self.hides(found[1]):
                end = text.find(f"</{found[1]}", at)
                out += [text[done:at], HIDDEN]
                done = at = len(text) if end < 0 else end
        return "".join(out) + text[done:]

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The same headers; those that log somebody in show `***`."""
        return {
            name: HIDDEN if self.hides(name) else self._values(_SCHEME.sub(rf"\1\2{HIDDEN}", value))
            for name, value in headers.items()
        }

    def url(self, url: str) -> str:
        """The same URL without a login, and with the values of secret query fields hidden."""
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")
        netloc = f"{HIDDEN}@{place[2]}" if place[1] else parts.netloc
        query = parts.query
        if query and any(self.hides(name) for name, _ in parse_qsl(query, keep_blank_values=True)):
            fields = parse_qsl(query, keep_blank_values=True)
            query = "&".join(f"{quote(name)}={HIDDEN if self.hides(name) else quote(value)}" for name, value in fields)
        return self._values(urlunsplit((parts.scheme, netloc, parts.path, query, parts.fragment)))

    def tree(self, tree: Any) -> Any:
        """The same plain tree; hidden fields hold `***`, whatever they held."""
        if isinstance(tree, dict):
            return {key: HIDDEN if self.hides(str(key)) else self.tree(value) for key, value in tree.items()}
        if isinstance(tree, list):
            return [self.tree(item) for item in tree]
        return self._values(tree) if isinstance(tree, str) else tree


def _value_end(text: str, at: int) -> int:
    """Where the value that begins at `at` ends; the end of the text for one that was cut off; `at` for none."""
    found = _VALUE.match(text, at)
    if found is not None:
        return found.end()
    if text[at : at + 1] not in ("[", "{"):
        return len(text) if text[at : at + 1] in ('"', "'") else at
    depth = 0
    for mark in _INSIDE.finditer(text, at):
        depth += 1 if mark[0] in "[{" else -1 if mark[0] in "]}" else 0
        if depth == 0:
            return mark.end()
    return len(text)


def mask(text: str, hide: Iterable[str] = ()) -> str:
    """`text` with the values of secret-named fields hidden."""
    return Mask(hide).text(text)
