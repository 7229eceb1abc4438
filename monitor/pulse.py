"""Whether the daemon still moves. Asked by `/livez` and by systemd's watchdog; DynamoDB has no say in it.

With DynamoDB away a sweep still ends, with shards it could not read, because each of its requests has a deadline. So
"no sweep and no attempt has ended for far longer than the slowest sweep takes" means that the loop itself hangs.
"""

from __future__ import annotations

import math
import threading
from typing import Final

from monitor.settings import MonitorSettings
from monitor.status import SilentObserver, SweepReport
from reliable_write import limits
from reliable_write.clock import TimeSource
from reliable_write.recovery import ResumeReport
from reliable_write.settings import Settings

_MARGIN: Final = 2.0
_FLOOR_SECONDS: Final = 60.0


def stall_seconds(monitor: MonitorSettings, writer: Settings, shards: int = limits.SHARDS) -> float:
    """After how long without a move the loop counts as hung: twice the slowest sweep, and never under a minute.

    The slowest sweep is one in which every shard runs into its deadline: 64 shards, 8 readers: about two minutes.
    """
    rounds = math.ceil(shards / monitor.readers)
    sweep_seconds = rounds * (writer.attempt_deadline_seconds + writer.read_timeout_seconds)
    return _FLOOR_SECONDS + _MARGIN * (monitor.poll_seconds + sweep_seconds)


class Pulse(SilentObserver):
    """Felt at the end of each sweep and attempt."""

    def __init__(self, time: TimeSource, seconds_max: float) -> None:
        self._time = time
        self._seconds_max = seconds_max
        self._lock = threading.Lock()
        self._last_seconds = time.elapsed_seconds()

    def allow(self, seconds_max: float) -> None:
        """Set after how long without a move it counts as hung."""
        with self._lock:
            self._seconds_max = seconds_max

    def touch(self) -> None:
        """It moves."""
        with self._lock:
            self._last_seconds = self._time.elapsed_seconds()

    def age_seconds(self) -> float:
        """Since it last moved."""
        with self._lock:
            return self._time.elapsed_seconds() - self._last_seconds

    def beats(self) -> bool:
        """Whether it moved lately enough."""
        with self._lock:
            return self._time.elapsed_seconds() - self._last_seconds < self._seconds_max

    def sweep_finished(self, report: SweepReport) -> None:
        """See `Observer`."""
        del report
        self.touch()

    def attempt_finished(self, report: ResumeReport, seconds: float) -> None:
        """See `Observer`."""
        del report, seconds
        self.touch()
