"""What is accepted is applied: at the very edge of every limit, no write ends as an entry that nothing can finish.

DynamoDB Local is the engine that refuses what DynamoDB refuses; the others take more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from reliable_write import (
    InvalidItemError,
    InvalidKeyError,
    Outcome,
    PropagationPendingError,
    ReliableWriter,
    ReliableWriteScope,
    ScopeClosedError,
    UnsupportedOperationError,
    WriteRejectedError,
    WriteTooLargeError,
    limits,
)
from reliable_write.recovery import Resumed
from reliable_write.testing.faults import FaultPlan
from tests.integration.test_promises import left_behind
from tests.world import World, plain_world

world = plain_world

WRITES = {"PutItem", "DeleteItem", "UpdateItem", "BatchWriteItem"}


@contextmanager
def nothing_written(writer: ReliableWriter) -> Iterator[None]:
    with FaultPlan(writer.client) as plan:
        yield
    assert not [call.operation for call in plan.calls if call.operation in WRITES]


def applied(world: World, writer: ReliableWriter, table: str, item: dict[str, Any]) -> None:
    with ReliableWriteScope(writer) as scope:
        scope.put_item(table, Item=item)
        assert scope.commit().superseded == ()
    assert [found["_rw"]["S"] for found in world.items(table)] == [scope.write_id]


def refused(writer: ReliableWriter, table: str, item: dict[str, Any], kind: type[WriteRejectedError]) -> None:
    with ReliableWriteScope(writer) as scope, nothing_written(writer):
        with pytest.raises(kind) as caught:
            scope.put_item(table, Item=item)
        assert caught.value.outcome is Outcome.NOT_WRITTEN
        assert len(scope) == 0


def index(name: str, *keys: str, **projection: Any) -> dict[str, Any]:
    return {
        "IndexName": name,
        "KeySchema": [
            {"AttributeName": key, "KeyType": role} for key, role in zip(keys, ("HASH", "RANGE"), strict=False)
        ],
        "Projection": projection or {"ProjectionType": "ALL"},
    }


def strings(*names: str) -> list[dict[str, str]]:
    return [{"AttributeName": name, "AttributeType": "S"} for name in names]


# --- keys of indexes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "name", "bytes_max"),
    [
        (("g", "r"), "g", limits.HASH_KEY_BYTES_MAX),
        (("g", "r"), "r", limits.RANGE_KEY_BYTES_MAX),
        (("g", "id"), "id", limits.RANGE_KEY_BYTES_MAX),
    ],
    ids=["hash key", "range key", "the table's hash key as range key"],
)
@pytest.mark.parametrize("whole", [True, False], ids=["in the index", "not in the index"])
def test_a_key_of_an_index_as_long_as_we_take_is_stored(
    every_world: World, keys: tuple[str, str], name: str, bytes_max: int, whole: bool
) -> None:
    """Also where the index's other key is absent: the engine checks each of them by itself."""
    table = every_world.table(
        "indexed", AttributeDefinitions=strings(*{*keys} - {"id"}), GlobalSecondaryIndexes=[index("by-key", *keys)]
    )
    writer = every_world.writer()
    item = {"id": "x", **dict.fromkeys(keys if whole else (), "k")}
    refused(writer, table, {**item, name: "x" * (bytes_max + 1)}, WriteTooLargeError)
    applied(every_world, writer, table, {**item, name: "x" * bytes_max})


# --- items with a local index -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "projection",
    [
        {"ProjectionType": "ALL"},
        {"ProjectionType": "KEYS_ONLY"},
        {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["blob"]},
        {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["_rw"]},
    ],
    ids=["ALL", "KEYS_ONLY", "INCLUDE the blob", "INCLUDE the stamp"],
)
@pytest.mark.parametrize("sorted_by", ["due", "_rw"])
def test_the_largest_item_we_take_fits_with_its_copy_in_a_local_index(
    every_world: World, projection: dict[str, Any], sorted_by: str
) -> None:
    if projection.get("NonKeyAttributes") == [sorted_by]:
        projection = {"ProjectionType": "KEYS_ONLY"}
    table = every_world.table(
        "local",
        "id:S",
        "at:S",
        AttributeDefinitions=strings(sorted_by),
        LocalSecondaryIndexes=[index("by-key", "id", sorted_by, **projection)],
    )
    writer = every_world.writer()
    item = {"id": "i", "at": "a", "due": "d"}
    fits, fails = 0, limits.ITEM_BYTES_MAX
    while fails - fits > 1:
        size = (fits + fails) // 2
        with ReliableWriteScope(writer) as scope:
            try:
                scope.put_item(table, Item={**item, "blob": b"b" * size})
            except WriteTooLargeError:
                fails = size
            else:
                fits = size
            scope.discard()
    applied(every_world, writer, table, {**item, "blob": b"b" * fits})
    assert fits > limits.ITEM_BYTES_MAX / 2 - 100


# --- nesting ------------------------------------------------------------------------------------------------------


def containers(count: int, leaf: Any) -> Any:
    for level in range(count):
        leaf = [leaf] if level % 2 else {"m": leaf}
    return leaf


@pytest.mark.parametrize(
    ("count", "leaf"),
    [(31, "text"), (31, {"a", "b"}), (31, None), (30, []), (30, {})],
    ids=["a text", "a set", "none", "an empty list", "an empty map"],
)
def test_what_is_nested_as_deep_as_we_take_is_stored(every_world: World, count: int, leaf: Any) -> None:
    table = every_world.table("deep")
    writer = every_world.writer()
    refused(writer, table, {"id": "x", "deep": containers(count + 1, leaf)}, InvalidItemError)
    applied(every_world, writer, table, {"id": "x", "deep": containers(count, leaf)})


# --- indexes over the stamp ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["_rw", "_rwu"])
@pytest.mark.parametrize("kind", ["N", "B"])
def test_an_index_over_the_stamp_that_wants_no_string_is_refused(every_world: World, name: str, kind: str) -> None:
    """No item with a stamp could ever be put: every scope would end as a poison."""
    definitions = [{"AttributeName": name, "AttributeType": kind}]
    table = every_world.table(
        "indexed", AttributeDefinitions=definitions, GlobalSecondaryIndexes=[index("by-stamp", name)]
    )
    refused(every_world.writer(), table, {"id": "x"}, UnsupportedOperationError)


def test_an_index_over_the_stamp_as_a_string_is_fine(every_world: World) -> None:
    table = every_world.table(
        "indexed", AttributeDefinitions=strings("_rw"), GlobalSecondaryIndexes=[index("by-stamp", "_rw")]
    )
    applied(every_world, every_world.writer(), table, {"id": "x"})


@pytest.mark.parametrize("item", [{"g": 7}, {"g": ""}, {"g": None}, {"g": ["x"]}], ids=repr)
def test_an_index_key_that_is_none_is_refused(every_world: World, item: dict[str, Any]) -> None:
    table = every_world.table("indexed", AttributeDefinitions=strings("g"), GlobalSecondaryIndexes=[index("by-g", "g")])
    refused(every_world.writer(), table, {"id": "x", **item}, InvalidKeyError)


# --- the entry itself ---------------------------------------------------------------------------------------------

NULLS = {"id": "x", "nulls": [None] * 2_000}
"""Four kilobytes as DynamoDB counts, 26 as JSON."""


def test_a_scope_that_nobody_could_read_back_is_refused_before_anything_is_written(
    every_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = every_world.table("nulls")
    writer = every_world.writer()
    monkeypatch.setattr(limits, "ENTRY_BYTES_DECODED_MAX", 20_000)
    with ReliableWriteScope(writer) as scope, nothing_written(writer):
        scope.put_item(table, Item=NULLS)
        with pytest.raises(WriteTooLargeError, match="takes 20000") as caught:
            scope.commit()
        assert caught.value.outcome is Outcome.NOT_WRITTEN
        with pytest.raises(ScopeClosedError, match="was not committed, and nothing was written") as closed:
            scope.commit()
        assert closed.value.outcome is Outcome.NOT_WRITTEN
    assert every_world.items(table) == every_world.records("J#") == every_world.records("C#") == []


def test_a_scope_of_exactly_the_bound_is_recovered_and_one_byte_more_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = world.table("one")

    def bounded(bytes_max: int) -> str:
        monkeypatch.setattr(limits, "ENTRY_BYTES_DECODED_MAX", bytes_max)
        return left_behind(world, table, item=NULLS)

    with pytest.raises(WriteTooLargeError) as caught:
        bounded(1_000)
    told = re.search(r"take (\d+) bytes", str(caught.value))
    assert told
    with pytest.raises(WriteTooLargeError):
        bounded(int(told[1]) - 1)
    bounded(int(told[1]))
    (report,) = world.writer().recovery.resume_all()
    assert report.resumed is Resumed.FINISHED
    assert len(world.items(table)[0]["nulls"]["L"]) == 2_000


def test_the_texts_that_json_writes_longest_are_bounded_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six characters for a control character: 32 MB of them would be 192."""
    table = world.table("one")
    writer = world.writer()
    monkeypatch.setattr(limits, "ENTRY_BYTES_DECODED_MAX", 2 * 10_000)
    with ReliableWriteScope(writer) as scope, nothing_written(writer):
        scope.put_item(table, Item={"id": "x", "text": "\0" * 10_000})
        with pytest.raises(WriteTooLargeError):
            scope.commit()
    applied(world, writer, table, {"id": "x", "text": "t" * 10_000})


def test_a_poison_would_be_seen_by_these_tests(dynamodb_local: Any, unique_name: Any) -> None:
    """The engine does refuse: an entry over the limit, made behind the checks, stays pending for an operator."""
    world = World(dynamodb_local, unique_name)
    table = world.table("indexed", AttributeDefinitions=strings("g"), GlobalSecondaryIndexes=[index("by-key", "g")])
    writer = world.writer()
    scope = ReliableWriteScope(writer)
    scope.put_item(table, Item={"id": "x", "g": "x" * limits.HASH_KEY_BYTES_MAX})
    scope._operations[0].actions[0].item["g"]["S"] += "x"  # type: ignore[union-attr]  # a put
    with pytest.raises(PropagationPendingError, match="refused as invalid") as caught:
        scope.commit()
    assert caught.value.needs_operator
    world.close()
