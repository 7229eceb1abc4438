"""G1 to G6 on a bad wire: every request of writers and monitors goes through a proxy that loses, doubles and delays.

What comes late comes up to 8 s late, so after its sender's attempt (2 s) and after the lease of the entry it belongs to
(3 s): the monitors have finished such an entry by then, and somebody may have deleted its keys. Emulators take requests
of any age, so nothing is collected here (`gc` is off): the waits of collection, which lean on AWS refusing old
signatures, are no part of this test. All tombstones are audited once more when everything has arrived.

Small here; the full size: `RELIABLE_WRITE_WIRE_CALLS=100000`, or less with several `RELIABLE_WRITE_WIRE_SEED`s.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import wait
from typing import Any, Final

import pytest

from monitor.auditor import AuditSettings
from reliable_write import AtomicCounter, Outcome
from reliable_write.system_table import Installation
from reliable_write.testing.engines import Engine
from tests.chaos import clients, restarts, wire
from tests.chaos.clients import TALLY, Counted, Place
from tests.chaos.hearing import Heard
from tests.chaos.judging import Ledger, audit_once_more, check_deeds, settled_deeds
from tests.chaos.processes import PATIENCE_SECONDS, Child, start
from tests.chaos.restarts import IDLE, Manner
from tests.chaos.victims import Home
from tests.chaos.wire import FAULTS, Fault, Gusts, Weather
from tests.proof.ledger import record
from tests.world import World

CALLS = int(os.environ.get("RELIABLE_WRITE_WIRE_CALLS", "1500"))
SEED = int(os.environ.get("RELIABLE_WRITE_WIRE_SEED", "0"))
WRITERS = 3
MONITORS = 2
RATES: Final[dict[Fault, float]] = {
    "dropped request": 0.02,
    "dropped answer": 0.065,
    "silence": 0.013,
    "half an answer": 0.015,
    "server error": 0.02,
    "duplicate": 0.02,
    "delay": 0.03,
    "late": 0.035,
}
GUST_EVERY_CALLS = 350
GUST_SECONDS = (2.5, 7.0)
"""Longer than an attempt is patient, and some of them longer than a lease: then the first replay fails too."""
FAULTS_MIN = CALLS // 300
"""Of each kind."""
LATE_SECONDS_MAX = 8.0
QUIET_SECONDS_MAX = PATIENCE_SECONDS + CALLS / 100
"""What was tried on a bad wire for long has a long back-off by the end."""
FULL = 10_000
"""From this size on some step of the counter is left unknown."""
CALLS_MAX = CALLS + 3000
STORM_SECONDS_MAX = PATIENCE_SECONDS + CALLS_MAX / 10
MANNER = Manner(
    {"attempt_deadline_seconds": 2.0, "read_timeout_seconds": 1.0},
    {
        "poll_seconds": 0.5,
        "workers": 4,
        "readers": 4,
        "lease_seconds": 3.0,
        "heartbeat_seconds": 1.0,
        "audit_seconds": 1.0,
        "breaker_base_seconds": 0.2,
        "breaker_cap_seconds": 1.0,
        "gc": False,
    },
    AuditSettings(gc=False, early_audit_after_seconds=LATE_SECONDS_MAX + 1),
    read_timeout=1.0,
)


class Scene:
    """The proxy, the children behind it, and all they say."""

    def __init__(self, world: World, cleanup: ExitStack) -> None:
        self.world = world
        self.place = Place(
            (world.table("one"), world.table("two"), world.table("three")), world.table("numbers"), world.table("rows")
        )
        self._cleanup = cleanup
        self._proxy = self._begin(wire.run, world.engine.endpoint_url, SEED)
        home = Home(self._proxy.receive(), world.system_table)
        names = [f"writer-{SEED}-{number}" for number in range(WRITERS)]
        self._writers = [self._begin(clients.write, home, self.place, name, MANNER) for name in names]
        self._monitors = [self._begin(restarts.watch, home, MANNER) for _ in range(MONITORS)]
        self._idle: set[Child] = set()
        self.heard = Heard()
        self.counted: list[Counted] = []

    def log(self, weather: Weather | None = None) -> wire.Log:
        """What the proxy did until now; from now on it does this."""
        self._proxy.pipe.send(weather)
        log = self._proxy.receive()
        assert isinstance(log, wire.Log)
        return log

    def tell_writers(self, word: str) -> None:
        self._idle.clear()
        for child in self._writers:
            child.pipe.send(word)

    def all_idle(self) -> None:
        self.listen_for(lambda: set(self._writers) <= self._idle)

    def listen_for(self, what: Callable[[], bool], seconds_max: float = QUIET_SECONDS_MAX) -> None:
        """Until it holds."""
        until = time.monotonic() + seconds_max
        while not what():
            assert time.monotonic() < until, f"never came about: {what}"
            speakers = {child.pipe: child for child in (*self._writers, *self._monitors)}
            for pipe in wait(list(speakers), 0.1):
                child = speakers[pipe]  # type: ignore[index]  # they are the connections we gave
                self._hear(child, child.pipe.recv())

    def has_seen_enough(self, calls: int) -> bool:
        """All that a test of this must have seen; it goes on for a while where something has not happened yet."""
        return calls >= CALLS and (self.saw_everything() or calls >= CALLS_MAX)

    def saw_everything(self) -> bool:
        told = self.heard.told
        keyed = any(one.duplicate for one in told) and any(one.refused for one in told)
        return set(self.heard.words()) == set(Outcome) and keyed and bool(self.heard.finished)

    def _begin(self, target: Callable[..., None], *arguments: Any) -> Child:
        child = start(target, *arguments)
        self._cleanup.callback(child.close)
        return child

    def _hear(self, child: Child, message: object) -> None:
        if isinstance(message, Counted):
            self.counted.append(message)
        elif not self.heard.note(message):
            assert message == IDLE
            self._idle.add(child)


@pytest.mark.slow
@pytest.mark.timeout(300 + CALLS // 20)
@pytest.mark.parametrize("engine_name", ["dynoxide", "dynamodb_local"])
def test_all_promises_hold_on_a_bad_wire(
    engine_name: str, request: pytest.FixtureRequest, unique_name: Callable[[str], str]
) -> None:
    engine: Engine = request.getfixturevalue(engine_name)
    world = World(engine, unique_name, Installation(shards=4))
    with ExitStack() as cleanup:
        cleanup.callback(world.close)
        scene = Scene(world, cleanup)
        calls = _storm(scene)
        ghosts = _heal(scene)
        scene.heard.told += settled_deeds(world, scene.place, scene.heard.told)
        ledger = Ledger(world, list(scene.place.copies), scene.heard.stories)
        ledger.check()
        check_deeds(world, scene.place, scene.heard.told)
        _check_counter(scene)
        counts = _counts(scene, calls, ledger, ghosts)
        print(counts)
        assert scene.heard.alarms == []
        _check_it_was_a_storm(counts)
    number = 2 * SEED + (engine_name != "dynoxide")
    record("wire", counts, seeds=(number, number + 1))


def _storm(scene: Scene) -> int:
    """Bad weather for so many calls; how many there were, what writers did until they heard of its end among them."""
    scene.all_idle()
    often = [scene.world.system_table, scene.place.numbers]
    gusts = Gusts((*often, *often, *scene.place.all), GUST_EVERY_CALLS, GUST_SECONDS)
    before = scene.log(Weather(RATES, gusts=gusts)).calls.total()
    scene.tell_writers("write")
    scene.listen_for(lambda: scene.has_seen_enough(scene.log().calls.total() - before), STORM_SECONDS_MAX)
    scene.tell_writers("stop")
    scene.all_idle()
    return scene.log(Weather()).calls.total() - before


def _heal(scene: Scene) -> int:
    """Until nothing is under way or open any more; how many ghosts the last audit removed.

    Half of the groups are deleted, and the others put, while requests of before still arrive.
    """
    scene.tell_writers("settle")
    scene.all_idle()
    scene.listen_for(lambda: scene.log().pending == 0)
    scene.listen_for(lambda: not scene.world.records("J#"))
    return audit_once_more(scene.world)


def _check_counter(scene: Scene) -> None:
    """Each step counted once, and each value told once."""
    values = sorted(counted.value for counted in scene.counted)
    assert values == list(range(1, len(values) + 1))
    with AtomicCounter(scene.world.writer(), scene.place.numbers, TALLY) as counter:
        assert counter.get() == len(values)


def _counts(scene: Scene, calls: int, ledger: Ledger, ghosts: int) -> dict[str, int]:
    log = scene.log()
    outcomes = Counter(scene.heard.words())
    left = ledger.shown(Outcome.WILL_BE_WRITTEN, Outcome.UNKNOWN)
    return {
        "calls": calls,
        **{f"faults: {fault}": log.of(fault) for fault in FAULTS},
        "late ones landed": log.landed,
        "gusts": log.gusts,
        **{f"outcomes: {outcome}": outcomes[outcome] for outcome in Outcome},
        "scopes": len(scene.heard.stories) + len(scene.heard.told),
        "steps of a counter": len(scene.counted),
        "steps of a counter that were settled": sum(counted.settled for counted in scene.counted),
        "conditions found false": sum(told.refused for told in scene.heard.told),
        "duplicates of a key": sum(told.duplicate for told in scene.heard.told),
        "replays": len(scene.heard.finished),
        "replays of what callers had to leave": len(left & set(scene.heard.finished)),
        "ghosts removed": scene.heard.ghosts_removed + ghosts,
        "violations": 0,
    }


def _check_it_was_a_storm(counts: dict[str, int]) -> None:
    """A run in which nothing happened has shown nothing."""
    assert counts["calls"] >= CALLS
    for fault in FAULTS:
        assert counts[f"faults: {fault}"] > FAULTS_MIN, counts
    assert counts["late ones landed"] >= 0.9 * counts["faults: late"], "an engine drops a connection now and then"
    for outcome in Outcome:
        assert counts[f"outcomes: {outcome}"] > 0, counts
    for what in (
        *("steps of a counter", "conditions found false", "duplicates of a key", "replays"),
        *(["steps of a counter that were settled"] if CALLS >= FULL else []),
    ):
        assert counts[what] > 0, counts
