"""The step `use`: a named list of steps, `[steps.NAME]`, in the place where it stands."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any

from msgspec import Struct

from esb import Component, Context, OptionError, Step, hook


class UseOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`name` is the NAME of a `[steps.NAME] do = [...]`."""

    name: str


def _open(options: UseOptions, context: Context) -> AbstractAsyncContextManager[Step]:
    """The table puts the steps of NAME in its place before anything is opened; what comes here is in no table."""
    raise OptionError("name", f"there is no [steps.{options.name}] in this table", "use stands for steps of the table")


@hook
def esb_steps() -> Iterable[Component[Any]]:
    return [
        Component(
            kind="step",
            name="use",
            about="Runs the steps of [steps.NAME] here.",
            options=UseOptions,
            main="name",
            open=_open,
            example='do = [{ use = "read_orders" }]',
        )
    ]
