"""A virtual time line, and processes on it: greenlets instead of threads, one at a time, in an order drawn from a seed.

Nothing here waits for real. Whoever sends or sleeps gives the floor back and is resumed when the line has come to his
time. A process may be stalled (it is resumed later, its clocks have gone on) or killed (it is never resumed).
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

import greenlet  # type: ignore[import-untyped]

T = TypeVar("T")

NOON = 1_700_000_000.0


class Gone(greenlet.GreenletExit):  # type: ignore[misc]
    """What a killed process meets if it is ever asked to end: its `finally` blocks can send nothing."""


class Timeline:
    """Events in order of time; equal times in the order in which they were made."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.now = 0.0
        self.step = 0
        """Counts all that happens: earlier and later for the judge."""
        self.killed = 0
        """How many processes."""
        self.born: dict[str, int] = {}
        """The step at which each stamp was taken, by its random part."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._hub = greenlet.getcurrent()
        self.dead: list[greenlet.greenlet] = []
        """Of killed processes: kept to the end, so that none of their `finally` blocks runs in the middle."""

    @property
    def in_hub(self) -> bool:
        """Whether nobody but the simulation itself is on the floor: then nothing gives way to others."""
        return greenlet.getcurrent() is self._hub

    def current(self) -> Any:
        """Whoever is on the floor."""
        return greenlet.getcurrent()

    def at(self, seconds: float, event: Callable[[], None]) -> None:
        """Let it happen then."""
        heapq.heappush(self._events, (max(seconds, self.now), next(self._numbers), event))

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        """Let it happen so much later."""
        self.at(self.now + seconds, event)

    def park(self) -> Any:
        """Give the floor back; returns what the one who resumes gives."""
        return self._hub.switch()

    def run_until(self, seconds: float) -> None:
        """All that happens up to then."""
        while self._events and self._events[0][0] <= seconds:
            self.now, _, event = heapq.heappop(self._events)
            self.step += 1
            event()
        self.now = max(self.now, seconds)

    def run_all(self, *, events_max: int) -> None:
        """Everything, until nobody has anything left to do."""
        for _ in range(events_max):
            if not self._events:
                return
            self.now, _, event = heapq.heappop(self._events)
            self.step += 1
            event()
        raise AssertionError(f"liveness: {events_max} events, and no end")

    def next_at(self) -> float | None:
        """When the next thing happens."""
        return self._events[0][0] if self._events else None


class Process:
    """One process: its clocks, its tasks, whether it is stalled or dead."""

    def __init__(self, line: Timeline, name: str, role: str, skew: float = 0.0) -> None:
        self.line, self.name, self.role, self.skew = line, name, role, skew
        self.started_at = line.now
        self.stalled_until = 0.0
        self.killed = False
        self.tasks: dict[int, greenlet.greenlet] = {}
        self._numbers = itertools.count()

    # --- TimeSource ---------------------------------------------------------------------------------------------

    def wall_seconds(self) -> float:
        return NOON + self.line.now + self.skew

    def elapsed_seconds(self) -> float:
        return self.line.now - self.started_at

    def sleep(self, seconds: float) -> None:
        if self.line.in_hub:
            self.line.run_until(self.line.now + seconds)
            return
        task = greenlet.getcurrent()
        self.line.after(seconds, lambda: self.resume(task))
        self.line.park()
        self.check()

    def jitter(self, seconds_max: float) -> float:
        return self.line.chance.random() * seconds_max

    def random_bytes(self, count: int) -> bytes:
        drawn = self.line.chance.randbytes(count)
        self.line.born[drawn.hex()] = self.line.step
        return drawn

    # --- life ---------------------------------------------------------------------------------------------------

    def spawn(self, work: Callable[[], object], *, delay: float = 0.0) -> None:
        """A task of this process."""
        number = next(self._numbers)

        def live(_value: object = None) -> None:
            try:
                work()
            except Gone:
                return
            finally:
                self.tasks.pop(number, None)

        task = greenlet.greenlet(live, self.line._hub)
        self.tasks[number] = task
        self.line.after(delay, lambda: self.resume(task))

    def resume(self, task: greenlet.greenlet, value: Any = None) -> None:
        """Give it the floor, unless it is dead; when the stall is over, if it is stalled."""
        if self.killed:
            return
        if self.line.now < self.stalled_until:
            self.line.at(self.stalled_until, lambda: self.resume(task, value))
            return
        task.switch(value)

    def stall(self, seconds: float) -> None:
        """No code of it runs for so long; what it has sent is on its way all the same."""
        self.stalled_until = max(self.stalled_until, self.line.now + seconds)

    def kill(self) -> None:
        """Never resumed. Its requests on their way may land."""
        self.killed = True
        self.line.killed += 1
        self.line.dead.extend(self.tasks.values())
        self.tasks = {}

    def die(self) -> NoReturn:
        """The running task's process is killed, here: does not return."""
        self.kill()
        self.line.park()
        raise Gone

    def check(self) -> None:
        """Of a killed process nothing goes on, not even what its `finally` blocks would like to do."""
        if self.killed and not self.line.in_hub:
            raise Gone


class GreenWorkers:
    """`Workers` whose tasks are tasks of the process."""

    def __init__(self, process: Process, tasks_max: int = 8) -> None:
        self._process = process
        self._tasks_max = tasks_max

    def run_all(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        line = self._process.line
        if len(tasks) <= 1 or line.in_hub:
            return [task() for task in tasks]
        results: list[Any] = [None] * len(tasks)
        errors: list[BaseException | None] = [None] * len(tasks)
        waiting = deque(enumerate(tasks))
        caller, left = greenlet.getcurrent(), min(len(tasks), self._tasks_max)

        def work() -> None:
            nonlocal left
            while waiting:
                place, task = waiting.popleft()
                try:
                    results[place] = task()
                except Gone:
                    raise
                except Exception as error:  # noqa: BLE001 - carried to the caller, as by a thread
                    errors[place] = error
            left -= 1
            if left == 0:
                line.after(0.0, lambda: self._process.resume(caller))

        for _ in range(left):
            self._process.spawn(work, delay=line.chance.random() * 0.002)
        line.park()
        self._process.check()
        for error in errors:
            if error is not None:
                raise error
        return results

    def background(self, name: str, loop: Callable[[], None]) -> None:
        assert name
        if not self._process.line.in_hub:
            self._process.spawn(loop)

    def close(self) -> None:
        pass


class GreenCrew:
    """What the sweeper takes for its pool of threads."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def submit(self, work: Callable[[], object]) -> None:
        if self._process.line.in_hub:
            work()
        else:
            self._process.spawn(work)


class GreenCondition:
    """What the sweeper takes for its condition variable: between two switches nobody else is on the floor."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._waiting: list[greenlet.greenlet] = []

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None

    def notify_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            self._process.line.after(0.0, lambda task=task: self._process.resume(task))  # type: ignore[misc]

    def wait_for(self, holds: Callable[[], bool], timeout: float | None = None) -> bool:
        assert timeout is None
        while not holds():
            assert not self._process.line.in_hub, "waits for itself"
            self._waiting.append(greenlet.getcurrent())
            self._process.line.park()
            self._process.check()
        return True


def end(line: Timeline, processes: Sequence[Process]) -> None:
    """Take down what is left of the tasks; none of them can send any more."""
    for process in processes:
        process.kill()
    for task in line.dead:
        if task and not task.dead:
            task.throw(Gone)
    line.dead.clear()


def alive(processes: Sequence[Process]) -> Iterator[Process]:
    """Those that were not killed."""
    return (process for process in processes if not process.killed)
