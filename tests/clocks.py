"""The machine's clocks, as tests would have them: moved on in no time, or wrong."""

from __future__ import annotations

from reliable_write.clock import SystemTime


class SkippingTime(SystemTime):
    """Both clocks can be moved on, by seconds; the wall clock may be ahead of the true time."""

    def __init__(self, skipped: float = 0.0, *, ahead: float = 0.0) -> None:
        self.skipped = skipped
        self.ahead = ahead

    def skip(self, seconds: float) -> None:
        self.skipped += seconds

    def wall_seconds(self) -> float:
        return super().wall_seconds() + self.skipped + self.ahead

    def elapsed_seconds(self) -> float:
        return super().elapsed_seconds() + self.skipped


class StandingTime(SystemTime):
    """Both clocks stand: no deadline passes, however slow the engine or however long somebody waits."""

    def __init__(self) -> None:
        self._wall, self._elapsed = super().wall_seconds(), super().elapsed_seconds()

    def wall_seconds(self) -> float:
        return self._wall

    def elapsed_seconds(self) -> float:
        return self._elapsed


class HastyTime(SkippingTime):
    """Nobody waits: sleeping moves the clocks on instead."""

    def sleep(self, seconds: float) -> None:
        self.skip(seconds)
