"""G1 and G6 under power cuts: writers killed at random beside racing recoverers, and an engine killed under load."""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from reliable_write import (
    Outcome,
    ReliableWriteError,
    ReliableWriter,
    ReliableWriteScope,
)
from reliable_write.recovery import Resumed
from reliable_write.system_table import Installation
from reliable_write.testing.engines import Dynoxide, Engine
from tests.chaos.processes import Child, start
from tests.chaos.storm import recover_on, write_on
from tests.chaos.victims import Home
from tests.conftest import require_engine
from tests.world import World

KILLS = int(os.environ.get("RELIABLE_WRITE_STORM_KILLS", "40"))
POWER_CUTS = int(os.environ.get("RELIABLE_WRITE_STORM_POWER_CUTS", "3"))
SEED = int(os.environ.get("RELIABLE_WRITE_CHAOS_SEED", "20251122"))
POWER_CUTS_MAX = POWER_CUTS + 9
WRITERS = 3
THREADS = 6


@pytest.fixture
def small_world(dynoxide: Engine, unique_name: Callable[[str], str]) -> Iterator[World]:
    """Few shards, so that recoverers come round often."""
    world = World(dynoxide, unique_name, Installation(shards=4))
    yield world
    world.close()


# --- processes killed ---------------------------------------------------------------------------------------------


class Storm:
    """Living writers, and all that any writer ever said."""

    def __init__(self, home: Home, tables: list[str], cleanup: ExitStack) -> None:
        self._home = home
        self._tables = tables
        self._cleanup = cleanup
        self._names = itertools.count()
        self._living: list[Child] = []
        self.begun: set[str] = set()
        self.done: set[str] = set()

    def fill_up(self) -> None:
        while len(self._living) < WRITERS:
            child = start(write_on, self._home, self._tables, f"writer-{next(self._names)}")
            self._cleanup.callback(child.close)
            self._living.append(child)

    def kill_one(self, chance: random.Random) -> None:
        """A random one at a random moment, once it has begun."""
        child = self._living.pop(chance.randrange(len(self._living)))
        self._hear(child.receive())
        self._listen(child, until=time.monotonic() + chance.uniform(0, 0.1))
        child.kill()
        self._listen(child)

    def kill_all(self, chance: random.Random) -> None:
        while self._living:
            self.kill_one(chance)

    def _listen(self, child: Child, until: float = 0.0) -> None:
        """All it says until then; without an end: all it had said before it died."""
        while True:
            wait = max(0.0, until - time.monotonic())
            if not child.pipe.poll(wait if until else None):
                return
            try:
                self._hear(child.pipe.recv())
            except EOFError:
                return

    def _hear(self, message: tuple[str, str]) -> None:
        word, mark = message
        (self.begun if word == "begin" else self.done).add(mark)


def test_g1_nothing_is_left_half_by_writers_killed_at_random_beside_racing_recoverers(small_world: World) -> None:
    world = small_world
    tables = [world.table("one"), world.table("two"), world.table("three")]
    home = Home(world.engine.endpoint_url, world.system_table)
    chance = random.Random(SEED)
    with ExitStack() as cleanup:
        recoverers = [start(recover_on, home) for _ in range(2)]
        for recoverer in recoverers:
            cleanup.callback(recoverer.close)
        storm = Storm(home, tables, cleanup)
        for _ in range(KILLS):
            storm.fill_up()
            storm.kill_one(chance)
        storm.kill_all(chance)
        resumed = Counter[str]()
        for recoverer in recoverers:
            recoverer.pipe.send("stop")
            resumed += recoverer.receive()
    world.writer().recovery.resume_all()
    assert world.records("J#") == []
    _check_all_or_nothing(world, tables, storm)
    # The storm was one: writes cut off, entries recovered, and claims lost to the other recoverer or to the writer.
    assert storm.begun - storm.done
    assert storm.done
    assert resumed[Resumed.FINISHED] > 0, resumed
    assert resumed[Resumed.TOO_LATE] > 0, resumed
    assert not resumed[Resumed.QUARANTINED] + resumed[Resumed.UNREADABLE], resumed


def _check_all_or_nothing(world: World, tables: list[str], storm: Storm) -> None:
    """Every mark ever told is in all tables or in none, the acknowledged in all; the hot copies agree on the last."""
    stamps: defaultdict[str, list[str]] = defaultdict(list)
    hot = []
    for table in tables:
        for item in world.items(table):
            if item["id"]["S"] == "hot":
                hot.append((item["value"]["S"], item["_rw"]["S"]))
            else:
                stamps[item["id"]["S"]].append(item["_rw"]["S"])
    assert set(stamps) <= storm.begun
    for mark, found in stamps.items():
        assert len(found) == len(tables), mark
        assert len(set(found)) == 1, mark
    assert storm.done <= set(stamps)
    last = max(stamps, key=lambda mark: stamps[mark][0])
    assert hot == [(last, stamps[last][0])] * len(tables)


# --- the engine killed --------------------------------------------------------------------------------------------


class Ledger:
    """What each caller was told."""

    def __init__(self, tables: list[str]) -> None:
        self._tables = tables
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self.told: dict[str, Outcome] = {}
        """The last word on each mark."""
        self.counts = Counter[Outcome]()
        """Every word, so that of a write committed twice both."""
        self.stop = threading.Event()

    def saw_every_outcome(self) -> bool:
        with self._lock:
            return all(self.counts[outcome] for outcome in Outcome)

    def write_on(self, writer: ReliableWriter) -> None:
        while not self.stop.is_set():
            self._write(writer, f"mark-{next(self._numbers)}")

    def _write(self, writer: ReliableWriter, mark: str) -> None:
        with ReliableWriteScope(writer) as scope:
            try:
                for table in self._tables:
                    scope.put_item(table, Item={"id": mark})
            except ReliableWriteError as error:  # the table could not be described
                self._note(mark, error.outcome)
                scope.discard()
                return
            if self._commit(scope, mark) is Outcome.UNKNOWN:
                self._commit(scope, mark)

    def _commit(self, scope: ReliableWriteScope, mark: str) -> Outcome:
        outcome = Outcome.WRITTEN
        try:
            scope.commit()
        except ReliableWriteError as error:
            outcome = error.outcome
        self._note(mark, outcome)
        return outcome

    def _note(self, mark: str, outcome: Outcome) -> None:
        with self._lock:
            self.told[mark] = outcome
            self.counts[outcome] += 1


def test_g6_what_callers_are_told_holds_when_the_engine_is_killed_under_them(
    unique_name: Callable[[str], str],
) -> None:
    """Its own engine: SIGKILL in the middle of commits, dark for longer than a commit is patient, then back; again
    until callers were cut off before, in and after the commit point.
    """
    require_engine("dynoxide")
    with Dynoxide() as engine:
        world = World(engine, unique_name)
        tables = [world.table("one"), world.table("two"), world.table("three")]
        ledger = Ledger(tables)
        with world.writer(
            attempt_deadline_seconds=0.6, read_timeout_seconds=0.4, connect_timeout_seconds=0.2
        ) as writer:
            _cut_the_power_under(ledger, writer, engine)
        reports = world.writer().recovery.resume_all()
        assert {report.resumed for report in reports} <= {Resumed.FINISHED}
        assert world.records("J#") == []
        _check_honest(ledger.told, [{item["id"]["S"] for item in world.items(table)} for table in tables])
        world.close()
    assert ledger.counts[Outcome.WRITTEN] > 100, ledger.counts
    assert ledger.saw_every_outcome(), ledger.counts


def _cut_the_power_under(ledger: Ledger, writer: ReliableWriter, engine: Dynoxide) -> None:
    chance = random.Random(SEED)
    with ThreadPoolExecutor(THREADS) as threads:
        running = [threads.submit(ledger.write_on, writer) for _ in range(THREADS)]
        try:
            for cut in itertools.count(1):
                _pause(chance.uniform(0.4, 0.8))
                engine.kill()
                _pause(0.8)
                engine.restart()
                _pause(0.3)
                if (cut >= POWER_CUTS and ledger.saw_every_outcome()) or cut >= POWER_CUTS_MAX:
                    break
        finally:
            ledger.stop.set()
    for thread in running:
        thread.result()


def _check_honest(told: dict[str, Outcome], found: list[set[str]]) -> None:
    for mark, outcome in told.items():
        copies = sum(mark in marks for marks in found)
        if outcome is Outcome.NOT_WRITTEN:
            assert copies == 0, mark
        elif outcome is Outcome.UNKNOWN:
            assert copies in (0, len(found)), mark
        else:
            assert copies == len(found), (mark, outcome)


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)
