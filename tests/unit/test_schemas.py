"""What a table's description says about the items it takes, and how long it is believed."""

from __future__ import annotations

from typing import Any

import pytest

from reliable_write import CommitFailedError, InvalidItemError, UnknownTableError, WriteTooLargeError, limits
from reliable_write.clock import Deadline
from reliable_write.dynamodb import CallFailed, Schemas, Store
from reliable_write.dynamodb.schemas import read_schema
from reliable_write.operations import LocalIndex, StampNames, TableSchema, make_delete, make_put
from reliable_write.policy import FailureKind
from reliable_write.values import item_bytes
from tests.unit.fakes import ManualTime, ScriptedCalls

NAMES = StampNames()
STAMP_BYTES = len("_rw") + 36
ALL = {"ProjectionType": "ALL"}


def keyed(*names: str) -> list[dict[str, str]]:
    return [{"AttributeName": name, "KeyType": role} for name, role in zip(names, ("HASH", "RANGE"), strict=False)]


def description(*key: str, globally: Any = (), locally: Any = (), numbers: str = "") -> dict[str, Any]:
    """A DescribeTable answer: `globally` and `locally` hold key names of indexes, or those and a projection."""
    indexes = [*globally, *(names for names, _ in locally)]
    names = {*key, *(name for index in indexes for name in index)}
    return {
        "TableName": "orders",
        "KeySchema": keyed(*key),
        "AttributeDefinitions": [{"AttributeName": n, "AttributeType": "N" if n in numbers else "S"} for n in names],
        "GlobalSecondaryIndexes": [
            {"IndexName": f"g{number}", "KeySchema": keyed(*index), "Projection": ALL}
            for number, index in enumerate(globally)
        ],
        "LocalSecondaryIndexes": [
            {"IndexName": f"l{number}", "KeySchema": keyed(*index), "Projection": projection}
            for number, (index, projection) in enumerate(locally)
        ],
    }


# --- the size of keys ---------------------------------------------------------------------------------------------

SIZES = [
    pytest.param(description("id"), "id", 2048, id="hash key"),
    pytest.param(description("id", "at"), "at", 1024, id="range key"),
    pytest.param(description("id", globally=[("state",)]), "state", 2048, id="global hash key"),
    pytest.param(description("id", globally=[("state", "due")]), "due", 1024, id="global range key"),
    pytest.param(description("id", globally=[("state", "id")]), "id", 1024, id="hash key, global range key"),
    pytest.param(description("id", "at", globally=[("at",)]), "at", 1024, id="range key, global hash key"),
    pytest.param(description("id", globally=[("a", "b"), ("b",)]), "b", 1024, id="range key of one, hash key of one"),
    pytest.param(description("id", "at", locally=[(("id", "due"), ALL)]), "due", 1024, id="local range key"),
    pytest.param(description("id", "at", locally=[(("id", "due"), ALL)]), "id", 2048, id="hash key of a local index"),
]


@pytest.mark.parametrize(("table", "name", "bytes_max"), SIZES)
def test_the_smallest_bound_of_all_the_keys_an_attribute_is_part_of_holds(
    table: dict[str, Any], name: str, bytes_max: int
) -> None:
    schema = read_schema(table)
    rest = dict.fromkeys(schema.key_names, "k")
    make_put(schema, {**rest, name: "x" * bytes_max}, NAMES, "here")
    with pytest.raises(WriteTooLargeError, match=f"{name!r} has {bytes_max + 1} bytes; DynamoDB takes {bytes_max}"):
        make_put(schema, {**rest, name: "x" * (bytes_max + 1)}, NAMES, "here")


def test_the_key_of_a_delete_has_the_same_bounds() -> None:
    schema = read_schema(description("id", globally=[("state", "id")]))
    make_delete(schema, {"id": "x" * 1024}, "here")
    with pytest.raises(WriteTooLargeError):
        make_delete(schema, {"id": "x" * 1025}, "here")


def test_a_number_that_is_a_key_has_no_size_to_check() -> None:
    schema = read_schema(description("id", globally=[("n", "m")], numbers="nm"))
    make_put(schema, {"id": "x", "n": 10**37, "m": -(10**37)}, NAMES, "here")


# --- the size of items with local indexes -------------------------------------------------------------------------


def largest(schema: TableSchema, **attributes: Any) -> int:
    """The size of the largest item that is taken, stamp included."""
    fits, fails = 0, limits.ITEM_BYTES_MAX
    while fails - fits > 1:
        size = (fits + fails) // 2
        try:
            made = make_put(schema, {**attributes, "blob": b"x" * size}, NAMES, "here")
        except WriteTooLargeError:
            fails = size
        else:
            fits, total = size, item_bytes(made.item) + STAMP_BYTES
    return total


def local(projection: dict[str, Any]) -> TableSchema:
    return read_schema(description("id", "at", locally=[(("id", "due"), projection)]))


KEYS = {"id": "i", "at": "a", "due": "d"}
COPIED_KEYS = len("idiatadued")


@pytest.mark.parametrize(
    ("projection", "room"),
    [
        (ALL, limits.ITEM_BYTES_MAX // 2),
        ({}, limits.ITEM_BYTES_MAX // 2),
        ({"ProjectionType": "KEYS_ONLY"}, limits.ITEM_BYTES_MAX - COPIED_KEYS),
        ({"ProjectionType": "INCLUDE", "NonKeyAttributes": ["other"]}, limits.ITEM_BYTES_MAX - COPIED_KEYS),
        ({"ProjectionType": "INCLUDE", "NonKeyAttributes": ["_rw"]}, limits.ITEM_BYTES_MAX - COPIED_KEYS - STAMP_BYTES),
        (
            {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["blob"]},
            (limits.ITEM_BYTES_MAX + STAMP_BYTES) // 2,
        ),
    ],
    ids=["ALL", "not told", "KEYS_ONLY", "INCLUDE another", "INCLUDE the stamp", "INCLUDE the blob"],
)
def test_an_items_copy_in_a_local_index_counts(projection: dict[str, Any], room: int) -> None:
    """With the stamp, which the index copies too: the engine refuses what is 39 bytes over as it refuses anything."""
    assert largest(local(projection), **KEYS) == room


def test_an_item_that_is_not_in_the_local_index_has_the_whole_room() -> None:
    assert largest(local(ALL), id="i", at="a") == limits.ITEM_BYTES_MAX


def test_of_several_local_indexes_the_largest_copy_counts() -> None:
    schema = read_schema(
        description("id", "at", locally=[(("id", "due"), {"ProjectionType": "KEYS_ONLY"}), (("id", "paid"), ALL)])
    )
    assert largest(schema, **KEYS) == limits.ITEM_BYTES_MAX - COPIED_KEYS
    assert largest(schema, **KEYS, paid="p") == limits.ITEM_BYTES_MAX // 2


def test_a_local_index_sorted_by_the_stamp_holds_every_item() -> None:
    schema = read_schema(description("id", "at", locally=[(("id", "_rw"), ALL)]))
    assert largest(schema, id="i", at="a") == limits.ITEM_BYTES_MAX // 2


def test_what_is_copied_is_read_from_the_description() -> None:
    include = {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["a", "b"]}
    table = description("id", "at", locally=[(("id", "x"), ALL), (("id", "y"), include)])
    assert read_schema(table).local_indexes == (LocalIndex("x", None), LocalIndex("y", frozenset("ab")))


# --- nesting ------------------------------------------------------------------------------------------------------


def containers(count: int, leaf: Any) -> Any:
    for level in range(count):
        leaf = [leaf] if level % 2 else {"m": leaf}
    return leaf


@pytest.mark.parametrize("leaf", ["text", None, 7, {"a", "b"}], ids=["text", "none", "number", "set"])
def test_31_containers_are_accepted_and_32_refused(leaf: Any) -> None:
    schema = read_schema(description("id"))
    make_put(schema, {"id": "x", "deep": containers(31, leaf)}, NAMES, "here")
    with pytest.raises(InvalidItemError, match="nested deeper than 32 levels"):
        make_put(schema, {"id": "x", "deep": containers(32, leaf)}, NAMES, "here")


@pytest.mark.parametrize("empty", [[], {}, ()], ids=repr)
def test_an_empty_container_is_a_container(empty: Any) -> None:
    schema = read_schema(description("id"))
    make_put(schema, {"id": "x", "deep": containers(30, empty)}, NAMES, "here")
    with pytest.raises(InvalidItemError):
        make_put(schema, {"id": "x", "deep": containers(31, empty)}, NAMES, "here")


# --- how long it is believed --------------------------------------------------------------------------------------

FAILURES = (FailureKind.THROTTLED, FailureKind.UNREACHABLE, FailureKind.ACCESS_DENIED, FailureKind.CREDENTIALS)


class Known:
    """Schemas that have seen the table once, on a control plane that may go away."""

    def __init__(self) -> None:
        self.time = ManualTime()
        self.calls = ScriptedCalls({"Table": description("id")})
        self.schemas = Schemas(Store(self.calls, self.time), self.time, limits.ATTEMPT_DEADLINE_SECONDS)
        self.schema = self.schemas.get("orders")

    def fail(self, kind: FailureKind) -> None:
        self.calls.steps = [CallFailed(kind, "Code", "orders") for _ in range(100)]

    def asked(self) -> int:
        return len(self.calls.sent)


@pytest.mark.parametrize("kind", FAILURES)
def test_a_known_schema_outlives_a_control_plane_that_does_not_answer(kind: FailureKind) -> None:
    known = Known()
    known.fail(kind)
    known.time.pass_seconds(limits.SCHEMA_TTL_SECONDS + 1)
    before = known.time.elapsed
    assert known.schemas.get("orders") == known.schema
    assert known.asked() > 1, "it was asked for again"
    assert known.time.elapsed - before <= limits.SCHEMA_REFRESH_SECONDS, "a commit does not wait for it"
    asked = known.asked()
    known.time.pass_seconds(limits.SCHEMA_RETRY_SECONDS - 2)
    assert known.schemas.get("orders") == known.schema
    assert known.asked() == asked, "not with every operation"


def test_a_refresh_is_tried_again_after_a_while_and_then_believed() -> None:
    known = Known()
    known.fail(FailureKind.ACCESS_DENIED)
    known.time.pass_seconds(limits.SCHEMA_TTL_SECONDS + 1)
    known.schemas.get("orders")
    known.time.pass_seconds(limits.SCHEMA_RETRY_SECONDS + 1)
    known.calls.steps = [{"Table": description("id", globally=[("new",)])}]
    assert [key.name for key in known.schemas.get("orders").index_keys] == ["new"]
    asked = known.asked()
    known.time.pass_seconds(limits.SCHEMA_TTL_SECONDS - 1)
    known.schemas.get("orders")
    assert known.asked() == asked


@pytest.mark.parametrize("kind", FAILURES)
def test_a_table_never_seen_is_refused_while_it_cannot_be_asked(kind: FailureKind) -> None:
    known = Known()
    known.fail(kind)
    with pytest.raises(CommitFailedError):
        known.schemas.get("people")


def test_a_table_that_was_known_and_is_gone_is_refused() -> None:
    known = Known()
    known.fail(FailureKind.TABLE_MISSING)
    known.time.pass_seconds(limits.SCHEMA_TTL_SECONDS + 1)
    with pytest.raises(UnknownTableError):
        known.schemas.get("orders")


def test_the_patience_with_a_refresh_is_that_of_the_settings_where_it_is_shorter() -> None:
    time = ManualTime()
    calls = ScriptedCalls({"Table": description("id")})
    schemas = Schemas(Store(calls, time), time, 0.5)
    schemas.get("orders")
    time.pass_seconds(limits.SCHEMA_TTL_SECONDS + 1)
    calls.steps = [CallFailed(FailureKind.THROTTLED, "Code", "orders") for _ in range(100)]
    deadline = Deadline.after(0.5, time)
    schemas.get("orders")
    assert not deadline.passed()
