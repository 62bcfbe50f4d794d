"""Where a URL leads, and a socket to there."""

from __future__ import annotations

import asyncio
import re
import socket
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection
from msgspec import Struct

_NOT_URL: Final = re.compile(r"[^\x21-\x7e]")


class Origin(Struct, frozen=True):
    """Where a URL leads: scheme, host and port. `authority` is the Host header."""

    scheme: str
    host: str
    port: int
    authority: str


@lru_cache(1024)
def origin(root: str) -> Origin:
    """The origin of `scheme://host[:port]`; raises ValueError when it is none."""
    parts = urlsplit(root)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f'a URL begins with http:// or https://, not "{parts.scheme or root}"')
    if not parts.hostname:
        raise ValueError("the URL names no host")
    if parts.username is not None or parts.password is not None:
        raise ValueError('the URL holds a login; use auth = "NAME"')
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Origin(parts.scheme, parts.hostname, port, parts.netloc)


def split_url(url: str) -> tuple[Origin, str]:
    """Origin and path of a URL; raises ValueError. A fragment is left out: it is never sent."""
    if _NOT_URL.search(url):
        raise ValueError("the URL holds a blank, a control character or a letter outside ASCII")
    url = url.partition("#")[0]
    start = url.find("/", url.find("://") + 3) if "://" in url else -1
    query = url.find("?")
    if start < 0 or 0 <= query < start:
        start = query if query >= 0 else len(url)
    path = url[start:]
    return origin(url[:start]), path if path.startswith("/") else f"/{path}"


async def dial(host: str, port: int) -> socket.socket:
    """A connected socket. Several addresses race (RFC 8305), so that a dead one does not use up the time."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return await start_connection(found, happy_eyeballs_delay=0.25, interleave=1, loop=loop)
