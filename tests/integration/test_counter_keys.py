"""Steps of a counter with an idempotency key: counted once from any process, the same ids given again."""

from __future__ import annotations

import math
from typing import Any

import pytest

from reliable_write import (
    CounterLimitError,
    CounterTypeError,
    CounterUnknownError,
    IdempotencyMismatchError,
    Outcome,
    ReadFailedError,
    ReliableWriteScope,
    UnsupportedOperationError,
    limits,
)
from reliable_write.testing.engines import Engine
from reliable_write.testing.faults import Call, lose_answer, throttle
from tests.clocks import HastyTime
from tests.integration.accounts import manual_time
from tests.integration.counting_room import CountingRoom, plan_for, room, slots, whole_room, writer_of
from tests.world import World

__all__ = ["room", "whole_room"]

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


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
    time = HastyTime()
    counter = room.atomic(time=time)
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
