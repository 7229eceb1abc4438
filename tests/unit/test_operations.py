from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from reliable_write import limits
from reliable_write.errors import (
    ForeignStampError,
    InvalidItemError,
    InvalidKeyError,
    WriteRejectedError,
    WriteTooLargeError,
)
from reliable_write.operations import (
    Delete,
    KeyAttribute,
    Operation,
    Put,
    StampNames,
    TableSchema,
    canonical_key,
    check_batch,
    key_hash,
    located_actions,
    make_delete,
    make_put,
)
from reliable_write.values import WireItem, item_bytes

ORDERS = TableSchema(
    "orders",
    KeyAttribute("customer", "S"),
    KeyAttribute("number", "N"),
    (KeyAttribute("state", "S"), KeyAttribute("weight", "N")),
)
BLOBS = TableSchema("blobs", KeyAttribute("id", "B"))
NAMES = StampNames()
STAMP = "0" * 36
SECRET = "s3cret"
WHERE = "operations[3].items[4]"


def put(schema: TableSchema, item: dict[Any, Any]) -> Put:
    return make_put(schema, item, NAMES, WHERE)


def test_a_put_holds_the_item_as_the_wire_has_it() -> None:
    made = put(ORDERS, {"customer": "ada", "number": 7, "lines": [{"price": Decimal("1.50")}]})
    assert made.item["lines"] == {"L": [{"M": {"price": {"N": "1.50"}}}]}
    assert made.key == {"customer": {"S": "ada"}, "number": {"N": "7"}}


def test_later_changes_to_the_callers_item_do_not_reach_the_put() -> None:
    lines = [1]
    blob = bytearray(b"a")
    made = put(ORDERS, {"customer": "ada", "number": 7, "lines": lines, "blob": blob})
    lines.append(2)
    blob[0] = 0
    assert made.item["lines"] == {"L": [{"N": "1"}]}
    assert made.item["blob"] == {"B": b"a"}


def test_the_stamps_an_item_was_read_with_are_taken_off() -> None:
    made = put(ORDERS, {"customer": "ada", "number": 7, "_rw": STAMP, "_rwu": "f" * 36})
    assert made.item.keys() == {"customer", "number"}


def _sized(key: WireItem, total: int) -> dict[str, Any]:
    """An item of so many bytes with its stamp."""
    rest = total - item_bytes(key) - len("_rw") - 36 - len("blob")
    return {"blob": b"x" * rest}


ORDER_KEY = {"customer": "ada", "number": 7}
REFUSED: list[tuple[str, Callable[[], Any], type[WriteRejectedError], str]] = [
    ("missing hash key", lambda: put(ORDERS, {"number": 7, "x": SECRET}), InvalidKeyError, "'customer' is missing"),
    ("missing range key", lambda: put(ORDERS, {"customer": SECRET}), InvalidKeyError, "'number' is missing"),
    ("hash key of another type", lambda: put(ORDERS, {"customer": 7, "number": 7}), InvalidKeyError, "wants a string"),
    (
        "range key of another type",
        lambda: put(ORDERS, {"customer": SECRET, "number": SECRET}),
        InvalidKeyError,
        "wants a number",
    ),
    ("null key", lambda: put(ORDERS, {"customer": None, "number": 7}), InvalidKeyError, "of type NULL"),
    ("boolean key", lambda: put(ORDERS, {"customer": SECRET, "number": True}), InvalidKeyError, "of type BOOL"),
    ("empty string key", lambda: put(ORDERS, {"customer": "", "number": 7}), InvalidKeyError, "'customer' is empty"),
    ("empty binary key", lambda: put(BLOBS, {"id": b""}), InvalidKeyError, "'id' is empty"),
    (
        "index key of another type",
        lambda: put(ORDERS, {**ORDER_KEY, "state": 7, "x": SECRET}),
        InvalidKeyError,
        "index key attribute 'state' is of type N; the table wants a string",
    ),
    ("null index key", lambda: put(ORDERS, {**ORDER_KEY, "weight": None}), InvalidKeyError, "index key .* NULL"),
    ("empty index key", lambda: put(ORDERS, {**ORDER_KEY, "state": ""}), InvalidKeyError, "'state' is empty"),
    ("float", lambda: put(ORDERS, {**ORDER_KEY, "a": [SECRET, 1.5]}), InvalidItemError, r"a\[1\] is a float"),
    ("NaN", lambda: put(ORDERS, {**ORDER_KEY, "a": Decimal("NaN")}), InvalidItemError, "finite"),
    ("empty set", lambda: put(ORDERS, {**ORDER_KEY, "a": set()}), InvalidItemError, "empty set"),
    ("NaN in a key", lambda: put(ORDERS, {"customer": SECRET, "number": Decimal("NaN")}), InvalidItemError, "finite"),
    (
        "hash key too long",
        lambda: put(ORDERS, {"customer": SECRET * 400, "number": 7}),
        WriteTooLargeError,
        f"DynamoDB takes {limits.HASH_KEY_BYTES_MAX}",
    ),
    (
        "range key too long",
        lambda: put(
            TableSchema("t", KeyAttribute("a", "S"), KeyAttribute("b", "S", limits.RANGE_KEY_BYTES_MAX)),
            {"a": SECRET, "b": SECRET * 200},
        ),
        WriteTooLargeError,
        f"DynamoDB takes {limits.RANGE_KEY_BYTES_MAX}",
    ),
    (
        "hash key of 2048 characters and more bytes",
        lambda: put(ORDERS, {"customer": "ä" * 1025, "number": 7}),
        WriteTooLargeError,
        "2050 bytes",
    ),
    (
        "item too large",
        lambda: put(ORDERS, {**ORDER_KEY, "a": SECRET * 70_000}),
        WriteTooLargeError,
        f"DynamoDB takes {limits.ITEM_BYTES_MAX}",
    ),
    ("stamp of another type", lambda: put(ORDERS, {**ORDER_KEY, "_rw": 7}), ForeignStampError, "'_rw' is reserved"),
    ("stamp of another shape", lambda: put(ORDERS, {**ORDER_KEY, "_rw": SECRET}), ForeignStampError, "'_rw'"),
    ("upper case stamp", lambda: put(ORDERS, {**ORDER_KEY, "_rwu": "F" * 36}), ForeignStampError, "'_rwu'"),
    ("map as stamp", lambda: put(ORDERS, {**ORDER_KEY, "_rw": {"S": STAMP}}), ForeignStampError, "type M"),
    (
        "delete: missing",
        lambda: make_delete(ORDERS, {"customer": SECRET}, WHERE),
        InvalidKeyError,
        "'number' is missing",
    ),
    (
        "delete: surplus",
        lambda: make_delete(ORDERS, {**ORDER_KEY, "state": SECRET}, WHERE),
        InvalidKeyError,
        "Key holds 'state'",
    ),
    (
        "delete: type",
        lambda: make_delete(ORDERS, {"customer": SECRET, "number": SECRET}, WHERE),
        InvalidKeyError,
        "wants a number",
    ),
    ("delete: empty", lambda: make_delete(BLOBS, {"id": b""}, WHERE), InvalidKeyError, "'id' is empty"),
    (
        "delete: too long",
        lambda: make_delete(BLOBS, {"id": b"x" * 2049}, WHERE),
        WriteTooLargeError,
        f"2049 bytes; DynamoDB takes {limits.HASH_KEY_BYTES_MAX}",
    ),
    ("no mapping", lambda: put(ORDERS, [SECRET]), InvalidItemError, "mapping"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "kind", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_cannot_be_written_is_refused_by_name_and_without_values(
    make: Callable[[], Any], kind: type[WriteRejectedError], words: str
) -> None:
    with pytest.raises(WriteRejectedError, match=words) as caught:
        make()
    assert type(caught.value) is kind
    message = str(caught.value)
    assert message.startswith(WHERE)
    assert " orders" in message or " blobs" in message or " t:" in message
    assert SECRET not in message


def test_an_item_of_exactly_the_limit_with_its_stamp_is_accepted_and_one_byte_more_refused() -> None:
    key: WireItem = {"id": {"B": b"k"}}
    exact = {"id": b"k", **_sized(key, limits.ITEM_BYTES_MAX)}
    made = put(BLOBS, exact)
    assert item_bytes({**made.item, "_rw": {"S": STAMP}}) == limits.ITEM_BYTES_MAX
    with pytest.raises(WriteTooLargeError):
        put(BLOBS, {**exact, "blob": exact["blob"] + b"x"})


def test_keys_of_exactly_the_limit_are_accepted() -> None:
    two = TableSchema("t", KeyAttribute("a", "S"), KeyAttribute("b", "S", limits.RANGE_KEY_BYTES_MAX))
    put(two, {"a": "x" * limits.HASH_KEY_BYTES_MAX, "b": "x" * limits.RANGE_KEY_BYTES_MAX})


def test_an_absent_index_key_is_fine() -> None:
    put(ORDERS, {**ORDER_KEY, "weight": 1})


@pytest.mark.parametrize("items", ["text", b"bytes", {"id": 1}, 7, None], ids=repr)
def test_a_batch_is_a_collection_of_mappings(items: object) -> None:
    with pytest.raises(InvalidItemError, match="a batch is a list of mappings"):
        check_batch(items, WHERE)  # type: ignore[arg-type]


def test_a_batch_may_be_any_iterable() -> None:
    assert check_batch(({"id": number} for number in range(3)), WHERE) == [{"id": 0}, {"id": 1}, {"id": 2}]


def test_each_action_has_its_place_in_the_callers_order() -> None:
    one, two = (Delete("orders", ("id",), {"id": {"S": name}}) for name in "ab")
    single, batch = Operation("delete_item", (one,)), Operation("delete_items", (one, two))
    assert [place for place, _ in located_actions([single, batch])] == [
        "operations[0]",
        "operations[1].items[0]",
        "operations[1].items[1]",
    ]


# --- tombstones are found by these: a stored format ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "key", "name"),
    [
        ("orders", {"id": {"S": "ada"}}, "1f1e11ffa8fd40a06fcdd014823dd9767b40831f"),
        ("orders", {"id": {"S": "ä\u2028😀"}}, "f7b459949fe29e71b7704c53baa3707f6b352140"),
        ("orders", {"id": {"N": "1"}}, "9990a7352415d704151b85a615fe4072ba6575bf"),
        ("orders", {"id": {"N": "1.0"}}, "9990a7352415d704151b85a615fe4072ba6575bf"),
        ("orders", {"id": {"B": b"\x00\xff"}}, "e1c4f844230f4903d69c421462c2200d1c287199"),
        ("orders", {"id": {"S": "ada"}, "at": {"N": "120"}}, "52347a0a1deaab7b7c6f7b83a6f9c34074bf099d"),
        ("Orders", {"id": {"S": "ada"}}, "aa5a1642fe15c568f33fb3c0c39b10445ca3d288"),
    ],
)
def test_the_name_of_a_tombstone_never_changes(table: str, key: WireItem, name: str) -> None:
    assert key_hash(Delete(table, tuple(key), key)) == name
    assert key_hash(Put(table, tuple(key), {**key, "more": {"S": "x"}})) == name


def test_a_number_key_is_one_key_however_it_is_spelled() -> None:
    """CE14."""
    spelled = [Delete("t", ("id",), {"id": {"N": text}}) for text in ("1", "1.0", "1e0", "10E-1", "+01")]
    assert len({canonical_key(action) for action in spelled}) == 1
    assert canonical_key(Delete("t", ("id",), {"id": {"S": "1"}})) != canonical_key(spelled[0])


def test_keys_that_only_look_alike_when_joined_stay_apart() -> None:
    one = Delete("t", ("a", "b"), {"a": {"S": "x"}, "b": {"S": 'y","S:z'}})
    other = Delete("t", ("a", "b"), {"a": {"S": 'x","S:y'}, "b": {"S": "z"}})
    assert key_hash(one) != key_hash(other)


def test_an_error_about_a_key_holds_nothing_but_the_key() -> None:
    """People give whole items as keys, and errors end up in error trackers."""
    refusals: list[tuple[Callable[[], Any], dict[str, Any]]] = [
        (lambda: put(ORDERS, {"customer": "ada", "note": SECRET}), {"customer": "ada"}),
        (lambda: make_delete(ORDERS, {"customer": "ada", "note": SECRET}, WHERE), {"customer": "ada"}),
        (lambda: make_delete(ORDERS, {**ORDER_KEY, "note": SECRET}, WHERE), ORDER_KEY),
    ]
    for refuse, key in refusals:
        with pytest.raises(InvalidKeyError) as caught:
            refuse()
        assert caught.value.key == key
        assert SECRET not in repr(caught.value.__dict__)


def test_a_surplus_attribute_is_named_in_one_short_line() -> None:
    name = "first\nsecond" + "x" * 60_000
    with pytest.raises(InvalidKeyError, match=r"first\\nsecondxxx") as caught:
        make_delete(ORDERS, {**ORDER_KEY, name: 1}, WHERE)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)
