"""A bus over a folder `drop`, whose files its table takes, and waiting for what comes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from esb.bus import Bus, open_bus
from esb.plugins import load_plugins
from esb.table.load import load


@asynccontextmanager
async def file_bus(folder: Path, text: str) -> AsyncIterator[Bus]:
    (folder / "drop").mkdir(exist_ok=True)
    (folder / "routes.toml").write_text(text)
    registry = load_plugins()
    async with open_bus(load(folder / "routes.toml", registry), registry, durable=False) as bus:
        yield bus


async def until(holds: Callable[[], bool], what: str = "") -> None:
    for _ in range(800):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(what or "it does not come to hold")
