"""Writers on a bad wire, one process each: copies of the same things, sums under keys, switches, and a counter.

What a keyed scope does follows from its mark alone, so that several processes commit one key with the same bytes.
Imported by them and by the tests, so it holds no test.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final, Literal

from boto3.dynamodb.conditions import Attr

from reliable_write import (
    AtomicCounter,
    CommitFailedError,
    ConditionFailedError,
    CounterUnknownError,
    Outcome,
    ReliableWriteError,
    ReliableWriter,
    ReliableWriteScope,
)
from tests.chaos.restarts import IDLE, Author, Manner, Voice
from tests.chaos.victims import Home

SUMS: Final = tuple(f"sum-{number}" for number in range(5))
SWITCHES: Final = tuple(f"switch-{number}" for number in range(2))
SHARED_SHARE: Final = 0.3
"""Of keyed scopes, those that other processes commit as well."""
REPEATS_MAX: Final = 40
"""Of what is unknown: the wire is not that bad for that long."""
TALLY: Final = "tally"

Kind = Literal["add", "switch"]


@dataclass(frozen=True, slots=True)
class Place:
    """The tables, each by what it is for."""

    copies: tuple[str, ...]
    numbers: str
    rows: str

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.copies, self.numbers, self.rows)


@dataclass(frozen=True, slots=True)
class Deed:
    """One scope that acts at its commit point, and puts a row under its mark."""

    mark: str
    kind: Kind
    on: tuple[str, ...]
    lit: bool = False
    """What a switch is put to, which it must not be yet."""

    @property
    def key(self) -> str | None:
        return self.mark if self.kind == "add" else None

    def record(self, scope: ReliableWriteScope, place: Place) -> None:
        for name in self.on:
            if self.kind == "add":
                scope.update_item(place.numbers, Key={"id": name}, add={"n": 1})
            else:
                other = Attr("lit").eq(not self.lit)
                condition = other | Attr("lit").not_exists() if self.lit else other
                scope.put_item(place.numbers, {"id": name, "lit": self.lit}, ConditionExpression=condition)
        scope.put_item(place.rows, Item={"id": self.mark, "on": list(self.on), "kind": self.kind, "lit": self.lit})


@dataclass(frozen=True, slots=True)
class Told:
    """A deed, and all its caller was told."""

    deed: Deed
    words: tuple[Outcome, ...]
    stamp: str = ""
    refused: bool = False
    """By its own condition."""
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Counted:
    """A step of the counter, and the value it was told."""

    value: int
    settled: bool
    """Nobody knew, at first."""


def added(mark: str) -> Deed:
    """The sums that are raised under this key."""
    chance = random.Random(mark)
    return Deed(mark, "add", tuple(chance.sample(SUMS, chance.randint(1, 3))))


def commit(writer: ReliableWriter, place: Place, deed: Deed) -> Told:
    """Commit it, and again for as long as nobody knows."""
    words: list[Outcome] = []
    with ReliableWriteScope(writer, idempotency_key=deed.key) as scope:
        try:
            deed.record(scope, place)
        except ReliableWriteError as error:  # a table could not be described
            scope.discard()
            return Told(deed, (error.outcome,))
        while len(words) < REPEATS_MAX:
            try:
                receipt = scope.commit()
            except ReliableWriteError as error:
                words.append(error.outcome)
                if error.outcome is not Outcome.UNKNOWN:
                    return Told(deed, tuple(words), refused=isinstance(error, ConditionFailedError))
            else:
                words.append(Outcome.WRITTEN)
                return Told(deed, tuple(words), receipt.stamp, duplicate=receipt.duplicate)
    return Told(deed, tuple(words))


class Client:
    """What one process does besides its `Author`, from two threads."""

    def __init__(self, writer: ReliableWriter, place: Place, name: str, voice: Voice) -> None:
        self._writer = writer
        self._place = place
        self._name = name
        self._voice = voice
        self._chance = random.Random(name)
        self._numbers, self._shared = itertools.count(), itertools.count()
        self.stop = threading.Event()

    def warm_up(self) -> None:
        """What is asked for once is asked for now."""
        self._voice.say(commit(self._writer, self._place, added(f"{self._name}-first")))

    def work(self) -> None:
        with AtomicCounter(self._writer, self._place.numbers, TALLY) as counter:
            while not self.stop.is_set():
                self._voice.say(commit(self._writer, self._place, self._deed()))
                self._voice.say(_counted(counter))

    def _deed(self) -> Deed:
        if self._chance.random() < SHARED_SHARE:
            return added(f"shared-{next(self._shared)}")
        mark = f"{self._name}-{next(self._numbers)}"
        if self._chance.random() < 0.5:
            return added(mark)
        return Deed(mark, "switch", (self._chance.choice(SWITCHES),), lit=self._chance.random() < 0.5)


def _counted(counter: AtomicCounter) -> Counted:
    """One step, whatever it takes: what is certainly not counted is counted again, what nobody knows is settled."""
    settled = False
    step: Callable[[], int | None] = counter.add
    while True:
        try:
            value = step()
        except CommitFailedError:
            step = counter.add
        except CounterUnknownError as unknown:
            if unknown.settle is None:
                raise
            step, settled = unknown.settle, True
        else:
            if value is not None:
                return Counted(value, settled)
            step = counter.add


def write(home: Home, place: Place, name: str, manner: Manner, pipe: Connection) -> None:
    """A writer: at the word `write` it begins, at the next it stops, at the third it settles, at the last it ends.

    Before the first word and after the next two it says `IDLE`, in between all it is told.
    """
    voice = Voice(pipe)
    client = home.client(read_timeout=manner.read_timeout)
    with home.writer(client, logger=voice, **manner.patience) as writer:
        author = Author(writer, list(place.copies), name, voice, lost_share=0)
        others = Client(writer, place, name, voice)
        author.settle()
        others.warm_up()
        voice.say(IDLE)
        pipe.recv()
        with ThreadPoolExecutor(3) as threads:
            running = [threads.submit(author.write_on, 0), threads.submit(others.work), threads.submit(others.work)]
            pipe.recv()
            author.stop.set()
            others.stop.set()
        for thread in running:
            thread.result()
        voice.say(IDLE)
        pipe.recv()
        author.settle()
        voice.say(IDLE)
        pipe.recv()


def write_until_stopped(home: Home, place: Place, name: str, manner: Manner, pipe: Connection) -> None:
    """A writer that tells everything before it begins as well as after, for it may be killed at any moment.

    At a word it ends what it is at, and then itself.
    """
    voice, chance = Voice(pipe), random.Random(name)
    client = home.client(read_timeout=manner.read_timeout)
    with home.writer(client, logger=voice, **manner.patience) as writer:
        author = Author(writer, list(place.copies), name, voice, lost_share=0, aloud=True)
        for number in itertools.count():
            if pipe.poll():
                break
            author.write_one(chance)
            deed = added(f"{name}-{number}-sums")
            voice.say(Told(deed, ()))
            voice.say(commit(writer, place, deed))
    voice.say(IDLE)
