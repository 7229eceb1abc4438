"""`Counter` on real engines: an int-like handle that is created once and knows when others moved it."""

from __future__ import annotations

import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from boto3.dynamodb.types import TypeSerializer
from pydantic import BaseModel, ValidationError

from reliable_write import (
    CommitFailedError,
    Counter,
    CounterOutOfSyncError,
    CounterTypeError,
    CounterUnknownError,
    InvalidKeyError,
    Outcome,
    ReliableWriteError,
)
from reliable_write.testing.faults import Call, FaultPlan, InFlight, lose_answer, throttle
from reliable_write.testing.meter import Meter
from tests.integration.accounts import manual_time
from tests.integration.counting_room import NAME, CountingRoom, plan_for, room, slots, writer_of
from tests.world import World

__all__ = ["room"]


# --- created once -------------------------------------------------------------------------------------------------


def test_it_is_created_once_and_then_adopted(every_world: World) -> None:
    room = CountingRoom(every_world)
    counter = room.counter(5)
    assert (counter.value, room.value()) == (5, 5)
    counter += 1
    assert room.counter(99) == 6, "the other one's initial value does not count"


def test_of_two_processes_that_create_it_one_does_and_the_other_adopts(room: CountingRoom) -> None:
    writer = room.world.writer()
    made: list[Counter] = []

    def others(_call: Call) -> None:
        made.append(room.counter(7))
        made[0].add(1)

    with FaultPlan(writer.client) as plan:
        plan.on("UpdateItem", others, times=1)
        counter = Counter(writer, room.table, NAME, 7)
    assert counter == made[0] == 8
    counter += 1
    assert room.value() == 9


def test_creating_it_over_a_lost_answer_adopts_what_is_there(room: CountingRoom) -> None:
    writer, late = room.world.writer(), InFlight()
    with FaultPlan(writer.client) as plan:
        plan.on("UpdateItem", late, times=1)
        counter = Counter(writer, room.table, NAME, 7)
    counter += 1
    assert late.land() == [400]
    assert counter == 8 == room.value()


# --- in sync and out of it ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", ["5", "5.0", "05", "5e0"])
def test_it_is_not_always_out_of_sync(every_world: World, stored: str) -> None:
    """The old one was: it compared the expected value in another form than the stored one."""
    room = CountingRoom(every_world)
    room.store(value={"N": stored})
    counter = room.counter()
    for number in range(6, 16):
        counter += 1
        assert counter == number
    counter -= 20
    counter += 0
    assert counter == -5 == room.value()


def test_a_counter_that_others_moved_is_out_of_sync_and_then_shows_the_true_value(every_world: World) -> None:
    room = CountingRoom(every_world)
    counter, other = room.counter(3), room.counter()
    other += 4
    with pytest.raises(CounterOutOfSyncError) as moved:
        counter += 1
    error = moved.value
    assert (error.expected, error.actual, error.outcome) == (3, 7, Outcome.NOT_WRITTEN)
    assert isinstance(error, ValueError)
    assert isinstance(error, ReliableWriteError)
    assert counter == 7
    assert counter.timestamp == other.timestamp
    counter += 1
    assert counter == 8 == room.value()
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (again.expected, again.actual) == (3, 7)


def test_an_applied_step_whose_answer_is_lost_is_in_sync(room: CountingRoom) -> None:
    """A is applied, its answer lost; B moves on; A tries again: the step was done, and A shows what it came to."""
    counter, other = room.counter(), room.counter()

    def and_b_moves_on(call: Call) -> None:
        other.refresh()
        other.add(10)
        lose_answer(call)

    with plan_for(counter).on("UpdateItem", and_b_moves_on, "after", times=1) as plan:
        counter += 1
    assert (plan.injected, plan.count("UpdateItem")) == (1, 2)
    assert counter == 1
    assert room.value() == 11
    with pytest.raises(CounterOutOfSyncError):
        counter += 1
    assert counter == 11


def test_one_that_is_out_of_sync_is_never_applied_later(room: CountingRoom) -> None:
    """The first try is under way for long, others move on and come back to the value it waits for."""
    counter, other, late = room.counter(), room.counter(), InFlight()

    def held_while_b_moves(call: Call) -> None:
        other.add(10)
        late(call)

    with (
        plan_for(counter).on("UpdateItem", held_while_b_moves, times=1),
        pytest.raises(CounterOutOfSyncError) as moved,
    ):
        counter += 1
    assert moved.value.actual == 10
    other.set(0)
    assert late.land() == [400]
    assert room.value() == 0


@pytest.mark.parametrize("counted", [True, False])
def test_a_step_without_an_answer_is_unknown_until_it_is_settled(room: CountingRoom, counted: bool) -> None:
    counter = room.counter(time=manual_time())
    with (
        plan_for(counter).on("UpdateItem", lose_answer, "after" if counted else "before"),
        pytest.raises(CounterUnknownError) as unknown,
    ):
        counter += 1
    assert counter == 0
    assert unknown.value.settle is not None
    assert unknown.value.settle() == (1 if counted else None)
    assert counter == int(counted) == room.value()
    counter += 1
    assert counter == 1 + counted


def test_the_next_step_and_a_refresh_settle_the_one_before(room: CountingRoom) -> None:
    for number, go_on in enumerate((lambda one: one.add(1), Counter.refresh)):
        counter = room.counter(time=manual_time())
        before = counter.value
        with plan_for(counter).on("UpdateItem", lose_answer, "after"), pytest.raises(CounterUnknownError):
            counter += 1
        go_on(counter)
        assert counter == before + 2 - number == room.value()


def test_a_step_that_certainly_failed_leaves_the_handle_as_it_was(room: CountingRoom) -> None:
    counter = room.counter(time=manual_time())
    with plan_for(counter).on("UpdateItem", throttle), pytest.raises(CommitFailedError):
        counter += 1
    assert counter == 0
    counter += 1
    assert counter == 1


def test_threads_of_one_handle_step_one_after_the_other(room: CountingRoom) -> None:
    counter = room.counter()
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda _: counter.add(), range(40)))
    assert sorted(values) == list(range(1, 41))
    assert counter == 40 == room.value()


def test_refresh_shows_what_is_there_and_makes_anew_what_is_gone(room: CountingRoom) -> None:
    counter, other = room.counter(2), room.counter()
    other += 5
    assert counter == 2
    assert counter.refresh() == 7
    room.world.client.delete_item(TableName=room.table, Key={"id": {"S": NAME}})
    with pytest.raises(CounterOutOfSyncError) as gone:
        counter += 1
    assert gone.value.actual is None
    assert counter.refresh() == 2 == room.value()


def test_a_step_is_one_request_and_one_write_unit(world: World) -> None:
    counter = CountingRoom(world).counter()
    with Meter(writer_of(counter).client) as meter:
        counter += 1
    assert (dict(meter.calls), meter.write_units, meter.read_units) == ({"UpdateItem": 1}, 1.0, 0.0)


def test_leaving_the_block_gives_the_slot_back(room: CountingRoom) -> None:
    with room.counter() as counter:
        counter.add()
        assert len(slots(room.item())) == 1
    assert slots(room.item()) == []


# --- when ---------------------------------------------------------------------------------------------------------


def test_the_timestamp_is_iso_8601_with_an_offset(room: CountingRoom) -> None:
    time = manual_time()
    counter = room.counter(time=time)
    first = datetime.fromisoformat(counter.timestamp or "")
    assert first.utcoffset() == timedelta(0)
    assert abs(first - datetime.fromtimestamp(time.wall_seconds(), UTC)) < timedelta(milliseconds=1)
    time.pass_seconds(90)
    counter += 1
    assert datetime.fromisoformat(counter.timestamp or "") - first == timedelta(seconds=90)
    assert room.counter().timestamp == counter.timestamp == room.item()["timestamp"]["S"]


def test_a_counter_that_others_made_may_have_no_timestamp(room: CountingRoom) -> None:
    room.store(value={"N": "5"})
    counter = room.counter()
    assert counter.timestamp is None
    counter += 1
    assert counter.timestamp is not None


# --- like an int --------------------------------------------------------------------------------------------------


@pytest.fixture
def seven(world: World) -> Counter:
    return CountingRoom(world).counter(7)


def test_it_counts_on_in_place_and_computes_otherwise(seven: Counter) -> None:
    same = seven
    seven += 2
    seven -= 1
    assert seven is same
    assert (seven + 1, 1 + seven, seven - 3, 10 - seven, seven * 2, 2 * seven, -seven) == (9, 9, 5, 2, 16, 16, -8)
    assert (seven + 0.5, seven + Decimal("0.5"), seven + seven) == (8.5, Decimal("8.5"), 16)
    assert type(seven + 1) is int
    with pytest.raises(TypeError):
        seven += 1.5  # type: ignore[arg-type]


def test_it_compares_with_every_number(seven: Counter) -> None:
    assert seven == 7 == seven
    assert seven == 7.0
    assert seven == Decimal(7)
    assert seven != 8
    assert seven != "7"
    assert 6 < seven <= 7.5
    assert Decimal("7.1") > seven >= 7
    assert not seven < seven  # noqa: PLR0124 - a counter with a counter
    assert seven <= seven  # noqa: PLR0124
    with pytest.raises(TypeError):
        _ = seven < "8"


def test_it_is_shown_and_used_as_an_int(seven: Counter) -> None:
    assert (f"{seven}", f"{seven:d}", f"{seven:03d}", str(seven), "%d" % seven) == ("7", "7", "007", "7", "7")  # noqa: UP031
    assert list(range(seven)) == [0, 1, 2, 3, 4, 5, 6]
    assert "abcdefgh"[seven] == "h"
    assert (int(seven), float(seven), bool(seven)) == (7, 7.0, True)
    seven -= 7
    assert not seven
    assert NAME in repr(seven)


def test_json_and_boto3_get_an_int_of_it(seven: Counter) -> None:
    """As the page says: they want `int(c)` or `c.value`; so does pydantic, where it is strict."""

    class Model(BaseModel):
        count: int

    class StrictModel(BaseModel, strict=True):
        count: int

    assert json.dumps({"count": int(seven)}) == '{"count": 7}'
    assert TypeSerializer().serialize(seven.value) == {"N": "7"}
    assert StrictModel(count=int(seven)).count == 7
    taken = Model.model_validate({"count": seven}).count
    assert (taken, type(taken)) == (7, int)
    with pytest.raises(TypeError):
        json.dumps(seven)
    with pytest.raises(TypeError):
        TypeSerializer().serialize(seven)
    with pytest.raises(ValidationError):
        StrictModel.model_validate({"count": seven})


def test_it_is_no_key_of_a_dict_and_cannot_be_copied(seven: Counter) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(seven)
    for copying in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="table and name"):
            copying(seven)


# --- what is no number --------------------------------------------------------------------------------------------


def test_a_counter_stored_as_a_string_is_refused_or_repaired(room: CountingRoom) -> None:
    room.store(value={"S": "0"})
    with pytest.raises(CounterTypeError) as wrong:
        room.counter()
    assert (wrong.value.attribute, wrong.value.found) == ("value", "S")
    counter = room.counter(repair=True)
    counter += 1
    assert counter == 1 == room.value()


def test_one_that_becomes_a_string_is_told_so(room: CountingRoom) -> None:
    counter = room.counter()
    room.store(value={"S": "9"})
    with pytest.raises(CounterTypeError):
        counter += 1
    assert counter == 0


def test_its_own_attributes_are_not_for_counting(room: CountingRoom) -> None:
    with pytest.raises(InvalidKeyError, match="'timestamp' is where"):
        room.counter(attribute="timestamp")
    keyed = room.world.table("by-time", "timestamp:S")
    with pytest.raises(InvalidKeyError, match="'timestamp' is where"):
        Counter(room.world.writer(), keyed, NAME)


def test_an_attribute_of_another_name(room: CountingRoom) -> None:
    counter: Any = room.counter(attribute="hits")
    counter += 2
    assert room.item()["hits"] == {"N": "2"}
