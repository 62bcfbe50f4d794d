"""The step `log`: one line in the log, and the message goes on as it is."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final, Literal

from msgspec import Struct

from esb import Component, Context, Message, OptionError, Template, Text, hook, is_secret, one_line

log = logging.getLogger(__name__)

LONGEST: Final = 400
"""Characters of one line at most."""

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")


class LogOptions(Struct, frozen=True, forbid_unknown_fields=True):
    text: Template
    level: Literal["debug", "info", "warning", "error"] = "info"


class Log:
    """Control characters are written as escapes, so that no message forges a line (FAULTS 86)."""

    def __init__(self, text: Text, level: str) -> None:
        self._text = text
        self._level = _LEVELS[level]

    def apply(self, message: Message) -> Sequence[Message]:
        if log.isEnabledFor(self._level):
            log.log(self._level, "%s", one_line(str(self._text.fill(message)), LONGEST))
        return (message,)


def _open(options: LogOptions, context: Context) -> AbstractAsyncContextManager[Log]:
    for said in _PLACEHOLDER.findall(options.text):
        if is_secret(said):
            raise OptionError(
                "text",
                f"{{{said}}} would write a secret into the log",
                "log an id of the message instead",
                code="E237",
            )
    return nullcontext(Log(context.template(options.text), options.level))


@hook
def esb_steps() -> Iterable[Component[Any]]:
    return [
        Component(
            kind="step",
            name="log",
            about="Writes one line into the log.",
            options=LogOptions,
            main="text",
            open=_open,
            example='do = [{ read = "json" }, { log = "order {body.id}", level = "info" }]',
        )
    ]
