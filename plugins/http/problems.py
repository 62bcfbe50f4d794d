"""Answers that say no: problem+json (RFC 9457) with our codes, and nothing of our inside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from esb import Busy, Closing, Conflict, Invalid, MessageError, Problem, StoreError

_json: Final = msgspec.json.Encoder().encode
MEDIA: Final = "application/problem+json"
RETRY_AFTER: Final = 5

TITLES: Final[Mapping[str, tuple[int, str]]] = {
    "A310": (404, "no route has this path"),
    "A311": (405, "this path has other methods"),
    "A312": (401, "no valid key"),
    "A313": (413, "the body is over the limit"),
    "A314": (431, "the headers are over the limit"),
    "A315": (415, "not in this encoding"),
    "A316": (400, "not a well-formed request"),
    "A317": (408, "the request came too slowly"),
    "A318": (401, "the signature is not valid"),
    "A319": (500, "an error of the bus, not of the request"),
    "A320": (503, "too many connections"),
    "A321": (417, "this expectation cannot be met"),
}
"""Our codes at the door, each with its status and title; details go beside them."""


def problem(
    code: str, status: int, title: str, detail: str = "", errors: tuple[Problem, ...] = (), **more: Any
) -> bytes:
    said: dict[str, Any] = {"type": f"urn:esb:{code}", "title": title, "status": status, "code": code, **more}
    if detail and detail != title:
        said["detail"] = detail
    if errors:
        said["errors"] = [_finding(error) for error in errors]
    return _json(said)


def _finding(error: Problem) -> dict[str, Any]:
    found: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.place:
        found["path"] = error.place
    if error.hint:
        found["hint"] = error.hint
    if error.line is not None:
        found["line"] = error.line
    return found


class Refused(Exception):
    """The door itself says no: before anything was accepted, with one of our codes."""

    def __init__(self, code: str, detail: str = "", *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail or TITLES[code][1])
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        status, title = TITLES[self.code]
        return respond(status, problem(self.code, status, title, self.detail), MEDIA, self.headers)


class Broken(Invalid):
    """The body ends in an error while `accept` reads it: nothing is stored."""

    def __init__(self, refused: Refused) -> None:
        status, title = TITLES[refused.code]
        super().__init__(refused.detail or title, code=refused.code, status=status)
        self.refused = refused


def respond(status: int, body: bytes, media: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer that does not name what serves it."""
    return web.Response(status=status, body=body, headers={"Content-Type": media, "Server": "esb", **(headers or {})})


def refuse(error: Exception) -> web.Response:
    """What a sender hears of an error that `accept` raised. A 5xx means: unknown to you, send it again."""
    match error:
        case Broken():
            return error.refused.response()
        case Conflict():
            status, title, code = 409, "this key was used before with another payload", error.code
        case Invalid():
            status, title, code = error.status, "the message is refused", error.code
        case MessageError():
            status, title, code = 422, "the message is refused", error.code
        case Busy():
            after = str(max(1, math.ceil(error.retry_after)))
            said = problem(error.code, 503, "cannot take more now", str(error))
            return respond(503, said, MEDIA, {"Retry-After": after})
        case Closing():
            said = problem(error.code, 503, "the bus is stopping")
            return respond(503, said, MEDIA, {"Retry-After": str(RETRY_AFTER)})
        case StoreError():
            said = problem(error.code, 503, "cannot store now; nothing is promised")
            return respond(503, said, MEDIA, {"Retry-After": str(RETRY_AFTER)})
        case _:
            return Refused("A319").response()
    return respond(status, problem(code, status, title, str(error), error.errors), MEDIA)


def raw(code: str) -> bytes:
    """The whole answer as bytes, for a connection on which no request can be read any more."""
    status, title = TITLES[code]
    body = problem(code, status, title)
    head = f"HTTP/1.1 {status} {title}\r\nServer: esb\r\nContent-Type: {MEDIA}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body
