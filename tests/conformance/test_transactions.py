"""TransactWriteItems: the commit point of what cannot be replayed."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from reliable_write.testing.engines import Capability
from tests.conformance.refusals import CANCELLED, CONDITION_FAILED, INVALID, NO_TABLE, refused

needs = pytest.mark.needs
pytestmark = needs(Capability.TRANSACTIONS)
MakeKeys = Callable[[int], list[dict[str, Any]]]


def put_if_absent(table: str, item: Any, **more: Any) -> dict[str, Any]:
    return {
        "Put": {
            "TableName": table,
            "Item": item,
            "ConditionExpression": "attribute_not_exists(pk)",
            **more,
        }
    }


def add_one(table: str, key: Any) -> dict[str, Any]:
    return {
        "Update": {
            "TableName": table,
            "Key": key,
            "UpdateExpression": "ADD n :one",
            "ExpressionAttributeValues": {":one": {"N": "1"}},
        }
    }


def read(dynamodb: Any, table: str, key: Any) -> Any:
    return dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")


def test_all_kinds_of_actions_are_applied_together(dynamodb: Any, table: str, other_table: str, keys: MakeKeys) -> None:
    checked, put, updated, deleted = keys(4)
    other = {"id": put["pk"]}
    dynamodb.put_item(TableName=table, Item=checked)
    dynamodb.put_item(TableName=table, Item=deleted)
    check = {"TableName": table, "Key": checked, "ConditionExpression": "attribute_exists(pk)"}
    dynamodb.transact_write_items(
        TransactItems=[
            {"ConditionCheck": check},
            put_if_absent(table, put),
            add_one(table, updated),
            {"Delete": {"TableName": table, "Key": deleted}},
            {"Put": {"TableName": other_table, "Item": other}},
        ]
    )
    assert read(dynamodb, table, put) == put
    assert read(dynamodb, table, updated) == updated | {"n": {"N": "1"}}
    assert read(dynamodb, table, deleted) is None
    assert read(dynamodb, other_table, other) == other


def test_nothing_is_applied_where_one_condition_fails(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    there, *absent = keys(3)
    dynamodb.put_item(TableName=table, Item=there)
    with refused(CANCELLED):
        dynamodb.transact_write_items(
            TransactItems=[put_if_absent(table, key) for key in (absent[0], there, absent[1])]
        )
    assert [read(dynamodb, table, key) for key in absent] == [None, None]


def test_reasons_come_in_the_order_of_the_actions(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    there, *absent = keys(4)
    dynamodb.put_item(TableName=table, Item=there)
    claim = {"TableName": table, "Key": absent[2], "ConditionExpression": "attribute_exists(pk)"}
    with refused(CANCELLED) as refusal:
        dynamodb.transact_write_items(
            TransactItems=[
                put_if_absent(table, absent[0]),
                put_if_absent(table, there),
                put_if_absent(table, absent[1]),
                {"ConditionCheck": claim},
            ]
        )
    failed = "ConditionalCheckFailed"
    assert refusal.reason_codes == ["None", failed, "None", failed]


def test_a_reason_shows_the_old_item_where_asked(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    first, second, absent = keys(3)
    item = first | {"_rw": {"S": "1"}}
    dynamodb.put_item(TableName=table, Item=item)
    dynamodb.put_item(TableName=table, Item=second)
    claim = {"TableName": table, "Key": absent, "ConditionExpression": "attribute_exists(pk)"}
    shown = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    with refused(CANCELLED) as refusal:
        dynamodb.transact_write_items(
            TransactItems=[
                put_if_absent(table, first, **shown),
                put_if_absent(table, second),
                {"ConditionCheck": claim | shown},
            ]
        )
    reasons = refusal.response["CancellationReasons"]
    assert [reason.get("Item") for reason in reasons] == [item, None, None]


def test_one_action_is_a_transaction_too(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.transact_write_items(TransactItems=[put_if_absent(table, key)])
    with refused(CANCELLED) as refusal:
        dynamodb.transact_write_items(TransactItems=[put_if_absent(table, key)])
    assert refusal.reason_codes == ["ConditionalCheckFailed"]


@needs(Capability.REQUEST_TOKENS)
def test_a_repeated_token_is_applied_once(dynamodb: Any, table: str, key: Any) -> None:
    request = {"TransactItems": [add_one(table, key)], "ClientRequestToken": uuid.uuid4().hex}
    for _ in range(3):
        dynamodb.transact_write_items(**request)
    assert read(dynamodb, table, key)["n"] == {"N": "1"}


@needs(Capability.REQUEST_TOKENS)
def test_a_token_with_another_body_is_refused(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    token = uuid.uuid4().hex
    first, second = keys(2)
    dynamodb.transact_write_items(TransactItems=[add_one(table, first)], ClientRequestToken=token)
    with refused("IdempotentParameterMismatchException"):
        dynamodb.transact_write_items(TransactItems=[add_one(table, second)], ClientRequestToken=token)


def test_the_token_of_a_cancelled_transaction_decides_again(dynamodb: Any, table: str, key: Any) -> None:
    """A refusal is not remembered: the same request may succeed once the condition holds."""
    dynamodb.put_item(TableName=table, Item=key)
    request = {"TransactItems": [put_if_absent(table, key)], "ClientRequestToken": uuid.uuid4().hex}
    with refused(CANCELLED):
        dynamodb.transact_write_items(**request)
    dynamodb.delete_item(TableName=table, Key=key)
    dynamodb.transact_write_items(**request)
    assert read(dynamodb, table, key) == key


def test_100_actions_are_taken(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    hundred = keys(100)
    dynamodb.transact_write_items(TransactItems=[put_if_absent(table, key) for key in hundred])
    answer = dynamodb.batch_get_item(RequestItems={table: {"Keys": hundred, "ConsistentRead": True}})
    assert len(answer["Responses"][table]) == 100


def test_101_actions_are_refused(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    with refused(INVALID):
        dynamodb.transact_write_items(TransactItems=[put_if_absent(table, key) for key in keys(101)])


def test_two_actions_on_one_item_are_refused(dynamodb: Any, table: str, key: Any) -> None:
    check = {"TableName": table, "Key": key, "ConditionExpression": "attribute_not_exists(pk)"}
    with refused(INVALID):
        dynamodb.transact_write_items(TransactItems=[{"ConditionCheck": check}, put_if_absent(table, key)])


@needs(Capability.TRANSACTION_SIZE_LIMIT)
def test_more_than_4_mb_are_refused(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    payload = {"payload": {"B": b"x" * 390 * 1024}}
    with refused(INVALID):
        dynamodb.transact_write_items(TransactItems=[put_if_absent(table, key | payload) for key in keys(11)])


def test_a_transaction_on_an_unknown_table_is_refused(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    first, second = keys(2)
    with refused(NO_TABLE):
        dynamodb.transact_write_items(
            TransactItems=[put_if_absent(table, first), put_if_absent("no-such-table", second)]
        )
    assert read(dynamodb, table, first) is None


def test_an_item_over_400_kb_stops_the_transaction(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    small, large = keys(2)
    huge = large | {"payload": {"S": "x" * 410 * 1024}}
    with refused(INVALID):
        dynamodb.transact_write_items(TransactItems=[put_if_absent(table, small), put_if_absent(table, huge)])
    assert read(dynamodb, table, small) is None


def test_a_transact_get_reads_across_tables(dynamodb: Any, table: str, other_table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=key)
    answer = dynamodb.transact_get_items(
        TransactItems=[
            {"Get": {"TableName": table, "Key": key}},
            {"Get": {"TableName": other_table, "Key": {"id": {"S": uuid.uuid4().hex}}}},
        ]
    )
    assert [response.get("Item") for response in answer["Responses"]] == [key, None]


def test_a_plain_write_meets_what_a_transaction_put(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.transact_write_items(TransactItems=[put_if_absent(table, key)])
    with refused(CONDITION_FAILED):
        dynamodb.put_item(TableName=table, Item=key, ConditionExpression="attribute_not_exists(pk)")
