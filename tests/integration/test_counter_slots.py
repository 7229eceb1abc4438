"""The slots of a counter's item: shared by threads, given back, removed by others."""

from __future__ import annotations

import threading

import pytest

from reliable_write import AtomicCounter, CounterUnknownError, limits
from reliable_write.testing.faults import Call, InFlight, deny, lose_answer, throttle
from reliable_write.testing.meter import Meter
from tests.clocks import SkippingTime
from tests.integration.accounts import manual_time
from tests.integration.counting_room import NAME, CountingRoom, plan_for, room, slots, writer_of

__all__ = ["room"]

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


# --- threads ----------------------------------------------------------------------------------------------------------


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


# --- slots ------------------------------------------------------------------------------------------------------------


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
