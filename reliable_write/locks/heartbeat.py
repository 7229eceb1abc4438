"""What keeps a lease alive, and tells when that fails: pure verdicts, and a dull loop that obeys them.

The store may hang. A renewal is sent only while its answer, however late, comes before the lease has run out; so
whoever is to be told that the lease is lost is told by the time it is.
"""

from __future__ import annotations

import enum

from reliable_write.clock import Deadline, TimeSource
from reliable_write.dynamodb import CallFailed
from reliable_write.locks.hold import Hold
from reliable_write.locks.rhythm import Rhythm


class Step(enum.Enum):
    """What a lease of some age calls for."""

    LOSE = "lose"
    WARN = "warn"
    RENEW = "renew"
    WAIT = "wait"


def next_step(age_seconds: float, rhythm: Rhythm, *, warned: bool) -> Step:
    """The verdict on a lease that was taken or renewed so long ago."""
    if age_seconds >= rhythm.lease_seconds:
        return Step.LOSE
    if age_seconds >= rhythm.safe_seconds and not warned:
        return Step.WARN
    if rhythm.heartbeat_seconds <= age_seconds < rhythm.last_request_seconds:
        return Step.RENEW
    return Step.WAIT


def seconds_to_next(age_seconds: float, rhythm: Rhythm, *, warned: bool) -> float:
    """Until the lease calls for something else, at which age whatever is under way must have ended."""
    ages = [rhythm.heartbeat_seconds, rhythm.last_request_seconds, rhythm.lease_seconds]
    if not warned:
        ages.append(rhythm.safe_seconds)
    return min((age for age in ages if age > age_seconds), default=rhythm.lease_seconds) - age_seconds


class Heartbeat:
    """The heartbeats of one lease, in a thread of their own that ends with it."""

    def __init__(self, hold: Hold, time: TimeSource) -> None:
        self._hold = hold
        self._rhythm = hold.terms.rhythm
        self._time = time
        self._warned = False

    def run(self) -> None:
        """Until the lease is released or lost."""
        pause: float | None = self._rhythm.heartbeat_seconds
        while pause is not None and not self._hold.let_go.wait(pause):
            pause = self.turn()

    def turn(self) -> float | None:
        """Do what is called for now; seconds to the next turn, or None where there is none."""
        step = self._step()
        if step is Step.WARN:
            self._warned = True
            self._hold.warn()
            step = self._step()
        if step is Step.LOSE:
            self._hold.lose(None)
        failed = not self._hold.over and step is Step.RENEW and not self._renew()
        return None if self._hold.over else self._pause(failed=failed)

    def _pause(self, *, failed: bool) -> float:
        seconds = seconds_to_next(self._hold.age_seconds(), self._rhythm, warned=self._warned)
        return min(seconds, self._time.jitter(self._rhythm.heartbeat_seconds / 4)) if failed else seconds

    def _step(self) -> Step:
        return next_step(self._hold.age_seconds(), self._rhythm, warned=self._warned)

    def _renew(self) -> bool:
        """Whether it was renewed. Throttling and lost answers are waited out, but not beyond the next milestone."""
        seconds = seconds_to_next(self._hold.age_seconds(), self._rhythm, warned=self._warned)
        try:
            renewed = self._hold.renew(Deadline.after(seconds, self._time))
        except CallFailed:
            return False
        self._warned = self._warned and not renewed
        return renewed
