"""Strong reads: the monitor's walk over a shard, and the witness' look at one key."""

import uuid
from collections.abc import Callable
from typing import Any

from tests.conformance.conftest import CreateTable, key_schema
from tests.conformance.refusals import INVALID, NO_TABLE, refused

MakeKeys = Callable[[int], list[dict[str, Any]]]


def whole_partition(table: str, partition: Any) -> dict[str, Any]:
    return {
        "TableName": table,
        "KeyConditionExpression": "pk = :p",
        "ExpressionAttributeValues": {":p": partition},
        "ConsistentRead": True,
    }


def put_all(dynamodb: Any, table: str, items: list[dict[str, Any]]) -> None:
    for item in items:
        dynamodb.put_item(TableName=table, Item=item)


def test_a_strong_get_sees_the_put_before_it(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=key)
    assert dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True)["Item"] == key


def test_an_absent_item_is_an_answer_without_item(dynamodb: Any, table: str, key: Any) -> None:
    assert "Item" not in dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True)


def test_a_get_projects_by_names(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=key | {"_rw": {"S": "1"}, "big": {"S": "x" * 100}})
    answer = dynamodb.get_item(
        TableName=table,
        Key=key,
        ConsistentRead=True,
        ProjectionExpression="#s, #u",
        ExpressionAttributeNames={"#s": "_rw", "#u": "_rwu"},
    )
    assert answer["Item"] == {"_rw": {"S": "1"}}


def test_a_projection_of_nothing_found_still_tells_that_the_item_exists(dynamodb: Any, table: str, key: Any) -> None:
    """The witness must tell an item without stamps from no item."""
    dynamodb.put_item(TableName=table, Item=key)
    answer = dynamodb.get_item(
        TableName=table,
        Key=key,
        ConsistentRead=True,
        ProjectionExpression="#s",
        ExpressionAttributeNames={"#s": "_rw"},
    )
    assert answer["Item"] == {}


def test_a_strong_query_sees_the_put_before_it(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    (key,) = keys(1)
    dynamodb.put_item(TableName=table, Item=key)
    assert dynamodb.query(**whole_partition(table, key["pk"]))["Items"] == [key]


def test_a_query_is_paged_by_limit_and_start_key(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    items = keys(7)
    put_all(dynamodb, table, items)
    question = whole_partition(table, items[0]["pk"]) | {"Limit": 3}
    pages = [dynamodb.query(**question)]
    while "LastEvaluatedKey" in pages[-1]:
        pages.append(dynamodb.query(**question, ExclusiveStartKey=pages[-1]["LastEvaluatedKey"]))
    assert [item for page in pages for item in page["Items"]] == items
    assert [page["Count"] for page in pages][:3] == [3, 3, 1]


def test_a_query_may_start_after_a_key_that_is_gone(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    """A cursor outlives the finished entry it stands on."""
    items = keys(3)
    put_all(dynamodb, table, items)
    dynamodb.delete_item(TableName=table, Key=items[1])
    answer = dynamodb.query(**whole_partition(table, items[0]["pk"]), ExclusiveStartKey=items[1])
    assert answer["Items"] == items[2:]


def test_a_query_goes_up_to_a_sort_key(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    items = keys(5)
    put_all(dynamodb, table, items)
    answer = dynamodb.query(
        TableName=table,
        KeyConditionExpression="pk = :p AND sk <= :s",
        ExpressionAttributeValues={":p": items[0]["pk"], ":s": items[2]["sk"]},
        ConsistentRead=True,
    )
    assert answer["Items"] == items[:3]


def test_a_query_may_run_backwards(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    items = keys(3)
    put_all(dynamodb, table, items)
    answer = dynamodb.query(**whole_partition(table, items[0]["pk"]), ScanIndexForward=False)
    assert answer["Items"] == items[::-1]


def test_sort_keys_are_ordered_by_their_bytes_in_utf8(dynamodb: Any, table: str) -> None:
    """U+FF5E sorts before U+10000 by bytes, and after it by UTF-16 units."""
    partition = {"S": uuid.uuid4().hex}
    sort_keys = ["a", "Z", "é", "～", "\U00010000", "0", "z"]  # noqa: RUF001 - a fullwidth tilde
    put_all(dynamodb, table, [{"pk": partition, "sk": {"S": s}} for s in sort_keys])
    answer = dynamodb.query(**whole_partition(table, partition))
    found = [item["sk"]["S"] for item in answer["Items"]]
    assert found == sorted(sort_keys, key=lambda text: text.encode())


def test_number_sort_keys_are_ordered_by_value(dynamodb: Any, create_table: CreateTable) -> None:
    table = create_table(**key_schema(pk="S", sk="N"))
    for number in ("10", "9", "-1", "2.5"):
        dynamodb.put_item(TableName=table, Item={"pk": {"S": "p"}, "sk": {"N": number}})
    answer = dynamodb.query(**whole_partition(table, {"S": "p"}))
    assert [item["sk"]["N"] for item in answer["Items"]] == ["-1", "2.5", "9", "10"]


def test_a_filter_counts_what_it_read(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    items = keys(4)
    put_all(dynamodb, table, [*items[:3], items[3] | {"due": {"N": "1"}}])
    question = whole_partition(table, items[0]["pk"])
    question["ExpressionAttributeValues"][":one"] = {"N": "1"}
    answer = dynamodb.query(**question, FilterExpression="due = :one")
    assert (answer["Count"], answer["ScannedCount"]) == (1, 4)


def test_an_index_answers_no_strong_read(dynamodb: Any, indexed_table: str) -> None:
    with refused(INVALID):
        dynamodb.query(
            TableName=indexed_table,
            IndexName="by-rank",
            KeyConditionExpression="#r = :one",
            ExpressionAttributeNames={"#r": "rank"},
            ExpressionAttributeValues={":one": {"N": "1"}},
            ConsistentRead=True,
        )


def test_a_query_of_an_unknown_table_is_refused(dynamodb: Any) -> None:
    with refused(NO_TABLE):
        dynamodb.query(**whole_partition("no-such-table", {"S": "p"}))


def test_a_scan_finds_everything_in_pages(dynamodb: Any, create_table: CreateTable) -> None:
    table = create_table(**key_schema(id="S"))
    for number in range(5):
        dynamodb.put_item(TableName=table, Item={"id": {"S": str(number)}})
    found: list[str] = []
    start: dict[str, Any] = {}
    while True:
        page = dynamodb.scan(TableName=table, Limit=2, ConsistentRead=True, **start)
        found += [item["id"]["S"] for item in page["Items"]]
        if "LastEvaluatedKey" not in page:
            break
        start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
    assert sorted(found) == ["0", "1", "2", "3", "4"]
