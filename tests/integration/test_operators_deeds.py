"""What an operator's deed leaves behind in the entry, and what the next attempt makes of it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from reliable_write import limits
from reliable_write.entry import Entry, State
from reliable_write.operators import Found
from reliable_write.recovery import Resumed
from tests.clocks import HastyTime
from tests.integration.stuck_writes import Stuck, batch, delete, one, put
from tests.world import World, world

__all__ = ["world"]
BY: dict[str, Any] = {"operator": "ada@night", "reason": "a test"}
LARGE_BYTES = 390_000


def keys(world: World, table: str) -> set[str]:
    return {item["id"]["S"] for item in world.items(table)}


def large(table: str, count: int) -> list[Any]:
    """Puts that do not compress: together more than one journal item takes."""
    noise = random.Random(7)
    return [put(table, f"k{number}", noise={"B": noise.randbytes(LARGE_BYTES)}) for number in range(count)]


@pytest.mark.parametrize("size", ["small", "in chunks"])
def test_what_was_skipped_stays_skipped_over_further_skips_quarantines_and_retries(world: World, size: str) -> None:
    table = world.table("t")
    stuck = Stuck(world.hasty())
    operators = stuck.engine.operators
    actions = large(table, 4) if size == "in chunks" else [put(table, f"k{number}") for number in range(4)]
    entry = stuck.commit(batch(*actions), one(delete(table, "never there")))
    assert len(world.records("C#")) == (0 if size == "small" else 5)
    operators.skip(entry.write_id, ["operations[0].items[1]"], **BY)
    operators.quarantine(entry.write_id, **BY)
    operators.skip(entry.write_id, ["operations[0].items[3]", "operations[1]"], **BY)
    operators.retry(entry.write_id, **BY)
    operators.quarantine(entry.write_id, **BY)
    held = operators.retry(entry.write_id, **BY)
    assert held.skipped == {"operations[0].items[1]", "operations[0].items[3]", "operations[1]"}
    found = {one.place: one.found for one in operators.examine(entry.write_id).comparisons}
    assert list(found.values()) == [Found.NOT_APPLIED, Found.SKIPPED] * 2 + [Found.SKIPPED]
    assert stuck.writer.recovery.resume(entry.write_id).resumed is Resumed.FINISHED
    assert keys(world, table) == {"k0", "k2"}
    assert world.records("T#") == []
    assert world.records("J#") == []


@pytest.mark.parametrize("state", State)
def test_a_retry_is_due_at_once_whatever_back_off_was_kept(world: World, state: State) -> None:
    stuck = Stuck(world.hasty())
    entry = stuck.commit(one(put(world.table("t"), "x")))
    engine = stuck.engine
    engine.journal.postpone(entry, "throttled", 4_000_000_000_000, engine.attempt_deadline())
    if state is State.QUARANTINED:
        engine.operators.quarantine(entry.write_id, **BY)
    retried = engine.operators.retry(entry.write_id, **BY)
    assert (retried.state, retried.next_at_milliseconds, retried.stamp) == (State.PENDING, 0, entry.stamp)


@pytest.mark.parametrize("aside", [False, True])
def test_a_discard_outwaits_the_longest_attempt(world: World, aside: bool) -> None:
    """Also of one that is set aside: somebody may have done that a moment ago, under an attempt."""
    time = HastyTime()
    stuck = Stuck(world.writer(time=time))
    commit = stuck.quarantined if aside else stuck.commit
    entry: Entry = commit(one(put(world.table("t"), "x")))
    stuck.engine.operators.discard(entry.write_id, **BY)
    assert time.skipped == limits.LEASE_SECONDS
    assert world.records("J#") == []


def test_a_put_whose_key_was_deleted_before_it_is_told_as_open_and_after_it_as_settled(world: World) -> None:
    table = world.table("t")
    stuck = Stuck(world.writer())

    def deleted() -> None:
        entry = stuck.commit(one(delete(table, "x")))
        assert stuck.writer.recovery.resume(entry.write_id).resumed is Resumed.FINISHED

    deleted()
    entry = stuck.commit(one(put(table, "x")))
    (before,) = stuck.engine.operators.examine(entry.write_id).comparisons
    deleted()
    (after,) = stuck.engine.operators.examine(entry.write_id).comparisons
    assert (before.found, after.found) == (Found.NOT_APPLIED, Found.DELETED_LATER)
