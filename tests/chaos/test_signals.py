"""G1 to G6 under signals: writers, monitors and the engine are killed; writers and monitors are also stopped, for so
long that others take over what they are at, and go on with it when they wake.

A kill or a stop counts only where its process was at work: a writer inside of a scope, a monitor that has told of its
work. What happens next is led by what the processes say, not by the clock; only stops last for a time.

Small here; the full size: `RELIABLE_WRITE_SIGNAL_WRITERS=1000 RELIABLE_WRITE_SIGNAL_MONITORS=300
RELIABLE_WRITE_SIGNAL_ENGINES=100 RELIABLE_WRITE_SIGNAL_STOPS=200`, or parts of it with several
`RELIABLE_WRITE_SIGNAL_SEED`s.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.connection import wait
from typing import Any

import pytest

from monitor.auditor import AuditSettings
from reliable_write import Outcome
from reliable_write.system_table import Installation
from reliable_write.testing.engines import Dynoxide, Engine
from tests.chaos import clients, restarts
from tests.chaos.clients import Place, Told
from tests.chaos.hearing import Heard
from tests.chaos.judging import Ledger, audit_once_more, check_deeds, settled_deeds
from tests.chaos.processes import KILLED, PATIENCE_SECONDS, Child, start
from tests.chaos.restarts import IDLE, Manner, Story
from tests.chaos.victims import Home
from tests.conftest import require_engine
from tests.proof.ledger import record
from tests.world import World

WRITERS_KILLED = int(os.environ.get("RELIABLE_WRITE_SIGNAL_WRITERS", "24"))
MONITORS_KILLED = int(os.environ.get("RELIABLE_WRITE_SIGNAL_MONITORS", "6"))
ENGINES_KILLED = int(os.environ.get("RELIABLE_WRITE_SIGNAL_ENGINES", "3"))
STOPS = int(os.environ.get("RELIABLE_WRITE_SIGNAL_STOPS", "5"))
SEED = int(os.environ.get("RELIABLE_WRITE_SIGNAL_SEED", "0"))
SIGNALS = WRITERS_KILLED + MONITORS_KILLED + ENGINES_KILLED + STOPS
WRITERS = 3
MONITORS = 3
STOPPED_MAX = 2
"""At once, so that there are always a writer and a monitor that run."""
WORDS_BETWEEN = (2, 10)
LEASE_SECONDS = 2.5
STOP_SECONDS = 2 * LEASE_SECONDS + 0.2
DARK_SECONDS_MAX = 4.0
QUIET_SECONDS_MAX = PATIENCE_SECONDS + SIGNALS
MANNER = Manner(
    {"attempt_deadline_seconds": 2.0, "read_timeout_seconds": 1.5},
    {
        "poll_seconds": 0.3,
        "workers": 4,
        "readers": 4,
        "lease_seconds": LEASE_SECONDS,
        "heartbeat_seconds": 0.5,
        "audit_seconds": 0.5,
        "breaker_base_seconds": 0.2,
        "breaker_cap_seconds": 1.0,
        "gc": False,
    },
    AuditSettings(gc=False, early_audit_after_seconds=3 * LEASE_SECONDS),
    read_timeout=1.5,
)


@pytest.fixture
def own_engine() -> Iterator[Dynoxide]:
    require_engine("dynoxide")
    with Dynoxide() as engine:
        yield engine


class Crew:
    """Writers and monitors, what they say, and what was done to them."""

    def __init__(self, world: World, cleanup: ExitStack) -> None:
        self.place = Place(
            (world.table("one"), world.table("two"), world.table("three")), world.table("numbers"), world.table("rows")
        )
        self._home = Home(world.engine.endpoint_url, world.system_table)
        self._cleanup = cleanup
        self._chance = random.Random(SEED)
        self._names = itertools.count()
        self._writers: list[Child] = []
        self._monitors: list[Child] = []
        self._stopped: dict[Child, float] = {}
        """Until when."""
        self._at: dict[Child, Story | Told] = {}
        """What each writer is at."""
        self._heard: Counter[Child] = Counter()
        self._idle: set[Child] = set()
        self.heard = Heard()
        self.done: Counter[str] = Counter()
        """Signals that met somebody at work."""
        for _ in range(WRITERS):
            self._add_writer()
        for _ in range(MONITORS):
            self._add_monitor()

    # --- signals --------------------------------------------------------------------------------------------------

    def kill_writer(self) -> None:
        """One inside of a scope; what it was at, nobody will ever be told."""
        while True:
            child = self._someone(self._writers, at_work=lambda one: one in self._at)
            self._kill(child, self._writers)
            self._add_writer()
            cut_off = self._at.pop(child, None)
            if isinstance(cut_off, Story):
                lost = dataclasses.replace(cut_off, words=(Outcome.UNKNOWN,), ended=time.monotonic())
                self.heard.stories.append(lost)
            elif cut_off is not None:
                self.heard.told.append(dataclasses.replace(cut_off, words=(Outcome.UNKNOWN,)))
            if cut_off is not None:
                self.done["kills: committer"] += 1
                return
            # It ended its scope after we looked and before the signal came: another one.

    def kill_monitor(self) -> None:
        child = self._someone(self._monitors, at_work=lambda one: bool(self._heard[one]))
        self._kill(child, self._monitors)
        self._add_monitor()
        self.done["kills: monitor"] += 1

    def kill_engine(self, engine: Dynoxide) -> None:
        """Dark until a writer has told of it. Nobody is asked to begin in the dark: schemas are known to all."""
        self.listen_for(lambda: all(self._heard[child] > 4 for child in self._writers))
        words = [outcome for outcome in self.heard.words() if outcome is not Outcome.WRITTEN]
        engine.kill()
        until = time.monotonic() + DARK_SECONDS_MAX
        while time.monotonic() < until and [o for o in self.heard.words() if o is not Outcome.WRITTEN] == words:
            self._hear_some()
        engine.restart()
        self.done["kills: engine"] += 1

    def stop(self) -> None:
        """A writer inside of a scope or a monitor, for more than two leases; the others go on."""
        self.listen_for(lambda: len(self._stopped) < STOPPED_MAX)
        writer = self._chance.random() < 0.6
        child = (
            self._someone(self._writers, at_work=lambda one: one in self._at)
            if writer
            else self._someone(self._monitors, at_work=lambda one: bool(self._heard[one]))
        )
        self._signal(child, signal.SIGSTOP)
        self._stopped[child] = time.monotonic() + STOP_SECONDS
        self.done["stops: over two leases"] += 1
        self.done["stops: of committers" if writer else "stops: of monitors"] += 1

    def wake_all(self) -> None:
        self.listen_for(lambda: not self._stopped)

    def end_writers(self) -> None:
        for child in self._writers:
            child.pipe.send("stop")
        self.listen_for(lambda: set(self._writers) <= self._idle)
        assert [child.ended() for child in self._writers] == [0] * WRITERS
        self._writers.clear()

    def all_live(self) -> bool:
        return all(child.process.is_alive() for child in (*self._writers, *self._monitors))

    # --- words ----------------------------------------------------------------------------------------------------

    def listen(self, words: int) -> None:
        """To so many words of writers."""
        wanted = len(self.heard.stories) + len(self.heard.told) + words
        self.listen_for(lambda: len(self.heard.stories) + len(self.heard.told) >= wanted)

    def listen_for(self, what: Callable[[], bool]) -> None:
        """Until it holds."""
        until = time.monotonic() + QUIET_SECONDS_MAX
        while not what():
            assert time.monotonic() < until, "never came about"
            self._hear_some()

    def _someone(self, children: list[Child], at_work: Callable[[Child], bool]) -> Child:
        def ready() -> list[Child]:
            return [child for child in children if child not in self._stopped and at_work(child)]

        self.listen_for(lambda: bool(ready()))
        return self._chance.choice(ready())

    def _hear_some(self) -> None:
        """Every death is of our doing: whose pipe ends otherwise ends the test."""
        speakers = {child.pipe: child for child in (*self._writers, *self._monitors) if child not in self._idle}
        for pipe in wait(list(speakers), 0.05):
            child = speakers[pipe]  # type: ignore[index]  # they are the connections we gave
            try:
                message = child.pipe.recv()
            except EOFError:
                pytest.fail(f"{child.process.name} ended by itself, with {child.ended()}: see its last words")
            self._hear(child, message)
        for child in [one for one, until in self._stopped.items() if until < time.monotonic()]:
            del self._stopped[child]
            self._signal(child, signal.SIGCONT)

    def _hear(self, child: Child, message: object) -> None:
        """Its first word on a scope says that it is inside of one, the next that it has come out."""
        self._heard[child] += 1
        if isinstance(message, Story | Told) and not message.words:
            self._at[child] = message
        elif self.heard.note(message):
            self._at.pop(child, None)
        else:
            assert message == IDLE
            self._idle.add(child)

    # --- processes ------------------------------------------------------------------------------------------------

    def _add_writer(self) -> None:
        name = f"writer-{SEED}-{next(self._names)}"
        self._writers.append(self._begin(clients.write_until_stopped, self._home, self.place, name, MANNER))

    def _add_monitor(self) -> None:
        self._monitors.append(self._begin(restarts.watch, self._home, MANNER))

    def _begin(self, target: Callable[..., None], *arguments: Any) -> Child:
        child = start(target, *arguments)
        self._cleanup.callback(child.close)
        return child

    def _kill(self, child: Child, among: list[Child]) -> None:
        assert child.process.is_alive(), "it died of something else"
        child.process.kill()
        assert child.ended() == KILLED
        among.remove(child)
        try:
            while child.pipe.poll():
                self._hear(child, child.pipe.recv())
        except EOFError:
            return

    @staticmethod
    def _signal(child: Child, number: signal.Signals) -> None:
        assert child.process.pid is not None
        assert child.process.is_alive(), "it died of something else"
        os.kill(child.process.pid, number)


@pytest.mark.slow
@pytest.mark.timeout(300 + 10 * SIGNALS)
def test_all_promises_hold_under_signals(own_engine: Dynoxide, unique_name: Callable[[str], str]) -> None:
    counts = _storm(own_engine, unique_name, engine_kills=ENGINES_KILLED)
    _check_it_was_a_storm(counts, engine_kills=ENGINES_KILLED)
    record("signals", counts, seeds=(SEED, SEED + 1))


@pytest.mark.slow
@pytest.mark.timeout(300 + 10 * SIGNALS)
def test_all_promises_hold_under_signals_on_an_engine_that_others_use(
    dynamodb_local: Engine, unique_name: Callable[[str], str]
) -> None:
    counts = _storm(dynamodb_local, unique_name, engine_kills=0)
    _check_it_was_a_storm(counts, engine_kills=0)
    record("signals, DynamoDB Local", counts, seeds=(SEED, SEED + 1))


def _storm(engine: Engine, unique_name: Callable[[str], str], *, engine_kills: int) -> dict[str, int]:
    """Signals, then peace, then the judge; what there was of everything."""
    world = World(engine, unique_name, Installation(shards=4))
    with ExitStack() as cleanup:
        cleanup.callback(world.close)
        crew = Crew(world, cleanup)
        _signal_on(crew, [lambda: crew.kill_engine(_own(engine))] * engine_kills)
        crew.wake_all()
        crew.end_writers()
        crew.listen_for(lambda: not world.records("J#"))
        assert crew.all_live()
        heard = crew.heard
        heard.ghosts_removed += audit_once_more(world)
        unknown = [told for told in heard.told if told.words[-1] is Outcome.UNKNOWN]
        heard.told += settled_deeds(world, crew.place, heard.told)
        ledger = Ledger(world, list(crew.place.copies), heard.stories)
        ledger.check()
        check_deeds(world, crew.place, heard.told)
    assert heard.alarms == []
    outcomes = Counter(heard.words())
    counts = {
        **crew.done,
        "calls": len(heard.stories) + len(heard.told),
        **{f"outcomes: {outcome}": outcomes[outcome] for outcome in Outcome},
        "scopes settled by their key": len(unknown),
        "scopes cut off that show": sum(ledger.shows(one) and one.write_id is None for one in heard.stories),
        "replays": len(heard.finished),
        "ghosts removed": heard.ghosts_removed,
        "violations": 0,
    }
    print(counts)
    return counts


def _own(engine: Engine) -> Dynoxide:
    assert isinstance(engine, Dynoxide), "whose engine it is not, does not kill it"
    return engine


def _signal_on(crew: Crew, engine_kills: list[Callable[[], None]]) -> None:
    """All of them, in an order drawn by chance, each some words after the one before."""
    chance = random.Random(SEED)
    signals: list[Callable[[], None]] = [crew.kill_writer] * WRITERS_KILLED + [crew.kill_monitor] * MONITORS_KILLED
    signals += engine_kills + [crew.stop] * STOPS
    chance.shuffle(signals)
    for act in signals:
        crew.listen(chance.randint(*WORDS_BETWEEN))
        act()


def _check_it_was_a_storm(counts: dict[str, int], *, engine_kills: int) -> None:
    """A run in which nothing happened has shown nothing."""
    assert counts["kills: committer"] == WRITERS_KILLED
    assert counts["kills: monitor"] == MONITORS_KILLED
    assert counts.get("kills: engine", 0) == engine_kills
    assert counts["stops: over two leases"] == STOPS
    for what in ("outcomes: WRITTEN", "outcomes: UNKNOWN", "scopes settled by their key", "replays"):
        assert counts[what] > 0, counts
