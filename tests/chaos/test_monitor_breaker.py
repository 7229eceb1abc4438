"""A destination table that takes nothing for a while: the others go on, and nobody has to help once it is back.

`RELIABLE_WRITE_DEAD_TABLE=500` runs more entries.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from reliable_write.recovery import Resumed
from reliable_write.testing.faults import Call, Fault, answer, server_error, throttle
from tests.chaos.stragglers import Bench, Left, ids, put
from tests.world import World

ENTRIES = int(os.environ.get("RELIABLE_WRITE_DEAD_TABLE", "24"))
FAILURES = 3
LATEST_SECONDS = 60
"""After healing, the backlog is zero within a minute."""
SOON_OPEN: dict[str, Any] = {"breaker_failures": FAILURES, "workers": 2}
"""A breaker that opens early, with few attempts under way as it does."""


class Sickness:
    """A table that takes nothing until it is healed."""

    def __init__(self, bench: Bench, table: str, fault: Fault) -> None:
        self.ill, self.refused, self.fault = True, 0, fault
        bench.faults.on("PutItem", self._act, having=f'"{table}"'.encode())

    def _act(self, call: Call) -> Any:
        if not self.ill:
            return None
        self.refused += 1
        return self.fault(call)


def attempts(world: World) -> list[int]:
    return sorted(int(item.get("attempts", {"N": "0"})["N"]) for item in world.records("J#"))


@pytest.mark.parametrize("fault", [throttle, server_error, answer("ExpiredTokenException")])
def test_others_go_on_and_what_is_held_back_counts_no_attempts(world: World, fault: Fault) -> None:
    dead, fine = world.table("dead"), world.table("fine")
    left, bench = Left(world), Bench(world, **SOON_OPEN)
    sickness = Sickness(bench, dead, fault)
    left.leave(*left.puts(ENTRIES, dead, mark="held"), *left.puts(ENTRIES, fine))
    bench.monitor.run_once()
    done = bench.sweep_after()
    assert done[Resumed.FINISHED] == ENTRIES
    assert ids(world.items(fine)) == {f"good-{number}" for number in range(ENTRIES)}
    assert bench.monitor.status().breakers_open == (dead,)
    begun = attempts(world)
    assert len(begun) == ENTRIES
    assert sum(begun) <= FAILURES + 2, "those under way as it opened, and no more"
    assert begun[0] == 0
    gets = bench.faults.count("GetItem")
    probes = 0
    for _ in range(5):
        again = bench.sweep_after(16)
        probes += again.get(Resumed.STILL_PENDING, 0)
        # Those that were tried may be waiting for a time of their own.
        assert bench.monitor.status().held_back >= ENTRIES - FAILURES - 2 - probes
    assert probes == 5, "one a pause"
    assert sum(attempts(world)) == sum(begun) + probes
    assert bench.faults.count("GetItem") == gets + probes, "what is held back is not even read"
    assert sickness.refused > 0


@pytest.mark.parametrize("illness_seconds", [60, 300])
def test_after_healing_the_backlog_is_gone_within_a_minute_without_help(world: World, illness_seconds: int) -> None:
    dead, fine = world.table("dead"), world.table("fine")
    left, bench = Left(world), Bench(world, **SOON_OPEN)
    sickness = Sickness(bench, dead, throttle)
    left.leave(*left.puts(ENTRIES, fine, dead))
    began, poll = bench.time.skipped, 4
    while bench.time.skipped - began < illness_seconds:
        bench.sweep_after(poll)
    assert len(world.records("J#")) == ENTRIES
    assert ids(world.items(fine)) == {f"good-{number}" for number in range(ENTRIES)}, "their healthy tables got theirs"
    sickness.ill = False
    healed_at = bench.time.skipped
    while world.records("J#"):
        bench.sweep_after(poll)
        assert bench.time.skipped - healed_at <= LATEST_SECONDS
    assert ids(world.items(dead)) == {f"good-{number}" for number in range(ENTRIES)}
    assert bench.monitor.status().breakers_open == ()


def test_a_single_entry_whose_back_off_has_grown_long_is_due_when_its_table_is_back(world: World) -> None:
    """No other entry probes the table for it, and its own next attempt may be minutes ahead."""
    dead = world.table("dead")
    left, bench = Left(world), Bench(world, **SOON_OPEN)
    sickness = Sickness(bench, dead, throttle)
    left.leave(left.entry(put(dead, "only"), attempts=9))
    bench.monitor.run_once()
    while not bench.monitor.status().breakers_open:
        bench.sweep_after(310)
    sickness.ill = False
    healed_at = bench.time.skipped
    while world.records("J#"):
        bench.sweep_after(4)
        assert bench.time.skipped - healed_at <= LATEST_SECONDS


def test_a_probe_sends_one_operation_before_the_others(world: World) -> None:
    dead = world.table("dead")
    left, bench = Left(world), Bench(world, **SOON_OPEN)
    sickness = Sickness(bench, dead, answer("ExpiredTokenException"))  # not sent again within an attempt
    left.leave(*(left.entry(*(put(dead, f"{entry}-{item}") for item in range(5))) for entry in range(FAILURES)))
    bench.monitor.run_once()
    bench.sweep_after()
    assert bench.monitor.status().breakers_open == (dead,)
    assert sickness.refused == 5 * FAILURES
    bench.sweep_after(16)
    assert sickness.refused == 5 * FAILURES + 1
    sickness.ill = False
    assert bench.sweep_after(16)[Resumed.FINISHED] == 1
    bench.monitor.run_once()
    assert world.records("J#") == []
    assert len(world.items(dead)) == 5 * FAILURES


def test_a_probe_that_tells_nothing_of_its_table_sends_nothing_more_to_it(world: World) -> None:
    dead = world.table("dead")
    left, bench = Left(world), Bench(world, **SOON_OPEN)
    sickness = Sickness(bench, dead, answer("ExpiredTokenException"))
    left.leave(*(left.entry(*(put(dead, f"{entry}-{item}") for item in range(5))) for entry in range(FAILURES)))
    bench.monitor.run_once()
    bench.sweep_after()
    assert sickness.refused == 5 * FAILURES
    sickness.fault = answer("NobodyKnowsThisException")
    bench.sweep_after(16)
    assert sickness.refused == 5 * FAILURES + 1
    assert bench.monitor.status().breakers_open == (dead,)


def test_a_probe_whose_entry_is_gone_leaves_the_next_one_its_turn(world: World) -> None:
    """Between the look and the probe, somebody else has finished the entry: nothing was sent, so nothing is known."""
    dead = world.table("dead")
    left, bench = Left(world), Bench(world, **SOON_OPEN)
    sickness = Sickness(bench, dead, answer("ExpiredTokenException"))
    left.leave(*left.puts(FAILURES + 5, dead, mark="held"))
    bench.monitor.run_once()
    bench.sweep_after()
    assert bench.monitor.status().breakers_open == (dead,)
    sickness.ill = False

    victim = min((item for item in world.records("J#") if "attempts" not in item), key=lambda item: item["sk"]["S"])

    def vanish(_call: Call) -> None:
        world.client.delete_item(TableName=world.system_table, Key={"pk": victim["pk"], "sk": victim["sk"]})

    bench.faults.on("GetItem", vanish, having=victim["sk"]["S"].encode(), times=1)
    assert bench.sweep_after(16) == {Resumed.TOO_LATE: 1}
    assert bench.monitor.status().breakers_open == (dead,)
    assert bench.sweep_after(0)[Resumed.FINISHED] >= 1
    assert bench.monitor.status().breakers_open == ()


def test_what_an_operator_gave_up_for_a_dead_table_holds_its_write_back_no_more(world: World) -> None:
    dead, fine = world.table("dead"), world.table("fine")
    left, bench = Left(world), Bench(world, breaker_base_seconds=3600, breaker_cap_seconds=3600, **SOON_OPEN)
    Sickness(bench, dead, answer("ExpiredTokenException"))
    left.leave(*left.puts(FAILURES, dead), left.entry(put(dead, "given up"), put(fine, "wanted"), attempts=5))
    bench.monitor.run_once()
    assert bench.sweep_after().get(Resumed.FINISHED) is None
    assert bench.monitor.status().breakers_open == (dead,)
    entry = left.entries[-1]
    bench.writer.engine().operators.skip(entry.write_id, ["operations[0]"], operator="ada", reason="a dead table")
    bench.sweep_after(0)
    assert bench.sweep_after(310).get(Resumed.FINISHED) == 1
    assert bench.monitor.status().breakers_open == (dead,)
    assert bench.monitor.status().held_back == FAILURES
