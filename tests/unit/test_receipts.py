"""The hash of a request: equal for the same write however it is spelled, and for nothing else."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reliable_write.operations import AtCommit, Check, Delete, Operation, Put, Update
from reliable_write.receipts import request_hash
from reliable_write.values import canonical_number, encode_item

KEY = {"id": {"S": "x"}}

numbers = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=5),
    st.binary(max_size=5),
    numbers,
    st.sets(st.text(min_size=1, max_size=3), min_size=1, max_size=4),
    st.sets(st.binary(min_size=1, max_size=3), min_size=1, max_size=4),
    st.sets(st.integers(-99, 99), min_size=1, max_size=4),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
items = st.dictionaries(st.text(min_size=1, max_size=4), values, max_size=5)


def put(item: Any, table: str = "t") -> Operation:
    return Operation("put_item", (Put(table, ("id",), {**encode_item(item, "x"), **KEY}),), 0)


def shuffled(value: Any, random: Any) -> Any:
    """The same attribute value in another spelling."""
    ((kind, content),) = value.items()
    if kind == "M":
        return {"M": reordered(content, random)}
    if kind == "L":
        return {"L": [shuffled(part, random) for part in content]}
    if kind in ("SS", "BS"):
        return {kind: random.sample(content, len(content))}
    if kind == "NS":
        return {kind: random.sample([respelled(text) for text in content], len(content))}
    return {"N": respelled(content)} if kind == "N" else dict(value)


def reordered(item: Any, random: Any) -> Any:
    names = random.sample(list(item), len(item))
    return {name: shuffled(item[name], random) for name in names}


def respelled(text: str) -> str:
    number = Decimal(text)
    spelled = f"{number:E}" if number else "0.0"
    assert canonical_number(spelled) == canonical_number(text)
    return spelled


@given(items, st.randoms())
def test_spelling_does_not_count(item: dict[str, Any], random: Any) -> None:
    (first,) = put(item).actions
    assert isinstance(first, Put)
    second = Put(first.table, first.key_names, reordered(first.item, random))
    assert request_hash([Operation("put_item", (first,))]) == request_hash([Operation("put_item", (second,), 0)])


@given(items, items)
def test_different_items_differ(one: dict[str, Any], two: dict[str, Any]) -> None:
    assume(encode_item({**one, "id": "x"}, "x") != encode_item({**two, "id": "x"}, "x"))
    spelled = [_plain(encode_item({**item, "id": "x"}, "x")) for item in (one, two)]
    assert (request_hash([put(one)]) == request_hash([put(two)])) == (spelled[0] == spelled[1])


def _plain(item: Any) -> Any:
    """Sets and numbers as Python compares them."""
    return {name: _plain_value(value) for name, value in item.items()}


def _plain_value(value: Any) -> Any:
    ((kind, content),) = value.items()
    if kind in ("SS", "BS"):
        return kind, frozenset(content)
    if kind == "NS":
        return kind, frozenset(map(Decimal, content))
    if kind == "N":
        return kind, Decimal(content)
    if kind == "L":
        return kind, [_plain_value(part) for part in content]
    return (kind, _plain(content)) if kind == "M" else (kind, content)


def at_commit(verb: Any, action: Any, **more: Any) -> AtCommit:
    return AtCommit(verb, action, 0, "why", **more)


UPDATE = Update("t", ("id",), KEY, "ADD n :n")
DIFFERENT: dict[str, list[Operation | AtCommit]] = {
    "nothing": [],
    "put": [put({"a": 1})],
    "another value": [put({"a": 2})],
    "another type": [put({"a": "1"})],
    "another name": [put({"b": 1})],
    "another table": [put({"a": 1}, "u")],
    "twice": [put({"a": 1}), put({"a": 1})],
    "batch": [Operation("put_items", put({"a": 1}).actions, 0)],
    "delete": [Operation("delete_item", (Delete("t", ("id",), KEY),), 0)],
    "deletes": [Operation("delete_items", (Delete("t", ("id",), KEY),), 0)],
    "put, delete": [put({"a": 1}), Operation("delete_item", (Delete("t", ("id",), KEY),), 0)],
    "delete, put": [Operation("delete_item", (Delete("t", ("id",), KEY),), 0), put({"a": 1})],
    "at commit": [at_commit("put_item", put({"a": 1}).actions[0])],
    "under a condition": [at_commit("put_item", put({"a": 1}).actions[0], condition="a = :a")],
    "another condition": [at_commit("put_item", put({"a": 1}).actions[0], condition="b = :a")],
    "a value of it": [at_commit("put_item", put({"a": 1}).actions[0], condition="a = :a", values={":a": {"N": "1"}})],
    "another of it": [at_commit("put_item", put({"a": 1}).actions[0], condition="a = :a", values={":a": {"N": "2"}})],
    "a name of it": [at_commit("put_item", put({"a": 1}).actions[0], condition="#a = :a", names={"#a": "b"})],
    "another name of it": [at_commit("put_item", put({"a": 1}).actions[0], condition="#a = :a", names={"#a": "c"})],
    "update": [at_commit("update_item", UPDATE, values={":n": {"N": "1"}})],
    "another amount": [at_commit("update_item", UPDATE, values={":n": {"N": "2"}})],
    "another update": [at_commit("update_item", Update("t", ("id",), KEY, "ADD m :n"), values={":n": {"N": "1"}})],
    "another key": [
        at_commit("update_item", Update("t", ("id",), {"id": {"S": "y"}}, "ADD n :n"), values={":n": {"N": "1"}})
    ],
    "check": [at_commit("condition_check", Check("t", ("id",), KEY), condition="a = :a")],
}


def test_each_of_these_is_another_request() -> None:
    hashes = {what: request_hash(operations) for what, operations in DIFFERENT.items()}
    assert len(set(hashes.values())) == len(DIFFERENT)
    assert all(len(digest) == 40 for digest in hashes.values())


@pytest.mark.parametrize("number", [0, 7])
def test_places_and_reasons_do_not_count(number: int) -> None:
    one = AtCommit("update_item", UPDATE, number, "an update", values={":n": {"N": "1"}})
    two = AtCommit("update_item", UPDATE, 0, "another word", values={":n": {"N": "1.0"}})
    assert request_hash([one]) == request_hash([two])


def test_it_never_changes() -> None:
    """Receipts are kept for weeks: a new version must know the hash of an older one."""
    assert request_hash(DIFFERENT["put, delete"]) == "4a83b6bfa27dc2e3f5784d39a994241059e454af"
    assert (
        request_hash([*DIFFERENT["a value of it"], *DIFFERENT["update"]]) == "1eb4fdef8a6ff6cc7d5fb3aa2f4760b788df5bd4"
    )
