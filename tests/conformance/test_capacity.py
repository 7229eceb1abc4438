"""What a request is billed: the figures the documentation's cost table rests on."""

from collections.abc import Callable
from typing import Any

import pytest

from reliable_write.testing.engines import Capability
from tests.conformance.refusals import CONDITION_FAILED, refused

needs = pytest.mark.needs
pytestmark = needs(Capability.CONSUMED_CAPACITY)
MakeKeys = Callable[[int], list[dict[str, Any]]]
TOTAL = {"ReturnConsumedCapacity": "TOTAL"}


def units(answer: Any) -> float:
    consumed = answer["ConsumedCapacity"]
    parts = consumed if isinstance(consumed, list) else [consumed]
    return sum(float(part["CapacityUnits"]) for part in parts)


@pytest.mark.parametrize(("kilobytes", "billed"), [(0, 1), (1, 2), (10, 11)])
def test_a_put_is_billed_by_the_started_kilobyte(
    dynamodb: Any, table: str, key: Any, kilobytes: int, billed: int
) -> None:
    answer = dynamodb.put_item(TableName=table, Item=key | {"v": {"S": "x" * 1024 * kilobytes}}, **TOTAL)
    assert units(answer) == billed


def test_a_conditional_put_is_billed_like_a_plain_one(dynamodb: Any, table: str, key: Any) -> None:
    answer = dynamodb.put_item(TableName=table, Item=key, ConditionExpression="attribute_not_exists(pk)", **TOTAL)
    assert units(answer) == 1


def test_a_refused_put_tells_no_capacity(dynamodb: Any, table: str, key: Any) -> None:
    """It is billed, but an error has no place to say so."""
    dynamodb.put_item(TableName=table, Item=key)
    with refused(CONDITION_FAILED) as refusal:
        dynamodb.put_item(TableName=table, Item=key, ConditionExpression="attribute_not_exists(pk)", **TOTAL)
    assert "ConsumedCapacity" not in refusal.response


def test_a_delete_of_an_absent_item_is_billed_one_unit(dynamodb: Any, table: str, key: Any) -> None:
    assert units(dynamodb.delete_item(TableName=table, Key=key, **TOTAL)) == 1


@pytest.mark.parametrize(("strong", "billed"), [(True, 1.0), (False, 0.5)])
def test_a_get_is_billed_whole_or_half(dynamodb: Any, table: str, key: Any, strong: bool, billed: float) -> None:
    dynamodb.put_item(TableName=table, Item=key)
    assert units(dynamodb.get_item(TableName=table, Key=key, ConsistentRead=strong, **TOTAL)) == billed


def test_a_strong_query_of_nothing_is_billed_something_small(dynamodb: Any, table: str, key: Any) -> None:
    answer = dynamodb.query(
        TableName=table,
        KeyConditionExpression="pk = :p",
        ExpressionAttributeValues={":p": key["pk"]},
        ConsistentRead=True,
        **TOTAL,
    )
    assert units(answer) <= 1


@needs(Capability.BATCH_GET_CAPACITY)
def test_absent_items_in_a_strong_batch_get_are_billed(dynamodb: Any, table: str, keys: MakeKeys) -> None:
    """The witness pays one unit a key, also for keys that have no item yet."""
    answer = dynamodb.batch_get_item(RequestItems={table: {"Keys": keys(4), "ConsistentRead": True}}, **TOTAL)
    assert units(answer) == 4


@needs(Capability.TRANSACTIONS)
def test_a_transaction_is_billed_double(dynamodb: Any, table: str, key: Any) -> None:
    answer = dynamodb.transact_write_items(TransactItems=[{"Put": {"TableName": table, "Item": key}}], **TOTAL)
    assert units(answer) == 2
