"""Consistent reads on the wire: what really leaves a client the scope is installed on, and what engines say to it."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import json
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from boto3.dynamodb.conditions import Key
from botocore.config import Config
from botocore.exceptions import ClientError

from reliable_write import ConfigurationError, ConsistentReadRefusedError, ConsistentReadScope, reads
from reliable_write.embedded import local_session
from reliable_write.testing.engines import Capability, Engine
from reliable_write.testing.faults import Fault, FaultPlan, deny, throttle
from tests.unit.fakes import ManualTime
from tests.world import World

PATIENCE_SECONDS = 10.0
READS = ("GetItem", "Query", "Scan", "BatchGetItem")
NOT_SAID = None
"""Nothing in the request: eventually consistent."""

KEY = {"id": {"S": "ada"}, "at": {"S": "1"}}
OF_ADA = {"KeyConditionExpression": "id = :id", "ExpressionAttributeValues": {":id": {"S": "ada"}}}
OF_LONDON = {"KeyConditionExpression": "city = :city", "ExpressionAttributeValues": {":city": {"S": "London"}}}
LOCAL, GLOBAL = "by-name", "by-city"


class House:
    """A table with a local and a global index, a client of its own, and all that leaves it."""

    def __init__(self, engine: Engine, unique_name: Callable[[str], str]) -> None:
        self.engine = engine
        self._unique_name = unique_name
        self.client = engine.client()
        self.table, self.other = self.make_table("people"), self.make_table("pets")
        self.wire = FaultPlan(self.client)

    def make_table(self, stem: str) -> str:
        name = self._unique_name(stem)
        self.client.create_table(
            TableName=name,
            KeySchema=_keys("id", "at"),
            AttributeDefinitions=[
                {"AttributeName": attribute, "AttributeType": "S"} for attribute in ("id", "at", "name", "city")
            ],
            BillingMode="PAY_PER_REQUEST",
            LocalSecondaryIndexes=[_index(LOCAL, "id", "name")],
            GlobalSecondaryIndexes=[_index(GLOBAL, "city")],
        )
        self.client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        for at in ("1", "2", "3"):
            item = {"id": "ada", "at": at, "name": f"Ada {at}", "city": "London"}
            self.client.put_item(TableName=name, Item={attribute: {"S": value} for attribute, value in item.items()})
        return name

    def read(self, operation: str, **more: Any) -> Any:
        """One read of this kind, as a service would write it."""
        match operation:
            case "GetItem":
                return self.client.get_item(TableName=self.table, Key=KEY, **more)
            case "Query":
                return self.client.query(TableName=self.table, **OF_ADA, **more)
            case "Scan":
                return self.client.scan(TableName=self.table, **more)
            case _:
                return self.client.batch_get_item(RequestItems={self.table: {"Keys": [KEY], **more}})

    def query_index(self, index: str, **more: Any) -> Any:
        condition = OF_ADA if index == LOCAL else OF_LONDON
        return self.client.query(**{"TableName": self.table, "IndexName": index, **condition, **more})

    def said(self) -> list[Any]:
        """What the reads sent since the last look say of consistency."""
        said = [word for call in self.wire.calls if call.operation in READS for word in _words(json.loads(call.body))]
        self.wire.calls.clear()
        return said

    def sent(self) -> list[str]:
        """All operations sent since the last look."""
        operations = [call.operation for call in self.wire.calls]
        self.wire.calls.clear()
        return operations


def _words(body: dict[str, Any]) -> list[Any]:
    requests = body["RequestItems"].values() if "RequestItems" in body else [body]
    return [request.get("ConsistentRead", NOT_SAID) for request in requests]


def _keys(*names: str) -> list[dict[str, str]]:
    return [{"AttributeName": name, "KeyType": kind} for name, kind in zip(names, ("HASH", "RANGE"), strict=False)]


def _index(name: str, *keys: str) -> dict[str, Any]:
    return {"IndexName": name, "KeySchema": _keys(*keys), "Projection": {"ProjectionType": "ALL"}}


@pytest.fixture
def house(real_engine: Engine, unique_name: Callable[[str], str]) -> Iterator[House]:
    """A house on each real engine in turn."""
    house = House(real_engine, unique_name)
    yield house
    house.client.close()


@pytest.fixture
def one_house(dynoxide: Engine, unique_name: Callable[[str], str]) -> Iterator[House]:
    """A house on the quickest engine, for what is between botocore and us."""
    house = House(dynoxide, unique_name)
    yield house
    house.client.close()


# --- the scope ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", READS)
def test_reads_are_consistent_inside_the_scope_and_only_there(house: House, operation: str) -> None:
    ConsistentReadScope.install(house.client)
    house.read(operation)
    with ConsistentReadScope():
        house.read(operation)
        with ConsistentReadScope(False):
            house.read(operation)
        house.read(operation)
    house.read(operation)
    assert house.said() == [NOT_SAID, True, NOT_SAID, True, NOT_SAID]


@pytest.mark.parametrize("operation", READS)
def test_everywhere_makes_all_reads_consistent_but_those_in_a_scope_that_says_no(house: House, operation: str) -> None:
    ConsistentReadScope.install(house.client, everywhere=True)
    house.read(operation)
    with ConsistentReadScope(False):
        house.read(operation)
    house.read(operation)
    assert house.said() == [True, NOT_SAID, True]


@pytest.mark.parametrize("operation", READS)
def test_what_the_call_itself_says_wins(one_house: House, operation: str) -> None:
    ConsistentReadScope.install(one_house.client, everywhere=True)
    with ConsistentReadScope():
        one_house.read(operation, ConsistentRead=False)
    with ConsistentReadScope(False):
        one_house.read(operation, ConsistentRead=True)
    assert one_house.said() == [False, True]


def test_a_batch_is_consistent_for_each_of_its_tables(house: House) -> None:
    ConsistentReadScope.install(house.client)
    request: dict[str, Any] = {house.table: {"Keys": [KEY]}, house.other: {"Keys": [KEY], "ConsistentRead": False}}
    with ConsistentReadScope():
        house.client.batch_get_item(RequestItems={house.table: {"Keys": [KEY]}, house.other: {"Keys": [KEY]}})
        answer = house.client.batch_get_item(RequestItems=request)
    assert house.said() == [True, True, True, False]
    assert {table: len(items) for table, items in answer["Responses"].items()} == {house.table: 1, house.other: 1}


@pytest.mark.parametrize("operation", ["query", "scan"])
def test_a_paginator_reads_every_page_by_the_scope_it_is_read_in(house: House, operation: str) -> None:
    ConsistentReadScope.install(house.client)
    paginator = house.client.get_paginator(operation)
    request = {"TableName": house.table, **(OF_ADA if operation == "query" else {})}

    def pages() -> Any:
        return paginator.paginate(**request, PaginationConfig={"PageSize": 1})

    with ConsistentReadScope():
        assert sum(len(page["Items"]) for page in pages()) == 3
    said = house.said()
    assert len(said) >= 3
    assert set(said) == {True}
    later = iter(pages())
    with ConsistentReadScope():
        next(later)
    next(later)
    assert house.said() == [True, NOT_SAID]


def test_threads_read_consistently_if_they_are_given_the_context(house: House) -> None:
    ConsistentReadScope.install(house.client)
    with ThreadPoolExecutor(4) as executor, ConsistentReadScope():
        for _ in range(8):
            executor.submit(contextvars.copy_context().run, house.read, "GetItem").result()
        given = house.said()
        for _ in range(8):
            executor.submit(contextvars.Context().run, house.read, "GetItem").result()
    assert (given, house.said()) == ([True] * 8, [NOT_SAID] * 8)


def test_tasks_at_once_read_each_by_its_own_scope(house: House) -> None:
    ConsistentReadScope.install(house.client)
    both = threading.Barrier(2)

    def read(operation: str) -> None:
        both.wait(PATIENCE_SECONDS)
        house.read(operation)

    async def inside() -> None:
        async with ConsistentReadScope():
            await asyncio.to_thread(read, "Query")

    async def outside() -> None:
        await asyncio.to_thread(read, "Scan")

    async def main() -> None:
        await asyncio.gather(inside(), outside())

    asyncio.run(main())
    said = {call.operation: json.loads(call.body).get("ConsistentRead") for call in house.wire.calls}
    assert said == {"Query": True, "Scan": NOT_SAID}


@pytest.mark.needs(Capability.TRANSACTIONS)
def test_transactions_and_writes_are_left_as_they_are(house: House) -> None:
    ConsistentReadScope.install(house.client, everywhere=True)
    gets: list[dict[str, Any]] = [{"Get": {"TableName": house.table, "Key": KEY}}]
    with ConsistentReadScope():
        house.client.transact_get_items(TransactItems=gets)
        house.client.put_item(TableName=house.table, Item=KEY)
    assert [b"ConsistentRead" in call.body for call in house.wire.calls] == [False, False]


# --- clients of every kind ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of_table", [False, True], ids=["resource", "table of a resource"])
def test_a_resource_and_its_tables_read_by_the_scope(house: House, of_table: bool) -> None:
    resource = local_session().resource("dynamodb", **_there(house))
    table = resource.Table(house.table)
    ConsistentReadScope.install(table if of_table else resource)
    house.wire = FaultPlan(resource.meta.client)
    key = {"id": "ada", "at": "1"}
    request: dict[str, Any] = {house.table: {"Keys": [dict(key)]}}
    before = copy.deepcopy((key, request))
    with ConsistentReadScope():
        found = table.get_item(Key=key)["Item"]
        assert table.query(KeyConditionExpression=Key("id").eq("ada"))["Count"] == 3
        assert table.scan()["Count"] == 3
        assert resource.batch_get_item(RequestItems=request)["Responses"][house.table] == [found]
        assert table.query(IndexName=GLOBAL, KeyConditionExpression=Key("city").eq("London"))["Count"] == 3
        assert table.query(IndexName=LOCAL, KeyConditionExpression=Key("id").eq("ada"))["Count"] == 3
    assert house.said() == [True, True, True, True, NOT_SAID, True]
    assert found == {**key, "name": "Ada 1", "city": "London"}
    assert (key, request) == before, "the caller's values were changed"
    table.get_item(Key=key)
    assert house.said() == [NOT_SAID]
    resource.meta.client.close()


def test_clients_and_resources_that_a_session_makes_later_read_by_the_scope(one_house: House) -> None:
    session = local_session()
    earlier = session.client("dynamodb", **_there(one_house))
    ConsistentReadScope.install(session, everywhere=True)
    later = session.client("dynamodb", **_there(one_house))
    ConsistentReadScope.install(session)
    by_scope = session.resource("dynamodb", **_there(one_house)).meta.client
    ConsistentReadScope.uninstall(session)
    after = session.client("dynamodb", **_there(one_house))
    for client, expected in {earlier: NOT_SAID, later: True, by_scope: NOT_SAID, after: NOT_SAID}.items():
        one_house.wire = FaultPlan(client)
        client.scan(TableName=one_house.table)
        assert one_house.said() == [expected]
    for client, expected in {earlier: NOT_SAID, later: True, by_scope: True, after: NOT_SAID}.items():
        one_house.wire = FaultPlan(client)
        with ConsistentReadScope():
            client.scan(TableName=one_house.table)
            client.scan(TableName=one_house.table, IndexName=GLOBAL)
        assert one_house.said() == [expected, NOT_SAID]
        client.close()


def test_a_session_still_makes_clients_of_other_services() -> None:
    session = local_session()
    ConsistentReadScope.install(session)
    assert session.client("sts", endpoint_url="http://127.0.0.1:1").meta.service_model.service_name == "sts"
    with pytest.raises(ConfigurationError, match="not one for sts"):
        ConsistentReadScope.install(session.client("sts", endpoint_url="http://127.0.0.1:1"))


def _there(house: House) -> dict[str, Any]:
    return {"endpoint_url": house.engine.endpoint_url, "config": Config(proxies={}, retries={"total_max_attempts": 1})}


# --- installing -----------------------------------------------------------------------------------------------------


def test_a_client_it_was_not_installed_on_reads_as_ever(one_house: House) -> None:
    with ConsistentReadScope():
        one_house.read("GetItem")
    assert one_house.said() == [NOT_SAID]


def test_installing_again_replaces_the_options(one_house: House) -> None:
    ConsistentReadScope.install(one_house.client, everywhere=True, on_index="refuse")
    ConsistentReadScope.install(one_house.client)
    one_house.read("GetItem")
    with ConsistentReadScope():
        one_house.query_index(GLOBAL)
    assert one_house.said() == [NOT_SAID, NOT_SAID]
    ConsistentReadScope.install(one_house.client, everywhere=True, on_index="refuse")
    one_house.read("GetItem")
    assert one_house.said() == [True]
    with pytest.raises(ConsistentReadRefusedError):
        one_house.query_index(GLOBAL)


def test_uninstalling_undoes_however_often_it_was_installed(one_house: House) -> None:
    for _ in range(2):
        ConsistentReadScope.install(one_house.client, everywhere=True)
    for _ in range(2):
        ConsistentReadScope.uninstall(one_house.client)
        one_house.read("GetItem")
    ConsistentReadScope.install(one_house.client, everywhere=True)
    one_house.read("GetItem")
    assert one_house.said() == [NOT_SAID, NOT_SAID, True]


def test_what_was_known_of_tables_goes_with_uninstalling_and_stays_with_new_options(one_house: House) -> None:
    for _ in range(2):
        ConsistentReadScope.install(one_house.client, everywhere=True)
        one_house.query_index(LOCAL)
    ConsistentReadScope.uninstall(one_house.client)
    ConsistentReadScope.install(one_house.client, everywhere=True)
    one_house.query_index(LOCAL)
    assert one_house.sent() == ["DescribeTable", "Query", "Query", "DescribeTable", "Query"]


def test_the_callers_dicts_stay_as_they_are(one_house: House) -> None:
    ConsistentReadScope.install(one_house.client)
    batch = {"RequestItems": {one_house.table: {"Keys": [KEY]}}}
    get, query = {"TableName": one_house.table, "Key": KEY}, {"TableName": one_house.table, **OF_ADA}
    before = copy.deepcopy((batch, get, query))
    with ConsistentReadScope():
        one_house.client.batch_get_item(**batch)
        one_house.client.get_item(**get)
        one_house.client.query(**query)
    assert one_house.said() == [True, True, True]
    assert (batch, get, query) == before


@pytest.mark.parametrize("first", ["theirs", "ours"])
@pytest.mark.parametrize("event", ["provide-client-params.dynamodb", "before-parameter-build.dynamodb"])
@pytest.mark.parametrize("operations", [("Query",), ("Query", "DescribeTable")], ids=["reads", "all"])
def test_what_other_handlers_make_of_a_request_is_kept(
    one_house: House, first: str, event: str, operations: tuple[str, ...]
) -> None:
    prefix, name = one_house.table[:3], one_house.table[3:]

    def prefixed(params: dict[str, Any], model: Any, **_: Any) -> dict[str, Any]:
        if model.name not in operations:
            return params
        changed = {**params, "TableName": prefix + params["TableName"]}
        if event.startswith("before-parameter-build"):  # answers do not count there
            params.update(changed)
        return changed

    if first == "ours":
        ConsistentReadScope.install(one_house.client)
    one_house.client.meta.events.register(event, prefixed)
    ConsistentReadScope.install(one_house.client)
    with ConsistentReadScope():
        assert one_house.client.query(TableName=name, **OF_ADA)["Count"] == 3
        one_house.client.query(TableName=name, IndexName=LOCAL, **OF_ADA)
        one_house.client.query(TableName=name, IndexName=GLOBAL, **OF_LONDON)
    assert one_house.said() == [True, True, NOT_SAID]


@pytest.mark.parametrize(
    "wrong",
    [
        ("query", {"IndexName": "by-name"}),
        ("query", {"TableName": ["people"], "IndexName": "by-name"}),
        ("scan", {"TableName": "people", "IndexName": ["by-name"]}),
        ("batch_get_item", {"RequestItems": ["people"]}),
        ("batch_get_item", {"RequestItems": {"people": [KEY]}}),
        ("get_item", {"TableName": "people"}),
    ],
    ids=str,
)
def test_a_malformed_request_is_refused_by_botocore_as_ever(
    one_house: House, wrong: tuple[str, dict[str, Any]]
) -> None:
    method, given = wrong
    request = {**given, "TableName": one_house.table} if given.get("TableName") == "people" else given
    read = getattr(one_house.client, method)
    with pytest.raises(Exception, match=r"\w") as before:
        read(**request)
    ConsistentReadScope.install(one_house.client, on_index="refuse")
    with ConsistentReadScope(), pytest.raises(type(before.value), match=r"\w") as now:
        read(**request)
    assert str(now.value) == str(before.value)


def test_an_installed_client_can_be_let_go(one_house: House) -> None:
    client = one_house.engine.client()
    ConsistentReadScope.install(client)
    with ConsistentReadScope():
        client.scan(TableName=one_house.table, IndexName=LOCAL)
    client.close()
    gone = weakref.ref(client)
    gc.disable()
    try:
        del client
        assert gone() is None, "something holds the client, or its own handlers do"
    finally:
        gc.enable()


def test_a_writer_may_share_the_client(world: World) -> None:
    table = world.table("people")
    writer = world.writer()
    ConsistentReadScope.install(writer.client, everywhere=True, on_index="refuse")
    with ConsistentReadScope(), writer.begin() as scope:
        scope.put_item(table, Item={"id": "ada"})
    assert len(world.items(table)) == 1


# --- indexes --------------------------------------------------------------------------------------------------------


def test_a_local_index_is_read_consistently_and_a_global_one_as_it_can_be(house: House) -> None:
    ConsistentReadScope.install(house.client)
    with ConsistentReadScope():
        assert house.query_index(LOCAL)["Count"] == 3
        house.query_index(GLOBAL)
        house.client.scan(TableName=house.table, IndexName=LOCAL)
        house.client.scan(TableName=house.table, IndexName=GLOBAL)
    assert house.said() == [True, NOT_SAID, True, NOT_SAID]


def test_a_global_index_cannot_be_read_consistently(house: House) -> None:
    with pytest.raises(ClientError, match="Consistent reads are not supported on global secondary indexes"):
        house.query_index(GLOBAL, ConsistentRead=True)


@pytest.mark.parametrize("operation", ["query", "scan"])
def test_a_global_index_is_refused_where_that_was_chosen_before_anything_is_sent(house: House, operation: str) -> None:
    ConsistentReadScope.install(house.client, on_index="refuse")
    request = {"TableName": house.table, "IndexName": GLOBAL, **(OF_LONDON if operation == "query" else {})}
    read = getattr(house.client, operation)
    with ConsistentReadScope():
        with pytest.raises(ConsistentReadRefusedError, match="not a local one") as refused:
            read(**request)
        assert house.sent() == ["DescribeTable"]
        house.query_index(LOCAL)
        with ConsistentReadScope(False):
            read(**request)
        read(**request, ConsistentRead=False)
    read(**request)
    assert (refused.value.table, refused.value.index) == (house.table, GLOBAL)
    assert house.said() == [True, NOT_SAID, False, NOT_SAID]


def test_a_table_is_described_once_and_only_for_reads_of_an_index_that_may_be_consistent(one_house: House) -> None:
    ConsistentReadScope.install(one_house.client)
    one_house.query_index(LOCAL)
    with ConsistentReadScope():
        one_house.read("Query")
        one_house.query_index(LOCAL, ConsistentRead=True)
    assert "DescribeTable" not in one_house.sent()
    with ConsistentReadScope():
        for index in (LOCAL, GLOBAL, LOCAL):
            one_house.query_index(index)
    assert one_house.sent() == ["DescribeTable", "Query", "Query", "Query"]


def test_threads_that_meet_an_unknown_table_at_once_all_read_it_right(house: House) -> None:
    ConsistentReadScope.install(house.client, everywhere=True)
    together = threading.Barrier(6)

    def read(index: str) -> None:
        together.wait(PATIENCE_SECONDS)
        house.query_index(index)

    with ThreadPoolExecutor(6) as executor:
        for done in [executor.submit(read, index) for index in (LOCAL, GLOBAL) * 3]:
            done.result()
    said = [(body["IndexName"], body.get("ConsistentRead")) for body in _queries(house)]
    assert sorted(said, key=str) == sorted([(LOCAL, True), (GLOBAL, NOT_SAID)] * 3, key=str)


def _queries(house: House) -> list[dict[str, Any]]:
    return [json.loads(call.body) for call in house.wire.calls if call.operation == "Query"]


@pytest.mark.parametrize("on_index", ["skip", "refuse"])
@pytest.mark.parametrize(("fault", "passing"), [(deny, False), (throttle, True)], ids=["denied", "throttled"])
def test_an_index_that_may_be_either_is_never_read_as_if_it_were_known(
    one_house: House, monkeypatch: pytest.MonkeyPatch, on_index: reads.OnIndex, fault: Fault, passing: bool
) -> None:
    monkeypatch.setattr(reads, "SystemTime", ManualTime)
    ConsistentReadScope.install(one_house.client, on_index=on_index)
    with one_house.wire.on("DescribeTable", fault), ConsistentReadScope():
        for index in (LOCAL, GLOBAL):
            with pytest.raises(ConsistentReadRefusedError, match="dynamodb:DescribeTable on the table") as refused:
                one_house.query_index(index)
            assert (refused.value.table, refused.value.index) == (one_house.table, index)
            assert refused.value.retryable is passing
            assert isinstance(refused.value.__cause__, ClientError)
        assert set(one_house.sent()) == {"DescribeTable"}
        one_house.query_index(LOCAL, ConsistentRead=True)
        one_house.read("Query")
    assert one_house.wire.injected >= 2
    with ConsistentReadScope():
        one_house.query_index(LOCAL)


@pytest.mark.parametrize("on_index", ["skip", "refuse"])
def test_a_missing_table_or_index_is_told_by_the_engine_as_ever(house: House, on_index: reads.OnIndex) -> None:
    ConsistentReadScope.install(house.client, on_index=on_index)
    with ConsistentReadScope():
        with pytest.raises(house.client.exceptions.ResourceNotFoundException, match="when calling the Query operation"):
            house.query_index(LOCAL, TableName=house.table + "-not")
        assert house.said() == [True], "made a moment later, its local index would have been read as it came"
        expected = ClientError if on_index == "skip" else ConsistentReadRefusedError
        with pytest.raises(expected, match=r"by-none|ValidationException"):
            house.client.query(TableName=house.table, IndexName="by-none", **OF_ADA)


def test_a_table_may_be_named_by_its_arn(ministack: Engine, unique_name: Callable[[str], str]) -> None:
    house = House(ministack, unique_name)
    arn = house.client.describe_table(TableName=house.table)["Table"]["TableArn"]
    ConsistentReadScope.install(house.client)
    house.said()
    with ConsistentReadScope():
        house.query_index(LOCAL, TableName=arn)
        house.query_index(GLOBAL, TableName=arn)
        house.client.batch_get_item(RequestItems={arn: {"Keys": [KEY]}})
    assert house.said() == [True, NOT_SAID, True]
    house.client.close()
