from __future__ import annotations

import enum
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from boto3.dynamodb.types import Binary, TypeDeserializer, TypeSerializer
from hypothesis import given
from hypothesis import strategies as st

from reliable_write import limits
from reliable_write.errors import InvalidItemError
from reliable_write.values import (
    AttributeValue,
    canonical_number,
    canonical_value,
    decode_item,
    encode_item,
    item_bytes,
    value_bytes,
)

WHERE = "operations[0] put into orders"


class Colour(str, enum.Enum):  # noqa: UP042 - StrEnum prints its value; this one does not, and is what people have
    RED = "red"


class Shade(enum.StrEnum):
    DARK = "dark"


class Rank(enum.IntEnum):
    FIRST = 1


def encoded(value: Any) -> AttributeValue:
    return encode_item({"v": value}, WHERE)["v"]


def refused(value: Any) -> InvalidItemError:
    with pytest.raises(InvalidItemError) as caught:
        encoded(value)
    assert str(caught.value).startswith(WHERE)
    return caught.value


# --- the same as boto3 --------------------------------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8"), max_size=20)
exponents = st.integers(-130, 87)
digits = st.integers(-(10**38) + 1, 10**38 - 1)
decimals = st.builds(lambda number, exponent: Decimal(number).scaleb(exponent), digits, exponents)
numbers = st.one_of(digits, decimals)
blobs = st.binary(max_size=20)
scalars = st.one_of(st.none(), st.booleans(), texts, numbers, blobs, st.builds(bytearray, blobs), blobs.map(Binary))
sets = st.one_of(
    st.sets(texts, min_size=1, max_size=5),
    st.frozensets(numbers, min_size=1, max_size=5),
    st.sets(blobs, min_size=1, max_size=5),
)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=10)
values = st.recursive(
    st.one_of(scalars, sets),
    lambda parts: st.one_of(
        st.lists(parts, max_size=4), st.lists(parts, max_size=4).map(tuple), st.dictionaries(names, parts, max_size=4)
    ),
    max_leaves=15,
)
items = st.dictionaries(names, values, max_size=5)


def comparable(value: Mapping[str, Any]) -> Any:
    """A wire value without what does not matter: how a number is spelled, and the order in a set."""
    ((kind, content),) = value.items()
    if kind == "N":
        return kind, Decimal(content)
    if kind == "NS":
        return kind, frozenset(map(Decimal, content))
    if kind in ("SS", "BS"):
        assert len(set(content)) == len(content)
        return kind, frozenset(content)
    if kind == "L":
        return kind, [comparable(part) for part in content]
    if kind == "M":
        return kind, {name: comparable(part) for name, part in content.items()}
    return kind, content


@given(items)
def test_an_item_is_encoded_as_boto3_would(item: dict[str, Any]) -> None:
    serialize = TypeSerializer().serialize
    theirs = {name: comparable(serialize(value)) for name, value in item.items()}
    assert {name: comparable(value) for name, value in encode_item(item, WHERE).items()} == theirs


@pytest.mark.parametrize(
    "value",
    [
        Colour.RED,
        Shade.DARK,
        Rank.FIRST,
        OrderedDict(a=1),
        defaultdict(int, a=1),
        MappingProxyType({"a": 1}),
        {Colour.RED, Shade.DARK},
        {Rank.FIRST, 7},
        (1, "two"),
        bytearray(b"x"),
        Binary(b"x"),
        {Binary(b"x"), b"y"},
        frozenset({"a"}),
        True,
        None,
        "",
        b"",
        {},
        [],
        0,
        Decimal("-0"),
        Decimal("1E+2"),
    ],
)
def test_subclasses_and_corners_are_encoded_as_boto3_would(value: Any) -> None:
    assert comparable(encoded(value)) == comparable(TypeSerializer().serialize(value))


def typed(value: Any) -> Any:
    """A value with the types of all its parts: `1 == Decimal(1) == True` must not hide a difference."""
    if isinstance(value, dict):
        return dict, {name: typed(part) for name, part in value.items()}
    if isinstance(value, (list, set)):
        parts = [typed(part) for part in value]
        return type(value), parts if isinstance(value, list) else sorted(parts, key=repr)
    return type(value), value.value if isinstance(value, Binary) else value  # type: ignore[attr-defined]  # not in stubs


@given(items)
def test_an_item_is_decoded_as_boto3_would(item: dict[str, Any]) -> None:
    wire, deserialize = encode_item(item, WHERE), TypeDeserializer().deserialize
    theirs = {name: deserialize(value) for name, value in wire.items()}  # type: ignore[arg-type]  # plain dicts
    assert typed(decode_item(wire)) == typed(theirs)


@given(items)
def test_what_was_decoded_is_encoded_as_it_was(item: dict[str, Any]) -> None:
    wire = encode_item(item, WHERE)
    assert encode_item(decode_item(wire), WHERE) == wire


@pytest.mark.parametrize("value", [{}, {"X": "1"}, {"S": "a", "N": "1"}, "text", None, 7, [], {"L": [{"Y": 1}]}])
def test_what_is_no_attribute_value_is_not_decoded(value: Any) -> None:
    with pytest.raises(TypeError):
        decode_item({"a": value})


@pytest.mark.parametrize(
    "value", [{10**38 + 1}, {Decimal("NaN")}, {Decimal("1E126")}, {"\ud800", "a"}, {1, 10**39 + 1}]
)
def test_members_of_one_plain_type_are_looked_at_too(value: Any) -> None:
    assert refused(value).path == "v"


@given(st.sampled_from([str, int, Decimal, bytes]), st.data())
def test_a_set_has_no_member_twice(kind: type, data: st.DataObject) -> None:
    members = {str: texts, int: digits, Decimal: decimals, bytes: blobs}[kind]
    value = data.draw(st.sets(members, min_size=1))
    ((_, content),) = encoded(value).items()
    told = {canonical_number(text) for text in content} if kind in (int, Decimal) else set(content)
    assert len(told) == len(content) == len(value)


@pytest.mark.parametrize(
    ("value", "kind", "content"),
    [(Colour.RED, "S", "red"), ({Colour.RED}, "SS", ["red"]), ({Colour.RED: 1}, "M", {"red": {"N": "1"}})],
)
def test_an_enumeration_of_strings_is_its_value_and_a_plain_string(value: Any, kind: str, content: Any) -> None:
    found = encoded(value)[kind]
    assert found == content
    assert all(type(part) is str for part in ([found] if isinstance(found, str) else found))


def test_a_set_with_one_string_in_two_guises_has_it_once() -> None:
    assert encoded({"red", Colour.RED}) == {"SS": ["red"]}


# --- what is refused, and where -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "path"),
    [
        ({"price": 1.5}, "price"),
        ({"lines": [{}, {}, {}, {"price": 1.5}]}, "lines[3].price"),
        ({"a": {"b": [[1.5]]}}, "a.b[0][0]"),
        ({"a": (1, 1.5)}, "a[1]"),
        ({"a": {"b": {1.5, 2.5}}}, "a.b"),
        ({"a": {"b": set()}}, "a.b"),
        ({"a": {7: 1}}, "a"),
        ({7: 1}, "7"),
    ],
)
def test_a_bad_value_is_named_by_its_path(item: dict[Any, Any], path: str) -> None:
    with pytest.raises(InvalidItemError) as caught:
        encode_item(item, WHERE)
    assert caught.value.path == path
    assert path in str(caught.value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.5, "float"),
        (float("nan"), "float"),
        (Decimal("NaN"), "finite"),
        (Decimal("sNaN"), "finite|digits"),
        (Decimal("Infinity"), "finite"),
        (Decimal("-Infinity"), "finite"),
        (10**38 + 1, "38 significant digits"),
        (int("9" * 39), "38 significant digits"),
        (Decimal("1." + "0" * 37 + "1"), "38 significant digits"),
        (10**4000 + 1, "38 significant digits"),
        (Decimal("1E126"), "exponent|range"),
        (Decimal("1E-131"), "range"),
        (Decimal("1E-200"), "range|exponent"),
        (set(), "empty set"),
        (frozenset(), "empty set"),
        ({1, "a"}, "mixed"),
        ({b"a", "a"}, "mixed"),
        ({True, 2}, "mixed"),
        ({True}, "mixed"),
        ({None}, "mixed"),
        ({(1,)}, "mixed"),
        ({1.5}, "mixed"),
        ("\ud800", "surrogate"),
        ({"\ud800"}, "surrogate"),
        ({"\ud800": 1}, "surrogate"),
        ({"": 1}, "empty"),
        ({"x" * (limits.ATTRIBUTE_NAME_BYTES_MAX + 1): 1}, "65535 bytes"),
        (object(), "object"),
        (1j, "complex"),
        (range(3), "range"),
    ],
)
def test_what_dynamodb_cannot_hold_is_refused(value: Any, words: str) -> None:
    with pytest.raises(InvalidItemError, match=words):
        encoded(value)


@pytest.mark.parametrize("text", ["1E-130", "9.9E125", "-9.9E125", "1E125", "0E50", "0", "-1E-130", "9" * 38])
def test_the_ends_of_the_range_of_numbers_are_accepted(text: str) -> None:
    assert Decimal(encoded(Decimal(text))["N"]) == Decimal(text)


def nested(levels: int) -> Any:
    value: Any = "leaf"
    for level in range(levels):
        value = [value] if level % 2 else {"m": value}
    return value


def test_32_levels_of_nesting_are_accepted_and_33_refused() -> None:
    """What the innermost of 31 containers holds is the 32nd level; for the engines see the conformance suite."""
    encoded(nested(31))
    assert "32 levels" in str(refused(nested(32)))


def test_a_value_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert "32 levels" in str(refused(endless))


@pytest.mark.parametrize("item", [None, [], "text", 7, [("a", 1)]])
def test_an_item_that_is_no_mapping_is_refused(item: Any) -> None:
    with pytest.raises(InvalidItemError, match="mapping"):
        encode_item(item, WHERE)


@given(values, st.sampled_from([1.5, Decimal("NaN"), set(), object(), 10**39 + 1]))
def test_a_message_never_holds_a_value(value: Any, bad: Any) -> None:
    marker = "s3cret"
    error = refused([marker, value, {"name": marker, "bad": [bad, marker]}])
    assert marker not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None


# --- sizes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "size"),
    [
        # The Developer Guide's rules, worked out by hand.
        ({"a": {"S": "bc"}}, 3),
        ({"ä": {"S": "ö"}}, 4),
        ({"a": {"B": b"123"}}, 4),
        ({"a": {"BOOL": True}}, 2),
        ({"a": {"NULL": True}}, 2),
        ({"a": {"SS": ["bc", "d"]}}, 4),
        ({"a": {"BS": [b"bc", b"d"]}}, 4),
        ({"a": {"L": []}}, 1 + 3),
        ({"a": {"M": {}}}, 1 + 3),
        ({"a": {"L": [{"S": "b"}]}}, 1 + 3 + 1 + 1),
        ({"a": {"M": {"k": {"S": "b"}}}}, 1 + 3 + 1 + 1 + 1),
    ],
)
def test_the_size_of_an_item_is_what_dynamodb_counts(item: dict[str, Any], size: int) -> None:
    assert item_bytes(item) == size


@pytest.mark.parametrize(
    ("text", "least"),
    [("0", 1), ("7", 2), ("27", 2), ("-27", 3), ("461", 3), ("17711", 4), ("-17711", 5), ("1E125", 2), ("0.1", 2)],
)
def test_the_size_of_a_number_is_never_too_small_and_at_most_22(text: str, least: int) -> None:
    assert least <= value_bytes({"N": text}) <= 22


@given(numbers)
def test_no_number_is_larger_than_dynamodb_says(number: int | Decimal) -> None:
    """The guide: a number takes one byte for two significant digits and one more, 21 bytes and a sign at most."""
    assert value_bytes(encoded(number)) <= 22


# --- keys in one form ---------------------------------------------------------------------------------------------


@given(decimals, decimals)
def test_canonical_numbers_are_equal_exactly_when_the_numbers_are(one: Decimal, other: Decimal) -> None:
    assert (canonical_number(str(one)) == canonical_number(str(other))) == (one == other)


@given(digits, st.integers(0, 20), st.integers(-40, 40))
def test_the_spelling_of_a_number_does_not_matter(number: int, zeros: int, exponent: int) -> None:
    spelled = f"{number}{'0' * zeros}E{exponent - zeros}"
    padded = f"{'-' if number < 0 else ''}000{abs(number)}.{'0' * zeros}E{exponent}"
    assert canonical_number(spelled) == canonical_number(f"{number}E{exponent}") == canonical_number(padded)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("0.00", "0"),
        ("0E5", "0"),
        ("1", "1E0"),
        ("1.0", "1E0"),
        ("1e0", "1E0"),
        ("10", "1E1"),
        ("120", "12E1"),
        ("-120", "-12E1"),
        ("0.5", "5E-1"),
        ("00.50", "5E-1"),
        ("+7", "7E0"),
        ("1E-130", "1E-130"),
        ("9.9E125", "99E124"),
        ("12345678901234567890123456789012345678", "12345678901234567890123456789012345678E0"),
    ],
)
def test_canonical_numbers_never_change(text: str, canonical: str) -> None:
    """Tombstones are found by them: a stored format."""
    assert canonical_number(text) == canonical


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        ({"S": "a"}, "S:a"),
        ({"S": "1"}, "S:1"),
        ({"N": "1.0"}, "N:1E0"),
        ({"B": b"\x00\xff"}, "B:00ff"),
        ({"B": bytearray(b"\x00\xff")}, "B:00ff"),
    ],
)
def test_canonical_values_never_change(value: AttributeValue, canonical: str) -> None:
    assert canonical_value(value) == canonical


LONG = "first\nsecond\x1b[31m" + "x" * 60_000


@pytest.mark.parametrize(
    "item",
    [
        {LONG: 1.5},
        {LONG: {"a": object()}},
        {"a": {LONG: [1.5]}},
        {LONG: set()},
        {LONG: nested(32)},
        {LONG: {"x" * 70_000: 1}},
        {LONG: Decimal("NaN")},
        {"a" * 100 + "\n" * 70_000: 1},
    ],
    ids=["float", "object", "inner", "set", "nested", "name", "number", "too long a name"],
)
def test_an_attribute_name_of_any_length_and_shape_is_told_in_one_short_line(item: dict[str, Any]) -> None:
    """Names come from users, messages end up in logs, one line each."""
    with pytest.raises(InvalidItemError) as caught:
        encode_item(item, WHERE)
    message = str(caught.value)
    assert len(message) < 500
    assert message.isprintable()


def test_the_path_of_an_error_is_whole() -> None:
    with pytest.raises(InvalidItemError, match=r"first\\nsecond\\x1b") as caught:
        encode_item({"a": {LONG: [1.5]}}, WHERE)
    assert caught.value.path == f"a.{LONG}[0]"
