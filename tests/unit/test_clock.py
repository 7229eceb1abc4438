from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from freezegun import freeze_time
from hypothesis import given
from hypothesis import strategies as st

from reliable_write import limits
from reliable_write.clock import (
    STAMP_CHARACTERS,
    Deadline,
    HybridClock,
    Stamp,
    SystemTime,
    is_stamp,
    is_too_far_ahead,
    stamp_milliseconds,
)
from tests.unit.fakes import NOON, ManualTime

stamps = st.text("0123456789abcdef", min_size=36, max_size=36).map(Stamp)


def test_stamps_are_ordered_as_they_were_made_also_within_one_millisecond() -> None:
    clock = HybridClock(ManualTime())
    made = [clock.stamp() for _ in range(1000)]
    assert made == sorted(made)
    assert len(set(made)) == 1000
    assert {len(stamp) for stamp in made} == {STAMP_CHARACTERS}
    assert all(map(is_stamp, made))


def test_a_stamp_tells_its_milliseconds() -> None:
    assert stamp_milliseconds(HybridClock(ManualTime()).stamp()) == int(NOON * 1000)


def test_stamps_are_unique_over_threads() -> None:
    clock, start = HybridClock(SystemTime()), threading.Barrier(8)

    def make() -> list[Stamp]:
        start.wait()
        return [clock.stamp() for _ in range(2000)]

    with ThreadPoolExecutor(8) as pool:
        batches = [future.result() for future in [pool.submit(make) for _ in range(8)]]
    assert all(batch == sorted(batch) for batch in batches)
    assert len({stamp for batch in batches for stamp in batch}) == 16_000


def test_two_processes_with_one_clock_never_make_the_same_stamp() -> None:
    """CE4: equal stamps would each win one key."""
    time = ManualTime()
    made = {HybridClock(time).stamp() for _ in range(1000)}
    assert len(made) == 1000
    assert len({stamp[:16] for stamp in made}) == 1, "only chance keeps them apart"


@given(st.lists(stamps, min_size=1, max_size=5))
def test_a_stamp_is_greater_than_every_stamp_its_clock_was_shown(seen: list[Stamp]) -> None:
    """CE3: whatever the wall clock says."""
    clock = HybridClock(ManualTime(wall=1.0))
    seen = [Stamp("0" + stamp[1:]) for stamp in seen]
    for stamp in seen:
        clock.witness(stamp)
    assert clock.stamp() > max(seen)


def test_an_older_witness_does_not_turn_the_clock_back() -> None:
    clock = HybridClock(ManualTime())
    before = clock.stamp()
    clock.witness(Stamp("0" * 36))
    assert clock.stamp() > before


def test_a_full_counter_carries_into_the_milliseconds() -> None:
    clock = HybridClock(ManualTime())
    full = Stamp(f"{int(NOON * 1000):012x}ffff" + "f" * 20)
    clock.witness(full)
    after = clock.stamp()
    assert after > full
    assert stamp_milliseconds(after) == int(NOON * 1000) + 1


def test_stamps_go_on_when_the_wall_clock_goes_back() -> None:
    time = ManualTime()
    clock = HybridClock(time)
    before = clock.stamp()
    time.wall -= 3600
    assert clock.stamp() > before
    time.wall += 7200
    assert stamp_milliseconds(clock.stamp()) == int(time.wall * 1000)


@pytest.mark.parametrize(
    ("value", "shaped"),
    [
        ("0" * 36, True),
        ("f" * 36, True),
        ("0" * 35, False),
        ("0" * 37, False),
        ("F" * 36, False),
        ("0" * 36 + "\n", False),
        ("\u0660" * 36, False),
        ("g" * 36, False),
        ("", False),
        (b"0" * 36, False),
        (None, False),
        (7, False),
    ],
)
def test_what_has_the_shape_of_a_stamp(value: object, shaped: bool) -> None:
    assert is_stamp(value) is shaped


def test_a_stamp_more_than_a_day_ahead_is_too_far() -> None:
    time = ManualTime()
    horizon = int((NOON + limits.STAMP_AHEAD_SECONDS_MAX) * 1000)
    assert not is_too_far_ahead(Stamp(f"{horizon:012x}" + "0" * 24), time)
    assert is_too_far_ahead(Stamp(f"{horizon + 1:012x}" + "0" * 24), time)


# --- deadlines ----------------------------------------------------------------------------------------------------


def test_a_deadline_passes_by_the_elapsed_clock_when_the_wall_clock_stands() -> None:
    time = ManualTime()
    deadline = Deadline.after(8, time)
    time.elapsed += 7.5
    assert not deadline.passed()
    assert deadline.remaining_seconds() == 0.5
    time.elapsed += 0.5
    assert deadline.passed()


def test_a_deadline_passes_by_the_wall_clock_when_the_elapsed_clock_stands() -> None:
    """A suspended machine may stop one of them."""
    time = ManualTime()
    deadline = Deadline.after(8, time)
    time.wall += 8
    assert deadline.passed()


def test_a_wall_clock_that_goes_back_does_not_lengthen_a_deadline() -> None:
    time = ManualTime()
    deadline = Deadline.after(8, time)
    time.wall -= 3600
    time.elapsed += 8
    assert deadline.passed()


def test_frozen_time_in_a_test_does_not_freeze_an_injected_clock() -> None:
    """Freezegun freezes monotonic time too; an application's tests may well use it around our calls."""
    time = ManualTime()
    with freeze_time("2030-01-01"):
        deadline = Deadline.after(8, time)
        stamp = HybridClock(time).stamp()
        time.pass_seconds(8)
        assert deadline.passed()
    assert stamp_milliseconds(stamp) == int(NOON * 1000)


def test_the_elapsed_clock_of_the_machine_runs_on_while_freezegun_holds_the_others() -> None:
    time = SystemTime()
    with freeze_time("2030-01-01"):
        before = time.elapsed_seconds()
        deadline = Deadline.after(0.0, time)
        assert time.elapsed_seconds() > before
    assert deadline.passed()


def test_the_clocks_of_the_machine_move_on() -> None:
    time = SystemTime()
    wall, elapsed = time.wall_seconds(), time.elapsed_seconds()
    time.sleep(0.001)
    assert time.wall_seconds() > wall
    assert time.elapsed_seconds() > elapsed
    assert 0 <= time.jitter(0.5) <= 0.5
    assert len({time.random_bytes(10) for _ in range(100)}) == 100
