"""Any sequence of what a service can do with scopes, against a dictionary: what was committed is there, nothing else.

Refused operations leave nothing, in the scope or in the tables; a scope that has ended takes nothing more; a commit
whose answer was lost is settled by the next; what could not be applied at once is there after a sweep.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from reliable_write import ReliableWriteScope, errors, limits
from reliable_write.dynamodb import CallFailed, CallName, ConditionRefused, TransactionCancelled
from reliable_write.policy import FailureKind
from reliable_write.values import decode_item
from tests.fuzz.tally import tally, tried
from tests.simulation.memory_world import SYSTEM, TABLE, MemoryWorld

keys = st.sampled_from("abcdefg")
values = st.one_of(st.integers(0, 9), st.text(max_size=3), st.binary(max_size=3), st.none(), st.lists(st.booleans()))
OTHER = "places"
tables = st.sampled_from([TABLE, OTHER])
Place = tuple[str, str]
Items = dict[Place, dict[str, Any]]
CONDITIONS = {"attribute_exists(id)": True, "attribute_not_exists(id)": False}
REFUSED: dict[str, tuple[Callable[[ReliableWriteScope], None], type[Exception]]] = {
    "a float": (lambda scope: scope.put_item(TABLE, {"id": "z", "v": 1.5}), errors.InvalidItemError),
    "an empty key": (lambda scope: scope.put_item(TABLE, {"id": ""}), errors.InvalidKeyError),
    "no key": (lambda scope: scope.delete_item(TABLE, {}), errors.InvalidKeyError),
    "no table": (lambda scope: scope.put_item("no-such", {"id": "z"}), errors.UnknownTableError),
    "the journal": (lambda scope: scope.put_item(SYSTEM, {"pk": "z", "sk": "z"}), errors.UnknownTableError),
    "nobody's destination": (lambda scope: scope.put_item("eu:t", {"id": "z"}), errors.UnknownTableError),
    "no items": (lambda scope: scope.put_items(TABLE, []), errors.BatchTooLargeError),
    "26 items": (lambda scope: scope.put_items(TABLE, [{"id": f"z{n}"} for n in range(26)]), errors.BatchTooLargeError),
    "one item twice": (lambda scope: scope.delete_items(TABLE, [{"id": "z"}] * 2), errors.DuplicateKeyError),
    "too large": (lambda scope: scope.put_item(TABLE, {"id": "z", "v": "x" * 410_000}), errors.WriteTooLargeError),
    "no expression": (lambda scope: scope.update_item(TABLE, {"id": "z"}), errors.InvalidExpressionError),
    "no such name": (
        lambda scope: scope.put_item(TABLE, {"id": "z"}, ConditionExpression="#no = :no"),
        errors.InvalidExpressionError,
    ),
}

MISUSES: dict[str, Callable[[ReliableWriteScope], object]] = {
    "commit": lambda scope: scope.commit(),
    "put": lambda scope: scope.put_item(TABLE, {"id": "z"}),
    "enter": lambda scope: scope.__enter__(),
}


class ScopeMachine(RuleBasedStateMachine):
    counts: Counter[str] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.world = MemoryWorld(shards=2, page_items=50)
        self.world.tables.create(OTHER, "id")
        self.writer = self.world.writer()
        self.model: Items = {}
        self.pending: set[Place] = set()
        self.ended: list[tuple[ReliableWriteScope, type[Exception]]] = []
        self.clear()

    def clear(self) -> None:
        self.scope: ReliableWriteScope | None = None
        self.effects: dict[Place, Callable[[Items], None]] = {}
        self.conditions: list[tuple[Place, bool]] = []
        self.operations = 0
        self.unknown = False

    def count(self, what: str) -> None:
        self.counts.update(["inputs", what])

    def open(self) -> ReliableWriteScope:
        if self.scope is None:
            self.scope = ReliableWriteScope(self.writer)
        return self.scope

    def record(self, places: list[Place], do: Callable[[ReliableWriteScope], None]) -> bool:
        """Record one sub-operation; refused where the model says so, and then nothing of it is in the scope."""
        scope = self.open()
        before = len(scope)
        self.count("recorded")
        error = self.objection(places)
        if error is None:
            do(scope)
            self.operations += 1
            assert len(scope) == before + 1
            return True
        with pytest.raises(error):
            do(scope)
        assert len(scope) == before
        self.count("refused")
        return False

    def objection(self, places: list[Place]) -> type[Exception] | None:
        if self.unknown:
            return errors.ScopeClosedError
        if self.operations >= limits.OPERATIONS_MAX:
            return errors.TooManyOperationsError
        taken = {*self.effects, *(place for place, _ in self.conditions)}
        if len(set(places)) < len(places) or taken & set(places):
            return errors.DuplicateKeyError
        return None

    # --- recording ----------------------------------------------------------------------------------------------

    @rule(table=tables, key=keys, value=values)
    def put(self, table: str, key: str, value: Any) -> None:
        item = {"id": key, "v": value}
        if self.record([(table, key)], lambda scope: scope.put_item(table, Item=item)):
            self.effects[table, key] = put_of(table, item)
        item["v"] = "changed after it was recorded"

    @rule(table=tables, several=st.lists(keys, min_size=1, max_size=5), value=values)
    def put_several(self, table: str, several: list[str], value: Any) -> None:
        items = [{"id": key, "v": value} for key in several]
        if self.record([(table, key) for key in several], lambda scope: scope.put_items(table, items)):
            self.effects.update({(table, item["id"]): put_of(table, item) for item in items})

    @rule(table=tables, key=keys)
    def delete(self, table: str, key: str) -> None:
        if self.record([(table, key)], lambda scope: scope.delete_item(table, Key={"id": key})):
            self.effects[table, key] = delete_of(table, key)

    @rule(table=tables, several=st.lists(keys, min_size=1, max_size=4))
    def delete_several(self, table: str, several: list[str]) -> None:
        wanted = [{"id": key} for key in several]
        if self.record([(table, key) for key in several], lambda scope: scope.delete_items(table, wanted)):
            self.effects.update({(table, key): delete_of(table, key) for key in several})

    @rule(key=keys, n=st.integers(-3, 3))
    def add(self, key: str, n: int) -> None:
        """At the commit: not on an item whose put is still under way, for which another rule holds."""
        place = (TABLE, key)
        if place not in self.pending and self.record(
            [place], lambda scope: scope.update_item(TABLE, {"id": key}, add={"n": n})
        ):
            self.effects[place] = add_of(TABLE, key, n)

    @rule(key=keys, value=values, condition=st.sampled_from(sorted(CONDITIONS)), deleting=st.booleans())
    def under_condition(self, key: str, value: Any, condition: str, deleting: bool) -> None:
        place, item = (TABLE, key), {"id": key, "v": value}
        if place in self.pending:
            return

        def do(scope: ReliableWriteScope) -> None:
            if deleting:
                scope.delete_item(TABLE, {"id": key}, ConditionExpression=condition)
            else:
                scope.put_item(TABLE, item, ConditionExpression=condition)

        if self.record([place], do):
            self.effects[place] = delete_of(TABLE, key) if deleting else put_of(TABLE, item)
            self.conditions.append((place, CONDITIONS[condition]))

    @rule(key=keys, condition=st.sampled_from(sorted(CONDITIONS)))
    def check(self, key: str, condition: str) -> None:
        place = (TABLE, key)
        if place not in self.pending and self.record(
            [place], lambda scope: scope.condition_check(TABLE, {"id": key}, condition)
        ):
            self.conditions.append((place, CONDITIONS[condition]))

    @rule(count=st.integers(20, 27))
    def fill_up(self, count: int) -> None:
        """Operations up to the limit and beyond it."""
        for number in range(count):
            key = f"{self.operations}-{number}"
            if self.record([(OTHER, key)], lambda scope, key=key: scope.put_item(OTHER, {"id": key})):  # type: ignore[misc]
                self.effects[OTHER, key] = put_of(OTHER, {"id": key})

    @rule(what=st.sampled_from(sorted(REFUSED)))
    def record_what_cannot_be(self, what: str) -> None:
        do, error = REFUSED[what]
        scope, before = self.open(), len(self.open())
        self.count("refused")
        full = self.operations >= limits.OPERATIONS_MAX
        with pytest.raises(errors.ScopeClosedError if self.unknown else errors.WriteRejectedError if full else error):
            do(scope)
        assert len(scope) == before

    # --- ending -------------------------------------------------------------------------------------------------

    def holds(self) -> bool:
        return all((place in self.model) == wanted for place, wanted in self.conditions)

    def committed(self) -> None:
        assert self.scope is not None
        for effect in self.effects.values():
            effect(self.model)
        self.ended.append((self.scope, errors.ScopeClosedError))
        self.clear()

    @rule()
    def commit(self) -> None:
        scope = self.open()
        self.count("committed")
        if self.unknown or self.holds():
            scope.commit()
            self.committed()
            return
        with pytest.raises(errors.ConditionFailedError) as caught:
            scope.commit()
        met = [(failure.table, failure.operation) for failure in caught.value.failures]
        wrong = [place for place, wanted in self.conditions if (place in self.model) != wanted]
        assert len(met) == len(wrong)
        self.count("condition failed")
        self.ended.append((scope, errors.ScopeClosedError))
        self.clear()

    @precondition(lambda self: self.operations and not self.unknown and self.holds())
    @rule(applied=st.booleans())
    def lose_the_answer(self, applied: bool) -> None:
        """Of every try, for as long as the attempt lasts."""
        scope = self.open()
        with (
            self.hindered(lambda call, request: self.lose(call, request, applied=applied)),
            pytest.raises(errors.CommitUnknownError),
        ):
            scope.commit()
        self.unknown = True
        self.count("unknown")
        with pytest.raises(errors.ScopeClosedError):
            scope.put_item(TABLE, {"id": "z"})

    def lose(self, call: CallName, request: Mapping[str, Any], *, applied: bool) -> None:
        name = request.get("Item", {}).get("pk", {}).get("S", "")
        if call == "transact_write_items" or (call == "put_item" and name.startswith(("J#", "R#"))):
            if applied and not name.startswith("R#"):  # a receipt alone is a fence, against the write itself
                with contextlib.suppress(ConditionRefused, TransactionCancelled):
                    self.world.tables.apply(call, request)
            raise CallFailed(FailureKind.TIMEOUT, "lost", request.get("TableName"))

    @precondition(lambda self: self.operations and not self.unknown and not self.conditions and self.replayable())
    @rule()
    def be_throttled(self) -> None:
        """Committed, and not applied: by a sweep, whatever is committed in between."""
        scope, touched = self.open(), set(self.effects)

        def throttle(call: CallName, request: Mapping[str, Any]) -> None:
            if call in ("put_item", "delete_item") and request["TableName"] != SYSTEM:
                raise CallFailed(FailureKind.THROTTLED, "throttled", request["TableName"])

        with self.hindered(throttle), pytest.raises(errors.PropagationPendingError) as caught:
            scope.commit()
        assert caught.value.outcome is errors.Outcome.WILL_BE_WRITTEN
        self.count("pending")
        self.committed()
        self.pending |= touched

    def replayable(self) -> bool:
        return all(getattr(effect, "replayable", False) for effect in self.effects.values())

    def hindered(self, before: Callable[[CallName, Mapping[str, Any]], None]) -> Any:
        patch = pytest.MonkeyPatch()
        patch.setattr(self.world.tables, "before", before)
        return _Undone(patch)

    @rule()
    def sweep(self) -> None:
        self.world.time.pass_seconds(60)
        self.world.process().recovery.resume_all()
        if not self.unknown:
            assert not self.world.records("J#")
            self.pending.clear()
        self.count("swept")

    @precondition(lambda self: self.scope is not None and not self.unknown)
    @rule()
    def discard(self) -> None:
        assert self.scope is not None
        self.scope.discard()
        self.count("discarded")
        self.ended.append((self.scope, errors.ScopeClosedError))
        self.clear()

    @precondition(lambda self: self.scope is not None and not self.unknown)
    @rule(raising=st.booleans())
    def leave(self, raising: bool) -> None:
        """Without a commit, by the end of the block or by an exception."""
        scope = self.open()
        self.count("left")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with scope:
                    if raising:
                        raise KeyError("the caller's own")
            except KeyError:
                assert raising
        self.ended.append((scope, errors.ScopeClosedError))
        self.clear()

    # --- misuse -------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.ended)
    @rule(data=st.data(), again=st.sampled_from(["discard", *sorted(MISUSES)]))
    def use_an_ended_one(self, data: st.DataObject, again: str) -> None:
        scope, error = data.draw(st.sampled_from(self.ended))
        self.count("misused")
        if again == "discard":
            scope.discard()
            return
        with pytest.raises(error):
            MISUSES[again](scope)

    @rule()
    def nest(self) -> None:
        self.count("misused")
        with ReliableWriteScope(self.writer) as outer:
            outer.put_item(TABLE, {"id": "z"})
            with pytest.raises(errors.NestedScopeError), ReliableWriteScope(self.writer):
                pass
            outer.discard()

    # --- what holds ---------------------------------------------------------------------------------------------

    @invariant()
    def the_tables_hold_what_was_committed(self) -> None:
        if self.unknown:
            return
        shown = self.shown()
        wrong = {place for place in {*shown, *self.model} if shown.get(place) != self.model.get(place)}
        assert wrong <= self.pending, wrong

    def shown(self) -> Items:
        found = {}
        for table in (TABLE, OTHER):
            for item in self.world.tables.items(table):
                python = decode_item(item)
                found[table, python["id"]] = {name: part for name, part in python.items() if not name.startswith("_rw")}
        return found

    def teardown(self) -> None:
        if self.unknown:
            self.commit()
        if self.scope is not None:
            self.scope.discard()
        self.sweep()
        self.the_tables_hold_what_was_committed()
        assert not self.pending


class _Undone:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._patch.undo()


def put_of(table: str, item: dict[str, Any]) -> Callable[[Items], None]:
    kept = dict(item)

    def effect(items: Items) -> None:
        items[table, kept["id"]] = kept

    return replayable(effect)


def delete_of(table: str, key: str) -> Callable[[Items], None]:
    return replayable(lambda items: items.pop((table, key), None))


def add_of(table: str, key: str, n: int) -> Callable[[Items], None]:
    def effect(items: Items) -> None:
        item = items.get((table, key), {"id": key})
        items[table, key] = {**item, "n": item.get("n", 0) + n}

    return effect


def replayable(effect: Any) -> Callable[[Items], None]:
    effect.replayable = True
    return effect  # type: ignore[no-any-return]


def test_scopes_against_a_dictionary() -> None:
    wanted = ["committed", "condition failed", "refused", "unknown", "pending", "swept", "discarded", "left", "misused"]
    with tally("steps of scopes", *wanted) as counts:
        ScopeMachine.counts = counts
        run_state_machine_as_test(ScopeMachine, settings=tried(0.005, stateful_step_count=40))  # type: ignore[arg-type]
