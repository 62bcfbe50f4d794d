"""Every error the house knows: one tree, and a class only where something different happens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct


class Problem(Struct, frozen=True):
    """One thing that is wrong, where it stands, and what would be right.

    `file`, `line` and `column` (both from 1) are None when the place is a field rather than a file;
    `place` then names it, e.g. `body.Order.Total`.
    """

    code: str
    message: str
    hint: str = ""
    file: str | None = None
    line: int | None = None
    column: int | None = None
    place: str = ""
    severity: str = "error"

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None) or self.place
        said = f"{self.code} {self.message}"
        if self.hint:
            said = f"{said}; {self.hint}"
        return f"{where} {said}" if where else said


class EsbError(Exception):
    """The root. `code` is stable and has a page of its own under docs/errors."""

    code = "E900"


class ConfigError(EsbError):
    """The table (or an option in it) is wrong: nothing is started. Carries every problem found."""

    code = "E100"

    def __init__(self, problems: Problem | Sequence[Problem] | str) -> None:
        if isinstance(problems, str):
            problems = Problem(self.code, problems)
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class OptionError(ConfigError):
    """Raised by a component's `open` (or anything it calls): option `option` has a bad value.

    The table's loader turns it into `file:line:col`. `offset` counts characters into a text value.
    """

    code = "E120"

    def __init__(
        self, option: str, message: str, hint: str = "", *, code: str = "E120", offset: int | None = None
    ) -> None:
        self.option = option
        self.offset = offset
        super().__init__(Problem(code, message, hint, place=option))


class SecretMissing(EsbError):
    """A secret cannot be read where `[secrets]` says it is. Never holds the value."""

    code = "E180"


class MessageError(EsbError):
    """This message cannot be handled, now or later: never retried; refused or quarantined.

    `errors` are the single findings, each with a field path, for problem+json and for the quarantine.
    """

    code = "M200"

    def __init__(
        self, message: str, *, code: str | None = None, errors: Sequence[Problem] = (), place: str = ""
    ) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.place = place
        self.errors: tuple[Problem, ...] = tuple(errors) or (Problem(self.code, message, place=place),)


class DecodeError(MessageError):
    """Bytes are not what the codec reads. `line` counts from 1, `offset` is in bytes from 0, `place` a field path."""

    code = "M210"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        line: int | None = None,
        offset: int | None = None,
        place: str = "",
    ) -> None:
        self.line = line
        self.offset = offset
        where = place or (f"line {line}" if line is not None else f"byte {offset}" if offset is not None else "")
        super().__init__(message, code=code, place=where)


class EncodeError(MessageError):
    """A tree cannot be written in this format without losing something; `place` names the field."""

    code = "M220"


class Invalid(MessageError):
    """The message breaks its contract or its route's rules. As a refusal: `status` is the HTTP answer it stands for."""

    code = "M230"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        errors: Sequence[Problem] = (),
        place: str = "",
        status: int = 422,
    ) -> None:
        super().__init__(message, code=code, errors=errors, place=place)
        self.status = status


class Unroutable(MessageError):
    """No case of the route is true, and the route refuses what it cannot place."""

    code = "M240"


class ExpressionError(MessageError):
    """An expression failed on this message. `offset` is the character in `text` where it did."""

    code = "M250"

    def __init__(
        self, message: str, *, code: str | None = None, text: str = "", offset: int = 0, place: str = ""
    ) -> None:
        super().__init__(message, code=code, place=place)
        self.text = text
        self.offset = offset


class MissingField(ExpressionError):
    """A field that the expression reads is not there: in a case it makes that case false."""

    code = "M251"


class BudgetExceeded(ExpressionError):
    """The expression took more steps than its budget allows."""

    code = "M252"


class StepTimeout(MessageError):
    """A step computed for longer than `step_timeout` and was stopped (R18)."""

    code = "M260"


class Conflict(MessageError):
    """A once-key was used before with another payload (R3)."""

    code = "M270"


class Refusal(EsbError):
    """`accept` says no for now; the sender keeps the message and may try again."""

    code = "A300"


class Busy(Refusal):
    """A limit is reached or the disk is full; `retry_after` is in seconds."""

    code = "A301"

    def __init__(self, message: str, *, retry_after: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Closing(Refusal):
    """The bus is stopping."""

    code = "A302"


class DeliveryError(EsbError):
    """A target did not take a delivery. `evidence` (at most 4 kB, masked by the core) is what it said."""

    code = "D400"

    def __init__(self, message: str, *, evidence: bytes | str = b"", code: str | None = None) -> None:
        super().__init__(message)
        self.evidence = evidence.encode() if isinstance(evidence, str) else evidence
        if code is not None:
            self.code = code


class Unavailable(DeliveryError):
    """Not reached, or it says it cannot now: class transient."""

    code = "D410"


class Throttled(DeliveryError):
    """It asks for a pause; `after` in seconds when it said how long: class throttled."""

    code = "D420"

    def __init__(
        self, message: str, *, after: float | None = None, evidence: bytes | str = b"", code: str | None = None
    ) -> None:
        super().__init__(message, evidence=evidence, code=code)
        self.after = after


class Unauthorized(DeliveryError):
    """It does not know us: class auth. Three in a row pause the target (R17)."""

    code = "D430"


class Rejected(DeliveryError):
    """It will never take this message: class permanent."""

    code = "D440"


class MaybeSent(DeliveryError):
    """Sent, outcome unknown (a timeout after the last byte): class unknown (R16)."""

    code = "D450"


class StoreError(EsbError):
    """The store cannot promise anything now; nothing was acknowledged."""

    code = "S500"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class OutcomeUnknown(StoreError):
    """A COMMIT raised: the message may or may not be stored (R4). The sender must be told nothing final."""

    code = "S510"


class StoreFull(StoreError):
    """The disk or a limit of the store is full."""

    code = "S520"


class StoreCorrupt(StoreError):
    """The store's file is damaged or is not a store; it is kept as it is, and nothing is accepted."""

    code = "S530"


class StoreLocked(StoreError):
    """Another process has this store open."""

    code = "S540"


def describe(error: BaseException) -> str:
    """One line for a person: the class only where the error says nothing itself."""
    text = str(error).strip()
    return text or type(error).__name__


def as_values(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Problems as `esb check --json` prints them."""
    keys = ("file", "line", "column", "code", "message", "hint")
    return [{key: getattr(problem, key) for key in keys} for problem in problems]
