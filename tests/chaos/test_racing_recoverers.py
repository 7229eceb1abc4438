"""Two recoverers at one entry: the one with the older sight is too late, changes nothing, and goes on to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reliable_write import ReliableWriter, ReliableWriteScope
from reliable_write.recovery import Resumed
from reliable_write.system_table import Installation
from reliable_write.testing.engines import Engine
from reliable_write.testing.faults import Call, Fault, FaultPlan, SimulatedCrash, answer, crash, deny
from tests.world import World, plain_world

world = plain_world

expired_token = answer("ExpiredTokenException")
"""Neither tried again within the attempt nor permanent: the entry is postponed at once."""


@pytest.fixture
def small_world(dynoxide: Engine, unique_name: Callable[[str], str]) -> Iterator[World]:
    world = World(dynoxide, unique_name, Installation(shards=1))
    yield world
    world.close()


def strand(world: World, table: str, mark: str) -> str:
    """Committed, and nothing of it applied; its write id."""
    client = world.engine.client()
    with ReliableWriter(world.settings(), client=client) as writer, FaultPlan(client) as faults:
        faults.on("PutItem", crash, "after", having=b'"J#')
        scope = ReliableWriteScope(writer)
        scope.put_item(table, Item={"id": mark})
        with pytest.raises(SimulatedCrash):
            scope.commit()
        assert scope.write_id is not None
        return scope.write_id


def resume_all(world: World, *, at: str, having: str, fault: Fault) -> list[Resumed]:
    """What a recoverer reports whose first call of this kind meets the fault."""
    client = world.engine.client()
    with ReliableWriter(world.settings(), client=client) as writer:
        recovery = writer.recovery
        with FaultPlan(client) as faults:
            faults.on(at, fault, times=1, having=having.encode())
            reports = recovery.resume_all()
        assert faults.injected == 1
    return [report.resumed for report in reports]


def test_an_entry_finished_after_the_look_does_not_stop_the_recoverer_before_the_next_one(small_world: World) -> None:
    world = small_world
    table = world.table("one")
    first, _second = (strand(world, table, mark) for mark in ("first", "second"))
    other = world.writer().recovery

    def finish(_call: Call) -> None:
        assert other.resume(first).resumed is Resumed.FINISHED

    resumed = resume_all(world, at="UpdateItem", having=first, fault=finish)
    assert resumed == [Resumed.TOO_LATE, Resumed.FINISHED]
    assert len(world.items(table)) == 2


@pytest.mark.parametrize("failure", [deny, expired_token], ids=["to quarantine", "to postpone"])
def test_an_entry_finished_during_another_ones_failed_attempt_is_not_created_again(
    small_world: World, failure: Fault
) -> None:
    """CE13: an update of a deleted entry would leave one without operations, for ever."""
    world = small_world
    table = world.table("one")
    write_id = strand(world, table, "thing")
    other = world.writer().recovery

    def finish_and_fail(call: Call) -> Any:
        assert other.resume(write_id).resumed is Resumed.FINISHED
        return failure(call)

    assert resume_all(world, at="PutItem", having=table, fault=finish_and_fail) == [Resumed.TOO_LATE]
    assert world.records("J#") == []
    assert len(world.items(table)) == 1


def test_an_entry_set_aside_during_another_ones_failed_attempt_stays_as_it_was_left(small_world: World) -> None:
    """The epoch: who comes back with an older sight of the entry may not write over what was decided since."""
    world = small_world
    table = world.table("one")
    strand(world, table, "thing")
    left: list[dict[str, Any]] = []

    def quarantine_and_fail(call: Call) -> Any:
        assert resume_all(world, at="PutItem", having=table, fault=deny) == [Resumed.QUARANTINED]
        left.extend(world.records("J#"))
        return expired_token(call)

    assert resume_all(world, at="PutItem", having=table, fault=quarantine_and_fail) == [Resumed.TOO_LATE]
    assert left
    assert world.records("J#") == left
    assert left[0]["state"] == {"S": "quarantined"}


def test_only_one_of_two_recoverers_with_the_same_sight_may_act(small_world: World) -> None:
    world = small_world
    table = world.table("one")
    strand(world, table, "thing")

    def claim_first(_call: Call) -> None:
        assert resume_all(world, at="PutItem", having=table, fault=expired_token) == [Resumed.STILL_PENDING]

    assert resume_all(world, at="UpdateItem", having="J#", fault=claim_first) == [Resumed.TOO_LATE]
    assert world.items(table) == []
    assert len(world.records("J#")) == 1
