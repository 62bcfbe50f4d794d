"""The source `http`: what the table says of it; the serving itself is in serving.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module
from typing import Any, Final

from esb_plugins.http.options import HttpSource
from esb_plugins.http.router import parse_pattern

from esb import Component, Context, OptionError, Source


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
async def open_source(options: HttpSource, context: Context) -> AsyncIterator[Source]:
    check_options(options)
    pattern = parse_pattern(options.http)
    listener = await _listener(options, context)
    route = import_module("esb_plugins.http.serving").HttpRoute(options, context, listener)
    listener.add(pattern, route.handle)
    listener.tellers[context.name] = route.whereabouts
    try:
        yield route
    finally:
        listener.retire(pattern, route.handle)


async def _listener(options: HttpSource, context: Context) -> Any:
    """The one listener of all routes on this port; raises OptionError where the table has none of this name."""
    settings = context.listener(options.listener)
    # A server is loaded when one is opened: checking a table takes no time for it.
    listening = import_module("esb_plugins.http.listener")
    opener = partial(listening.open_listener, settings, context.folder, context.clock)
    return await context.shared(("http", options.listener), opener)


async def answer_closed(options: HttpSource, context: Context) -> None:
    """While a route is paused its path answers 503 with Retry-After; raises OSError when the port cannot be had."""
    listener = await _listener(options, context)
    listener.close_path(parse_pattern(options.http))
    await listener.start()


SOURCE: Final = Component(
    kind="source",
    name="http",
    about="Takes messages over HTTP; answers when they are on disk",
    options=HttpSource,
    main="http",
    open=open_source,
    check=check_options,
    claims=claims,
    answers=True,
    closed=answer_closed,
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
