"""What a scope does on real engines: its block, and what misuse is told."""

from __future__ import annotations

import asyncio
import threading
import warnings

import pytest

from reliable_write import (
    CommitFailedError,
    NestedScopeError,
    Outcome,
    PropagationPendingError,
    ReliableWriteScope,
    ScopeClosedError,
    UncommittedScopeWarning,
    WrongThreadError,
)
from reliable_write.testing.faults import FaultPlan, deny
from tests.integration.scopes import named, nothing_written
from tests.world import World

# --- the block --------------------------------------------------------------------------------------------------------


def test_leaving_without_commit_writes_nothing_and_warns_of_what_was_dropped(every_world: World) -> None:
    world = every_world
    people, places = world.table("people"), world.table("places")
    writer = world.writer()
    with (  # noqa: PT031 - the block is the point
        nothing_written(writer),
        pytest.warns(UncommittedScopeWarning, match=f"left without commit.*put_item on {people}, delete_item"),
        ReliableWriteScope(writer) as scope,
    ):
        scope.put_item(people, Item={"id": "ada"})
        scope.delete_item(places, Key={"id": "rome"})
    assert world.items(people) == []


def test_discard_is_silent(world: World) -> None:
    table = world.table("people")
    writer = world.writer()
    with nothing_written(writer), warnings.catch_warnings(), ReliableWriteScope(writer) as scope:
        warnings.simplefilter("error")
        scope.put_item(table, Item={"id": "ada"})
        scope.discard()
        scope.discard()
    with pytest.raises(ScopeClosedError, match="was dropped"):
        scope.commit()


@pytest.mark.parametrize("opened", ["scope", "begin"])
def test_an_exception_in_the_block_writes_nothing_and_passes_unchanged(every_world: World, opened: str) -> None:
    table = every_world.table("people")
    writer = every_world.writer()
    thrown = ValueError("mine")
    with nothing_written(writer), warnings.catch_warnings(), pytest.raises(ValueError, match="mine") as caught:  # noqa: PT012
        warnings.simplefilter("error")
        with ReliableWriteScope(writer) if opened == "scope" else writer.begin() as scope:
            scope.put_item(table, Item={"id": "ada"})
            raise thrown
    assert caught.value is thrown
    assert caught.value.__cause__ is None
    assert every_world.items(table) == []


def test_begin_commits_on_a_clean_exit(every_world: World) -> None:
    table = every_world.table("people")
    with every_world.writer().begin() as scope:
        scope.put_item(table, Item={"id": "ada"})
    assert len(every_world.items(table)) == 1
    with pytest.raises(ScopeClosedError) as caught:
        scope.commit()
    assert caught.value.outcome is Outcome.WRITTEN
    assert caught.value.write_id == scope.write_id


def test_begin_does_not_commit_what_was_discarded_or_committed(world: World) -> None:
    table = world.table("people")
    writer = world.writer()
    with nothing_written(writer), writer.begin() as scope:
        scope.put_item(table, Item={"id": "ada"})
        scope.discard()
    with FaultPlan(writer.client) as plan, writer.begin() as scope:
        scope.put_item(table, Item={"id": "ada"})
        scope.commit()
    assert plan.count("PutItem") == 2


def test_an_empty_scope_commits_without_a_request(world: World) -> None:
    writer = world.writer()
    with FaultPlan(writer.client) as plan, ReliableWriteScope(writer) as scope:
        assert scope.commit().operations == 0
    assert plan.calls == []


# --- misuse -----------------------------------------------------------------------------------------------------------


def test_a_used_scope_raises_with_its_outcome(world: World) -> None:
    """pynamodb#1251 sent everything twice."""
    table = world.table("people")
    writer = world.writer()

    def used(scope: ReliableWriteScope, outcome: Outcome) -> None:
        with FaultPlan(writer.client) as plan:
            for misuse in (
                scope.commit,
                lambda: scope.put_item(table, Item={"id": "again"}),
                lambda: scope.delete_item(table, Key={"id": "again"}),
                lambda: scope.put_items(table, [{"id": "again"}]),
                scope.__enter__,
            ):
                with pytest.raises(ScopeClosedError) as caught:
                    misuse()
                assert caught.value.outcome is outcome
                assert caught.value.write_id == scope.write_id
        assert plan.calls == []

    committed, discarded, refused, pending = (ReliableWriteScope(writer) for _ in range(4))
    for number, scope in enumerate((committed, discarded, refused, pending)):
        scope.put_item(table, Item={"id": f"p{number}"})
    committed.commit()
    used(committed, Outcome.WRITTEN)
    discarded.discard()
    used(discarded, Outcome.NOT_WRITTEN)
    with FaultPlan(writer.client).on("PutItem", deny), pytest.raises(CommitFailedError):
        refused.commit()
    used(refused, Outcome.NOT_WRITTEN)
    with FaultPlan(writer.client).on("PutItem", deny, having=named(table)), pytest.raises(PropagationPendingError):
        pending.commit()
    used(pending, Outcome.WILL_BE_WRITTEN)


def test_a_scope_belongs_to_its_thread(world: World) -> None:
    table = world.table("people")
    scope = ReliableWriteScope(world.writer())
    scope.put_item(table, Item={"id": "a"})
    errors: list[BaseException] = []

    def misuse() -> None:
        for call in (lambda: scope.put_item(table, Item={"id": "b"}), scope.commit, scope.discard):
            try:
                call()
            except WrongThreadError as error:
                errors.append(error)

    thread = threading.Thread(target=misuse)
    thread.start()
    thread.join()
    assert len(errors) == 3
    assert scope.commit().operations == 1
    assert len(world.items(table)) == 1


def test_nested_scopes_say_that_they_are_independent(world: World) -> None:
    table = world.table("people")
    writer = world.writer()
    with writer.begin() as outer:
        outer.put_item(table, Item={"id": "outer"})
        with pytest.raises(NestedScopeError, match="independent=True"), writer.begin():
            pass
        with writer.begin(independent=True) as inner:
            inner.put_item(table, Item={"id": "inner"})
        assert [item["id"]["S"] for item in world.items(table)] == ["inner"]
        with pytest.raises(NestedScopeError):
            outer.__enter__()
        with pytest.raises(NestedScopeError), ReliableWriteScope(writer):
            pass
    with writer.begin() as after:
        after.put_item(table, Item={"id": "after"})
    assert len(world.items(table)) == 3


def test_scopes_of_two_tasks_do_not_meet(world: World) -> None:
    table = world.table("people")
    writer = world.writer()

    async def write(name: str, mine: asyncio.Event, theirs: asyncio.Event) -> None:
        with writer.begin() as scope:
            scope.put_item(table, Item={"id": name})
            mine.set()
            await asyncio.wait_for(theirs.wait(), 10)

    async def both() -> None:
        one, other = asyncio.Event(), asyncio.Event()
        await asyncio.gather(write("one", one, other), write("other", other, one))

    asyncio.run(both())
    assert {item["id"]["S"] for item in world.items(table)} == {"one", "other"}
