"""A clock for tests: it stands still until somebody sleeps by it or moves it."""

from __future__ import annotations

import threading
import time

from reliable_write.clock import SystemTime


class FakeTime(SystemTime):
    """A `TimeSource` for `ReliableWriter(time=...)`. It begins at the machine's own time; chance is the machine's.

        time = FakeTime()
        writer = ReliableWriter(time=time)
        time.move(60)       # a minute later

    Nobody waits by it: who sleeps moves it on. Safe for threads.
    """

    def __init__(self, wall_seconds: float | None = None) -> None:
        self._lock = threading.Lock()
        self._wall_seconds = time.time() if wall_seconds is None else wall_seconds
        self._elapsed_seconds = 0.0

    def wall_seconds(self) -> float:
        """See `TimeSource.wall_seconds`."""
        with self._lock:
            return self._wall_seconds

    def elapsed_seconds(self) -> float:
        """See `TimeSource.elapsed_seconds`."""
        with self._lock:
            return self._elapsed_seconds

    def sleep(self, seconds: float) -> None:
        """Move it instead of waiting."""
        self.move(seconds)

    def move(self, seconds: float) -> None:
        """Let so much time pass, by both clocks."""
        if seconds < 0:
            raise ValueError("time does not run backwards; a wall clock that was set does: see set_wall()")
        with self._lock:
            self._wall_seconds += seconds
            self._elapsed_seconds += seconds

    def set_wall(self, seconds: float) -> None:
        """Set the wall clock, as an operator or NTP does; what has elapsed stays."""
        with self._lock:
            self._wall_seconds = seconds
