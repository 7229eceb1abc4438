"""UpdateItem: heads that become tiny, counters, and the stamp handed on."""

from typing import Any

import pytest

from reliable_write.testing.engines import Capability
from tests.conformance.refusals import INVALID, refused

needs = pytest.mark.needs


def read(dynamodb: Any, table: str, key: dict[str, Any]) -> Any:
    return dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")


def test_set_and_remove_swap_a_payload_for_chunks_in_one_step(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=key | {"payload": {"B": b"\x00" * 2048}, "epoch": {"N": "0"}})
    dynamodb.update_item(
        TableName=table,
        Key=key,
        UpdateExpression="SET chunks = :n, epoch = epoch + :one REMOVE payload",
        ConditionExpression="attribute_exists(sk) AND epoch = :zero",
        ExpressionAttributeValues={":n": {"N": "3"}, ":one": {"N": "1"}, ":zero": {"N": "0"}},
    )
    assert read(dynamodb, table, key) == key | {"chunks": {"N": "3"}, "epoch": {"N": "1"}}


def test_if_not_exists_takes_the_value_for_an_absent_attribute(dynamodb: Any, table: str, key: Any) -> None:
    update = {
        "UpdateExpression": "SET #s = if_not_exists(#s, :t)",
        "ExpressionAttributeNames": {"#s": "_rw"},
    }
    for value in ("first", "second"):
        dynamodb.update_item(TableName=table, Key=key, **update, ExpressionAttributeValues={":t": {"S": value}})
    assert read(dynamodb, table, key)["_rw"] == {"S": "first"}


def test_the_right_hand_side_sees_the_item_as_it_was(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=key | {"a": {"S": "a"}, "b": {"S": "b"}})
    dynamodb.update_item(TableName=table, Key=key, UpdateExpression="SET a = b, b = a")
    assert read(dynamodb, table, key) == key | {"a": {"S": "b"}, "b": {"S": "a"}}


def test_add_counts_from_nothing_and_extends_sets(dynamodb: Any, table: str, key: Any) -> None:
    for tag in ("x", "y"):
        dynamodb.update_item(
            TableName=table,
            Key=key,
            UpdateExpression="ADD visits :one, tags :tag",
            ExpressionAttributeValues={":one": {"N": "1"}, ":tag": {"SS": [tag]}},
        )
    item = read(dynamodb, table, key)
    assert item["visits"] == {"N": "2"}
    assert sorted(item["tags"]["SS"]) == ["x", "y"]


def test_an_update_creates_the_item_it_does_not_find(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.update_item(
        TableName=table, Key=key, UpdateExpression="SET a = :a", ExpressionAttributeValues={":a": {"S": "1"}}
    )
    assert read(dynamodb, table, key) == key | {"a": {"S": "1"}}


def test_all_new_returns_the_item_after_the_update(dynamodb: Any, table: str, key: Any) -> None:
    answer = dynamodb.update_item(
        TableName=table,
        Key=key,
        UpdateExpression="SET a = :a",
        ExpressionAttributeValues={":a": {"S": "1"}},
        ReturnValues="ALL_NEW",
    )
    assert answer["Attributes"] == key | {"a": {"S": "1"}}


def test_all_old_returns_what_a_delete_removed(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=key | {"a": {"S": "1"}})
    answer = dynamodb.delete_item(TableName=table, Key=key, ReturnValues="ALL_OLD")
    assert answer["Attributes"] == key | {"a": {"S": "1"}}


def test_removing_an_absent_attribute_is_no_error(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=key)
    dynamodb.update_item(TableName=table, Key=key, UpdateExpression="REMOVE nothing")
    assert read(dynamodb, table, key) == key


def test_a_key_attribute_cannot_be_updated(dynamodb: Any, table: str, key: Any) -> None:
    with refused(INVALID):
        dynamodb.update_item(
            TableName=table,
            Key=key,
            UpdateExpression="SET sk = :x",
            ExpressionAttributeValues={":x": {"S": "1"}},
        )


def test_arithmetic_on_a_missing_attribute_is_refused(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=key)
    with refused(INVALID):
        dynamodb.update_item(
            TableName=table,
            Key=key,
            UpdateExpression="SET n = n + :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )


@needs(Capability.PATHS_UPDATED_ONCE)
def test_one_path_cannot_be_updated_twice(dynamodb: Any, table: str, key: Any) -> None:
    with refused(INVALID):
        dynamodb.update_item(
            TableName=table,
            Key=key,
            UpdateExpression="SET a = :x, a = :x",
            ExpressionAttributeValues={":x": {"S": "1"}},
        )


def test_nested_paths_and_list_append(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=key | {"m": {"M": {"l": {"L": [{"S": "a"}]}}}})
    dynamodb.update_item(
        TableName=table,
        Key=key,
        UpdateExpression="SET m.l = list_append(m.l, :more), m.#k = :x",
        ExpressionAttributeNames={"#k": "k"},
        ExpressionAttributeValues={":more": {"L": [{"S": "b"}]}, ":x": {"S": "x"}},
    )
    assert read(dynamodb, table, key)["m"] == {"M": {"l": {"L": [{"S": "a"}, {"S": "b"}]}, "k": {"S": "x"}}}
