"""The steps of a route, run over a message: what a step may give, and what its failures come to."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from esb.blueprint import Blueprint, ReadyStep
from esb.errors import Invalid, MessageError, Problem, StepTimeout, describe
from esb.message import Message, Scope
from esb.ports import Dropped
from esb.store.records import MessageState, NewBody, NewDelivery, NewMessage
from esb.table.model import OutcomeSpec

FAULTS = (Exception, SystemExit, KeyboardInterrupt, GeneratorExit)
log = logging.getLogger(__name__)

STATES: Mapping[str, MessageState] = {
    "quarantine": "quarantined",
    "park": "unmatched",
    "dead": "dead",
    "drop": "dropped",
}


class Ending(Exception):
    """The message ends here, in this state, for this reason."""

    def __init__(self, state: MessageState, reason: str, errors: Sequence[Problem] = ()) -> None:
        super().__init__(reason)
        self.state = state
        self.reason = reason
        self.errors = tuple(errors)


class Trace(Struct, omit_defaults=True):
    """The decision as it is kept with a message: the names of the cases taken, the cases false for a missing field,
    findings that were only noted, and for a part where it stood (index, count, last, line) and what it carries."""

    cases: tuple[str, ...] = ()
    missing: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    errors: tuple[Problem, ...] = ()
    step: str = ""
    part: tuple[int, int | None, bool, int | None] | None = None
    carry: bytes = b""
    raw_json: bool = False


class Voice:
    """Listens to a plan being made; explain gives one that speaks."""

    def step(self, step: ReadyStep, before: Message, after: Sequence[Message] | BaseException | None) -> None:
        """A step ran (`after` None: its `if` was false)."""

    def cases(self, blueprint: Blueprint, scope: Scope, taken: Sequence[int]) -> None:
        """The cases were decided."""

    def delivery(self, message: Message, delivery: NewDelivery) -> None:
        """A delivery was planned."""


class Walk(Struct):
    """One planning under way: what has been noted so far."""

    trace: Trace
    deliveries: list[NewDelivery]
    handed: list[NewMessage]
    bodies: dict[int, tuple[Any, NewBody | None, str]]
    numbers: dict[str, int]
    original: bytes
    headers: Mapping[str, str]
    voice: Voice | None = None


class Steps:
    """Runs steps. `by_default` is what bad data comes to where a step does not say; `scope` makes the variables."""

    def __init__(self, by_default: OutcomeSpec, scope: Callable[[Message], Scope]) -> None:
        self._by_default = by_default
        self._scope = scope
        self._faults: set[tuple[str, type[BaseException]]] = set()

    def run(self, steps: Sequence[ReadyStep], messages: list[Message], walk: Walk) -> list[Message]:
        for step in steps:
            messages = [after for message in messages for after in self._step(step, message, walk)]
        return messages

    def _step(self, step: ReadyStep, message: Message, walk: Walk) -> Sequence[Message]:
        """One step on one message. Raises Ending or Invalid by the step's `bad`, else the route's."""
        walk.trace.step = step.name
        try:
            if step.condition is not None and not self._holds(step, message):
                if walk.voice is not None:
                    walk.voice.step(step, message, None)
                return (message,)
            given = message.with_(body=copy.deepcopy(message.body)) if step.foreign else message
            made = step.step.apply(given)
        except Dropped as drop:
            self._heard(walk, step, message, drop)
            raise Ending("dropped", drop.reason) from None
        except StepTimeout as error:
            self._heard(walk, step, message, error)
            raise Ending("quarantined", f"step {step.name}: {error}", error.errors) from error
        except MessageError as error:
            self._heard(walk, step, message, error)
            return self._noted(step, message, error, walk)
        except FAULTS as error:
            self._heard(walk, step, message, error)
            raise self._fault(step, error) from error
        if walk.voice is not None:
            walk.voice.step(step, message, made)
        checked = self._checked(step, message, made)
        if step.foreign and any(after.body is given.body and not after.changed for after in made):
            self._refuse_changed(step, message, given)
        return checked

    def _refuse_changed(self, step: ReadyStep, message: Message, given: Message) -> None:
        """A body changed in place would go out in its old bytes: nobody said that it is another."""
        if given.body != message.body:
            raise self._fault(step, TypeError("it changed the body in place; give message.with_body(...)"))

    def _holds(self, step: ReadyStep, message: Message) -> bool:
        assert step.condition is not None
        held = step.condition.evaluate(self._scope(message))
        if not isinstance(held, bool):
            raise Invalid(f"the if of step {step.name} gave {held!r:.40}, not true or false", code="M253")
        return held

    def _heard(self, walk: Walk, step: ReadyStep, message: Message, error: BaseException) -> None:
        if walk.voice is not None:
            walk.voice.step(step, message, error)

    def _noted(self, step: ReadyStep, message: Message, error: MessageError, walk: Walk) -> Sequence[Message]:
        outcome = step.bad or self._by_default
        if outcome.kind == "note":
            walk.trace.notes = (*walk.trace.notes, f"{step.name}: {error}")
            return (message,)
        raise self.bad(error, outcome) from error

    def bad(self, error: MessageError, outcome: OutcomeSpec | None) -> Ending | Invalid:
        """What bad data comes to here: a refusal in the sender's language, or a state with the reason."""
        outcome = outcome or self._by_default
        if outcome.kind == "reply":
            return Invalid(outcome.reason or str(error), code=error.code, errors=error.errors, status=outcome.status)
        state = STATES.get(outcome.kind, "quarantined")
        return Ending(state, f"{outcome.reason}: {error}" if outcome.reason else str(error), error.errors)

    def _fault(self, step: ReadyStep, error: BaseException) -> Ending:
        """A mistake of a plugin: the log has its trace, once for each step and kind of mistake."""
        known = (step.name, type(error))
        log.error("step %s failed in its own code", step.name, exc_info=None if known in self._faults else error)
        self._faults.add(known)
        text = f"step {step.name} failed in its own code: {type(error).__name__}: {describe(error)}"
        return Ending("quarantined", text, (Problem("M290", text, "mend the plugin, then release", place=step.name),))

    def fault(self, error: BaseException) -> Ending:
        """A mistake of a plugin outside of a step: of a codec that writes, of a function in an expression."""
        if isinstance(error, StepTimeout):
            return Ending("quarantined", str(error), error.errors)
        text = f"planning failed in a plugin's own code: {type(error).__name__}: {describe(error)}"
        log.error("planning failed in a plugin's own code", exc_info=error)
        return Ending("quarantined", text, (Problem("M290", text, "mend the plugin, then release"),))

    def _checked(self, step: ReadyStep, before: Message, made: Any) -> Sequence[Message]:
        """A step must give a sequence of Messages; a tree that became bytes is remembered for cases and templates."""
        if type(made) not in (list, tuple) or any(type(after) is not Message for after in made):
            raise self._fault(step, TypeError(f"it gave {type(made).__name__}, not a sequence of Messages"))
        if not made:
            raise Ending("dropped", f"step {step.name} gave no message")
        if type(before.body) is not bytes and before.tree is None:
            return [after.with_(tree=before.body) if type(after.body) is bytes else after for after in made]
        return made  # type: ignore[no-any-return]
