"""What a request says, read and checked; and whether a reply can be said back. Pure."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from aiohttp import web
from esb_plugins.http.problems import Refused

from esb import Reply

_NOT_HEADER: Final = re.compile(r"[\r\n\0]")


def lowered(request: web.BaseRequest) -> dict[str, str]:
    """Header names in lower case, repeated ones joined; bytes outside UTF-8 are read as Latin-1."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        if not value.isascii():
            value = _readable(value)
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


def _readable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape").decode("latin-1")
    return value


def query(text: str) -> dict[str, Any]:
    """The query's fields; one that stands there several times is a list. Raises Refused."""
    if not text:
        return {}
    found: dict[str, Any] = {}
    try:
        for name, value in parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=1000):
            known = found.get(name)
            found[name] = value if known is None else [*(known if isinstance(known, list) else [known]), value]
    except ValueError as error:
        raise Refused("A316", "the query is not UTF-8, or has over 1000 fields") from error
    return found


def once_key(request: web.BaseRequest, headers: Mapping[str, str]) -> str | None:
    """The sender's Idempotency-Key, with or without the quotes that its draft asks for. Raises Refused: two of them
    would be another key than either."""
    given = headers.get("idempotency-key")
    if given is None:
        return None
    if len(request.headers.getall("Idempotency-Key")) > 1:
        raise Refused("A316", "a request has one Idempotency-Key")
    key = given.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not key or len(key) > 255:
        raise Refused("A316", "an Idempotency-Key has 1 to 255 characters")
    return key


def check_charset(media: str, wanted: str | None) -> None:
    """Raises Refused when the Content-Type names an unknown charset, or another one than the route reads."""
    if "charset" not in media.lower():
        return
    for part in media.split(";")[1:]:
        name, _, value = part.strip().partition("=")
        if name.strip().lower() != "charset":
            continue
        try:
            found = codecs.lookup(value.strip().strip('"')).name
        except LookupError as error:
            raise Refused("A315", "the Content-Type's charset is unknown") from error
        if wanted is not None and found not in (codecs.lookup(wanted).name, "ascii"):
            raise Refused("A315", f"this route reads {wanted}")


def writable(reply: Reply) -> bool:
    """Whether HTTP can carry this reply: a final status, and no line break or NUL in a header."""
    headers = "".join((reply.media_type, *reply.headers, *reply.headers.values()))
    return 200 <= reply.status <= 599 and not _NOT_HEADER.search(headers)
