"""HTTP: a source that listens and a target that calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from esb_plugins.http.source import SOURCE
from esb_plugins.http.target import TARGET

from esb import Component, hook


@hook
def esb_sources() -> Iterable[Component[Any]]:
    return [SOURCE]


@hook
def esb_targets() -> Iterable[Component[Any]]:
    return [TARGET]
