"""`AtomicCounter` on real engines: what steps give, that each counts once, and what is refused."""

from __future__ import annotations

import math
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
    ForeignStampError,
    IdempotencyMismatchError,
    InvalidKeyError,
    Outcome,
    ReadFailedError,
    ReliableWriter,
    ReliableWriteScope,
    UnknownTableError,
    UnsupportedOperationError,
    limits,
)
from reliable_write.testing.engines import Capability, Engine
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
from tests.chaos.stragglers import SkippingTime
from tests.integration.accounts import manual_time
from tests.integration.counting_room import NAME, CountingRoom, plan_for, slots, writer_of
from tests.integration.test_fork import in_child
from tests.world import World

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def room(plain_world: World) -> CountingRoom:
    """Also on an engine without transactions and without items in its refusals."""
    return CountingRoom(plain_world)


@pytest.fixture
def whole_room(world: World) -> CountingRoom:
    """On an engine with transactions."""
    return CountingRoom(world)


# --- steps --------------------------------------------------------------------------------------------------------


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


# --- once ---------------------------------------------------------------------------------------------------------


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


# --- bounds -------------------------------------------------------------------------------------------------------


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


# --- what is no number --------------------------------------------------------------------------------------------


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


# --- idempotency keys ---------------------------------------------------------------------------------------------


def test_a_key_counts_once_from_any_process(whole_room: CountingRoom) -> None:
    room = whole_room
    counter, other = room.atomic(initial=5), room.atomic(initial=5)
    assert counter.add(2, idempotency_key="payment-1") == 7
    other.add(100)
    assert other.add(2, idempotency_key="payment-1") == 107, "the value as it is, which holds the step"
    assert counter.subtract(1, idempotency_key="payment-2") == 106
    with pytest.raises(IdempotencyMismatchError):
        counter.add(3, idempotency_key="payment-1")
    assert room.value() == 106


def test_a_key_counts_once_over_lost_answers(whole_room: CountingRoom) -> None:
    counter = whole_room.atomic()
    with plan_for(counter) as plan:
        plan.on("TransactWriteItems", lose_answer, "after", times=2, having=b'"R#')
        assert counter.add(idempotency_key="k") == 1
    assert plan.injected == 2


def test_a_step_with_a_key_whose_value_cannot_be_read_is_counted_all_the_same(whole_room: CountingRoom) -> None:
    counter = whole_room.atomic(time=manual_time())
    counter.add()
    with plan_for(counter).on("GetItem", throttle), pytest.raises(ReadFailedError) as unread:
        counter.add(idempotency_key="k")
    assert unread.value.outcome is Outcome.WRITTEN
    assert counter.add(idempotency_key="k") == 2


def test_a_step_with_a_key_respects_bounds_and_types(whole_room: CountingRoom) -> None:
    counter = whole_room.atomic(maximum=1)
    assert counter.add(idempotency_key="a") == 1
    with pytest.raises(CounterLimitError) as over:
        counter.add(idempotency_key="b")
    assert (over.value.value, over.value.limit) == (1, 1)
    assert counter.add(idempotency_key="a") == 1, "it was counted before"
    whole_room.store(value={"S": "0"})
    with pytest.raises(CounterTypeError):
        whole_room.atomic().add(idempotency_key="c")
    assert whole_room.atomic(repair=True).add(idempotency_key="c") == 1


def test_a_step_with_a_key_inside_an_open_scope_is_a_write_of_its_own(whole_room: CountingRoom) -> None:
    counter = whole_room.atomic()
    with ReliableWriteScope(writer_of(counter)) as scope:
        assert counter.add(idempotency_key="k") == 1
        scope.discard()
    assert whole_room.value() == 1


def test_an_engine_without_transactions_refuses_keyed_steps_by_name(dynalite: Engine, unique_name: Any) -> None:
    world = World(dynalite, unique_name)
    counter = CountingRoom(world).atomic()
    with pytest.raises(UnsupportedOperationError, match="TransactWriteItems"):
        counter.add(idempotency_key="k")
    assert counter.add() == 1
    world.close()


def test_a_key_is_given_the_same_ids_again(room: CountingRoom) -> None:
    counter, other = room.atomic(), room.atomic()
    assert counter.next_ids(3, idempotency_key="order-1") == range(1, 4)
    assert counter.next_ids(2) == range(4, 6)
    assert other.next_ids(3, idempotency_key="order-1") == range(1, 4)
    assert other.next_ids(1, idempotency_key="order-2") == range(6, 7)
    with pytest.raises(IdempotencyMismatchError):
        other.next_ids(4, idempotency_key="order-1")
    assert room.value() == 6


def test_of_two_who_ask_at_once_with_a_key_both_get_the_ids_of_one(room: CountingRoom) -> None:
    counter, other = room.atomic(), room.atomic()
    given: list[range] = []

    def others(_call: Call) -> None:
        given.append(other.next_ids(3, idempotency_key="order-1"))

    with plan_for(counter).on("PutItem", others, times=1):
        assert counter.next_ids(3, idempotency_key="order-1") == range(4, 7) == given[0]
    assert counter.next_ids() == range(7, 8), "the other block is skipped, never given to somebody else"


def test_a_key_s_ids_say_from_when_on_they_may_be_forgotten(room: CountingRoom) -> None:
    """In seconds, as the table's TTL reads it: not before a receipt would be."""
    time = manual_time()
    room.atomic(time=time).next_ids(3, idempotency_key="k")
    (block,) = [item for item in room.world.items(room.table) if "#_rwk" in item["id"]["S"]]
    assert int(block["_rwe"]["N"]) == math.ceil(time.wall_seconds() + limits.RECEIPT_RETENTION_SECONDS)


def test_two_counters_of_one_item_give_each_their_own_ids_for_one_key(room: CountingRoom) -> None:
    invoices, orders = room.atomic(attribute="invoices"), room.atomic(attribute="orders", initial=100)
    assert invoices.next_ids(2, idempotency_key="k") == range(1, 3)
    assert orders.next_ids(2, idempotency_key="k") == range(101, 103)
    assert orders.next_ids(2) == range(103, 105)
    assert orders.next_ids(2, idempotency_key="k") == range(101, 103)


@pytest.mark.parametrize("when", ["before", "after"])
def test_ids_with_a_key_whose_answer_is_lost_are_given_again(room: CountingRoom, when: Any) -> None:
    counter = room.atomic()
    with plan_for(counter).on("PutItem", lose_answer, when, times=1) as plan:
        assert counter.next_ids(3, idempotency_key="order-1") == range(1, 4)
    assert plan.injected == 1
    slow = room.atomic(time=manual_time())
    with plan_for(slow).on("PutItem", lose_answer, when), pytest.raises(CounterUnknownError) as unknown:
        slow.next_ids(2, idempotency_key="order-2")
    assert (unknown.value.outcome, unknown.value.retryable) == (Outcome.UNKNOWN, True)
    first = slow.next_ids(2, idempotency_key="order-2")
    assert first == (range(4, 6) if when == "after" else range(6, 8))
    assert counter.next_ids(2, idempotency_key="order-2") == first


def test_settling_after_the_slot_was_removed_and_used_again_says_that_it_cannot_be_told(room: CountingRoom) -> None:
    """The next step takes the place of the one in doubt: what stands there then is later than both, and no answer."""
    time = SkippingTime()
    counter = room.atomic(time=time, writer={"attempt_deadline_seconds": 0.5, "read_timeout_seconds": 0.5})
    with plan_for(counter).on("UpdateItem", lose_answer, "after"), pytest.raises(CounterUnknownError) as unknown:
        counter.add()
    time.skip(limits.COUNTER_SLOT_SECONDS + 1)
    assert room.atomic(time=time).add() == 2
    assert len(slots(room.item())) == 1, "its slot is gone: what became of it cannot be told"
    assert counter.add() == 3
    assert unknown.value.settle is not None
    with pytest.raises(CounterUnknownError) as lost:
        unknown.value.settle()
    assert lost.value.settle is None
    assert room.value() == 3


# --- threads ------------------------------------------------------------------------------------------------------


def test_threads_that_come_first_at_once_share_one_slot_and_its_turn(room: CountingRoom) -> None:
    """Each with a turn of its own they would not wait for each other, and of a `Counter` one be out of sync."""
    counter = room.atomic()
    time = writer_of(counter).engine().time
    random_bytes = time.random_bytes
    others: list[threading.Thread] = []

    def while_another_thread_comes(count: int) -> bytes:
        if not others:
            others.append(threading.Thread(target=counter.add))
            others[0].start()
            others[0].join()
        return random_bytes(count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "random_bytes", while_another_thread_comes)
        assert counter.add() == 2
    assert len(others) == len(slots(room.item())) == 1


# --- slots --------------------------------------------------------------------------------------------------------


def test_slots_of_those_who_are_gone_are_removed_by_others_in_one_request(room: CountingRoom) -> None:
    time = SkippingTime()
    for _ in range(20):
        room.atomic().add()
    assert len(slots(room.item())) == 20
    time.skip(limits.COUNTER_SLOT_SECONDS + 1)
    counter = room.atomic(time=time)
    with Meter(writer_of(counter).client) as meter:
        assert counter.add() == 21
    assert meter.calls["UpdateItem"] == 2
    assert len(slots(room.item())) == 1
    assert not [name for name in room.item() if name.startswith("_rwv.") and name[5:] not in slots(room.item())[0]]
    assert room.atomic().add() == 22


def test_what_is_in_use_is_left_alone(room: CountingRoom) -> None:
    time = SkippingTime()
    counter, other = room.atomic(time=time), room.atomic(time=time)
    counter.add()
    time.skip(limits.COUNTER_SLOT_SECONDS - 10)
    other.add()
    time.skip(20)
    assert room.atomic(time=time).add() == 3
    assert len(slots(room.item())) == 2
    assert counter.add() == 4, "whose slot is gone takes it again"
    assert len(slots(room.item())) == 3


def test_where_there_are_very_many_they_go_earlier(room: CountingRoom) -> None:
    """Thousands of short-lived clients that close nothing: the item stays under what is allowed to be there."""
    time = SkippingTime()
    crowd = limits.COUNTER_SLOTS_MAX + 30
    writer = room.world.writer(time=time)
    for _ in range(crowd):
        AtomicCounter(writer, room.table, NAME).add()
    assert len(slots(room.item())) == crowd
    time.skip(limits.COUNTER_SLOT_SECONDS_MIN + 1)
    AtomicCounter(writer, room.table, NAME).add()
    assert len(slots(room.item())) == limits.COUNTER_SLOTS_MAX
    assert room.value() == crowd + 1


def test_removing_slots_that_fails_hurts_nobody(room: CountingRoom) -> None:
    time = SkippingTime()
    room.atomic(time=time).add()
    time.skip(limits.COUNTER_SLOT_SECONDS + 1)
    for fault in (deny, lose_answer, throttle):
        counter = room.atomic(time=time)
        with plan_for(counter).on("UpdateItem", fault, having=b"REMOVE"):
            counter.add()
            counter.close()
    assert room.value() == 4


def test_leaving_the_block_gives_the_slot_back(room: CountingRoom) -> None:
    with room.atomic() as counter:
        counter.add()
        assert len(slots(room.item())) == 1
    assert slots(room.item()) == []
    with room.atomic() as unused:
        assert unused.get() == 1
    closed = room.atomic()
    closed.close()
    assert room.value() == 1


@pytest.mark.parametrize("counted", [True, False])
def test_what_is_in_doubt_can_be_settled_after_closing(room: CountingRoom, counted: bool) -> None:
    counter = room.atomic(time=manual_time())
    counter.add()
    with (
        plan_for(counter).on("UpdateItem", lose_answer, "after" if counted else "before"),
        pytest.raises(CounterUnknownError) as unknown,
    ):
        counter.add()
    counter.close()
    assert unknown.value.settle is not None
    assert unknown.value.settle() == (2 if counted else None)
    assert counter.add() == 2 + counted


def test_a_slot_that_is_used_again_just_then_is_not_removed(room: CountingRoom) -> None:
    """Or a late copy of that very step would find neither its slot nor a floor that is high enough."""
    time, late = SkippingTime(), InFlight()
    sleeper = room.atomic(time=time)
    sleeper.add()
    time.skip(limits.COUNTER_SLOT_SECONDS + 1)
    other = room.atomic(time=time)

    def it_wakes_up(_call: Call) -> None:
        with plan_for(sleeper).on("UpdateItem", late, times=1):
            assert sleeper.add() == 3

    with plan_for(other).on("UpdateItem", it_wakes_up, times=1, having=b"REMOVE") as plan:
        assert other.add() == 2
    assert plan.injected == 1
    assert len(slots(room.item())) == 2
    assert late.land() == [400]
    assert room.value() == 3


def test_two_handles_that_close_at_once_both_give_back(room: CountingRoom) -> None:
    """The floor is higher already than the slot that is given back."""
    first, second = room.atomic(), room.atomic()
    first.add()
    second.add()
    second.close()
    first.close()
    assert slots(room.item()) == []
    assert first.add() == 3


# --- beside scopes, and misuse ------------------------------------------------------------------------------------


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
