"""The http target: one call a delivery; the answer decides its outcome."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from esb_plugins.http.address import origin
from esb_plugins.http.client import Client, Settings, post_form
from esb_plugins.http.outcome import Class, Judge
from msgspec import Struct

from esb import (
    Auth,
    Component,
    Context,
    Delivery,
    Duration,
    Expression,
    HeaderTemplate,
    OptionError,
    Receipt,
    Rejected,
    Secret,
    Size,
    UrlTemplate,
)

STREAMED: Final = 65_536
_CALL: Final = re.compile(r"([A-Z]+) +(\S.*)", re.DOTALL)
_ROOT: Final = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_BODILESS: Final = frozenset({"GET", "DELETE", "HEAD"})
_METHODS: Final = ("POST", "PUT", "PATCH", *sorted(_BODILESS))
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "expect", "keep-alive", "te"})


class HttpTarget(Struct, frozen=True, forbid_unknown_fields=True):
    """`http` is method and URL; values in it are percent-encoded. `ok` decides over `status` and `reply`; `classes` and
    `auth_status` say what a status means here; `hosts` lists the hosts that a URL with a variable host may have."""

    http: UrlTemplate
    headers: dict[str, HeaderTemplate] = {}
    ok: Expression | None = None
    classes: dict[str, Class] = {}
    auth_status: tuple[int, ...] = (401,)
    hosts: tuple[str, ...] = ()
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    proxy: str | None = None
    proxy_login: Secret | None = None
    connect: Duration = Duration(10)
    max_reply: Size = Size(1_000_000)


class HttpCalls:
    """Delivers by calling. The core cuts a delivery off at the target's timeout; the client's own is a moment shorter,
    so that it can still tell what was sent."""

    def __init__(self, options: HttpTarget, context: Context, client: Client, judge: Judge) -> None:
        self._options = options
        self._context = context
        self._client = client
        self._judge = judge
        self._seconds = max(context.timeout * 0.95, context.timeout - 0.5)
        self._limit = int(options.max_reply)
        ours = (context.id_header or "").lower()
        self._given = {name.lower(): name for name in options.headers if name.lower() != ours}

    async def deliver(self, delivery: Delivery) -> Receipt:
        """Returns when the answer means "delivered"; raises the class of any other outcome."""
        method, url = split_call(delivery.values.get("http", self._options.http))
        if self._options.hosts:
            check_host(url, self._options.hosts)
        headers = self._headers(delivery, method)
        seconds = self._seconds
        auth = self._context.auth
        if auth is not None:
            seconds -= await self._log_in(auth, headers)
        body: bytes | AsyncIterator[bytes] = b""
        size = 0
        if method not in _BODILESS:
            size = delivery.size
            body = delivery.chunks() if size > STREAMED else await delivery.body()
        answer = await self._client.send(method, url, headers, body, size=size, seconds=seconds, limit=self._limit)
        return self._judge.outcome(answer, auth)

    def _headers(self, delivery: Delivery, method: str) -> dict[str, str]:
        headers: dict[str, str] = {}
        if delivery.media_type and method not in _BODILESS and "content-type" not in self._given:
            headers["Content-Type"] = delivery.media_type
        for name in self._given.values():
            headers[name] = delivery.values.get(f"headers.{name}", self._options.headers[name])
        if self._context.id_header:
            headers[self._context.id_header] = delivery.id
        headers["esb-hops"] = str(delivery.hops + 1)
        return headers

    async def _log_in(self, auth: Auth, headers: dict[str, str]) -> float:
        """Adds the login's headers, in place of what the table gave under these names; says how long it took."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for name, value in (await auth.headers()).items():
            headers.pop(self._given.get(name.lower(), ""), None)
            headers[name] = value
        return loop.time() - begun

    async def reach(self) -> str:
        """Connects and logs in; says what was reached. Raises DeliveryError."""
        url = split_call(self._options.http)[1]
        root = _ROOT.match(url)
        if root is None or "{" in root[0]:
            return "the host comes from the message; nothing was tried"
        await self._client.reach(root[0], self._seconds)
        if self._context.auth is not None:
            await self._context.auth.headers()
        return f"{root[0]} takes connections"


def split_call(text: str) -> tuple[str, str]:
    """`POST https://...` as method and URL; raises Rejected when a template made something else of it."""
    method, space, url = text.partition(" ")
    if not space:
        raise Rejected(f'"{text[:80]}" is no method and URL', code="D442")
    return method, url.strip()


def check_host(url: str, hosts: tuple[str, ...]) -> None:
    """Raises Rejected unless the URL's host is listed, as it stands or under `*.domain`: a message must not choose
    which machine inside our network is called."""
    root = _ROOT.match(url)
    try:
        host = origin(root[0]).host.lower() if root else ""
    except ValueError:
        host = ""
    for allowed in hosts:
        if host == allowed.lower() or (allowed.startswith("*.") and host.endswith(allowed[1:].lower())):
            return
    raise Rejected(f'the host "{host[:80]}" is not in `hosts`', code="D444")


def check_options(options: HttpTarget) -> None:
    """Everything about the options that can be wrong before the first message."""
    found = _CALL.fullmatch(options.http)
    if found is None or found[1] not in _METHODS:
        raise OptionError("http", f'"{options.http}" does not begin with a method', 'write "POST https://..."')
    url = found[2]
    root = _ROOT.match(url)
    if root is None:
        raise OptionError("http", "the URL begins with http:// or https://", f'write "{found[1]} https://..."')
    if "{" in root[0] and not options.hosts:
        raise OptionError("http", "the host comes from the message", 'list what it may be: hosts = ["*.example.org"]')
    if "{" not in root[0]:
        try:
            origin(root[0])
        except ValueError as error:
            raise OptionError("http", str(error)) from error
    for name in options.headers:
        if name.lower() in _OURS or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise OptionError("headers", f'"{name}" is not a header that a target may set')
    for status in options.classes:
        if not re.fullmatch(r"[1-5][0-9][0-9]", status):
            raise OptionError("classes", f'"{status}" is not a status', 'write { 409 = "delivered" }')
    if options.proxy is not None:
        try:
            origin(options.proxy)
        except ValueError as error:
            raise OptionError("proxy", str(error), 'write "http://proxy:3128"') from error
    if (options.cert is None) != (options.key is None):
        raise OptionError("cert", "cert and key go together")


@asynccontextmanager
async def open_target(options: HttpTarget, context: Context) -> AsyncIterator[HttpCalls]:
    check_options(options)
    ok = None
    if options.ok is not None:
        try:
            ok = context.expression(options.ok)
        except OptionError as error:
            problem = error.problems[0]
            raise OptionError("ok", problem.message, problem.hint, code=problem.code, offset=error.offset) from error
    codecs = {name: context.codec(name) for name in ("json", "xml")} if ok is not None and "reply" in ok.text else {}
    judge = Judge(options.classes, options.auth_status, ok, codecs, context.clock)
    files = (options.ca, options.cert, options.key)
    ca, cert, key = (None if path is None else str(context.folder / path) for path in files)
    login = None if options.proxy_login is None else partial(context.secret, options.proxy_login)
    settings = Settings(
        ca=ca, cert=cert, key=key, proxy=options.proxy, proxy_login=login, connect=float(options.connect)
    )
    async with Client(settings) as client:
        if context.auth is not None:
            context.auth.use(partial(post_form, seconds=min(10.0, context.timeout / 2)))
        yield HttpCalls(options, context, client, judge)


async def probe(options: HttpTarget, context: Context) -> str:
    """Connects, TLS included, and logs in where a token is needed; sends no request to the target."""
    async with open_target(options, context) as target:
        return await target.reach()


TARGET: Final = Component(
    kind="target",
    name="http",
    about="Calls an HTTP address with each delivery",
    options=HttpTarget,
    main="http",
    open=open_target,
    idempotent="by id",
    probe=probe,
    check=check_options,
    example="""
esb = 1

[defaults]
owner = "integration@example.org"

[target.erp]
http = "POST https://erp.example.org/api/orders/{body.id}"
headers = { X-Order = "{body.id}" }
id_header = "Idempotency-Key"
ok = "status in [200, 201, 409]"

[route.orders]
from = { memory = "orders" }
do = [{ read = "json" }]
to = ["erp"]
""",
)
