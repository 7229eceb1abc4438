"""What recovery asks for and keeps, on a journal in memory."""

from __future__ import annotations

import itertools

from reliable_write.dynamodb import CallFailed
from reliable_write.entry import Entry, read_entry
from reliable_write.operations import Operation
from reliable_write.policy import FailureKind
from reliable_write.recovery import Resumed
from tests.simulation.memory_world import SYSTEM, TABLE, MemoryWorld, putting


def left_behind(world: MemoryWorld, count: int) -> list[Entry]:
    """So many entries whose writer died right after the commit point."""
    engine, entries = world.engine, []
    for number in range(count):
        operation = Operation("put_item", (putting(f"k{number}"),))
        entries.append(engine.committer.prepare([operation], engine.attempt_deadline()).entry)
        engine.journal.commit(entries[-1], engine.attempt_deadline())
    return entries


def test_a_long_backlog_is_worked_off_page_by_page() -> None:
    """A shard may hold thousands of entries of 350 KB; they never are in memory together."""
    world = MemoryWorld(shards=1)
    left_behind(world, 8)
    world.tables.sent.clear()
    reports = world.engine.recovery.resume_all()
    assert [report.resumed for report in reports] == [Resumed.FINISHED] * 8
    sent = [call for call, _ in world.tables.sent]
    queries = [at for at, call in enumerate(sent) if call == "query"]
    assert len(queries) == 3
    assert all("update_item" in sent[here:there] for here, there in itertools.pairwise(queries))
    assert world.records("J#") == []


def test_a_page_that_cannot_be_read_is_told_and_what_was_read_before_it_is_finished() -> None:
    world = MemoryWorld(shards=1)
    left_behind(world, 5)

    def refuse(call: str, request: object) -> None:
        if call == "query" and isinstance(request, dict) and "ExclusiveStartKey" in request:
            raise CallFailed(FailureKind.ACCESS_DENIED, "AccessDeniedException", SYSTEM)

    world.tables.before = refuse
    reports = world.engine.recovery.resume_all()
    assert [report.resumed for report in reports] == [*[Resumed.FINISHED] * 3, Resumed.UNREADABLE]
    assert "access denied" in reports[-1].reason
    assert len(world.tables.items(TABLE)) == 3


def test_an_entry_that_moved_since_its_head_was_seen_is_left_to_whoever_moved_it() -> None:
    world = MemoryWorld(shards=1)
    left_behind(world, 1)
    engine = world.engine
    (item,) = engine.journal.heads(0, engine.attempt_deadline()).items
    head = read_entry(item)
    engine.journal.claim(head, "another monitor", engine.attempt_deadline())
    report = engine.recovery.resume_head(head, lambda _tables: True)
    assert report.resumed is Resumed.TOO_LATE
    assert world.records("J#")[0]["owner"] == {"S": "another monitor"}
    assert world.tables.items(TABLE) == []
