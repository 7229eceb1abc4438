"""What an engine does instead of what it lacks, where mistaking it for DynamoDB would mislead us.

A difference that an engine's next version has not got any more fails here: then its table of lacks is to be mended.
"""

import uuid
from typing import Any

import pytest

from reliable_write.testing.engines import Capability, Engine
from tests.conformance.conftest import Conformance, key_schema
from tests.conformance.refusals import CONDITION_FAILED, refused

UNKNOWN_OPERATION = "UnknownOperationException"


def table_of(conformance: Conformance, engine: Engine) -> tuple[Any, str]:
    return conformance.client(engine), conformance.table(engine, "shared", key_schema(pk="S", sk="S"))


def fresh_key() -> dict[str, Any]:
    return {"pk": {"S": uuid.uuid4().hex}, "sk": {"S": "0"}}


def test_moto_applies_a_repeated_token_again(conformance: Conformance, moto: Engine) -> None:
    dynamodb, table = table_of(conformance, moto)
    key = fresh_key()
    add = {
        "TableName": table,
        "Key": key,
        "UpdateExpression": "ADD n :one",
        "ExpressionAttributeValues": {":one": {"N": "1"}},
    }
    for _ in range(2):
        dynamodb.transact_write_items(TransactItems=[{"Update": add}], ClientRequestToken="the same")
    assert dynamodb.get_item(TableName=table, Key=key)["Item"]["n"] == {"N": "2"}


def test_dynalite_refuses_transactions_by_name(conformance: Conformance, dynalite: Engine) -> None:
    dynamodb, table = table_of(conformance, dynalite)
    with refused(UNKNOWN_OPERATION):
        dynamodb.transact_write_items(TransactItems=[{"Put": {"TableName": table, "Item": fresh_key()}}])


def test_dynalite_keeps_the_old_item_to_itself(conformance: Conformance, dynalite: Engine) -> None:
    dynamodb, table = table_of(conformance, dynalite)
    key = fresh_key()
    dynamodb.put_item(TableName=table, Item=key)
    with refused(CONDITION_FAILED) as refusal:
        dynamodb.put_item(
            TableName=table,
            Item=key,
            ConditionExpression="attribute_not_exists(pk)",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    assert refusal.old_item is None


def test_dynalite_ignores_deletion_protection(conformance: Conformance, dynalite: Engine) -> None:
    dynamodb = conformance.client(dynalite)
    name = f"unprotected-{uuid.uuid4().hex[:8]}"
    answer = dynamodb.create_table(TableName=name, **key_schema(id="S"), DeletionProtectionEnabled=True)
    assert not answer["TableDescription"].get("DeletionProtectionEnabled")


def test_dynalite_refuses_time_to_live_by_name(conformance: Conformance, dynalite: Engine) -> None:
    dynamodb, table = table_of(conformance, dynalite)
    with refused(UNKNOWN_OPERATION):
        dynamodb.update_time_to_live(
            TableName=table, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"}
        )


@pytest.mark.parametrize("name", ["dynalite", "dynoxide", "dynamodb-local"])
def test_backups_are_refused_by_name(conformance: Conformance, request: pytest.FixtureRequest, name: str) -> None:
    engine: Engine = request.getfixturevalue(name.replace("-", "_"))
    dynamodb, table = table_of(conformance, engine)
    assert Capability.POINT_IN_TIME_RECOVERY in engine.lacks
    with refused(UNKNOWN_OPERATION):
        dynamodb.update_continuous_backups(
            TableName=table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
        )


@pytest.mark.parametrize("name", ["dynalite", "dynoxide"])
def test_all_regions_share_their_tables(conformance: Conformance, request: pytest.FixtureRequest, name: str) -> None:
    engine: Engine = request.getfixturevalue(name)
    _, table = table_of(conformance, engine)
    assert Capability.REGIONS in engine.lacks
    pages = engine.client(region_name="eu-west-1").get_paginator("list_tables").paginate()
    assert table in [name for page in pages for name in page["TableNames"]]


def test_ministack_takes_two_spellings_for_two_keys(conformance: Conformance, ministack: Engine) -> None:
    """Found here: whoever does not canonicalise number keys by himself has two items on this engine."""
    dynamodb = conformance.client(ministack)
    table = conformance.table(ministack, "numbered", key_schema(n="N"))
    dynamodb.put_item(TableName=table, Item={"n": {"N": "42"}})
    assert "Item" not in dynamodb.get_item(TableName=table, Key={"n": {"N": "42.0"}}, ConsistentRead=True)


def test_ministack_tells_no_capacity_of_a_batch_get(conformance: Conformance, ministack: Engine) -> None:
    dynamodb, table = table_of(conformance, ministack)
    answer = dynamodb.batch_get_item(RequestItems={table: {"Keys": [fresh_key()]}}, ReturnConsumedCapacity="TOTAL")
    assert "ConsumedCapacity" not in answer


def test_dynamodb_local_bills_nothing_for_absent_items(conformance: Conformance, dynamodb_local: Engine) -> None:
    dynamodb, table = table_of(conformance, dynamodb_local)
    answer = dynamodb.batch_get_item(
        RequestItems={table: {"Keys": [fresh_key()], "ConsistentRead": True}}, ReturnConsumedCapacity="TOTAL"
    )
    assert [part["CapacityUnits"] for part in answer["ConsumedCapacity"]] == [0.0]
