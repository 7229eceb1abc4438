"""The parts of the proof: the command of each in both sizes, and what it must at least have tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.proof.ledger import Part, add_up, next_seed, read


@dataclass(frozen=True)
class Goal:
    """At least so many of something; of all that belong together where the name is one of several's."""

    count: str
    quick: int
    full: int

    def wanted(self, *, full: bool) -> int:
        return self.full if full else self.quick


@dataclass(frozen=True)
class Job:
    """One command."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    seed: str = ""
    """The variable that takes a number not tried before: runs of storms add up, each with another."""
    lines_a_seed: int = 1
    """How many lines of the ledger one such run makes."""

    def seeded(self, ledger: Path, part: str) -> dict[str, str]:
        """The environment for a run that adds to a ledger."""
        if not self.seed:
            return dict(self.environment)
        return {**self.environment, self.seed: str(-(-next_seed(ledger, part) // self.lines_a_seed))}


@dataclass(frozen=True)
class Stage:
    """One part of the proof: its name in the ledger."""

    part: str
    about: str
    goals: tuple[Goal, ...]
    quick: Job | None
    full: Job

    def job(self, *, full: bool) -> Job | None:
        return self.full if full else self.quick

    def reached(self, ledger: Path, *, full: bool) -> bool:
        """Whether the ledger holds all that is wanted already."""
        part = add_up(read(ledger)).get(self.part, Part())
        return all(part.count(goal.count) >= goal.wanted(full=full) for goal in self.goals)


def pytest_of(*arguments: str, seed: str = "", lines_a_seed: int = 1, **sizes: int) -> Job:
    """Tests in the sizes given: `wire_calls=2000` is `RELIABLE_WRITE_WIRE_CALLS`."""
    environment = {f"RELIABLE_WRITE_{name.upper()}": str(size) for name, size in sizes.items()}
    command = ("pytest", "-q", "-s", "-p", "no:cacheprovider", "--timeout", "14400", *arguments)
    return Job(command, environment, seed, lines_a_seed)


_SIGNALS = "tests/chaos/test_signals.py::test_all_promises_hold"

STAGES: tuple[Stage, ...] = (
    Stage(
        "single faults",
        "every request of every actor of every shape of scope, with every fault",
        (Goal("shapes", 24, 24), Goal("cells visited", 47_000, 47_000)),
        Job(("tests.proof.points", "--jobs", "2")),
        Job(("tests.proof.points", "--jobs", "2")),
    ),
    Stage(
        "single faults, rooms",
        "the same for counters, locks, records and uploads",
        (Goal("cells visited", 6_900, 6_900),),
        Job(("tests.proof.rooms", "--jobs", "2")),
        Job(("tests.proof.rooms", "--jobs", "2")),
    ),
    Stage(
        "fault pairs",
        "two faults, for committers of up to three operations",
        (Goal("pairs", 0, 100_000),),
        None,
        Job(("tests.proof.points", "--pairs", "--jobs", "2", "--resume")),
    ),
    Stage(
        "simulation",
        "whole lives of an installation, each from a seed, with five faults or more",
        (Goal("schedules", 20_000, 800_000), Goal("faults, all", 100_000, 4_000_000)),
        Job(("tests.simulation", "--resume", "20000", "--jobs", "2")),
        Job(("tests.simulation", "--resume", "800000", "--jobs", "2", "--coverage")),
    ),
    Stage(
        "simulation, narrow",
        "lives around one key, with the troubles where they hurt",
        (Goal("schedules", 2_000, 200_000), Goal("faults, all", 10_000, 1_000_000)),
        Job(("tests.simulation", "--narrow", "--resume", "2000", "--jobs", "2")),
        Job(("tests.simulation", "--narrow", "--resume", "200000", "--jobs", "2")),
    ),
    Stage(
        "mutants",
        "guards taken out one by one",
        (Goal("killed", 100, 100),),
        Job(("tests.proof.mutants", "--jobs", "2")),
        Job(("tests.proof.mutants", "--jobs", "2")),
    ),
    Stage(
        "fuzz",
        "values, keys, settings, command lines, damaged and forged records",
        (Goal("inputs", 8_000, 100_000),),
        pytest_of("tests/fuzz"),
        pytest_of("tests/fuzz", fuzz=36_000),
    ),
    Stage(
        "wire",
        "real processes, a real engine, and a proxy between them",
        (Goal("calls", 2_000, 100_000), Goal("faults: dropped answer", 100, 5_000), Goal("faults: late", 20, 1_000)),
        pytest_of("tests/chaos/test_wire.py"),
        pytest_of("tests/chaos/test_wire.py", seed="RELIABLE_WRITE_WIRE_SEED", lines_a_seed=2, wire_calls=100_000),
    ),
    Stage(
        "signals",
        "real processes and a real engine, killed and stopped",
        (
            Goal("kills: committer", 20, 1_000),
            Goal("kills: monitor", 5, 300),
            Goal("kills: engine", 2, 100),
            Goal("stops: over two leases", 4, 200),
        ),
        pytest_of(f"{_SIGNALS}_under_signals"),
        pytest_of(
            f"{_SIGNALS}_under_signals",
            seed="RELIABLE_WRITE_SIGNAL_SEED",
            signal_writers=1_000,
            signal_monitors=300,
            signal_engines=100,
            signal_stops=200,
        ),
    ),
    Stage(
        "signals, DynamoDB Local",
        "the same on DynamoDB Local, which is not killed",
        (
            Goal("kills: committer", 20, 300),
            Goal("kills: monitor", 5, 100),
            Goal("stops: over two leases", 4, 60),
        ),
        pytest_of(f"{_SIGNALS}_under_signals_on_an_engine_that_others_use"),
        pytest_of(
            f"{_SIGNALS}_under_signals_on_an_engine_that_others_use",
            seed="RELIABLE_WRITE_SIGNAL_SEED",
            signal_writers=300,
            signal_monitors=100,
            signal_stops=60,
        ),
    ),
)
