"""Shared records between processes: stale ones notice, deleted ones are told of, no update is lost or counted twice.

The race of the system this goes back to is run beside it: looking at the serial first and writing then loses updates.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from reliable_write import RecordStore, SharedRecords
from reliable_write.testing.faults import When
from tests.chaos.processes import KILLED, PATIENCE_SECONDS, Child, start
from tests.chaos.sharers import KEY, Report, count_as_of_old, count_shared, count_until_killed, share, tally_in
from tests.chaos.victims import Home
from tests.world import World

PROCESSES = 8
UPDATES = int(os.environ.get("RELIABLE_WRITE_SHARED_UPDATES", "25"))
"""Of each process."""
KILLS = int(os.environ.get("RELIABLE_WRITE_SHARED_KILLS", "24"))
WAVE: tuple[When, ...] = ("before", "after") * 4
"""Of so many processes at once, each is killed just before one of its commits, or just after it was applied."""
SEED = int(os.environ.get("RELIABLE_WRITE_CHAOS_SEED", "20251122"))
PATIENCE = pytest.mark.timeout(300 + UPDATES + KILLS * 5)


class Room:
    """A world with one shared record, and the processes that share it."""

    def __init__(self, world: World, cleanup: ExitStack) -> None:
        self.world = world
        self.home = Home(world.engine.endpoint_url, world.system_table)
        self.table = world.table("tallies")
        self._cleanup = cleanup
        self._shared = SharedRecords(RecordStore(world.writer()))
        self.record = self._shared.create(tally_in(self.table)(id=KEY))

    def process(self, target: Callable[..., None], *arguments: Any) -> Child:
        child = start(target, self.home, self.table, *arguments)
        self._cleanup.callback(child.close)
        assert child.receive() == "ready"
        return child

    def count(self, target: Callable[..., None], updates: int) -> tuple[Report, float]:
        """All processes at once; what they did together, and how long it took."""
        children = [self.process(target, updates) for _ in range(PROCESSES)]
        begun = time.monotonic()
        for child in children:
            child.pipe.send("go")
        reports = [self._report(child) for child in children]
        return Report(
            sum(report.written for report in reports),
            sum(report.tries for report in reports),
            sum((report.calls for report in reports), Counter()),
        ), time.monotonic() - begun

    def shown(self) -> tuple[int, int]:
        """The count and the version, as the table has them."""
        item = self.world.item(self.table, id={"S": KEY})
        assert item is not None
        return int(item["count"]["N"]), int(item["version"]["N"])

    def _report(self, child: Child) -> Report:
        assert child.pipe.poll(PATIENCE_SECONDS + UPDATES), "a process is still counting"
        report: Report = child.pipe.recv()
        assert child.ended() == 0
        return report


@pytest.fixture
def room(world: World) -> Iterator[Room]:
    with ExitStack() as cleanup:
        yield Room(world, cleanup)


def told(child: Child, order: str) -> Any:
    child.pipe.send(order)
    return child.receive()


def test_a_stale_record_in_another_process_notices_when_it_reads_and_when_it_writes(room: Room) -> None:
    first, second = room.process(share), room.process(share)
    assert told(first, "update") == (1, 2)
    assert told(second, "peek") == (0, 1)
    assert told(second, "put") == "StaleRecordError"
    assert told(second, "peek") == (1, 2)
    assert told(first, "update") == (2, 3)
    assert told(second, "read") == (2, 3)
    assert room.shown() == (2, 3)


def test_a_record_deleted_by_another_process_raises_instead_of_showing_old_values(room: Room) -> None:
    first, second = room.process(share), room.process(share)
    assert told(second, "read") == (0, 1)
    assert told(first, "delete") is None
    for order in ("read", "update", "put", "peek", "delete"):
        assert told(second, order) == "RecordDeletedError"
    assert told(first, "read") == "RecordDeletedError"


@PATIENCE
def test_eight_processes_count_on_one_shared_record_and_nothing_is_lost(room: Room) -> None:
    report, seconds = room.count(count_shared, UPDATES)
    print(
        f"{report.written} updates by {PROCESSES} processes in {seconds:.1f} s, {report.tries / report.written:.2f} "
        f"tries each; calls for each: "
        + ", ".join(f"{name} {count / report.written:.2f}" for name, count in sorted(report.calls.items()))
    )
    assert report.written == PROCESSES * UPDATES
    assert room.shown() == (report.written, report.written + 1), "the version counts the writes; the first one made it"
    assert report.tries > report.written, "nobody came too late: nothing was tested"


@PATIENCE
def test_looking_first_and_writing_then_loses_updates(room: Room) -> None:
    report, seconds = room.count(count_as_of_old, UPDATES)
    count, _ = room.shown()
    print(f"{report.written} updates as of old in {seconds:.1f} s: {report.written - count} of them lost")
    assert report.written == PROCESSES * UPDATES
    assert count < report.written


@PATIENCE
def test_of_killed_processes_only_what_was_under_way_is_in_doubt(room: Room) -> None:
    """Whoever is killed has one update begun and not acknowledged: it is counted once, or not at all."""
    chance, said = random.Random(SEED), Counter[str]()
    for _ in range(KILLS // len(WAVE)):
        victims = [room.process(count_until_killed, chance.randint(3, 12), when) for when in WAVE]
        for victim in victims:
            victim.pipe.send("go")
        for victim in victims:
            said.update(until_death(victim))
    count, version = room.shown()
    under_way = said["begun"] - said["written"]
    applied = count - said["written"]
    print(f"{under_way} killed: {said['written']} updates acknowledged; of those under way {applied} are counted")
    assert under_way == KILLS // len(WAVE) * len(WAVE)
    assert version == count + 1
    assert 0 < applied < under_way, "killed before the commit and after it: some of both is expected"


def until_death(victim: Child) -> Iterator[str]:
    """All it says until it is killed."""
    try:
        while True:
            yield victim.receive()
    except EOFError:
        assert victim.ended() == KILLED
