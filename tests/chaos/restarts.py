"""What runs in children while the engine is killed under them: writers over the same few keys, and monitors."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

from monitor import MonitorSettings, SilentObserver, SweepReport, WriteMonitor
from monitor.auditor import AuditReport, AuditSettings
from monitor.health import Watched
from monitor.pulse import Pulse, stall_seconds
from reliable_write import Outcome, ReliableWriteError, ReliableWriter, ReliableWriteScope
from reliable_write.recovery import Resumed, ResumeReport
from reliable_write.testing.faults import Call, FaultPlan, lose_answer
from tests.chaos.victims import Home

GROUPS: Final = 4
"""Sets of rows that scopes write as a whole, and so must agree."""
THREADS: Final = 2
"""Of each writer."""
LOST_SHARE: Final = 0.12
"""Of commits that get no answer although they are applied: a kill hits that moment too seldom."""
REPEATS_MAX: Final = 3
"""Of a commit whose outcome is unknown."""
PATIENCE: Final = {"attempt_deadline_seconds": 0.5, "read_timeout_seconds": 0.4, "connect_timeout_seconds": 0.2}
AUDIT: Final = AuditSettings(gc=False, early_audit_after_seconds=1.5)
"""Early, but not before attempts begun before a tombstone are out of time. Nothing is collected: dynoxide checks no
signatures."""
MONITOR: Final = {
    "poll_seconds": 0.3,
    # Few at once, or attempts this short would run out of time for each other's sake, and back off.
    "workers": 2,
    "readers": 4,
    # So long that a tombstone is audited before the late put that it must hold back: the audit would mend that.
    "lease_seconds": 2.2,
    "heartbeat_seconds": 0.5,
    "audit_seconds": 0.3,
    "breaker_base_seconds": 0.2,
    "breaker_cap_seconds": 1.0,
    "gc": False,
}


def rows_of(tables: Sequence[str], group: int) -> dict[str, tuple[str, ...]]:
    """The ids of a group in each table; two in the second, where they are written as a batch."""
    one, two, three = tables
    return {one: (f"group-{group}",), two: (f"group-{group}-a", f"group-{group}-b"), three: (f"group-{group}",)}


@dataclass(frozen=True, slots=True)
class Story:
    """One scope, and all its caller was told."""

    mark: str
    """The id of an item that it puts in every table and nobody else touches."""
    group: int
    puts: frozenset[str]
    """The tables in which it puts the group's rows; in the others it deletes them."""
    words: tuple[Outcome, ...]
    """In the order of its commits; the last one holds."""
    write_id: str | None
    superseded: int
    begun: float
    """Monotonic seconds, the same clock for all processes; before the first commit."""
    ended: float


class Voice:
    """Says things over the pipe, from any thread; also a logger, of which only errors are said."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self.events: Counter[str] = Counter()

    def say(self, message: object) -> None:
        with self._lock:
            self._pipe.send(message)

    def __getattr__(self, level: str) -> Callable[..., None]:
        if level not in ("debug", "info", "warning", "error"):
            raise AttributeError(level)

        def tell(event: str, **facts: object) -> None:
            self.events[event] += 1
            if level == "error":
                self.say(Alarm(f"{event} {facts}"))

        return tell


@dataclass(frozen=True, slots=True)
class Alarm:
    """An event that calls for somebody, or a traceback: there is no cause for either here."""

    told: str


# --- writers ------------------------------------------------------------------------------------------------------


class Author:
    """The threads of one writer."""

    def __init__(
        self,
        writer: ReliableWriter,
        tables: list[str],
        name: str,
        voice: Voice,
        *,
        lost_share: float = LOST_SHARE,
        aloud: bool = False,
    ) -> None:
        """`aloud`: each story is told before it begins too, with no words in it yet."""
        self._writer = writer
        self._aloud = aloud
        self._lost_share = lost_share
        self._losing = threading.local()
        FaultPlan(writer.client).on("PutItem", self._lose_answer, "after", having=b'"J#')
        self._tables = tables
        self._name = name
        self._voice = voice
        self._numbers = itertools.count()
        self.stop = threading.Event()

    def write_on(self, thread: int) -> None:
        """Scope after scope, until told to stop."""
        chance = random.Random(f"{self._name} {thread}")
        while not self.stop.is_set():
            self.write_one(chance)

    def write_one(self, chance: random.Random) -> None:
        number = chance.choice([0, 3, chance.randint(1, 2)])
        puts = frozenset(chance.sample(self._tables, number))
        self._losing.now = chance.random() < self._lost_share
        self._tell(chance.randrange(GROUPS), puts, repeat=chance.random() < 0.5)

    def settle(self) -> None:
        """Delete the groups with even numbers, put the others."""
        for group in range(GROUPS):
            self._tell(group, frozenset(self._tables if group % 2 else ()), repeat=True)

    def _tell(self, group: int, puts: frozenset[str], *, repeat: bool) -> None:
        mark = f"{self._name}-{next(self._numbers)}"
        words: list[Outcome] = []
        superseded = 0
        begun = time.monotonic()
        if self._aloud:
            self._voice.say(Story(mark, group, puts, (), None, 0, begun, begun))
        with ReliableWriteScope(self._writer) as scope:
            try:
                self._record(scope, mark, group, puts)
            except ReliableWriteError as error:  # a table could not be described
                words.append(error.outcome)
                scope.discard()
            while not words or (repeat and words[-1] is Outcome.UNKNOWN and len(words) <= REPEATS_MAX):
                try:
                    superseded = len(scope.commit().superseded)
                    words.append(Outcome.WRITTEN)
                except ReliableWriteError as error:
                    words.append(error.outcome)
                self._losing.now = False
        ended = time.monotonic()
        self._voice.say(Story(mark, group, puts, tuple(words), scope.write_id, superseded, begun, ended))

    def _lose_answer(self, call: Call) -> None:
        """In this thread, which is the one that commits."""
        if getattr(self._losing, "now", False):
            lose_answer(call)

    def _record(self, scope: ReliableWriteScope, mark: str, group: int, puts: frozenset[str]) -> None:
        for table, keys in rows_of(self._tables, group).items():
            items = [{"id": key, "value": mark} for key in keys]
            scope.put_item(table, Item={"id": mark})
            if len(keys) > 1 and table in puts:
                scope.put_items(table, items)
            elif len(keys) > 1:
                scope.delete_items(table, [{"id": key} for key in keys])
            elif table in puts:
                scope.put_item(table, Item=items[0])
            else:
                scope.delete_item(table, Key={"id": keys[0]})


IDLE: Final = "idle"


def write(home: Home, tables: list[str], name: str, clock_shift_seconds: float, pipe: Connection) -> None:
    """A writer: at the word `write` it begins, at the next it stops, at the third it settles, at the last it ends.

    Before the first word and after the next two it says `IDLE`, in between its stories.
    """
    voice = Voice(pipe)
    client = home.client()
    with home.writer(client, clock_shift_seconds=clock_shift_seconds, logger=voice, **PATIENCE) as writer:
        author = Author(writer, tables, name, voice)
        author.settle()  # so that all schemas are known before the engine is gone for the first time
        voice.say(IDLE)
        pipe.recv()
        with ThreadPoolExecutor(THREADS) as threads:
            running = [threads.submit(author.write_on, thread) for thread in range(THREADS)]
            pipe.recv()
            author.stop.set()
        for thread in running:
            thread.result()
        voice.say(IDLE)
        pipe.recv()
        author.settle()
        voice.say(IDLE)
        pipe.recv()


# --- monitors -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finished:
    """An entry was finished by this monitor."""

    write_id: str


@dataclass(frozen=True, slots=True)
class Audited:
    """A round of its auditor."""

    report: AuditReport
    began: float
    """Monotonic seconds."""
    ended: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How a monitor stands, when asked."""

    ready: tuple[str, ...]
    """Why `/readyz` would not say yes; empty: it would."""
    failures: int
    pending: int
    quarantined: int
    unreadable: int
    blind_sweeps: int
    """Sweeps that could not read some shard."""
    running: bool
    events: Counter[str]


class Reporter(SilentObserver):
    """Says what a monitor does."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self.blind_sweeps = 0

    def sweep_finished(self, report: SweepReport) -> None:
        self.blind_sweeps += bool(report.unread_shards)

    def attempt_finished(self, report: ResumeReport, seconds: float) -> None:
        del seconds
        if report.resumed is Resumed.FINISHED:
            self._voice.say(Finished(report.write_id))

    def audit_finished(self, report: AuditReport) -> None:
        now = time.monotonic()
        self._voice.say(Audited(report, now - report.seconds, now))


@dataclass(frozen=True, slots=True)
class Manner:
    """How patient writers and monitors are."""

    patience: Mapping[str, float]
    """Settings of the library."""
    monitor: Mapping[str, Any]
    """Settings of the monitor."""
    audit: AuditSettings
    read_timeout: float = 4
    """Seconds, of their clients."""


HASTY: Final = Manner(PATIENCE, MONITOR, AUDIT)


def watch(home: Home, manner: Manner, pipe: Connection) -> None:
    """A monitor. At each word it says how it stands; at the end of the words it drains."""
    voice = Voice(pipe)
    reporter = Reporter(voice)
    threading.excepthook = lambda hook: voice.say(Alarm(f"traceback in {hook.thread}: {hook.exc_value!r}"))
    settings = MonitorSettings(**manner.monitor)
    client = home.client(read_timeout=manner.read_timeout)
    with home.writer(client, logger=voice, **manner.patience) as writer:
        pulse = Pulse(writer.time, stall_seconds(settings, writer.settings))
        monitor = WriteMonitor(writer, settings, observers=[reporter, pulse], audit=manner.audit)
        watched = Watched(pulse)
        watched.runs(monitor)
        thread = threading.Thread(target=monitor.run)
        thread.start()
        while _word(pipe):
            status = monitor.status()
            voice.say(
                Standing(
                    ready=watched.ready().reasons,
                    failures=status.failures_total,
                    pending=status.pending,
                    quarantined=status.quarantined,
                    unreadable=status.unreadable,
                    blind_sweeps=reporter.blind_sweeps,
                    running=thread.is_alive(),
                    events=Counter(voice.events),
                )
            )
        monitor.stop()
        thread.join()


def _word(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except EOFError:
        return None
