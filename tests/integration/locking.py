"""A table of locks, and machines that take them: each with clocks of its own that stand still until they are moved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from structlog.testing import CapturingLogger

from reliable_write import Lease, Lock, ReliableWriter
from reliable_write.clock import TimeSource
from reliable_write.locks.heartbeat import Heartbeat
from reliable_write.locks.lock import Key
from reliable_write.testing.faults import FaultPlan
from tests.unit.fakes import NOON, InlineWorkers, ManualTime
from tests.world import World

LEASE = 20.0
BEAT = LEASE / 4
SAFE = LEASE / 2
REQUEST = 1.0
"""Connect and read timeout of all clients here."""
YEAR = 365 * 86_400.0


class Clock(ManualTime):
    """A machine's clocks, and what happens elsewhere while it sleeps."""

    def __init__(self, wall: float = NOON) -> None:
        super().__init__(wall)
        self.meanwhile: Callable[[float], object] = lambda _seconds: None

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.meanwhile(seconds)


class Machine:
    """A process on a machine of its own. No heartbeat runs behind the test's back: see `beat`."""

    def __init__(self, room: Room, writer: ReliableWriter, clock: TimeSource, log: CapturingLogger) -> None:
        self.room = room
        self.writer = writer
        self._clock = clock
        self.log = log

    @property
    def clock(self) -> Clock:
        assert isinstance(self._clock, Clock)
        return self._clock

    @property
    def client(self) -> Any:
        return self.writer.client

    def lock(self, key: Key = "x", **more: Any) -> Lock:
        return Lock(self.writer, more.pop("table", self.room.table), key, **{"lease_seconds": LEASE, **more})

    def faults(self) -> FaultPlan:
        return FaultPlan(self.client)

    def told(self, event: str) -> list[dict[str, Any]]:
        return [call.kwargs for call in self.log.calls if call.args == (event,)]


class Room:
    """A world with a table for locks."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.table = world.table("locks", hash_key="name:S")
        self._writers: list[ReliableWriter] = []

    def machine(self, wall: float = NOON, *, time: TimeSource | None = None, threads: bool = False) -> Machine:
        """With `threads` heartbeats run by themselves; with `time` clocks may go."""
        clock = time if time is not None else Clock(wall)
        client = self.world.engine.client(
            max_pool_connections=40, connect_timeout=REQUEST / 2, read_timeout=REQUEST / 2
        )
        log = CapturingLogger()
        writer = ReliableWriter(
            self.world.settings(), client=client, time=clock, workers=None if threads else InlineWorkers(), logger=log
        )
        self._writers.append(writer)
        return Machine(self, writer, clock, log)

    def item(self, key: str = "x") -> dict[str, Any] | None:
        return self.world.item(self.table, name={"S": key})

    def close(self) -> None:
        while self._writers:
            self._writers.pop().close()


def beat(lease: Lease) -> float | None:
    """One turn of its heartbeat, at the time its machine has."""
    return Heartbeat(lease._hold, lease._hold.terms.engine.time).turn()


def opened(world: World) -> Iterator[Room]:
    room = Room(world)
    yield room
    room.close()


@pytest.fixture
def room(world: World) -> Iterator[Room]:
    yield from opened(world)


@pytest.fixture
def plain_room(plain_world: World) -> Iterator[Room]:
    """Also on an engine without transactions, and without items in its refusals."""
    yield from opened(plain_world)


@pytest.fixture
def every_room(every_world: World) -> Iterator[Room]:
    yield from opened(every_world)
