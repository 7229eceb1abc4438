"""Operations at commit, one by one, on every engine with transactions: what they write and what they refuse."""

from __future__ import annotations

import pickle
from decimal import Decimal
from typing import Any

import boto3.session
import pytest
from boto3.dynamodb.conditions import Attr

from reliable_write import (
    ConditionFailedError,
    DuplicateKeyError,
    ForeignStampError,
    InvalidExpressionError,
    InvalidKeyError,
    Outcome,
    PropagationPendingError,
    ReliableWriter,
    ReliableWriteScope,
)
from reliable_write.entry import State
from reliable_write.errors import FailedCondition, WriteRejectedError
from reliable_write.recovery import Resumed
from reliable_write.system_table import Installation
from reliable_write.testing.engines import Capability, Engine
from reliable_write.testing.faults import Call, FaultPlan
from tests.integration.at_commit import (
    QUICK,
    add,
    count,
    delete,
    plant,
    put,
    shown,
    stamp_now,
    there,
    tombstone,
    traces,
)
from tests.world import World

pytestmark = pytest.mark.needs(Capability.TRANSACTIONS)


def another(world: World, **more: Any) -> ReliableWriter:
    """Another process, which leaves no finished entry behind."""
    return world.writer(delete_finished_inline=True, **more)


# --- updates ------------------------------------------------------------------------------------------------------


def test_an_update_by_expression_with_names_and_values(every_world: World) -> None:
    table = every_world.table("one")
    writer = every_world.writer()
    first = put(writer, table, state="draft", was=1, tags={"a"})
    with ReliableWriteScope(writer) as scope:
        scope.update_item(
            table,
            Key={"id": "x"},
            UpdateExpression="SET #s = :s, price = :p REMOVE was ADD n :n",
            ExpressionAttributeNames={"#s": "state"},
            ExpressionAttributeValues={":s": "paid", ":p": Decimal("7.25"), ":n": 2},
        )
        receipt = scope.commit()
    item = there(every_world, table)
    assert item["_rwu"] == {"S": receipt.stamp}
    assert {name: item.get(name) for name in ("state", "price", "was", "n", "tags")} == {
        "state": {"S": "paid"},
        "price": {"N": "7.25"},
        "was": None,
        "n": {"N": "2"},
        "tags": {"SS": ["a"]},
    }
    assert [entry["sk"]["S"] for entry in every_world.records("J#")] == [first.stamp], "nothing was left to propagate"


def test_an_update_by_the_builder(every_world: World) -> None:
    table = every_world.table("one")
    writer = every_world.writer()
    put(writer, table, draft=True, size=1, tags={"a"})
    with ReliableWriteScope(writer) as scope:
        scope.update_item(
            table, Key={"id": "x"}, add={"n": 2, "tags": {"b"}}, set={"size": 3, "name": "new"}, remove=["draft"]
        )
        scope.commit()
    item = there(every_world, table)
    assert "draft" not in item
    assert (item["n"], item["size"], item["name"]) == ({"N": "2"}, {"N": "3"}, {"S": "new"})
    assert sorted(item["tags"]["SS"]) == ["a", "b"]


def test_the_builder_takes_reserved_words_and_dots_in_names(every_world: World) -> None:
    """Whole attribute names, never paths."""
    table = every_world.table("one")
    with ReliableWriteScope(every_world.writer()) as scope:
        scope.update_item(table, Key={"id": "x"}, set={"a.b": 1, "size": 2, "#rw": 3, "with space": 4})
        scope.commit()
    item = there(every_world, table)
    assert {name: item[name]["N"] for name in ("a.b", "size", "#rw", "with space")} == {
        "a.b": "1",
        "size": "2",
        "#rw": "3",
        "with space": "4",
    }


def test_puts_set_one_stamp_and_updates_the_other(every_world: World) -> None:
    table = every_world.table("one")
    writer = every_world.writer()
    full = put(writer, table)
    update = add(writer, table)
    item = there(every_world, table)
    assert (item["_rw"]["S"], item["_rwu"]["S"]) == (full.stamp, update.stamp)
    assert update.stamp > full.stamp
    again = put(writer, table)
    item = there(every_world, table)
    assert item["_rw"]["S"] == again.stamp > update.stamp
    assert "_rwu" not in item


def test_an_update_of_an_absent_item_makes_it(every_world: World) -> None:
    table = every_world.table("one")
    receipt = add(every_world.writer(), table, n=5)
    assert there(every_world, table) == {"id": {"S": "x"}, "n": {"N": "5"}, "_rwu": {"S": receipt.stamp}}


def test_a_table_with_a_range_key_and_numbers_as_keys(every_world: World) -> None:
    table = every_world.table("one", "pk:N", "sk:B")
    writer = every_world.writer()
    for _ in range(2):
        with ReliableWriteScope(writer) as scope:
            scope.update_item(table, Key={"pk": 7, "sk": b"\0\xff"}, add={"n": 1})
            scope.commit()
    (item,) = every_world.items(table)
    assert (item["pk"], item["sk"], item["n"]) == ({"N": "7"}, {"B": b"\0\xff"}, {"N": "2"})


# --- conditions ---------------------------------------------------------------------------------------------------

HAS_STATE = [
    pytest.param(
        {
            "ConditionExpression": "#n0 = :v0",
            "ExpressionAttributeNames": {"#n0": "state"},
            "ExpressionAttributeValues": {":v0": "draft"},
        },
        id="string",
    ),
    pytest.param({"ConditionExpression": Attr("state").eq("draft")}, id="object"),
]


@pytest.mark.parametrize("condition", HAS_STATE)
@pytest.mark.parametrize("verb", ["put", "delete", "update", "check"])
def test_every_verb_under_a_condition_that_holds_and_one_that_does_not(
    every_world: World, verb: str, condition: dict[str, Any]
) -> None:
    table, other = every_world.table("one"), every_world.table("two")
    writer = every_world.writer()
    put(writer, table, "yes", state="draft")
    put(writer, table, "no", state="paid")
    for key in ("yes", "no"):
        scope = ReliableWriteScope(writer)
        scope.put_item(other, Item={"id": key})
        if verb == "put":
            scope.put_item(table, Item={"id": key, "by": "scope"}, **condition)
        elif verb == "delete":
            scope.delete_item(table, Key={"id": key}, **condition)
        elif verb == "update":
            scope.update_item(table, Key={"id": key}, set={"by": "scope"}, **condition)
        else:
            scope.condition_check(table, Key={"id": key}, **condition)
        if key == "yes":
            scope.commit()
            continue
        with pytest.raises(ConditionFailedError) as caught:
            scope.commit()
        assert [(one.operation, one.table) for one in caught.value.failures] == [("operations[1]", table)]
        assert caught.value.failures[0].item is not None
        assert caught.value.failures[0].item["state"] == "paid"
        assert caught.value.outcome is Outcome.NOT_WRITTEN
        assert "paid" not in str(caught.value)
    assert (shown(every_world, other, "yes") is None, shown(every_world, other, "no") is None) == (False, True)
    assert there(every_world, table, "no")["state"] == {"S": "paid"}
    assert "by" not in there(every_world, table, "no")
    changed = shown(every_world, table, "yes")
    if verb == "delete":
        assert changed is None
    else:
        assert changed is not None
        assert changed.get("by") == (None if verb == "check" else {"S": "scope"})
        assert ("state" in changed) == (verb != "put")


@pytest.mark.parametrize(
    "condition",
    [
        Attr("missing").not_exists() & (Attr("size").between(1, 3) | Attr("state").begins_with("z")),
        Attr("state").is_in(["draft", "new"]) & ~Attr("size").eq(9),
        Attr("info.lines[0].price").gt(5) & Attr("tags").contains("a"),
        Attr("state").size().eq(5) & Attr("size").attribute_type("N"),
    ],
    ids=["or", "in", "path", "size"],
)
def test_condition_objects_of_every_shape_beside_placeholders_of_the_caller(every_world: World, condition: Any) -> None:
    """boto3's builder counts from zero, and so do callers."""
    table = every_world.table("one")
    writer = every_world.writer()
    put(writer, table, state="draft", size=2, tags={"a"}, info={"lines": [{"price": 7}]})
    with ReliableWriteScope(writer) as scope:
        scope.update_item(
            table,
            Key={"id": "x"},
            UpdateExpression="SET #n0 = :v0, #n1 = :v1",
            ConditionExpression=condition,
            ExpressionAttributeNames={"#n0": "first", "#n1": "second"},
            ExpressionAttributeValues={":v0": "one", ":v1": "two"},
        )
        scope.commit()
    item = there(every_world, table)
    assert (item["first"], item["second"]) == ({"S": "one"}, {"S": "two"})


@pytest.mark.parametrize(
    "condition",
    [
        "(attribute_exists(id))",
        " (attribute_exists(id) OR attribute_exists(b)) ",
        "(attribute_exists(b)) OR (attribute_exists(id))",
        "NOT (attribute_exists(b))",
        "NOT attribute_exists(b)",
        "attribute_exists(b) OR attribute_exists(id)",
    ],
)
def test_brackets_of_the_caller_are_neither_doubled_nor_lost(every_world: World, condition: str) -> None:
    """DynamoDB refuses `((a))`; and `a OR b` needs brackets beside the guards."""
    table = every_world.table("one")
    writer = another(every_world)
    put(writer, table)
    with ReliableWriteScope(writer) as scope:
        scope.update_item(table, Key={"id": "x"}, add={"n": 1}, ConditionExpression=condition)
        scope.commit()
    assert count(every_world, table) == 1


def test_an_or_of_the_caller_does_not_get_around_the_guards(every_world: World) -> None:
    """CE9: `a OR b AND guard` would be true without the guard. The item's stamp comes after the scope's."""
    table = every_world.table("one")
    writer = every_world.writer()
    put(writer, table, v="old")
    newer: list[str] = []

    def overtake(_call: Call) -> None:
        if not newer:
            newer.append(put(another(every_world), table, v="newer").stamp)

    plan = FaultPlan(writer.client).on("TransactWriteItems", overtake, times=1, having=table.encode())
    with ReliableWriteScope(writer) as scope:
        scope.update_item(
            table, Key={"id": "x"}, add={"n": 1}, ConditionExpression=Attr("v").exists() | Attr("v").not_exists()
        )
        receipt = scope.commit()
    assert plan.injected == 1
    assert plan.count("TransactWriteItems") == 3, "a probe, a refusal, a success"
    assert receipt.stamp > newer[0]
    assert there(every_world, table)["v"] == {"S": "newer"}


def twelve(scope: ReliableWriteScope, one: str, two: str) -> None:
    """Operation 7 asks for a state; 3 and 9 are at commit as well; the others are journalled."""
    scope.put_item(two, Item={"id": "p0"})
    scope.put_items(two, [{"id": "p1"}, {"id": "p2"}])
    scope.delete_item(two, Key={"id": "doomed"})
    scope.update_item(one, Key={"id": "counter"}, add={"n": 1})
    scope.put_item(two, Item={"id": "p3"})
    scope.delete_items(two, [{"id": "doomed1"}, {"id": "doomed2"}])
    scope.put_item(two, Item={"id": "p4"})
    scope.put_item(one, Item={"id": "seventh", "v": "new"}, ConditionExpression=Attr("v").eq("old"))
    scope.put_item(two, Item={"id": "p5"}, at_commit=True)
    scope.delete_item(one, Key={"id": "ninth"}, ConditionExpression="attribute_exists(id)")
    scope.condition_check(one, Key={"id": "tenth"}, ConditionExpression="attribute_not_exists(id)")
    scope.put_item(two, Item={"id": "p6"})


def snapshot(world: World, *tables: str) -> list[Any]:
    return [sorted(world.items(table), key=lambda item: str(item["id"])) for table in tables]


def test_show_2_a_condition_that_fails_at_operation_7_of_12_writes_nothing_anywhere(every_world: World) -> None:
    one, two = every_world.table("one"), every_world.table("two")
    writer = every_world.writer()
    put(writer, one, "seventh", v="other", price=Decimal("7.5"), raw=b"\0\1")
    put(writer, one, "ninth")
    for key in ("doomed", "doomed1", "doomed2"):
        plant(every_world, two, key)
    writer.close()
    writer = another(every_world)
    before, left = snapshot(every_world, one, two), traces(every_world)
    with ReliableWriteScope(writer) as scope:
        twelve(scope, one, two)
        assert len(scope) == 12
        with pytest.raises(ConditionFailedError) as caught:
            scope.commit()
    error = caught.value
    assert error.outcome is Outcome.NOT_WRITTEN
    assert not error.retryable
    assert error.write_id == scope.write_id
    (failure,) = error.failures
    assert (failure.operation, failure.table) == ("operations[7]", one)
    assert failure.item is not None
    assert {name: failure.item[name] for name in ("id", "v", "price", "raw")} == {
        "id": "seventh",
        "v": "other",
        "price": Decimal("7.5"),
        "raw": b"\0\1",
    }
    assert "operations[7]" in str(error)
    assert one in str(error)
    assert "other" not in str(error), "no values in messages"
    assert "other" not in repr(failure)
    assert snapshot(every_world, one, two) == before
    assert traces(every_world) == left, "no entry, no receipt, no tombstone"
    assert writer.recovery.resume_all() == []
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert again.failures == error.failures


def test_several_failed_conditions_are_told_in_the_callers_order(every_world: World) -> None:
    one, two = every_world.table("one"), every_world.table("two")
    writer = every_world.writer()
    put(writer, one, "tenth", v="here")
    with ReliableWriteScope(writer) as scope:
        twelve(scope, one, two)
        with pytest.raises(ConditionFailedError) as caught:
            scope.commit()
    failures = caught.value.failures
    assert [failure.operation for failure in failures] == ["operations[7]", "operations[9]", "operations[10]"]
    assert [failure.item is None for failure in failures] == [True, True, False]
    assert failures[:2] == (
        FailedCondition("operations[7]", one, None),
        FailedCondition("operations[9]", one, None),
    )
    assert snapshot(every_world, two) == [[]]


def test_the_twelve_are_written_once_their_conditions_hold(every_world: World) -> None:
    one, two = every_world.table("one"), every_world.table("two")
    writer = another(every_world)
    put(writer, one, "seventh", v="old")
    put(writer, one, "ninth")
    for key in ("doomed", "doomed1", "doomed2"):
        plant(every_world, two, key)
    with ReliableWriteScope(writer) as scope:
        twelve(scope, one, two)
        receipt = scope.commit()
    assert (receipt.operations, receipt.superseded, receipt.duplicate) == (12, (), False)
    assert receipt.write_id == scope.write_id
    assert sorted(item["id"]["S"] for item in every_world.items(two)) == [f"p{number}" for number in range(7)]
    assert {item["_rw"]["S"] for item in every_world.items(two)} == {receipt.stamp}
    assert there(every_world, one, "seventh")["v"] == {"S": "new"}
    assert count(every_world, one, "counter") == 1
    assert shown(every_world, one, "ninth") is None
    assert shown(every_world, one, "tenth") is None
    deleted = [(two, "doomed"), (two, "doomed1"), (two, "doomed2"), (one, "ninth")]
    assert {tombstone(every_world, table, key) for table, key in deleted} == {receipt.stamp}
    assert every_world.records("J#") == []
    (left,) = every_world.records("R#")
    assert (left["stamp"]["S"], left["operations"]["N"]) == (receipt.stamp, "12")


# --- deleted keys -------------------------------------------------------------------------------------------------


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


# --- conflicts with journalled writes -----------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["put", "delete"])
def test_ce10_ce11_a_journalled_write_that_an_update_overtakes_waits_for_an_operator(
    every_world: World, verb: str
) -> None:
    table, other = every_world.table("one"), every_world.table("two")
    put(another(every_world), table, v="first")
    writer = every_world.writer(**QUICK)
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


# --- order by clocks, other clients -------------------------------------------------------------------------------


def test_an_installation_ordered_by_clocks_looks_at_keys_at_commit_all_the_same(
    dynoxide: Engine, unique_name: Any
) -> None:
    world = World(dynoxide, unique_name, Installation(order="clock"))
    try:
        table, other = world.table("one"), world.table("two")
        writer = another(world)
        gone = delete(writer, table)
        with ReliableWriteScope(writer) as scope:
            scope.update_item(table, Key={"id": "x"}, add={"n": 1})
            scope.put_item(other, Item={"id": "x"})
            receipt = scope.commit()
        assert there(world, table)["_rw"]["S"] == gone.stamp
        assert there(world, other)["_rw"]["S"] == receipt.stamp
        with pytest.raises(ConditionFailedError):
            delete(writer, table, ConditionExpression="attribute_not_exists(id)")
    finally:
        world.close()


def test_a_client_of_a_resource_is_told_old_items_as_python_values(every_world: World) -> None:
    """It serialises requests by itself, answers too, errors not."""
    session = boto3.session.Session(
        aws_access_key_id="testing", aws_secret_access_key="testing", region_name="us-east-1"
    )
    resource = session.resource("dynamodb", endpoint_url=every_world.engine.endpoint_url)
    writer = ReliableWriter(every_world.settings(delete_finished_inline=True), client=resource)
    try:
        one, two = every_world.table("one"), every_world.table("two")
        put(writer, one, "seventh", v="other", price=Decimal("7.5"), raw=b"\0\1", tags={"a", "b"})
        with ReliableWriteScope(writer) as scope:
            twelve(scope, one, two)
            with pytest.raises(ConditionFailedError) as caught:
                scope.commit()
        item = caught.value.failures[0].item
        assert item is not None
        assert (item["price"], bytes(item["raw"]), item["tags"]) == (Decimal("7.5"), b"\0\1", {"a", "b"})
        with ReliableWriteScope(writer, idempotency_key="order-1") as scope:
            scope.update_item(one, Key={"id": "y"}, add={"n": 1}, set={"raw": b"\2"})
            scope.put_item(two, Item={"id": "y", "raw": b"\3"}, at_commit=True)
            scope.put_item(two, Item={"id": "z", "raw": b"\4"})
            scope.commit()
        assert there(every_world, one, "y")["raw"] == {"B": b"\2"}
        assert [there(every_world, two, key)["raw"] for key in "yz"] == [{"B": b"\3"}, {"B": b"\4"}]
        assert writer.status("order-1") == "applied"
    finally:
        writer.close()
        resource.meta.client.close()


# --- refused when recorded, or by the engine ----------------------------------------------------------------------


def refusals() -> dict[str, tuple[type[WriteRejectedError], str, dict[str, Any]]]:
    """What is refused when recorded: error, a word of its message, the arguments of `update_item`."""
    bad = InvalidExpressionError
    return {
        "missing value": (bad, ":v stands in", {"UpdateExpression": "SET a = :v"}),
        "missing name": (bad, "#a stands in", {"UpdateExpression": "REMOVE #a"}),
        "unused value": (
            bad,
            ":w is given",
            {"UpdateExpression": "REMOVE a", "ExpressionAttributeValues": {":w": 1}},
        ),
        "unused name": (
            bad,
            "#w is given",
            {"UpdateExpression": "REMOVE a", "ExpressionAttributeNames": {"#w": "b"}},
        ),
        "our prefix": (
            bad,
            "like this library's own",
            {"UpdateExpression": "REMOVE #rw_x", "ExpressionAttributeNames": {"#rw_x": "b"}},
        ),
        "too long": (bad, "bytes; it takes", {"UpdateExpression": "REMOVE " + "a" * 4096}),
        "the full stamp": (
            bad,
            "reserved for the order",
            {"UpdateExpression": "SET #s = :s", "ExpressionAttributeNames": {"#s": "_rw"}, **values(":s")},
        ),
        "the update stamp": (bad, "reserved for the order", {"UpdateExpression": "REMOVE a, _rwu"}),
        "the stamp by the builder": (bad, "reserved for the order", {"set": {"_rw": "x"}}),
        "nothing": (bad, "changes something", {}),
        "empty expression": (bad, "not empty", {"UpdateExpression": " "}),
        "no verb": (bad, "none of SET", {"UpdateExpression": "a = b"}),
        "nothing after a verb": (bad, "none of SET", {"UpdateExpression": "SET"}),
        "the key": (bad, "part of the key", {"UpdateExpression": "SET id = :v", **values(":v")}),
        "the key by a name": (
            bad,
            "part of the key",
            {"UpdateExpression": "REMOVE a, #k", "ExpressionAttributeNames": {"#k": "id"}},
        ),
        "the key by the builder": (bad, "part of the key", {"set": {"id": "y"}}),
        "brackets that close ours": (
            bad,
            "not balanced",
            {"set": {"a": 1}, "ConditionExpression": "attribute_exists(a)) OR (attribute_exists(b)"},
        ),
        "a bracket too many": (bad, "not balanced", {"set": {"a": 1}, "ConditionExpression": "(attribute_exists(a)"}),
        "no room for the guards": (bad, "bytes; it takes", {"UpdateExpression": "REMOVE " + "a" * 3600}),
        "both ways": (bad, "not both", {"UpdateExpression": "REMOVE a", "set": {"b": 1}}),
        "twice": (bad, "changed twice", {"set": {"a": 1}, "remove": ["a"]}),
        "add a string": (bad, "numbers and sets", {"add": {"a": "1"}}),
        "remove a string": (bad, "not one string", {"remove": "abc"}),
        "condition of another type": (bad, "this is int", {"set": {"a": 1}, "ConditionExpression": 7}),
        "empty condition": (bad, "not empty", {"set": {"a": 1}, "ConditionExpression": ""}),
        "key of another type": (InvalidKeyError, "is of type N", {"Key": {"id": 1}, "set": {"a": 1}}),
        "key missing": (InvalidKeyError, "is missing", {"Key": {}, "set": {"a": 1}}),
        "more than a key": (InvalidKeyError, "not part of", {"Key": {"id": "x", "b": 1}, "set": {"a": 1}}),
        "twice in the scope": (DuplicateKeyError, "operations[0]", {"Key": {"id": "first"}, "set": {"a": 1}}),
    }


def values(name: str) -> dict[str, Any]:
    return {"ExpressionAttributeValues": {name: "s"}}


@pytest.mark.parametrize("what", sorted(refusals()))
def test_what_is_refused_when_recorded_leaves_no_trace(world: World, what: str) -> None:
    table = world.table("one")
    error, words, arguments = refusals()[what]
    scope = ReliableWriteScope(another(world))
    scope.put_item(table, Item={"id": "first"})
    with pytest.raises(error, match=words.replace("[", r"\[")) as caught:
        scope.update_item(table, **{"Key": {"id": "x"}, **arguments})
    assert type(caught.value) is error
    assert (caught.value.operation, caught.value.table) == ("operations[1]", table)
    assert caught.value.outcome is Outcome.NOT_WRITTEN
    assert len(scope) == 1
    scope.commit()
    assert [item["id"]["S"] for item in world.items(table)] == ["first"]
    assert world.records("R#") == [], "what was refused did not make it a write with a receipt"


def test_refusals_of_the_other_verbs(world: World) -> None:
    table = world.table("one")
    scope = ReliableWriteScope(world.writer())
    with pytest.raises(InvalidExpressionError, match="no ConditionExpression"):
        scope.put_item(table, Item={"id": "x"}, ExpressionAttributeValues={":v": 1})
    with pytest.raises(InvalidExpressionError, match="ConditionExpression is missing"):
        scope.condition_check(table, Key={"id": "x"}, ConditionExpression=None)  # type: ignore[arg-type]
    with pytest.raises(InvalidExpressionError, match=":v stands in"):
        scope.delete_item(table, Key={"id": "x"}, ConditionExpression="a = :v")
    with pytest.raises(InvalidKeyError, match="is of type N"):
        scope.condition_check(table, Key={"id": 1}, ConditionExpression="attribute_exists(id)")
    assert len(scope) == 0
    scope.discard()


@pytest.mark.parametrize(
    "arguments",
    [{"set": {"a": 1}, "ConditionExpression": "a ="}, {"add": {"word": 1}}],
    ids=["condition", "not a number"],
)
def test_what_only_dynamodb_can_judge_is_refused_at_the_commit_and_nothing_written(
    every_world: World, arguments: dict[str, Any]
) -> None:
    refused_at_the_commit(every_world, arguments)


@pytest.mark.parametrize("expression", ["SET a = ", "REMOVE a SET b"])
def test_a_syntax_that_dynamodb_does_not_know_is_refused_at_the_commit(world: World, expression: str) -> None:
    """Not every emulator reads so closely."""
    refused_at_the_commit(world, {"UpdateExpression": expression})


def refused_at_the_commit(world: World, arguments: dict[str, Any]) -> None:
    table = world.table("one")
    writer = another(world)
    put(writer, table, word="hello")
    left = traces(world)
    scope = ReliableWriteScope(writer)
    scope.put_item(table, Item={"id": "other"})
    scope.update_item(table, Key={"id": "x"}, **arguments)
    with pytest.raises(InvalidExpressionError, match=r"operations\[1\]") as caught:
        scope.commit()
    assert caught.value.outcome is Outcome.NOT_WRITTEN
    assert caught.value.write_id == scope.write_id
    assert caught.value.__cause__ is not None
    assert [item["id"]["S"] for item in world.items(table)] == ["x"]
    assert traces(world) == left


@pytest.mark.parametrize("attribute", ["_rw", "_rwu"])
def test_a_foreign_stamp_is_told_with_the_repair_and_nothing_is_written(every_world: World, attribute: str) -> None:
    table = every_world.table("one")
    writer = another(every_world)
    every_world.client.put_item(TableName=table, Item={"id": {"S": "x"}, attribute: {"N": "1"}})
    with pytest.raises(ForeignStampError, match="repair-stamp"):
        add(writer, table)
    assert count(every_world, table) == 0


def test_a_foreign_stamp_that_appears_after_the_look_is_told_too(every_world: World) -> None:
    table = every_world.table("one")
    writer = another(every_world)
    plan = FaultPlan(writer.client).on(
        "TransactWriteItems", lambda _: plant(every_world, table, _rw="not a stamp"), times=1, having=table.encode()
    )
    scope = ReliableWriteScope(writer)
    scope.update_item(table, Key={"id": "x"}, add={"n": 1})
    with pytest.raises(ForeignStampError, match="repair-stamp") as caught:
        scope.commit()
    assert plan.injected == 1
    assert (caught.value.outcome, caught.value.write_id) == (Outcome.NOT_WRITTEN, scope.write_id)
    assert traces(every_world) == []
