"""Queries of the record store: conditions, filters, pages, indexes, consistency."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Annotated, Any
from uuid import uuid4

import pytest
from boto3.dynamodb.conditions import Attr, ConditionBase, Key
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from reliable_write import (
    ConsistentReadRefusedError,
    ConsistentReadScope,
    HashKey,
    InvalidExpressionError,
    InvalidItemError,
    InvalidKeyError,
    RangeKey,
    Record,
    RecordStore,
    UnknownTableError,
    UnsupportedOperationError,
)
from reliable_write.testing.faults import FaultPlan
from tests.integration.jobs import ADA, Grade, Job, Thing, bodies, client_of, job_table, jobs, store, things, yearly
from tests.records import placed
from tests.world import World

__all__ = ["jobs", "store", "things"]

BOTH = Attr("started").gt("a")


# --- queries ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "years"),
    [
        (None, [2018, 2019, 2020, 2021]),
        (date(2019, 1, 1), [2019]),
        (Key("started").eq(date(2019, 1, 1)), [2019]),
        (Key("started").lt(date(2019, 1, 1)), [2018]),
        (Key("started").gte(date(2020, 1, 1)), [2020, 2021]),
        (Key("started").between(date(2019, 1, 1), date(2020, 6, 1)), [2019, 2020]),
        (Key("started").begins_with("202"), [2020, 2021]),
    ],
)
def test_a_query_takes_a_condition_on_the_range_key_with_the_records_own_values(
    store: RecordStore, jobs: type[Job], condition: Any, years: list[int]
) -> None:
    store.put_all(yearly(jobs, range(2018, 2022)))
    assert [job.started.year for job in store.query(jobs, ADA, condition)] == years
    assert list(store.query(jobs, uuid4(), condition)) == []


@pytest.mark.parametrize(
    ("condition", "years"),
    [
        (Attr("grade").eq(Grade.SENIOR), [2020]),
        (Attr("grade").is_in([Grade.SENIOR, Grade.JUNIOR]), [2018, 2019, 2020]),
        (Attr("pay").gt(Decimal(1)), [2020]),
        (Attr("salary").gt(Decimal(1)) & ~Attr("city").eq("Paris"), [2020]),
        (Attr("city").size().gt(5) | Attr("salary").eq(Decimal(2)), [2018, 2019, 2020]),
        (Attr("city").contains("don") & Attr("city").exists() & Attr("city").attribute_type("S"), [2018, 2019, 2020]),
        (Attr("city").not_exists(), []),
    ],
)
def test_a_filter_takes_the_names_of_fields_and_attributes_and_the_records_own_values(
    store: RecordStore, jobs: type[Job], condition: ConditionBase, years: list[int]
) -> None:
    store.put_all([*yearly(jobs, range(2018, 2020)), *yearly(jobs, range(2020, 2021), grade=Grade.SENIOR, pay=2)])
    assert [job.started.year for job in store.query(jobs, ADA, filter=condition)] == years
    assert sorted(job.started.year for job in store.scan(jobs, filter=condition)) == years


class Tagged(Record):
    id: Annotated[str, HashKey()]
    words: Annotated[list[str], PlainSerializer(" ".join), BeforeValidator(str.split)]
    cache: str = Field(default="", exclude=True)


def test_a_list_is_compared_as_its_field_keeps_it_and_one_of_several_values_by_each(
    world: World, store: RecordStore
) -> None:
    kind = placed(Tagged, world.table("tagged"))
    item = {"id": "a", "words": "to be"}
    store.put(kind.from_item(item))
    for found in (
        Attr("words").eq(["to", "be"]),
        Attr("words").is_in([["or"], ["to", "be"]]),
        Attr("id").is_in(("a",)),
    ):
        assert [record.to_item() for record in store.scan(kind, filter=found)] == [item]
    assert not list(store.scan(kind, filter=Attr("words").ne(["to", "be"])))


def test_a_condition_on_an_excluded_field_is_refused_as_no_item_holds_it(world: World, store: RecordStore) -> None:
    kind = placed(Tagged, world.table("tagged"))
    with FaultPlan(client_of(store)) as plan, pytest.raises(InvalidItemError, match=r"Tagged\.cache is excluded"):
        store.scan(kind, filter=Attr("cache").eq("x"))
    assert plan.count("Scan") == 0


class Handle(Record):
    name: Annotated[str, HashKey(), AfterValidator(str.lower)]
    number: Annotated[int, RangeKey()] = 0


def test_the_key_of_a_query_is_what_the_class_makes_of_it_as_for_a_get(world: World, store: RecordStore) -> None:
    kind = placed(Handle, world.table("handles", "name:S", "number:N"))
    made = kind(name="Ada", number=7)
    store.put(made)
    assert store.get(kind, "Ada", 7) == made
    assert list(store.query(kind, "Ada")) == list(store.query(kind, "ADA", "7")) == [made]
    for wrong in [(5,), (None,), ("Ada", "seven")]:
        with pytest.raises(InvalidKeyError, match="Handle takes no such value for its key"):
            store.query(kind, *wrong)


def test_the_limit_counts_records_and_the_page_size_items_examined(store: RecordStore, jobs: type[Job]) -> None:
    store.put_all([*yearly(jobs, range(2000, 2010)), *yearly(jobs, range(2010, 2020), city="Paris")])
    paris = Attr("city").eq("Paris")
    with FaultPlan(client_of(store)) as plan:
        found = list(store.query(jobs, ADA, filter=paris, limit=3, page_size=4))
    assert [job.started.year for job in found] == [2010, 2011, 2012]
    assert [body["Limit"] for body in bodies(plan, "Query")] == [4, 4, 4, 4]
    with FaultPlan(client_of(store)) as plan:
        assert len(list(store.query(jobs, ADA, limit=3))) == 3
        assert len(list(store.scan(jobs, limit=3, page_size=2))) == 3
    assert [body["Limit"] for body in bodies(plan, "Query")] == [3]
    assert [body["Limit"] for body in bodies(plan, "Scan")] == [2, 2]


def test_a_query_descends(store: RecordStore, jobs: type[Job]) -> None:
    store.put_all(yearly(jobs, range(2018, 2021)))
    assert [job.started.year for job in store.query(jobs, ADA, descending=True, page_size=1)] == [2020, 2019, 2018]


def test_pages_are_read_as_they_are_taken(store: RecordStore, jobs: type[Job]) -> None:
    store.put_all(yearly(jobs, range(2000, 2006)))
    with FaultPlan(client_of(store)) as plan:
        records = store.query(jobs, ADA, page_size=2)
        assert plan.count("Query") == 0
        next(records)
        next(records)
        assert plan.count("Query") == 1
        next(records)
        assert plan.count("Query") == 2


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (lambda store, jobs: store.query(jobs, ADA, Key("city").eq("x")), InvalidKeyError, "started"),
        (lambda store, jobs: store.query(jobs, ADA, Attr("started").lt("x") & BOTH), InvalidKeyError, "one condition"),
        (lambda store, jobs: store.query(jobs, ADA, filter="city = :c"), InvalidExpressionError, "filter"),
        (lambda store, jobs: store.query(jobs, ADA, 7.5), InvalidKeyError, "its key started"),
        (lambda store, jobs: store.query(jobs, ADA, Key("started").lt(7.5)), InvalidItemError, "float"),
        (lambda store, jobs: store.scan(jobs, filter=Attr("x").eq(object())), InvalidItemError, "object"),
        (lambda store, jobs: store.scan(jobs, limit=0), ValueError, "limit"),
        (lambda store, jobs: store.query(jobs, ADA, page_size=0), ValueError, "page_size"),
        (lambda store, jobs: store.query(jobs, "x", index="nowhere"), UnknownTableError, "by-city, by-city-keys"),
    ],
)
def test_what_is_wrong_with_a_query_is_told_before_anything_is_read(
    store: RecordStore,
    jobs: type[Job],
    ask: Callable[[RecordStore, type[Job]], Any],
    error: type[Exception],
    words: str,
) -> None:
    with FaultPlan(client_of(store)) as plan, pytest.raises(error, match=words):
        ask(store, jobs)
    assert {call.operation for call in plan.calls} <= {"DescribeTable", "GetItem"}


def test_a_range_on_a_table_without_one_is_refused(store: RecordStore, things: type[Thing]) -> None:
    with pytest.raises(InvalidKeyError, match="no range key"):
        store.query(things, "a", Key("n").eq(1))


# --- indexes ----------------------------------------------------------------------------------------------------------


def test_an_index_is_queried_by_its_own_keys(store: RecordStore, jobs: type[Job]) -> None:
    store.put_all([*yearly(jobs, range(2018, 2020)), *yearly(jobs, range(2020, 2022), city="Paris")])
    found = store.query(jobs, "Paris", Key("started").gt(date(2020, 6, 1)), index="by-city")
    assert [(job.city, job.started.year) for job in found] == [("Paris", 2021)]
    assert len(list(store.scan(jobs, index="by-city"))) == 4


def test_an_index_gives_whole_records_on_every_engine(every_world: World) -> None:
    store, jobs = RecordStore(every_world.writer()), placed(Job, job_table(every_world))
    store.put_all(yearly(jobs, range(2018, 2020), pay=7))
    for index, hash_value, range_value in (
        ("in-city", ADA, "London"),
        ("by-city", "London", Key("started").gt("2000")),
        ("by-city-keys", "London", None),
    ):
        found = store.query(jobs, hash_value, range_value, index=index, fetch=index != "by-city")
        assert [job.salary for job in found] == [7, 7]


def test_an_index_that_lacks_attributes_is_refused_by_name_or_its_records_are_read_from_the_table(
    store: RecordStore, jobs: type[Job]
) -> None:
    """Filled in with defaults, `salary` would be 0 here, and the next put would write that."""
    store.put_all(yearly(jobs, range(2018, 2021), pay=7))
    with pytest.raises(UnsupportedOperationError, match="grade, salary would be missing"):
        store.query(jobs, "London", index="by-city-keys")
    with pytest.raises(UnsupportedOperationError, match="fetch=True"):
        store.scan(jobs, index="by-city-keys")
    with pytest.raises(UnsupportedOperationError, match="grade, salary would be missing"):
        store.query(jobs, ADA, "London", index="in-city")
    found = store.query(jobs, "London", index="by-city-keys", fetch=True, descending=True, page_size=2, limit=2)
    assert [(job.started.year, job.salary) for job in found] == [(2020, Decimal(7)), (2019, Decimal(7))]


def test_a_record_that_is_gone_from_the_table_is_left_out_of_what_is_fetched(
    store: RecordStore, jobs: type[Job]
) -> None:
    mine = yearly(jobs, range(2018, 2021))
    store.put_all(mine)
    found = store.query(jobs, "London", index="by-city-keys", fetch=True)
    plan = FaultPlan(client_of(store)).on("BatchGetItem", lambda _call: client_of_another(store, mine[1]), times=1)
    with plan:
        assert [job.started.year for job in found] == [2018, 2020]
    assert plan.injected == 1


def client_of_another(store: RecordStore, job: Job) -> None:
    """Another process deletes it just now."""
    RecordStore(store._writer).delete(job)


# --- consistency ------------------------------------------------------------------------------------------------------


def test_consistency_is_the_calls_then_the_scopes_then_the_settings(world: World, things: type[Thing]) -> None:
    usually, always = RecordStore(world.writer()), RecordStore(world.writer(consistent_reads=True))

    def asked(store: RecordStore, consistent: bool | None = None) -> bool:
        with FaultPlan(client_of(store)) as plan:
            store.get(things, "a", consistent=consistent)
        return bool(bodies(plan, "GetItem")[-1]["ConsistentRead"])

    assert (asked(usually), asked(always)) == (False, True)
    with ConsistentReadScope():
        assert (asked(usually), asked(usually, consistent=False)) == (True, False)
    with ConsistentReadScope(False):
        assert (asked(always), asked(always, consistent=True)) == (False, True)


def test_where_a_query_is_made_decides_not_where_it_is_read(store: RecordStore, jobs: type[Job]) -> None:
    with ConsistentReadScope():
        inside = store.query(jobs, ADA)
    outside = store.query(jobs, ADA)
    with FaultPlan(client_of(store)) as plan:
        list(inside)
        with ConsistentReadScope():
            list(outside)
    assert [body["ConsistentRead"] for body in bodies(plan, "Query")] == [True, False]


def test_a_global_index_in_a_consistent_scope_is_skipped_or_refused_and_a_local_one_is_consistent(
    world: World, jobs: type[Job]
) -> None:
    writer = world.writer()
    skipping, refusing = RecordStore(writer), RecordStore(writer, on_index="refuse")
    with FaultPlan(writer.client) as plan, ConsistentReadScope():
        list(skipping.query(jobs, "London", index="by-city"))
        list(refusing.query(jobs, ADA, index="in-city", fetch=True))
        list(refusing.query(jobs, "London", index="by-city", consistent=False))
        with pytest.raises(ConsistentReadRefusedError, match="by-city") as refused:
            refusing.query(jobs, "London", index="by-city")
        with pytest.raises(ConsistentReadRefusedError):
            skipping.query(jobs, "London", index="by-city", consistent=True)
    assert (refused.value.index, refused.value.table) == ("by-city", jobs.__layout__.table)
    assert [body["ConsistentRead"] for body in bodies(plan, "Query")] == [False, True, False]


def test_what_is_fetched_by_a_global_index_is_read_consistently_from_the_table(
    store: RecordStore, jobs: type[Job]
) -> None:
    store.put_all(yearly(jobs, range(2018, 2020)))
    with FaultPlan(client_of(store)) as plan, ConsistentReadScope():
        assert len(list(store.query(jobs, "London", index="by-city-keys", fetch=True))) == 2
    assert [body["ConsistentRead"] for body in bodies(plan, "Query")] == [False]
    (asked,) = bodies(plan, "BatchGetItem")
    assert [part["ConsistentRead"] for part in asked["RequestItems"].values()] == [True]
