"""The step `keep`: the filter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from msgspec import Struct

from esb import Component, Context, Dropped, Expression, Invalid, Message, OptionError, Program, hook


class KeepOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`reason` is shown wherever the dropped message is: it is mandatory."""

    condition: Expression
    reason: str


class Keep:
    """Goes on when the expression is true, else the message ends here as dropped, with the reason."""

    def __init__(self, condition: Program, reason: str) -> None:
        self._condition = condition
        self._reason = reason

    def apply(self, message: Message) -> Sequence[Message]:
        kept = self._condition.evaluate(message)
        if kept is True:
            return (message,)
        if kept is False:
            raise Dropped(self._reason)
        raise Invalid(
            f"keep gave a {type(kept).__name__}, not true or false; compare it with something",
            code="M253",
            place="keep",
        )


def _open(options: KeepOptions, context: Context) -> AbstractAsyncContextManager[Keep]:
    if not options.reason.strip():
        raise OptionError("reason", "a dropped message needs its reason", 'write reason = "closed customer"')
    return nullcontext(Keep(context.expression(options.condition), options.reason.strip()))


@hook
def esb_steps() -> Iterable[Component[Any]]:
    return [
        Component(
            kind="step",
            name="keep",
            about="Lets a message go on when an expression is true, else drops it with a reason.",
            options=KeepOptions,
            main="condition",
            open=_open,
            example="""do = [{ read = "json" }, { keep = 'body.state != "closed"', reason = "closed customer" }]""",
        )
    ]
