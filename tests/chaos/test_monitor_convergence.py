"""G2 and G3 where a monitor is the one who finishes: commits that stall go on beside it or die, puts and deletes of the
same keys in the mix, and one winner stands on all copies.
"""

from __future__ import annotations

import dataclasses
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import wait

import pytest

from monitor.auditor import Auditor, AuditSettings
from reliable_write import Receipt, limits
from reliable_write.system_table import Installation
from reliable_write.testing.engines import Engine
from tests.chaos.arena import Arena
from tests.chaos.contenders import STALLED, Order, Stall
from tests.chaos.processes import PATIENCE_SECONDS, Child
from tests.chaos.stragglers import LEASE, Bench
from tests.world import World

ROUNDS = int(os.environ.get("RELIABLE_WRITE_CONVERGENCE_ROUNDS", "200")) // 6
SEED = int(os.environ.get("RELIABLE_WRITE_CHAOS_SEED", "20251122"))
CALLS_OF_A_COMMIT = 8
"""Witness, commit point, four puts (of the mark too) and the deletion of the entry; one more for each delete."""
COMMIT_POINT = 2
KEYS = 3


@pytest.fixture
def arena(dynoxide: Engine, unique_name: Callable[[str], str]) -> Iterator[Arena]:
    """One shard, so that the monitor comes round often."""
    with ExitStack() as cleanup:
        world = World(dynoxide, unique_name, Installation(shards=1))
        cleanup.callback(world.close)
        yield Arena(world, cleanup)


@dataclass(frozen=True, slots=True)
class Committed:
    """A scope that has a place in the order."""

    stamp: str
    order: Order


class Duel:
    """Two writers over the same copies, and the monitor that comes in between and after them."""

    def __init__(self, arena: Arena, chance: random.Random) -> None:
        self._arena = arena
        self._chance = chance
        self._bench = Bench(arena.world)
        self._auditor = Auditor(self._bench.writer.engine(), AuditSettings(gc=False))
        self._both = [self._ready(), self._ready()]
        self.seen: Counter[str] = Counter()

    def fight(self, orders: list[Order]) -> None:
        """Both commit; who stalls goes on, or dies, when nobody else moves, perhaps after the monitor came by.

        A second one that never stalls begins when the first one stands still, and so comes later in order.
        """
        stalled: list[int] = []
        done: set[int] = set()
        for at, order in enumerate(orders):
            self._both[at].pipe.send(order)
            if orders[-1].stall is None:
                self._hear([at], stalled, done)
        while len(done) < len(self._both):
            moving = [at for at in range(len(self._both)) if at not in done and at not in stalled]
            if moving:
                self._hear(moving, stalled, done)
            else:
                self._move(stalled.pop(self._chance.randrange(len(stalled))), done)

    def sweep(self) -> int:
        """The monitor sees what stands there, and a lease later finishes it; how many it finished."""
        before = self._bench.monitor.status().recovered_total
        self._bench.sweep_after(0)
        self._bench.sweep_after(LEASE)
        return self._bench.monitor.status().recovered_total - before

    def audit(self) -> None:
        """Every tombstone is seen, and then audited: late puts that come after it have to hold themselves back."""
        for _ in range(2):
            report = self._auditor.run_once()
            assert report.complete
            assert report.troubles == 0
            self.seen["ghosts"] += report.ghosts_removed
            self._bench.time.skip(limits.EARLY_AUDIT_SECONDS)

    def _move(self, at: int, done: set[int]) -> None:
        if self._chance.random() < 0.5:
            if self._chance.random() < 0.7:
                self.seen["finished under a living writer"] += self.sweep()
            self._both[at].pipe.send("go on")
            assert isinstance(self._both[at].receive(), Receipt)
        else:
            self._both[at].kill()
            self._both[at] = self._ready()
            self.seen["killed"] += 1
        done.add(at)

    def _hear(self, moving: list[int], stalled: list[int], done: set[int]) -> None:
        pipes = {self._both[at].pipe: at for at in moving}
        ready = wait(list(pipes), PATIENCE_SECONDS)
        assert ready, "both hang"
        for pipe in ready:
            at = pipes[pipe]  # type: ignore[index]  # they are the connections we gave
            if self._both[at].receive() == STALLED:
                stalled.append(at)
                self.seen["stalls"] += 1
            else:
                done.add(at)

    def _ready(self) -> Child:
        """One whose later commits make the same calls: it knows the schemas."""
        child = self._arena.contender()
        child.pipe.send(Order("warm", puts=self._arena.rows("warm")))
        child.receive()
        return child


def test_g2_g3_one_winner_stands_on_all_copies_when_a_monitor_finishes_what_stalls_or_dies(arena: Arena) -> None:
    chance = random.Random(SEED)
    duel = Duel(arena, chance)
    winners: dict[str, Committed] = {}
    for number in range(ROUNDS):
        key = f"thing-{chance.randrange(KEYS)}"
        orders = [_order(arena, chance, key, f"{number} by {name}") for name in "AB"]
        if chance.random() < 0.6:
            orders[1] = dataclasses.replace(orders[1], stall=None)
        duel.fight(orders)
        duel.audit()
        duel.seen["finished after a death"] += duel.sweep()
        assert arena.world.records("J#") == []
        committed = [one for one in (_committed(arena, order) for order in orders) if one]
        candidates = [*committed, *filter(None, [winners.get(key)])]
        if candidates:
            winners[key] = max(candidates, key=lambda one: one.stamp)
            _check_shows(arena, key, winners[key])
            duel.seen[_way(winners[key].order)] += 1
    print(f"{ROUNDS} rounds: {dict(duel.seen)}")
    ways = ("stalls", "killed", "finished under a living writer", "finished after a death", "put", "delete", "both")
    assert all(duel.seen[way] for way in ways), duel.seen


def _order(arena: Arena, chance: random.Random, key: str, value: str) -> Order:
    """Each copy put or deleted; and a mark of its own, which tells whether it was committed, and its stamp."""
    put = frozenset(chance.sample(arena.tables, chance.choice([0, 1, 2, 3, 3])))
    rows = arena.rows(key)
    puts = [row for row in rows if row[0] in put]
    deletes = [row for row in rows if row[0] not in put]
    # Half of them right after the commit point, where most is left to do.
    number = chance.choice([COMMIT_POINT, chance.randint(1, CALLS_OF_A_COMMIT)])
    stall = Stall(number, chance.choice(("before", "after", "after")))
    return Order(value, puts=[*puts, (arena.tables[0], value)], deletes=deletes, stall=stall)


def _committed(arena: Arena, order: Order) -> Committed | None:
    mark = arena.world.item(arena.tables[0], id={"S": order.value})
    return Committed(mark["_rw"]["S"], order) if mark else None


def _check_shows(arena: Arena, key: str, winner: Committed) -> None:
    wanted = [
        {"id": key, "value": winner.order.value, "_rw": winner.stamp} if (table, key) in winner.order.puts else {}
        for table in arena.tables
    ]
    assert arena.copies(key) == wanted


def _way(order: Order) -> str:
    if not order.deletes:
        return "put"
    return "both" if len(order.puts) > 1 else "delete"
