"""What counters cost: the tables of their page, counted."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from reliable_write import (
    AtomicCounter,
    Counter,
    CounterLimitError,
    CounterOutOfSyncError,
    CounterUnknownError,
    ReliableWriter,
    ShardedCounter,
)
from reliable_write.testing.faults import FaultPlan, lose_answer
from reliable_write.testing.meter import Meter
from tests.integration.accounts import manual_time
from tests.integration.counting_room import NAME, CountingRoom, slots
from tests.world import World

PAGE = Path(__file__).parents[2] / "docs" / "counters.md"
Deed = Callable[[], object]
Cost = tuple[int, float, float]


class Till:
    """Handles that were used before, with one writer."""

    def __init__(self, world: World) -> None:
        self.room = CountingRoom(world)
        self.writer: ReliableWriter = world.writer(time=manual_time())
        self.counter = AtomicCounter(self.writer, self.room.table, NAME, minimum=0)
        self.counter.add(1000)
        self.handle = Counter(self.writer, self.room.table, "handle")
        self.handle += 1
        self.sharded = ShardedCounter(self.writer, self.room.table, "hits", shards=8)
        self.sharded.add()
        self.counter.add(idempotency_key="before")
        self.counter.next_ids(2, idempotency_key="ids-before")

    def cost(self, deed: Deed) -> Cost:
        with Meter(self.writer.client) as meter:
            deed()
        return meter.calls.total(), meter.write_units, meter.read_units

    def step_handle(self) -> None:
        self.handle += 1

    def refused_by_a_bound(self) -> None:
        with pytest.raises(CounterLimitError):
            self.counter.subtract(10**6)

    def out_of_sync(self) -> None:
        stale = self.handle.value - 1
        self.handle._value = stale
        with pytest.raises(CounterOutOfSyncError):
            self.handle.add()

    def answer_lost(self) -> None:
        with FaultPlan(self.writer.client).on("UpdateItem", lose_answer, times=1):
            self.counter.add()

    def settling(self) -> Deed:
        with FaultPlan(self.writer.client).on("UpdateItem", lose_answer), pytest.raises(CounterUnknownError) as unknown:
            self.counter.add()
        assert unknown.value.settle is not None
        return unknown.value.settle

    def rows(self) -> dict[str, list[Deed]]:
        """What each row of the page stands for; deeds of one row cost the same. In this order: closing comes last."""
        counter, table, writer = self.counter, self.room.table, self.writer
        return {
            "`add()`, `subtract()`, `next_ids(1000)`, `reset()`, `c += 1`": [
                *(counter.add, counter.subtract, lambda: counter.next_ids(1000), lambda: counter.reset(500)),
                self.step_handle,
            ],
            "`get()`, `c.refresh()`, making a `Counter`": [
                *(counter.get, self.handle.refresh, lambda: Counter(writer, table, "handle")),
            ],
            "making a `Counter` that is not there": [lambda: Counter(writer, table, "new")],
            "`add(idempotency_key=...)`": [lambda: counter.add(idempotency_key="k")],
            "`next_ids(idempotency_key=...)`": [lambda: counter.next_ids(5, idempotency_key="ids")],
            "the same again": [lambda: counter.next_ids(2, idempotency_key="ids-before")],
            "sharded: `add()`": [self.sharded.add],
            "sharded: `get()` of 8 shards": [self.sharded.get],
            "`close()`": [counter.close, self.handle.close],
        }


def told() -> dict[str, Cost]:
    rows = re.findall(r"^\| ([^|]+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE.read_text(), re.MULTILINE)
    return {name: (int(calls), float(writes), float(reads)) for name, calls, writes, reads in rows}


def test_the_table_of_costs_is_what_the_engine_bills(world: World) -> None:
    till = Till(world)
    found = {}
    for name, deeds in till.rows().items():
        costs = {till.cost(deed) for deed in deeds}
        assert len(costs) == 1, (name, costs)
        found[name] = costs.pop()
    found["`unknown.settle()`"] = till.cost(till.settling())
    assert found == told()


def test_handles_in_use_cost_what_the_page_says(world: World) -> None:
    rows = re.findall(r"^\| (\d+) \| (\d+) \|$", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == 3
    room, writer = CountingRoom(world), world.writer()
    counters: list[AtomicCounter] = []
    for handles, units in rows:
        while len(counters) < int(handles):
            counters.append(AtomicCounter(writer, room.table, NAME, initial=10**6))
            counters[-1].add()
        assert len(slots(room.item())) == int(handles)
        with Meter(writer.client) as meter:
            counters[-1].add()
        assert meter.write_units == int(units), handles


def test_a_short_lived_client_that_closes_costs_two_write_units_and_leaves_nothing(world: World) -> None:
    room, writer = CountingRoom(world), world.writer()
    writer.engine().schemas.get(room.table)
    for _ in range(3):
        with Meter(writer.client) as meter, AtomicCounter(writer, room.table, NAME) as counter:
            counter.add()
        assert (meter.write_units, slots(room.item())) == (2.0, [])


def test_a_refused_step_is_one_request_and_a_lost_answer_one_more(world: World) -> None:
    """The engines do not tell what a refused request is billed."""
    till = Till(world)
    assert [till.cost(deed)[0] for deed in (till.refused_by_a_bound, till.out_of_sync, till.answer_lost)] == [1, 1, 2]
