"""What a scope costs, counted exactly: requests at the wire, units as the engine bills them."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from boto3.dynamodb.types import TypeSerializer
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from reliable_write import ReliableWriter, ReliableWriteScope
from reliable_write.testing.engines import Capability
from reliable_write.testing.faults import Call, FaultPlan
from reliable_write.testing.meter import Meter
from reliable_write.values import encode_item, item_bytes
from tests.integration.samples.generate import sample
from tests.world import World

SAMPLE = Path(__file__).parent / "samples" / "business.json"
NUMBERS = frozenset({"credit_limit", "latitude", "longitude", "amount", "tax"})
STAMP_BYTES = len("_rw") + 36


def warmed(world: World, tables: list[str], **settings: Any) -> ReliableWriter:
    """A writer that knows the installation and the schemas already."""
    writer = world.writer(**settings)
    for table in tables:
        writer.engine().schemas.get(table)
    return writer


def head_bytes(world: World) -> int:
    """The size of the one entry in the journal."""
    (head,) = world.records("J#")
    return item_bytes(head)


@pytest.mark.parametrize("count", [1, 2, 25])
def test_a_scope_of_n_puts_makes_n_plus_two_requests_before_it_returns(every_world: World, count: int) -> None:
    world = every_world
    table = world.table("people")
    writer = warmed(world, [table])
    with Meter(writer.client) as meter, ReliableWriteScope(writer) as scope:
        for number in range(count):
            scope.put_item(table, Item={"id": f"p{number}", "n": number})
        assert not meter.calls, "recording sends nothing"
        scope.commit()
        # The deletion of the entry waits for company; it comes after.
        assert dict(meter.calls) == {"BatchGetItem": 1, "PutItem": 1 + count}
    assert len(world.items(table)) == count


@pytest.mark.needs(Capability.CONSUMED_CAPACITY)
@pytest.mark.parametrize("count", [1, 7, 25])
def test_the_write_units_are_n_and_twice_the_entry(every_world: World, count: int) -> None:
    """Puts of up to 1 KB cost one unit each; the entry is written once and deleted once."""
    world = every_world
    table = world.table("people")
    writer = warmed(world, [table])
    with Meter(writer.client) as meter:
        with ReliableWriteScope(writer) as scope:
            for number in range(count):
                blob = number.to_bytes(2, "big") + bytes((index * 37 + number * 91) % 251 for index in range(900))
                scope.put_item(table, Item={"id": f"p{number}", "blob": blob})
            scope.commit()
            entry = math.ceil(head_bytes(world) / 1024)
        writer.close()
    assert meter.calls["BatchWriteItem"] == 1
    assert meter.units["BatchWriteItem"] == entry
    assert meter.write_units == count + 2 * entry
    assert count < 7 or entry > 1, "an entry of one unit would not tell"


@pytest.mark.needs(Capability.CONSUMED_CAPACITY, Capability.BATCH_GET_CAPACITY)
@pytest.mark.parametrize("count", [1, 50])
def test_the_read_units_of_fresh_keys_are_two_for_each(every_world: World, count: int) -> None:
    """The item and the tombstone, both absent and read strongly: a unit each."""
    world = every_world
    table = world.table("people")
    writer = warmed(world, [table])
    with Meter(writer.client) as meter, ReliableWriteScope(writer) as scope:
        for start in range(0, count, 25):
            scope.put_items(table, [{"id": f"p{number}"} for number in range(start, min(start + 25, count))])
        scope.commit()
    assert meter.calls["BatchGetItem"] == 1
    assert meter.read_units == 2 * count


def test_a_hundred_keys_are_one_look_and_one_more_is_a_second(world: World) -> None:
    table = world.table("people")
    writer = warmed(world, [table])
    for items, looks in ((50, 1), (51, 2)):
        with Meter(writer.client) as meter, ReliableWriteScope(writer) as scope:
            for start in range(0, items, 25):
                scope.put_items(table, [{"id": f"p{number}"} for number in range(start, min(start + 25, items))])
            scope.commit()
        assert meter.calls["BatchGetItem"] == looks


@pytest.mark.needs(Capability.BATCH_GET_CAPACITY)
def test_keys_that_come_back_unprocessed_are_asked_for_again(world: World) -> None:
    """The first answer handles nothing, the second half: every stamp is seen all the same."""
    table = world.table("people")
    writer = warmed(world, [table])
    with ReliableWriteScope(writer) as scope:
        scope.put_items(table, [{"id": f"p{number}"} for number in range(10)])
        first = scope.commit()
    plan = FaultPlan(writer.client).on("BatchGetItem", _unprocessed, times=2)
    with plan, Meter(writer.client) as meter, ReliableWriteScope(writer) as scope:
        scope.put_items(table, [{"id": f"p{number}"} for number in range(10)])
        receipt = scope.commit()
    assert plan.injected == 2
    assert meter.calls["BatchGetItem"] == 3
    assert meter.read_units == 2 * 10
    assert receipt.stamp > first.stamp


def _unprocessed(call: Call) -> AWSResponse:
    request = json.loads(call.body)["RequestItems"]
    body = json.dumps({"Responses": {}, "UnprocessedKeys": request}).encode()

    class Raw:
        def stream(self, **_: Any) -> Any:
            yield body

    return AWSResponse("http://injected", 200, HTTPHeaders(), Raw())


def test_under_load_finished_entries_cost_less_than_a_tenth_of_a_call_each(world: World) -> None:
    table = world.table("people")
    writer = warmed(world, [table])
    scopes = 100
    with Meter(writer.client) as meter:
        for number in range(scopes):
            with ReliableWriteScope(writer) as scope:
                scope.put_item(table, Item={"id": f"p{number}"})
                scope.commit()
        writer.close()
    assert world.records("J#") == []
    assert 1 <= meter.calls["BatchWriteItem"] < scopes / 10
    assert meter.calls["PutItem"] == 2 * scopes
    assert meter.calls["BatchGetItem"] == scopes


def test_a_second_scope_on_a_table_describes_nothing(world: World) -> None:
    table = world.table("people")
    writer = world.writer()
    with Meter(writer.client) as meter:
        for number in range(3):
            with ReliableWriteScope(writer) as scope:
                scope.put_item(table, Item={"id": f"p{number}"})
                scope.commit()
    assert meter.calls["DescribeTable"] == 1
    assert meter.calls["GetItem"] == 1, "the config record"


def test_a_delete_costs_its_tombstone_and_itself(world: World) -> None:
    table = world.table("people")
    writer = warmed(world, [table])
    with ReliableWriteScope(writer) as scope:
        scope.put_item(table, Item={"id": "a"})
        scope.commit()
    with Meter(writer.client) as meter, ReliableWriteScope(writer) as scope:
        scope.delete_item(table, Key={"id": "a"})
        scope.commit()
    assert dict(meter.calls) == {"BatchGetItem": 1, "PutItem": 2, "DeleteItem": 1}


# --- a realistic event beside a native transaction ----------------------------------------------------------------


def test_the_committed_sample_is_what_its_script_makes() -> None:
    assert json.loads(SAMPLE.read_text()) == sample()


def business() -> dict[str, list[dict[str, Any]]]:
    tables: dict[str, list[dict[str, Any]]] = json.loads(SAMPLE.read_text())
    return {
        table: [{name: Decimal(v) if name in NUMBERS else v for name, v in item.items()} for item in items]
        for table, items in tables.items()
    }


def test_the_sample_is_25_items_of_about_300_bytes() -> None:
    sizes = [item_bytes(encode_item(item, "sample")) for items in business().values() for item in items]
    assert len(sizes) == 25
    assert 285 <= sum(sizes) / 25 <= 315
    assert max(sizes) + STAMP_BYTES <= 1024


@pytest.mark.needs(Capability.CONSUMED_CAPACITY, Capability.TRANSACTIONS)
def test_a_business_event_costs_at_most_35_write_units_and_a_transaction_50(every_world: World) -> None:
    world = every_world
    keys = {
        "customers": ("customer_id:S", None),
        "addresses": ("customer_id:S", "address_id:S"),
        "payments": ("payment_id:S", None),
    }
    ours = {stem: world.table(stem, *key) for stem, key in keys.items()}
    theirs = {stem: world.table(stem, *key) for stem, key in keys.items()}
    writer = warmed(world, list(ours.values()))
    with Meter(writer.client) as meter:
        with ReliableWriteScope(writer) as scope:
            for stem, items in business().items():
                for item in items:
                    scope.put_item(ours[stem], Item=item)
            scope.commit()
            entry_bytes = head_bytes(world)
        writer.close()
    serialize = TypeSerializer().serialize
    client = world.client
    with Meter(client) as native:
        client.transact_write_items(
            TransactItems=[
                {"Put": {"TableName": theirs[stem], "Item": {name: serialize(value) for name, value in item.items()}}}
                for stem, items in business().items()
                for item in items
            ]
        )
    print(
        f"\n25 puts of about 300 B on {world.engine.name}: {meter.write_units:.0f} write units in a scope "
        f"(entry {entry_bytes} B), {native.write_units:.0f} in a native transaction"
    )
    assert meter.write_units == 25 + 2 * math.ceil(entry_bytes / 1024)
    assert meter.write_units <= 35
    # DynamoDB Local bills a transaction two units for each table, whatever it writes there; the others as AWS does.
    assert native.write_units == (2 * len(theirs) if world.engine.name == "dynamodb-local" else 50)
