"""Poisoned entries among good ones in one shard: the good are finished, the poisoned set aside with the right reason,
and what this version cannot read stays byte for byte as it is.

`RELIABLE_WRITE_POISON=1000` runs the full size.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reliable_write.entry import Entry
from reliable_write.operations import Put
from reliable_write.recovery import Resumed
from reliable_write.system_table import Installation
from reliable_write.testing.engines import Engine
from reliable_write.testing.faults import Call, deny, lose_answer
from tests.chaos.stragglers import LEASE, Bench, Ear, Left, delete, ids, put
from tests.world import World

POISONED = int(os.environ.get("RELIABLE_WRITE_POISON", "40"))
RATE_MIN = 0.9
"""Of the rate without poison; asserted at the full size only, a small one is all noise."""
FULL = POISONED >= 1000
HUGE = {"S": "x" * 410_000}


@pytest.fixture
def one_shard(dynoxide: Engine, unique_name: Callable[[str], str]) -> Iterator[World]:
    world = World(dynoxide, unique_name, Installation(shards=1))
    yield world
    world.close()


class Poison:
    """A kind of entry that can never be finished, and what an operator reads about it."""

    def __init__(self, world: World, left: Left) -> None:
        self.world, self.left = world, left
        self.good_table = world.table("good")
        self.denied_table = world.table("denied")
        self.updated_table = world.table("updated")
        self.foreign_table = world.table("foreign")
        self.gone_table = "never-made-" + self.good_table

    def invalid(self, mark: str) -> Entry:
        """Its table has another key by now."""
        return self.left.entry(Put(self.good_table, ("key",), {"key": {"S": mark}}))

    def too_large(self, mark: str) -> Entry:
        return self.left.entry(put(self.good_table, mark, value=HUGE))

    def denied(self, mark: str) -> Entry:
        return self.left.entry(put(self.denied_table, mark))

    def table_gone(self, mark: str) -> Entry:
        """For longer than ten minutes."""
        long_ago = int((time.time() - 660) * 1000)
        return self.left.entry(put(self.gone_table, mark), committed_at=long_ago)

    def overtaken(self, mark: str) -> Entry:
        entry = self.left.entry(put(self.updated_table, mark))
        item = {"id": {"S": mark}, "_rwu": {"S": _later(entry)}}
        self.world.client.put_item(TableName=self.updated_table, Item=item)
        return entry

    def foreign(self, mark: str) -> Entry:
        item = {"id": {"S": mark}, "_rw": {"N": "7"}}
        self.world.client.put_item(TableName=self.foreign_table, Item=item)
        return self.left.entry(delete(self.foreign_table, mark))


REASONS = {
    "invalid": "refused as invalid",
    "too_large": "refused as invalid",
    "denied": "access denied",
    "table_gone": "table missing",
    "overtaken": "an update later in order",
    "foreign": "did not write",
}


def _later(entry: Entry) -> str:
    return f"{int(entry.stamp[:12], 16) + 1000:012x}{entry.stamp[12:]}"


@pytest.mark.parametrize("lost", [1, None], ids=["one answer", "every answer"])
def test_who_sets_an_entry_aside_and_is_not_told_alarms_all_the_same(world: World, lost: int | None) -> None:
    """Nobody else will: to every later look it is one more that waits for a person."""
    ear, left = Ear(), Left(world)
    bench = Bench(world, logger=ear)
    entry = left.entry(Put(world.table("people"), ("key",), {"key": {"S": "a"}}))
    left.leave(entry)
    bench.monitor.run_once()
    bench.faults.on("UpdateItem", lose_answer, "after", times=lost, having=b"quarantined")
    assert bench.sweep_after() == {Resumed.QUARANTINED: 1}
    assert bench.faults.injected >= 1
    assert [facts["write_id"] for facts in ear.of("entry_quarantined")] == [entry.write_id]
    bench.sweep_after()
    assert len(ear.of("entry_quarantined")) == 1


@pytest.mark.parametrize(
    ("deeds", "lost"),
    [(["retry"], True), (["retry", "quarantine"], True), (["quarantine"], False)],
    ids=["set going again", "set going again and aside", "set aside, and all answered"],
)
def test_who_comes_too_late_to_set_an_entry_aside_does_not_alarm(world: World, deeds: list[str], lost: bool) -> None:
    """It was an operator who moved it."""
    ear, left = Ear(), Left(world)
    bench = Bench(world, logger=ear)
    entry = left.entry(Put(world.table("people"), ("key",), {"key": {"S": "a"}}))
    left.leave(entry)
    operators = world.writer().engine().operators

    def overtake(call: Call) -> None:
        for deed in deeds:
            getattr(operators, deed)(entry.write_id, operator="ada", reason="a race")
        if lost:
            lose_answer(call)

    bench.monitor.run_once()
    bench.faults.on("UpdateItem", overtake, times=1, having=b"quarantined")
    assert bench.sweep_after() == {Resumed.TOO_LATE: 1}
    assert bench.faults.injected == 1
    assert ear.of("entry_quarantined") == []


def test_the_good_are_finished_and_the_poisoned_set_aside_with_the_right_reason(one_shard: World) -> None:
    world, left = one_shard, Left(one_shard)
    poison, bench = Poison(world, left), Bench(world)
    bench.faults.on("PutItem", deny, having=f'"{poison.denied_table}"'.encode())
    expected: dict[str, str] = {}
    good = left.puts(POISONED, poison.good_table)
    for number in range(POISONED):
        kind = sorted(REASONS)[number % len(REASONS)]
        entry: Entry = getattr(poison, kind)(f"bad-{number}")
        expected[entry.stamp] = REASONS[kind]
        left.leave(good[number], entry)  # turn and turn about
    bench.monitor.run_once()
    begun = time.monotonic()
    done = bench.sweep_after()
    seconds = time.monotonic() - begun
    assert done == {Resumed.FINISHED: POISONED, Resumed.QUARANTINED: POISONED}
    kept = {item["sk"]["S"]: item for item in world.records("J#")}
    assert kept.keys() == expected.keys(), "none lost, no good one left"
    for stamp, reason in expected.items():
        assert kept[stamp]["state"] == {"S": "quarantined"}
        assert reason in kept[stamp]["last_error"]["S"]
        assert "payload" not in kept[stamp]
    assert ids(world.items(poison.good_table)) == {f"good-{number}" for number in range(POISONED)}
    status = bench.monitor.status()
    assert status.conflicts_total == sum(
        expected[stamp] in (REASONS["overtaken"], REASONS["foreign"]) for stamp in kept
    )
    assert status.failures_total == 0
    assert status.breakers_open == (), "a table that refuses for good reasons answers soundly"
    claims = bench.claims()
    report = bench.monitor.run_once()
    assert (report.pending, report.quarantined) == (0, POISONED)
    assert bench.sweep_after(1000) == {}
    assert bench.claims() == claims, "quarantined entries are never tried again"
    print(f"{POISONED} good and {POISONED} poisoned in {seconds:.1f} s")


def test_good_entries_go_at_the_same_rate_with_and_without_poison(one_shard: World) -> None:
    """The poisoned have been met: from then on they are tiny heads in the same partition."""
    world, left = one_shard, Left(one_shard)
    poison, bench = Poison(world, left), Bench(world)
    rates = {}
    for name in ("without", "with"):
        left.leave(*left.puts(POISONED, poison.good_table, mark=name))
        bench.monitor.run_once()
        begun = time.monotonic()
        assert bench.sweep_after() == {Resumed.FINISHED: POISONED}
        rates[name] = POISONED / (time.monotonic() - begun)
        if name == "without":
            left.leave(*(poison.invalid(f"bad-{number}") for number in range(POISONED)))
            bench.monitor.run_once()
            assert bench.sweep_after() == {Resumed.QUARANTINED: POISONED}
    print({name: round(rate) for name, rate in rates.items()}, "a second")
    if FULL:
        assert rates["with"] >= RATE_MIN * rates["without"]


def _another_format(item: dict[str, Any]) -> None:
    item["format"] = {"N": "99"}


def _another_state(item: dict[str, Any]) -> None:
    item["state"] = {"S": "hibernating"}


def _flipped_bit(item: dict[str, Any]) -> None:
    payload = bytearray(item["payload"]["B"])
    payload[-1] ^= 1
    item["payload"] = {"B": bytes(payload)}


def _no_head(item: dict[str, Any]) -> None:
    del item["write_id"]


def _lost_chunk(item: dict[str, Any]) -> None:
    del item["payload"]
    item["chunks"] = {"N": "2"}


@pytest.mark.parametrize("spoil", [_another_format, _another_state, _flipped_bit, _no_head, _lost_chunk])
def test_what_cannot_be_read_is_left_exactly_as_it_is_and_alarmed_once(
    one_shard: World, spoil: Callable[[dict[str, Any]], None]
) -> None:
    world, left, ear = one_shard, Left(one_shard), Ear()
    table, bench = world.table("good"), Bench(one_shard, logger=ear)
    spoilt = left.entry(put(table, "spoilt"))
    left.leave(*left.puts(2, table, mark="before"))
    left.leave(spoilt, spoil=spoil)
    left.leave(*left.puts(2, table, mark="after"))
    (before,) = [item for item in world.records("J#") if item["sk"]["S"] == spoilt.stamp]
    told_by_its_head = spoil in (_another_format, _another_state, _no_head)
    assert bench.monitor.run_once().unreadable == told_by_its_head
    assert bench.sweep_after()[Resumed.FINISHED] == 4
    for _ in range(3):
        bench.sweep_after()
    assert world.records("J#") == [before]
    assert ids(world.items(table)) == {"before-0", "before-1", "after-0", "after-1"}
    assert [facts["write_id"] for facts in ear.of("entry_unreadable")] == [spoilt.stamp]
    report = bench.monitor.run_once()
    assert (report.unreadable, report.pending, report.oldest_pending_age_seconds) == (1, 0, 0.0)
    assert bench.claims() == 4
    reads = sum(call.operation == "GetItem" and spoilt.stamp.encode() in call.body for call in bench.faults.calls)
    assert (reads == 0) == told_by_its_head


def test_an_entry_too_new_for_quarantine_waits_for_its_table(one_shard: World) -> None:
    world, left = one_shard, Left(one_shard)
    poison, bench = Poison(world, left), Bench(world)
    entry = dataclasses.replace(poison.table_gone("soon"), committed_at_milliseconds=int(time.time() * 1000))
    left.leave(entry)
    bench.monitor.run_once()
    assert bench.sweep_after(LEASE) == {Resumed.STILL_PENDING: 1}
    (kept,) = world.records("J#")
    assert kept["state"] == {"S": "pending"}
