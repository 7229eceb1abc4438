"""`commit(strategy="transaction")`, and `plan()` against what is really sent and billed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from boto3.dynamodb.conditions import Attr

from reliable_write import (
    ConditionFailedError,
    Outcome,
    Plan,
    ReliableWriter,
    ReliableWriteScope,
    UnsupportedOperationError,
    WriteTooLargeError,
)
from reliable_write.limits import KB
from reliable_write.settings import Destination
from reliable_write.system_table import Installation
from reliable_write.testing.engines import Capability, Engine
from reliable_write.testing.faults import FaultPlan
from reliable_write.testing.meter import Meter
from tests.integration.at_commit import add, another, delete, plant, put, shown, there, tombstone, traces
from tests.world import World

pytestmark = pytest.mark.needs(Capability.TRANSACTIONS)


# --- one transaction ----------------------------------------------------------------------------------------------


def test_a_whole_scope_in_one_transaction(every_world: World) -> None:
    one, two = every_world.table("one"), every_world.table("two")
    writer = another(every_world)
    for key in ("doomed", "doomed1"):
        plant(every_world, two, key)
    with FaultPlan(writer.client) as plan, ReliableWriteScope(writer) as scope:
        scope.put_item(one, Item={"id": "a"})
        scope.put_items(two, [{"id": "b"}, {"id": "c"}])
        scope.delete_item(two, Key={"id": "doomed"})
        scope.delete_items(two, [{"id": "doomed1"}, {"id": "never"}])
        scope.update_item(one, Key={"id": "counter"}, add={"n": 1})
        scope.condition_check(one, Key={"id": "gone"}, ConditionExpression="attribute_not_exists(id)")
        receipt = scope.commit(strategy="transaction")
    writes = [call.operation for call in plan.calls if call.operation not in ("BatchGetItem", "DescribeTable")]
    assert writes[-1] == "TransactWriteItems"
    assert "PutItem" not in writes
    assert "DeleteItem" not in writes
    assert receipt.superseded == ()
    assert sorted(item["id"]["S"] for item in every_world.items(two)) == ["b", "c"]
    assert {there(every_world, table, key)["_rw"]["S"] for table, key in ((one, "a"), (two, "b"), (two, "c"))} == {
        receipt.stamp
    }
    assert {tombstone(every_world, two, key) for key in ("doomed", "doomed1", "never")} == {receipt.stamp}
    assert every_world.records("J#") == []
    assert writer.status(receipt.write_id) == "applied"


def test_places_of_batches_are_those_of_their_items(every_world: World) -> None:
    one = every_world.table("one")
    writer = another(every_world)
    put(writer, one, "c", v="there")
    scope = ReliableWriteScope(writer)
    scope.put_item(one, Item={"id": "a"})
    scope.put_items(one, [{"id": "b"}, {"id": "d"}])
    scope.put_item(one, Item={"id": "c"}, ConditionExpression=Attr("id").not_exists())
    with pytest.raises(ConditionFailedError) as caught:
        scope.commit(strategy="transaction")
    assert [failure.operation for failure in caught.value.failures] == ["operations[2]"]
    assert [item["id"]["S"] for item in every_world.items(one)] == ["c"]


def test_a_foreign_stamp_under_a_batch_is_told(every_world: World) -> None:
    one = every_world.table("one")
    writer = another(every_world)
    scope = ReliableWriteScope(writer)
    scope.put_items(one, [{"id": "a"}, {"id": "b"}])
    before = traces(every_world)
    rival = another(every_world)
    plan = FaultPlan(writer.client).on(
        "TransactWriteItems", lambda _: put(rival, one, "b", v="rival"), times=1, having=one.encode()
    )
    receipt = scope.commit(strategy="transaction")
    assert plan.injected == 1
    assert {item["_rw"]["S"] for item in every_world.items(one)} == {receipt.stamp}
    assert before == []


def test_49_items_fit_and_50_are_refused_by_name_and_may_go_by_the_journal(every_world: World) -> None:
    one = every_world.table("one")
    writer = another(every_world)

    def recorded(items: int) -> ReliableWriteScope:
        scope = ReliableWriteScope(writer)
        for start in range(0, items, 25):
            scope.put_items(one, [{"id": f"{items}-{number}"} for number in range(start, min(start + 25, items))])
        return scope

    recorded(49).commit(strategy="transaction")
    assert len(every_world.items(one)) == 49
    scope = recorded(50)
    with pytest.raises(WriteTooLargeError, match="50 items; one transaction takes 49") as caught:
        scope.commit(strategy="transaction")
    assert caught.value.outcome is Outcome.NOT_WRITTEN
    assert len(every_world.items(one)) == 49
    scope.commit()
    assert len(every_world.items(one)) == 99


def test_over_4_mb_is_refused_by_name_and_may_go_by_the_journal(world: World) -> None:
    one = world.table("one")
    scope = ReliableWriteScope(another(world))
    scope.put_items(one, [{"id": f"{number}", "blob": os.urandom(390 * KB)} for number in range(11)])
    with pytest.raises(WriteTooLargeError, match="4194304") as caught:
        scope.commit(strategy="transaction")
    assert caught.value.outcome is Outcome.NOT_WRITTEN
    assert world.items(one) == []
    assert traces(world) == []
    scope.commit()
    assert len(world.items(one)) == 11


def test_just_under_4_mb_is_taken_by_the_engine_too(world: World) -> None:
    one = world.table("one")
    scope = ReliableWriteScope(another(world))
    items = [{"id": f"{number}", "blob": os.urandom(390 * KB)} for number in range(10)]
    scope.put_items(one, [*items, {"id": "last", "blob": os.urandom(4096 * KB - 10 * 390 * KB - 4 * KB)}])
    scope.commit(strategy="transaction")
    assert len(world.items(one)) == 11


def test_more_at_commit_than_fits_is_refused_though_the_rest_is_journalled(world: World) -> None:
    one, two = world.table("one"), world.table("two")
    scope = ReliableWriteScope(another(world))
    scope.put_item(two, Item={"id": "a"})
    for number in range(11):
        scope.put_item(one, Item={"id": f"{number}", "blob": os.urandom(390 * KB)}, at_commit=True)
    with pytest.raises(WriteTooLargeError, match="at commit"):
        scope.commit()
    assert world.items(one) == world.items(two) == []


def test_a_destination_is_refused_by_name_and_nothing_is_written(world: World) -> None:
    one = world.table("one")
    there_too = {"eu": Destination(endpoint_url=world.engine.endpoint_url, region_name="eu-west-1")}
    writer = ReliableWriter(world.settings(delete_finished_inline=True), client=world.client, destinations=there_too)
    writer.engine().schemas.get(one)
    try:
        scope = ReliableWriteScope(writer)
        scope.put_item(one, Item={"id": "a"})
        _record_there(scope, f"eu:{one}")
        with pytest.raises(UnsupportedOperationError, match=r"operations\[1\].*'eu' is elsewhere"):
            scope.commit(strategy="transaction")
        assert world.items(one) == []
        scope.discard()
    finally:
        writer.close()


def _record_there(scope: ReliableWriteScope, table: str) -> None:
    """The other Region is the same engine, with credentials of the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        scope.put_item(table, Item={"id": "b"})


def test_an_unknown_strategy_is_a_mistake_of_the_program(world: World) -> None:
    scope = ReliableWriteScope(another(world))
    scope.put_item(world.table("one"), Item={"id": "a"})
    with pytest.raises(ValueError, match="'journal' or 'transaction'"):
        scope.commit(strategy="both")  # type: ignore[arg-type]
    scope.discard()


# --- chunks -------------------------------------------------------------------------------------------------------


def test_a_mixed_scope_whose_journalled_part_goes_to_chunks(every_world: World) -> None:
    one, two = every_world.table("one"), every_world.table("two")
    writer = another(every_world)
    with FaultPlan(writer.client) as plan, ReliableWriteScope(writer) as scope:
        scope.update_item(one, Key={"id": "counter"}, add={"n": 1})
        for number in range(3):
            scope.put_item(two, Item={"id": f"{number}", "blob": os.urandom(300 * KB)})
        receipt = scope.commit()
    (commit,) = [call for call in plan.calls if call.operation == "TransactWriteItems" and b"J#" in call.body]
    assert len(commit.body) < 16 * KB, "the payload is not in it"
    assert sum(call.operation == "PutItem" and b'"C#' in call.body for call in plan.calls) == 3
    assert {item["_rw"]["S"] for item in every_world.items(two)} == {receipt.stamp}
    assert there(every_world, one, "counter")["n"] == {"N": "1"}


def test_chunks_of_a_refused_attempt_are_no_write(every_world: World) -> None:
    one, two = every_world.table("one"), every_world.table("two")
    writer, rival = another(every_world), another(every_world)
    plan = FaultPlan(writer.client).on(
        "TransactWriteItems", lambda _: add(rival, one, "counter", n=10), times=1, having=b"J#"
    )
    with ReliableWriteScope(writer) as scope:
        scope.update_item(one, Key={"id": "counter"}, add={"n": 1})
        scope.put_items(two, [{"id": f"{number}", "blob": os.urandom(300 * KB)} for number in range(2)])
        receipt = scope.commit()
    assert plan.injected == 1
    groups = {chunk["pk"]["S"] for chunk in every_world.records("C#")}
    assert groups == {f"C#{receipt.write_id}", f"C#{receipt.stamp}"}, "left to collection"
    assert there(every_world, one, "counter")["n"] == {"N": "11"}
    assert {item["_rw"]["S"] for item in every_world.items(two)} == {receipt.stamp}


# --- the plan -----------------------------------------------------------------------------------------------------

Recording = Callable[[ReliableWriteScope, str], None]


def nothing(_scope: ReliableWriteScope, _table: str) -> None:
    pass


def puts(scope: ReliableWriteScope, table: str) -> None:
    scope.put_items(table, [{"id": f"p{number}", "blob": b"x" * 900} for number in range(20)])
    scope.put_item(table, Item={"id": "large", "blob": os.urandom(5000)})


def deletes(scope: ReliableWriteScope, table: str) -> None:
    scope.delete_items(table, [{"id": f"p{number}"} for number in range(5)])
    scope.put_item(table, Item={"id": "q"})


def updates(scope: ReliableWriteScope, table: str) -> None:
    for number in range(3):
        scope.update_item(table, Key={"id": f"c{number}"}, add={"n": 1})


def all_at_commit(scope: ReliableWriteScope, table: str) -> None:
    scope.put_item(table, Item={"id": "a", "blob": os.urandom(3000)}, at_commit=True)
    scope.delete_item(table, Key={"id": "b"}, at_commit=True)
    scope.condition_check(table, Key={"id": "c"}, ConditionExpression=Attr("id").not_exists())
    scope.update_item(table, Key={"id": "d"}, set={"blob": os.urandom(2000)})


def mixed(scope: ReliableWriteScope, table: str) -> None:
    updates(scope, table)
    deletes(scope, table)
    scope.put_item(table, Item={"id": "large", "blob": os.urandom(5000)})


def chunked(scope: ReliableWriteScope, table: str) -> None:
    updates(scope, table)
    scope.put_items(table, [{"id": f"{number}", "blob": os.urandom(300 * KB)} for number in range(3)])


def chunked_only(scope: ReliableWriteScope, table: str) -> None:
    scope.put_items(table, [{"id": f"{number}", "blob": os.urandom(300 * KB)} for number in range(3)])


KINDS: tuple[Recording, ...] = (nothing, puts, deletes, updates, all_at_commit, mixed, chunked, chunked_only)


@pytest.mark.needs(Capability.CONSUMED_CAPACITY)
@pytest.mark.parametrize("strategy", ["journal", "transaction"])
@pytest.mark.parametrize("keyed", [False, True], ids=["", "keyed"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
def test_the_plan_is_what_is_sent_and_billed(
    dynoxide: Engine, unique_name: Any, kind: Recording, keyed: bool, strategy: Any
) -> None:
    """On fresh keys, to the unit."""
    world = World(dynoxide, unique_name)
    try:
        planned, meter = measured(world, kind, keyed=keyed, strategy=strategy)
    finally:
        world.close()
    check(planned, meter, strategy)


@pytest.mark.needs(Capability.CONSUMED_CAPACITY)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
def test_the_plan_of_an_installation_ordered_by_clocks(dynoxide: Engine, unique_name: Any, kind: Recording) -> None:
    """Only what is at commit is looked at."""
    world = World(dynoxide, unique_name, Installation(order="clock"))
    try:
        planned, meter = measured(world, kind, keyed=False, strategy="journal")
    finally:
        world.close()
    check(planned, meter, "journal")


def measured(world: World, kind: Recording, *, keyed: bool, strategy: Any) -> tuple[Plan, Meter]:
    table = world.table("one")
    writer = world.writer(delete_finished_inline=True)
    add(writer, table, "warm")
    key = "order-1" if keyed else None
    with Meter(writer.client) as meter, ReliableWriteScope(writer, idempotency_key=key) as scope:
        kind(scope, table)
        planned = scope.plan()
        if strategy == "transaction" and planned.transaction is None:
            with pytest.raises(WriteTooLargeError):
                scope.commit(strategy=strategy)
            scope.discard()
        else:
            scope.commit(strategy=strategy)
    return planned, meter


def check(planned: Plan, meter: Meter, strategy: str) -> None:
    cost = planned.journal if strategy == "journal" else planned.transaction
    if cost is None:
        assert meter.write_units == 0
        assert planned.transaction_refused
        return
    assert planned.transaction_refused == "" or strategy == "journal"
    requests = sum(meter.calls.values()) - meter.calls["BatchWriteItem"]  # of all finished entries together
    assert (cost.requests, cost.write_units, cost.read_units) == (requests, meter.write_units, meter.read_units)


def test_the_plan_says_what_is_at_commit_and_why(world: World) -> None:
    table = world.table("one")
    scope = ReliableWriteScope(another(world))
    scope.put_items(table, [{"id": "p0"}, {"id": "p1"}])
    all_at_commit(scope, table)
    scope.put_item(table, Item={"id": "e"}, ConditionExpression="attribute_not_exists(id)")
    with FaultPlan(scope._engine.store._calls.client) as plan:  # type: ignore[attr-defined]
        planned = scope.plan()
    assert plan.calls == []
    assert [(one.operation, one.verb, one.items, one.at_commit) for one in planned.operations] == [
        ("operations[0]", "put_items", 2, None),
        ("operations[1]", "put_item", 1, "at_commit=True"),
        ("operations[2]", "delete_item", 1, "at_commit=True"),
        ("operations[3]", "condition_check", 1, "a condition check"),
        ("operations[4]", "update_item", 1, "an update"),
        ("operations[5]", "put_item", 1, "a condition"),
    ]
    assert planned.items == 7
    assert planned.bytes == sum(one.bytes for one in planned.operations)
    scope.discard()


def test_the_plan_says_why_a_transaction_does_not_fit(world: World) -> None:
    table = world.table("one")
    scope = ReliableWriteScope(another(world))
    scope.put_items(table, [{"id": f"a{number}"} for number in range(25)])
    scope.put_items(table, [{"id": f"b{number}"} for number in range(25)])
    planned = scope.plan()
    assert planned.transaction is None
    assert planned.transaction_refused.startswith("50 items")
    scope.discard()
    assert shown(world, table, "a0") is None
    assert delete(another(world), table, "a0").superseded == ()
