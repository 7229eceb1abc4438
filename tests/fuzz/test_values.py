"""Arbitrary Python values as items and keys: refused by the path of what is wrong, or stored exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from boto3.dynamodb.types import Binary, TypeDeserializer, TypeSerializer
from hypothesis import example, given
from hypothesis import strategies as st

from reliable_write.errors import Outcome, WriteRejectedError
from reliable_write.operations import (
    Delete,
    KeyAttribute,
    StampNames,
    TableSchema,
    canonical_key,
    key_hash,
    make_delete,
    make_put,
)
from reliable_write.values import decode_item, encode_item, item_bytes
from tests.fuzz.tally import tally, tried
from tests.unit.test_values import comparable

MARK = "Sekr3t"
"""In every string value that is tried; no message may hold it."""
SCHEMA = TableSchema("orders", KeyAttribute("id", "S"), KeyAttribute("at", "N"))

any_text = st.text(st.characters(), max_size=8)  # with halves of surrogate pairs and control characters
marked = any_text.map(lambda text: text + MARK)
any_number = st.one_of(
    st.integers(),
    st.integers(0, 6000).map(lambda power: 10**power + 1),
    st.floats(),
    st.decimals(allow_nan=False),
    st.builds(lambda digits, power: Decimal(digits).scaleb(power), st.integers(-9, 9), st.integers(-200, 200)),
    st.sampled_from([Decimal("NaN"), Decimal("-Infinity"), Decimal("-0"), Decimal("1E+5000"), 1j]),
)
hashable = st.one_of(st.none(), st.booleans(), any_number, marked, st.binary(max_size=8), st.tuples(any_number))
long_name = st.integers(65_530, 65_540).map(lambda length: "n" * length)
any_name = st.one_of(any_text, any_text, any_text, hashable, long_name, st.just("id\x1b[31m\n"))
odd = st.sampled_from(
    [object, object(), ..., range(3), iter(()), bytearray(b"x"), Binary(b"y"), memoryview(b"z"), Decimal("sNaN")]
)
any_value = st.recursive(
    st.one_of(hashable, odd, st.sets(hashable, max_size=3), st.frozensets(any_number, max_size=3)),
    lambda part: st.one_of(
        st.lists(part, max_size=3), st.tuples(part, part), st.dictionaries(any_name, part, max_size=3)
    ),
    max_leaves=8,
)


def nested(levels: int) -> Any:
    value: Any = "the innermost"
    for level in range(levels):
        value = [value] if level % 2 else {"in": value}
    return value


deep = st.integers(0, 300).map(nested)
any_item = st.one_of(st.dictionaries(any_name, any_value, max_size=4), st.dictionaries(any_text, deep, max_size=2))
any_item |= st.one_of(any_value, st.dictionaries(any_text, st.one_of(marked, st.integers(0, 9)), max_size=5))


def check_message(error: WriteRejectedError, where: str) -> None:
    text = str(error)
    assert error.outcome is Outcome.NOT_WRITTEN
    assert text.startswith(where)
    assert text.isprintable(), "a name got into a message as it was"
    assert len(text) < 1000
    assert text.encode(), "half a surrogate pair got into a message"


def check_tells_no_value(error: WriteRejectedError, item: Any) -> None:
    assert has_mark_in_a_name(item) or MARK not in str(error)


def check_path(error: Any, path: str) -> None:
    assert str(error).startswith(f"here: {path} ")
    assert error.path == path


def has_mark_in_a_name(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any((isinstance(name, str) and MARK in name) or has_mark_in_a_name(part) for name, part in value.items())
    return isinstance(value, list | tuple | set | frozenset) and any(map(has_mark_in_a_name, value))


def test_an_item_is_refused_by_name_or_stored_exactly() -> None:
    with tally("items", "stored", "refused") as counts:

        @tried(0.25)
        @example({"a": {10**5000: 1}})
        @example({10**5000: 1})
        @example({"a": 10**5000})
        @example({"a": "\ud800"})
        @given(any_item)
        def run(item: Any) -> None:
            counts["inputs"] += 1
            try:
                wire = encode_item(item, "operations[3]")
            except WriteRejectedError as error:
                counts["refused"] += 1
                check_message(error, "operations[3]")
                check_tells_no_value(error, item)
                return
            counts["stored"] += 1
            serializer, deserializer = TypeSerializer(), TypeDeserializer()
            theirs = {name: serializer.serialize(value) for name, value in item.items()}
            assert {name: comparable(value) for name, value in wire.items()} == {
                name: comparable(value) for name, value in theirs.items()
            }
            assert decode_item(wire) == {name: deserializer.deserialize(value) for name, value in theirs.items()}
            assert item_bytes(wire) >= 0

        run()


def test_a_bad_value_anywhere_is_told_by_its_path() -> None:
    """The path that is told leads to the value that is refused, for every way there."""
    with tally("paths", "refused") as counts:
        steps = st.lists(st.one_of(st.integers(0, 3), st.sampled_from(["lines", "price", "a b"])), max_size=6)

        @tried(0.06)
        @given(steps, st.sampled_from([1.5, math.nan, float("inf"), set(), object(), 10**40, "\ud800", Decimal("NaN")]))
        def run(way: list[int | str], bad: Any) -> None:
            counts["inputs"] += 1
            value = bad
            for step in reversed(way):
                value = {step: value, "other": 1} if isinstance(step, str) else [*[0] * step, value, "more"]
            path = "top" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in way)
            try:
                encode_item({"top": value}, "here")
            except WriteRejectedError as error:
                counts["refused"] += 1
                check_path(error, path)
                return
            raise AssertionError("stored what cannot be")

        run()


def test_a_put_or_delete_is_refused_by_name_or_has_its_key() -> None:
    """As `scope.put_item` and `scope.delete_item` check it, before anything is sent."""
    with tally("operations", "recorded", "refused") as counts:
        likely_id = st.one_of(st.text(st.characters(codec="utf-8"), min_size=1, max_size=5), any_value)
        likely_at = st.one_of(st.integers(-(10**37), 10**37), any_value)
        items = st.builds(
            lambda rest, id_, at: {**(rest if isinstance(rest, dict) else {}), "id": id_, "at": at},
            st.one_of(st.just({}), any_item),
            likely_id,
            likely_at,
        )

        @tried(0.12)
        @given(st.one_of(items, any_item), st.booleans())
        def run(item: Any, as_key: bool) -> None:
            counts["inputs"] += 1
            try:
                if as_key:
                    action: Any = make_delete(SCHEMA, item, "operations[0]")
                else:
                    action = make_put(SCHEMA, item, StampNames(), "operations[0]")
            except WriteRejectedError as error:
                counts["refused"] += 1
                check_message(error, "operations[0]")
                return
            counts["recorded"] += 1
            assert set(action.key) == {"id", "at"}
            assert len(key_hash(action)) == 40

        run()


def spellings(number: Decimal) -> list[str]:
    """The same number in the ways people and engines write it."""
    plain = format(number, "f")
    sign, _, digits = plain.rpartition("-")
    mark = "-" if _ else sign
    ways = [plain, str(number), f"{number:E}", str(number.normalize()), f"{mark}00{digits}"]
    return [*ways, plain + ("0" if "." in plain else ".000"), f"{plain}E0", f"{plain}e+00"]


def test_numbers_are_one_key_exactly_when_they_are_equal() -> None:
    with tally("numbers as keys", "equal", "different") as counts:
        exponents = st.integers(-125, 80)
        numbers = st.builds(
            lambda digits, power: Decimal(digits).scaleb(power), st.integers(-(10**30), 10**30), exponents
        )
        small = st.builds(lambda digits, power: Decimal(digits).scaleb(power), st.integers(-20, 20), st.integers(-2, 2))

        @tried(0.12)
        @given(st.one_of(st.tuples(small, small), st.tuples(numbers, numbers)), st.data())
        def run(pair: tuple[Decimal, Decimal], data: st.DataObject) -> None:
            counts["inputs"] += 1
            one, other = (data.draw(st.sampled_from(spellings(number))) for number in pair)
            counts["equal" if pair[0] == pair[1] else "different"] += 1
            same = place("N", one) == place("N", other)
            assert same == (Decimal(one) == Decimal(other)), (one, other)
            assert place("N", one) == place("N", str(pair[0]))

        run()


def test_other_keys_never_collide() -> None:
    """Of other types, with separators of ours in them, split in another way between hash and range key."""
    with tally("keys", "different") as counts:
        part = st.text(st.sampled_from('SNB:"\\,[]é\x00\u2028 0a'), min_size=1, max_size=4)
        value = st.one_of(
            part.map(lambda text: {"S": text}),
            part.map(lambda text: {"B": text.encode()}),
            st.integers(0, 9).map(lambda number: {"N": str(number)}),
            st.integers(0, 9).map(lambda number: {"S": f"N:{number}E0"}),
        )
        key = st.tuples(st.sampled_from(["t", "t,", 't"']), value, value)

        @tried(0.1)
        @given(key, key)
        def run(one: Any, other: Any) -> None:
            counts["inputs"] += 1
            counts["equal" if one == other else "different"] += 1
            first, second = (
                Delete(table, ("h", "r"), {"h": hash_, "r": range_}) for table, hash_, range_ in (one, other)
            )
            assert (canonical_key(first) == canonical_key(second)) == (one == other)
            assert (key_hash(first) == key_hash(second)) == (one == other)

        run()


def place(kind: str, content: Any) -> tuple[tuple[str, ...], str]:
    action = Delete("t", ("id",), {"id": {kind: content}})
    return canonical_key(action), key_hash(action)
