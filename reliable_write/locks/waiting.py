"""What somebody who waits for a lock makes of what he sees. Pure, but for what he remembers.

No clock of another machine is believed. A waiter knows a dead holder by its record version number: seen unchanged on
the waiter's own clock for a whole lease, counted from when the answer with it had arrived, nobody has renewed it. He
takes the lock under the condition that it is still that version, so a holder who comes back in the last moment keeps
it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from reliable_write import limits
from reliable_write.clock import TimeSource
from reliable_write.locks.items import FREE, LockState


class Standing(enum.Enum):
    """What a lock is to somebody who wants it."""

    FREE = "free"
    OURS = "ours"
    """A holding that we asked for and do not hold: its answer was lost, or its request landed late."""
    LAPSED = "lapsed"
    """Its holder gave no sign of life for a whole lease."""
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Sight:
    """A lock as it was seen, and for how long it has been so."""

    state: LockState
    unchanged_seconds: float

    @property
    def remaining_seconds(self) -> float:
        """Until it may be taken over, if it does not change; 0 where nobody holds it."""
        return max(0.0, (self.state.lease_seconds or 0.0) - self.unchanged_seconds) if self.state.held else 0.0


def judge(sight: Sight, our_prefix: str | None = None) -> Standing:
    """The standing of a lock; `our_prefix` begins the ids of all leases that one handle ever asked for."""
    lease_id = sight.state.lease_id
    if lease_id is None:
        return Standing.FREE
    if our_prefix is not None and lease_id.startswith(our_prefix):
        return Standing.OURS
    return Standing.LAPSED if sight.remaining_seconds <= 0 else Standing.HELD


class Watch:
    """Remembers which version was seen first when, on this machine's elapsed clock. Of one waiter at a time."""

    def __init__(self, time: TimeSource) -> None:
        self._time = time
        self._version: str | None = None
        self._since_seconds = 0.0

    def see(self, state: LockState) -> Sight:
        """Take note of what an answer, that has just arrived, shows."""
        now = self._time.elapsed_seconds()
        if state.record_version != self._version:
            self._version, self._since_seconds = state.record_version, now
        return Sight(state, now - self._since_seconds)


def pause_seconds(looks: int, sight: Sight, poll_seconds: float, time: TimeSource) -> float:
    """How long to wait for the next look: full jitter, and not beyond the moment at which it may be taken over."""
    longest = min(poll_seconds, limits.LOCK_POLL_BASE_SECONDS * 2.0 ** min(looks, 10))
    return min(time.jitter(longest), sight.remaining_seconds)


NOTHING_SEEN = Sight(FREE, 0.0)
