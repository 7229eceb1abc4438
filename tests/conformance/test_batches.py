"""BatchGetItem, the witness' look at all keys, and BatchWriteItem, the removal of finished entries."""

from collections.abc import Callable
from typing import Any

import pytest

from reliable_write.testing.engines import Capability
from tests.conformance.refusals import INVALID, NO_TABLE, refused

needs = pytest.mark.needs
MakeKeys = Callable[[int], list[dict[str, Any]]]


def strong(keys: list[Any], **more: Any) -> dict[str, Any]:
    return {"Keys": keys, "ConsistentRead": True, **more}


def test_a_batch_get_takes_100_keys(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    hundred = keys(100)
    dynamodb.put_item(TableName=table, Item=hundred[7])
    answer = dynamodb.batch_get_item(RequestItems={table: strong(hundred)})
    assert answer["Responses"] == {table: [hundred[7]]}


def test_a_batch_get_of_101_keys_is_refused(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    with refused(INVALID):
        dynamodb.batch_get_item(RequestItems={table: strong(keys(101))})


@needs(Capability.BATCH_LIMITS_ACROSS_TABLES)
def test_a_batch_get_across_tables_counts_all_keys(dynamodb: Any, table: str, other_table: str, keys: MakeKeys) -> None:
    with refused(INVALID):
        dynamodb.batch_get_item(
            RequestItems={table: strong(keys(100)), other_table: strong([{"id": {"S": "one more"}}])}
        )


def test_a_batch_get_of_one_key_twice_is_refused(dynamodb: Any, table: str, key: Any) -> None:
    with refused(INVALID):
        dynamodb.batch_get_item(RequestItems={table: strong([key, key])})


@needs(Capability.NUMBER_DUPLICATES_REFUSED)
def test_a_batch_get_knows_equal_numbers(dynamodb: Any, numbered_table: str) -> None:
    """CE14: two spellings, one key."""
    with refused(INVALID):
        dynamodb.batch_get_item(RequestItems={numbered_table: strong([{"n": {"N": "1"}}, {"n": {"N": "1.0"}}])})


def test_a_strong_batch_get_sees_the_puts_before_it(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    items = keys(10)
    for item in items:
        dynamodb.put_item(TableName=table, Item=item)
    answer = dynamodb.batch_get_item(RequestItems={table: strong(items)})
    assert sorted(answer["Responses"][table], key=lambda item: item["sk"]["S"]) == items


def test_a_batch_get_of_absent_items_is_an_empty_answer(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    answer = dynamodb.batch_get_item(RequestItems={table: strong(keys(3))})
    assert answer["Responses"] == {table: []}


def test_a_batch_get_tells_what_it_left(dynamodb: Any, table: str, key: Any) -> None:
    answer = dynamodb.batch_get_item(RequestItems={table: strong([key])})
    assert answer["UnprocessedKeys"] == {}


def test_a_batch_get_projects_by_names_in_each_table(dynamodb: Any, table: str, other_table: str, key: Any) -> None:
    """The witness' request as it is sent: key and stamps of each table under names of its own."""
    other_key = {"id": key["pk"]}
    dynamodb.put_item(TableName=table, Item=key | {"_rw": {"S": "1"}, "x": {"S": "x"}})
    dynamodb.put_item(TableName=other_table, Item=other_key | {"_rwu": {"S": "2"}, "x": {"S": "x"}})
    stamps = {"#f": "_rw", "#u": "_rwu"}
    answer = dynamodb.batch_get_item(
        RequestItems={
            table: strong(
                [key],
                ProjectionExpression="#h, #r, #f, #u",
                ExpressionAttributeNames=stamps | {"#h": "pk", "#r": "sk"},
            ),
            other_table: strong(
                [other_key],
                ProjectionExpression="#h, #f, #u",
                ExpressionAttributeNames=stamps | {"#h": "id"},
            ),
        }
    )
    assert answer["Responses"] == {
        table: [key | {"_rw": {"S": "1"}}],
        other_table: [other_key | {"_rwu": {"S": "2"}}],
    }


def test_a_batch_get_of_a_missing_table_is_refused(dynamodb: Any, table: str, key: Any) -> None:
    with refused(NO_TABLE):
        dynamodb.batch_get_item(RequestItems={table: strong([key]), "no-such-table": strong([{"id": {"S": "x"}}])})


@needs(Capability.BATCH_LIMITS)
def test_a_batch_get_of_nothing_is_refused(dynamodb: Any) -> None:
    with refused(INVALID):
        dynamodb.batch_get_item(RequestItems={})


@pytest.mark.parametrize("wrong", [{"pk": {"S": "x"}}, {"pk": {"N": "1"}, "sk": {"S": "0"}}], ids=["missing", "type"])
@needs(Capability.KEY_CHECKS)
def test_a_batch_get_of_a_wrong_key_is_refused(dynamodb: Any, table: str, wrong: Any) -> None:
    with refused(INVALID):
        dynamodb.batch_get_item(RequestItems={table: strong([wrong])})


def delete(key: Any) -> dict[str, Any]:
    return {"DeleteRequest": {"Key": key}}


def put(item: Any) -> dict[str, Any]:
    return {"PutRequest": {"Item": item}}


def test_a_batch_write_takes_25_deletes(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    items = keys(25)
    dynamodb.batch_write_item(RequestItems={table: [put(item) for item in items]})
    answer = dynamodb.batch_write_item(RequestItems={table: [delete(item) for item in items]})
    assert answer["UnprocessedItems"] == {}
    assert dynamodb.batch_get_item(RequestItems={table: strong(items)})["Responses"] == {table: []}


@needs(Capability.BATCH_LIMITS)
def test_a_batch_write_of_26_is_refused(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    with refused(INVALID):
        dynamodb.batch_write_item(RequestItems={table: [delete(key) for key in keys(26)]})


@needs(Capability.BATCH_DUPLICATES_REFUSED)
def test_a_batch_write_of_one_key_twice_is_refused(dynamodb: Any, table: str, key: Any) -> None:
    with refused(INVALID):
        dynamodb.batch_write_item(RequestItems={table: [put(key), delete(key)]})


def test_a_batch_deletes_absent_items_without_complaint(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    answer = dynamodb.batch_write_item(RequestItems={table: [delete(key) for key in keys(3)]})
    assert answer["UnprocessedItems"] == {}


def test_a_batch_write_reaches_two_tables(dynamodb: Any, table: str, other_table: str, key: Any) -> None:
    other_key = {"id": key["pk"]}
    dynamodb.batch_write_item(RequestItems={table: [put(key)], other_table: [put(other_key)]})
    answer = dynamodb.batch_get_item(RequestItems={table: strong([key]), other_table: strong([other_key])})
    assert answer["Responses"] == {table: [key], other_table: [other_key]}


def test_a_batch_write_to_a_missing_table_is_refused(dynamodb: Any, key: Any) -> None:
    with refused(NO_TABLE):
        dynamodb.batch_write_item(RequestItems={"no-such-table": [put(key)]})
