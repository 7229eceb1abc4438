"""Operations at commit on deleted keys, and beside journalled writes of the same items."""

from __future__ import annotations

from typing import Any

import pytest

from reliable_write import Outcome, PropagationPendingError, ReliableWriteScope
from reliable_write.entry import State
from reliable_write.recovery import Resumed
from reliable_write.testing.engines import Capability
from reliable_write.testing.faults import FaultPlan
from tests.integration.at_commit import (
    add,
    another,
    count,
    delete,
    plant,
    put,
    shown,
    stamp_now,
    there,
    tombstone,
)
from tests.world import World

pytestmark = pytest.mark.needs(Capability.TRANSACTIONS)


# --- deleted keys -----------------------------------------------------------------------------------------------------


def test_ce20_an_update_of_a_deleted_key_starts_from_nothing_and_hands_the_tombstone_on(every_world: World) -> None:
    table = every_world.table("one")
    writer = another(every_world)
    add(writer, table, n=40)
    gone = delete(writer, table)
    receipt = add(writer, table, n=2)
    assert there(every_world, table) == {
        "id": {"S": "x"},
        "n": {"N": "2"},
        "_rw": {"S": gone.stamp},
        "_rwu": {"S": receipt.stamp},
    }
    assert tombstone(every_world, table) == gone.stamp


def test_ce24_a_rerun_of_the_finished_delete_is_no_conflict_with_the_update_after_it(every_world: World) -> None:
    """The deleter died before it could remove its entry; the item was deleted, updated, and then recovery comes."""
    table = every_world.table("one")
    deleter = every_world.writer()
    put(deleter, table)
    gone = delete(deleter, table)
    assert any(record["sk"]["S"] == gone.stamp for record in every_world.records("J#")), "its entry still waits"
    add(another(every_world), table, n=2)
    reports = every_world.writer().recovery.resume_all()
    assert reports
    assert {report.resumed for report in reports} == {Resumed.FINISHED}
    assert count(every_world, table) == 2


def test_ce20_an_update_does_not_build_on_a_ghost(every_world: World) -> None:
    """What a first attempt under way put after the delete: older than the tombstone, so not there for us."""
    table = every_world.table("one")
    old = stamp_now()
    writer = another(every_world)
    gone = delete(writer, table)
    plant(every_world, table, dead="yes", _rw=old)
    receipt = add(writer, table)
    assert there(every_world, table) == {
        "id": {"S": "x"},
        "n": {"N": "1"},
        "_rw": {"S": gone.stamp},
        "_rwu": {"S": receipt.stamp},
    }


def test_ce20_a_ghost_that_appears_after_the_look_is_refused_and_removed(every_world: World) -> None:
    table = every_world.table("one")
    old = stamp_now()
    writer = another(every_world)
    delete(writer, table)
    plan = FaultPlan(writer.client).on(
        "TransactWriteItems", lambda _: plant(every_world, table, dead="yes", _rw=old), times=1, having=table.encode()
    )
    add(writer, table)
    assert plan.injected == 1
    assert "dead" not in there(every_world, table)
    assert count(every_world, table) == 1


@pytest.mark.parametrize("verb", ["put", "delete", "check"])
def test_ce20_conditions_do_not_see_a_ghost_either(every_world: World, verb: str) -> None:
    table = every_world.table("one")
    old = stamp_now()
    writer = another(every_world)
    delete(writer, table)
    plan = FaultPlan(writer.client).on(
        "TransactWriteItems", lambda _: plant(every_world, table, dead="yes", _rw=old), times=1, having=table.encode()
    )
    absent: Any = {"ConditionExpression": "attribute_not_exists(id)"}
    with ReliableWriteScope(writer) as scope:
        if verb == "put":
            scope.put_item(table, Item={"id": "x", "v": "new"}, **absent)
        elif verb == "delete":
            scope.delete_item(table, Key={"id": "x"}, **absent)
        else:
            scope.condition_check(table, Key={"id": "x"}, **absent)
        scope.commit()
    assert plan.injected == 1
    item = shown(every_world, table)
    assert (item is not None) == (verb == "put")
    assert item is None or item["v"] == {"S": "new"}


def test_an_unstamped_item_at_a_deleted_key_is_somebody_elses_and_may_be_updated(every_world: World) -> None:
    table = every_world.table("one")
    writer = another(every_world)
    delete(writer, table)
    plant(every_world, table, theirs="kept")
    receipt = add(writer, table)
    item = there(every_world, table)
    assert (item["theirs"], item["n"], item["_rwu"]) == ({"S": "kept"}, {"N": "1"}, {"S": receipt.stamp})


def test_an_update_of_an_item_put_after_its_tombstone_keeps_that_puts_stamp(every_world: World) -> None:
    table = every_world.table("one")
    writer = another(every_world)
    delete(writer, table)
    after = put(writer, table, v="new")
    add(writer, table)
    item = there(every_world, table)
    assert (item["_rw"]["S"], item["v"]["S"]) == (after.stamp, "new")


@pytest.mark.parametrize("how", [{"at_commit": True}, {"ConditionExpression": "attribute_exists(id)"}])
def test_a_delete_at_commit_leaves_a_tombstone_and_later_puts_come_after_it(
    every_world: World, how: dict[str, Any]
) -> None:
    table = every_world.table("one")
    writer = another(every_world)
    put(writer, table, v="old")
    first = delete(writer, table, **how)
    assert shown(every_world, table) is None
    assert tombstone(every_world, table) == first.stamp
    put(writer, table, v="new")
    second = delete(writer, table, **how)
    assert shown(every_world, table) is None
    assert tombstone(every_world, table) == second.stamp > first.stamp


def test_g3_a_late_put_does_not_pass_the_tombstone_of_a_delete_at_commit(every_world: World) -> None:
    table = every_world.table("one")
    writer = every_world.writer()
    put(writer, table, v="old")  # its entry stays until the writer is closed
    delete(another(every_world), table, at_commit=True)
    (report,) = every_world.writer().recovery.resume_all()
    assert report.resumed is Resumed.FINISHED
    assert shown(every_world, table) is None


def test_a_key_deleted_between_the_look_and_the_transaction_is_looked_at_again(every_world: World) -> None:
    table = every_world.table("one")
    writer = another(every_world)
    add(writer, table, n=40)
    plan = FaultPlan(writer.client).on(
        "TransactWriteItems", lambda _: delete(another(every_world), table), times=1, having=table.encode()
    )
    add(writer, table)
    assert plan.injected == 1
    assert count(every_world, table) == 1
    assert there(every_world, table)["_rw"]["S"] == tombstone(every_world, table)


# --- conflicts with journalled writes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["put", "delete"])
def test_ce10_ce11_a_journalled_write_that_an_update_overtakes_waits_for_an_operator(
    every_world: World, verb: str
) -> None:
    table, other = every_world.table("one"), every_world.table("two")
    put(another(every_world), table, v="first")
    writer = every_world.writer()
    scope = ReliableWriteScope(writer)
    scope.put_item(other, Item={"id": "x"})
    if verb == "put":
        scope.put_item(table, Item={"id": "x", "v": "second"})
    else:
        scope.delete_item(table, Key={"id": "x"})
    overtaker = another(every_world)
    having = table.encode() if verb == "put" else b"T#"
    plan = FaultPlan(writer.client).on("PutItem", lambda _: add(overtaker, table), times=1, having=having)
    with pytest.raises(PropagationPendingError) as caught:
        scope.commit()
    assert plan.injected
    assert caught.value.needs_operator
    assert caught.value.outcome is Outcome.WILL_BE_WRITTEN
    (failure,) = caught.value.failures
    assert (failure.operation, failure.table, failure.permanent) == ("operations[1]", table, True)
    assert "an update later in order" in failure.reason
    recovery = every_world.writer().recovery
    (report,) = recovery.resume_all()
    assert report.resumed is Resumed.QUARANTINED
    (entry,) = recovery.look().entries
    assert entry.state == State.QUARANTINED
    assert "an update later in order" in (entry.last_error or "")
    item = there(every_world, table)
    assert (item["v"]["S"], item["n"]["N"]) == ("first", "1"), "nothing lost"
    assert shown(every_world, other) is not None, "the other operations are finished"


def test_an_update_that_sees_the_tombstone_of_a_delete_under_way_comes_after_it(every_world: World) -> None:
    """Between tombstone and delete the item is still there; it is deleted as far as the update goes."""
    table = every_world.table("one")
    put(another(every_world), table, v="first")
    writer, overtaker = another(every_world), another(every_world)
    plan = FaultPlan(writer.client).on("DeleteItem", lambda _: add(overtaker, table), times=1, having=table.encode())
    assert delete(writer, table).superseded == ("operations[0]",)
    assert plan.injected == 1
    item = there(every_world, table)
    assert ("v" in item, item["n"]["N"]) == (False, "1")


def test_puts_and_deletes_at_commit_never_conflict_with_updates(every_world: World) -> None:
    table = every_world.table("one")
    writer, overtaker = another(every_world), another(every_world)
    for verb in ("put", "delete", "put"):
        plan = FaultPlan(writer.client).on(
            "TransactWriteItems", lambda _: add(overtaker, table, n=7), times=1, having=table.encode()
        )
        with plan, ReliableWriteScope(writer) as scope:
            if verb == "put":
                scope.put_item(table, Item={"id": "x", "v": verb}, at_commit=True)
            else:
                scope.delete_item(table, Key={"id": "x"}, at_commit=True)
            scope.commit()
        assert plan.injected == 1
        assert (shown(every_world, table) is None) == (verb == "delete")
        assert count(every_world, table) == 0
    assert every_world.records("J#") == []
