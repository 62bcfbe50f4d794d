"""A file that kills the process comes back after three deaths, and the others go on (R15, FAULTS 25)."""

from __future__ import annotations

from pathlib import Path

from fault_house import ended, until
from house_process import House

PLUGIN = '''
"""A step that ends the process without a word, as a crash in a library or the kernel out of memory does."""

import os
from contextlib import nullcontext

from msgspec import Struct

from esb import Component, hook


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    main: str = ""


class Fatal:
    def apply(self, message):
        if b"fatal" in message.raw:
            os._exit(137)
        return [message]


@hook
def esb_steps():
    return [Component(kind="step", name="fatal", about="ends the process", options=Options, main="main",
                      open=lambda options, context: nullcontext(Fatal()), example="{ fatal = 'x' }")]
'''
TABLE = """
esb = 1
[bus]
data = "var"
plugins = "plugins"
[defaults]
owner = "tests@example.org"
[target.out]
file = "out"
name = "{message.id}.txt"
[route.dropped]
from = { file = "drop", settled = "0s", every = "100ms" }
do = [{ fatal = "x" }]
to = ["out"]
"""


def prepared(folder: Path) -> House:
    (folder / "plugins").mkdir()
    (folder / "plugins" / "fatal.py").write_text(PLUGIN)
    (folder / "plugins" / "fatal.py").chmod(0o644)
    (folder / "drop").mkdir()
    house = House(folder)
    house.table.write_text(TABLE)
    return house


async def test_a_file_that_kills_the_process_comes_back_after_three_deaths_r15(tmp_path: Path) -> None:
    house = prepared(tmp_path)
    (tmp_path / "drop" / "a.txt").write_text("fatal")
    for _ in range(3):
        house.start()
        assert await ended(house) == 137, house.tail()
    async with house.running():
        await until(lambda: (tmp_path / "drop" / "bad" / "a.txt").exists(), "the file comes back")
        (reason,) = (tmp_path / "drop" / "bad").glob("*.reason.txt")
        assert "M295" in reason.read_text()
        assert "died 3 times" in reason.read_text()
        assert (tmp_path / "drop" / "bad" / "a.txt").read_text() == "fatal"
        (tmp_path / "drop" / "b.txt").write_text("good")
        await until(lambda: list((tmp_path / "out").glob("*.txt")), "the other goes out")
        assert await house.balanced()
