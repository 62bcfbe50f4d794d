"""The admin API as one list: each door's method, path, question and answer. HTTP, the OpenAPI document and the shell
all come from it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from esb.admin.boxes import Boxes
from esb.admin.control import Control
from esb.admin.question import KINDS

Answer = Callable[[Control, Mapping[str, Any]], Awaitable[Any]]


class Parameter(Struct, frozen=True):
    """One part of a question: where it stands (path, query or body), its type in JSON Schema, whether it must be."""

    name: str
    place: str
    schema: Mapping[str, Any]
    required: bool = False


class Door(Struct, frozen=True, kw_only=True):
    """One question of the admin API."""

    method: str
    path: str
    about: str
    answer: Answer
    parameters: tuple[Parameter, ...] = ()


_TEXT: Final = {"type": "string"}
_TIME: Final = {"type": "string"}
_COUNT: Final = {"type": "integer", "minimum": 1, "maximum": 10000}
_KIND: Final = Parameter("kind", "path", {"type": "string", "enum": list(KINDS)}, True)
_LIMIT: Final = Parameter("limit", "query", _COUNT)
_WHOLE: Final = Parameter("body", "query", {"type": "string", "enum": ["1"]})
_ID: Final = Parameter("id", "path", _TEXT, True)


def _boxed(verb: Callable[[Boxes, Mapping[str, Any]], Awaitable[Any]]) -> Answer:
    """A verb of the boxes as an answer of the control."""
    return lambda control, ask: verb(control.boxes, ask)


def _in_body(**schemas: tuple[Mapping[str, Any], bool]) -> tuple[Parameter, ...]:
    return tuple(Parameter(name, "body", schema, required) for name, (schema, required) in schemas.items())


_WHO: Final[Mapping[str, tuple[Mapping[str, Any], bool]]] = {"actor": (_TEXT, False), "reason": (_TEXT, False)}
_WHICH: Final[Mapping[str, tuple[Mapping[str, Any], bool]]] = {
    "ids": ({"type": "array", "items": _TEXT}, False),
    "group": (_TEXT, False),
    "all": ({"type": "boolean"}, False),
    "since": (_TIME, False),
    "until": (_TIME, False),
    "target": (_TEXT, False),
}
_SOME: Final = tuple(Parameter(name, "query", schema) for name, (schema, _) in _WHICH.items() if name != "all")
_SCOPE: Final[Mapping[str, tuple[Mapping[str, Any], bool]]] = {
    "scope": ({"type": "string", "enum": ["target", "route"]}, True),
    "name": (_TEXT, False),
}
_RESUMED: Final[Mapping[str, tuple[Mapping[str, Any], bool]]] = {
    **_SCOPE,
    "scope": ({"type": "string", "enum": ["target", "route", "clock", "bus"]}, True),
}

DOORS: Final[tuple[Door, ...]] = (
    Door(method="GET", path="/health", about="Whether the process lives", answer=Control.health),
    Door(method="GET", path="/ready", about="Whether everything of the table runs", answer=Control.ready),
    Door(method="GET", path="/status", about="Routes, targets, what waits, what is wrong", answer=Control.status),
    Door(method="GET", path="/account", about="The books, recounted", answer=Control.account),
    Door(
        method="GET",
        path="/messages",
        about="The newest messages",
        answer=Control.messages,
        parameters=(
            Parameter("route", "query", _TEXT),
            Parameter("state", "query", _TEXT),
            Parameter("since", "query", _TIME),
            Parameter("key", "query", _TEXT),
            Parameter("after", "query", {"type": "integer"}),
            _LIMIT,
        ),
    ),
    Door(
        method="GET",
        path="/messages/{id}",
        about="One message and all that became of it",
        answer=Control.message,
        parameters=(_ID, _WHOLE),
    ),
    Door(
        method="GET",
        path="/waiting",
        about="Deliveries that wait",
        answer=Control.waiting,
        parameters=(Parameter("target", "query", _TEXT), Parameter("route", "query", _TEXT), _LIMIT),
    ),
    Door(method="GET", path="/actions", about="What operators did", answer=Control.actions, parameters=(_LIMIT,)),
    Door(
        method="GET",
        path="/held/{kind}",
        about="Dead, parked or quarantined things by reason",
        answer=_boxed(Boxes.list),
        parameters=(_KIND, _LIMIT, *_SOME),
    ),
    Door(
        method="GET",
        path="/held/{kind}/show",
        about="Held things with all that is known of each, a page at a time",
        answer=_boxed(Boxes.show),
        parameters=(_KIND, _LIMIT, *_SOME, Parameter("after", "query", _TEXT), _WHOLE),
    ),
    Door(
        method="POST",
        path="/held/{kind}/release",
        about="Held things go on",
        answer=_boxed(Boxes.release),
        parameters=(_KIND, *_in_body(**_WHICH, **_WHO, delivered=({"type": "boolean"}, False))),
    ),
    Door(
        method="POST",
        path="/held/{kind}/discard",
        about="Held things are let go, with the reason",
        answer=_boxed(Boxes.discard),
        parameters=(_KIND, *_in_body(**_WHICH, **{**_WHO, "reason": (_TEXT, True)})),
    ),
    Door(
        method="POST",
        path="/held/{kind}/edit",
        about="Other bytes (base64) for a held thing; the original stays",
        answer=_boxed(Boxes.edit),
        parameters=(_KIND, *_in_body(id=(_TEXT, True), body=({"type": "string", "format": "byte"}, True), **_WHO)),
    ),
    Door(
        method="POST",
        path="/now",
        about="Clears a target's retry clocks",
        answer=Control.now,
        parameters=_in_body(target=(_TEXT, True), **_WHO),
    ),
    Door(
        method="POST",
        path="/reclaim",
        about="What the broker had for a target is due again",
        answer=Control.reclaim,
        parameters=_in_body(target=(_TEXT, True), **_WHO),
    ),
    Door(
        method="POST",
        path="/pause",
        about="Stops a target or a route, with the reason",
        answer=Control.pause,
        parameters=_in_body(**_SCOPE, until=(_TIME, False), **{**_WHO, "reason": (_TEXT, True)}),
    ),
    Door(
        method="POST",
        path="/resume",
        about="Ends a pause",
        answer=Control.resume,
        parameters=_in_body(**_RESUMED, **_WHO),
    ),
    Door(
        method="POST",
        path="/backup",
        about="Copies the store, as of one moment, into a folder of the bus's machine that is made",
        answer=Control.backup,
        parameters=_in_body(place=(_TEXT, True), **_WHO),
    ),
    Door(
        method="POST",
        path="/probe",
        about="Reaches a target and logs in; sends nothing",
        answer=Control.probe,
        parameters=_in_body(target=(_TEXT, True)),
    ),
    Door(
        method="POST",
        path="/inject",
        about="Hands a message (base64) to a route",
        answer=Control.inject,
        parameters=_in_body(
            route=(_TEXT, True),
            body=({"type": "string", "format": "byte"}, True),
            headers=({"type": "object", "additionalProperties": _TEXT}, False),
            name=(_TEXT, False),
        ),
    ),
    Door(method="POST", path="/drain", about="Closes the sources, waits for what is under way", answer=Control.drain),
)


def document(name: str, version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the list."""
    paths: dict[str, dict[str, Any]] = {}
    for door in DOORS:
        paths.setdefault(door.path, {})[door.method.lower()] = _operation(door)
    return {
        "openapi": "3.1.0",
        "info": {"title": f"esb {name}: the control bus", "version": version},
        "paths": paths,
        "components": {"schemas": {"Problem": _PROBLEM}},
    }


_PROBLEM: Final = {
    "type": "object",
    "required": ["title", "status", "code"],
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "code": _TEXT,
        "detail": _TEXT,
    },
}


def _operation(door: Door) -> dict[str, Any]:
    problem = {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    answers = {"200": {"description": "answered", "content": {"application/json": {"schema": {"type": "object"}}}}}
    for status, text in (
        ("400", "not a question"),
        ("404", "no such thing"),
        ("409", "cannot be done"),
        ("503", "not now"),
    ):
        answers[status] = {"description": text, **problem}
    made: dict[str, Any] = {
        "summary": door.about,
        "operationId": "_".join([door.method.lower(), *re.findall(r"\w+", door.path)]),
        "parameters": [
            {"name": item.name, "in": item.place, "required": item.required, "schema": dict(item.schema)}
            for item in door.parameters
            if item.place != "body"
        ],
        "responses": answers,
    }
    fields = [item for item in door.parameters if item.place == "body"]
    if door.method == "POST":
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {item.name: dict(item.schema) for item in fields},
            "required": [item.name for item in fields if item.required],
            "additionalProperties": False,
        }
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
        made["responses"]["415"] = {"description": "not JSON", **problem}
    return made
