"""What a plugin may offer. Called once while the bus is built, never per message, never async."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pluggy

from esb.ports import Component

spec = pluggy.HookspecMarker("esb")
hook = pluggy.HookimplMarker("esb")


@spec
def esb_codecs() -> Iterable[Component[Any]]:
    """The formats this plugin reads and writes."""
    raise NotImplementedError


@spec
def esb_steps() -> Iterable[Component[Any]]:
    """The steps it brings for `do`."""
    raise NotImplementedError


@spec
def esb_sources() -> Iterable[Component[Any]]:
    """The sources it brings for `from`."""
    raise NotImplementedError


@spec
def esb_targets() -> Iterable[Component[Any]]:
    """The targets it brings for `[target.NAME]`."""
    raise NotImplementedError


@spec
def esb_functions() -> Mapping[str, Callable[..., Any]]:
    """Functions for expressions, by name; pure, never waiting."""
    raise NotImplementedError
