"""What a scope refuses, on real engines: every refusal comes before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import boto3
import pytest

from reliable_write import (
    BatchTooLargeError,
    DuplicateKeyError,
    ForeignStampError,
    InvalidItemError,
    InvalidKeyError,
    Outcome,
    ReliableWriteScope,
    ScopeClosedError,
    TooManyOperationsError,
    UnknownTableError,
    WriteRejectedError,
    WriteTooLargeError,
    limits,
)
from reliable_write.testing.engines import Capability
from tests.integration.scopes import nothing_written
from tests.world import REGION, World

FAR_AHEAD = "ff" * 6 + "0" * 24


Record = Callable[[ReliableWriteScope, str], None]


def _fill(scope: ReliableWriteScope, table: str) -> None:
    for number in range(25):
        scope.put_item(table, Item={"id": f"p{number}", "at": number})


def _after_one(*steps: Record) -> Record:
    def run(scope: ReliableWriteScope, table: str) -> None:
        for step in steps:
            step(scope, table)

    return run


REFUSALS: dict[str, tuple[type[WriteRejectedError], str, Record]] = {
    "26th operation": (
        TooManyOperationsError,
        r"operations\[25\] put_item on .*takes 25",
        _after_one(_fill, lambda scope, table: scope.put_item(table, Item={"id": "one more", "at": 0})),
    ),
    "26th item": (
        BatchTooLargeError,
        "26 items; a batch takes 1 to 25",
        lambda scope, table: scope.put_items(table, [{"id": "x", "at": number} for number in range(26)]),
    ),
    "26th key": (
        BatchTooLargeError,
        "26 items",
        lambda scope, table: scope.delete_items(table, [{"id": "x", "at": number} for number in range(26)]),
    ),
    "empty batch": (BatchTooLargeError, "0 items", lambda scope, table: scope.put_items(table, [])),
    "empty batch of keys": (BatchTooLargeError, "0 items", lambda scope, table: scope.delete_items(table, [])),
    "one key twice": (
        DuplicateKeyError,
        r"operations\[1\] in .* is written by operations\[0\]",
        _after_one(
            lambda scope, table: scope.put_item(table, Item={"id": "x", "at": 1}),
            lambda scope, table: scope.put_item(table, Item={"id": "x", "at": 1}),
        ),
    ),
    "one key in two spellings": (
        DuplicateKeyError,
        r"operations\[1\] in .* is written by operations\[0\]",
        _after_one(
            lambda scope, table: scope.put_item(table, Item={"id": "x", "at": 1}),
            lambda scope, table: scope.put_item(table, Item={"id": "x", "at": Decimal("1.0")}),
        ),
    ),
    "one key in a put and a delete": (
        DuplicateKeyError,
        r"operations\[1\] in .* is written by operations\[0\]",
        _after_one(
            lambda scope, table: scope.put_item(table, Item={"id": "x", "at": 10}),
            lambda scope, table: scope.delete_item(table, Key={"id": "x", "at": Decimal("1E1")}),
        ),
    ),
    "one key twice in a batch": (
        DuplicateKeyError,
        r"operations\[0\].items\[2\] in .* is written by operations\[0\].items\[0\]",
        lambda scope, table: scope.put_items(table, [{"id": "x", "at": at} for at in (1, 2, Decimal("1.00"))]),
    ),
    "item too large": (
        WriteTooLargeError,
        "DynamoDB takes 409600",
        lambda scope, table: scope.put_item(table, Item={"id": "x", "at": 1, "blob": b"x" * 409_600}),
    ),
    "missing key": (
        InvalidKeyError,
        "'at' is missing; the table wants a number",
        lambda scope, table: scope.put_item(table, Item={"id": "x"}),
    ),
    "wrong key type": (
        InvalidKeyError,
        "'at' is of type S; the table wants a number",
        lambda scope, table: scope.put_item(table, Item={"id": "x", "at": "1"}),
    ),
    "wrong index key type": (
        InvalidKeyError,
        "index key attribute 'state' is of type N; the table wants a string",
        lambda scope, table: scope.put_item(table, Item={"id": "x", "at": 1, "state": 2}),
    ),
    "surplus in a key": (
        InvalidKeyError,
        "'state', which is not part of the table's key",
        lambda scope, table: scope.delete_item(table, Key={"id": "x", "at": 1, "state": "open"}),
    ),
    "empty key": (
        InvalidKeyError,
        "'id' is empty",
        lambda scope, table: scope.put_item(table, Item={"id": "", "at": 1}),
    ),
    "float": (
        InvalidItemError,
        r"lines\[0\].price is a float",
        lambda scope, table: scope.put_item(table, Item={"id": "x", "at": 1, "lines": [{"price": 1.5}]}),
    ),
    "NaN": (
        InvalidItemError,
        "n is not a finite number",
        lambda scope, table: scope.put_item(table, Item={"id": "x", "at": 1, "n": Decimal("NaN")}),
    ),
    "no such table": (
        UnknownTableError,
        "'no-such-table' does not exist",
        lambda scope, _: scope.put_item("no-such-table", Item={"id": "x"}),
    ),
    "no table name": (UnknownTableError, "not", lambda scope, _: scope.put_item("x", Item={"id": "x"})),
    "ARN": (
        UnknownTableError,
        "give the table's name, not its ARN",
        lambda scope, _: scope.put_item("arn:aws:dynamodb:us-east-1:123456789012:table/people", Item={"id": "x"}),
    ),
    "alias": (
        UnknownTableError,
        "no destination 'eu' is registered",
        lambda scope, _: scope.put_item("eu:people", Item={"id": "x"}),
    ),
    "a table that is no string": (
        UnknownTableError,
        "not by int",
        lambda scope, _: scope.put_item(7, Item={"id": "x"}),  # type: ignore[arg-type]
    ),
    "stamp of another type": (
        ForeignStampError,
        "'_rw' is reserved",
        lambda scope, table: scope.put_item(table, Item={"id": "x", "at": 1, "_rw": 7}),
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_refused_is_no_part_of_the_scope_and_the_rest_is_written(world: World, case: str) -> None:
    """Simol recorded the refused step and then raised."""
    kind, words, record = REFUSALS[case]
    table = _table(world)
    writer = world.writer()
    with ReliableWriteScope(writer) as scope:
        with nothing_written(writer), pytest.raises(WriteRejectedError, match=words) as caught:
            record(scope, table)
        assert type(caught.value) is kind
        assert caught.value.outcome is Outcome.NOT_WRITTEN
        good = len(scope)
        scope.put_item(table, Item={"id": "good", "at": 99}) if good < 25 else None
        receipt = scope.commit()
    assert receipt.operations == len(world.items(table)) == min(good + 1, 25)


def _table(world: World) -> str:
    index = {
        "IndexName": "by-state",
        "KeySchema": [{"AttributeName": "state", "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "ALL"},
    }
    return world.table(
        "things",
        "id:S",
        "at:N",
        GlobalSecondaryIndexes=[index],
        AttributeDefinitions=[{"AttributeName": "state", "AttributeType": "S"}],
    )


def test_the_journals_own_table_is_refused(world: World) -> None:
    writer = world.writer()
    with nothing_written(writer), ReliableWriteScope(writer) as scope:
        with pytest.raises(UnknownTableError, match="is the journal's own"):
            scope.put_item(world.system_table, Item={"pk": "J#000", "sk": "x"})
        scope.discard()


@pytest.mark.parametrize(
    "stamps",
    [{"_rw": {"N": "7"}}, {"_rw": {"S": "mine"}}, {"_rw": {"S": FAR_AHEAD}}, {"_rwu": {"S": FAR_AHEAD}}],
    ids=repr,
)
def test_a_foreign_stamp_that_is_found_refuses_the_commit(every_world: World, stamps: dict[str, Any]) -> None:
    world = every_world
    one, other = world.table("people"), world.table("places")
    world.client.put_item(TableName=other, Item={"id": {"S": "rome"}, **stamps})
    writer = world.writer()
    with ReliableWriteScope(writer) as scope, nothing_written(writer):
        scope.put_item(one, Item={"id": "ada"})
        scope.put_item(other, Item={"id": "rome"})
        with pytest.raises(ForeignStampError, match=f"repair-stamp {other}") as caught:
            scope.commit()
    assert caught.value.outcome is Outcome.NOT_WRITTEN
    with pytest.raises(ScopeClosedError, match="was not committed"):
        scope.commit()
    assert world.items(one) == []


def test_the_stamp_an_item_was_read_with_does_not_matter(world: World) -> None:
    """Read, change, write: boto3's way."""
    table = world.table("people")
    writer = world.writer()
    with writer.begin() as scope:
        scope.put_item(table, Item={"id": "ada", "n": 1})
    resource = boto3.resource(
        "dynamodb",
        endpoint_url=world.engine.endpoint_url,
        region_name=REGION,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    read = resource.Table(table).get_item(Key={"id": "ada"}, ConsistentRead=True)["Item"]
    resource.meta.client.close()
    assert "_rw" in read
    with ReliableWriteScope(writer) as scope:
        scope.put_item(table, Item={**read, "n": 2})
        receipt = scope.commit()
    assert world.item(table, id={"S": "ada"}) == {"id": {"S": "ada"}, "n": {"N": "2"}, "_rw": {"S": receipt.stamp}}


@pytest.mark.needs(Capability.ITEM_SIZE_LIMIT)
def test_an_item_of_exactly_the_limit_is_written_and_one_byte_more_refused_here(every_world: World) -> None:
    table = every_world.table("people")
    writer = every_world.writer()
    exact = limits.ITEM_BYTES_MAX - len("id" + "x" + "blob" + "_rw") - 36
    with ReliableWriteScope(writer) as scope:
        with nothing_written(writer), pytest.raises(WriteTooLargeError, match="409601 bytes"):
            scope.put_item(table, Item={"id": "x", "blob": b"b" * (exact + 1)})
        scope.put_item(table, Item={"id": "x", "blob": b"b" * exact})
        scope.commit()
    (item,) = every_world.items(table)
    assert len(item["blob"]["B"]) == exact


@pytest.mark.needs(Capability.NESTING_LIMIT)
def test_what_is_nested_as_deep_as_we_take_is_stored(every_world: World) -> None:
    table = every_world.table("people")
    deep: Any = "leaf"
    for level in range(limits.NESTING_LEVELS_MAX - 1):
        deep = [deep] if level % 2 else {"m": deep}
    with every_world.writer().begin() as scope:
        scope.put_item(table, Item={"id": "x", "deep": deep})
    assert len(every_world.items(table)) == 1
