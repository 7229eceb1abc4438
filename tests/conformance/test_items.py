"""What an item may hold, and where the engine says no: the limits checked before the journal is written."""

import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from reliable_write.testing.engines import Capability
from tests.conformance.refusals import INVALID, NO_TABLE, refused

needs = pytest.mark.needs
MakeKeys = Callable[[int], list[dict[str, Any]]]

ITEM_BYTES_MAX = 400 * 1024


def put_and_read(dynamodb: Any, table: str, item: dict[str, Any]) -> Any:
    key = {"pk": item["pk"], "sk": item["sk"]}
    dynamodb.put_item(TableName=table, Item=item)
    return dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True)["Item"]


def filled(key: Any, size: int) -> Any:
    """Return an item of exactly `size` bytes as DynamoDB counts: names and values."""
    used = sum(len(name) + len(value["S"]) for name, value in key.items()) + len("fill")
    return key | {"fill": {"S": "x" * (size - used)}}


@needs(Capability.ITEM_SIZE_LIMIT)
def test_an_item_of_400_kb_is_stored(dynamodb: Any, table: str, key: Any) -> None:
    item = filled(key, ITEM_BYTES_MAX)
    assert put_and_read(dynamodb, table, item) == item


@needs(Capability.ITEM_SIZE_LIMIT)
def test_an_item_one_byte_over_400_kb_is_refused(dynamodb: Any, table: str, key: Any) -> None:
    with refused(INVALID):
        dynamodb.put_item(TableName=table, Item=filled(key, ITEM_BYTES_MAX + 1))


@needs(Capability.ITEM_SIZE_LIMIT)
def test_an_update_cannot_grow_an_item_over_400_kb(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=filled(key, ITEM_BYTES_MAX - 10))
    with refused(INVALID):
        dynamodb.update_item(
            TableName=table,
            Key=key,
            UpdateExpression="SET more = :more",
            ExpressionAttributeValues={":more": {"S": "x" * 20}},
        )


def test_a_binary_payload_of_350_kb_comes_back_as_it_was(dynamodb: Any, table: str, key: Any) -> None:
    payload = bytes(range(256)) * (350 * 4)
    assert put_and_read(dynamodb, table, key | {"payload": {"B": payload}})["payload"]["B"] == payload


def test_pages_of_a_query_end_at_one_megabyte(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    items = keys(4)
    for key in items:
        dynamodb.put_item(TableName=table, Item=filled(key, 350 * 1024))
    answer = dynamodb.query(
        TableName=table,
        KeyConditionExpression="pk = :p",
        ExpressionAttributeValues={":p": items[0]["pk"]},
        ConsistentRead=True,
    )
    assert answer["Count"] < 4
    assert "LastEvaluatedKey" in answer


@pytest.mark.parametrize("value", [{"S": ""}, {"B": b""}, {"L": []}, {"M": {}}], ids=str)
def test_empty_values_are_kept_outside_of_keys(dynamodb: Any, table: str, key: Any, value: Any) -> None:
    item = key | {"empty": value}
    assert put_and_read(dynamodb, table, item) == item


@pytest.mark.parametrize("name", ["pk", "sk"])
def test_an_empty_string_is_refused_as_a_key(dynamodb: Any, table: str, key: Any, name: str) -> None:
    with refused(INVALID):
        dynamodb.put_item(TableName=table, Item=key | {name: {"S": ""}})


@needs(Capability.SET_CHECKS)
def test_an_empty_binary_is_refused_as_a_key(dynamodb: Any, binary_table: str) -> None:
    with refused(INVALID):
        dynamodb.put_item(TableName=binary_table, Item={"b": {"B": b""}})


@needs(Capability.SET_CHECKS)
@pytest.mark.parametrize("value", [{"SS": []}, {"NS": []}, {"BS": []}], ids=str)
def test_an_empty_set_is_refused(dynamodb: Any, table: str, key: Any, value: Any) -> None:
    with refused(INVALID):
        dynamodb.put_item(TableName=table, Item=key | {"empty": value})


@needs(Capability.SET_CHECKS)
@pytest.mark.parametrize("value", [{"SS": ["a", "a"]}, {"NS": ["1", "1.0"]}, {"BS": [b"a", b"a"]}], ids=str)
def test_a_set_with_a_value_twice_is_refused(dynamodb: Any, table: str, key: Any, value: Any) -> None:
    with refused(INVALID):
        dynamodb.put_item(TableName=table, Item=key | {"twice": value})


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "", "twelve", "0x1"])
def test_what_is_no_number_is_refused(dynamodb: Any, table: str, key: Any, text: str) -> None:
    with refused(INVALID):
        dynamodb.put_item(TableName=table, Item=key | {"n": {"N": text}})


@pytest.mark.parametrize("text", ["1" * 38, "-0." + "1" * 38, "1E+125", "1E-130"], ids=lambda text: text[:6])
def test_numbers_within_the_limits_keep_their_value(dynamodb: Any, table: str, key: Any, text: str) -> None:
    stored = put_and_read(dynamodb, table, key | {"n": {"N": text}})["n"]["N"]
    assert Decimal(stored) == Decimal(text)


@needs(Capability.NUMBER_LIMITS)
@pytest.mark.parametrize("text", ["1" * 39, "1E+126", "1E-131"], ids=lambda text: text[:6])
def test_numbers_beyond_the_limits_are_refused(dynamodb: Any, table: str, key: Any, text: str) -> None:
    with refused(INVALID):
        dynamodb.put_item(TableName=table, Item=key | {"n": {"N": text}})


@needs(Capability.NUMBER_KEYS_CANONICAL)
@pytest.mark.parametrize("spelling", ["1", "1.0", "1e0", "01", "10e-1"])
def test_a_number_key_is_one_key_in_every_spelling(dynamodb: Any, numbered_table: str, spelling: str) -> None:
    """CE14: canonical keys have to be ours as well as the table's."""
    dynamodb.put_item(TableName=numbered_table, Item={"n": {"N": "1"}, "by": {"S": spelling}})
    answer = dynamodb.get_item(TableName=numbered_table, Key={"n": {"N": spelling}}, ConsistentRead=True)
    assert answer["Item"] == {"n": {"N": "1"}, "by": {"S": spelling}}


@needs(Capability.NUMBERS_STORED_CANONICAL)
def test_a_number_key_is_stored_in_canonical_form(dynamodb: Any, numbered_table: str) -> None:
    dynamodb.put_item(TableName=numbered_table, Item={"n": {"N": "7.50"}})
    answer = dynamodb.get_item(TableName=numbered_table, Key={"n": {"N": "7.5"}}, ConsistentRead=True)
    assert answer["Item"] == {"n": {"N": "7.5"}}


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"S": "deep"}
    for _ in range(levels):
        value = {"L": [value]}
    return value


def test_31_lists_in_one_another_are_kept(dynamodb: Any, table: str, key: Any) -> None:
    """Nesting of 32: the attribute itself and 31 below it."""
    item = key | {"deep": nested(31)}
    assert put_and_read(dynamodb, table, item) == item


@needs(Capability.NESTING_LIMIT)
def test_deeper_nesting_is_refused(dynamodb: Any, table: str, key: Any) -> None:
    with refused(INVALID):
        dynamodb.put_item(TableName=table, Item=key | {"deep": nested(33)})


def test_every_type_comes_back_as_it_was(dynamodb: Any, table: str, key: Any) -> None:
    item = key | {
        "text": {"S": "naïve \U0001f600"},
        "number": {"N": "-12.5"},
        "binary": {"B": b"\x00\xff"},
        "true": {"BOOL": True},
        "null": {"NULL": True},
        "list": {"L": [{"S": "a"}, {"N": "1"}, {"BOOL": False}]},
        "map": {"M": {"a": {"M": {"b": {"NULL": True}}}}},
    }
    assert put_and_read(dynamodb, table, item) == item


def test_sets_come_back_with_the_same_members(dynamodb: Any, table: str, key: Any) -> None:
    item = key | {"s": {"SS": ["b", "a"]}, "n": {"NS": ["2", "1"]}, "b": {"BS": [b"\x01", b"\x00"]}}
    stored = put_and_read(dynamodb, table, item)
    assert sorted(stored["s"]["SS"]) == ["a", "b"]
    assert sorted(stored["n"]["NS"]) == ["1", "2"]
    assert sorted(stored["b"]["BS"]) == [b"\x00", b"\x01"]


def test_binary_keys_are_told_apart_by_their_bytes(dynamodb: Any, binary_table: str) -> None:
    prefix = uuid.uuid4().bytes
    for byte in (b"\x00", b"\xff"):
        dynamodb.put_item(TableName=binary_table, Item={"b": {"B": prefix + byte}, "v": {"B": byte}})
    answer = dynamodb.get_item(TableName=binary_table, Key={"b": {"B": prefix + b"\xff"}}, ConsistentRead=True)
    assert answer["Item"]["v"] == {"B": b"\xff"}


@needs(Capability.KEY_CHECKS)
@pytest.mark.parametrize(
    "change",
    [{"sk": {"N": "1"}}, {"pk": {"B": b"x"}}, {"pk": {"NULL": True}}],
    ids=["range-number", "hash-binary", "hash-null"],
)
def test_a_key_of_the_wrong_type_is_refused(dynamodb: Any, table: str, key: Any, change: Any) -> None:
    with refused(INVALID):
        dynamodb.put_item(TableName=table, Item=key | change)
    with refused(INVALID):
        dynamodb.delete_item(TableName=table, Key=key | change)


def test_a_missing_key_attribute_is_refused(dynamodb: Any, table: str, key: Any) -> None:
    half = {"pk": key["pk"]}
    with refused(INVALID):
        dynamodb.put_item(TableName=table, Item=half)
    with refused(INVALID):
        dynamodb.get_item(TableName=table, Key=half)
    with refused(INVALID):
        dynamodb.delete_item(TableName=table, Key=half)


def test_more_than_the_key_is_refused_as_a_key(dynamodb: Any, table: str, key: Any) -> None:
    with refused(INVALID):
        dynamodb.delete_item(TableName=table, Key=key | {"more": {"S": "x"}})
    with refused(INVALID):
        dynamodb.get_item(TableName=table, Key=key | {"more": {"S": "x"}})


def test_keys_have_a_size_of_their_own(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=key | {"pk": {"S": "h" * 2048}, "sk": {"S": "r" * 1024}})
    with refused(INVALID):
        dynamodb.put_item(TableName=table, Item=key | {"pk": {"S": "h" * 2049}})
    with refused(INVALID):
        dynamodb.put_item(TableName=table, Item=key | {"sk": {"S": "r" * 1025}})


@needs(Capability.INDEX_KEY_CHECKS)
def test_an_index_key_of_the_wrong_type_is_refused(dynamodb: Any, indexed_table: str) -> None:
    """A poison for a journal that did not look: the table's key is fine."""
    with refused(INVALID):
        dynamodb.put_item(TableName=indexed_table, Item={"id": {"S": "1"}, "rank": {"S": "first"}})


def test_an_item_without_the_index_key_is_stored(dynamodb: Any, indexed_table: str) -> None:
    dynamodb.put_item(TableName=indexed_table, Item={"id": {"S": "2"}})


def test_a_put_to_an_unknown_table_is_refused(dynamodb: Any, key: Any) -> None:
    with refused(NO_TABLE):
        dynamodb.put_item(TableName="no-such-table", Item=key)


def test_a_delete_from_an_unknown_table_is_refused(dynamodb: Any, key: Any) -> None:
    with refused(NO_TABLE):
        dynamodb.delete_item(TableName="no-such-table", Key=key)
