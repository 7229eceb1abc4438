"""Expressions: ours and the caller's in one request, merged without understanding either."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from boto3.dynamodb.conditions import Attr
from hypothesis import given
from hypothesis import strategies as st

from reliable_write import limits
from reliable_write.errors import InvalidExpressionError
from reliable_write.expressions import (
    Written,
    bracketed,
    build_update,
    changed_attributes,
    mentions,
    read_condition,
    read_update,
    with_assignments,
)
from reliable_write.operations import StampNames
from reliable_write.transaction import _NO_GHOST, _OLDER

CLAUSES = {"SET": "SET a = :a, #b = if_not_exists(#b, :b)", "REMOVE": "REMOVE c, d[1]", "ADD": "ADD e :e", "DELETE": ""}
OURS = ["#rw_upd = :rw_mine", "#rw_full = if_not_exists(#rw_full, :rw_tomb)"]


# --- our assignments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(["SET", "REMOVE", "ADD", "DELETE f :f"])))
@pytest.mark.parametrize("case", [str.upper, str.lower, str.title])
@pytest.mark.parametrize("space", [" ", "\n", "\t \n"])
def test_assignments_join_the_one_set_clause_wherever_it_stands(order: Any, case: Any, space: str) -> None:
    clauses = [CLAUSES.get(verb) or verb for verb in order]
    update = space.join(case(verb) + space + rest for verb, rest in (clause.split(" ", 1) for clause in clauses))
    merged = with_assignments(update, OURS)
    assert len(merged.upper().split("SET")) == 2, "DynamoDB takes one SET clause"
    flat = " ".join(merged.split())
    assert f"{case('SET')} {', '.join(OURS)}, a = :a, #b = if_not_exists(#b, :b)" in flat
    for verb in ("REMOVE c, d[1]", "ADD e :e", "DELETE f :f"):
        name, rest = verb.split(" ", 1)
        assert f"{case(name)} {rest}" in flat
    assert changed_attributes(update, {"#b": "bee"}) == {"a", "bee", "c", "d", "e", "f"}


@pytest.mark.parametrize(
    "update", ["REMOVE a", "ADD n :n", "DELETE s :s", "remove asset, offset, reset", "ADD #set :set", "REMOVE a.SET"]
)
def test_without_a_set_clause_one_is_added(update: str) -> None:
    """Words that hold `set`, and placeholders of that name, are none."""
    assert with_assignments(update, OURS) == f"{update} SET {', '.join(OURS)}"


def test_a_name_may_follow_the_verb_at_once() -> None:
    assert with_assignments("SET#a = :a", ["b = :b"]) == "SET b = :b, #a = :a"


# --- which attributes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("update", "changed"),
    [
        ("SET a = id, b = :v", {"a", "b"}),
        ("SET a = if_not_exists(id, :v) + :w, b = list_append(id, c)", {"a", "b"}),
        ("SET a.b[3].#c = :v REMOVE d.id", {"a", "d"}),
        ("SET #k=:v", {"id"}),
        ("ADD #k :v, n :w", {"id", "n"}),
        ("REMOVE\n#k", {"id"}),
    ],
)
def test_the_attributes_that_an_update_writes_to(update: str, changed: set[str]) -> None:
    """What it reads, and what lies deeper, does not count."""
    assert changed_attributes(update, {"#k": "id", "#c": "id"}) == changed


@pytest.mark.parametrize(
    "update", ["SET _rw = :v", "SET a = _rwu", "REMOVE a, _rw", "ADD #s :v", "SET a = :v\nREMOVE _rw"]
)
def test_a_stamp_that_is_mentioned_is_found(update: str) -> None:
    assert mentions(Written(None, update, {"#s": "_rwu"}, {}), ("_rw", "_rwu")) in ("_rw", "_rwu")


@pytest.mark.parametrize("update", ["SET my_rw = :_rw", "SET a._rw = :v", "REMOVE _rwx, x_rw", "SET a = :_rwu"])
def test_what_only_looks_like_a_stamp_is_none(update: str) -> None:
    assert mentions(Written(None, update, {}, {}), ("_rw", "_rwu")) is None


# --- the builder --------------------------------------------------------------------------------------------------


def test_the_builder() -> None:
    expression, names, values = build_update({"n": 1}, {"a.b": "x", "c": None}, ["d"], "here")
    resolved = expression
    for placeholder, name in sorted(names.items(), reverse=True):
        resolved = resolved.replace(placeholder, name)
    assert sorted(names.values()) == ["a.b", "c", "d", "n"]
    assert resolved.split(" SET ")[0].startswith("ADD n :")
    assert resolved.endswith("REMOVE d")
    assert sorted(map(str, values.values())) == ["{'N': '1'}", "{'NULL': True}", "{'S': 'x'}"]
    assert all(name.startswith(("#rw_", ":rw_")) for name in (*names, *values))


@given(st.permutations(["a", "b", "c", "d", "e"]))
def test_the_builder_makes_one_expression_whatever_the_order(order: list[str]) -> None:
    """Sets of names come in another order in every process, and one idempotency key must stand for one request."""
    values: dict[str, Any] = {"a": 1, "b": 2, "c": 3}
    add = {name: values[name] for name in order if name in "ab"}
    remove = [name for name in order if name in "de"]
    assert build_update(add, {"c": 3}, remove, "here") == build_update({"a": 1, "b": 2}, {"c": 3}, ["d", "e"], "here")


# --- conditions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "placed"),
    [
        ("a = :b", "(a = :b)"),
        ("(a = :b)", "(a = :b)"),
        (" ( a = :b OR (c) ) ", " ( a = :b OR (c) ) "),
        ("(a) OR (b)", "((a) OR (b))"),
        ("((a) OR (b))", "((a) OR (b))"),
        ("attribute_exists(a)", "(attribute_exists(a))"),
        ("NOT (a)", "(NOT (a))"),
        ("(a) AND b", "((a) AND b)"),
        ("a AND (b)", "(a AND (b))"),
    ],
)
def test_brackets_where_there_are_none(condition: str, placed: str) -> None:
    assert bracketed(condition) == placed


@pytest.mark.parametrize("condition", ["a) OR (b", "(a", "a)", ")(", "((a)", "(a))"])
def test_brackets_without_partners_are_refused(condition: str) -> None:
    with pytest.raises(InvalidExpressionError, match="not balanced"):
        read_condition(condition, None, None, "here")


def test_a_condition_object_gets_placeholders_that_no_caller_may_have() -> None:
    written = read_update("SET #n0 = :v0", Attr("a.b[0]").eq(1) | Attr("c").size().gt(2), {"#n0": "x"}, {":v0": 7}, "h")
    assert written.condition == "(#rw_n0.#rw_n1[0] = :rw_v0 OR size(#rw_n2) > :rw_v1)"
    assert written.names == {"#n0": "x", "#rw_n0": "a", "#rw_n1": "b", "#rw_n2": "c"}
    assert written.values == {":v0": {"N": "7"}, ":rw_v0": {"N": "1"}, ":rw_v1": {"N": "2"}}


def test_our_placeholders_never_meet_those_of_the_builders() -> None:
    _, names, values = build_update({}, {f"a{number}": number for number in range(40)}, [], "here")
    written = read_condition(Attr("b").eq(1), None, None, "here")
    ours = {"#rw_full", "#rw_upd", ":rw_mine", ":rw_tomb"}
    assert not ours & {*names, *values}
    assert not {*names, *values} & {*written.names, *written.values}


def test_the_guards_fit_into_what_is_kept_free_for_them() -> None:
    longest = "x" * limits.CALLERS_EXPRESSION_BYTES_MAX
    assert len(f"{_OLDER} AND {_NO_GHOST} AND ({longest})") <= limits.EXPRESSION_BYTES_MAX
    assert len(with_assignments(longest, OURS)) <= limits.EXPRESSION_BYTES_MAX
    assert StampNames().full not in _OLDER, "names of attributes stand apart, so they take no room"


@pytest.mark.parametrize(
    ("condition", "names", "values", "words"),
    [
        ("#a = :b", None, {":b": 1}, "#a stands"),
        ("a = :b", None, None, ":b stands"),
        ("a = :b", {"#c": "x"}, {":b": 1}, "#c is given"),
        ("a = :b", None, {":b": 1, ":rw_x": 2}, "like this library's own"),
        ("", None, None, "not empty"),
        (7, None, None, "this is int"),
    ],
)
def test_refused_conditions(condition: Any, names: Any, values: Any, words: str) -> None:
    with pytest.raises(InvalidExpressionError, match=words) as caught:
        read_condition(condition, names, values, "operations[3] put_item on t")
    assert "operations[3] put_item on t" in str(caught.value)
