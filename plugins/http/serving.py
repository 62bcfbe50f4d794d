"""One route on a listener: a request becomes a message, what `accept` says becomes the answer."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Final, cast

import msgspec
from aiohttp import web
from esb_plugins.http.body import BodyLimits, read, read_all
from esb_plugins.http.listener import Listener
from esb_plugins.http.options import HttpSource, Verify
from esb_plugins.http.problems import Refused, refuse, respond
from esb_plugins.http.request import check_charset, lowered, once_key, query, writable
from esb_plugins.http.server import Connection
from esb_plugins.http.verify import verify

from esb import (
    Accept,
    Accepted,
    Auth,
    Busy,
    Closing,
    Context,
    EsbError,
    Incoming,
    Unauthorized,
)

log = logging.getLogger(__name__)

AGAIN: Final = 5.0
"""Seconds until a port that could not be had is tried again."""

LOOK: Final = 3600.0
"""Seconds between two looks at the certificate's end."""

UID: Final = 36
"""Characters of a message's id."""

_json: Final = msgspec.json.Encoder().encode
_LEFT_OUT: Final = frozenset(
    {
        "authorization", "proxy-authorization", "x-api-key", "connection", "keep-alive", "proxy-connection", "te",
        "trailer", "transfer-encoding", "upgrade", "content-length", "content-encoding", "expect",
    }
)  # fmt: skip
"""Headers that are between the sender and us: logins and framing."""


class HttpRoute:
    """One route on a listener. Its answers: what `accept` says, in HTTP's words; never a 5xx after the commit."""

    def __init__(self, options: HttpSource, context: Context, listener: Listener) -> None:
        self._options = options
        self._context = context
        self._listener = listener
        self._accept: Accept | None = None
        self._name = context.name.removeprefix("route.").partition(".")[0]
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
            return self._answer(await self._offer(incoming, accept))
        except Refused as refused:
            response = refused.response()
        except Exception as error:
            response = refuse(error)
            if response.status == 500:
                log.exception("accepting a request failed")
        if self._accept is None or not request.content.is_eof():
            response.force_close()
        return response

    async def whereabouts(self, request: web.BaseRequest, uid: str) -> web.Response | None:
        """How a message of this route stands, for the caller that sent it; None for anyone else, and another's
        message (R6)."""
        try:
            caller = self._caller(lowered(request))
        except Refused:
            return None
        found = await self._context.whereabouts(uid) if len(uid) == UID else None
        if found is None or found.caller != caller or found.route != self._name:
            return None
        return respond(200, _json({"id": uid, "state": found.state}), "application/json")

    async def _offer(self, incoming: Incoming, accept: Accept) -> Accepted:
        body = incoming.body
        if not isinstance(body, AsyncGenerator):
            return await accept(incoming)
        async with aclosing(body):
            return await accept(incoming)

    def _answer(self, accepted: Accepted) -> web.Response:
        """A reply that HTTP cannot carry is no reason for a 5xx: the message is on disk."""
        reply = accepted.reply
        if reply is not None:
            if writable(reply):
                return respond(reply.status, reply.body, reply.media_type, reply.headers)
            log.error("the reply of %s cannot be written over HTTP", accepted.id)
        said = {"id": accepted.id, "duplicate": accepted.duplicate}
        return respond(self._stored, _json(said), "application/json")

    async def _incoming(self, request: web.BaseRequest, parameters: dict[str, str]) -> Incoming:
        """The request as a message. What can be refused is refused before the body is asked for."""
        headers = lowered(request)
        caller = self._caller(headers)
        once = once_key(request, headers)
        media = headers.get("content-type", "")
        check_charset(media, self._options.charset or self._context.encoding)
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
        signed = verify(rule, self._secrets(rule), headers, body, self._context.clock.now())
        return body, once or signed

    def _secrets(self, rule: Verify) -> list[str]:
        """While a secret cannot be read nobody is let in unchecked, and nobody's signature is called wrong."""
        try:
            return [self._context.secret(ref) for ref in (rule.hmac, rule.previous) if ref is not None]
        except EsbError as error:
            self._context.health("degraded", str(error))
            raise Busy("signatures cannot be checked now") from error

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
