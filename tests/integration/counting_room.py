"""A table of counters on an engine, and handles as several processes would have them."""

from __future__ import annotations

from typing import Any

import pytest

from reliable_write import AtomicCounter, Counter, ReliableWriter, ShardedCounter
from reliable_write.testing.faults import FaultPlan
from tests.world import World

NAME = "orders"


class CountingRoom:
    """Each handle has a writer, and so a client, of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.table = world.table("counters")

    def atomic(self, name: str = NAME, *, time: Any = None, **more: Any) -> AtomicCounter:
        writer = self.world.writer(time=time, **more.pop("writer", {}))
        return AtomicCounter(writer, self.table, name, **more)

    def counter(self, initial: int = 0, *, time: Any = None, **more: Any) -> Counter:
        return Counter(self.world.writer(time=time), self.table, NAME, initial, **more)

    def sharded(self, shards: int = 4, **more: Any) -> ShardedCounter:
        return ShardedCounter(self.world.writer(), self.table, NAME, shards=shards, **more)

    def item(self, name: str = NAME) -> dict[str, Any]:
        return self.world.item(self.table, id={"S": name}) or {}

    def value(self, name: str = NAME) -> int:
        return int(self.item(name)["value"]["N"])

    def store(self, **attributes: Any) -> None:
        """An item as somebody else wrote it, in the wire's form."""
        self.world.client.put_item(TableName=self.table, Item={"id": {"S": NAME}, **attributes})


def writer_of(counter: AtomicCounter | Counter) -> ReliableWriter:
    writer = counter._place.writer
    assert isinstance(writer, ReliableWriter)
    return writer


def plan_for(counter: AtomicCounter | Counter) -> FaultPlan:
    """Faults on the calls of this handle's client."""
    return FaultPlan(writer_of(counter).client)


def slots(item: dict[str, Any]) -> list[str]:
    return sorted(name for name in item if name.startswith("_rws."))


@pytest.fixture
def room(plain_world: World) -> CountingRoom:
    """Also on an engine without transactions and without items in its refusals."""
    return CountingRoom(plain_world)


@pytest.fixture
def whole_room(world: World) -> CountingRoom:
    """On an engine with transactions."""
    return CountingRoom(world)
