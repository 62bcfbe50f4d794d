"""The floor under HTTP in to HTTP out: our listener's server, a parse, durable rows by group commit, a client, settle;
and nothing else. What a bus adds to this is what it costs.

    python benchmarks/bare_http.py --sink http://127.0.0.1:9000/orders [--port 0] [--client ours|aiohttp|pyreqwest]

Prints `ready PORT` when it listens. POST /orders takes an XML order; GET /counts answers {"accepted", "settled"}.
SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
from decimal import Decimal
from pathlib import Path

import msgspec
import uvloop
from aiohttp import web
from esb_plugins.http.body import BodyLimits, read
from esb_plugins.http.problems import respond
from esb_plugins.http.server import Limits, Server
from esb_plugins.json import JsonCodec
from esb_plugins.json import Options as JsonOptions
from esb_plugins.xml import Options as XmlOptions
from esb_plugins.xml import XmlCodec
from group_commit import GroupCommit
from httpclient import CLIENTS, Post

WORKERS = 64
XML = XmlCodec(XmlOptions(arrays=["Order.Lines.Line"]), {})
JSON = JsonCodec(JsonOptions())
_json = msgspec.json.Encoder().encode
_BODY = BodyLimits(10_000_000, 30.0)


class Bare:
    """Accepts, keeps, delivers, settles. 202 is answered when the rows are on disk."""

    def __init__(self, store: GroupCommit, post: Post) -> None:
        self._store = store
        self._post = post
        self._due: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self._number = 0
        self.accepted = self.settled = 0

    async def handle(self, request: web.BaseRequest) -> web.Response:
        if request.method == "GET":
            return respond(200, _json({"accepted": self.accepted, "settled": self.settled}), "application/json")
        body = await read(request, _BODY)
        assert isinstance(body, bytes)
        made = transform(body)
        self._number += 1
        number = self._number
        await self._store.write("insert", (number, f"id-{number}", body), (number, made))
        self.accepted += 1
        self._due.put_nowait((number, made))
        return respond(202, _json({"id": f"id-{number}", "duplicate": False}), "application/json")

    async def deliver(self) -> None:
        while True:
            number, body = await self._due.get()
            await self._post(body, f"id-{number}.sink")
            await self._store.write("settle", (number,), (number,))
            self.settled += 1


def transform(body: bytes) -> bytes:
    """The same parse and the same encoder as a route's `read` and `write`, and one decision in plain Python."""
    tree = XML.decode(body).tree
    order = tree["Order"]
    if Decimal(order["Total"]) >= 10_000:
        order["Case"] = "big"
    elif order["Country"] in ("DE", "AT", "CH"):
        order["Case"] = "local"
    else:
        order["Case"] = "rest"
    return JSON.encode(tree)


async def serve(port: int, sink: str, client: str, folder: Path) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    async with GroupCommit(folder / "bare.db") as store, CLIENTS[client](sink) as post:
        bare = Bare(store, post)
        server = Server(bare.handle, Limits(max_connections=4000))
        bound = await loop.create_server(server, "127.0.0.1", port, backlog=512)
        workers = [asyncio.ensure_future(bare.deliver()) for _ in range(WORKERS)]
        print(f"ready {bound.sockets[0].getsockname()[1]}", flush=True)
        await stop.wait()
        bound.close()
        await server.shutdown(1.0)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sink", required=True)
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--client", choices=sorted(CLIENTS), default="ours")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        uvloop.run(serve(given.port, given.sink, given.client, Path(folder)))


if __name__ == "__main__":
    main()
