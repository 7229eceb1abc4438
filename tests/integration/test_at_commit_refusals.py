"""What operations at commit refuse when they are recorded, and what only the engine can refuse."""

from __future__ import annotations

from typing import Any

import pytest

from reliable_write import (
    DuplicateKeyError,
    ForeignStampError,
    InvalidExpressionError,
    InvalidKeyError,
    Outcome,
    ReliableWriteScope,
)
from reliable_write.errors import WriteRejectedError
from reliable_write.testing.engines import Capability
from reliable_write.testing.faults import FaultPlan
from tests.integration.at_commit import add, another, count, plant, put, traces
from tests.world import World

pytestmark = pytest.mark.needs(Capability.TRANSACTIONS)


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
