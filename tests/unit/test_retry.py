"""What becomes of a failed attempt: tables in, values out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esb.errors import MaybeSent, Rejected, Throttled, Unauthorized, Unavailable
from esb.retry import (
    AuthPolicy,
    Dead,
    Failure,
    FaultPolicy,
    History,
    Park,
    PauseTarget,
    PermanentPolicy,
    RetryAt,
    RetryPolicy,
    ThrottledPolicy,
    Transient,
    UnknownPolicy,
    classify,
    decide,
)
from esb.units import Duration, Percent

NOW = 1_750_000_000.0
STEADY = RetryPolicy(transient=Transient(jitter=Percent(0)))


def history(attempts: int = 1, age: float = 0) -> History:
    return History("id.erp", attempts, age)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Unavailable("down"), "transient"),
        (Throttled("slow", after=3), "throttled"),
        (Unauthorized("who"), "auth"),
        (Rejected("no"), "permanent"),
        (MaybeSent("?"), "unknown"),
        (KeyError("x"), "fault"),
        (SystemExit(1), "fault"),
    ],
)
def test_an_exception_has_one_error_class(error: BaseException, kind: str) -> None:
    assert classify(error).kind == kind


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 2), (2, 4), (3, 8), (8, 256), (9, 300), (500, 300)])
def test_transient_waits_grow_to_the_cap(attempts: int, seconds: float) -> None:
    said = decide(STEADY, Failure("transient", "D410", "down"), history(attempts), NOW)
    assert said == RetryAt(NOW + seconds)


@given(st.integers(min_value=1, max_value=10_000), st.text(min_size=1))
def test_jitter_stays_within_its_share_and_is_the_same_every_time(attempts: int, name: str) -> None:
    policy, failure = RetryPolicy(), Failure("transient", "D410", "down")
    first = decide(policy, failure, History(name, attempts, 0), NOW)
    assert first == decide(policy, failure, History(name, attempts, 0), NOW)
    assert isinstance(first, RetryAt)
    assert 1.6 - 1e-6 <= first.at - NOW <= 360 + 1e-6


def test_the_first_limit_reached_ends_it() -> None:
    policy = RetryPolicy(transient=Transient(attempts=3, max_age=Duration(60)))
    failure = Failure("transient", "D410", "down")
    assert isinstance(decide(policy, failure, history(2), NOW), RetryAt)
    assert isinstance(decide(policy, failure, history(3), NOW), Dead)
    assert isinstance(decide(policy, failure, history(1, age=61), NOW), Dead)


def test_throttled_obeys_what_the_target_said_up_to_the_cap() -> None:
    policy = RetryPolicy(throttled=ThrottledPolicy(cap=Duration(100), max_age=Duration(1000)))
    assert decide(policy, Failure("throttled", "D420", "slow", 30), history(), NOW) == RetryAt(NOW + 30)
    assert decide(policy, Failure("throttled", "D420", "slow", 9999), history(), NOW) == RetryAt(NOW + 100)
    assert isinstance(decide(policy, Failure("throttled", "D420", "slow", 1), history(age=1001), NOW), Dead)
    assert isinstance(decide(policy, Failure("throttled", "D420", "slow"), history(), NOW), RetryAt)


def test_a_refused_login_pauses_the_target_and_burns_no_attempts_r17() -> None:
    said = decide(RetryPolicy(), Failure("auth", "D430", "who"), history(), NOW)
    assert isinstance(said, PauseTarget)
    assert (said.probe, said.reason) == (300, "who")
    assert 1.6 <= said.at - NOW <= 2.4
    never = RetryPolicy(auth=AuthPolicy(pause="never"))
    assert isinstance(decide(never, Failure("auth", "D430", "who"), history(), NOW), RetryAt)


def test_a_permanent_failure_dies_alone() -> None:
    assert isinstance(decide(RetryPolicy(), Failure("permanent", "D440", "no"), history(), NOW), Dead)
    twice = RetryPolicy(permanent=PermanentPolicy(attempts=2))
    assert isinstance(decide(twice, Failure("permanent", "D440", "no"), history(1), NOW), RetryAt)
    assert RetryPolicy().permanent.in_a_row == 20
    assert PermanentPolicy(pause_after="never").in_a_row is None


def test_an_unknown_outcome_parks_where_a_second_one_must_not_be_seen_r16() -> None:
    failure = Failure("unknown", "D450", "no answer")
    assert isinstance(decide(RetryPolicy(), failure, history(), NOW), RetryAt)
    assert isinstance(decide(RetryPolicy(unknown=UnknownPolicy("park")), failure, history(), NOW), Park)


def test_a_plugin_fault_is_tried_three_times_then_parked() -> None:
    failure = Failure("fault", "D490", "KeyError")
    assert isinstance(decide(RetryPolicy(), failure, history(2), NOW), RetryAt)
    assert isinstance(decide(RetryPolicy(), failure, history(3), NOW), Park)
    dead = RetryPolicy(fault=FaultPolicy(attempts=1, then="dead"))
    assert isinstance(decide(dead, failure, history(1), NOW), Dead)
