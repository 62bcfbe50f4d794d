"""The control bus over HTTP: a Unix socket of mode 0600, or TCP with a key; nothing a browser can be tricked into."""

from __future__ import annotations

import hmac
import json
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from esb.admin.access import access_to
from esb.admin.control import Control
from esb.admin.doors import DOORS, Door, Parameter, document
from esb.admin.metrics import Metrics
from esb.admin.pages import status_page
from esb.admin.question import KINDS, BadRequest, NeedsBus, NoSuchName, NotFound
from esb.bus import Bus
from esb.errors import Busy, Closing, Conflict, EsbError, Invalid, MessageError, StoreError, describe
from esb.table.model import Table

log = logging.getLogger(__name__)

MAX_BODY = 64_000_000
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
}


class Api:
    """The web application of one running bus."""

    def __init__(
        self, bus: Bus, metrics: Metrics, *, key: str | None = None, hosts: frozenset[str] = frozenset()
    ) -> None:
        self._name = bus.table.bus.name
        self._metrics = metrics
        self._key = key
        self._hosts = hosts
        self._control = control_of(bus)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._guard])
        for door in DOORS:
            app.router.add_route(door.method, door.path, self._handler(door))
        app.router.add_get("/metrics", self._figures)
        app.router.add_get("/openapi.json", self._document)
        app.router.add_get("/style.css", self._style)
        app.router.add_get("/", self._page)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Key, host, content type; every error as problem+json, none with our internals."""
        try:
            self._admit(request)
            answer: web.StreamResponse = await handler(request)
        except web.HTTPException as error:
            answer = problem(error.status, f"C{error.status}", error.reason)
            if "Allow" in error.headers:
                answer.headers["Allow"] = error.headers["Allow"]
        except EsbError as error:
            answer = _problem_of(error)
        except Exception:
            log.exception("the admin API failed at %s", request.path)
            answer = problem(500, "C500", "the admin API failed; see the log")
        answer.headers.update(_HEADERS)
        return answer

    def _admit(self, request: web.Request) -> None:
        if self._hosts and request.host.rpartition(":")[0] not in self._hosts:
            raise web.HTTPMisdirectedRequest
        if self._key is not None:
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self._key.encode()):
                raise web.HTTPUnauthorized
        if request.method == "POST" and request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType

    def _handler(self, door: Door) -> Any:
        async def handle(request: web.Request) -> web.Response:
            answer = await door.answer(self._control, await question(door, request))
            status = 503 if door.path == "/ready" and answer["state"] != "ready" else 200
            return web.Response(
                status=status, body=msgspec.json.encode(answer, enc_hook=str), content_type="application/json"
            )

        return handle

    async def _figures(self, request: web.Request) -> web.Response:
        body = self._metrics.text(await self._control.status({}))
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _document(self, request: web.Request) -> web.Response:
        return web.json_response(document(self._name, version("esb")))

    async def _style(self, request: web.Request) -> web.Response:
        text = Path(__file__).with_name("templates").joinpath("style.css").read_text()
        return web.Response(text=text, content_type="text/css")

    async def _page(self, request: web.Request) -> web.Response:
        return web.Response(text=await page(self._control), content_type="text/html")


async def page(control: Control, *, inline: bool = False) -> str:
    """The status page of a bus."""
    held: dict[str, Any] = {kind: await control.boxes.list({"kind": kind, "limit": 50}) for kind in KINDS}
    return status_page(await control.status({}), await control.account({}), held, inline=inline)


def control_of(bus: Bus) -> Control:
    """The control of a running bus."""
    return Control(bus.table, access_to(bus.store), bus)


async def question(door: Door, request: web.Request) -> Mapping[str, Any]:
    """What was asked, each part checked; raises BadRequest."""
    body: Any = {}
    if request.method == "POST":
        try:
            body = json.loads(await request.text() or "{}")
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the body is no JSON: {describe(error)[:80]}") from None
        if not isinstance(body, dict):
            raise BadRequest("the body is no JSON object")
        extra = set(body) - {item.name for item in door.parameters if item.place == "body"}
        if extra:
            raise BadRequest(f"unknown: {', '.join(sorted(map(repr, extra)))[:80]}")
    places: dict[str, Mapping[str, Any]] = {"path": request.match_info, "query": _query(door, request), "body": body}
    return {
        item.name: _checked(item, places[item.place][item.name]) for item in door.parameters
        if item.name in places[item.place] or _required(item)
    }  # fmt: skip


def _query(door: Door, request: web.Request) -> Mapping[str, Any]:
    """The query; a list is a name that stands there once for each of its items."""
    lists = {item.name for item in door.parameters if item.place == "query" and item.schema["type"] == "array"}
    return {name: request.query.getall(name) if name in lists else value for name, value in request.query.items()}


def _required(item: Parameter) -> bool:
    if item.required:
        raise BadRequest(f"{item.name} is missing")
    return False


_TYPES: Mapping[str, type] = {"string": str, "boolean": bool, "array": list, "object": dict}
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def _checked(item: Parameter, value: Any) -> Any:
    """A value against its schema, as far as the schemas here go."""
    kind = str(item.schema["type"])
    if kind == "integer" and item.place == "query":
        if not re.fullmatch(r"-?\d{1,18}", str(value), re.ASCII):
            raise BadRequest(f"{item.name} is no whole number")
        return int(value)
    if not isinstance(value, _TYPES.get(kind, object)):
        raise BadRequest(f"{item.name} is no {kind}")
    given: Any = value
    inner = item.schema.get("items") or item.schema.get("additionalProperties")
    parts = given if kind == "array" else given.values() if kind == "object" else ()
    if inner and not all(isinstance(part, str) for part in parts):
        raise BadRequest(f"{item.name} holds something that is no text")
    if "enum" in item.schema and value not in item.schema["enum"]:
        raise NotFound(f"{item.name} is none of {', '.join(item.schema['enum'])}")
    if item.schema.get("format") == "byte" and not _BASE64.fullmatch(given):
        raise BadRequest(f"{item.name} is no base64")
    return value


_STATUSES: Mapping[type[EsbError], int] = {
    BadRequest: 400, NotFound: 404, NoSuchName: 404, NeedsBus: 409, Conflict: 409, Busy: 503, Closing: 503,
}  # fmt: skip


def _problem_of(error: EsbError) -> web.Response:
    status = _STATUSES.get(type(error))
    if status is None:
        status = error.status if isinstance(error, Invalid) else 422 if isinstance(error, MessageError) else 503
    if isinstance(error, StoreError):
        status = 409
    return problem(status, error.code, str(error))


def problem(status: int, code: str, detail: str) -> web.Response:
    """RFC 9457."""
    body = {"type": f"urn:esb:{code}", "title": detail[:200], "status": status, "code": code}
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/problem+json")


def serving(bus: Bus, metrics: Metrics) -> AbstractAsyncContextManager[str]:
    """The admin API for as long as the block; gives its address."""
    key = None if bus.table.bus.admin_key is None else bus.services.secret(bus.table.bus.admin_key)
    return served(bus.table, key, lambda hosts: Api(bus, metrics, key=key, hosts=hosts).application())


@asynccontextmanager
async def served(
    table: Table, key: str | None, application: Callable[[frozenset[str]], web.Application]
) -> AsyncIterator[str]:
    """An application at the admin address of a table. A socket left by a killed process is replaced."""
    address = table.bus.admin or f"unix:{table.data / 'admin.sock'}"
    path = address.removeprefix("unix:") if address.startswith("unix:") else None
    if path is None and key is None:
        raise StoreError(f"the admin API on {address} needs a key: [bus] admin_key")
    hosts = (
        frozenset() if path is not None else frozenset({"127.0.0.1", "localhost", "[::1]", address.rpartition(":")[0]})
    )
    runner = web.AppRunner(application(hosts), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await _listen(runner, address, table.folder / path if path is not None else None)
        yield address
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, address: str, path: Path | None) -> None:
    if path is None:
        host, _, port = address.rpartition(":")
        await web.TCPSite(runner, host, int(port)).start()
        return
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        await web.UnixSite(runner, str(path)).start()
    finally:
        os.umask(before)
