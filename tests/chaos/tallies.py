"""Processes that raise one counter while requests and answers are lost, held up, sent twice and refused.

Imported by them and by the tests, so it holds no test.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from reliable_write import AtomicCounter, CommitFailedError, CounterOutOfSyncError, CounterUnknownError, limits
from reliable_write import Counter as CounterHandle
from reliable_write.testing.faults import (
    Call,
    Fault,
    FaultPlan,
    InFlight,
    When,
    conflict,
    kill,
    lose_answer,
    server_error,
    throttle,
)
from tests.chaos.victims import Home, session

NAME = "tally"
FAULTS: tuple[str, ...] = (
    *("request lost", "answer lost", "held", "sent twice", "throttled", "conflict", "server error"),
)
PROGRESS_EVERY = 500
DEADLINE_SECONDS = 0.7
"""Of one step: short, so that a blackout ends with `CounterUnknownError` soon."""


@dataclass(slots=True)
class Report:
    """What one process did; several add up."""

    acknowledged: int = 0
    values: int = 0
    """Sum of all new values, and of their squares: both are right only if each value was told once."""
    squares: int = 0
    faults: Counter[str] = field(default_factory=Counter)

    def count(self, value: int) -> None:
        self.acknowledged += 1
        self.values += value
        self.squares += value * value

    def __add__(self, other: Report) -> Report:
        return Report(
            self.acknowledged + other.acknowledged,
            self.values + other.values,
            self.squares + other.squares,
            self.faults + other.faults,
        )


class Weather:
    """What goes wrong in one process, by chance, at updates of one table."""

    def __init__(self, chance: random.Random, report: Report) -> None:
        self.chance = chance
        self._seen = report.faults
        self._late = InFlight()
        self.dark = False
        """Nothing is answered: every request is lost, or is under way for long."""
        self._faults: dict[str, tuple[float, Fault]] = {
            "request lost": (0.01, lose_answer),
            "answer lost": (0.02, self._applied_and_lost),
            "held": (0.01, self._late),
            "sent twice": (0.01, self._twice),
            "throttled": (0.005, throttle),
            "conflict": (0.005, conflict),
            "server error": (0.005, server_error),
        }

    def __call__(self, call: Call) -> Any:
        if self.dark:
            return self._run(self.chance.choice(("request lost", "held")), call)
        drawn = self.chance.random()
        for name, (share, _) in self._faults.items():
            if drawn < share:
                return self._run(name, call)
            drawn -= share
        return None

    def clear_up(self, *, at_last: bool = False) -> None:
        """What was held arrives, sooner or later."""
        self.dark = False
        if self._late.calls and (at_last or self.chance.random() < 0.2):
            self._seen["landed late"] += len(self._late.land())

    def _run(self, name: str, call: Call) -> Any:
        self._seen[name] += 1
        return self._faults[name][1](call)

    def _twice(self, call: Call) -> None:
        """It is on its way, and a copy of it is too, for longer."""
        self._late.calls.append(call)

    def _applied_and_lost(self, call: Call) -> None:
        """In one hook, so that the SDK's own retries see a lost answer just as ours do."""
        now = InFlight()
        now.calls.append(call)
        now.land()
        lose_answer(call)


class Courier:
    """Sends progress now and then."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def tell(self, done: int, plan: FaultPlan) -> None:
        if done % PROGRESS_EVERY == 0:
            plan.calls.clear()  # the long run would keep them all
            self._pipe.send(PROGRESS_EVERY)


# --- the atomic counter -------------------------------------------------------------------------------------------


def count_atomically(home: Home, table: str, increments: int, seed: int, pipe: Connection) -> None:
    """So many increments, each settled before the next, on a handle that is changed now and then."""
    # In this process, so that slots are collected at all; not those of one that waits for a core on a busy machine.
    limits.COUNTER_SLOT_SECONDS = 30.0  # type: ignore[misc]
    limits.COUNTER_LOOK_SECONDS = 1.0  # type: ignore[misc]
    report, chance = Report(), random.Random(seed)
    weather, client, courier = Weather(chance, report), home.client(), Courier(pipe)
    writer = home.writer(client, attempt_deadline_seconds=DEADLINE_SECONDS, read_timeout_seconds=DEADLINE_SECONDS)
    counter = AtomicCounter(writer, table, NAME)
    with FaultPlan(client) as plan:
        plan.on("UpdateItem", weather)
        for done in range(1, increments + 1):
            weather.dark = chance.random() < 0.0005
            report.faults["blackout"] += weather.dark
            report.count(add_surely(counter, weather, report))
            courier.tell(done, plan)
            if chance.random() < 0.004:
                report.faults["handle changed"] += 1
                if chance.random() < 0.5:
                    counter.close()
                counter = AtomicCounter(writer, table, NAME)
    weather.clear_up(at_last=True)
    writer.close()
    pipe.send(report)


def add_surely(counter: AtomicCounter, weather: Weather, report: Report) -> int:
    """One increment, whatever it takes: what is certainly not counted is added again, what is unknown is settled."""
    while True:
        try:
            return counter.add()
        except CommitFailedError:
            report.faults["not written"] += 1
        except CounterUnknownError as unknown:
            report.faults["unknown"] += 1
            weather.clear_up()
            value = settled(unknown, weather, report)
            if value is not None:
                return value
        finally:
            weather.clear_up()


def settled(unknown: CounterUnknownError, weather: Weather, report: Report) -> int | None:
    while True:
        weather.clear_up()
        assert unknown.settle is not None, unknown
        try:
            value = unknown.settle()
        except CounterUnknownError as again:
            unknown = again
        else:
            report.faults["settled: counted" if value is not None else "settled: not counted"] += 1
            return value


# --- the tutorial's ADD -------------------------------------------------------------------------------------------


def count_plainly(home: Home, table: str, increments: int, seed: int, pipe: Connection) -> None:
    """The same by `ADD` and boto3's own retries; acknowledged is what boto3 said was done."""
    report, chance = Report(), random.Random(seed)
    weather, courier = Weather(chance, report), Courier(pipe)
    client = session().client(
        "dynamodb", endpoint_url=home.endpoint_url, config=Config(connect_timeout=1, read_timeout=4)
    )
    with FaultPlan(client) as plan:
        plan.on("UpdateItem", weather)
        for done in range(1, increments + 1):
            try:
                answer = client.update_item(
                    TableName=table,
                    Key={"id": {"S": NAME}},
                    UpdateExpression="ADD #v :n",
                    ExpressionAttributeNames={"#v": "value"},
                    ExpressionAttributeValues={":n": {"N": "1"}},
                    ReturnValues="UPDATED_NEW",
                )
            except (ClientError, BotoCoreError):
                report.faults["given up"] += 1
            else:
                report.count(int(answer["Attributes"]["value"]["N"]))
            weather.clear_up()
            courier.tell(done, plan)
    weather.clear_up(at_last=True)
    pipe.send(report)


# --- the handle ---------------------------------------------------------------------------------------------------


def step_on_counter(home: Home, table: str, steps: int, seed: int, pipe: Connection) -> None:
    """So many tries of `c += 1` on one counter with others; each failure must show the true value."""
    report, chance = Report(), random.Random(seed)
    weather, client = Weather(chance, report), home.client()
    writer = home.writer(client, attempt_deadline_seconds=DEADLINE_SECONDS, read_timeout_seconds=DEADLINE_SECONDS)
    counter = CounterHandle(writer, table, NAME)
    pipe.send("ready")
    pipe.recv()
    with FaultPlan(client) as plan:
        plan.on("UpdateItem", weather)
        for _ in range(steps):
            before, moved = int(counter), None
            try:
                counter += 1
            except CounterOutOfSyncError as error:
                moved = error
            except CounterUnknownError as unknown:
                if settled(unknown, weather, report) is not None:
                    report.count(int(counter))
            except CommitFailedError:
                report.faults["not written"] += 1
            else:
                assert counter == before + 1
                report.count(int(counter))
            if moved is not None:
                report.faults["out of sync"] += 1
                assert moved.expected == before
                assert moved.actual == counter > before, "others only raise it"
            weather.clear_up()
    weather.clear_up(at_last=True)
    writer.close()
    pipe.send(report)


# --- killed -------------------------------------------------------------------------------------------------------


def count_until_killed(home: Home, table: str, number: int, when: When, pipe: Connection) -> None:
    """Says `begun` before each increment and `counted` after it, until SIGKILL strikes at its update of that number."""
    client = home.client()
    updates = itertools.count(1)
    counter = AtomicCounter(home.writer(client), table, NAME)
    pipe.send("ready")
    pipe.recv()

    def strike(call: Call) -> None:
        if next(updates) == number:
            kill(call)

    with FaultPlan(client) as plan:
        plan.on("UpdateItem", strike, when)
        while True:
            pipe.send("begun")
            counter.add()
            pipe.send("counted")
