"""`AtomicCounter` on real engines: what steps give, that each counts once, and what is refused."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest

from reliable_write import (
    AtomicCounter,
    CommitFailedError,
    CounterLimitError,
    CounterTypeError,
    CounterUnknownError,
    Destination,
    Outcome,
    ReliableWriter,
    UnsupportedOperationError,
    limits,
)
from reliable_write.testing.engines import Engine
from reliable_write.testing.faults import (
    Call,
    FaultPlan,
    InFlight,
    conflict,
    deny,
    lose_answer,
    refuse_connection,
    server_error,
    throttle,
)
from reliable_write.testing.meter import Meter
from tests.integration.accounts import manual_time
from tests.integration.counting_room import NAME, CountingRoom, plan_for, room, slots, whole_room, writer_of
from tests.integration.test_fork import in_child
from tests.world import World

__all__ = ["room", "whole_room"]

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


# --- steps ------------------------------------------------------------------------------------------------------------


def test_steps_give_the_new_value(every_world: World) -> None:
    room = CountingRoom(every_world)
    counter, other = room.atomic(), room.atomic()
    assert [counter.add(), other.add(5), counter.subtract(2), other.add(-1), counter.add(0)] == [1, 6, 4, 3, 3]
    assert counter.get() == counter.get(consistent=False) == 3 == room.value()


def test_a_missing_item_and_a_missing_attribute_are_started(room: CountingRoom) -> None:
    assert room.atomic("fresh", initial=100).get() == 100
    assert room.atomic("fresh", initial=100).add() == 101
    room.store(owner={"S": "somebody"})
    assert room.atomic(initial=-1).subtract(3) == -4
    assert room.item()["owner"] == {"S": "somebody"}


def test_a_step_is_one_request_and_one_write_unit(world: World) -> None:
    counter = CountingRoom(world).atomic()
    counter.add()
    with Meter(writer_of(counter).client) as meter:
        counter.add()
    assert (dict(meter.calls), meter.write_units, meter.read_units) == ({"UpdateItem": 1}, 1.0, 0.0)


def test_ids_are_given_in_blocks_that_nobody_else_gets(room: CountingRoom) -> None:
    counter, other = room.atomic(), room.atomic()
    assert [counter.next_ids(3), other.next_ids(), counter.next_ids(2)] == [range(1, 4), range(4, 5), range(5, 7)]
    assert list(room.atomic("invoices", initial=1000).next_ids(2)) == [1001, 1002]


def test_reset_sets_it_whatever_is_there(room: CountingRoom) -> None:
    counter = room.atomic(initial=10, maximum=50)
    counter.add(5)
    counter.reset()
    assert counter.get() == 10
    counter.reset(50)
    assert counter.get() == 50
    with pytest.raises(ValueError, match="outside of the bounds"):
        counter.reset(51)
    with plan_for(counter).on("UpdateItem", lose_answer, "after", times=1):
        counter.reset(3)
    assert counter.add() == 4


def test_steps_of_any_size_are_exact(room: CountingRoom) -> None:
    counter = room.atomic(initial=10**35)
    assert counter.add(limits.COUNTER_STEP_MAX) == 10**35 + limits.COUNTER_STEP_MAX
    assert counter.add(-1) == 10**35 + limits.COUNTER_STEP_MAX - 1


def test_threads_of_one_handle_take_turns(room: CountingRoom) -> None:
    counter = room.atomic()
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda _: counter.add(), range(80)))
    assert sorted(values) == list(range(1, 81))
    assert len(slots(room.item())) == 1


def test_a_forked_child_goes_on_with_a_slot_of_its_own(whole_room: CountingRoom) -> None:
    writer = ReliableWriter(whole_room.world.settings(), session=_session())
    counter = AtomicCounter(writer, whole_room.table, NAME)
    assert counter.add() == 1
    with counter._once._here().lock:  # held by a thread of the parent, for ever as far as the child can tell
        assert in_child(lambda: [counter.add(), counter.add()]) == [2, 3]
    assert counter.add() == 4
    assert len(slots(whole_room.item())) == 2
    writer.close()


def _session() -> Any:
    return boto3.session.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name="us-east-1")


def test_a_child_may_settle_what_its_parent_left_in_doubt(whole_room: CountingRoom) -> None:
    """What it has itself, a step in doubt and a slot, is not touched by that."""
    writer = ReliableWriter(whole_room.world.settings(), session=_session(), time=manual_time())
    counter = AtomicCounter(writer, whole_room.table, NAME)

    def left_in_doubt() -> Callable[[], int | None]:
        with (
            FaultPlan(writer.client).on("UpdateItem", lose_answer, "after"),
            pytest.raises(CounterUnknownError) as unknown,
        ):
            counter.add()
        assert unknown.value.settle is not None
        return unknown.value.settle

    of_parent = left_in_doubt()

    def child() -> list[int | None]:
        first = counter.add()
        of_child = left_in_doubt()
        settled = of_parent()
        values = [first, settled, counter.add(), of_child(), of_parent()]
        counter.close()
        return values

    assert in_child(child) == [2, 1, 4, 3, 1]
    assert len(slots(whole_room.item())) == 1, "the parent's; the child gave back its own"
    assert [of_parent(), counter.add()] == [1, 5]
    writer.close()


def test_a_counter_may_lie_in_another_region(ministack: Engine, unique_name: Callable[[str], str]) -> None:
    world = World(ministack, unique_name)
    far = world.engine.client(region_name="eu-west-1")
    far.create_table(
        TableName="counters-there",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    there = Destination(region_name="eu-west-1", endpoint_url=world.engine.endpoint_url)
    writer = ReliableWriter(world.settings(), session=_session(), destinations={"eu": there})
    counter = AtomicCounter(writer, "eu:counters-there", NAME)
    assert [counter.add(), counter.add()] == [1, 2]
    with pytest.raises(UnsupportedOperationError, match="'eu' is elsewhere"):
        counter.add(idempotency_key="k")
    assert far.get_item(TableName="counters-there", Key={"id": {"S": NAME}})["Item"]["value"] == {"N": "2"}
    writer.close()
    world.close()


# --- once -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "when"), [(lose_answer, "before"), (lose_answer, "after"), (server_error, "before")])
def test_a_step_whose_answer_is_lost_counts_once_and_gives_its_own_value(
    room: CountingRoom, fault: Any, when: Any
) -> None:
    """The tutorial's ADD would count twice. Others move on between the lost answer and the retry."""
    counter, other = room.atomic(), room.atomic()
    counter.add(10)

    def and_others_move_on(call: Call) -> Any:
        other.add(100)
        return fault(call)

    with plan_for(counter).on("UpdateItem", and_others_move_on, when, times=1) as plan:
        value = counter.add()
    assert plan.injected == 1
    assert value == (11 if when == "after" else 111)
    assert room.value() == 111


def test_a_request_that_arrives_late_counts_for_nothing(room: CountingRoom) -> None:
    counter, late = room.atomic(), InFlight()
    with plan_for(counter).on("UpdateItem", late, times=1):
        assert counter.add() == 1
    assert counter.add() == 2
    assert late.land() == [400]
    assert room.value() == 2


def test_a_request_that_arrives_after_its_slot_was_given_back_counts_for_nothing(room: CountingRoom) -> None:
    counter, late = room.atomic(), InFlight()
    with plan_for(counter).on("UpdateItem", late, times=1):
        assert counter.add() == 1
    counter.close()
    assert slots(room.item()) == []
    assert late.land() == [400]
    assert room.value() == 1
    assert counter.add() == 2, "it may be used again"


def test_throttling_and_conflicts_are_waited_out(room: CountingRoom) -> None:
    counter = room.atomic()
    with plan_for(counter) as plan:
        plan.on("UpdateItem", throttle, times=1).on("UpdateItem", conflict, times=1)
        assert counter.add() == 1
    assert plan.injected == 2


def test_what_is_certainly_not_counted_is_said_to_be_so(room: CountingRoom) -> None:
    counter = room.atomic(time=manual_time())
    for fault, retryable in ((throttle, True), (refuse_connection, True), (deny, False)):
        with plan_for(counter).on("UpdateItem", fault), pytest.raises(CommitFailedError) as failed:
            counter.add()
        assert (failed.value.outcome, failed.value.retryable) == (Outcome.NOT_WRITTEN, retryable)
        assert failed.value.__cause__ is not None
    assert counter.add() == 1


@pytest.mark.parametrize("counted", [True, False])
def test_a_step_without_any_answer_is_unknown_and_can_be_settled(room: CountingRoom, counted: bool) -> None:
    counter, other = room.atomic(time=manual_time()), room.atomic()
    with (
        plan_for(counter).on("UpdateItem", lose_answer, "after" if counted else "before"),
        pytest.raises(CounterUnknownError) as unknown,
    ):
        counter.add()
    other.add(100)
    error = unknown.value
    assert (error.outcome, error.table, error.counter) == (Outcome.UNKNOWN, room.table, NAME)
    assert error.settle is not None
    assert error.settle() == (1 if counted else None)
    assert error.settle() == (1 if counted else None), "asked again, it says the same"
    assert room.value() == 100 + counted
    assert pickle.loads(pickle.dumps(error)).settle is None  # noqa: S301 - our own


def test_a_lost_answer_is_not_forgotten_where_the_refused_retry_cannot_be_looked_into(
    dynalite: Engine, unique_name: Callable[[str], str]
) -> None:
    """This engine does not tell what refused: the item is read then, and that may fail."""
    world = World(dynalite, unique_name)
    counter = CountingRoom(world).atomic(time=manual_time())
    counter.add()
    plan = plan_for(counter).on("UpdateItem", lose_answer, "after", times=1).on("GetItem", deny)
    with plan, pytest.raises(CounterUnknownError) as unknown:
        counter.add()
    assert unknown.value.settle is not None
    assert unknown.value.settle() == 2
    world.close()


def test_what_is_settled_as_not_counted_can_not_land_any_more(room: CountingRoom) -> None:
    counter, late = room.atomic(time=manual_time()), InFlight()
    with plan_for(counter).on("UpdateItem", late), pytest.raises(CounterUnknownError) as unknown:
        counter.add()
    assert unknown.value.settle is not None
    assert unknown.value.settle() is None
    assert set(late.land()) == {400}
    assert "value" not in room.item()


def test_settling_without_an_answer_leaves_it_unknown(room: CountingRoom) -> None:
    counter = room.atomic(time=manual_time())
    with plan_for(counter).on("UpdateItem", lose_answer, "after"):
        with pytest.raises(CounterUnknownError) as unknown:
            counter.add()
        assert unknown.value.settle is not None
        with pytest.raises(CounterUnknownError) as again:
            unknown.value.settle()
        with pytest.raises(CommitFailedError, match="the step before") as next_step:
            counter.add()
    assert next_step.value.outcome is Outcome.NOT_WRITTEN
    assert again.value.settle is not None
    assert again.value.settle() == 1


def test_the_next_step_settles_the_one_before(room: CountingRoom) -> None:
    """It takes the slot in which the answer stands; so it is looked up first, and remembered."""
    counter = room.atomic(time=manual_time())
    with (
        plan_for(counter).on("UpdateItem", lose_answer, "after"),
        pytest.raises(CounterUnknownError) as unknown,
    ):
        counter.add()
    assert counter.add() == 2
    assert unknown.value.settle is not None
    assert unknown.value.settle() == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupted_step_says_that_it_may_be_counted(room: CountingRoom, when: Any) -> None:
    counter = room.atomic()

    def interrupt(_call: Call) -> None:
        raise KeyboardInterrupt

    with plan_for(counter).on("UpdateItem", interrupt, when, times=1), pytest.raises(KeyboardInterrupt) as interrupted:
        counter.add()
    assert "may be counted" in interrupted.value.__notes__[0]
    assert counter.add() == (2 if when == "after" else 1)


def test_a_lost_answer_before_a_refusal_of_its_type_is_found_out(room: CountingRoom) -> None:
    """The first try was applied; then somebody stored a string; then the retry is invalid."""
    counter = room.atomic()
    counter.add()

    def spoil(call: Call) -> None:
        room.world.client.update_item(
            TableName=room.table,
            Key={"id": {"S": NAME}},
            UpdateExpression="SET #v = :v",
            ExpressionAttributeNames={"#v": "value"},
            ExpressionAttributeValues={":v": {"S": "2"}},
        )
        lose_answer(call)

    with plan_for(counter).on("UpdateItem", spoil, "after", times=1):
        assert counter.add() == 2
    with plan_for(counter).on("UpdateItem", lose_answer, times=1), pytest.raises(CounterTypeError) as wrong:
        counter.add()
    assert wrong.value.outcome is Outcome.NOT_WRITTEN


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_a_step_over_a_bound_is_refused_with_the_true_value(room: CountingRoom) -> None:
    counter, other = room.atomic(minimum=0, maximum=987_654), room.atomic()
    other.add(987_653)
    with pytest.raises(CounterLimitError) as over:
        counter.add(2)
    assert (over.value.value, over.value.limit, over.value.outcome) == (987_653, 987_654, Outcome.NOT_WRITTEN)
    assert "98765" not in str(over.value), "values are in attributes"
    assert over.value.__cause__ is not None
    assert counter.add() == 987_654
    with pytest.raises(CounterLimitError) as under:
        counter.subtract(987_655)
    assert (under.value.value, under.value.limit) == (987_654, 0)
    with pytest.raises(CounterLimitError):
        room.atomic("fresh", minimum=0).subtract()
    assert room.item("fresh") == {}


def test_a_step_back_towards_the_bounds_is_allowed(room: CountingRoom) -> None:
    room.store(value={"N": "-5"})
    counter = room.atomic(minimum=0, maximum=10)
    assert counter.add(2) == -3
    with pytest.raises(CounterLimitError):
        counter.subtract()


def test_ids_end_at_the_maximum(room: CountingRoom) -> None:
    counter = room.atomic(maximum=5)
    assert counter.next_ids(4) == range(1, 5)
    with pytest.raises(CounterLimitError):
        counter.next_ids(2)
    assert counter.next_ids() == range(5, 6)


def test_of_fifty_contenders_ten_get_a_ticket(room: CountingRoom) -> None:
    contenders = [room.atomic(initial=10, minimum=0) for _ in range(50)]
    begin = threading.Barrier(len(contenders))

    def draw(counter: AtomicCounter) -> int | None:
        begin.wait(30)
        try:
            return counter.subtract()
        except CounterLimitError as sold_out:
            assert sold_out.value == 0  # noqa: PT017 - in a thread
            return None

    with ThreadPoolExecutor(len(contenders)) as pool:
        left = list(pool.map(draw, contenders))
    assert sorted(value for value in left if value is not None) == list(range(10))
    assert left.count(None) == 40
