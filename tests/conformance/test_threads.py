"""Many threads at one key: conditional writes are decided one after another."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from botocore.exceptions import ClientError

from reliable_write.testing.engines import Capability

THREADS = 16
needs = pytest.mark.needs
pytestmark = needs(Capability.ATOMIC_UNDER_THREADS)


def all_at_once(call: Callable[[int], Any]) -> list[str]:
    """Run `call(number)` in every thread at the same moment; return "won" or the error's code of each."""
    barrier = Barrier(THREADS)

    def run(number: int) -> str:
        barrier.wait()
        try:
            call(number)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "won"

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


def test_one_of_many_puts_if_absent_wins(dynamodb: Any, table: str, key: Any) -> None:
    outcomes = all_at_once(
        lambda number: dynamodb.put_item(
            TableName=table,
            Item=key | {"by": {"N": str(number)}},
            ConditionExpression="attribute_not_exists(pk)",
        )
    )
    winner = outcomes.index("won")
    assert sorted(outcomes) == ["ConditionalCheckFailedException"] * (THREADS - 1) + ["won"]
    stored = dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True)["Item"]
    assert stored["by"] == {"N": str(winner)}


def test_one_of_many_claims_wins(dynamodb: Any, table: str, key: Any) -> None:
    dynamodb.put_item(TableName=table, Item=key | {"epoch": {"N": "0"}})
    outcomes = all_at_once(
        lambda _: dynamodb.update_item(
            TableName=table,
            Key=key,
            UpdateExpression="SET epoch = epoch + :one",
            ConditionExpression="attribute_exists(sk) AND epoch = :seen",
            ExpressionAttributeValues={":one": {"N": "1"}, ":seen": {"N": "0"}},
        )
    )
    assert outcomes.count("won") == 1


def test_the_greatest_stamp_stays_whatever_the_order(dynamodb: Any, table: str, key: Any) -> None:
    def put(number: int) -> None:
        stamp = {"S": f"{number:036x}"}
        dynamodb.put_item(
            TableName=table,
            Item=key | {"_rw": stamp},
            ConditionExpression="attribute_not_exists(#s) OR #s < :mine",
            ExpressionAttributeNames={"#s": "_rw"},
            ExpressionAttributeValues={":mine": stamp},
        )

    all_at_once(put)
    stored = dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True)["Item"]
    assert stored["_rw"] == {"S": f"{THREADS - 1:036x}"}


def test_no_addition_is_lost(dynamodb: Any, table: str, key: Any) -> None:
    outcomes = all_at_once(
        lambda _: dynamodb.update_item(
            TableName=table,
            Key=key,
            UpdateExpression="ADD n :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )
    )
    assert outcomes == ["won"] * THREADS
    assert dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True)["Item"]["n"] == {"N": str(THREADS)}


@needs(Capability.TRANSACTIONS)
def test_one_of_many_transactions_with_one_receipt_wins(
    dynamodb: Any, table: str, keys: Callable[[int], list[Any]]
) -> None:
    receipt, counter = keys(2)
    outcomes = all_at_once(
        lambda _: dynamodb.transact_write_items(
            TransactItems=[
                {
                    "Put": {
                        "TableName": table,
                        "Item": receipt,
                        "ConditionExpression": "attribute_not_exists(pk)",
                    }
                },
                {
                    "Update": {
                        "TableName": table,
                        "Key": counter,
                        "UpdateExpression": "ADD n :one",
                        "ExpressionAttributeValues": {":one": {"N": "1"}},
                    }
                },
            ]
        )
    )
    assert outcomes.count("won") == 1
    assert dynamodb.get_item(TableName=table, Key=counter, ConsistentRead=True)["Item"]["n"] == {"N": "1"}
