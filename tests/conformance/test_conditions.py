"""Conditions on single writes: the guard of every put, delete, claim and removal."""

from typing import Any

import pytest

from reliable_write.testing.engines import Capability
from tests.conformance.refusals import CONDITION_FAILED, refused

needs = pytest.mark.needs

MINE = "0192f0c0ffee0005a1b2c3d4e5f601234567"
OLDER = "0192f0c0ffee0004ffffffffffffffffffff"
NEWER = "0192f0c0ffee000500000000000000000000".replace("0005", "0006")
OLDER_THAN_MINE = {
    "ConditionExpression": "attribute_not_exists(#s) OR #s < :mine",
    "ExpressionAttributeNames": {"#s": "_rw"},
    "ExpressionAttributeValues": {":mine": {"S": MINE}},
}
ALL_OLD = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}


def stamped(key: dict[str, Any], stamp: str) -> dict[str, Any]:
    return key | {"_rw": {"S": stamp}}


def read(dynamodb: Any, table: str, key: dict[str, Any]) -> Any:
    return dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")


def test_older_than_mine_holds_for_an_absent_item(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=stamped(key, MINE), **OLDER_THAN_MINE)
    assert read(dynamodb, table, key) == stamped(key, MINE)


def test_older_than_mine_holds_for_an_item_without_a_stamp(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=key)
    dynamodb.put_item(TableName=table, Item=stamped(key, MINE), **OLDER_THAN_MINE)
    assert read(dynamodb, table, key) == stamped(key, MINE)


def test_older_than_mine_holds_for_a_smaller_stamp(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=stamped(key, OLDER))
    dynamodb.put_item(TableName=table, Item=stamped(key, MINE), **OLDER_THAN_MINE)
    assert read(dynamodb, table, key) == stamped(key, MINE)


@pytest.mark.parametrize("found", [MINE, NEWER], ids=["equal", "greater"])
def test_older_than_mine_fails_for_a_stamp_that_is(dynamodb: Any, table: str, key: Any, found: str) -> None:
    dynamodb.put_item(TableName=table, Item=stamped(key, found))
    with refused(CONDITION_FAILED):
        dynamodb.put_item(TableName=table, Item=stamped(key, MINE), **OLDER_THAN_MINE)
    assert read(dynamodb, table, key) == stamped(key, found)


@needs(Capability.MIXED_COMPARISONS)
@pytest.mark.parametrize("foreign", [{"N": "1"}, {"NULL": True}, {"B": b"0"}, {"L": []}], ids=str)
def test_a_stamp_of_another_type_fails_the_condition_without_an_error(
    dynamodb: Any, table: str, key: Any, foreign: Any
) -> None:
    dynamodb.put_item(TableName=table, Item=key | {"_rw": foreign})
    with refused(CONDITION_FAILED):
        dynamodb.put_item(TableName=table, Item=stamped(key, MINE), **OLDER_THAN_MINE)


@pytest.mark.parametrize("comparison", ["<", "<=", "=", ">", ">="])
def test_a_comparison_with_a_missing_attribute_is_false(dynamodb: Any, table: str, key: Any, comparison: str) -> None:
    dynamodb.put_item(TableName=table, Item=key)
    with refused(CONDITION_FAILED):
        dynamodb.put_item(
            TableName=table,
            Item=key,
            ConditionExpression=f"elsewhere {comparison} :x",
            ExpressionAttributeValues={":x": {"S": "x"}},
        )


def test_unequal_to_a_missing_attribute_is_true(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=key)
    dynamodb.put_item(
        TableName=table,
        Item=key,
        ConditionExpression="elsewhere <> :x",
        ExpressionAttributeValues={":x": {"S": "x"}},
    )


def test_both_stamps_older_than_mine(dynamodb: Any, table: str, key: Any) -> None:
    """The guard of a put: `_rw` may be old while `_rwu` tells of an update that overtook it."""
    guard = {
        "ConditionExpression": (
            "(attribute_not_exists(#f) OR #f < :mine) AND (attribute_not_exists(#u) OR #u < :mine)"
        ),
        "ExpressionAttributeNames": {"#f": "_rw", "#u": "_rwu"},
        "ExpressionAttributeValues": {":mine": {"S": MINE}},
    }
    dynamodb.put_item(TableName=table, Item=stamped(key, OLDER) | {"_rwu": {"S": NEWER}})
    with refused(CONDITION_FAILED):
        dynamodb.put_item(TableName=table, Item=stamped(key, MINE), **guard)
    dynamodb.put_item(TableName=table, Item=stamped(key, OLDER) | {"_rwu": {"S": OLDER}})
    dynamodb.put_item(TableName=table, Item=stamped(key, MINE), **guard)


def test_hex_stamps_of_one_width_are_ordered_as_text(dynamodb: Any, table: str, key: Any) -> None:
    for digit in "0123456789abcdef":
        stamp = MINE[:-1] + digit
        dynamodb.put_item(
            TableName=table,
            Item=stamped(key, stamp),
            **OLDER_THAN_MINE | {"ExpressionAttributeValues": {":mine": {"S": stamp}}},
        )
    assert read(dynamodb, table, key) == stamped(key, MINE[:-1] + "f")


def test_put_if_absent_is_refused_the_second_time(dynamodb: Any, table: str, key: Any) -> None:
    entry = {"TableName": table, "Item": key, "ConditionExpression": "attribute_not_exists(sk)"}
    dynamodb.put_item(**entry)
    with refused(CONDITION_FAILED):
        dynamodb.put_item(**entry)


@needs(Capability.OLD_ITEM_ON_FAILED_CONDITION)
def test_a_refused_put_shows_the_item_it_met(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=stamped(key, NEWER))
    with refused(CONDITION_FAILED) as refusal:
        dynamodb.put_item(TableName=table, Item=stamped(key, MINE), **OLDER_THAN_MINE, **ALL_OLD)
    assert refusal.old_item == stamped(key, NEWER)


@needs(Capability.OLD_ITEM_ON_FAILED_CONDITION)
def test_a_refused_delete_shows_the_item_it_met(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=stamped(key, NEWER))
    with refused(CONDITION_FAILED) as refusal:
        dynamodb.delete_item(TableName=table, Key=key, **OLDER_THAN_MINE, **ALL_OLD)
    assert refusal.old_item == stamped(key, NEWER)


@needs(Capability.OLD_ITEM_ON_FAILED_CONDITION)
def test_a_refused_update_shows_the_item_it_met(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=stamped(key, NEWER))
    with refused(CONDITION_FAILED) as refusal:
        dynamodb.update_item(TableName=table, Key=key, UpdateExpression="SET #s = :mine", **OLDER_THAN_MINE, **ALL_OLD)
    assert refusal.old_item == stamped(key, NEWER)


def test_a_refusal_shows_no_item_unless_asked(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=stamped(key, NEWER))
    with refused(CONDITION_FAILED) as refusal:
        dynamodb.put_item(TableName=table, Item=stamped(key, MINE), **OLDER_THAN_MINE)
    assert refusal.old_item is None


def test_a_condition_refused_by_absence_shows_no_item(dynamodb: Any, table: str, key: Any) -> None:
    with refused(CONDITION_FAILED) as refusal:
        dynamodb.delete_item(TableName=table, Key=key, ConditionExpression="attribute_exists(sk)", **ALL_OLD)
    assert refusal.old_item is None


def test_a_conditional_delete_of_an_absent_item_succeeds(dynamodb: Any, table: str, key: Any) -> None:
    """Where the condition holds for absence: a delete that runs again is no failure."""
    dynamodb.delete_item(TableName=table, Key=key, **OLDER_THAN_MINE)
    assert read(dynamodb, table, key) is None


def test_a_conditional_delete_leaves_a_newer_item(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=stamped(key, NEWER))
    with refused(CONDITION_FAILED):
        dynamodb.delete_item(TableName=table, Key=key, **OLDER_THAN_MINE)
    assert read(dynamodb, table, key) == stamped(key, NEWER)


def claim(dynamodb: Any, table: str, key: Any, seen: int) -> None:
    dynamodb.update_item(
        TableName=table,
        Key=key,
        UpdateExpression="SET epoch = :next, #o = :me",
        ConditionExpression="attribute_exists(sk) AND epoch = :seen",
        ExpressionAttributeNames={"#o": "owner"},
        ExpressionAttributeValues={
            ":seen": {"N": str(seen)},
            ":next": {"N": str(seen + 1)},
            ":me": {"S": "monitor"},
        },
    )


def test_a_claim_is_won_once(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=key | {"epoch": {"N": "0"}})
    claim(dynamodb, table, key, seen=0)
    with refused(CONDITION_FAILED):
        claim(dynamodb, table, key, seen=0)
    assert read(dynamodb, table, key)["epoch"] == {"N": "1"}


def test_a_claim_on_a_finished_entry_makes_no_ghost(dynamodb: Any, table: str, key: Any) -> None:
    """CE13: an update creates what it does not find, unless told not to."""
    with refused(CONDITION_FAILED):
        claim(dynamodb, table, key, seen=0)
    assert read(dynamodb, table, key) is None


def test_a_number_is_compared_by_value(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=key | {"version": {"N": "1.0"}})
    dynamodb.put_item(
        TableName=table,
        Item=key,
        ConditionExpression="version = :v",
        ExpressionAttributeValues={":v": {"N": "1"}},
    )


def test_size_type_and_contains_are_understood(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=key | {"tags": {"SS": ["a", "b"]}, "text": {"S": "four"}})
    dynamodb.delete_item(
        TableName=table,
        Key=key,
        ConditionExpression=(
            "contains(tags, :a) AND size(#t) = :four AND attribute_type(tags, :ss) "
            "AND begins_with(#t, :fo) AND #t BETWEEN :e AND :g AND #t IN (:x, :text)"
        ),
        ExpressionAttributeNames={"#t": "text"},
        ExpressionAttributeValues={
            ":a": {"S": "a"},
            ":four": {"N": "4"},
            ":ss": {"S": "SS"},
            ":fo": {"S": "fo"},
            ":e": {"S": "e"},
            ":g": {"S": "g"},
            ":x": {"S": "x"},
            ":text": {"S": "four"},
        },
    )


@needs(Capability.UNUSED_VALUES_REFUSED)
def test_an_unused_expression_value_is_refused(dynamodb: Any, table: str, key: Any) -> None:
    with refused("ValidationException"):
        dynamodb.put_item(
            TableName=table,
            Item=key,
            ConditionExpression="attribute_not_exists(sk)",
            ExpressionAttributeValues={":unused": {"S": "x"}},
        )
