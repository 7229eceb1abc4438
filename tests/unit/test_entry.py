from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from boto3.dynamodb.types import Binary
from hypothesis import given, settings
from hypothesis import strategies as st

from reliable_write import limits
from reliable_write.clock import Stamp
from reliable_write.entry import (
    FORMAT,
    Entry,
    State,
    UnreadableEntry,
    _unpack,
    chunk_key,
    decode_operations,
    encode_operations,
    entry_item,
    entry_key,
    read_entry,
    shard_of,
)
from reliable_write.errors import Outcome, WriteTooLargeError
from reliable_write.operations import Delete, Operation, Put
from reliable_write.values import WireItem
from tests.unit.test_values import comparable, items

GOLDEN = Path(__file__).with_name("golden") / "entry-format-1.bin"
STAMP = Stamp("018bcfe568000000" + "0123456789abcdef0123")
OTHER = Stamp("018bcfe568000001" + "0123456789abcdef0123")

EVERY_KIND: WireItem = {
    "id": {"S": "ada"},
    "at": {"N": "-12.50"},
    "text": {"S": "ä\u2028😀\x00"},
    "blob": {"B": b"\x00\xff"},
    "flag": {"BOOL": False},
    "none": {"NULL": True},
    "texts": {"SS": ["a", "b"]},
    "numbers": {"NS": ["1", "2.5"]},
    "blobs": {"BS": [b"", b"\x00\xff"]},
    "list": {"L": [{"S": ""}, {"L": []}, {"B": b"x"}]},
    "map": {"M": {"B": {"S": "a map with an attribute B"}, "S": {"B": b"y"}}},
    "B": {"M": {"B": {"B": b"z"}}},
    "BS": {"L": [{"BS": [b"z"]}]},
}
GOLDEN_OPERATIONS = (
    Operation("put_item", (Put("people", ("id", "at"), EVERY_KIND),)),
    Operation(
        "put_items", (Put("places", ("id",), {"id": {"B": b"\x01"}}), Put("places", ("id",), {"id": {"B": b"2"}}))
    ),
    Operation("delete_item", (Delete("people", ("id", "at"), {"id": {"S": "bob"}, "at": {"N": "1"}}),)),
    Operation("delete_items", (Delete("places", ("id",), {"id": {"B": b"\xff"}}),)),
)


def entry(payload: bytes | None, *, stamp: Stamp = STAMP, **more: Any) -> Entry:
    facts: dict[str, Any] = {"write_id": stamp, "format": FORMAT, "committed_at_milliseconds": 7, **more}
    return Entry(shard=3, stamp=stamp, payload=payload, **facts)


def decoded(payload: bytes, **more: Any) -> tuple[Operation, ...]:
    return decode_operations(entry(payload, **more), payload)


def forged(text: bytes) -> bytes:
    """A payload whose checksum is right, whatever is in it."""
    return sealed(zstandard.ZstdCompressor().compress(text))


def sealed(body: bytes) -> bytes:
    digest = hashlib.blake2b(f"{FORMAT}\0{STAMP}\0{STAMP}\0".encode(), digest_size=16)
    digest.update(body)
    return digest.digest() + body


# --- there and back -----------------------------------------------------------------------------------------------


@given(st.lists(items, min_size=1, max_size=4))
def test_every_item_comes_back_as_it_was(contents: list[dict[str, Any]]) -> None:
    from reliable_write.values import encode_item  # noqa: PLC0415

    operations = tuple(
        Operation("put_item", (Put(f"table-{index % 2}", ("id",), {**encode_item(item, "x"), "id": {"S": "k"}}),))
        for index, item in enumerate(contents)
    )
    assert decoded(encode_operations(operations, STAMP, STAMP)) == operations


def test_all_verbs_and_kinds_come_back_as_they_were() -> None:
    assert decoded(encode_operations(GOLDEN_OPERATIONS, STAMP, STAMP)) == GOLDEN_OPERATIONS


def test_an_entry_of_format_1_is_read_for_ever() -> None:
    """The file was written by the first version and is never written again."""
    assert decoded(GOLDEN.read_bytes()) == GOLDEN_OPERATIONS


def test_bytes_in_any_guise_are_the_same_entry() -> None:
    plain = (Operation("put_item", (Put("t", ("id",), {"id": {"B": b"x"}}),)),)
    assert decoded(encode_operations(plain, STAMP, STAMP)) == plain


def test_the_same_operations_give_the_same_bytes() -> None:
    """A repeated commit sends the same bytes, in whatever process."""
    assert encode_operations(GOLDEN_OPERATIONS, STAMP, STAMP) == encode_operations(GOLDEN_OPERATIONS, STAMP, STAMP)


# --- damage -------------------------------------------------------------------------------------------------------


def test_every_flipped_bit_is_recognised() -> None:
    payload = GOLDEN.read_bytes()
    for position in range(len(payload) * 8):
        damaged = bytearray(payload)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(UnreadableEntry, match="checksum"):
            decoded(bytes(damaged))


def test_every_truncation_is_recognised() -> None:
    payload = GOLDEN.read_bytes()
    for length in range(len(payload)):
        with pytest.raises(UnreadableEntry, match="checksum"):
            decoded(payload[:length])
    with pytest.raises(UnreadableEntry, match="checksum"):
        decoded(payload + b"\0")


def test_a_payload_moved_to_another_entry_is_recognised() -> None:
    payload = GOLDEN.read_bytes()
    with pytest.raises(UnreadableEntry, match="belongs to another entry"):
        decoded(payload, stamp=OTHER)
    with pytest.raises(UnreadableEntry, match="belongs to another entry"):
        decoded(payload, write_id=OTHER)


def test_swapped_chunks_are_recognised() -> None:
    payload = GOLDEN.read_bytes()
    half = len(payload) // 2
    with pytest.raises(UnreadableEntry, match="checksum"):
        decoded(payload[half:] + payload[:half])


@pytest.mark.parametrize("number", [0, 2, 99, -1])
def test_an_unknown_format_is_told_apart_from_damage(number: int) -> None:
    """Old monitors meet new entries: they must leave them alone."""
    with pytest.raises(UnreadableEntry, match=f"format {number}") as caught:
        decoded(b"whatever the future holds", format=number)
    assert caught.value.unknown_format


def test_an_unknown_verb_is_told_apart_from_damage() -> None:
    with pytest.raises(UnreadableEntry, match="'update_item' is not known") as caught:
        decoded(forged(b'{"tables":[["t",["id"]]],"operations":[["update_item",0,[{"id":{"S":"x"}}]]]}'))
    assert caught.value.unknown_format


def test_damage_is_no_unknown_format() -> None:
    with pytest.raises(UnreadableEntry) as caught:
        decoded(b"")
    assert not caught.value.unknown_format


# --- bombs and garbage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["x", "ä", "\0", '"', "😀"], ids=ascii)
def test_what_is_encoded_is_decoded_up_to_the_very_bound(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bound in both directions: an entry that is committed can be read."""

    def operation(count: int) -> Operation:
        return Operation("put_item", (Put("t", ("id",), {"id": {"S": "a"}, "text": {"S": text * count}}),))

    monkeypatch.setattr(limits, "ENTRY_BYTES_DECODED_MAX", 1_000)
    each = len(json.dumps(text, ensure_ascii=False).encode()) - 2
    rest = len(_unpack(encode_operations([operation(0)], STAMP, STAMP)[16:]))
    most = (1_000 - rest) // each
    assert decoded(encode_operations([operation(most)], STAMP, STAMP)) == (operation(most),)
    with pytest.raises(WriteTooLargeError) as caught:
        encode_operations([operation(most + 1)], STAMP, STAMP)
    assert caught.value.outcome is Outcome.NOT_WRITTEN


def test_a_payload_that_claims_too_much_is_refused_unread() -> None:
    claim = (limits.ENTRY_BYTES_DECODED_MAX + 1).to_bytes(8, "little")
    frame = b"\x28\xb5\x2f\xfd" + b"\xe0" + claim + b"\x01\x00\x00"
    assert zstandard.frame_content_size(frame) == limits.ENTRY_BYTES_DECODED_MAX + 1
    with pytest.raises(UnreadableEntry, match="claims"):
        decoded(sealed(frame))


def test_a_payload_that_does_not_say_its_size_is_refused_unread() -> None:
    compressor = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    frame = compressor.compress(b"x" * 1000) + compressor.flush()
    with pytest.raises(UnreadableEntry, match="claims -1"):
        decoded(sealed(frame))


def test_a_payload_that_unpacks_to_more_than_it_claims_is_refused() -> None:
    honest = zstandard.ZstdCompressor().compress(b"x" * 100_000)
    assert honest[4] & 0xC0 == 0x80, "a four-byte size"
    lie = honest[:5] + (10).to_bytes(4, "little") + honest[9:]
    assert zstandard.frame_content_size(lie) == 10
    with pytest.raises(UnreadableEntry):
        decoded(sealed(lie))


def test_a_payload_of_more_items_than_a_scope_takes_is_refused() -> None:
    rows = [["put_item", 0, [{"id": {"S": "x"}}]]] * (limits.SCOPE_ITEMS_MAX + 1)
    with pytest.raises(UnreadableEntry, match="more than 625 items"):
        decoded(forged(json.dumps({"tables": [["t", ["id"]]], "operations": rows}).encode()))


GARBAGE = [
    b"",
    b"\xff",
    b"not json",
    b"null",
    b"[]",
    b"7",
    b'"text"',
    b"{}",
    b'{"tables":[]}',
    b'{"tables":null,"operations":null}',
    b'{"tables":7,"operations":[]}',
    b'{"tables":[["t"]],"operations":[]}',
    b'{"tables":[],"operations":[["put_item",0,[{}]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",1,[{}]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item","0",[{}]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,[]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,[{}]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,[[]]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,[null]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,["id"]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,7]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,[{"id":"S"}]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,[{"id":["S"]}]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,[{"id":7}]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,[{"id":{}}]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,[{"id":{"S":7}}]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,[{"id":{"N":"x"}}]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,[{"id":{"N":"NaN"}}]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,[{"id":{"N":"Infinity"}}]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,[{"id":{"N":7}}]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,[{"id":{"B":7}}]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,[{"id":{"B":"?"}}]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,[{"id":{"S":"a","N":"1"}}]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,[{"id":{"BOOL":true}}]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,[{"id":{"S":"a"},"x":{"BS":["?"]}}]]]}',
    b'{"tables":[["t",[]]],"operations":[["delete_item",0,[{}]]]}',
    b'{"tables":[["t",["id"]]],"operations":[["delete_item",0,[{"id":{"S":"a"},"x":{"S":"b"}}]]]}',
    b"[" * 200_000,
    b'{"tables":[["t",["id"]]],"operations":[["put_item",0,[{"id":' + b"[" * 100_000,
]


@pytest.mark.parametrize("text", GARBAGE, ids=lambda text: text[-40:].decode("latin-1"))
def test_garbage_under_a_right_checksum_is_unreadable_and_nothing_worse(text: bytes) -> None:
    with pytest.raises(UnreadableEntry):
        decoded(forged(text))


@settings(max_examples=200)
@given(
    st.recursive(
        st.one_of(
            st.none(), st.integers(), st.sampled_from(["put_item", "delete_item", "id", "t", "S", "N", "B", "BS"])
        ),
        lambda part: st.one_of(
            st.lists(part, max_size=3),
            st.dictionaries(st.sampled_from(["tables", "operations", "id", "S", "N", "B"]), part),
        ),
        max_leaves=20,
    )
)
def test_no_json_under_a_right_checksum_is_worse_than_unreadable(rows: Any) -> None:
    text = json.dumps({"tables": [["t", ["id"]]], "operations": [["put_item", 0, rows]]})
    try:
        operations = decoded(forged(text.encode()))
    except UnreadableEntry:
        return
    for operation in operations:
        for action in operation.actions:
            assert action.key


@given(st.binary(max_size=200))
def test_no_bytes_at_all_are_worse_than_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableEntry):
        decoded(sealed(body))


# --- the entry as an item -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "made", [entry(b"payload"), entry(None, chunks=3), entry(b"", write_id="an-idempotency-key"), entry(b"x", format=9)]
)
def test_a_fresh_entry_comes_back_from_its_item(made: Entry) -> None:
    assert read_entry(entry_item(made)) == made


def test_what_later_changes_add_is_read() -> None:
    item: WireItem = {
        **entry_item(entry(None, chunks=2)),
        "state": {"S": "quarantined"},
        "epoch": {"N": "4"},
        "owner": {"S": "host:7"},
        "attempts": {"N": "3"},
        "next_at": {"N": "99"},
        "last_error": {"S": "access denied"},
    }
    assert read_entry(item) == dataclasses.replace(
        entry(None, chunks=2),
        state=State.QUARANTINED,
        epoch=4,
        owner="host:7",
        attempts=3,
        next_at_milliseconds=99,
        last_error="access denied",
    )


def test_a_state_of_the_future_is_kept_as_it_is() -> None:
    assert read_entry({**entry_item(entry(b"x")), "state": {"S": "frozen"}}).state == "frozen"


def test_a_payload_read_through_a_resource_is_bytes() -> None:
    item = {**entry_item(entry(b"x")), "payload": {"B": bytearray(b"x")}}
    assert type(read_entry(item).payload) is bytes
    assert Binary(b"x") == read_entry(item).payload


@pytest.mark.parametrize("name", ["pk", "sk", "write_id", "format", "state", "committed_at", "epoch"])
@pytest.mark.parametrize("value", [None, {"BOOL": True}, {"L": []}, {"S": ""}, {"N": "1.5"}], ids=repr)
def test_a_garbled_head_is_unreadable_and_nothing_worse(name: str, value: Any) -> None:
    item = entry_item(entry(b"x"))
    if value is None:
        del item[name]
    else:
        item[name] = value
    if value == {"S": ""} and name in ("write_id", "state"):
        read_entry(item)
        return
    with pytest.raises(UnreadableEntry):
        read_entry(item)


def test_where_records_live_never_changes() -> None:
    assert entry_key(3, STAMP) == {"pk": {"S": "J#003"}, "sk": {"S": STAMP}}
    assert entry_key(1234, STAMP)["pk"] == {"S": "J#1234"}
    assert chunk_key(STAMP, 7) == {"pk": {"S": f"C#{STAMP}"}, "sk": {"S": "0007"}}
    assert shard_of(STAMP, 64) == int("cdef0123", 16) % 64


def test_shards_are_taken_evenly() -> None:
    from reliable_write.clock import HybridClock, SystemTime  # noqa: PLC0415

    clock = HybridClock(SystemTime())
    counts = [0] * 8
    for _ in range(4000):
        counts[shard_of(clock.stamp(), 8)] += 1
    assert min(counts) > 300


def test_values_compare_as_they_are_stored() -> None:
    assert comparable({"N": "1.0"}) == comparable({"N": "1"})
