"""The parent: forks workers, kills them at random, forks their replacements, and heals what is left.

It has no writer, no connection and no thread as long as it may fork; the workers inherit warm imports from it, so that
a kill costs a fork and not a start of Python.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.flights.diary import Fact, Reading
from tests.acceptance.flights.model import Model
from tests.acceptance.flights.worker import Worker, World, recover

POLL_SECONDS = 0.01
PAUSE_SECONDS_MAX = 0.03
RECOVERER_KILLED_EVERY = 10
HEAL_PAUSE_SECONDS = 0.2
HEAL_SECONDS_MAX = 60.0
STALL_SECONDS = 60.0

Show = Callable[[int, int, int], None]
"""Flights settled, kills, entries recovered."""


class RunFailed(Exception):
    """The run itself went wrong: a worker ended by itself, nothing moved any more, or nothing was killed."""


@dataclass(frozen=True)
class Order:
    """What is asked for."""

    processes: int
    kills: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What happened."""

    readings: list[Reading]
    """One for each slot."""
    kills: int
    """Workers killed with at least one flight under way."""
    idle_kills: int
    recoverer_kills: int
    recovered_along: Counter[str]
    recovered_at_end: Counter[str]
    seconds: float
    """From the first fork to the end of the healing."""

    @property
    def facts(self) -> list[Fact]:
        return [fact for reading in self.readings for fact in reading.facts]


class Child:
    """A forked process that does one thing and never returns into our code."""

    def __init__(self, job: Callable[[], None]) -> None:
        self.pid = _fork(job)

    def kill(self) -> bool:
        """SIGKILL; False if it had ended by itself before. Raises `RunFailed` if it had failed."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        return not _ended_well(status, killed_by_us=True)

    def ended(self) -> bool:
        """Whether it is done. Raises `RunFailed` if it failed."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return pid != 0 and _ended_well(status, killed_by_us=False)


def _fork(job: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        job()
        code = 0
    except BaseException:  # noqa: BLE001 - told here, and to the parent by the exit code
        traceback.print_exc()
    finally:
        os._exit(code)


def _ended_well(status: int, *, killed_by_us: bool) -> bool:
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
        return True
    if killed_by_us and os.WIFSIGNALED(status):
        return False
    raise RunFailed(f"a worker ended by itself with wait status {status}")


class Slot:
    """One worker and its successors, who share a diary."""

    def __init__(self, world: World, number: int, share: list[int], directory: Path) -> None:
        self._world = world
        self._number = number
        self._share = share
        self.reading = Reading(directory / f"worker-{number}")
        self._child: Child | None = None
        self._facts_at_birth = 0
        self.start()

    @property
    def alive(self) -> bool:
        return self._child is not None

    @property
    def busy(self) -> bool:
        """At work since its birth, and with a flight under way."""
        return self.alive and len(self.reading.facts) > self._facts_at_birth and bool(self.reading.open)

    def start(self) -> None:
        self._facts_at_birth = len(self.reading.facts)
        self._child = Child(lambda: Worker(self._world, self._number, self._share, self.reading.path).run())

    def look(self) -> None:
        """Read on in the diary, and notice the end."""
        ended = self._child is not None and self._child.ended()
        self.reading.look()
        if ended:
            self._child = None

    def kill(self) -> bool:
        """True if it was killed with a flight under way. It is replaced at once unless it had ended."""
        assert self._child is not None
        killed = self._child.kill()
        self._child = None
        self.reading.look()
        hit = killed and bool(self.reading.open)
        if killed:
            self.start()
        return hit

    def end(self) -> None:
        if self._child is not None:
            self._child.kill()


class Recoverer:
    """The monitor beside the workers; killed now and then like them."""

    def __init__(self, world: World, directory: Path) -> None:
        self._world = world
        self._reading = Reading(directory / "recoverer")
        self.ends: Counter[str] = Counter()
        """How the entries it took on ended."""
        self._child = self._start()

    def _start(self) -> Child:
        return Child(lambda: recover(self._world, self._reading.path))

    def look(self) -> None:
        if self._child.ended():
            raise RunFailed("the recoverer ended by itself")
        self._read_on()

    def kill(self) -> None:
        self.end()
        self._child = self._start()

    def end(self) -> None:
        self._child.kill()
        self._read_on()

    def _read_on(self) -> None:
        self.ends.update(fact.detail.partition(":")[0] for fact in self._reading.look())


class Run:
    """All of it, from the first fork to the last healed entry."""

    def __init__(self, world: World, order: Order, directory: Path, show: Show) -> None:
        self._world = world
        self._order = order
        self._show = show
        self._random = random.Random(order.seed)
        self._flights = len(world.model)
        self._marks = self._kill_marks()
        self._kills = self._idle_kills = self._recoverer_kills = 0
        assert threading.active_count() == 1, "a fork takes only the thread that forks; locks of others stay locked"
        gc.collect()
        gc.freeze()  # the children's collector leaves the parent's objects, and so the shared pages, alone
        self._started = time.monotonic()
        self._slots = [
            Slot(world, number, share, directory) for number, share in enumerate(shares(world.model, order.processes))
        ]
        self._recoverer = Recoverer(world, directory)

    def run(self) -> Outcome:
        """Work, kill, replace, until all flights are settled; then heal. Raises `RunFailed`."""
        try:
            self._work()
        finally:
            for slot in self._slots:
                slot.end()
            self._recoverer.end()
        healed = heal(self._world)
        seconds = time.monotonic() - self._started
        self._show(self._settled(), self._kills, self._recoverer.ends.total() + healed.total())
        readings = [slot.reading for slot in self._slots]
        return Outcome(
            readings,
            self._kills,
            self._idle_kills,
            self._recoverer_kills,
            self._recoverer.ends,
            healed,
            seconds,
        )

    def _kill_marks(self) -> Iterator[float]:
        """Numbers of settled flights at which to kill: spread over the run at random, none when it is all but over."""
        return iter(sorted(self._random.uniform(0.01, 0.92) * self._flights for _ in range(self._order.kills)))

    def _work(self) -> None:
        mark = next(self._marks, None)
        pause = threading.Event()
        last_settled, moved_at = 0, time.monotonic()
        while any(slot.alive for slot in self._slots):
            pause.wait(POLL_SECONDS)
            for slot in self._slots:
                slot.look()
            self._recoverer.look()
            settled = self._settled()
            if settled != last_settled:
                last_settled, moved_at = settled, time.monotonic()
            elif time.monotonic() - moved_at > STALL_SECONDS:
                raise RunFailed(f"no flight was settled for {STALL_SECONDS:.0f} s, at {settled} of {self._flights}")
            self._show(settled, self._kills, self._recoverer.ends.total())
            if mark is not None and settled >= mark and self._kill_one():
                mark = next(self._marks, None)

    def _kill_one(self) -> bool:
        """A random busy worker, after a random moment. True if it died with a flight under way."""
        busy = [slot for slot in self._slots if slot.busy]
        if not busy:
            return False
        victim = self._random.choice(busy)
        threading.Event().wait(self._random.uniform(0, PAUSE_SECONDS_MAX))
        hit = victim.kill()
        self._kills += hit
        self._idle_kills += not hit
        if hit and self._kills % RECOVERER_KILLED_EVERY == 0:
            self._recoverer.kill()
            self._recoverer_kills += 1
        return hit

    def _settled(self) -> int:
        return sum(len(slot.reading.settled) for slot in self._slots)


def shares(model: Model, processes: int) -> list[list[int]]:
    """The flights of each slot, dealt like cards, so that neighbours go to different processes."""
    order = model.work_order()
    return [order[slot::processes] for slot in range(processes)]


def heal(world: World) -> Counter[str]:
    """What an operator does after an outage: resume until the journal is empty. How each entry ended, counted.

    Entries of a clock that is ahead are too young to be resumed until that moment has come.
    """
    ends: Counter[str] = Counter()
    give_up_at = time.monotonic() + HEAL_SECONDS_MAX
    with world.writer() as writer:
        while True:
            ends.update(report.resumed.name for report in writer.recovery.resume_all())
            if not writer.recovery.look().entries or time.monotonic() > give_up_at:
                return ends
            threading.Event().wait(HEAL_PAUSE_SECONDS)
