"""A bus over a folder `drop`, whose files its table takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
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
