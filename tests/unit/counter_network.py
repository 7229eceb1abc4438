"""A counter's table in memory behind a network on which anything may happen to each request, and all of it be listed.

A fault list says what happens to the first updates of one process; after it everything goes well. Requests that are
late, and copies of those that are sent twice, land when the network is told to.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from reliable_write import AtomicCounter, CommitFailedError, Counter, CounterUnknownError, Settings
from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallFailed, CallName, ConditionRefused
from reliable_write.engine import Engine, assemble
from reliable_write.events import Events
from reliable_write.policy import FailureKind
from reliable_write.values import WireItem
from tests.simulation.memory import MemoryTables
from tests.simulation.memory_world import SYSTEM, MemoryWorld, SkewedTime
from tests.unit.fakes import InlineWorkers

TABLE = "counters"
NAME = "tally"
Fault = Literal["ok", "lost", "answer lost", "late", "twice", "throttled", "conflict"]
FAULTS: tuple[Fault, ...] = ("ok", "lost", "answer lost", "late", "twice", "throttled", "conflict")
Landing = Literal["with the next request", "after the step", "at the end"]
LANDINGS: tuple[Landing, ...] = ("with the next request", "after the step", "at the end")


class Network:
    """`Calls` of one process."""

    def __init__(self, tables: MemoryTables, faults: tuple[Fault, ...], landing: Landing) -> None:
        self._tables = tables
        self._faults = iter(faults)
        self._landing = landing
        self._late: list[Mapping[str, Any]] = []
        self.after_each: Callable[[], None] = lambda: None
        """What others do between two of our requests."""
        self.updates = 0

    def send(self, call: CallName, request: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
        if call != "update_item":
            return self._tables.send(call, request, deadline)
        if deadline.passed():
            raise CallFailed(FailureKind.DEADLINE, "DeadlinePassed", TABLE)
        if self._landing == "with the next request":
            self.land()
        self.updates += 1
        try:
            return self._happen(next(self._faults, "ok"), request)
        finally:
            self.after_each()

    def step_done(self) -> None:
        if self._landing == "after the step":
            self.land()

    def land(self) -> int:
        """All that is under way arrives; how many requests that were."""
        landed = 0
        while self._late:
            self._arrive(self._late.pop(0))
            landed += 1
        return landed

    def _happen(self, fault: Fault, request: Mapping[str, Any]) -> dict[str, Any]:
        if fault in ("throttled", "conflict"):
            raise CallFailed(FailureKind.THROTTLED if fault == "throttled" else FailureKind.CONFLICT, "injected", TABLE)
        if fault == "late":
            self._late.append(request)
        if fault in ("lost", "late"):
            raise CallFailed(FailureKind.TIMEOUT, "injected", TABLE)
        if fault == "answer lost":
            self._arrive(request)
            raise CallFailed(FailureKind.TIMEOUT, "injected", TABLE)
        answer = self._tables.apply("update_item", request)
        if fault == "twice":  # what was refused is taken for refused: see docs/counters.md
            self._late.append(request)
        return answer

    def _arrive(self, request: Mapping[str, Any]) -> None:
        with contextlib.suppress(ConditionRefused, CallFailed):
            self._tables.apply("update_item", request)


class Process:
    """A writer as far as counters are concerned, with the parts of a real one."""

    def __init__(self, world: CounterWorld, network: Network, *, skew: float = 0.0) -> None:
        self.network = network
        self.time = SkewedTime(world.memory.time, skew)
        settings = Settings(
            system_table=SYSTEM,
            attempt_deadline_seconds=world.deadline_seconds,
            read_timeout_seconds=min(4.0, world.deadline_seconds),
        )
        self._engine = assemble(network, settings, self.time, InlineWorkers(), Events(world.memory.logger))

    def engine(self) -> Engine:
        return self._engine


class CounterWorld:
    """One counter and the processes that change it."""

    def __init__(self, *, deadline_seconds: float = 8.0, **tables: Any) -> None:
        self.deadline_seconds = deadline_seconds
        self.memory = MemoryWorld(**tables)
        self.memory.tables.create(TABLE, "id")
        self.networks: list[Network] = []

    def process(self, faults: tuple[Fault, ...] = (), landing: Landing = "at the end", *, skew: float = 0.0) -> Process:
        self.networks.append(Network(self.memory.tables, faults, landing))
        return Process(self, self.networks[-1], skew=skew)

    def counter(self, faults: tuple[Fault, ...] = (), landing: Landing = "at the end", **more: Any) -> AtomicCounter:
        return AtomicCounter(self.process(faults, landing), TABLE, NAME, **more)

    def handle(self, faults: tuple[Fault, ...] = (), landing: Landing = "at the end", **more: Any) -> Counter:
        return Counter(self.process(faults, landing), TABLE, NAME, **more)

    def item(self) -> WireItem:
        return self.memory.tables.tables[TABLE].items.get(NAME, {})

    def value(self) -> int:
        return int(self.item().get("value", {"N": "0"})["N"])

    def land_all(self) -> None:
        for network in self.networks:
            network.land()


class Tally:
    """What became of the steps of one handle."""

    def __init__(self) -> None:
        self.counted = 0
        self.unknown = 0
        self.values: list[int] = []
        self.kinds: set[str] = set()

    def take(self, step: Callable[[], int], network: Network, *refusals: type[Exception]) -> int | None:
        """One step, settled where its outcome is unknown; the value after it, None where it is not counted."""
        kind, value = "not written", None
        try:
            value = step()
            kind = "counted"
        except CommitFailedError:
            pass
        except refusals as refused:
            kind = type(refused).__name__
        except CounterUnknownError as unknown:
            kind, value = settled(unknown)
        self.kinds.add(kind)
        self.unknown += kind == "unknown"
        if value is not None:
            self.counted += 1
            self.values.append(value)
        network.step_done()
        return value


def settled(unknown: CounterUnknownError) -> tuple[str, int | None]:
    for _ in range(10):
        if unknown.settle is None:
            return "unknown", None
        try:
            value = unknown.settle()
        except CounterUnknownError as again:
            unknown = again
        except CommitFailedError:
            continue
        else:
            return "settled", value
    return "unknown", None


def all_weathers(depth: int) -> Iterator[tuple[tuple[Fault, ...], Landing]]:
    """Every fault at each of the first updates, with every way of landing."""
    for faults in itertools.product(FAULTS, repeat=depth):
        late = "late" in faults or "twice" in faults
        for landing in LANDINGS if late else LANDINGS[:1]:
            yield faults, landing
