"""Monitors in processes of their own: what a killed writer left is finished in time, and killed monitors lose nothing.

Small here; the full sizes: `RELIABLE_WRITE_KILLED_WRITERS=100`, `RELIABLE_WRITE_STRAGGLERS=2000`.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import wait
from typing import Any

import pytest

from reliable_write import ReliableWriteScope
from reliable_write.entry import Entry
from reliable_write.recovery import Resumed
from tests.chaos.monitors import SWEPT, commit_and_wait, monitor
from tests.chaos.processes import Child, start
from tests.chaos.stragglers import Left, ids
from tests.chaos.victims import Home
from tests.world import World

WRITERS = int(os.environ.get("RELIABLE_WRITE_KILLED_WRITERS", "4"))
STRAGGLERS = int(os.environ.get("RELIABLE_WRITE_STRAGGLERS", "240"))
PROMISE_SECONDS = 20.0
SHARE_MIN = 0.15
FULL = STRAGGLERS >= 2000
"""A small backlog is gone within seconds, and then the one kill decides who had how much of it."""
KILL_SECONDS = 5.0
"""Each monitor lives for three of these, so longer than a lease."""
PATIENCE_SECONDS = 240.0
LOOK_SECONDS = 1.0
"""How long a wait for the next word lasts at most, before deadlines are looked at."""


@contextmanager
def running(child: Child) -> Iterator[Child]:
    try:
        yield child
    finally:
        child.close()


class Daemon:
    """`python -m monitor` with its default settings, but for the port, which another may have; and what it logs."""

    def __init__(self, world: World) -> None:
        environment = {**os.environ, **world.environment(), "RELIABLE_WRITE_MONITOR_HTTP_PORT": "0"}
        command = [sys.executable, "-m", "monitor"]
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line)

    def next_event(self, seconds: float) -> str | None:
        """What it says next, if it says anything so soon."""
        try:
            told: dict[str, Any] = json.loads(self._lines.get(timeout=max(0.001, seconds)))
        except queue.Empty:
            return None
        return str(told["event"])

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE_SECONDS)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.mark.slow
def test_a_killed_writers_entry_is_finished_within_twenty_seconds_with_default_settings(wide_world: World) -> None:
    """The writers are killed at different moments of the monitor's rhythm, and the waits overlap."""
    tables = [wide_world.table("one"), wide_world.table("two")]
    home = Home(wide_world.engine.endpoint_url, wide_world.system_table)
    killed_at: dict[str, float] = {}
    finished_at: dict[str, float] = {}
    with ExitStack() as stack:
        daemon = Daemon(wide_world)
        stack.callback(daemon.close)
        while daemon.next_event(PATIENCE_SECONDS) != "monitor_started":
            assert daemon.process.poll() is None
        writers = [stack.enter_context(running(_writer(home, tables, number))) for number in range(WRITERS)]
        for number, writer in enumerate(writers):
            assert writer.receive() == "ready"
            writer.pipe.send("commit")
            assert writer.receive() == f"mark-{number}"
            writer.kill()
            killed_at[f"mark-{number}"] = killed = time.monotonic()
            while (left := killed + 8.0 / WRITERS - time.monotonic()) > 0:
                if daemon.next_event(left) == "entry_recovered":
                    _note_finished(wide_world, tables, finished_at, killed_at)
        while len(finished_at) < WRITERS:
            if daemon.next_event(LOOK_SECONDS) == "entry_recovered":
                _note_finished(wide_world, tables, finished_at, killed_at)
            assert time.monotonic() - max(killed_at.values()) < PATIENCE_SECONDS
        assert daemon.process.poll() is None
    waits = sorted(finished_at[mark] - killed_at[mark] for mark in killed_at)
    print(f"{WRITERS} killed writers, finished after {waits[0]:.1f} to {waits[-1]:.1f} s")
    assert waits[0] > 5.0, "a lease was waited for, or these were not stragglers"
    assert waits[-1] <= PROMISE_SECONDS
    assert wide_world.records("J#") == []


def _writer(home: Home, tables: list[str], number: int) -> Child:
    return start(commit_and_wait, home, tables, [f"mark-{number}"])


def _note_finished(world: World, tables: list[str], finished_at: dict[str, float], killed_at: dict[str, float]) -> None:
    """Whole, in all tables, and never half for longer than a look."""
    whole = set.intersection(*(ids(world.items(table)) for table in tables))
    for mark in whole & killed_at.keys():
        finished_at.setdefault(mark, time.monotonic())


@pytest.mark.slow
def test_three_monitors_share_a_backlog_while_one_after_the_other_is_killed(wide_world: World) -> None:
    """All is finished, a newer write stays on top, and no monitor that lived had less than its share to do."""
    table, second = wide_world.table("one"), wide_world.table("two")
    left = Left(wide_world)
    home = Home(wide_world.engine.endpoint_url, wide_world.system_table)
    settings = {"poll_seconds": 1.0, "heartbeat_seconds": 1.0, "workers": 2, "audit": False}
    work: Counter[int] = Counter()
    resumed: Counter[str] = Counter()
    finished: Counter[str] = Counter()
    kills = 0
    with ExitStack() as stack:
        children = [stack.enter_context(running(start(monitor, home, settings))) for _ in range(3)]
        for child in children:
            assert child.receive() == (SWEPT, "", 0.0)
        entries = left.puts(STRAGGLERS, table, second)
        left.leave(*entries)
        newer = _overwrite_some(wide_world, table, STRAGGLERS)
        begun = next_kill = time.monotonic()
        started_at = None
        while len(finished) < STRAGGLERS:
            for slot, child in enumerate(children):
                for told, write_id, _ in _said(child):
                    started_at = started_at or time.monotonic()
                    resumed[told] += 1
                    if told == Resumed.FINISHED:
                        finished[write_id] += 1
                        work[slot] += 1
            if started_at is not None and time.monotonic() > next_kill and len(finished) < STRAGGLERS:
                slot = kills % 3
                children[slot].kill()
                finished.update(w for told, w, _ in _said(children[slot]) if told == Resumed.FINISHED)
                children[slot] = stack.enter_context(running(start(monitor, home, settings)))
                kills += 1
                next_kill = time.monotonic() + KILL_SECONDS
            if not wide_world.records("J#"):
                break
            assert time.monotonic() - begun < PATIENCE_SECONDS
            wait([child.pipe for child in children], LOOK_SECONDS)
        for slot, child in enumerate(children):
            finished_now = [w for told, w, _ in _said(child) if told == Resumed.FINISHED]
            finished.update(finished_now)
            work[slot] += len(finished_now)
    shares = {slot: work[slot] / max(1, work.total()) for slot in range(3)}
    print(f"{STRAGGLERS} stragglers, {kills} kills, {time.monotonic() - begun:.1f} s, {shares}, {dict(resumed)}")
    assert kills > 0
    assert wide_world.records("J#") == []
    _check_whole(wide_world, table, second, entries, newer)
    assert set(finished.values()) <= {1}, "finished once each"
    assert sum(share > 0 for share in shares.values()) >= 2
    if FULL:
        assert min(shares.values()) >= SHARE_MIN


def _check_whole(world: World, table: str, second: str, entries: list[Entry], newer: set[str]) -> None:
    wanted = {f"good-{number}" for number in range(len(entries))}
    assert ids(world.items(table)) == ids(world.items(second)) == wanted
    stamps = {entry.stamp for entry in entries}
    assert {item["_rw"]["S"] for item in world.items(second)} == stamps
    assert all(item["value"] == {"S": "newer"} for item in world.items(table) if item["id"]["S"] in newer)


def _overwrite_some(world: World, table: str, count: int) -> set[str]:
    writer = world.writer()
    newer = {f"good-{number}" for number in range(0, count, 10)}
    for key in newer:
        with ReliableWriteScope(writer) as scope:
            scope.put_item(table, Item={"id": key, "value": "newer"})
            scope.commit()
    return newer


def _said(child: Child) -> Iterator[tuple[Any, ...]]:
    """All there is by now about entries."""
    try:
        while child.pipe.poll():
            told = child.pipe.recv()
            if told[0] != SWEPT:
                yield told
    except EOFError:
        return
