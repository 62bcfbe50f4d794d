"""What becomes of a failed attempt: a pure decision from the policy, the failure and the delivery's history."""

from __future__ import annotations

import hashlib
from typing import Literal

from msgspec import Struct

from esb.errors import DeliveryError, MaybeSent, Rejected, StoreError, Throttled, Unauthorized, Unavailable
from esb.units import Duration, Percent

ErrorClass = Literal["transient", "throttled", "auth", "permanent", "unknown", "fault"]


class Transient(Struct, frozen=True, forbid_unknown_fields=True):
    """The first limit reached ends it: dead letter. Times in seconds."""

    attempts: int | Literal["forever"] = "forever"
    first: Duration = Duration(2)
    factor: float = 2.0
    cap: Duration = Duration(300)
    jitter: Percent = Percent(0.2)
    max_age: Duration = Duration(7 * 86400)


LEAST = 1.0
"""Seconds that a target which says "at once" is left alone all the same, unless the policy's first wait is shorter."""


class ThrottledPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """`obey` names the header that says how long; `cap` bounds it."""

    obey: Literal["Retry-After"] = "Retry-After"
    cap: Duration = Duration(600)
    max_age: Duration = Duration(7 * 86400)


class AuthPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """A wrong password pauses the target; one real message tries every `probe`, success resumes by itself (R17)."""

    pause: Literal["target", "never"] = "target"
    probe: Duration = Duration(300)


class PermanentPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """One bad message dies alone; `pause_after` in a row are our mistake: the target pauses, the rest is kept."""

    attempts: int = 1
    pause_after: str = "20 in a row"

    @property
    def in_a_row(self) -> int | None:
        """The count in `pause_after`; None for "never"."""
        return None if self.pause_after == "never" else int(self.pause_after.split()[0])


class UnknownPolicy(Struct, frozen=True, rename={"as_": "as"}, forbid_unknown_fields=True):
    """Sent, no answer (R16)."""

    as_: Literal["transient", "park"] = "transient"


class FaultPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """The plugin's own error."""

    attempts: int = 3
    then: Literal["park", "dead"] = "park"


class RetryPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """`[retry.NAME]`: one line an error class; the defaults are the built-in policy "patient"."""

    transient: Transient = Transient()
    throttled: ThrottledPolicy = ThrottledPolicy()
    auth: AuthPolicy = AuthPolicy()
    permanent: PermanentPolicy = PermanentPolicy()
    unknown: UnknownPolicy = UnknownPolicy()
    fault: FaultPolicy = FaultPolicy()


class Failure(Struct, frozen=True):
    """What went wrong, in the retry's words. `after` is in seconds, where the target said how long."""

    kind: ErrorClass
    code: str
    text: str
    after: float | None = None


class History(Struct, frozen=True):
    """What came before. `attempts` counts this one; `age` is in seconds since acceptance, pauses left out (R12)."""

    id: str
    attempts: int
    age: float


class RetryAt(Struct, frozen=True):
    """Try again at `at` (seconds since the epoch)."""

    at: float


class Dead(Struct, frozen=True):
    """Never again by itself."""

    reason: str


class Park(Struct, frozen=True):
    """Wait for a person."""

    reason: str


class PauseTarget(Struct, frozen=True):
    """The delivery waits; so does its whole target, but for a probe every `probe` seconds."""

    at: float
    probe: float
    reason: str


Disposition = RetryAt | Dead | Park | PauseTarget


def classify(error: BaseException) -> Failure:
    """A target's exception as a failure; whatever is not a DeliveryError is the plugin's own fault."""
    match error:
        case MaybeSent():
            return Failure("unknown", error.code, str(error))
        case Throttled():
            return Failure("throttled", error.code, str(error), error.after)
        case Unauthorized():
            return Failure("auth", error.code, str(error))
        case Rejected():
            return Failure("permanent", error.code, str(error))
        case Unavailable() | DeliveryError():
            return Failure("transient", error.code, str(error))
        case StoreError():  # our own disk, not the plugin
            return Failure("transient", error.code, str(error))
        case _:
            return Failure("fault", "D490", f"{type(error).__name__}: {error}")


def decide(policy: RetryPolicy, failure: Failure, history: History, now: float) -> Disposition:
    """The fate of a delivery after a failed attempt. Pure: jitter comes from the delivery's id and attempt."""
    match failure.kind:
        case "transient":
            return _again(policy.transient, failure, history, now)
        case "unknown":
            if policy.unknown.as_ == "park":
                return Park(f"outcome unknown: {failure.text}")
            return _again(policy.transient, failure, history, now)
        case "throttled":
            if history.age > policy.throttled.max_age:
                return Dead(f"throttled for longer than {policy.throttled.max_age}")
            least = min(float(policy.transient.first), LEAST)
            wait = _delay(policy.transient, history) if failure.after is None else max(failure.after, least)
            return RetryAt(now + min(wait, policy.throttled.cap))
        case "auth":
            if policy.auth.pause == "never":
                return _again(policy.transient, failure, history, now)
            # Until the target is paused, a refused login is not tried again at full speed.
            return PauseTarget(now + _delay(policy.transient, history), policy.auth.probe, failure.text)
        case "permanent":
            if history.attempts < policy.permanent.attempts:
                return RetryAt(now + _delay(policy.transient, history))
            return Dead(failure.text)
        case "fault":
            if history.attempts < policy.fault.attempts:
                return RetryAt(now + _delay(policy.transient, history))
            return Park(failure.text) if policy.fault.then == "park" else Dead(failure.text)


def _again(policy: Transient, failure: Failure, history: History, now: float) -> Disposition:
    if policy.attempts != "forever" and history.attempts >= policy.attempts:
        return Dead(f"{failure.text} (attempt {history.attempts} of {policy.attempts})")
    if history.age > policy.max_age:
        return Dead(f"{failure.text} (older than {policy.max_age})")
    return RetryAt(now + _delay(policy, history))


def _delay(policy: Transient, history: History) -> float:
    """first * factor^(n-1), capped, spread by the jitter; the exponent is bounded so that no float overflows."""
    exponent = min(history.attempts - 1, 64)
    plain = min(float(policy.first) * policy.factor**exponent, float(policy.cap))
    return plain * (1.0 + float(policy.jitter) * (2.0 * _share(history) - 1.0))


def _share(history: History) -> float:
    """A number from 0 to 1 that belongs to this delivery and attempt: the same in every replay of the decision."""
    digest = hashlib.blake2b(f"{history.id}/{history.attempts}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) / 0xFFFFFFFF
