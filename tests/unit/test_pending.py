"""Looks with the journal in view, on tables in memory: every interleaving of a look's requests with what others do."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from reliable_write import Settings, limits
from reliable_write.clock import Deadline, Stamp
from reliable_write.commit import Prepared
from reliable_write.dynamodb import CallFailed, CallName
from reliable_write.engine import Engine, assemble
from reliable_write.errors import InvalidKeyError
from reliable_write.events import Events
from reliable_write.operations import Action, Delete, Operation, Put, StampNames, located_actions
from reliable_write.pending import PendingLook
from reliable_write.policy import FailureKind
from reliable_write.sights import Sight, is_done, make_sight
from reliable_write.values import WireItem
from tests.simulation.memory_world import SYSTEM, TABLE, MemoryWorld, deleting, putting
from tests.unit.fakes import InlineWorkers, ManualTime

KEY: WireItem = {"id": {"S": "x"}}


# --- verdicts -----------------------------------------------------------------------------------------------------


def at(second: int) -> Stamp:
    return Stamp(f"{1_700_000_000_000 + second:012x}{0:04x}{'00' * 10}")


def item(**stamps: int | str) -> WireItem:
    return {**KEY, **{name: {"S": at(value) if isinstance(value, int) else value} for name, value in stamps.items()}}


NEVER, GONE = None, None
VERDICTS: dict[str, tuple[Action, WireItem | None, int | None, bool]] = {
    "nothing there, put": (putting(), GONE, NEVER, False),
    "nothing there, delete": (deleting(), GONE, NEVER, False),
    "somebody's without a stamp": (putting(), item(), NEVER, False),
    "an older one": (putting(), item(_rw=10), NEVER, False),
    "mine": (putting(), item(_rw=20), NEVER, True),
    "mine, updated since": (putting(), item(_rw=20, _rwu=30), NEVER, True),
    "a newer one": (putting(), item(_rw=30), NEVER, True),
    "overtaken by an update alone": (putting(), item(_rw=10, _rwu=30), NEVER, False),
    "a foreign stamp": (putting(), item(_rw="theirs"), NEVER, False),
    "a put deleted later": (putting(), GONE, 30, True),
    "a put deleted before": (putting(), GONE, 10, False),
    "mine, deleted later, not taken back yet": (putting(), item(_rw=20), 30, True),
    "an older one, deleted later": (putting(), item(_rw=10), 30, True),
    "a delete's tombstone": (deleting(), GONE, 20, True),
    "a later delete's tombstone": (deleting(), GONE, 30, True),
    "an older delete's tombstone": (deleting(), GONE, 10, False),
    "a delete that has left its tombstone only": (deleting(), item(_rw=10), 20, True),
    "the same, over somebody's item without a stamp": (deleting(), item(), 20, False),
    "a delete superseded": (deleting(), item(_rw=30), 20, True),
    "a delete, and an update since": (deleting(), item(_rw=20, _rwu=30), 20, True),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_whether_an_operation_is_done_is_told_by_item_and_tombstone(case: str) -> None:
    action, found, tombstone, done = VERDICTS[case]
    record = None if tombstone is None else {"stamp": {"S": at(tombstone)}}
    sight = make_sight(found, record, StampNames(), ManualTime())
    assert is_done(action, at(20), sight, StampNames(), ManualTime()) is done


def test_a_tombstone_that_cannot_be_ours_decides_nothing() -> None:
    far = at(int(2 * limits.STAMP_AHEAD_SECONDS_MAX * 1000))
    for stamp in ("theirs", far):
        assert make_sight(item(_rw=10), {"stamp": {"S": stamp}}, StampNames(), ManualTime()) == Sight(item(_rw=10))


def test_a_ghost_is_not_shown() -> None:
    record = {"stamp": {"S": at(20)}}
    assert make_sight(item(_rw=10), record, StampNames(), ManualTime()).item is None
    for kept in (item(_rw=20), item(_rw=10, _rwu=30), item()):
        assert make_sight(kept, record, StampNames(), ManualTime()).item == kept


# --- interleavings ------------------------------------------------------------------------------------------------


class Stage:
    """A world in which a committer stops wherever it is told."""

    def __init__(self) -> None:
        self.world = MemoryWorld()
        self.world.tables.create("other", "id")
        self.writes: list[Prepared] = []

    @property
    def engine(self) -> Engine:
        return self.world.engine

    def prepared(self, *actions: Action) -> Prepared:
        self.world.time.pass_seconds(0.01)
        operations = [Operation("put_item" if isinstance(one, Put) else "delete_item", (one,)) for one in actions]
        return self.engine.committer.prepare(operations, self.engine.attempt_deadline())

    def commit(self, prepared: Prepared) -> Prepared:
        self.engine.journal.commit(prepared.entry, self.engine.attempt_deadline())
        self.writes.append(prepared)
        return prepared

    def apply(self, prepared: Prepared, count: int | None = None, *, late: bool = False) -> None:
        actions = located_actions(prepared.operations)[:count]
        self.engine.propagation.apply(prepared.entry.stamp, actions, self.engine.attempt_deadline(), late=late)

    def remove(self, prepared: Prepared) -> None:
        entry = prepared.entry
        self.engine.journal.finish([(entry.shard, entry.stamp)], self.engine.attempt_deadline())

    def whole(self, prepared: Prepared) -> None:
        self.commit(prepared)
        self.apply(prepared)
        self.remove(prepared)

    def look(self, key: WireItem = KEY, table: str = TABLE, **more: Any) -> PendingLook:
        return self.engine.pending.look(table, key, self.engine.attempt_deadline(), **more)

    def counted(self) -> int:
        """How many requests a look takes."""
        before = len(self.world.tables.sent)
        self.look()
        return len(self.world.tables.sent) - before

    def look_while(self, number: int, happens: Callable[[], object]) -> PendingLook:
        """Look, and let something happen just before the n-th request of the look."""
        numbers = itertools.count(1)

        def before(_call: CallName, _request: Mapping[str, Any]) -> None:
            if next(numbers) == number:
                self.world.tables.before = lambda _call, _request: None
                happens()

        self.world.tables.before = before
        try:
            return self.look()
        finally:
            self.world.tables.before = lambda _call, _request: None

    def order_at(self, table: str, key: str = "x") -> Stamp | None:
        """The last full write that shows at the key, a delete's by its tombstone."""
        place = deleting(key, table)
        tombstone = self.engine.tombstones.stamp(place, self.engine.attempt_deadline())
        shown = self.world.shown(key, table) or {}
        stamps = [Stamp(shown["_rw"]["S"])] if "_rw" in shown else []
        return max([*stamps, *([tombstone] if tombstone else [])], default=None)


def order_of(look: PendingLook) -> str:
    return str((look.item or {}).get("_rw", {}).get("S", ""))


PAIR = (putting("x", v="pair"), putting("x", "other", v="pair"))


def _finish(stage: Stage, write: Prepared) -> None:
    assert stage.engine.recovery.resume(write.write_id).resumed == "finished"


def _finish_and_write(stage: Stage, write: Prepared) -> None:
    _finish(stage, write)
    stage.whole(stage.prepared(*PAIR))


HAPPENINGS: dict[str, Callable[[Stage, Prepared], Callable[[], object]]] = {
    "it is finished": lambda stage, write: lambda: _finish(stage, write),
    "its other half is done": lambda stage, write: lambda: stage.apply(write),
    "a pair is committed": lambda stage, _write: lambda: stage.commit(stage.prepared(*PAIR)),
    "a pair is committed and half done": lambda stage, _write: (
        lambda: stage.apply(stage.commit(stage.prepared(*PAIR)), 1)
    ),
    "a pair is written whole": lambda stage, _write: lambda: stage.whole(stage.prepared(*PAIR)),
    "the key is deleted": lambda stage, _write: lambda: stage.whole(stage.prepared(deleting())),
    "it is finished and another is written whole": lambda stage, write: lambda: _finish_and_write(stage, write),
    "it is quarantined": lambda stage, write: (
        lambda: stage.engine.journal.quarantine(write.entry, "broken", stage.engine.attempt_deadline())
    ),
}
STARTS = {"nothing of it is done": 0, "half of it is done": 1, "all of it is done": 2}


@pytest.mark.parametrize("orders", ["key first", "key last"])
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("happening", HAPPENINGS)
def test_an_answer_holds_whatever_happens_between_any_two_of_its_requests(
    happening: str, start: str, orders: str
) -> None:
    """`settled` and `fractured` as the module's docstring promises them."""
    actions = PAIR if orders == "key first" else PAIR[::-1]
    requests = _staged(actions, STARTS[start])[0].counted()
    settled = 0
    for number in range(1, requests + 2):
        stage, write = _staged(actions, STARTS[start])
        committed = [one.entry.stamp for one in stage.writes]
        look = stage.look_while(number, HAPPENINGS[happening](stage, write))
        if look.settled:
            settled += 1
            deleted = stage.order_at(TABLE) if look.item is None else ""
            assert max(order_of(look), deleted or "") >= max(committed), number
        if not look.fractured and order_of(look) and not look.writes:
            # The writes of this stage touch both tables, deletes apart: what the item shows is whole.
            assert (stage.order_at("other") or "") >= order_of(look), number
        for pending in look.writes:
            assert not (pending.applied_here and not pending.fractured), number
            if pending.stamp == write.entry.stamp and STARTS[start] == 1:
                assert pending.fractured, number
    if start == "all of it is done":
        assert settled


def _staged(actions: tuple[Action, ...], done: int) -> tuple[Stage, Prepared]:
    stage = Stage()
    stage.whole(stage.prepared(*PAIR))
    write = stage.commit(stage.prepared(*actions))
    if done:
        stage.apply(write, done)
    return stage, write


def test_a_ghost_of_a_first_attempt_that_a_delete_ran_past_is_not_shown() -> None:
    """Both were acknowledged, and the delete comes later: without its tombstone the look would show the put."""
    stage = Stage()
    put = stage.commit(stage.prepared(putting(v="ghost")))
    stage.whole(stage.prepared(deleting()))
    stage.apply(put)
    stage.remove(put)
    assert stage.world.shown() is not None
    look = stage.look()
    assert look.settled
    assert look.item is None


def test_a_late_put_that_has_not_taken_itself_back_yet_is_no_pending_write() -> None:
    stage = Stage()
    put = stage.commit(stage.prepared(putting(v="late")))
    stage.whole(stage.prepared(deleting()))
    assert stage.look() == PendingLook(None, (), 0)
    stage.apply(put)
    assert stage.world.shown() is not None
    assert stage.look() == PendingLook(None, (), 0)


def test_what_an_operator_gave_up_is_waited_for_by_nobody() -> None:
    stage = Stage()
    write = stage.commit(stage.prepared(*PAIR))
    stage.engine.operators.skip(write.write_id, ["operations[0]"], operator="ada", reason="wrong")
    assert stage.look().settled
    (pending,) = stage.look(table="other").writes
    assert (pending.operation, pending.fractured) == ("operations[1]", False)
    stage.engine.operators.discard(write.write_id, operator="ada", reason="wrong")
    assert stage.look(table="other").settled


def test_a_pending_write_is_described_by_what_it_will_do() -> None:
    stage = Stage()
    older = stage.commit(stage.prepared(putting(v="a")))
    newer = stage.commit(stage.prepared(putting("y"), deleting()))
    first, second = stage.look().writes
    assert (first.write_id, first.operation, first.deletes) == (older.write_id, "operations[0]", False)
    assert first.item == {**KEY, "v": {"S": "a"}, "_rw": {"S": older.entry.stamp}}
    assert (second.write_id, second.operation, second.deletes, second.item) == (
        newer.write_id,
        "operations[1]",
        True,
        None,
    )
    assert first.committed_at_milliseconds == older.entry.committed_at_milliseconds
    assert "'a'" not in repr(stage.look())


# --- tables that cannot be read -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FailureKind.TABLE_MISSING, FailureKind.ACCESS_DENIED, FailureKind.THROTTLED])
def test_a_table_that_cannot_be_read_leaves_open_whether_a_write_is_done_in_part(kind: FailureKind) -> None:
    """One refused table refuses a whole BatchGetItem: the others in it are asked for again, by themselves."""
    stage = Stage()
    stage.world.tables.create("third", "id")
    stage.commit(stage.prepared(*PAIR, putting("x", "third")))

    def before(_call: CallName, request: Mapping[str, Any]) -> None:
        if "other" in request.get("RequestItems", {}):
            raise CallFailed(kind, "code", "other")

    stage.world.tables.before = before
    (pending,) = stage.look().writes
    assert pending.unreached == (2 if kind.retryable else 1)
    assert pending.fractured
    assert not pending.applied_here
    assert stage.world.time.elapsed <= limits.LOOK_ELSEWHERE_SECONDS + 1


def test_a_key_that_cannot_be_read_is_an_error() -> None:
    stage = Stage()

    def before(_call: CallName, request: Mapping[str, Any]) -> None:
        if TABLE in request.get("RequestItems", {}):
            raise CallFailed(FailureKind.ACCESS_DENIED, "code", TABLE)

    stage.world.tables.before = before
    with pytest.raises(CallFailed, match="access denied"):
        stage.look()


# --- many keys ----------------------------------------------------------------------------------------------------


def test_many_keys_share_one_walk_and_come_in_the_order_given() -> None:
    stage = Stage()
    stage.whole(stage.prepared(putting("b", "other")))
    write = stage.commit(stage.prepared(*PAIR))
    keys = [("other", {"id": {"S": "b"}}), (TABLE, KEY), ("other", KEY), (TABLE, KEY), (TABLE, {"id": {"S": "c"}})]
    sent = len(stage.world.tables.sent)
    looks = stage.engine.pending.look_many(keys, stage.engine.attempt_deadline())
    calls = [call for call, _ in stage.world.tables.sent[sent:]]
    assert calls.count("query") == stage.engine.journal.shards
    assert [[one.write_id for one in look.writes] for look in looks] == [[], *[[write.write_id]] * 3, []]
    assert [look.item is None for look in looks] == [False, True, True, True, True]


def test_a_look_takes_a_hundred_keys_and_no_more() -> None:
    stage = Stage()
    keys: list[tuple[str, WireItem]] = [(TABLE, {"id": {"S": str(number)}}) for number in range(101)]
    stage.whole(stage.prepared(*(putting(str(number)) for number in range(100))))
    deadline = stage.engine.attempt_deadline()
    looks = stage.engine.pending.look_many(keys[:100], deadline)
    assert [look.item is not None for look in looks] == [True] * 100
    with pytest.raises(ValueError, match="takes 100 keys; these are 101"):
        stage.engine.pending.look_many(keys, deadline)
    assert stage.engine.pending.look_many([], deadline) == ()


def test_a_key_is_the_tables_whole_key() -> None:
    stage = Stage()
    for wrong in ({}, {**KEY, "v": {"S": "a"}}, {"v": {"S": "a"}}):
        with pytest.raises(InvalidKeyError, match="The key of people is id"):
            stage.look(wrong)


# --- entries in chunks --------------------------------------------------------------------------------------------


def _chunk_reads(stage: Stage, look: Callable[[], object]) -> int:
    sent = len(stage.world.tables.sent)
    look()
    return sum(
        call == "get_item" and request["Key"]["pk"]["S"].startswith("C#")
        for call, request in stage.world.tables.sent[sent:]
    )


def _quarantined(stage: Stage, *actions: Action) -> Prepared:
    write = stage.commit(stage.prepared(*actions))
    stage.engine.journal.quarantine(write.entry, "broken", stage.engine.attempt_deadline())
    return write


def test_chunks_are_read_once_unless_their_write_touches_the_key() -> None:
    stage = Stage()
    _quarantined(stage, *PAIR)
    elsewhere: Callable[[], object] = lambda: stage.look({"id": {"S": "y"}})  # noqa: E731 - said twice
    assert [_chunk_reads(stage, elsewhere) for _ in range(3)] == [1, 0, 0]
    assert [_chunk_reads(stage, stage.look) for _ in range(2)] == [1, 1]
    (pending,) = stage.look().writes
    assert pending.state == "quarantined"


def test_what_is_remembered_of_chunks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOOK_KEYS_REMEMBERED_MAX", 3)
    stage = Stage()
    _quarantined(stage, *PAIR)
    elsewhere: Callable[[], object] = lambda: stage.look({"id": {"S": "y"}})  # noqa: E731 - said twice
    assert [_chunk_reads(stage, elsewhere) for _ in range(2)] == [1, 0]
    _quarantined(stage, *PAIR)
    assert all(_chunk_reads(stage, elsewhere) for _ in range(3)), "two entries of two keys do not fit"


@pytest.mark.parametrize("newer", [{"format": {"N": "9"}}, {"state": {"S": "archived"}}])
def test_an_entry_that_cannot_be_read_is_told_and_counted_once(newer: WireItem) -> None:
    stage = Stage()
    write = stage.commit(stage.prepared(*PAIR))
    stage.apply(write)
    (record,) = stage.world.records("J#")
    stage.world.record(record["pk"]["S"], record["sk"]["S"], **{**record, **newer})
    look = stage.look()  # meets it in the walk, and by the stamp of the item
    assert (look.unreadable, look.settled, look.fractured) == (1, False, False)
    assert order_of(look) == write.entry.stamp


# --- waiting ------------------------------------------------------------------------------------------------------


class Meanwhile(ManualTime):
    """While somebody sleeps, things happen."""

    def __init__(self) -> None:
        super().__init__()
        self.then: list[Callable[[], object]] = []

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.then:
            self.then.pop(0)()


class Waiting(Stage):
    def __init__(self) -> None:
        super().__init__()
        self.time = Meanwhile()
        settings = Settings(system_table=SYSTEM)
        self.reader = assemble(self.world.tables, settings, self.time, InlineWorkers(), Events(self.world.logger))

    def wait(self, seconds: float, deadline_seconds: float = 60.0) -> tuple[PendingLook, int]:
        sent = len(self.world.tables.sent)
        deadline = Deadline.after(deadline_seconds, self.time)
        look = self.reader.pending.look(TABLE, KEY, deadline, wait_seconds=seconds)
        return look, sum(call == "query" for call, _ in self.world.tables.sent[sent:])


def test_waiting_ends_when_the_write_is_finished_and_reads_its_shard_only_until_then() -> None:
    stage = Waiting()
    write = stage.commit(stage.prepared(*PAIR))
    stage.time.then = [lambda: None, lambda: None, lambda: _finish(stage, write)]
    look, queries = stage.wait(20)
    assert look.settled
    assert order_of(look) == write.entry.stamp
    assert queries == 4 + 3 + 4, "two looks at all four shards, three at one"
    assert len(stage.time.slept) == 3


def test_waiting_ends_with_its_time_and_the_last_look_is_a_whole_one() -> None:
    stage = Waiting()
    write = stage.commit(stage.prepared(*PAIR))
    later: list[Prepared] = []
    stage.time.then = [lambda: later.append(stage.commit(stage.prepared(putting())))]
    look, _ = stage.wait(2)
    assert sum(stage.time.slept) == pytest.approx(2)
    assert [one.write_id for one in look.writes] == [write.write_id, later[0].write_id]


def test_nobody_waits_for_what_waits_for_a_person() -> None:
    stage = Waiting()
    write = stage.commit(stage.prepared(*PAIR))
    stage.engine.journal.quarantine(write.entry, "broken", stage.engine.attempt_deadline())
    look, _ = stage.wait(20)
    assert not look.settled
    assert not stage.time.slept


def test_nobody_waits_for_entries_that_cannot_be_read() -> None:
    stage = Waiting()
    stage.world.record("J#000", "garbled")
    look, _ = stage.wait(20)
    assert not look.settled
    assert not stage.time.slept


@pytest.mark.parametrize("deadline_seconds", [1.0, 60.0])
def test_a_wait_that_cannot_look_any_more_ends_with_what_it_saw(deadline_seconds: float) -> None:
    stage = Waiting()
    write = stage.commit(stage.prepared(*PAIR))

    def break_down() -> None:
        def before(_call: CallName, _request: Mapping[str, Any]) -> None:
            raise CallFailed(FailureKind.ACCESS_DENIED, "code", SYSTEM)

        stage.world.tables.before = before

    stage.time.then = [break_down] if deadline_seconds > 20 else []
    look, _ = stage.wait(20, deadline_seconds)
    assert [one.write_id for one in look.writes] == [write.write_id]
    assert sum(stage.time.slept) < 20


def test_a_pause_is_drawn_at_random_and_grows() -> None:
    stage = Waiting()
    stage.commit(stage.prepared(*PAIR))
    stage.wait(3)
    asked = stage.time.jitter_asked
    assert asked == sorted(asked)
    assert asked[-1] <= limits.RETRY_CAP_SECONDS


def test_deletes_are_actions_too() -> None:
    stage = Stage()
    stage.whole(stage.prepared(putting(v="a")))
    write = stage.commit(stage.prepared(putting("y"), deleting()))
    (pending,) = stage.look().writes
    assert (pending.deletes, pending.applied_here, pending.fractured) == (True, False, False)
    deadline = stage.engine.attempt_deadline()
    delete = next(action for _, action in located_actions(write.operations) if isinstance(action, Delete))
    stage.engine.tombstones.mark(delete, write.entry.stamp, deadline)
    look = stage.look()
    assert look.item is None, "its tombstone is there, so it is on its way out"
    assert look.writes[0].applied_here
    assert look.fractured
