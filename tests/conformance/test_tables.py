"""What `init` sets up and reads back, and what the schema cache asks."""

from typing import Any

import pytest

from reliable_write.testing.engines import Capability, Engine
from tests.conformance.conftest import CreateTable, key_schema
from tests.conformance.refusals import INVALID, NO_TABLE, TABLE_IN_USE, refused

needs = pytest.mark.needs


def test_describe_tells_the_keys_and_their_types(dynamodb: Any, table: str) -> None:
    description = dynamodb.describe_table(TableName=table)["Table"]
    expected = key_schema(pk="S", sk="S")
    assert description["KeySchema"] == expected["KeySchema"]
    assert sorted(description["AttributeDefinitions"], key=str) == sorted(expected["AttributeDefinitions"], key=str)
    assert description["TableStatus"] == "ACTIVE"


def test_describe_tells_the_indexes(dynamodb: Any, indexed_table: str) -> None:
    (index,) = dynamodb.describe_table(TableName=indexed_table)["Table"]["GlobalSecondaryIndexes"]
    assert index["IndexName"] == "by-rank"
    assert index["KeySchema"] == [{"AttributeName": "rank", "KeyType": "HASH"}]


def test_describe_tells_the_local_indexes(dynamodb: Any, create_table: CreateTable) -> None:
    schema = key_schema(pk="S", sk="S")
    schema["AttributeDefinitions"].append({"AttributeName": "due", "AttributeType": "N"})
    keys = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "due", "KeyType": "RANGE"}]
    index = {"IndexName": "by-due", "KeySchema": keys, "Projection": {"ProjectionType": "ALL"}}
    table = create_table(**schema, LocalSecondaryIndexes=[index])
    (described,) = dynamodb.describe_table(TableName=table)["Table"]["LocalSecondaryIndexes"]
    assert described["KeySchema"] == keys


def test_describe_of_an_unknown_table_is_refused(dynamodb: Any) -> None:
    with refused(NO_TABLE):
        dynamodb.describe_table(TableName="no-such-table")


def test_a_table_is_not_created_twice(dynamodb: Any, create_table: CreateTable) -> None:
    table = create_table(**key_schema(id="S"))
    with refused(TABLE_IN_USE):
        dynamodb.create_table(TableName=table, **key_schema(id="S"))


def test_the_waiter_sees_a_new_table(dynamodb: Any, create_table: CreateTable) -> None:
    table = create_table(**key_schema(id="S"))
    dynamodb.get_waiter("table_exists").wait(TableName=table, WaiterConfig={"Delay": 1, "MaxAttempts": 5})


def test_tables_are_listed_in_pages(dynamodb: Any, table: str, other_table: str) -> None:
    names: list[str] = []
    start: dict[str, Any] = {}
    while True:
        page = dynamodb.list_tables(Limit=1, **start)
        names += page["TableNames"]
        if "LastEvaluatedTableName" not in page:
            break
        start = {"ExclusiveStartTableName": page["LastEvaluatedTableName"]}
    assert {table, other_table} <= set(names)


def test_on_demand_billing_is_kept(dynamodb: Any, table: str) -> None:
    description = dynamodb.describe_table(TableName=table)["Table"]
    assert description["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"


def test_a_key_schema_with_an_undefined_attribute_is_refused(dynamodb: Any) -> None:
    schema = key_schema(id="S") | {"AttributeDefinitions": [{"AttributeName": "x", "AttributeType": "S"}]}
    with refused(INVALID):
        dynamodb.create_table(TableName="undefined-key", **schema)


@needs(Capability.TTL)
def test_time_to_live_is_set_and_told(dynamodb: Any, create_table: CreateTable) -> None:
    table = create_table(**key_schema(id="S"))
    dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"})
    described = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    assert described["TimeToLiveStatus"] in {"ENABLING", "ENABLED"}
    assert described["AttributeName"] == "expires"


def test_time_to_live_is_off_at_first(dynamodb: Any, table: str) -> None:
    described = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    assert described["TimeToLiveStatus"] == "DISABLED"


@needs(Capability.POINT_IN_TIME_RECOVERY)
def test_point_in_time_recovery_is_set_and_told(dynamodb: Any, create_table: CreateTable) -> None:
    table = create_table(**key_schema(id="S"))
    dynamodb.update_continuous_backups(
        TableName=table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
    described = dynamodb.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
    assert described["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"


@needs(Capability.DELETION_PROTECTION)
def test_a_protected_table_is_not_deleted(dynamodb: Any, create_table: CreateTable) -> None:
    table = create_table(**key_schema(id="S"), DeletionProtectionEnabled=True)
    assert dynamodb.describe_table(TableName=table)["Table"]["DeletionProtectionEnabled"] is True
    with refused(INVALID):
        dynamodb.delete_table(TableName=table)
    dynamodb.update_table(TableName=table, DeletionProtectionEnabled=False)


@needs(Capability.REGIONS)
def test_each_region_has_its_own_tables(engine: Engine, dynamodb: Any, table: str) -> None:
    elsewhere = engine.client(region_name="eu-west-1")
    assert table in dynamodb.list_tables()["TableNames"]
    assert table not in elsewhere.list_tables()["TableNames"]
