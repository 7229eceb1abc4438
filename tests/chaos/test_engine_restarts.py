"""G1 to G4 and G6 while the engine is killed again and again under writers and monitors: nothing is lost, what callers
were told holds, one winner stands on all copies, and the monitors finish what is open by themselves.

Small here; the full size: `RELIABLE_WRITE_ENGINE_RESTARTS=20`.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.connection import wait
from typing import Any

import pytest

from reliable_write import Outcome
from reliable_write.system_table import Installation
from reliable_write.testing.engines import Dynoxide
from tests.chaos import restarts
from tests.chaos.judging import Ledger
from tests.chaos.processes import PATIENCE_SECONDS, Child, start
from tests.chaos.restarts import AUDIT, GROUPS, HASTY, IDLE, Alarm, Audited, Finished, Standing, Story
from tests.chaos.victims import Home
from tests.conftest import require_engine
from tests.world import World

RESTARTS = int(os.environ.get("RELIABLE_WRITE_ENGINE_RESTARTS", "3"))
RESTARTS_MAX = RESTARTS + 9
"""They go on until callers were told everything there is to be told."""
SEED = int(os.environ.get("RELIABLE_WRITE_CHAOS_SEED", "20251122"))
QUIET_SECONDS_MAX = PATIENCE_SECONDS + 10 * RESTARTS
"""What was tried under many kills has a long back-off by the end."""
WRITERS = 3
MONITORS = 2
DARK_SECONDS = 0.7
"""Longer than a commit is patient."""
HOUR_SECONDS = 3600.0
COMMITS_MIN = 10 * RESTARTS


@pytest.fixture
def own_engine() -> Iterator[Dynoxide]:
    require_engine("dynoxide")
    with Dynoxide() as engine:
        yield engine


class Scene:
    """The children, and all they say."""

    def __init__(self, world: World, tables: list[str], cleanup: ExitStack) -> None:
        self._home = Home(world.engine.endpoint_url, world.system_table)
        self._tables = tables
        self._cleanup = cleanup
        self._writers: list[Child] = []
        self._monitors: list[Child] = []
        self._idle: set[Child] = set()
        self.stories: list[Story] = []
        self.words: Counter[Outcome] = Counter()
        self.finished: list[str] = []
        """Write ids that monitors finished."""
        self.audits: defaultdict[Child, list[Audited]] = defaultdict(list)
        self.ghosts_removed = 0
        self.alarms: list[str] = []
        self.standings: dict[Child, Standing] = {}
        self.monitors_killed = 0

    def raise_curtain(self) -> None:
        """One writer's clock is an hour slow: order leans on no clock."""
        for number in range(WRITERS):
            shift = -HOUR_SECONDS if number == 0 else 0.0
            self._writers.append(self._begin(restarts.write, self._home, self._tables, f"writer-{number}", shift))
        for _ in range(MONITORS):
            self._add_monitor()
        self._all_idle()
        self._tell_writers("write")

    def replace_monitor(self) -> None:
        """Kill the youngest."""
        child = self._monitors.pop()
        child.kill()
        self._hear_out(child)
        self.monitors_killed += 1
        self._add_monitor()

    def stop_writers(self) -> None:
        """What they were at is told; they write no more."""
        self._tell_writers("stop")
        self._all_idle()

    def settle(self) -> None:
        """The writers' last scopes: half of the groups deleted, half of them put."""
        self._tell_writers("settle")
        self._all_idle()

    def listen(self, seconds: float) -> None:
        """Everything that is said in this time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._hear_some(left)

    def listen_for(self, what: Callable[[], bool]) -> None:
        """Until it holds."""
        until = time.monotonic() + QUIET_SECONDS_MAX
        while not what():
            assert time.monotonic() < until, f"never came about: {what}"
            self._hear_some(0.1)

    def ask_monitors(self) -> list[Standing]:
        self.standings.clear()
        for child in self._monitors:
            child.pipe.send("how do you stand?")
        self.listen_for(lambda: set(self._monitors) <= self.standings.keys())
        return [self.standings[child] for child in self._monitors]

    def was_audited_since(self, quiet_at: float) -> bool:
        """Some monitor has looked at every tombstone there was when it had become quiet."""
        return any(_audited_since(self.audits[child], quiet_at) for child in self._monitors)

    def _add_monitor(self) -> None:
        self._monitors.append(self._begin(restarts.watch, self._home, HASTY))

    def _begin(self, target: Callable[..., None], *arguments: Any) -> Child:
        child = start(target, *arguments)
        self._cleanup.callback(child.close)
        return child

    def _tell_writers(self, word: str) -> None:
        self._idle.clear()
        for child in self._writers:
            child.pipe.send(word)

    def _all_idle(self) -> None:
        self.listen_for(lambda: set(self._writers) <= self._idle)

    def _hear_some(self, seconds_max: float) -> None:
        speakers = {child.pipe: child for child in (*self._writers, *self._monitors)}
        for pipe in wait(list(speakers), seconds_max):
            child = speakers[pipe]  # type: ignore[index]  # they are the connections we gave
            self._hear(child, child.pipe.recv())

    def _hear_out(self, child: Child) -> None:
        try:
            while child.pipe.poll():
                self._hear(child, child.pipe.recv())
        except EOFError:
            return

    def _hear(self, child: Child, message: object) -> None:
        if isinstance(message, Story):
            self.stories.append(message)
            self.words.update(message.words)
        elif isinstance(message, Finished):
            self.finished.append(message.write_id)
        elif isinstance(message, Audited):
            self.audits[child].append(message)
            self.ghosts_removed += message.report.ghosts_removed
        elif isinstance(message, Alarm):
            self.alarms.append(message.told)
        elif isinstance(message, Standing):
            self.standings[child] = message
        else:
            assert message == IDLE
            self._idle.add(child)


def _audited_since(audits: list[Audited], quiet_at: float) -> bool:
    """A whole pass saw all tombstones, and another one, when the last of them was due, had no trouble with any."""
    seen = [audit.ended for audit in audits if audit.report.complete and audit.began > quiet_at]
    due_at = min(seen, default=float("inf")) + AUDIT.early_audit_after_seconds
    return any(
        audit.began > due_at and audit.report.complete and not audit.report.troubles + audit.report.skipped
        for audit in audits
    )


@pytest.mark.slow
def test_nothing_is_lost_and_copies_agree_when_the_engine_is_restarted_under_load(
    own_engine: Dynoxide, unique_name: Callable[[str], str]
) -> None:
    """One monitor lives through all of it; the other one is killed too, in every second round, and replaced."""
    world = World(own_engine, unique_name, Installation(shards=4))
    tables = [world.table("one"), world.table("two"), world.table("three")]
    with ExitStack() as cleanup:
        cleanup.callback(world.close)
        scene = Scene(world, tables, cleanup)
        scene.raise_curtain()
        kills = _restart_under(scene, own_engine)
        begun = time.monotonic()
        scene.listen_for(lambda: not world.records("J#"))
        quiet_at = time.monotonic()
        scene.listen_for(lambda: scene.was_audited_since(quiet_at))
        scene.listen_for(lambda: not any(standing.pending for standing in scene.ask_monitors()))
        standings = scene.ask_monitors()
        ledger = Ledger(world, tables, scene.stories)
    words = ", ".join(f"{word} {scene.words[word]}" for word in Outcome)
    print(
        f"{kills} kills of the engine, {scene.monitors_killed} of monitors; {len(scene.stories)} scopes were told "
        f"{words}; {len(ledger.shown(Outcome.UNKNOWN))} unknown ones show; monitors finished {len(scene.finished)} "
        f"and removed {scene.ghosts_removed} ghosts; empty {quiet_at - begun:.1f} s after the last restart"
    )
    ledger.check()
    _check_monitors(scene, standings)
    _check_it_was_a_storm(scene, ledger, kills)


def _restart_under(scene: Scene, engine: Dynoxide) -> int:
    """Kill and restart it, often enough; how often. While it is dark for the last time the writers stop, so that what
    they leave is open when, after it, half of the groups are deleted and the others put.
    """
    chance = random.Random(SEED)
    for kills in itertools.count(1):
        scene.listen(chance.uniform(0.3, 0.7))
        engine.kill()
        if kills % 2:  # the new one begins in the dark
            scene.replace_monitor()
        scene.listen(DARK_SECONDS)
        if (kills >= RESTARTS and all(scene.words[word] for word in Outcome)) or kills >= RESTARTS_MAX:
            break
        engine.restart()
        scene.listen(0.2)
    scene.stop_writers()
    engine.restart()
    scene.settle()
    return kills


def _check_monitors(scene: Scene, standings: list[Standing]) -> None:
    assert scene.alarms == []
    for standing in standings:
        assert standing.running
        assert standing.ready == ()
        assert (standing.failures, standing.quarantined, standing.unreadable) == (0, 0, 0)


def _check_it_was_a_storm(scene: Scene, ledger: Ledger, kills: int) -> None:
    """A run in which nothing happened has shown nothing."""
    assert kills >= RESTARTS
    assert scene.monitors_killed == (kills + 1) // 2
    assert scene.words[Outcome.WRITTEN] > COMMITS_MIN, scene.words
    assert all(scene.words[word] for word in Outcome), scene.words
    assert ledger.shown(Outcome.UNKNOWN), "committed, and nobody was told"
    left_open = ledger.shown(Outcome.WILL_BE_WRITTEN, Outcome.UNKNOWN)
    assert left_open & set(scene.finished), "monitors finished what callers had to leave"
    assert any(story.superseded for story in scene.stories), "scopes met each other"
    assert ledger.deleted_groups() == GROUPS // 2, "deletes won, and puts"
    assert sum(standing.blind_sweeps for standing in scene.standings.values()) > 0
