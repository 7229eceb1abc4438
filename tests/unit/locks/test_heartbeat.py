"""What a lease of some age calls for, and which spans fit together."""

from __future__ import annotations

import pytest

from reliable_write.errors import ConfigurationError
from reliable_write.locks.heartbeat import Step, next_step, seconds_to_next
from reliable_write.locks.rhythm import Rhythm, make_rhythm

RHYTHM = Rhythm(lease_seconds=20.0, heartbeat_seconds=5.0, safe_seconds=10.0, request_seconds=5.0)


@pytest.mark.parametrize(
    ("age", "warned", "step"),
    [
        (0.0, False, Step.WAIT),
        (4.99, False, Step.WAIT),
        (5.0, False, Step.RENEW),
        (9.99, False, Step.RENEW),
        (10.0, False, Step.WARN),
        (10.0, True, Step.RENEW),
        (14.99, True, Step.RENEW),
        (15.0, True, Step.WAIT),
        (19.99, True, Step.WAIT),
        (20.0, True, Step.LOSE),
        (20.0, False, Step.LOSE),
        (1e9, False, Step.LOSE),
    ],
)
def test_what_a_lease_calls_for(age: float, warned: bool, step: Step) -> None:
    assert next_step(age, RHYTHM, warned=warned) is step


@pytest.mark.parametrize(
    ("age", "warned", "seconds"),
    [(0.0, False, 5.0), (5.0, False, 5.0), (5.0, True, 10.0), (12.0, True, 3.0), (15.0, True, 5.0), (19.0, True, 1.0)],
)
def test_when_it_calls_for_something_else(age: float, warned: bool, seconds: float) -> None:
    assert seconds_to_next(age, RHYTHM, warned=warned) == seconds


def test_what_is_not_given_follows_from_the_lease() -> None:
    assert make_rhythm(20.0, None, None, 5.0) == RHYTHM
    assert make_rhythm(60.0, None, None, 5.0).heartbeat_seconds == 15.0
    assert RHYTHM.last_request_seconds == 15.0


@pytest.mark.parametrize(("lease", "beat"), [(10.0, 5.0), (6.0, 1.0), (7.0, 2.0)])
def test_one_lost_answer_must_not_cost_the_lease(lease: float, beat: float) -> None:
    with pytest.raises(ConfigurationError, match="would not outlast one lost answer"):
        make_rhythm(lease, beat, None, 5.0)
    assert make_rhythm(beat + 5.1, min(beat, (beat + 5.1) / 2), None, 5.0).lease_seconds == beat + 5.1
