"""A bus of its own process in a folder, and the command line in front of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from house_process import House

from esb.cli import esb


class CommandBus:
    """A folder with a table; commands are typed at the bus whether it runs or not."""

    def __init__(self, folder: Path, table: str) -> None:
        self.folder = folder
        (folder / "routes.toml").write_text(table)

    @contextmanager
    def running(self) -> Iterator[House]:
        """Runs for as long as the block, and ends well."""
        house = House(self.folder)
        house.start()
        try:
            until(lambda: self.call("status").exit_code == 0 and self.json("status")["running"])
            yield house
        finally:
            code = house.stop()
        assert code == 0, house.tail()

    def call(self, *words: str) -> Result:
        return CliRunner().invoke(esb, [*words, "-f", str(self.folder / "routes.toml")], prog_name="esb")

    def json(self, *words: str) -> Any:
        said = self.call(*words, "--json")
        assert said.exit_code == 0, said.output
        return json.loads(said.stdout)

    def post(self, route: str, body: str, *words: str) -> Result:
        """`esb send` of a body."""
        (self.folder / "sent").write_text(body)
        return self.call("send", route, str(self.folder / "sent"), *words)

    def accepted(self, route: str, body: str, *words: str) -> str:
        """The same, taken; gives the message's id."""
        said = self.post(route, body, *words)
        assert said.exit_code == 0, said.output
        return said.stdout.strip()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
