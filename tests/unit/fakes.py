"""Time that stands still until told, workers without threads, and calls that answer from a script."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallName

T = TypeVar("T")

NOON = 1_700_000_000.0


class ManualTime:
    """A `TimeSource` whose clocks move only when somebody sleeps or moves them."""

    def __init__(self, wall: float = NOON) -> None:
        self.wall = wall
        self.elapsed = 0.0
        self.slept: list[float] = []
        self.jitter_asked: list[float] = []
        self.jitter_share = 1.0

    def wall_seconds(self) -> float:
        return self.wall

    def elapsed_seconds(self) -> float:
        return self.elapsed

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.pass_seconds(seconds)

    def pass_seconds(self, seconds: float) -> None:
        self.wall += seconds
        self.elapsed += seconds

    def jitter(self, seconds_max: float) -> float:
        self.jitter_asked.append(seconds_max)
        return self.jitter_share * seconds_max

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)


class InlineWorkers:
    """`Workers` that run everything in the caller's thread; a background loop is kept and never run."""

    def __init__(self) -> None:
        self.loops: list[Callable[[], None]] = []

    def run_all(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        return [task() for task in tasks]

    def background(self, name: str, loop: Callable[[], None]) -> None:
        assert name
        self.loops.append(loop)

    def close(self) -> None:
        pass


Step = Exception | dict[str, Any] | Callable[[CallName, Mapping[str, Any]], dict[str, Any]]


class ScriptedCalls:
    """`Calls` that play one step per request, and remember the requests."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.sent: list[tuple[CallName, dict[str, Any]]] = []

    def send(self, call: CallName, request: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        assert not deadline.passed(), "asked to send after the deadline"
        self.sent.append((call, dict(request)))
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step(call, request) if callable(step) else step
