"""Counters: what is no number, what is no counter, and what is refused before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from reliable_write import (
    AtomicCounter,
    CommitFailedError,
    CounterLimitError,
    CounterTypeError,
    ForeignStampError,
    InvalidKeyError,
    Outcome,
    ReadFailedError,
    ReliableWriteScope,
    UnknownTableError,
    limits,
)
from reliable_write.testing.engines import Capability
from reliable_write.testing.faults import Call, deny, lose_answer, throttle
from tests.integration.accounts import manual_time
from tests.integration.counting_room import NAME, CountingRoom, plan_for, room, writer_of
from tests.world import World

__all__ = ["room"]

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


# --- what is no number ------------------------------------------------------------------------------------------------


def test_a_counter_stored_as_a_string_is_refused_by_name_and_type(every_world: World) -> None:
    room = CountingRoom(every_world)
    room.store(value={"S": "0"})
    for counter in (room.atomic(), room.atomic(maximum=5)):
        for use in (counter.add, counter.get, lambda counter=counter: counter.next_ids(2)):
            with pytest.raises(CounterTypeError) as wrong:
                use()
            error = wrong.value
            assert (error.attribute, error.found, error.repairable) == ("value", "S", True)
            assert all(word in str(error) for word in (NAME, "'value'", "type S", "repair()"))
            assert isinstance(error, TypeError)


def test_repair_makes_a_number_of_a_string_that_spells_one(room: CountingRoom) -> None:
    room.store(value={"S": "41"}, owner={"S": "somebody"})
    assert room.atomic().repair() == 41
    assert room.atomic().add() == 42
    assert room.atomic().repair() == 42, "there is nothing to repair"
    assert room.item()["owner"] == {"S": "somebody"}


def test_with_repair_it_is_done_on_the_way(room: CountingRoom) -> None:
    for use, expected in ((AtomicCounter.add, 8), (AtomicCounter.get, 7)):
        room.store(value={"S": "7"})
        assert use(room.atomic(repair=True)) == expected
        assert room.value() == expected


def test_a_repair_replaces_only_the_string_it_saw(room: CountingRoom) -> None:
    room.store(value={"S": "7"})
    counter, other = room.atomic(), room.atomic()

    def others(_call: Call) -> None:
        other.repair()
        other.add(10)

    with plan_for(counter).on("UpdateItem", others, times=1):
        assert counter.repair() == 17
    assert room.value() == 17


@pytest.mark.parametrize("ours", [True, False])
def test_a_repair_that_is_refused_and_sees_nothing_knows_only_whether_all_was_answered(
    room: CountingRoom, ours: bool
) -> None:
    """Its answer is lost, or somebody else is quicker; the next try is refused, and what is there cannot be read."""
    room.store(value={"S": "7"})
    counter, other = room.atomic(), room.atomic()
    plan = plan_for(counter)

    def goes_wrong(call: Call) -> None:
        plan.on("GetItem", deny)
        if ours:
            lose_answer(call)
        other.repair()

    plan.on("UpdateItem", goes_wrong, "after" if ours else "before", times=1)
    with plan, pytest.raises((ReadFailedError, CommitFailedError)) as caught:
        counter.repair()
    assert caught.value.outcome is (Outcome.UNKNOWN if ours else Outcome.NOT_WRITTEN)
    assert room.value() == 7


@pytest.mark.parametrize("value", [{"S": "zero"}, {"S": "1" + 37 * "0"}, {"NULL": True}, {"N": "1.5"}, {"L": []}])
def test_what_spells_no_number_is_left_alone(room: CountingRoom, value: Any) -> None:
    room.store(value=value)
    counter = room.atomic(repair=True)
    with pytest.raises(CounterTypeError) as wrong:
        counter.get()
    assert not wrong.value.repairable
    with pytest.raises(CounterTypeError):
        counter.repair()
    assert room.item()["value"] == value
    with pytest.raises(CounterTypeError) as step:
        counter.add()
    assert step.value.outcome is (Outcome.WRITTEN if "N" in value else Outcome.NOT_WRITTEN)
    assert "Nothing was written" not in str(step.value) or "N" not in value
    assert hasattr(step.value, "__notes__") is ("N" in value), "half a step is told as one"


# --- beside scopes, and misuse ----------------------------------------------------------------------------------------


@pytest.mark.needs(Capability.TRANSACTIONS)
def test_a_scope_may_depend_on_a_counter_and_may_add_to_it(every_world: World) -> None:
    room = CountingRoom(every_world)
    counter, orders = room.atomic(), room.world.table("orders")
    counter.add()
    with ReliableWriteScope(writer_of(counter)) as scope:
        scope.put_item(orders, Item={"id": "o-1"})
        scope.update_item(room.table, Key={"id": NAME}, add={"value": 10})
        scope.commit()
    assert counter.add() == 12
    with ReliableWriteScope(writer_of(counter)) as scope:
        scope.put_item(orders, Item={"id": "o-2"})
        scope.condition_check(room.table, {"id": NAME}, "#v >= :n", {"#v": "value"}, {":n": 12})
        scope.commit()
    assert counter.add() == 13


def test_a_counters_table_has_one_key_of_type_string(room: CountingRoom) -> None:
    world = room.world
    for table in (world.table("pairs", "id:S", "at:S"), world.table("numbers", "id:N")):
        with pytest.raises(InvalidKeyError, match="one key attribute, of type string"):
            AtomicCounter(world.writer(), table, NAME).add()
    with pytest.raises(InvalidKeyError, match="is the table's key"):
        AtomicCounter(world.writer(), room.table, NAME, attribute="id").add()
    with pytest.raises(UnknownTableError):
        AtomicCounter(world.writer(), "no-such-table", NAME).add()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": ""}, InvalidKeyError),
        ({"name": 7}, InvalidKeyError),
        ({"name": "a#_rwk1"}, InvalidKeyError),
        ({"attribute": "_rws.x"}, InvalidKeyError),
        ({"initial": 1.5}, TypeError),
        ({"initial": True}, TypeError),
        ({"initial": 10**37}, ValueError),
        ({"minimum": 5, "maximum": 4, "initial": 5}, ValueError),
        ({"minimum": 5}, ValueError),
    ],
)
def test_what_cannot_be_a_counter_is_refused(room: CountingRoom, arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        AtomicCounter(room.world.writer(), room.table, **{"name": NAME, **arguments})


@pytest.mark.parametrize("n", [1.0, "1", True, None, 10**25, -(10**25)])
def test_what_is_no_step_is_refused_before_anything_is_sent(room: CountingRoom, n: Any) -> None:
    counter = room.atomic()
    for use in (counter.add, counter.subtract, counter.next_ids):
        with pytest.raises((TypeError, ValueError)):
            use(n)
    with pytest.raises(ValueError, match="takes 1 to"):
        counter.next_ids(0)
    with pytest.raises(TypeError, match="takes a ReliableWriter"):
        AtomicCounter(room.world.client, room.table, NAME)
    assert room.item() == {}


def test_the_first_step_of_a_counter_may_go_as_far_as_its_bound(room: CountingRoom) -> None:
    assert room.atomic("last", initial=1, minimum=0).subtract() == 0
    assert room.atomic("first", initial=-1, maximum=0).add() == 0


def test_the_largest_steps_and_bounds_are_taken(room: CountingRoom) -> None:
    step, value = limits.COUNTER_STEP_MAX, limits.COUNTER_VALUE_MAX
    counter = room.atomic(initial=-value, minimum=-value, maximum=value)
    assert counter.add(step) == step - value
    assert counter.subtract(step) == -value
    with pytest.raises(CounterLimitError):
        counter.subtract()
    counter.reset(value)
    counter.reset(-value)
    assert counter.get() == -value


def test_reading_without_an_answer_says_so(room: CountingRoom) -> None:
    counter = room.atomic(time=manual_time())
    counter.add()
    with plan_for(counter).on("GetItem", throttle), pytest.raises(ReadFailedError) as failed:
        counter.get()
    assert failed.value.retryable


def test_a_foreign_floor_is_refused_by_name(room: CountingRoom) -> None:
    room.store(_rwf={"N": "1"})
    with pytest.raises(ForeignStampError, match="'_rwf' of its item is reserved"):
        room.atomic().add()


def test_a_step_that_could_not_be_sent_is_not_in_doubt(room: CountingRoom) -> None:
    """The table is asked for with the first step; where it does not exist, nothing has happened."""
    counter = AtomicCounter(room.world.writer(), "no-such-table", NAME)
    for _ in range(2):
        with pytest.raises(UnknownTableError) as unknown:
            counter.add()
        assert not hasattr(unknown.value, "__notes__")
