"""`ShardedCounter` on real engines: steps spread over items, one sum."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from reliable_write import (
    ConfigurationError,
    CounterTypeError,
    IdempotencyMismatchError,
    ReadFailedError,
    ReliableWriter,
    ShardedCounter,
    UnsupportedOperationError,
)
from reliable_write.testing.faults import Call, FaultPlan, lose_answer, throttle
from reliable_write.testing.meter import Meter
from tests.integration.counting_room import NAME, CountingRoom, room
from tests.world import World

__all__ = ["room"]


def client_of(counter: ShardedCounter) -> Any:
    writer = counter._places[0].writer
    assert isinstance(writer, ReliableWriter)
    return writer.client


def test_the_sum_is_that_of_all_steps(every_world: World) -> None:
    room = CountingRoom(every_world)
    handles = [room.sharded(initial=1000) for _ in range(6)]
    for number, counter in enumerate(handles):
        counter.add(10**number)
        counter.subtract()
    assert handles[0].get() == 1000 + 111_111 - 6 == room.sharded(initial=1000).get()
    assert room.sharded(initial=3, shards=4).get() == 3 + 111_111 - 6


def test_handles_spread_and_each_keeps_to_one_item(world: World) -> None:
    room = CountingRoom(world)
    for _ in range(12):
        counter = room.sharded()
        for _ in range(3):
            counter.add()
    counted = [item for item in world.items(room.table) if "value" in item]
    assert 1 < len(counted) <= 4
    assert sum(int(item["value"]["N"]) for item in counted) == 36
    slots = [name for item in counted for name in item if name.startswith("_rws.")]
    assert len(slots) == 12


def test_threads_that_come_at_once_go_to_several_items(room: CountingRoom) -> None:
    counter, together = room.sharded(), threading.Barrier(4)
    counter.add()

    def meet(_call: Call) -> None:
        together.wait(20)

    with FaultPlan(client_of(counter)).on("UpdateItem", meet, times=4), ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: counter.add(), range(4)))
    assert counter.get() == 5


def test_a_step_whose_answer_is_lost_counts_once(room: CountingRoom) -> None:
    counter = room.sharded()
    counter.add()
    with FaultPlan(client_of(counter)).on("UpdateItem", lose_answer, "after", times=2) as plan:
        counter.add()
        counter.add()
    assert plan.injected == 2
    assert counter.get() == 3


def test_reading_is_one_request(world: World) -> None:
    counter = CountingRoom(world).sharded(8)
    counter.add()
    with Meter(client_of(counter)) as meter:
        assert counter.get() == 1
    assert dict(meter.calls) == {"BatchGetItem": 1}
    with FaultPlan(client_of(counter)).on("BatchGetItem", throttle, times=1):
        assert counter.get() == 1


def test_reading_without_an_answer_says_so(world: World) -> None:
    room = CountingRoom(world)
    writer = world.hasty()
    counter = ShardedCounter(writer, room.table, NAME, shards=2)
    counter.add()
    with FaultPlan(writer.client).on("BatchGetItem", throttle), pytest.raises(ReadFailedError):
        counter.get()


def test_all_processes_must_say_the_same_number_of_shards(room: CountingRoom) -> None:
    room.sharded(4).add()
    for use in (ShardedCounter.add, ShardedCounter.get):
        with pytest.raises(ConfigurationError, match="has 4 shards, and this handle was made with 8"):
            use(room.sharded(8))
    assert room.sharded(4).get() == 1


def test_bounds_and_ids_are_refused_by_name(room: CountingRoom) -> None:
    bound: Any = 5
    for bounds in ({"minimum": bound}, {"maximum": bound}):
        with pytest.raises(UnsupportedOperationError, match="no minimum and no maximum"):
            room.sharded(**bounds)
    with pytest.raises(UnsupportedOperationError, match="gives no ids"):
        room.sharded().next_ids(3)
    for shards in (1, 101, 2.0):
        with pytest.raises((ValueError, TypeError)):
            room.sharded(shards)  # type: ignore[arg-type]


def test_a_key_counts_once_whichever_handle_it_comes_from(world: World) -> None:
    room = CountingRoom(world)
    for number in range(5):
        for _ in range(2):
            room.sharded().add(2, idempotency_key=f"k{number}")
    with pytest.raises(IdempotencyMismatchError):
        room.sharded().add(3, idempotency_key="k0")
    assert room.sharded().get() == 10


def test_what_is_no_number_is_told(room: CountingRoom) -> None:
    counter = room.sharded(2)
    counter.add()
    room.world.client.put_item(TableName=room.table, Item={"id": {"S": f"{NAME}#_rw1"}, "value": {"S": "0"}})
    with pytest.raises(CounterTypeError):
        counter.get()


def test_leaving_the_block_gives_all_slots_back(room: CountingRoom) -> None:
    with room.sharded(2) as counter:
        counter.add()
    assert not [name for item in room.world.items(room.table) for name in item if name.startswith("_rws.")]
    counter.add(0)
    assert counter.get() == 1
