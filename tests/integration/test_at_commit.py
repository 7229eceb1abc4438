"""Operations at commit, one by one, on every engine with transactions: updates and conditions."""

from __future__ import annotations

import pickle
from decimal import Decimal
from typing import Any

import boto3.session
import pytest
from boto3.dynamodb.conditions import Attr

from reliable_write import ConditionFailedError, Outcome, ReliableWriter, ReliableWriteScope
from reliable_write.errors import FailedCondition
from reliable_write.system_table import Installation
from reliable_write.testing.engines import Capability, Engine
from reliable_write.testing.faults import Call, FaultPlan
from tests.integration.at_commit import add, another, count, delete, plant, put, shown, there, tombstone, traces
from tests.world import World

pytestmark = pytest.mark.needs(Capability.TRANSACTIONS)


# --- updates ----------------------------------------------------------------------------------------------------------


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


# --- conditions -------------------------------------------------------------------------------------------------------


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


# --- order by clocks, other clients -----------------------------------------------------------------------------------


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
