"""Files: a source that watches a folder and a target that writes into one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from esb_plugins.file.source import SOURCE
from esb_plugins.file.target import TARGET

from esb import Component, hook


@hook
def esb_sources() -> Iterable[Component[Any]]:
    return [SOURCE]


@hook
def esb_targets() -> Iterable[Component[Any]]:
    return [TARGET]
