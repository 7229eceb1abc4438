"""Time and chance come in through `TimeSource`; order comes from stamps, never from time.

A **stamp** is 48 bits of hybrid-logical milliseconds, a 16-bit counter and 80 random bits, written as 36 hexadecimal
digits: fixed width, ordered as a string, unique. The clock that makes them moves past every stamp it is shown, so a
write that has seen another always gets the greater stamp, whatever the wall clocks say. Two processes never make the
same stamp, even when forked or cloned: the random bits come from the kernel for each one.

Source of the idea: Kulkarni et al., "Logical Physical Clocks" (2014).
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from dataclasses import dataclass
from typing import Final, NewType, Protocol

from reliable_write import limits

Stamp = NewType("Stamp", str)

STAMP_CHARACTERS: Final = 36
_MILLISECOND_DIGITS: Final = 12
_COUNTER_DIGITS: Final = 4
_COUNTER_MAX: Final = 0xFFFF
_RANDOM_BYTES: Final = 10
_SHAPE: Final = re.compile(r"[0-9a-f]{36}\Z", re.ASCII)

assert _MILLISECOND_DIGITS + _COUNTER_DIGITS + 2 * _RANDOM_BYTES == STAMP_CHARACTERS


class TimeSource(Protocol):
    """All time and all chance the library uses."""

    def wall_seconds(self) -> float:
        """Seconds since 1970; may jump in both directions."""
        ...

    def elapsed_seconds(self) -> float:
        """Seconds since some start; never goes back; counts the time a machine was suspended where it can."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def jitter(self, seconds_max: float) -> float:
        """Evenly between 0 and `seconds_max` (full jitter)."""
        ...

    def random_bytes(self, count: int) -> bytes:
        """Unpredictable and never repeated, also after a fork."""
        ...


class SystemTime:
    """The machine's own clocks and entropy."""

    _ELAPSED_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def wall_seconds(self) -> float:
        """See `TimeSource.wall_seconds`."""
        return time.time()

    def elapsed_seconds(self) -> float:
        """Boot time on Linux; elsewhere monotonic time, which may stand still in suspension."""
        return time.clock_gettime(self._ELAPSED_CLOCK)

    def sleep(self, seconds: float) -> None:
        """See `TimeSource.sleep`."""
        time.sleep(seconds)

    def jitter(self, seconds_max: float) -> float:
        """See `TimeSource.jitter`."""
        return random.uniform(0.0, seconds_max)

    def random_bytes(self, count: int) -> bytes:
        """See `TimeSource.random_bytes`."""
        return os.urandom(count)


@dataclass(frozen=True, slots=True)
class Deadline:
    """A bound on one attempt, counted from before its first request.

    Time is the greater of what the wall clock and the elapsed clock say has passed: a virtual machine that was paused
    may stop one of them. Too early is harmless (a monitor finishes), too late is not (a put could land after the
    tombstone that forbids it was collected).
    """

    time: TimeSource
    wall_start_seconds: float
    elapsed_start_seconds: float
    seconds: float

    @classmethod
    def after(cls, seconds: float, time: TimeSource) -> Deadline:
        """A deadline that begins now."""
        return cls(time, time.wall_seconds(), time.elapsed_seconds(), seconds)

    def remaining_seconds(self) -> float:
        """What is left; zero or less when it has passed."""
        wall = self.time.wall_seconds() - self.wall_start_seconds
        elapsed = self.time.elapsed_seconds() - self.elapsed_start_seconds
        return self.seconds - max(wall, elapsed)

    def passed(self) -> bool:
        """Whether nothing may be sent any more."""
        return self.remaining_seconds() <= 0


class HybridClock:
    """Makes stamps that are greater than every stamp it made or was shown. Safe for threads."""

    def __init__(self, time: TimeSource) -> None:
        self._time = time
        self._lock = threading.Lock()
        self._milliseconds = 0
        self._counter = 0

    def stamp(self) -> Stamp:
        """The next stamp."""
        with self._lock:
            self._advance(int(self._time.wall_seconds() * 1000))
            head = f"{self._milliseconds:012x}{self._counter:04x}"
        return Stamp(head + self._time.random_bytes(_RANDOM_BYTES).hex())

    def witness(self, stamp: Stamp) -> None:
        """Make all later stamps greater than this one."""
        seen = (int(stamp[:_MILLISECOND_DIGITS], 16), int(stamp[_MILLISECOND_DIGITS:16], 16))
        with self._lock:
            self._milliseconds, self._counter = max((self._milliseconds, self._counter), seen)

    def _advance(self, wall_milliseconds: int) -> None:
        if wall_milliseconds > self._milliseconds:
            self._milliseconds, self._counter = wall_milliseconds, 0
        elif self._counter < _COUNTER_MAX:
            self._counter += 1
        else:
            self._milliseconds, self._counter = self._milliseconds + 1, 0


def is_stamp(value: object) -> bool:
    """Whether `value` has the shape of a stamp; says nothing about who wrote it."""
    return isinstance(value, str) and _SHAPE.match(value) is not None


def stamp_milliseconds(stamp: Stamp) -> int:
    """The logical milliseconds of a stamp. An order, not an age: one clock in the future moves everybody's."""
    return int(stamp[:_MILLISECOND_DIGITS], 16)


def is_too_far_ahead(stamp: Stamp, time: TimeSource) -> bool:
    """Whether following this stamp would push our clock more than a day ahead of the wall."""
    horizon = time.wall_seconds() + limits.STAMP_AHEAD_SECONDS_MAX
    return stamp_milliseconds(stamp) > horizon * 1000
