"""G2, G3 and G4 between real processes: one winner on every copy, no resurrection, and no lost later write."""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.connection import wait

import pytest

from reliable_write import Receipt, ReliableWriteScope
from reliable_write.recovery import Resumed
from reliable_write.system_table import Installation
from reliable_write.system_table import Order as InstalledOrder
from reliable_write.testing.engines import Engine
from reliable_write.testing.faults import Call, Fault, FaultPlan
from reliable_write.writer import WriterRecovery
from tests.chaos.arena import Arena
from tests.chaos.contenders import STALLED, Order, Stall
from tests.chaos.processes import PATIENCE_SECONDS, Child, run, run_to_death
from tests.chaos.victims import CrashPoint, three_puts, write_once
from tests.world import World

ROUNDS = int(os.environ.get("RELIABLE_WRITE_CONVERGENCE_ROUNDS", "200"))
"""CI's size; long runs ask for more."""
SEED = int(os.environ.get("RELIABLE_WRITE_CHAOS_SEED", "20251122"))
HOUR_SECONDS = 3600.0
CALLS_OF_A_COMMIT = 6
"""Witness, commit point, three puts, and the deletion of the entry."""


@pytest.fixture
def arena(world: World) -> Iterator[Arena]:
    with ExitStack() as cleanup:
        yield Arena(world, cleanup)


@pytest.fixture
def plain_arena(plain_world: World) -> Iterator[Arena]:
    with ExitStack() as cleanup:
        yield Arena(plain_world, cleanup)


@pytest.fixture
def arena_ordered_by(
    dynoxide: Engine, unique_name: Callable[[str], str]
) -> Iterator[Callable[[InstalledOrder], Arena]]:
    with ExitStack() as cleanup:

        def make(order: InstalledOrder) -> Arena:
            world = World(dynoxide, unique_name, Installation(order=order))
            cleanup.callback(world.close)
            return Arena(world, cleanup)

        yield make


# --- G2 -----------------------------------------------------------------------------------------------------------


def test_g2_two_processes_over_the_same_keys_leave_one_winner_on_every_copy(arena: Arena) -> None:
    """Each round both commit a scope over the same three copies, each stalled at a random one of its calls until the
    other has finished, or stands still too.
    """
    chance = random.Random(SEED)
    both = [arena.contender(), arena.contender()]
    _warm_up(arena, both)
    seen: Counter[str] = Counter()
    for number in range(ROUNDS):
        key = f"thing-{number % 7}"
        orders = [Order(f"{number} by {name}", arena.rows(key), stall=_anywhere(chance)) for name in "AB"]
        receipts, stalls = _race(both, orders, chance)
        seen["stalls"] += stalls
        seen[_check_one_winner(arena.copies(key), orders, receipts)] += 1
    assert arena.world.records("J#") == []
    assert seen["stalls"] > ROUNDS
    # Both ways it can go were seen: the loser came late everywhere, or was overwritten, or some of each.
    assert all(seen[way] for way in ("superseded", "overwritten", "mixed")), seen


def _check_one_winner(copies: list[dict[str, str]], orders: list[Order], receipts: list[Receipt]) -> str:
    (_, loser), (order, winner) = sorted(zip(orders, receipts, strict=True), key=lambda pair: pair[1].stamp)
    for copy in copies:
        assert copy["value"] == order.value
        assert copy["_rw"] == winner.stamp
    assert winner.superseded == ()
    return {0: "overwritten", len(copies): "superseded"}.get(len(loser.superseded), "mixed")


def _anywhere(chance: random.Random) -> Stall:
    return Stall(chance.randint(1, CALLS_OF_A_COMMIT), chance.choice(("before", "after")))


def _warm_up(arena: Arena, children: list[Child]) -> None:
    """So that later commits make the same calls: schemas are known then."""
    for child in children:
        _commit(child, Order("warm", arena.rows("warm")))


def _race(children: list[Child], orders: list[Order], chance: random.Random) -> tuple[list[Receipt], int]:
    """Start all; whoever stalls goes on when nobody else moves: a random one first, the next one after it ended."""
    for child, order in zip(children, orders, strict=True):
        child.pipe.send(order)
    receipts: dict[int, Receipt] = {}
    stalled: list[int] = []
    stalls = 0
    while len(receipts) < len(children):
        moving = {child.pipe: at for at, child in enumerate(children) if at not in receipts and at not in stalled}
        if not moving:
            at = stalled.pop(chance.randrange(len(stalled)))
            children[at].pipe.send("go on")
            continue
        ready = wait(list(moving), PATIENCE_SECONDS)
        assert ready, "both hang"
        for pipe in ready:
            at = moving[pipe]  # type: ignore[index]  # they are the connections we gave
            message = children[at].receive()
            if message == STALLED:
                stalled.append(at)
                stalls += 1
            else:
                receipts[at] = message
    return [receipts[at] for at in range(len(children))], stalls


# --- G4 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift_seconds", [-HOUR_SECONDS, HOUR_SECONDS], ids=["an hour slow", "an hour fast"])
def test_g4_a_write_begun_after_another_was_acknowledged_wins_whatever_the_clocks_say(
    arena: Arena, shift_seconds: float
) -> None:
    """Both roles, in every pair of put and delete. The tables show the later write alone."""
    wrong, right = arena.contender(shift_seconds), arena.contender()
    chance = random.Random(SEED)
    kinds: Counter[tuple[str, str]] = Counter()
    for number in range(max(ROUNDS // 4, 24)):
        key = f"thing-{number % 3}"
        first, second = chance.sample([wrong, right], 2)
        verbs = chance.choice(["put put", "put delete", "delete put"]).split()
        earlier, later = (_order(arena, verb, key, f"{number} {place}") for place, verb in enumerate(verbs))
        before, after = _commit(first, earlier), _commit(second, later)
        assert before.stamp < after.stamp
        assert after.superseded == ()
        _check_shows(arena.copies(key), later, after)
        kinds["wrong first" if first is wrong else "right first", " ".join(verbs)] += 1
    assert len(kinds) == 6, kinds


@pytest.mark.parametrize("installed", ["strict", "clock"])
def test_g4_is_what_order_clock_gives_up(
    arena_ordered_by: Callable[[InstalledOrder], Arena], installed: InstalledOrder
) -> None:
    """One scene under both: a process whose clock is slow writes after another one's write was acknowledged.

    With `order="clock"` it loses, which is that order's price, and the proof that the test above can fail.
    """
    arena = arena_ordered_by(installed)
    slow, right = arena.contender(-HOUR_SECONDS), arena.contender()
    earlier, later = (_order(arena, "put", "thing", value) for value in ("earlier", "later"))
    before, after = _commit(right, earlier), _commit(slow, later)
    if installed == "strict":
        assert (after.stamp > before.stamp, after.superseded) == (True, ())
        _check_shows(arena.copies("thing"), later, after)
    else:
        assert after.stamp < before.stamp
        assert len(after.superseded) == len(arena.tables)  # the receipt tells
        _check_shows(arena.copies("thing"), earlier, before)


def _order(arena: Arena, verb: str, key: str, value: str) -> Order:
    rows = arena.rows(key)
    return Order(value, puts=rows) if verb == "put" else Order(value, deletes=rows)


def _check_shows(copies: list[dict[str, str]], order: Order, receipt: Receipt) -> None:
    for copy in copies:
        if order.deletes:
            assert copy == {}
        else:
            assert (copy["value"], copy["_rw"]) == (order.value, receipt.stamp)


def _commit(child: Child, order: Order) -> Receipt:
    child.pipe.send(order)
    receipt = child.receive()
    assert isinstance(receipt, Receipt)
    return receipt


# --- G3 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("applied_by_the_dead", ["nothing", "one put"])
def test_g3_a_deleted_key_does_not_come_back_when_an_older_write_is_recovered(
    arena: Arena, applied_by_the_dead: str
) -> None:
    """A writer dies after its commit point; a delete of the same keys is acknowledged; then the dead one's entry is
    recovered. What it had also put elsewhere is applied.
    """
    told = run(write_once, arena.home, three_puts(arena.tables, "dry run"), None)
    plan = three_puts(arena.tables, "thing")
    point = CrashPoint(told.commit_call + (applied_by_the_dead == "one put"), "after")
    run_to_death(write_once, arena.home, plan, point)
    assert len(arena.world.records("J#")) == 1
    rows = arena.rows("thing")[:2]
    receipt = _commit(arena.contender(), Order("gone", deletes=rows))
    assert receipt.superseded == ()
    (report,) = arena.world.writer().recovery.resume_all()
    assert report.resumed is Resumed.FINISHED
    assert [result.status.value for result in report.results] == ["superseded", "superseded", "applied"]
    assert [copy.get("value") for copy in arena.copies("thing")] == [None, None, "new"]
    assert arena.world.records("J#") == []
    # And a write after the delete is no resurrection but a new item.
    new = _commit(arena.contender(), Order("newer", puts=rows))
    assert new.superseded == ()
    assert [copy["value"] for copy in arena.copies("thing")] == ["newer", "newer", "new"]


def test_g3_an_older_write_recovered_at_any_moment_of_a_delete_does_not_come_back(plain_arena: Arena) -> None:
    """After each call of the deleting scope, a dead writer's entry over the same key is recovered; that one alone,
    for a recovery of the delete itself would mend what it gets wrong.
    """
    world, table = plain_arena.world, plain_arena.tables[0]
    commit_call = run(write_once, plain_arena.home, three_puts([table], "dry run"), None).commit_call
    recovery = world.writer().recovery
    operations: list[str] = []
    for number in itertools.count(1):
        key = f"thing-{number}"
        run_to_death(write_once, plain_arena.home, three_puts([table], key), CrashPoint(commit_call, "after"))
        older = recovery.look().entries[0].write_id
        client = world.engine.client()
        with FaultPlan(client) as faults, plain_arena.home.writer(client, delete_finished_inline=True) as writer:
            faults.at(number, _resume(recovery, older), "after")
            with ReliableWriteScope(writer) as scope:
                scope.delete_item(table, Key={"id": key})
                scope.commit()
        operations = [call.operation for call in faults.calls]
        assert faults.injected == 1
        assert world.item(table, id={"S": key}) is None, operations[number - 1]
        assert world.records("J#") == []
        if number == len(operations):
            break
    # Config record, schema, witness, commit point, tombstone, the item, the finished entry.
    assert operations[3:] == ["PutItem", "PutItem", "DeleteItem", "BatchWriteItem"]


def test_g3_a_delete_at_any_moment_of_an_older_writes_recovery_holds(plain_arena: Arena) -> None:
    """CE5, the other way round: a recoverer that looked for the tombstone before its put would miss this one."""
    world, table = plain_arena.world, plain_arena.tables[0]
    commit_call = run(write_once, plain_arena.home, three_puts([table], "dry run"), None).commit_call
    deleter = plain_arena.contender()
    client = world.engine.client()
    operations: list[str] = []
    with plain_arena.home.writer(client) as writer:
        for number in itertools.count(1):
            key = f"thing-{number}"
            run_to_death(write_once, plain_arena.home, three_puts([table], key), CrashPoint(commit_call, "after"))
            (older,) = writer.recovery.look().entries
            with FaultPlan(client) as faults:
                faults.at(number, _delete(deleter, table, key), "after")
                assert writer.recovery.resume(older.write_id).resumed is Resumed.FINISHED
            operations = [call.operation for call in faults.calls]
            assert faults.injected == 1
            assert world.item(table, id={"S": key}) is None, operations[number - 1]
            assert world.records("J#") == []
            if number == len(operations):
                break
    # The entry, the claim, the put, the look for a tombstone, the finished entry: the last delete comes after all.
    assert operations == ["GetItem", "UpdateItem", "PutItem", "GetItem", "BatchWriteItem"]


def _delete(deleter: Child, table: str, key: str) -> Fault:
    def fault(_call: Call) -> None:
        _commit(deleter, Order("gone", deletes=[(table, key)]))

    return fault


def _resume(recovery: WriterRecovery, write_id: str) -> Fault:
    def fault(_call: Call) -> None:
        assert recovery.resume(write_id).resumed is Resumed.FINISHED

    return fault
