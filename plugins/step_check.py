"""The step `check`: a message keeps its contract, or is refused with every finding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Protocol

from msgspec import Struct

from esb import Component, Context, Invalid, Message, Problem, hook


class Contract(Protocol):
    """What `context.contract` gives (esb.contracts.Contract)."""

    name: str

    def check(self, message: Message, formats: bool, /) -> Sequence[Problem]: ...


class CheckOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`contract` is `NAME@VERSION`: the file `contracts/NAME@VERSION.json` or `.xsd`. With `formats` JSON Schema's
    `format` is a rule too (date, email, uri, ...), not only a remark."""

    contract: str
    formats: bool = False


class Check:
    """Raises Invalid with all findings, each with its field path."""

    def __init__(self, contract: Contract, formats: bool = False) -> None:
        self.contract = contract
        self._formats = formats

    def apply(self, message: Message) -> Sequence[Message]:
        problems = self.contract.check(message, self._formats)
        if problems:
            raise Invalid(_summary(self.contract.name, problems), errors=problems, place=problems[0].place)
        return (message,)


def _summary(name: str, problems: Sequence[Problem]) -> str:
    first = problems[0]
    said = f"breaks contract {name}: {f'{first.place}: ' if first.place else ''}{first.message}"
    return said if len(problems) == 1 else f"{said} (and {len(problems) - 1} more)"


def _open(options: CheckOptions, context: Context) -> AbstractAsyncContextManager[Check]:
    return nullcontext(Check(context.contract(options.contract), options.formats))


@hook
def esb_steps() -> Iterable[Component[Any]]:
    return [
        Component(
            kind="step",
            name="check",
            about="Holds the message against a contract: JSON Schema 2020-12 on the tree, XSD 1.0 on the XML.",
            options=CheckOptions,
            main="contract",
            open=_open,
            example='do = [{ read = "xml" }, { check = "partner-order@1", bad = "reply 422" }]',
        )
    ]
