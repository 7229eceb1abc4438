"""Every fault at every update of a counter's step: what is acknowledged counts once, what is refused never does.

For each of an increment's requests (first try, retry, fence, collection, giving back) in turn: lost on the way there or
back, late, twice, throttled, in conflict; landing at three different moments; with others stepping in between.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest

from reliable_write import (
    AtomicCounter,
    CommitFailedError,
    Counter,
    CounterLimitError,
    CounterOutOfSyncError,
    CounterUnknownError,
    Outcome,
    limits,
)
from tests.unit.counter_network import CounterWorld, Fault, Landing, Tally, all_weathers

SHORT = 0.15
"""A deadline within which two tries are made: the third would come too late, and the outcome is unknown."""


def void(_: object) -> None:
    pass


def kinds_seen(scenario: Callable[[tuple[Fault, ...], Landing], Tally], depth: int) -> set[str]:
    """Run it in all weathers; every kind of outcome that was seen."""
    seen: set[str] = set()
    for faults, landing in all_weathers(depth):
        try:
            tally = scenario(faults, landing)
        except AssertionError as error:
            error.add_note(f"{faults}, landing {landing}")
            raise
        seen |= tally.kinds
        assert len(set(tally.values)) == len(tally.values), (faults, landing, "a value was told twice")
    return seen


@pytest.mark.parametrize("deadline_seconds", [8.0, SHORT])
@pytest.mark.parametrize("tells_old_items", [True, False])
def test_increments_count_once_and_each_value_is_told_once(deadline_seconds: float, tells_old_items: bool) -> None:
    def scenario(faults: tuple[Fault, ...], landing: Landing) -> Tally:
        world, tally = CounterWorld(deadline_seconds=deadline_seconds, tells_old_items=tells_old_items), Tally()
        counter, other = world.counter(faults, landing), world.counter()
        network = world.networks[0]
        network.after_each = lambda: tally.values.append(other.add(100))
        for _ in range(3):
            tally.take(counter.add, network)
        others = len(tally.values) - tally.counted
        world.land_all()
        assert not tally.unknown
        assert world.value() == tally.counted + 100 * others
        return tally

    kinds = kinds_seen(scenario, 3)
    assert kinds == ({"counted", "settled", "not written"} if deadline_seconds == SHORT else {"counted"})


@pytest.mark.parametrize("deadline_seconds", [8.0, SHORT])
def test_a_copy_that_lands_after_its_slot_was_given_back_counts_for_nothing(deadline_seconds: float) -> None:
    def scenario(faults: tuple[Fault, ...], landing: Landing) -> Tally:
        world, tally = CounterWorld(deadline_seconds=deadline_seconds), Tally()
        counter = world.counter(faults, landing)
        network = world.networks[0]
        for _ in range(2):
            tally.take(counter.add, network)
        counter.close()
        network.step_done()
        tally.take(counter.add, network)
        counter.close()
        world.land_all()
        assert not tally.unknown
        assert world.value() == tally.counted
        return tally

    assert "counted" in kinds_seen(scenario, 3)


@pytest.mark.parametrize("deadline_seconds", [8.0, SHORT])
def test_a_copy_that_lands_after_its_slot_was_collected_counts_for_nothing(deadline_seconds: float) -> None:
    collected = 0

    def scenario(faults: tuple[Fault, ...], landing: Landing) -> Tally:
        nonlocal collected
        world, tally = CounterWorld(deadline_seconds=deadline_seconds), Tally()
        counter, other = world.counter(faults, landing), world.counter(faults[::-1], landing)
        tally.take(counter.add, world.networks[0])
        world.memory.time.pass_seconds(limits.COUNTER_SLOT_SECONDS + 1)
        tally.take(other.add, world.networks[1])
        collected += "_rwf" in world.item()
        world.networks[0].step_done()
        tally.take(counter.add, world.networks[0])
        world.land_all()
        assert not tally.unknown
        assert world.value() == tally.counted
        return tally

    assert "counted" in kinds_seen(scenario, 3)
    assert collected > 100, "nothing was collected: nothing was tested"


@pytest.mark.parametrize("floor_before", [True, False])
def test_where_several_slots_are_collected_at_once_no_copy_of_any_of_them_lands(floor_before: bool) -> None:
    """The floor goes up to the latest of them, also where there is one already."""
    world, handles = CounterWorld(), 3
    if floor_before:
        with world.counter() as early:
            early.add(100)
    assert ("_rwf" in world.item()) is floor_before
    for _ in range(handles):
        world.memory.time.pass_seconds(1)
        world.counter(("twice",), "at the end").add()
    counted = world.value()
    world.memory.time.pass_seconds(limits.COUNTER_SLOT_SECONDS + 1)
    world.counter().add()
    assert len([name for name in world.item() if name.startswith("_rws.")]) == 1, "nothing was collected"
    assert sum(network.land() for network in world.networks) == handles
    assert world.value() == counted + 1


def test_settling_after_the_slot_was_collected_says_that_it_cannot_be_told() -> None:
    """The step was applied and its slot removed: it is not said to be counted, nor not to be."""

    def scenario(faults: tuple[Fault, ...], landing: Landing) -> Tally:
        world, tally = CounterWorld(deadline_seconds=SHORT), Tally()
        counter, other = world.counter(faults, landing), world.counter()

        def late_settle() -> int:
            try:
                return counter.add()
            finally:
                world.memory.time.pass_seconds(limits.COUNTER_SLOT_SECONDS + 1)
                other.add(100)

        tally.take(late_settle, world.networks[0])
        tally.take(counter.add, world.networks[0])
        world.land_all()
        assert tally.counted <= world.value() - 100 <= tally.counted + tally.unknown
        return tally

    assert {"counted", "settled", "unknown"} <= kinds_seen(scenario, 3)


@pytest.mark.parametrize("deadline_seconds", [8.0, SHORT])
@pytest.mark.parametrize("tells_old_items", [True, False])
def test_a_refusal_by_a_bound_is_final(deadline_seconds: float, tells_old_items: bool) -> None:
    """Where a try before the refusal was lost, it can come no more: the last ticket is not sold to two."""

    def scenario(faults: tuple[Fault, ...], landing: Landing) -> Tally:
        world, tally = CounterWorld(deadline_seconds=deadline_seconds, tells_old_items=tells_old_items), Tally()
        counter, other = (world.counter(f, landing, initial=1, minimum=0) for f in (faults, ()))
        network, others = world.networks[0], Tally()
        network.after_each = lambda: void(others.take(other.subtract, world.networks[1], CounterLimitError))

        def and_then_there_is_room_again() -> int:
            try:
                return counter.subtract()
            finally:
                other.add(5)  # for what might still be under way

        tally.take(and_then_there_is_room_again, network, CounterLimitError)
        network.after_each = lambda: None
        tally.take(counter.subtract, network, CounterLimitError)
        world.land_all()
        assert not tally.unknown
        assert world.value() == 1 + 5 - tally.counted - others.counted
        return tally

    assert {"counted", "CounterLimitError"} <= kinds_seen(scenario, 3)


@pytest.mark.parametrize("deadline_seconds", [8.0, SHORT])
@pytest.mark.parametrize("tells_old_items", [True, False])
def test_an_applied_step_of_a_counter_is_never_out_of_sync(deadline_seconds: float, tells_old_items: bool) -> None:
    """And one that is out of sync is not applied, not even later when the value is the same again."""

    def scenario(faults: tuple[Fault, ...], landing: Landing) -> Tally:
        world, tally = CounterWorld(deadline_seconds=deadline_seconds, tells_old_items=tells_old_items), Tally()
        maker = world.handle()
        counter, others = world.handle(faults, landing), 0
        network = world.networks[1]

        def by_others() -> None:
            nonlocal others
            maker.refresh()
            maker.add(100)
            others += 1

        network.after_each = by_others
        for _ in range(2):
            shown = tally.take(counter.add, network, CounterOutOfSyncError)
            assert shown is None or shown == counter or network.updates > 1
        network.after_each = lambda: None
        maker.refresh()
        maker.set(maker.value - 100 * others)  # back to what a late one may be waiting for
        world.land_all()
        assert not tally.unknown
        assert world.value() == tally.counted
        counter.refresh()
        assert counter == tally.counted
        return tally

    assert {"counted", "CounterOutOfSyncError"} <= kinds_seen(scenario, 3)


def test_a_refused_step_that_would_hold_by_the_time_it_is_looked_into_is_tried_again() -> None:
    """Where the engine does not tell what refused it, others may have made room before that is read."""
    world = CounterWorld(tells_old_items=False)
    counter, other = world.counter(minimum=0), world.counter()

    def others_make_room() -> None:
        world.networks[0].after_each = lambda: None
        other.add(5)

    world.networks[0].after_each = others_make_room
    assert counter.subtract() == 4
    assert world.networks[0].updates == 2


def test_a_machine_whose_clock_is_slow_counts_all_the_same() -> None:
    """The floor is ahead of its clock: its first step is refused, and made later than the floor."""

    def scenario(faults: tuple[Fault, ...], landing: Landing) -> Tally:
        world, tally = CounterWorld(), Tally()
        with world.counter() as quick:
            quick.add(100)
        process = world.process(faults, landing, skew=-3600)
        slow = AtomicCounter(process, "counters", "tally")
        for _ in range(2):
            tally.take(slow.add, process.network)
        slow.close()
        world.land_all()
        assert not tally.unknown
        assert world.value() - 100 == tally.counted
        return tally

    assert {"counted"} == kinds_seen(scenario, 3) - {"not written"}


@pytest.mark.parametrize("deadline_seconds", [8.0, SHORT])
@pytest.mark.parametrize("tells_old_items", [True, False])
def test_others_that_leave_do_not_put_a_new_handles_step_in_doubt(
    deadline_seconds: float, tells_old_items: bool
) -> None:
    """They raise the floor over its stamp while its first try is lost: that it never had a slot tells what is so."""
    outrun = 0

    def scenario(faults: tuple[Fault, ...], landing: Landing) -> Tally:
        nonlocal outrun
        world, tally = CounterWorld(deadline_seconds=deadline_seconds, tells_old_items=tells_old_items), Tally()
        counter, others = world.counter(faults, landing), 0
        network = world.networks[0]

        def somebody_comes_and_goes() -> None:
            nonlocal others
            world.memory.time.pass_seconds(0.01)
            with world.counter() as other:
                tally.values.append(other.add(100))
                others += 1

        network.after_each = somebody_comes_and_goes
        for _ in range(2):
            tally.take(counter.add, network)
            outrun += network.updates > 2
        counter.close()
        world.land_all()
        assert not tally.unknown
        assert world.value() == tally.counted + 100 * others
        return tally

    assert "counted" in kinds_seen(scenario, 3)
    assert outrun > 100, "nothing was tried again: nothing was tested"


def test_whoever_is_not_in_doubt_about_a_step_does_not_lean_on_its_having_had_no_slot() -> None:
    """A child that was forked with the doubt settles it after its parent has gone on, and given back the slot."""
    world = CounterWorld(deadline_seconds=SHORT)
    counter = world.counter(("answer lost", "lost", "lost"))
    with pytest.raises(CounterUnknownError) as unknown:
        counter.add()
    assert isinstance(unknown.value.settle, partial)
    of_the_child = copy.copy(unknown.value.settle.args[0])
    assert counter.add() == 2, "and by this the parent knows that the first is counted"
    counter.close()
    assert "_rwc" not in world.item()
    with pytest.raises(CounterUnknownError, match="can no longer be told"):
        counter._once.settle(of_the_child)


def test_a_slot_that_was_collected_early_is_not_taken_for_one_that_never_was() -> None:
    """By a machine whose clock is far ahead, between two tries."""
    world = CounterWorld()
    counter = world.counter(("answer lost",))
    ahead = world.process(skew=limits.COUNTER_SLOT_SECONDS * 2)

    def collects() -> None:
        world.networks[0].after_each = lambda: None
        AtomicCounter(ahead, "counters", "tally").add(100)

    world.networks[0].after_each = collects
    with pytest.raises(CounterUnknownError, match="can no longer be told"):
        counter.add()
    assert world.value() == 101


def test_creating_a_counter_settles_the_race() -> None:
    def scenario(faults: tuple[Fault, ...], landing: Landing) -> Tally:
        world, tally = CounterWorld(), Tally()
        process = world.process(faults, landing)
        made: list[Counter] = []
        process.network.after_each = lambda: made.append(world.handle(initial=5)) if not made else None
        counter = Counter(process, "counters", "tally", initial=5)
        first = made[0]
        first += 1
        process.network.after_each = lambda: None
        process.network.land()
        counter.refresh()
        assert counter == 6 == world.value()
        tally.kinds.add("counted")
        return tally

    kinds_seen(scenario, 3)


def test_making_a_counter_whose_creation_was_not_answered_is_not_told_as_nothing_written() -> None:
    """It was created: the outcome says that this is not known, and making another one finds it."""
    world = CounterWorld(deadline_seconds=SHORT)
    with pytest.raises(CommitFailedError, match="may have been applied") as caught:
        world.handle(("answer lost",) * 5)
    assert world.value() == 0
    assert "value" in world.item()
    assert caught.value.outcome is Outcome.UNKNOWN
    assert caught.value.retryable
    assert world.handle() == 0
    with pytest.raises(CommitFailedError, match="Nothing was written") as refused:
        CounterWorld(deadline_seconds=SHORT).handle(("throttled",) * 5)
    assert refused.value.outcome is Outcome.NOT_WRITTEN


def test_a_repair_that_was_not_answered_is_not_told_as_nothing_written() -> None:
    world = CounterWorld(deadline_seconds=SHORT)
    world.memory.tables.tables["counters"].items["tally"] = {"id": {"S": "tally"}, "value": {"S": "41"}}
    with pytest.raises(CommitFailedError) as caught:
        world.counter(("answer lost",) * 5).repair()
    assert caught.value.outcome is Outcome.UNKNOWN
    assert world.value() == 41
    assert world.counter().repair() == 41
