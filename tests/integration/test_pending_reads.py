"""Looks with the journal in view, on real engines: committers that die on the way, and what lands between two reads.

`tests/unit/test_pending.py` has every interleaving by its number; here they meet engines, processes and other places.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from reliable_write import (
    InvalidKeyError,
    Look,
    LookFailedError,
    Outcome,
    ReliableWriter,
    ReliableWriteScope,
    UnknownTableError,
    limits,
)
from reliable_write.clock import SystemTime
from reliable_write.embedded.server import local_session
from reliable_write.entry import State
from reliable_write.settings import Destination
from reliable_write.system_table import Installation
from reliable_write.testing.engines import Engine
from reliable_write.testing.faults import Call, FaultPlan, SimulatedCrash, crash, deny
from reliable_write.testing.meter import Meter
from tests.chaos.processes import run_to_death
from tests.chaos.victims import Home, half_way, three_puts, write_half
from tests.integration.at_commit import add, plant
from tests.integration.stuck_writes import Stuck, batch, one
from tests.integration.stuck_writes import put as putting
from tests.integration.test_promises import another, delete, left_behind, put, settled
from tests.world import SHARDS, World, plain_world, wide_world
from tests.world import world as durable_world

__all__ = ["durable_world", "wide_world"]

world = plain_world
PAGE = Path(__file__).parents[2] / "docs" / "pending-reads.md"
WRITES_DOCS = os.environ.get("RELIABLE_WRITE_WRITE_DOCS") == "1"
KEY = {"id": "x"}


def looked(world: World, table: str, key: str = "x", *, wait: float = 0.0) -> Look:
    """As another process would look."""
    return world.writer().look(table, Key={"id": key}, wait=wait)


def half_done(world: World, *tables: str, v: str = "new") -> str:
    """One put to each table, the first applied; then the writer died. Returns the write's id."""
    writer = world.writer()
    scope = ReliableWriteScope(writer)
    for table in tables:
        scope.put_item(table, Item={**KEY, "v": v})
    plan = FaultPlan(writer.client)
    half_way(plan, tables[0], list(tables[1:]), crash)
    with pytest.raises(SimulatedCrash):
        scope.commit()
    assert scope.write_id is not None
    return scope.write_id


def v_of(item: dict[str, Any] | None) -> Any:
    return None if item is None else item.get("v")


# --- committers that die ------------------------------------------------------------------------------------------


def test_a_write_whose_committer_died_half_way_is_seen_from_both_sides(world: World) -> None:
    done, open_ = world.table("done"), world.table("open")
    put(another(world), done, open_, v="old")
    write_id = half_done(world, done, open_)
    here, there = looked(world, done), looked(world, open_)
    assert (v_of(here.item), v_of(there.item)) == ("new", "old")
    for look, place, applied_here in ((here, 0, True), (there, 1, False)):
        (pending,) = look.pending
        assert (pending.write_id, pending.operation) == (write_id, f"operations[{place}]")
        assert (pending.applied_here, pending.fractured, pending.unreached) == (applied_here, True, 0)
        assert (pending.state, pending.deletes, pending.item) == (State.PENDING, False, {**KEY, "v": "new"})
        assert look.fractured
        assert not look.settled
    settled(world)
    for table in (done, open_):
        assert looked(world, table) == Look({**KEY, "v": "new"}, (), 0)


def test_a_write_of_which_nothing_is_done_is_pending_and_not_fractured(world: World) -> None:
    one_, other = world.table("one"), world.table("other")
    write_id = left_behind(world, one_, other)
    look = looked(world, one_)
    assert [pending.write_id for pending in look.pending] == [write_id]
    assert (look.item, look.fractured, look.settled) == (None, False, False)
    assert looked(world, one_, "another key").settled


def test_a_process_killed_half_way_leaves_a_fractured_write(world: World) -> None:
    tables = [world.table("one"), world.table("two"), world.table("three")]
    run_to_death(write_half, Home(world.engine.endpoint_url, world.system_table), three_puts(tables, "mark"))
    looks = world.writer().look_many([(table, {"id": "mark"}) for table in tables])
    assert [look.item and look.item["value"] for look in looks] == ["new", None, None]
    assert [look.pending[0].applied_here for look in looks] == [True, False, False]
    assert all(look.fractured for look in looks)
    assert len({look.pending[0].write_id for look in looks}) == 1
    settled(world)
    again = world.writer().look_many([(table, {"id": "mark"}) for table in tables])
    assert again == (Look({"id": "mark", "value": "new"}, (), 0),) * 3


def test_a_key_is_found_however_its_number_is_spelled(world: World) -> None:
    table = world.table("one", "id:S", "at:N")
    writer = world.writer()
    scope = ReliableWriteScope(writer)
    scope.put_item(table, Item={**KEY, "at": Decimal("1.0"), "v": "new"})
    plan = FaultPlan(writer.client).on("PutItem", crash, having=f'"{table}"'.encode())
    with pytest.raises(SimulatedCrash):
        scope.commit()
    assert plan.injected
    reader = world.writer()
    assert len(reader.look(table, {"at": 1, "id": "x"}).pending) == 1
    assert reader.look(table, {**KEY, "at": 2}).settled
    settled(world)
    assert reader.look(table, {"at": Decimal("1.00"), "id": "x"}) == Look({**KEY, "at": 1, "v": "new"}, (), 0)


# --- what is done, whoever did it ---------------------------------------------------------------------------------


def test_a_finished_write_whose_entry_is_still_there_is_not_pending(world: World) -> None:
    """A commit returns before its entry is deleted: its own reader would wait a second for nothing."""
    table, other = world.table("one"), world.table("other")
    writer = world.writer()
    with FaultPlan(writer.client) as plan:
        plan.on("BatchWriteItem", deny)
        put(writer, table, other, v="a")
        look = looked(world, table)
    assert len(world.records("J#")) == 1
    assert look == Look({**KEY, "v": "a"}, (), 0)


def test_a_superseded_put_is_done(world: World) -> None:
    table, other = world.table("one"), world.table("other")
    first = left_behind(world, table, other, v="first")
    put(another(world), table, v="second")
    look = looked(world, table)
    assert v_of(look.item) == "second"
    (pending,) = look.pending
    assert (pending.write_id, pending.applied_here, pending.fractured) == (first, True, True)
    put(another(world), other, v="second")
    assert looked(world, table).settled


def test_a_put_deleted_later_is_done_and_a_delete_is_told_by_its_tombstone(world: World) -> None:
    table, other = world.table("one"), world.table("other")
    left_behind(world, table, v="first")
    delete(another(world), table)
    assert looked(world, table) == Look(None, (), 0)
    put(another(world), other, v="there")
    writer = world.writer()
    scope = ReliableWriteScope(writer)
    scope.delete_item(other, Key=KEY)
    plan = FaultPlan(writer.client).on("DeleteItem", crash)
    with pytest.raises(SimulatedCrash):
        scope.commit()
    assert plan.injected
    assert world.item(other, id={"S": "x"}) is not None, "its tombstone is there, and the item still is"
    assert looked(world, other) == Look(None, (), 0)


def test_a_delete_of_which_nothing_is_done_is_to_come(world: World) -> None:
    table = world.table("one")
    put(another(world), table, v="there")
    writer = world.writer()
    scope = ReliableWriteScope(writer)
    scope.delete_item(table, Key=KEY)
    plan = FaultPlan(writer.client).on("PutItem", crash, having=b'"T#')
    with pytest.raises(SimulatedCrash):
        scope.commit()
    assert plan.injected
    look = looked(world, table)
    assert v_of(look.item) == "there"
    (pending,) = look.pending
    assert (pending.deletes, pending.item, pending.applied_here, pending.fractured) == (True, None, False, False)


def test_a_quarantined_write_is_told_as_such_and_found_in_its_chunks(world: World) -> None:
    table = world.table("one")
    stuck = Stuck(world.writer())
    entry = stuck.quarantined(batch(putting(table, "x"), putting(table, "y")))
    look = looked(world, table, "y", wait=30.0)
    (pending,) = look.pending
    assert (pending.write_id, pending.state, pending.operation) == (
        entry.write_id,
        State.QUARANTINED,
        "operations[0].items[1]",
    )


def test_a_write_in_chunks_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    table, other = world.table("one"), world.table("other")
    with monkeypatch.context() as patch:
        patch.setattr(limits, "CHUNK_BYTES_MAX", 60)
        write_id = half_done(world, table, other)
    assert len(world.records("C#")) > 1
    assert [pending.write_id for pending in looked(world, other).pending] == [write_id]
    assert looked(world, other, "another key").settled


def test_a_discarded_write_is_not_pending_any_more(world: World) -> None:
    table = world.table("one")
    stuck = Stuck(world.writer())
    entry = stuck.quarantined(one(putting(table, "x")))
    epoch = entry.epoch
    stuck.engine.operators.discard(entry.write_id, operator="ada", reason="wrong", seen_epoch=epoch, attempts_over=True)
    assert looked(world, table).settled


def test_an_entry_that_cannot_be_read_keeps_every_key_unsettled(world: World) -> None:
    left_behind(world, world.table("one"))
    (record,) = world.records("J#")
    world.client.put_item(TableName=world.system_table, Item={**record, "payload": {"B": b"garbled"}})
    look = looked(world, world.table("other"), wait=30.0)
    assert (look.pending, look.unreadable, look.settled) == ((), 1, False)


# --- operations at commit -----------------------------------------------------------------------------------------


def at_commit_and_left(world: World, counted: str, journalled: str) -> str:
    """An update of one item, in effect, and a put of another that is left to recovery."""
    writer = world.writer()
    scope = ReliableWriteScope(writer)
    scope.put_item(journalled, Item={**KEY, "v": "new"})
    scope.update_item(counted, Key=KEY, add={"n": 1})
    plan = FaultPlan(writer.client).on("PutItem", crash, having=f'"{journalled}"'.encode())
    with pytest.raises(SimulatedCrash):
        scope.commit()
    assert plan.injected
    assert scope.write_id is not None
    return scope.write_id


def test_what_took_effect_in_the_commit_point_counts_as_done(durable_world: World) -> None:
    """The entry does not hold it: the item's own stamp names the write, and the receipt tells that there was more."""
    world = durable_world
    counted, journalled = world.table("counted"), world.table("journalled")
    write_id = at_commit_and_left(world, counted, journalled)
    here, there = looked(world, counted), looked(world, journalled)
    assert here.item == {**KEY, "n": 1}
    for look, place, applied_here in ((here, "", True), (there, "operations[0]", False)):
        (pending,) = look.pending
        assert (pending.write_id, pending.operation) == (write_id, place)
        assert (pending.applied_here, pending.fractured) == (applied_here, True)
    plant(world, journalled, v="new", _rw=write_id)
    assert looked(world, counted).settled, "all is done, and its entry still there"
    assert looked(world, journalled).settled


def test_a_delete_in_the_commit_point_is_named_by_its_tombstone(durable_world: World) -> None:
    world = durable_world
    deleted, journalled = world.table("deleted"), world.table("journalled")
    put(another(world), deleted)
    writer = world.writer()
    scope = ReliableWriteScope(writer)
    scope.delete_item(deleted, Key=KEY, ConditionExpression="attribute_exists(id)")
    scope.put_item(journalled, Item=KEY)
    FaultPlan(writer.client).on("PutItem", crash, having=f'"{journalled}"'.encode())
    with pytest.raises(SimulatedCrash):
        scope.commit()
    look = looked(world, deleted)
    (pending,) = look.pending
    assert (look.item, pending.deletes, pending.item, pending.applied_here) == (None, True, None, True)
    assert look.fractured


def test_an_idempotency_key_alone_makes_no_write_fractured(durable_world: World) -> None:
    """It has a receipt too, and nothing that took effect at the commit."""
    world = durable_world
    table, other = world.table("one"), world.table("other")
    writer = world.writer()
    scope = ReliableWriteScope(writer, idempotency_key="order-1")
    for name in (table, other):
        scope.put_item(name, Item=KEY)
    plan = FaultPlan(writer.client).on("PutItem", crash)
    with pytest.raises(SimulatedCrash):
        scope.commit()
    assert plan.injected
    (pending,) = looked(world, table).pending
    assert (pending.write_id, pending.fractured) == ("order-1", False)
    add(another(world), other)
    assert not looked(world, table).fractured, "overtaken by an update alone: not done"


# --- between two reads of one look --------------------------------------------------------------------------------


@pytest.fixture(params=["dynoxide", "dynalite"])
def small_world(request: pytest.FixtureRequest, unique_name: Callable[[str], str]) -> Iterator[World]:
    """Two shards: every request of a look is a place where something may happen."""
    world = World(request.getfixturevalue(request.param), unique_name, Installation(shards=2))
    yield world
    world.close()


def _finished(world: World, _tables: tuple[str, str]) -> None:
    settled(world)


def _overwritten(world: World, tables: tuple[str, str]) -> None:
    put(another(world), *tables, v="newer")


def _deleted(world: World, tables: tuple[str, str]) -> None:
    delete(another(world), tables[0])


def _half_overwritten(world: World, tables: tuple[str, str]) -> None:
    half_done(world, *tables, v="newer")


def _let_happen(happens: Callable[..., None], world: World, tables: tuple[str, str], _call: Call) -> None:
    happens(world, tables)


@pytest.mark.parametrize("happens", [_finished, _overwritten, _deleted, _half_overwritten])
def test_an_answer_holds_whatever_lands_before_any_of_its_requests(
    small_world: World, happens: Callable[[World, tuple[str, str]], None]
) -> None:
    world, requests = small_world, 0
    for number in range(1, 9):
        tables = (world.table("one"), world.table("other"))
        put(another(world), *tables, v="old")
        write_id = half_done(world, tables[1], tables[0])
        reader = world.writer(propagation_threads=1)
        reader.engine().schemas.get(tables[0])
        plan = FaultPlan(reader.client)
        plan.at(number, partial(_let_happen, happens, world, tables))
        look = reader.look(tables[0], KEY)
        requests = max(requests, len(plan.calls))
        ended = plan.injected == 0
        if look.settled:
            assert v_of(look.item) in {"new", "newer", None}, number
        elif v_of(look.item) == "old":
            assert [(one.write_id, one.fractured) for one in look.pending][:1] == [(write_id, True)], number
        if v_of(look.item) in {"new", "newer"} and not look.fractured:
            item = world.item(tables[1], id={"S": "x"})
            assert item is not None
            assert item["v"]["S"] >= str(v_of(look.item)), number
        if world.records("J#"):
            settled(world)
        if ended:
            break
    assert ended
    assert requests >= 4


# --- waiting ------------------------------------------------------------------------------------------------------


class Meanwhile(SystemTime):
    """Nobody waits: while a reader sleeps, something happens."""

    def __init__(self, *happenings: Callable[[], object]) -> None:
        self.happenings = list(happenings)
        self.slept = 0

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept += 1
        if self.happenings:
            self.happenings.pop(0)()


def test_waiting_ends_when_recovery_has_finished_the_write(world: World) -> None:
    table, other = world.table("one"), world.table("other")
    half_done(world, other, table)
    time = Meanwhile(lambda: None, lambda: settled(world))
    reader = world.writer(time=time)
    with FaultPlan(reader.client) as plan:
        look = reader.look(table, KEY, wait=30.0)
    assert look == Look({**KEY, "v": "new"}, (), 0)
    assert time.slept == 2
    assert plan.count("Query") == SHARDS + 1 + 1 + SHARDS, "between two whole looks only the shard of the write is read"


def test_without_wait_nobody_waits(world: World) -> None:
    table = world.table("one")
    left_behind(world, table)
    time = Meanwhile()
    assert not world.writer(time=time).look(table, KEY).settled
    assert time.slept == 0


# --- other places -------------------------------------------------------------------------------------------------


def travelling(world: World, endpoint_url: str, **settings: Any) -> ReliableWriter:
    place = Destination(region_name="eu-west-1", endpoint_url=endpoint_url)
    return ReliableWriter(
        world.settings(**{"delete_finished_inline": True, **settings}),
        session=local_session(),
        destinations={"eu": place},
    )


def test_a_table_elsewhere_is_looked_at_and_its_absence_does_not_hold_up_what_is_here(
    durable_world: World, dynalite: Engine, unique_name: Callable[[str], str]
) -> None:
    here = durable_world.table("here")
    far = World(dynalite, unique_name)
    there = f"eu:{far.table('there')}"
    with travelling(durable_world, dynalite.endpoint_url) as writer:
        put(writer, here, there, v="old")
        assert writer.look_many([(here, KEY), (there, KEY)]) == (Look({**KEY, "v": "old"}, (), 0),) * 2
        scope = ReliableWriteScope(writer)
        scope.put_item(here, Item={**KEY, "v": "new"})
        scope.put_item(there, Item={**KEY, "v": "new"})
        plan = FaultPlan(writer.client).on("PutItem", crash, having=f'"{here}"'.encode())
        with pytest.raises(SimulatedCrash):
            scope.commit()
        assert plan.injected
    with travelling(durable_world, dynalite.endpoint_url) as reader:
        looks = reader.look_many([(here, KEY), (there, KEY)])
        assert [(v_of(look.item), look.fractured) for look in looks] == [("old", True), ("new", True)]
        assert looks[0].pending[0].unreached == 0
    with travelling(durable_world, "http://127.0.0.1:9") as reader:
        look = reader.look(here, KEY)
        (pending,) = look.pending
        assert (v_of(look.item), pending.unreached, pending.fractured) == ("old", 1, True)
    far.close()


def test_a_destination_that_this_process_does_not_know_is_one_it_cannot_look_at(durable_world: World) -> None:
    here = durable_world.table("here")
    Stuck(durable_world.writer()).commit(one(putting(here, "x")), one(putting("eu:there", "x")))
    (pending,) = looked(durable_world, here).pending
    assert (pending.unreached, pending.fractured) == (1, True)


# --- errors -------------------------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_an_error_that_says_what_to_do(world: World) -> None:
    table = world.table("one")
    reader = world.writer()
    with FaultPlan(reader.client) as plan:
        plan.on("Query", deny, times=1)
        with pytest.raises(LookFailedError, match=r"access denied.*needs dynamodb:Query and BatchGetItem") as caught:
            reader.look(table, KEY)
    assert (caught.value.outcome, caught.value.retryable) == (Outcome.NOT_WRITTEN, False)
    assert reader.look(table, KEY).settled


def test_bad_input_is_refused_before_anything_is_read(world: World) -> None:
    table = world.table("one")
    reader = world.writer()
    with FaultPlan(reader.client) as plan:
        with pytest.raises(InvalidKeyError, match=f"look at {table}: key attribute 'id' is missing"):
            reader.look(table, {})
        with pytest.raises(UnknownTableError, match="the journal's own"):
            reader.look(world.system_table, KEY)
        with pytest.raises(UnknownTableError, match="no destination 'us' is registered"):
            reader.look("us:orders", KEY)
        for wait in (-1.0, float("nan"), float("inf")):
            with pytest.raises(ValueError, match=r"wait is .*it takes seconds"):
                reader.look(table, KEY, wait=wait)
        with pytest.raises(ValueError, match="takes 100 keys; these are 101"):
            reader.look_many([(table, {"id": str(number)}) for number in range(101)])
        assert {call.operation for call in plan.calls} <= {"DescribeTable", "GetItem"}
    assert reader.look_many([]) == ()


def test_an_items_values_and_stamps_stay_out_of_sight(world: World) -> None:
    table, other = world.table("one"), world.table("other")
    half_done(world, table, other, v="secret")
    looks = world.writer().look_many([(table, KEY), (other, KEY)])
    assert "secret" not in repr(looks)
    assert set(looks[0].item or {}) == {"id", "v"}
    assert set(looks[1].pending[0].item or {}) == {"id", "v"}


# --- what it costs ------------------------------------------------------------------------------------------------


def _absent(_world: World, table: str, _other: str) -> list[str]:
    return [f"{table}/x"]


def _one_item(world: World, table: str, _other: str) -> list[str]:
    put(another(world), table, v="a")
    return [f"{table}/x"]


def _hundred(world: World, table: str, _other: str) -> list[str]:
    writer = another(world)
    for start in range(0, 100, 25):
        with ReliableWriteScope(writer) as scope:
            scope.put_items(table, [{"id": f"k{number}"} for number in range(start, start + 25)])
            scope.commit()
    return [f"{table}/k{number}" for number in range(100)]


def _pending(world: World, table: str, other: str) -> list[str]:
    left_behind(world, table, other)
    return [f"{table}/x"]


def _fractured(world: World, table: str, other: str) -> list[str]:
    half_done(world, table, other)
    return [f"{table}/x"]


def _anothers(world: World, table: str, other: str, kilobytes: int) -> list[str]:
    noise = random.Random(1).randbytes(kilobytes * limits.KB // 2)
    parts = [putting(other, key, blob={"B": half}) for key, half in (("a", noise), ("b", noise[::-1]))]
    Stuck(world.writer()).commit(batch(*parts))
    return [f"{table}/x"]


def _large(world: World, table: str, other: str) -> list[str]:
    return _anothers(world, table, other, 100)


def _chunked(world: World, table: str, other: str) -> list[str]:
    return _anothers(world, table, other, 500)


KINDS: dict[str, Callable[[World, str, str], list[str]]] = {
    "an absent item": _absent,
    "an item, nothing pending": _one_item,
    "100 items at once, nothing pending": _hundred,
    "an absent item, 100 KB of another write in the journal": _large,
    "an absent item, 500 KB of another write in the journal": _chunked,
    "the same, by a process that has looked before": _chunked,
    "an absent item with a pending put of two": _pending,
    "an item with a half applied put of two": _fractured,
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_costs_in_the_documents_are_those_of_the_engine(wide_world: World, kind: str) -> None:
    table, other = wide_world.table("t"), wide_world.table("o")
    keys = [(table, {"id": named.partition("/")[2]}) for named in KINDS[kind](wide_world, table, other)]
    reader = wide_world.writer()
    reader.engine().schemas.get(table)
    if kind.startswith("the same"):
        reader.look_many(keys)
    with Meter(reader.client) as meter:
        reader.look_many(keys)
    assert meter.calls["Query"] == limits.SHARDS
    assert not set(meter.calls) - {"Query", "BatchGetItem", "GetItem"}
    requests = " | ".join(str(meter.calls[name]) for name in ("Query", "BatchGetItem", "GetItem"))
    row = f"| {kind} | {requests} | {meter.read_units:.0f} |"
    if WRITES_DOCS:
        _write(kind, row)
    assert row in PAGE.read_text().splitlines()


def test_the_table_has_a_row_for_each_kind_and_no_other() -> None:
    rows = re.findall(r"^\| ([^|]*) \| \d", PAGE.read_text(), re.MULTILINE)
    assert rows == list(KINDS)


def _write(kind: str, row: str) -> None:
    lines = PAGE.read_text().splitlines()
    places = [at for at, line in enumerate(lines) if line.startswith(f"| {kind} |")]
    assert places, f"make room for {kind!r}"
    lines[places[0]] = row
    PAGE.write_text("\n".join(lines) + "\n")
