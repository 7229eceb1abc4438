"""Who is a straggler: judged on the monitor's own elapsed clock, whatever the wall clocks say."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from monitor.sightings import Sighting, Sightings
from reliable_write.clock import Stamp
from reliable_write.entry import FORMAT, Entry
from reliable_write.limits import BACKOFF_CAP_SECONDS
from reliable_write.recovery import Resumed, ResumeReport
from tests.unit.fakes import NOON, ManualTime

LEASE = 10.0
OWN = frozenset({0})


def rank(shard: int) -> int:
    return 0 if shard in OWN else 1


def head(number: int = 1, *, shard: int = 0, **more: Any) -> Entry:
    stamp = Stamp(f"{number:036x}")
    return dataclasses.replace(Entry(shard, stamp, stamp, FORMAT, int(NOON * 1000), None), **more)


class Watch:
    """Sightings, and one look after the other."""

    def __init__(self, tracked_max: int = 100) -> None:
        self.time = ManualTime()
        self.sightings = Sightings(self.time, lease_seconds=LEASE, tracked_max=tracked_max)

    def look(self, *heads: Entry, shard: int = 0) -> None:
        seen = [self.sightings.see(one) for one in heads]
        self.sightings.keep_only(shard, {one.head.stamp for one in seen if one is not None})

    def due(self, *probes: str, one_shot: bool = False) -> list[Sighting]:
        return self.sightings.due(rank, probes, one_shot=one_shot)

    def numbers(self, *probes: str, one_shot: bool = False) -> list[int]:
        return [int(one.head.stamp, 16) for one in self.due(*probes, one_shot=one_shot)]

    def attempt(self, resumed: Resumed | None, *tables: str) -> None:
        (sighting,) = self.due()
        assert self.sightings.begin(sighting)
        report = None if resumed is None else ResumeReport("", resumed, tables=frozenset(tables))
        self.sightings.end(sighting, report)


def test_an_entry_is_a_straggler_once_it_was_seen_unchanged_for_a_whole_lease() -> None:
    watch = Watch()
    watch.look(head())
    watch.time.pass_seconds(LEASE - 0.1)
    watch.look(head())
    assert watch.due() == []
    watch.time.pass_seconds(0.1)
    assert watch.numbers() == [1]


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_wall_clocks_that_jump_make_no_straggler_and_hide_none(jump: float) -> None:
    watch = Watch()
    watch.look(head())
    watch.time.wall += jump
    assert watch.due() == []
    watch.time.pass_seconds(LEASE)
    assert watch.numbers() == [1]


@pytest.mark.parametrize("change", [{"epoch": 1}, {"epoch": 3, "attempts": 3}, {"state": "another"}])
def test_an_entry_that_changes_has_a_lease_from_then_on(change: dict[str, Any]) -> None:
    watch = Watch()
    watch.look(head())
    watch.time.pass_seconds(LEASE)
    watch.look(head(**change))
    assert watch.due() == []
    watch.time.pass_seconds(LEASE)
    assert watch.numbers() == [1]


def test_an_entry_of_a_shard_that_another_monitor_looks_after_waits_a_further_lease() -> None:
    watch = Watch()
    watch.look(head(shard=1), shard=1)
    watch.time.pass_seconds(2 * LEASE - 0.1)
    assert watch.due() == []
    watch.time.pass_seconds(0.1)
    assert watch.numbers() == [1]


def test_the_back_off_kept_in_the_entry_is_waited_for() -> None:
    watch = Watch()
    watch.look(head(next_at_milliseconds=int((NOON + 200) * 1000)))
    watch.time.pass_seconds(199)
    assert watch.due() == []
    watch.time.pass_seconds(1)
    assert watch.numbers() == [1]


def test_a_back_off_longer_than_any_was_set_by_a_wrong_clock_and_is_not_believed() -> None:
    watch = Watch()
    watch.look(head(next_at_milliseconds=int((NOON + BACKOFF_CAP_SECONDS + 86_400) * 1000)))
    watch.time.pass_seconds(LEASE)
    assert watch.numbers() == [1]


def test_own_shards_come_first_then_the_least_tried_then_the_oldest() -> None:
    watch = Watch()
    watch.look(head(4), head(2, attempts=7), head(3))
    watch.look(head(1, shard=1), shard=1)
    watch.time.pass_seconds(2 * LEASE)
    assert watch.numbers() == [3, 4, 2, 1]


def test_what_a_look_no_longer_finds_is_forgotten_and_other_shards_are_not() -> None:
    watch = Watch()
    watch.look(head(1), head(2))
    watch.look(head(3, shard=1), shard=1)
    watch.look(head(2))
    assert len(watch.sightings) == 2
    watch.time.pass_seconds(2 * LEASE)
    assert watch.numbers() == [2, 3]


def test_memory_is_bounded_and_room_is_given_back() -> None:
    watch = Watch(tracked_max=2)
    watch.look(head(1), head(2), head(3))
    assert len(watch.sightings) == 2
    watch.look(head(2), head(3))
    watch.look(head(2), head(3))
    assert len(watch.sightings) == 2
    watch.time.pass_seconds(LEASE)
    assert watch.numbers() == [2, 3]


def test_an_attempt_under_way_is_not_begun_twice_and_is_not_forgotten() -> None:
    watch = Watch()
    watch.look(head())
    watch.time.pass_seconds(LEASE)
    (sighting,) = watch.due()
    assert watch.sightings.begin(sighting)
    assert not watch.sightings.begin(sighting)
    assert watch.due() == []
    watch.look()
    assert len(watch.sightings) == 1
    watch.sightings.end(sighting, ResumeReport("", Resumed.FINISHED))
    assert len(watch.sightings) == 0


def test_a_sighting_from_an_earlier_list_is_not_begun_once_it_is_forgotten() -> None:
    watch = Watch()
    watch.look(head())
    watch.time.pass_seconds(LEASE)
    (sighting,) = watch.due()
    watch.look()
    watch.look(head())
    assert not watch.sightings.begin(sighting)


@pytest.mark.parametrize("resumed", [Resumed.FINISHED, Resumed.QUARANTINED, Resumed.TOO_LATE])
def test_what_is_out_of_our_hands_is_forgotten(resumed: Resumed) -> None:
    watch = Watch()
    watch.look(head())
    watch.time.pass_seconds(LEASE)
    watch.attempt(resumed)
    assert len(watch.sightings) == 0


def test_an_entry_that_is_still_pending_waits_a_lease_even_before_the_next_look() -> None:
    watch = Watch()
    watch.look(head())
    watch.time.pass_seconds(LEASE)
    watch.attempt(Resumed.STILL_PENDING)
    assert watch.due() == []
    watch.time.pass_seconds(LEASE)
    assert watch.numbers() == [1]


def test_an_unreadable_entry_is_left_alone_until_it_changes() -> None:
    watch = Watch()
    watch.look(head())
    watch.time.pass_seconds(LEASE)
    watch.attempt(Resumed.UNREADABLE)
    watch.time.pass_seconds(1000)
    watch.look(head())
    assert watch.due() == []
    watch.look(head(epoch=1))
    watch.time.pass_seconds(LEASE)
    assert watch.numbers() == [1]


def test_unexpected_exceptions_double_the_wait() -> None:
    watch = Watch()
    watch.look(head())
    watch.time.pass_seconds(LEASE)
    for wait in (LEASE, 2 * LEASE, 4 * LEASE):
        watch.attempt(None)
        watch.time.pass_seconds(wait - 0.1)
        assert watch.due() == []
        watch.time.pass_seconds(0.1)
        assert watch.numbers() == [1]
    for _ in range(10):
        watch.attempt(None)
        watch.time.pass_seconds(BACKOFF_CAP_SECONDS)
    assert watch.numbers() == [1], "never longer than the longest back-off"


def test_when_a_table_is_taken_again_its_entries_need_not_wait() -> None:
    watch = Watch()
    watch.look(head(1), head(2))
    watch.time.pass_seconds(LEASE)
    for sighting, table in zip(watch.due(), ("healed", "other"), strict=True):
        assert watch.sightings.begin(sighting)
        watch.sightings.end(sighting, ResumeReport("", Resumed.STILL_PENDING, tables=frozenset({table})))
    later = int((NOON + 250) * 1000)
    watch.look(head(1, epoch=1, next_at_milliseconds=later), head(2, epoch=1, next_at_milliseconds=later))
    assert watch.due() == []
    assert watch.sightings.hurry("healed") == 1
    assert watch.numbers() == [1]


def test_hurried_entries_of_other_monitors_shards_wait_a_lease_for_their_own() -> None:
    watch = Watch()
    watch.look(head(shard=1), shard=1)
    watch.time.pass_seconds(2 * LEASE)
    watch.attempt(Resumed.HELD_BACK, "healed")
    watch.sightings.hurry("healed")
    assert watch.due() == []
    watch.time.pass_seconds(LEASE)
    assert watch.numbers() == [1]


def test_a_hurried_entry_that_somebody_else_claims_is_his_for_a_lease() -> None:
    watch = Watch()
    watch.look(head())
    watch.time.pass_seconds(LEASE)
    watch.attempt(Resumed.HELD_BACK, "healed")
    watch.sightings.hurry("healed")
    assert watch.numbers() == [1]
    watch.look(head(epoch=1))
    assert watch.due() == []
    watch.time.pass_seconds(LEASE)
    assert watch.numbers() == [1]


def test_one_waiting_entry_probes_a_table_that_no_straggler_touches() -> None:
    watch = Watch()
    watch.look(head(1), head(2), head(3, attempts=1))
    watch.time.pass_seconds(LEASE)
    for sighting in watch.due():
        assert watch.sightings.begin(sighting)
        watch.sightings.end(sighting, ResumeReport("", Resumed.STILL_PENDING, tables=frozenset({"dead", "fine"})))
    assert watch.numbers() == []
    assert watch.numbers("unheard of") == []
    assert watch.numbers("dead") == [1], "one, the least tried, the oldest"
    watch.time.pass_seconds(LEASE)
    assert watch.numbers("dead") == [1, 2, 3], "stragglers probe it, no other is needed"


def test_an_entry_that_raised_what_nobody_expected_probes_no_table() -> None:
    """It may raise again, before anything is sent: the table would wait for it, turn after turn."""
    watch = Watch()
    watch.look(head())
    watch.time.pass_seconds(LEASE)
    watch.attempt(Resumed.STILL_PENDING, "dead")
    watch.time.pass_seconds(LEASE)
    watch.attempt(None)
    assert watch.numbers("dead") == []


@pytest.mark.parametrize(
    ("age_seconds", "due"), [(4 * LEASE - 1, []), (4 * LEASE, [1]), (-1, [1])], ids=["young", "old", "from the future"]
)
def test_who_looks_only_once_goes_by_four_leases_of_the_wall_clock(age_seconds: float, due: list[int]) -> None:
    watch = Watch()
    committed_at = int((NOON - age_seconds) * 1000)
    watch.look(head(committed_at_milliseconds=committed_at))
    assert watch.numbers(one_shot=True) == due
    watch.look(head(committed_at_milliseconds=committed_at, next_at_milliseconds=int((NOON + 5) * 1000)))
    assert watch.numbers(one_shot=True) == [], "its back-off holds here too"
