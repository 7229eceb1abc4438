"""What a waiter makes of what he sees."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reliable_write import limits
from reliable_write.locks.items import FREE, LockState
from reliable_write.locks.waiting import Sight, Standing, Watch, judge, pause_seconds
from tests.unit.fakes import ManualTime

HELD = LockState(owner="a", token=7, lease_seconds=20.0, since_milliseconds=1, lease_id="h1-l1", beat=3)


@pytest.mark.parametrize(
    ("state", "unchanged", "ours", "standing"),
    [
        (FREE, 0.0, None, Standing.FREE),
        (LockState(token=7, data="left"), 100.0, None, Standing.FREE),
        (HELD, 0.0, None, Standing.HELD),
        (HELD, 19.99, None, Standing.HELD),
        (HELD, 20.0, None, Standing.LAPSED),
        (HELD, 0.0, "h1", Standing.OURS),
        (HELD, 0.0, "h2", Standing.HELD),
        (replace(HELD, lease_seconds=None), 0.0, None, Standing.LAPSED),
    ],
)
def test_the_standing_of_a_lock(state: LockState, unchanged: float, ours: str | None, standing: Standing) -> None:
    assert judge(Sight(state, unchanged), ours) is standing


@pytest.mark.parametrize("change", [{"beat": 4}, {"token": 8}, {"lease_id": "h1-l2"}])
def test_every_sign_of_life_is_another_version(change: dict[str, object]) -> None:
    changed = replace(HELD, **change)  # type: ignore[arg-type]  # fields by name
    assert changed.record_version != HELD.record_version


def test_data_are_no_sign_of_life() -> None:
    assert replace(HELD, data="other", owner="b").record_version == HELD.record_version


def test_a_watch_counts_from_the_first_sight_of_a_version_on_its_own_elapsed_clock() -> None:
    time = ManualTime()
    watch = Watch(time)
    assert watch.see(HELD).unchanged_seconds == 0
    time.elapsed += 5
    time.wall += 1000
    assert watch.see(HELD).unchanged_seconds == 5
    time.elapsed += 5
    assert watch.see(replace(HELD, beat=4)).unchanged_seconds == 0
    time.elapsed += 5
    assert watch.see(replace(HELD, beat=4)).remaining_seconds == 15


def test_a_version_that_was_seen_before_and_came_back_is_new() -> None:
    time = ManualTime()
    watch = Watch(time)
    watch.see(HELD)
    time.elapsed += 15
    watch.see(FREE)
    time.elapsed += 15
    assert watch.see(HELD).unchanged_seconds == 0


def test_pauses_grow_with_full_jitter_up_to_the_poll_and_end_when_the_lock_may_be_had() -> None:
    time = ManualTime()
    pauses = [pause_seconds(looks, Sight(HELD, 0.0), 0.5, time) for looks in range(1, 8)]
    assert pauses == [0.04, 0.08, 0.16, 0.32, 0.5, 0.5, 0.5]
    time.jitter_share = 0.5
    assert pause_seconds(1, Sight(HELD, 0.0), 0.5, time) == 0.02
    time.jitter_share = 1.0
    assert pause_seconds(9, Sight(HELD, 19.9), 0.5, time) == pytest.approx(0.1)
    assert limits.LOCK_POLL_BASE_SECONDS == 0.02
