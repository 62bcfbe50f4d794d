"""Two small HTTP targets for the demo: a shop that takes orders and remembers them by delivery id, and a ledger.

usage: targets.py SHOP_PORT LEDGER_PORT [HOST]   (a port 0: not that one; GET /taken answers what was taken; the shop
says 422 to customer "unknown" until POST /learn)"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from aiohttp import web


class Shop:
    """Takes each delivery id once: at-least-once delivery, effect once."""

    def __init__(self, picky: bool) -> None:
        self.picky = picky
        self.taken: dict[str, Any] = {}
        self.repeats = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/taken":
            return web.json_response({"taken": list(self.taken.values()), "repeats": self.repeats})
        if request.path == "/learn":
            self.picky = False
            return web.Response(text="learnt")
        order = json.loads(await request.read())
        if self.picky and order.get("customer") == "unknown":
            return web.json_response({"error": "no such customer: unknown"}, status=422)
        name = request.headers["Idempotency-Key"]
        self.repeats += name in self.taken
        self.taken[name] = order
        return web.Response(text="taken")


async def main(shop_port: int, ledger_port: int, host: str = "127.0.0.1") -> None:
    """Serves both until the process is ended."""
    for port, picky in ((shop_port, True), (ledger_port, False)):
        if port:
            runner = web.ServerRunner(web.Server(Shop(picky).handle))
            await runner.setup()
            await web.TCPSite(runner, host, port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
