"""Counters between processes, in all weathers: sums are exact, and every value is told once.

The tutorial's `ADD` with boto3's own retries is run beside it, under the same faults: its sum is wrong.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection, wait
from typing import Any

import pytest

from reliable_write import AtomicCounter
from reliable_write import Counter as CounterHandle
from reliable_write.counters.slots import found_slots
from reliable_write.testing.faults import When
from tests.chaos.processes import KILLED, PATIENCE_SECONDS, Child, start
from tests.chaos.tallies import (
    FAULTS,
    NAME,
    Report,
    count_atomically,
    count_plainly,
    count_until_killed,
    step_on_counter,
)
from tests.chaos.victims import Home
from tests.world import World

COUNTED = int(os.environ.get("RELIABLE_WRITE_COUNTED", "20000"))
"""CI's size, over all processes; the promise is kept for a million."""
KILLS = int(os.environ.get("RELIABLE_WRITE_COUNTERS_KILLED", "24"))
SEED = int(os.environ.get("RELIABLE_WRITE_CHAOS_SEED", "20251122"))
PROCESSES = 8
WAVE: tuple[When, ...] = ("before", "after") * 4
PLAIN = 2_000
STEPS = 150
"""Of each of two who fight over one counter."""
PROGRESS_SECONDS = 20.0
PATIENCE = pytest.mark.timeout(300 + COUNTED // 50)


class Room:
    """A world with one counter, and the processes that raise it."""

    def __init__(self, world: World, cleanup: ExitStack) -> None:
        self.world = world
        self.home = Home(world.engine.endpoint_url, world.system_table)
        self.table = world.table("counters")
        self._cleanup = cleanup

    def process(self, target: Callable[..., None], *arguments: Any) -> Child:
        child = start(target, self.home, self.table, *arguments)
        self._cleanup.callback(child.close)
        return child

    def count(self, target: Callable[..., None], increments: int) -> tuple[Report, float]:
        """All processes at once; what they did together, and how long it took."""
        begun = time.monotonic()
        share, rest = divmod(increments, PROCESSES)
        children = [self.process(target, share + (number < rest), SEED + number) for number in range(PROCESSES)]
        report = self._gathered(children, increments, begun)
        return report, time.monotonic() - begun

    def item(self) -> dict[str, Any]:
        item = self.world.item(self.table, id={"S": NAME})
        assert item is not None
        return item

    def value(self) -> int:
        return int(self.item()["value"]["N"])

    def _gathered(self, children: list[Child], increments: int, begun: float) -> Report:
        total, done, told_at = Report(), 0, begun
        pending = {child.pipe: child for child in children}
        while pending:
            ready = wait(list(pending), timeout=PATIENCE_SECONDS * 2)
            assert ready, "the processes say nothing"
            for pipe in ready:
                assert isinstance(pipe, Connection)
                said = pipe.recv()
                if isinstance(said, Report):
                    total += said
                    assert pending.pop(pipe).ended() == 0
                else:
                    done += said
            if time.monotonic() - told_at > PROGRESS_SECONDS:
                told_at = time.monotonic()
                print(f"  {done:,} of {increments:,} after {told_at - begun:.0f} s", flush=True)
        return total


@pytest.fixture
def room(world: World) -> Iterator[Room]:
    with ExitStack() as cleanup:
        yield Room(world, cleanup)


@PATIENCE
def test_increments_of_eight_processes_add_up_exactly_and_each_value_is_told_once(room: Room) -> None:
    report, seconds = room.count(count_atomically, COUNTED)
    slots = len(found_slots(room.item()))
    print(
        f"{COUNTED:,} increments by {PROCESSES} processes in {seconds:.0f} s ({COUNTED / seconds:.0f}/s): the sum is "
        f"{room.value():,}; {dict(sorted(report.faults.items()))}; {slots} slots left"
    )
    assert room.value() == COUNTED == report.acknowledged
    assert report.values == COUNTED * (COUNTED + 1) // 2
    assert report.squares == COUNTED * (COUNTED + 1) * (2 * COUNTED + 1) // 6
    happened = (*FAULTS, "landed late", "handle changed", "blackout", "unknown")
    assert all(report.faults[fault] > 0 for fault in happened), report.faults
    assert report.faults["settled: counted"] + report.faults["settled: not counted"] == report.faults["unknown"]


@PATIENCE
def test_the_tutorials_add_with_the_sdks_retries_counts_wrong_under_the_same_faults(room: Room) -> None:
    report, seconds = room.count(count_plainly, PLAIN)
    value = room.value()
    print(
        f"{PLAIN:,} plain ADDs in {seconds:.0f} s: {report.acknowledged:,} acknowledged, the sum is {value:,}, "
        f"{value - report.acknowledged:+,}; {dict(sorted(report.faults.items()))}"
    )
    assert all(report.faults[fault] > 0 for fault in (*FAULTS, "landed late")), report.faults
    assert value > report.acknowledged + report.faults["given up"], "more than there were calls at all"


@PATIENCE
def test_two_processes_fight_over_one_counter_and_each_success_is_one_step(room: Room) -> None:
    CounterHandle(room.world.writer(), room.table, NAME, 7)
    children = [room.process(step_on_counter, STEPS, SEED + number) for number in range(2)]
    for child in children:
        assert child.receive() == "ready"
    for child in children:
        child.pipe.send("go")
    reports = [child.receive() for child in children]
    report = sum(reports, Report())
    print(f"{report.acknowledged} steps of {2 * STEPS} tries; {dict(sorted(report.faults.items()))}")
    assert room.value() == 7 + report.acknowledged
    told = range(8, 8 + report.acknowledged)
    assert (report.values, report.squares) == (sum(told), sum(value * value for value in told))
    assert all(one.acknowledged > 0 for one in reports)
    assert report.faults["out of sync"] > 0, "nobody came too late: nothing was tested"
    assert report.faults["answer lost"] > 0


@PATIENCE
def test_of_killed_processes_only_the_increment_under_way_is_in_doubt(room: Room) -> None:
    chance, said = random.Random(SEED), Counter[str]()
    for _ in range(math.ceil(KILLS / len(WAVE))):
        victims = [room.process(count_until_killed, chance.randint(2, 40), when) for when in WAVE]
        for victim in victims:
            assert victim.receive() == "ready"
        for victim in victims:
            victim.pipe.send("go")
        for victim in victims:
            said.update(until_death(victim))
    under_way = said["begun"] - said["counted"]
    applied = room.value() - said["counted"]
    print(f"{under_way} killed: {said['counted']} increments acknowledged; of those under way {applied} are counted")
    assert under_way == math.ceil(KILLS / len(WAVE)) * len(WAVE)
    assert 0 < applied < under_way, "killed before the update and after it: some of both is expected"
    with AtomicCounter(room.world.writer(), room.table, NAME) as counter:
        assert counter.add() == said["counted"] + applied + 1, "others go on"


def until_death(victim: Child) -> Iterator[str]:
    """All it says until it is killed."""
    try:
        while True:
            yield victim.receive()
    except EOFError:
        assert victim.ended() == KILLED
