"""AMQP 0-9-1 for other systems: a source that takes from a queue of theirs, a target that publishes to an exchange."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from esb_plugins.amqp.source import SOURCE
from esb_plugins.amqp.target import TARGET

from esb import Component, hook


@hook
def esb_sources() -> Iterable[Component[Any]]:
    return [SOURCE]


@hook
def esb_targets() -> Iterable[Component[Any]]:
    return [TARGET]
