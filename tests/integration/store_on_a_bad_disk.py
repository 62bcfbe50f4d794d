"""Accepts messages one by one in a store, and says what each came to: run under strace by test_store_disk."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path

from esb.clock import SystemClock
from esb.errors import EsbError
from esb.ids import new_uid
from esb.store import open_store, space
from esb.store.records import Acceptance, NewBody, NewDelivery, NewMessage

space.LOOK_AGAIN = 0.01


class Heard(logging.Handler):
    """What was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


async def main(folder: Path, messages: int) -> None:
    heard = Heard()
    logging.getLogger().addHandler(heard)
    clock = SystemClock()
    async with open_store(folder, clock=clock, reserve=100_000) as store:
        for _ in range(messages):
            now = clock.now()
            body = NewBody(data=b"x" * 3000, size=3000)
            new = NewMessage(
                uid=new_uid(now), made="source", route="r", accepted_at=now, body=body,
                deliveries=[NewDelivery(target="t", due=now)],
            )  # fmt: skip
            try:
                stored = await store.accept(Acceptance(message=new))
                said = "stored"
                assert stored.uid == new.uid
            except EsbError as error:
                said = type(error).__name__
                await asyncio.sleep(0.02)
            print(json.dumps({"uid": new.uid, "said": said}), flush=True)
    print(json.dumps({"uid": "", "said": "", "log": heard.said}), flush=True)


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
