"""The http source: a method and a path on a listener; the answer is sent when the message is on disk."""

from __future__ import annotations

import codecs
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, cast
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web
from esb_plugins.http.body import BodyLimits, read, read_all
from esb_plugins.http.listener import Listener, open_listener
from esb_plugins.http.problems import Refused, refuse, respond
from esb_plugins.http.router import parse_pattern
from esb_plugins.http.server import Connection
from esb_plugins.http.verify import Verify, verify
from msgspec import Struct

from esb import (
    Accept,
    Accepted,
    Auth,
    Closing,
    Component,
    Context,
    Encoding,
    EsbError,
    Incoming,
    OptionError,
    Size,
    Unauthorized,
)

log = logging.getLogger(__name__)

AGAIN: Final = 5.0
"""Seconds until a port that could not be had is tried again."""

LOOK: Final = 3600.0
"""Seconds between two looks at the certificate's end."""

_json: Final = msgspec.json.Encoder().encode
_LEFT_OUT: Final = frozenset(
    {
        "authorization", "proxy-authorization", "x-api-key", "connection", "keep-alive", "proxy-connection", "te",
        "trailer", "transfer-encoding", "upgrade", "content-length", "content-encoding", "expect",
    }
)  # fmt: skip
"""Headers that are between the sender and us: logins and framing."""


class HttpSource(Struct, frozen=True, forbid_unknown_fields=True):
    """`http` is methods and path; `{name}` in the path is `source.path.name`. `verify` demands a webhook signature;
    `charset` refuses a body that says another one; `max_body` is this route's own limit, unpacked."""

    http: str
    listener: str = "default"
    verify: Verify | None = None
    max_body: Size | None = None
    charset: Encoding | None = None


class HttpRoute:
    """One route on a listener. Its answers: what `accept` says, in HTTP's words; never a 5xx after the commit."""

    def __init__(self, options: HttpSource, context: Context, listener: Listener) -> None:
        self._options = options
        self._context = context
        self._listener = listener
        self._accept: Accept | None = None
        limit = listener.settings.max_body if options.max_body is None else options.max_body
        self._limits = BodyLimits(int(limit), float(listener.settings.body_timeout))
        self._stored = int(context.reply[:3]) if context.reply and context.reply[:3].isdigit() else 202

    async def run(self, accept: Accept, /) -> None:
        """Serves until cancelled. A port that cannot be had takes this route down, and is tried again."""
        await self._start()
        self._accept = accept
        try:
            while True:
                self._report()
                await self._context.clock.sleep(LOOK)
        finally:
            self._accept = None
            await self._listener.stop()

    async def _start(self) -> None:
        while True:
            try:
                await self._listener.start()
                return
            except OSError as error:
                reason = f"cannot listen on {self._listener.settings.bind}: {error.strerror or error}"
                self._context.health("down", reason)
                await self._context.clock.sleep(AGAIN)

    def _report(self) -> None:
        warning = "" if self._listener.tls is None else self._listener.tls.warning()
        self._context.health("degraded" if warning else "up", warning)

    # --- one request --------------------------------------------------------------------------------------------

    async def handle(self, request: web.BaseRequest, parameters: dict[str, str]) -> web.Response:
        """The answer to one request."""
        accept = self._accept
        try:
            if accept is None:
                raise Closing("the route is stopped")
            incoming = await self._incoming(request, parameters)
            return self._answer(await accept(incoming))
        except Refused as refused:
            response = refused.response()
        except EsbError as error:
            response = refuse(error)
        except Exception as error:
            log.exception("accepting a request failed")
            response = refuse(error)
        if not request.content.is_eof():
            response.force_close()
        return response

    def _answer(self, accepted: Accepted) -> web.Response:
        reply = accepted.reply
        if reply is not None:
            return respond(reply.status, reply.body, reply.media_type, reply.headers)
        said = {"id": accepted.id, "duplicate": accepted.duplicate}
        return respond(self._stored, _json(said), "application/json")

    async def _incoming(self, request: web.BaseRequest, parameters: dict[str, str]) -> Incoming:
        """The request as a message. What can be refused is refused before the body is asked for."""
        headers = lowered(request)
        caller = self._caller(headers)
        once = once_key(headers)
        media = headers.get("content-type", "")
        check_charset(media, self._options.charset)
        about = {
            "path": parameters,
            "query": query(request.rel_url.raw_query_string),
            "peer": request.remote or "",
            "key": caller,
            "method": request.method,
            "url": request.rel_url.raw_path_qs,
        }
        self._invite(request, headers)
        body, once = await self._body(request, headers, once)
        kept = {name: value for name, value in headers.items() if name not in _LEFT_OUT}
        return Incoming(body=body, headers=kept, about=about, once=once, caller=caller, media_type=media)

    async def _body(
        self, request: web.BaseRequest, headers: Mapping[str, str], once: str | None
    ) -> tuple[bytes | AsyncIterator[bytes], str | None]:
        connection(request).reading = request
        rule = self._options.verify
        if rule is None:
            return await read(request, self._limits), once
        body = await read_all(request, self._limits)
        secrets = [self._context.secret(ref) for ref in (rule.hmac, rule.previous) if ref is not None]
        signed = verify(rule, secrets, headers, body, self._context.clock.now())
        return body, once or signed

    def _caller(self, headers: Mapping[str, str]) -> str:
        auth: Auth | None = self._context.auth
        if auth is None:
            return ""
        try:
            return auth.caller(headers)
        except Unauthorized as error:
            raise Refused("A312", str(error), headers={"WWW-Authenticate": "Bearer"}) from error

    def _invite(self, request: web.BaseRequest, headers: Mapping[str, str]) -> None:
        """Answers `Expect: 100-continue`, and only when the body would be taken."""
        expected = headers.get("expect")
        if expected is None:
            return
        if expected.lower() != "100-continue":
            raise Refused("A321")
        length = request.content_length
        if length is not None and length > self._limits.size:
            raise Refused("A313", f"at most {self._limits.size} bytes are taken")
        if request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def connection(request: web.BaseRequest) -> Connection:
    """Our connection that the request came on."""
    return cast("Connection", request.protocol)


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


def once_key(headers: Mapping[str, str]) -> str | None:
    """The sender's Idempotency-Key, with or without the quotes that its draft asks for. Raises Refused."""
    given = headers.get("idempotency-key")
    if given is None:
        return None
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


def check_options(options: HttpSource) -> None:
    """Everything about the options that can be wrong before the first request."""
    pattern = parse_pattern(options.http)
    if options.verify is not None and set(pattern.methods) & {"GET", "HEAD"}:
        raise OptionError("verify", "a GET has no body to sign", "leave GET and HEAD out")


def claims(options: HttpSource) -> list[str]:
    """Each method of this path on this listener; the names of parameters make no difference."""
    pattern = parse_pattern(options.http)
    path = "/".join("{}" if part is None else part for part in pattern.shape)
    return [f"{method} /{path} on listener {options.listener}" for method in pattern.methods]


@asynccontextmanager
async def open_source(options: HttpSource, context: Context) -> AsyncIterator[HttpRoute]:
    check_options(options)
    pattern = parse_pattern(options.http)
    settings = context.listener(options.listener)
    opener = partial(open_listener, settings, context.folder, context.clock)
    listener: Listener = await context.shared(("http", options.listener), opener)
    route = HttpRoute(options, context, listener)
    listener.add(pattern, route.handle)
    try:
        yield route
    finally:
        listener.remove(route.handle)


SOURCE: Final = Component(
    kind="source",
    name="http",
    about="Takes messages over HTTP; answers when they are on disk",
    options=HttpSource,
    main="http",
    open=open_source,
    check=check_options,
    claims=claims,
    example="""
esb = 1

[defaults]
owner = "integration@example.org"

[target.out]
memory = "out"

[route.orders]
from = { http = "POST /orders/{plant}" }
to = ["out"]
""",
)
