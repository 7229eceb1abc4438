"""Reading and writing through the record store: keys, batches, and what is told when it fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pytest
from boto3.dynamodb.conditions import Attr, Key
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from pydantic import BeforeValidator, PlainSerializer

from reliable_write import (
    ConfigurationError,
    DuplicateKeyError,
    FloatAs,
    HashKey,
    InvalidExpressionError,
    InvalidKeyError,
    NestedScopeError,
    PropagationPendingError,
    RangeKey,
    ReadFailedError,
    Record,
    RecordDefinitionError,
    RecordLoadError,
    RecordStore,
    ReliableWriteScope,
    TooManyOperationsError,
    UnknownTableError,
    UnsupportedOperationError,
)
from reliable_write.operations import StampNames
from reliable_write.system_table import Installation
from reliable_write.testing.engines import Engine
from reliable_write.testing.faults import Call, FaultPlan, deny, throttle
from tests.clocks import StandingTime
from tests.integration.jobs import ADA, Job, Thing, bodies, client_of, job_table, jobs, keyed, store, things
from tests.records import placed
from tests.world import World

__all__ = ["jobs", "store", "things"]


# --- by key -----------------------------------------------------------------------------------------------------------


def test_a_record_is_put_read_and_deleted_by_its_key(every_world: World) -> None:
    kind = placed(Job, every_world.table("jobs", "employee:S", "started:S"))
    store = RecordStore(every_world.writer())
    job = kind(employee=ADA, started=date(2020, 1, 1), pay=Decimal("12.50"))
    store.put(job)
    assert store.get(kind, ADA, date(2020, 1, 1), consistent=True) == job
    assert store.get(kind, ADA, date(2021, 1, 1), consistent=True) is None
    store.delete_key(kind, ADA, date(2020, 1, 1))
    assert store.get(kind, ADA, date(2020, 1, 1), consistent=True) is None
    store.put(job)
    store.delete(job)
    assert store.get(kind, ADA, date(2020, 1, 1), consistent=True) is None


def test_stamps_never_reach_a_record_whatever_they_are_called(
    dynoxide: Engine, unique_name: Callable[[str], str]
) -> None:
    world = World(dynoxide, unique_name, Installation(names=StampNames("written", "changed")))

    class Strict(Record, table=world.table("strict"), unknown="refuse"):
        id: Annotated[str, HashKey()]

    writer = world.writer()
    store = RecordStore(writer)
    with writer.begin() as scope:
        scope.put(Strict(id="a"))
    with writer.begin() as scope:
        scope.update_item(Strict.__layout__.table, Key={"id": "a"}, remove=["nothing"])
    item = world.item(Strict.__layout__.table, id={"S": "a"})
    assert item is not None
    assert set(item) == {"id", "written", "changed"}
    assert store.get(Strict, "a") == Strict(id="a")
    assert list(store.scan(Strict)) == [Strict(id="a")]
    assert store.get(Strict, "a", pending=True).record == Strict(id="a")
    world.close()


@pytest.mark.parametrize("key", [(), (ADA,), (ADA, date(2020, 1, 1), 3)])
def test_a_key_has_as_many_values_as_the_table(store: RecordStore, key: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidKeyError, match="employee, started"):
        store.get(Job, *key)
    with pytest.raises(InvalidKeyError, match="employee, started"):
        store.delete_key(Job, *key)
    with pytest.raises(InvalidKeyError, match="employee, started"):
        store.batch_get(Job, [key])


def test_what_is_no_record_class_or_has_no_table_is_refused(store: RecordStore) -> None:
    class Tableless(Record):
        id: str

    with pytest.raises(TypeError, match="derived from Record"):
        store.get(dict, "a")  # type: ignore[type-var]
    with pytest.raises(RecordDefinitionError, match="Tableless"):
        store.get(Tableless, "a")
    with pytest.raises(TypeError, match="ReliableWriter"):
        RecordStore("client")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="on_index"):
        RecordStore(store._writer, on_index="ignore")  # type: ignore[arg-type]


# --- many by key ------------------------------------------------------------------------------------------------------


def test_a_batch_comes_in_the_order_of_its_keys_with_none_for_what_is_not_there(every_world: World) -> None:
    kind = placed(Thing, every_world.table("things"))
    store = RecordStore(every_world.writer())
    store.put_all([kind(id=f"t{number}", n=number) for number in range(120)])
    wanted = ["t7", "gone", *(f"t{number}" for number in reversed(range(120))), "t7"]
    found = store.batch_get(kind, wanted, consistent=True)
    assert [None if thing is None else thing.id for thing in found] == [
        None if key == "gone" else key for key in wanted
    ]
    assert found[0] is not found[-1], "each is an object of its own"
    assert store.batch_get(kind, []) == []


def test_a_batch_asks_for_a_hundred_at_a_time_and_for_no_key_twice(store: RecordStore, things: type[Thing]) -> None:
    with FaultPlan(client_of(store)) as plan:
        store.batch_get(things, [f"t{number % 250}" for number in range(500)])
    asked = [part["Keys"] for body in bodies(plan, "BatchGetItem") for part in body["RequestItems"].values()]
    assert sorted(map(len, asked)) == [50, 100, 100]


def test_unprocessed_keys_are_asked_for_again_until_the_deadline(world: World, things: type[Thing]) -> None:
    writer = world.hasty()
    store = RecordStore(writer)
    store.put_all([things(id=f"t{number}") for number in range(5)])
    keys = [f"t{number}" for number in range(5)]
    with FaultPlan(writer.client).on("BatchGetItem", unprocessed, times=2) as plan:
        assert None not in store.batch_get(things, keys)
    assert (plan.injected, plan.count("BatchGetItem")) == (2, 3)
    with (
        FaultPlan(writer.client).on("BatchGetItem", unprocessed),
        pytest.raises(ReadFailedError, match=r"UnprocessedKeys|DeadlinePassed") as failed,
    ):
        store.batch_get(things, keys)
    assert failed.value.retryable


class Raw:
    """A body as urllib3 hands it on."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._body


def unprocessed(call: Call) -> AWSResponse:
    """Nothing of the batch was handled."""
    asked = json.loads(call.body)["RequestItems"]
    body = json.dumps({"Responses": {table: [] for table in asked}, "UnprocessedKeys": asked}).encode()
    return AWSResponse("http://injected", 200, HTTPHeaders(), Raw(body))


# --- many at once -----------------------------------------------------------------------------------------------------


def test_put_all_takes_625_in_one_scope_and_names_the_number_of_more(world: World, things: type[Thing]) -> None:
    store = RecordStore(world.writer(time=StandingTime()))
    records = [things(id=f"t{number}") for number in range(626)]
    with FaultPlan(client_of(store)) as plan, pytest.raises(TooManyOperationsError, match="626 records") as refused:
        store.put_all(records)
    assert plan.calls == []
    assert "625" in refused.value.message
    receipt = store.put_all(records[:625])
    assert (receipt.operations, sum(1 for _ in store.scan(things, consistent=True))) == (25, 625)
    store.delete_all(records[:625])
    assert list(store.scan(things, consistent=True)) == []


def test_put_all_takes_records_of_several_tables(world: World, store: RecordStore, things: type[Thing]) -> None:
    others = placed(Thing, world.table("others"))
    mixed = [kind(id=f"t{number}") for number in range(30) for kind in (things, others)]
    assert store.put_all(mixed).operations == 4
    assert store.put_all([]).operations == 0
    assert len(list(store.scan(things))) == len(list(store.scan(others))) == 30
    with pytest.raises(TooManyOperationsError, match="26 batches"):
        store.put_all([placed(Thing, f"table{number}")(id="a") for number in range(26)])
    with pytest.raises(DuplicateKeyError):
        store.put_all([mixed[0], mixed[0]])


def test_the_store_refuses_to_write_beside_an_open_scope_unless_it_is_meant(world: World, things: type[Thing]) -> None:
    writer = world.writer()
    store = RecordStore(writer)
    with ReliableWriteScope(writer) as scope:
        for write in (store.put, store.delete):
            with pytest.raises(NestedScopeError, match=r"scope\.put\(record\)"):
                write(things(id="a"))
        with pytest.raises(NestedScopeError, match=r"scope\.put\(record\)"):
            store.delete_key(things, "a")
        store.put(things(id="b"), independent=True)
        scope.discard()
    assert [thing.id for thing in store.scan(things)] == ["b"]


# --- when something is wrong ------------------------------------------------------------------------------------------


def test_a_record_that_cannot_be_loaded_is_told_by_table_key_and_fields_never_by_values(
    world: World, store: RecordStore, things: type[Thing]
) -> None:
    table = things.__layout__.table
    world.client.put_item(TableName=table, Item={"id": {"S": "my-key"}, "n": {"S": "a secret"}})
    for read in (
        lambda: store.get(things, "my-key"),
        lambda: store.batch_get(things, ["my-key"]),
        lambda: list(store.scan(things)),
        lambda: list(store.query(things, "my-key")),
        lambda: store.get(things, "my-key", pending=True),
    ):
        with pytest.raises(RecordLoadError) as unloadable:
            read()
        error = unloadable.value
        assert (error.table, error.key) == (table, {"id": "my-key"})
        assert table in error.message
        for shown in (str(error), repr(error.__cause__), repr(error.__context__)):
            assert "secret" not in shown
            assert "my-key" not in shown


@pytest.mark.parametrize(
    ("fault", "words", "retryable"),
    [(deny, "dynamodb:GetItem", False), (throttle, "throttled", True)],
)
def test_a_read_without_an_answer_says_what_to_do(
    world: World, things: type[Thing], fault: Any, words: str, retryable: bool
) -> None:
    writer = world.hasty()
    store = RecordStore(writer)
    writer.engine()
    for operation, read in (
        ("GetItem", lambda: store.get(things, "a")),
        ("BatchGetItem", lambda: store.batch_get(things, ["a"])),
        ("Scan", lambda: list(store.scan(things))),
        ("Query", lambda: list(store.query(things, "a"))),
    ):
        with FaultPlan(writer.client).on(operation, fault), pytest.raises(ReadFailedError, match=words) as failed:
            read()
        assert (failed.value.retryable, failed.value.table) == (retryable, things.__layout__.table)


def test_a_throttled_read_is_tried_again(store: RecordStore, things: type[Thing]) -> None:
    store.put(things(id="a"))
    with FaultPlan(client_of(store)).on("GetItem", throttle, times=2) as plan:
        assert store.get(things, "a") is not None
    assert plan.injected == 2


def test_a_table_that_is_not_there_is_named(store: RecordStore) -> None:
    nowhere = placed(Thing, "nowhere-at-all")
    for read in (
        lambda: store.get(nowhere, "a"),
        lambda: store.batch_get(nowhere, ["a"]),
        lambda: list(store.scan(nowhere)),
        lambda: store.query(nowhere, "a", index="some"),
    ):
        with pytest.raises(UnknownTableError, match="nowhere-at-all"):
            read()


# --- pending ----------------------------------------------------------------------------------------------------------


def test_a_look_tells_the_record_and_what_is_pending_on_it(world: World, things: type[Thing]) -> None:
    others = placed(Thing, world.table("others"))
    writer = world.writer()
    store = RecordStore(writer)
    store.put(things(id="a", n=1))
    quiet = store.get(things, "a", pending=True)
    assert (quiet.record, quiet.fractured, quiet.settled, quiet.pending) == (things(id="a", n=1), False, True, ())
    table = f'"{things.__layout__.table}"'.encode()
    with FaultPlan(writer.client).on("PutItem", deny, having=table), pytest.raises(PropagationPendingError) as pending:
        store.put_all([things(id="a", n=2), others(id="b")])
    look = store.get(things, "a", pending=True)
    assert (look.record, look.fractured, look.settled) == (things(id="a", n=1), True, False)
    assert [change.write_id for change in look.pending] == [pending.value.write_id]
    world.writer().recovery.resume_all()
    assert store.get(things, "a", pending=True, wait=5.0).record == things(id="a", n=2)
    assert store.get(things, "gone", pending=True).record is None
    with pytest.raises(ValueError, match="always consistent"):
        store.get(things, "a", pending=True, consistent=False)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="nothing to wait for"):
        store.get(things, "a", wait=1.0)  # type: ignore[call-overload]


NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_a_float_is_compared_as_its_field_keeps_it(world: World, store: RecordStore) -> None:
    class Rate(Record, table=world.table("rates")):
        id: Annotated[str, HashKey()]
        number: Annotated[float, FloatAs.NUMBER]
        text: Annotated[float, FloatAs.STRING]

    store.put_all([Rate(id="a", number=0.1, text=0.1), Rate(id="b", number=0.2, text=0.2)])
    assert [rate.id for rate in store.scan(Rate, filter=Attr("number").gt(0.15))] == ["b"]
    assert [rate.id for rate in store.scan(Rate, filter=Attr("text").eq(0.1))] == ["a"]


def test_a_part_of_a_text_and_a_member_of_a_set_are_no_values_of_their_field(world: World, store: RecordStore) -> None:
    class Day(Record, table=world.table("days", "id:S", "day:S")):
        id: Annotated[str, HashKey()]
        day: Annotated[
            date, PlainSerializer(lambda day: day.strftime("%Y/%m/%d")), BeforeValidator(slashed), RangeKey()
        ]
        people: set[UUID] = set()

    store.put_all([Day(id="a", day=date(year, 1, 2), people={ADA} if year == 2020 else set()) for year in (2020, 2021)])
    assert [day.day.year for day in store.query(Day, "a", Key("day").begins_with("2021/"))] == [2021]
    assert [day.day.year for day in store.query(Day, "a", Key("day").lt(date(2020, 6, 1)))] == [2020]
    assert [day.day.year for day in store.scan(Day, filter=Attr("people").contains(ADA))] == [2020]
    with pytest.raises(InvalidExpressionError, match="day is compared with a value of type int"):
        store.query(Day, "a", Key("day").gt(7))


def slashed(value: object) -> object:
    return value.replace("/", "-") if isinstance(value, str) else value


def test_an_index_that_was_added_since_is_found(world: World, store: RecordStore) -> None:
    plain = world.table("jobs", "employee:S", "started:S")
    jobs = placed(Job, plain)
    with pytest.raises(UnknownTableError, match="it has: none"):
        store.query(jobs, "London", index="by-city")
    world.client.delete_table(TableName=plain)
    world.client.create_table(**indexed(plain))
    assert list(store.query(jobs, "London", index="by-city")) == []


def indexed(table: str) -> dict[str, Any]:
    return {
        "TableName": table,
        "KeySchema": keyed("employee", "started"),
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": "S"} for name in ("employee", "started", "city")
        ],
        "GlobalSecondaryIndexes": [
            {"IndexName": "by-city", "KeySchema": keyed("city", "started"), "Projection": {"ProjectionType": "ALL"}}
        ],
        "BillingMode": "PAY_PER_REQUEST",
    }


def test_an_index_is_refused_where_unknown_attributes_are_kept(world: World, store: RecordStore) -> None:
    class Keys(Record, table=job_table(world), unknown="keep"):
        employee: Annotated[UUID, HashKey()]
        started: Annotated[date, RangeKey()]
        city: str

    with pytest.raises(UnsupportedOperationError, match="unknown attributes would be missing"):
        store.query(Keys, "London", index="by-city-keys")
    assert list(store.query(placed(Keys, Keys.__layout__.table), "London", index="by-city")) == []


def test_a_datetime_and_a_number_are_keys_too(world: World, store: RecordStore) -> None:
    class Reading(Record, table=world.table("readings", "sensor:N", "at:S")):
        sensor: Annotated[int, HashKey()]
        at: Annotated[datetime, RangeKey()]

    store.put(Reading(sensor=7, at=NOON))
    assert store.get(Reading, 7, NOON) == Reading(sensor=7, at=NOON)
    assert store.batch_get(Reading, [(7, NOON), (8, NOON), (7, NOON)]) == [
        Reading(sensor=7, at=NOON),
        None,
        Reading(sensor=7, at=NOON),
    ]
    assert len(list(store.query(Reading, 7, Key("at").lte(NOON)))) == 1
