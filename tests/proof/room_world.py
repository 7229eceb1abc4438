"""What all rooms have in common: processes on tables in memory, one of which meets a fault, and what follows.

A room's case plays one public operation, or a few, in one process; at one of its requests something goes wrong. Then
nothing goes wrong any more: what is under way lands, others go on, and the room's promise is judged (`RoomCase.judge`).
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar, Final, cast

from reliable_write import Outcome, ReliableWriteError, ReliableWriter, Settings, limits
from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallFailed, CallName, ConditionRefused, TransactionCancelled
from reliable_write.engine import Engine, assemble
from reliable_write.events import Events
from tests.proof.cases import LANDS_LATE_SECONDS, LANDS_SECONDS, Again, FixedTime, Flight
from tests.proof.history import Violation, check
from tests.proof.wire import CALL_SECONDS, READS, Died, Fault, Wire, faults_of
from tests.simulation.memory import Request
from tests.simulation.memory_world import SYSTEM, MemoryWorld, SkewedTime
from tests.unit.fakes import InlineWorkers

READS_OF_S3: Final = frozenset({"head_object", "get_object", "list_parts", "list_multipart_uploads"})
REFUSALS: Final = (ConditionRefused, TransactionCancelled, CallFailed)
_TIMEOUTS: Final = SimpleNamespace(connect_timeout=2.0, read_timeout=4.0)
"""Of the client that there is not: a lock asks for them."""


@dataclass
class MortalWire(Wire):
    """A process that died sends nothing more, whatever its `finally` blocks try."""

    dead: bool = False
    sent: list[Request] = field(default_factory=list)
    """Kept, so that what took effect can be told by whose it is."""

    def send(self, call: CallName, request: Request, deadline: Deadline) -> dict[str, Any]:
        if self.dead:
            raise Died
        self.sent.append(request)
        try:
            return super().send(call, request, deadline)
        except Died:
            self.dead = True
            raise


class Writer(ReliableWriter):
    """A writer of one process, over parts that are there already."""

    def __init__(self, parts: Engine) -> None:
        super().__init__(parts.settings, time=parts.time, workers=parts.workers)
        self._parts = parts

    def engine(self) -> Engine:
        return self._parts

    @property
    def client(self) -> Any:
        return SimpleNamespace(meta=SimpleNamespace(config=_TIMEOUTS))


@dataclass(frozen=True)
class Scenario:
    """What the process does that meets the fault, and what it finds when it begins."""

    name: str
    play: Callable[[Any], None]
    begin: Callable[[Any], None] = lambda _case: None
    skew: float = 0.0
    """By so much the clock of this process is wrong."""


@dataclass(frozen=True)
class RoomPlan:
    """What goes wrong, and where."""

    scenario: Scenario
    faults: Mapping[int, Fault] = field(default_factory=dict)
    """By the number of the request."""
    again: Again = "never"
    """When somebody finds out about what is unknown."""


class RoomCase(ABC):
    """The world of one plan: the `Around` of its wires. `run` raises `Violation`."""

    room: ClassVar[str]
    tables_made: ClassVar[Mapping[str, tuple[str, ...]]]
    scenarios: ClassVar[tuple[Scenario, ...]] = ()
    stall_seconds: ClassVar[float] = 3 * limits.LEASE_SECONDS

    def __init__(self, plan: RoomPlan) -> None:
        self.plan = plan
        self.time = FixedTime()
        self.world = MemoryWorld(shards=1, time=self.time, page_items=100)
        self.tables = self.world.tables
        for name, keys in self.tables_made.items():
            self.tables.create(name, *keys)
        self.tables.apply = self.apply  # type: ignore[method-assign]
        self.flights: list[Flight] = []
        self.names = itertools.count(1)
        self.outcomes: Counter[str] = Counter()
        self.wire = MortalWire(self)
        self.unwritten: list[Request] = []
        """What was told not to have been written."""
        self.effective: list[Request] = []
        """What changed something."""
        self.requests: tuple[str, ...] = ()
        """Of the play."""
        self.playing = False
        self.helper = self.process()
        self.me = self.helper
        """The process in which it goes wrong."""

    def run(self) -> None:
        self.plan.scenario.begin(self)
        self.me = self.process(self.wire, skew=self.plan.scenario.skew)
        self.pass_seconds(1.0)
        self.play()
        self.wire.faults, self.wire.broken = {}, {}
        self.pass_seconds(1.0)
        if self.plan.again == "at once" and not self.wire.dead:
            self.find_out()
        self.heal()
        self.land()
        if self.plan.again == "later" and not self.wire.dead:
            self.find_out()
        self.heal()
        self.judge()

    def play(self) -> None:
        self.wire.trace.clear()
        self.wire.faults = self.plan.faults
        self.playing = True
        try:
            self.plan.scenario.play(self)
        except Died:
            self.outcomes["died"] += 1
        except ReliableWriteError as error:  # told, and the end of what it wanted
            self.outcomes[error.outcome.name] += 1
        finally:
            self.playing = False
            self.requests = tuple(self.wire.trace)

    @contextlib.contextmanager
    def honestly(self) -> Iterator[None]:
        """A deed that, where it says that nothing was written, has sent nothing that was or will be."""
        begun = len(self.wire.sent)
        try:
            yield
        except ReliableWriteError as error:
            self.outcomes[error.outcome.name] += 1
            if error.outcome is Outcome.NOT_WRITTEN:
                self.unwritten += self.wire.sent[begun:]
            raise

    def check_unwritten(self) -> None:
        """For `judge`."""
        for request in self.unwritten:
            check(not any(request is one for one in self.effective), f"told not to be written, and is: {request}")

    # --- what a room makes of it --------------------------------------------------------------------------------

    @abstractmethod
    def find_out(self) -> None:
        """About what is unknown, by the process that does not know."""

    @abstractmethod
    def heal(self) -> None:
        """Others go on, with nothing going wrong. It is done before and after what is under way has landed."""

    @abstractmethod
    def judge(self) -> None:
        """Whether the room's promises hold."""

    @abstractmethod
    def interfere(self, kind: str) -> None:
        """Somebody else does something to the same item."""

    @abstractmethod
    def go_on(self) -> None:
        """Whoever waits, or maintains, has all the time it takes."""

    def noticed(self, call: CallName, request: Request) -> None:  # noqa: B027 - most rooms notice nothing
        """Called after all that took effect."""

    # --- processes ----------------------------------------------------------------------------------------------

    def process(self, wire: Wire | None = None, *, skew: float = 0.0) -> Writer:
        """One more; its start is not among what a wire counts."""
        settings = Settings(system_table=SYSTEM, delete_finished_inline=True)
        calls = wire if wire is not None else Wire(self)  # time passes with each call of others, too
        time = SkewedTime(self.time, skew)
        writer = Writer(assemble(calls, settings, time, InlineWorkers(), Events(self.world.logger)))
        if wire is not None:
            wire.trace.clear()
        return writer

    # --- `Around` -----------------------------------------------------------------------------------------------

    def apply(self, call: CallName, request: Request) -> dict[str, Any]:
        answer: dict[str, Any] = copied(getattr(self.tables, f"_{call}")(copied(request)))
        if call not in READS:
            self.effective.append(request)
        self.noticed(call, request)
        return answer

    def pass_seconds(self, seconds: float) -> None:
        self.time.pass_seconds(seconds)

    def flies(self, call: CallName, request: Request, *, long: bool) -> None:
        after = LANDS_LATE_SECONDS if long else LANDS_SECONDS
        self.flights.append(Flight(call, request, self.time.elapsed + after))

    def rival(self, kind: str) -> None:
        _elsewhere(lambda: self.interfere(kind))

    def others_finish(self) -> None:
        _elsewhere(self.go_on)

    def stall(self) -> None:
        self.pass_seconds(self.stall_seconds)
        self.others_finish()
        self.pass_seconds(CALL_SECONDS)

    def land(self) -> None:
        """What is under way lands, last of all."""
        for flight in sorted(self.flights, key=lambda one: one.lands_at):
            self.pass_seconds(max(0.0, flight.lands_at - self.time.elapsed))
            with contextlib.suppress(*REFUSALS):
                self.tables.apply(flight.call, flight.request)
                self.outcomes["landed late"] += 1
            self.others_finish()
        self.flights = []

    # --- what is there ------------------------------------------------------------------------------------------

    def item(self, table: str, key: str) -> dict[str, Any]:
        return self.tables.tables[table].items.get(key, {})


def _elsewhere(deed: Callable[[], object]) -> None:
    """In a process of its own, as far as one thread can be that: what is said there is not said to ours."""
    try:
        contextvars.Context().run(deed)
    except ReliableWriteError as error:
        raise Violation(f"somebody else was told {error!r}") from error


def copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: copied(one) for name, one in value.items()}
    return [copied(one) for one in value] if isinstance(value, list) else value


def faults_in_rooms(call: str) -> list[Fault]:
    """Of a call to DynamoDB, or to S3."""
    if call in READS_OF_S3:
        call = "get_item"
    return faults_of(cast("CallName", call))
