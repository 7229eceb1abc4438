"""Objects that know their own table: what a scope takes of them, and what it tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from boto3.dynamodb.conditions import Attr

from reliable_write import (
    BatchTooLargeError,
    CommitFailedError,
    CommitUnknownError,
    ConditionFailedError,
    DuplicateKeyError,
    InvalidItemError,
    Outcome,
    PropagationPendingError,
    ReliableWriteScope,
    StaleRecordError,
    TooManyOperationsError,
)
from reliable_write.at_commit import Given
from reliable_write.clock import TimeSource
from reliable_write.errors import FailedCondition
from reliable_write.intents import Intent
from reliable_write.testing.faults import FaultPlan, deny, lose_answer, refuse_connection
from tests.world import World


class Thing:
    """Writes itself, under a condition where it has one, and keeps what it is told."""

    def __init__(self, table: str, key: str, condition: Any = None, **more: Any) -> None:
        self.table, self.key, self.condition, self.more = table, key, condition, more
        self.told: list[Outcome] = []

    def __reliable_put__(self, _time: TimeSource) -> Intent:
        return self._intent({"id": self.key, **self.more})

    def __reliable_delete__(self) -> Intent:
        return self._intent({"id": self.key})

    def _intent(self, content: Mapping[str, Any]) -> Intent:
        return Intent(self.table, content, Given(self.condition), self.told.append, self._refused)

    def _refused(self, failure: FailedCondition) -> ConditionFailedError | None:
        if self.more.get("stale"):
            return StaleRecordError("Stale.", expected=1, actual=2, item=failure.item)
        return None


def ids(world: World, table: str) -> set[str]:
    return {item["id"]["S"] for item in world.items(table)}


def test_an_object_is_put_and_deleted_by_its_own_intent(plain_world: World) -> None:
    table, other = plain_world.table("one"), plain_world.table("two")
    writer = plain_world.writer()
    first, second = Thing(table, "a", n=1), Thing(other, "b")
    with writer.begin() as scope:
        scope.put(first)
        scope.put(second)
        assert first.told == []
    assert (first.told, second.told) == ([Outcome.WRITTEN], [Outcome.WRITTEN])
    with writer.begin() as scope:
        scope.delete(first)
    assert (ids(plain_world, table), ids(plain_world, other)) == (set(), {"b"})


def test_a_batch_of_objects_is_one_sub_operation(plain_world: World) -> None:
    table = plain_world.table("one")
    things = [Thing(table, f"k{number}") for number in range(25)]
    with plain_world.writer().begin() as scope:
        scope.put_items(things)
        assert len(scope) == 1
    assert len(ids(plain_world, table)) == 25
    assert all(thing.told == [Outcome.WRITTEN] for thing in things)
    with plain_world.writer().begin() as scope:
        scope.delete_items(things)
    assert ids(plain_world, table) == set()


def test_a_batch_with_a_condition_takes_effect_at_the_commit_and_is_still_one(world: World) -> None:
    table = world.table("one")
    writer = world.writer(delete_finished_inline=True)
    fresh = Attr("id").not_exists()
    with writer.begin() as scope:
        scope.put_items([Thing(table, f"k{number}", fresh) for number in range(24)] + [Thing(table, "plain")])
        scope.put_item(table, Item={"id": "after"})
        assert len(scope) == 2
        assert [planned.operation for planned in scope.plan().operations][-2:] == [
            "operations[0].items[24]",
            "operations[1]",
        ]
    assert len(ids(world, table)) == 26


def test_one_refused_object_of_a_batch_is_named_and_nothing_is_written(world: World) -> None:
    table = world.table("one")
    writer = world.writer()
    with writer.begin() as scope:
        scope.put_item(table, Item={"id": "k2", "n": 7})
    things = [Thing(table, f"k{number}", Attr("id").not_exists(), stale=number == 2) for number in range(4)]
    with pytest.raises(StaleRecordError) as stale, writer.begin() as scope:
        scope.put_items(things)
    assert [failure.operation for failure in stale.value.failures] == ["operations[0].items[2]"]
    assert (stale.value.expected, stale.value.actual, stale.value.outcome) == (1, 2, Outcome.NOT_WRITTEN)
    assert stale.value.item is not None
    assert stale.value.item["n"] == 7
    assert stale.value.write_id == scope.write_id
    assert all(thing.told == [Outcome.NOT_WRITTEN] for thing in things)
    assert ids(world, table) == {"k2"}


def test_a_refusal_without_words_of_its_own_stays_what_it_is(world: World) -> None:
    table = world.table("one")
    with pytest.raises(ConditionFailedError) as refused, world.writer().begin() as scope:
        scope.put(Thing(table, "a", Attr("id").exists()))
    assert type(refused.value) is ConditionFailedError


def test_unknown_is_told_and_then_what_came_of_it(plain_world: World) -> None:
    table = plain_world.table("one")
    writer = plain_world.hasty()
    thing = Thing(table, "a")
    scope = ReliableWriteScope(writer)
    scope.put(thing)
    with FaultPlan(writer.client).on("PutItem", lose_answer, "after"), pytest.raises(CommitUnknownError) as unknown:
        scope.commit()
    assert unknown.value.scope is scope
    assert thing.told == [Outcome.UNKNOWN]
    scope.commit()
    assert thing.told == [Outcome.UNKNOWN, Outcome.WRITTEN]


def test_pending_is_told_as_will_be_written(plain_world: World) -> None:
    table = plain_world.table("one")
    writer = plain_world.writer()
    thing = Thing(table, "a")
    scope = ReliableWriteScope(writer)
    scope.put(thing)
    with (
        FaultPlan(writer.client).on("PutItem", deny, having=f'"{table}"'.encode()),
        pytest.raises(PropagationPendingError),
    ):
        scope.commit()
    assert thing.told == [Outcome.WILL_BE_WRITTEN]


@pytest.mark.parametrize("call", ["BatchGetItem", "PutItem"])
def test_a_write_that_was_refused_for_certain_is_told_as_not_written(plain_world: World, call: str) -> None:
    table = plain_world.table("one")
    writer = plain_world.hasty()
    thing = Thing(table, "a")
    scope = ReliableWriteScope(writer)
    scope.put(thing)
    with FaultPlan(writer.client).on(call, refuse_connection), pytest.raises(CommitFailedError):
        scope.commit()
    assert thing.told == [Outcome.NOT_WRITTEN]


def test_what_is_refused_is_no_part_of_the_scope(plain_world: World) -> None:
    table, other = plain_world.table("one"), plain_world.table("two")
    thing = Thing(table, "a")
    with plain_world.writer().begin() as scope:
        with pytest.raises(InvalidItemError, match="a record is needed, not dict"):
            scope.put({"id": "a"})  # type: ignore[arg-type]
        with pytest.raises(InvalidItemError, match="a record is needed, not type"):
            scope.put(Thing)  # type: ignore[arg-type]
        with pytest.raises(InvalidItemError, match="a batch is for one table"):
            scope.put_items([thing, Thing(other, "b")])
        with pytest.raises(BatchTooLargeError, match="26 items"):
            scope.put_items([Thing(table, str(number)) for number in range(26)])
        with pytest.raises(BatchTooLargeError, match="0 items"):
            scope.delete_items([])
        with pytest.raises(DuplicateKeyError, match=r"operations\[0\]\.items\[1\].*operations\[0\]\.items\[0\]"):
            scope.put_items([thing, Thing(table, "a")])
        assert len(scope) == 0
    assert thing.told == []


def test_the_26th_is_refused_also_after_batches_at_commit(world: World) -> None:
    table = world.table("one")
    with ReliableWriteScope(world.writer()) as scope:
        scope.put_items([Thing(table, f"k{number}", Attr("id").not_exists()) for number in range(2)])
        for number in range(24):
            scope.put(Thing(table, str(number)))
        with pytest.raises(TooManyOperationsError):
            scope.put(Thing(table, "last"))
        scope.discard()


def test_the_same_key_twice_is_refused_in_a_batch_at_commit(world: World) -> None:
    table = world.table("one")
    with ReliableWriteScope(world.writer()) as scope:
        things = [Thing(table, "a", Attr("id").exists()), Thing(table, "a", Attr("id").exists())]
        with pytest.raises(DuplicateKeyError, match=r"operations\[0\]\.items\[1\].*operations\[0\]\.items\[0\]"):
            scope.put_items(things)
        assert len(scope) == 0
