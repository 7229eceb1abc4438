"""One lock, many processes, killed and stopped: what is written under it is written by one holder after the other.

Every section reads a counter, and writes it raised, with a row of a ledger, in one guarded scope. A section that was
let through while somebody else held the lock would lose a count, or let tokens go backwards in the order of commits.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any

import pytest
from structlog.testing import CapturingLogger

from reliable_write.testing.engines import Dynoxide
from tests.chaos.lockers import (
    COUNTER,
    HEARTBEAT_SECONDS,
    KEY,
    LEASE_SECONDS,
    READ_TIMEOUT_SECONDS,
    Site,
    hold,
    owner_of,
    work,
)
from tests.chaos.processes import PATIENCE_SECONDS, Child, start
from tests.chaos.victims import Home
from tests.conftest import require_engine
from tests.world import World

PROCESSES = 8
SECTIONS = int(os.environ.get("RELIABLE_WRITE_LOCK_SECTIONS", "12"))
"""Of each process."""
DEATHS = int(os.environ.get("RELIABLE_WRITE_LOCK_DEATHS", "4"))
"""Holders killed to see how soon they are succeeded."""
STOP_EACH = max(10, SECTIONS // 25)
"""Each process stops itself before the commit of one section in so many."""
STRIKE_SECONDS = 2.0
"""Between two strikes from outside, on average."""
BEYOND_SECONDS = LEASE_SECONDS + 1.0
"""How long a stopped process sleeps: somebody has taken over by then."""
SEED = int(os.environ.get("RELIABLE_WRITE_CHAOS_SEED", "20251125"))
PATIENCE = pytest.mark.timeout(300 + 4 * SECTIONS)


@dataclass
class Crew:
    """Processes at work, and somebody who strikes them."""

    world: World
    site: Site
    cleanup: ExitStack
    chance: random.Random = field(default_factory=lambda: random.Random(SEED))
    left: dict[Child, int] = field(default_factory=dict)
    asleep: dict[int, float] = field(default_factory=dict)
    """When each stopped process is to be woken."""
    said: Counter[str] = field(default_factory=Counter)
    tokens: list[int] = field(default_factory=list)
    done_of: Counter[Child] = field(default_factory=Counter)

    def hire(self, sections: int) -> None:
        child = start(work, self.site, sections, STOP_EACH)
        self.cleanup.callback(child.close)
        self.left[child] = sections
        child.receive()
        child.pipe.send("go")

    def run(self) -> None:
        """Until all sections are done."""
        strike_at = time.monotonic() + 1.0
        while self.left:
            self.hear(0.05)
            self.wake()
            if time.monotonic() >= strike_at and self.left:
                self.strike()
                strike_at = time.monotonic() + self.chance.uniform(0.5, 1.5) * STRIKE_SECONDS

    def hear(self, seconds: float) -> None:
        by_pipe = {child.pipe: child for child in self.left}
        for pipe in wait(list(by_pipe), seconds):
            child = by_pipe[pipe]  # type: ignore[index]  # wait() gives back what it was given
            with contextlib.suppress(EOFError):
                while child.pipe.poll():
                    self.note(child, *child.pipe.recv())

    def note(self, child: Child, said: str, token: int) -> None:
        self.said[said] += 1
        if said == "done":
            self.left[child] -= 1
            self.tokens.append(token)
        elif said == "stopping":
            self.asleep[self.pid(child)] = time.monotonic() + BEYOND_SECONDS
        elif said == "finished":
            del self.left[child]

    def wake(self) -> None:
        for pid, at in list(self.asleep.items()):
            if time.monotonic() >= at:
                del self.asleep[pid]
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def strike(self) -> None:
        """The holder, or anybody; with a kill, or with a sleep beyond its lease."""
        awake = [child for child in self.left if self.pid(child) not in self.asleep]
        if not awake:
            return
        holder = self.holder()
        held = [child for child in awake if owner_of(self.pid(child)) == holder]
        victim = held[0] if held and self.chance.random() < 0.7 else self.chance.choice(awake)
        if self.chance.random() < 0.5:
            self.kill(victim)
        else:
            self.said["stops"] += 1
            os.kill(self.pid(victim), signal.SIGSTOP)
            self.asleep[self.pid(victim)] = time.monotonic() + BEYOND_SECONDS

    def kill(self, victim: Child) -> None:
        victim.kill()
        self.said["kills"] += 1
        with contextlib.suppress(EOFError):
            while victim.pipe.poll():
                self.note(victim, *victim.pipe.recv())
        sections = self.left.pop(victim, 0)
        if sections:
            self.hire(sections)

    def holder(self) -> str | None:
        item = self.world.item(self.site.locks, id={"S": KEY}) or {}
        return item["lock_owner"]["S"] if "lock_owner" in item else None

    @staticmethod
    def pid(child: Child) -> int:
        assert child.process.pid is not None
        return child.process.pid


@pytest.fixture
def crew() -> Iterator[Crew]:
    """On an engine of its own: others would wait for it."""
    require_engine("dynoxide")
    names = iter(f"locks-{number}" for number in range(100))
    with ExitStack() as cleanup:
        engine = cleanup.enter_context(Dynoxide())
        world = World(engine, lambda stem: f"{stem}-{next(names)}")
        cleanup.callback(world.close)
        home = Home(engine.endpoint_url, world.system_table)
        site = Site(home, world.table("locks"), world.table("counters"), world.table("ledger"))
        world.client.put_item(TableName=site.counters, Item={"id": {"S": COUNTER}, "count": {"N": "0"}})
        yield Crew(world, site, cleanup)


@PATIENCE
def test_killed_and_stopped_holders_never_write_beside_their_successors(crew: Crew) -> None:
    begun = time.monotonic()
    for _ in range(PROCESSES):
        crew.hire(SECTIONS)
    crew.run()
    seconds = time.monotonic() - begun
    rows = sorted(crew.world.items(crew.site.ledger), key=lambda row: str(row["_rw"]["S"]))
    takeovers = takeovers_in(rows)
    stops = crew.said["stops"] + crew.said["stopping"]
    print(
        f"{len(rows)} guarded commits by {PROCESSES} processes in {seconds:.1f} s, {crew.said['done']} acknowledged; "
        f"{crew.said['kills']} kills, {stops} stops beyond the lease ({crew.said['stopping']} of them right before a "
        f"commit); at least {takeovers} takeovers; zombies refused: {crew.said['refused by the store']} by the store, "
        f"{crew.said['known to be lost']} by their own clock; {crew.said['lost at the end']} lost after their commit, "
        f"{crew.said['no answer']} sections without an answer"
    )
    item = crew.world.item(crew.site.counters, id={"S": COUNTER})
    assert item is not None
    assert int(item["count"]["N"]) == len(rows), "a count was lost"
    assert [int(row["count"]["N"]) for row in rows] == list(range(1, len(rows) + 1)), "in the order of commits"
    tokens = [int(row["token"]["N"]) for row in rows]
    assert tokens == sorted(set(tokens)), "each guarded commit has a token of its own, and they only grow"
    acknowledged = crew.said["done"] + crew.said["lost at the end"]
    assert set(crew.tokens) <= set(tokens), "what was acknowledged is there"
    assert crew.said["done"] == PROCESSES * SECTIONS
    assert acknowledged <= len(rows) <= acknowledged + crew.said["kills"], "the killed ones may have been in a commit"
    assert crew.said["kills"] > 0
    assert stops > 0
    assert takeovers > 0
    assert crew.said["refused by the store"] > 0, "no zombie came as far as the store: nothing was tested"


def takeovers_in(rows: list[dict[str, Any]]) -> int:
    """Tokens that were given out and under which nothing was committed: their holders died, or were refused."""
    tokens = [int(row["token"]["N"]) for row in rows]
    return tokens[-1] - tokens[0] + 1 - len(tokens)


# --- succession ---------------------------------------------------------------------------------------------------


@PATIENCE
def test_a_killed_holder_is_succeeded_after_a_whole_lease_and_not_much_later(crew: Crew) -> None:
    """A whole lease by the waiter's own clock; what it is on the wall after the kill is printed, for a busy machine's
    sake.
    """
    measured = []
    for number in range(DEATHS):
        lease_seconds = 1.5 + 0.5 * (number % 2)
        child = start(hold, crew.site, lease_seconds)
        crew.cleanup.callback(child.close)
        first = child.receive()
        log = CapturingLogger()
        writer = crew.site.home.writer(crew.site.client(), read_timeout_seconds=READ_TIMEOUT_SECONDS, logger=log)
        lock = crew.site.lock(writer)
        assert lock.try_acquire(timeout=crew.chance.uniform(0.0, 2 * HEARTBEAT_SECONDS)) is None
        child.kill()
        killed_at = time.monotonic()
        lease = lock.acquire(timeout=PATIENCE_SECONDS)
        measured.append(time.monotonic() - killed_at - lease_seconds)
        assert lease.token == first + 1
        (told,) = [call.kwargs for call in log.calls if call.args == ("lock_taken_over",)]
        assert told["unchanged_seconds"] >= lease_seconds
        lease.release()
        writer.close()
    print(f"{DEATHS} killed holders succeeded; seconds after a lease: " + ", ".join(f"{one:+.2f}" for one in measured))
    assert max(measured) < 10
