"""`make proof` and `make proof-full`: all parts of the proof one after another, and what they came to.

    python -m tests.proof             the sizes of CI: minutes, a ledger of its own
    python -m tests.proof --full      the large sizes: hours; adds to what earlier runs left in the ledger
    python -m tests.proof --report    what the ledger holds, without running anything

Every part is a command of its own, so that it can be run, and stopped, by itself; a part that fails fails the proof. A
goal that was not reached fails it too: a proof that tried nothing has proved nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.proof.ledger import VARIABLE, VIOLATIONS, Part, add_up, read

ROOT = Path(__file__).parents[2]
QUICK, FULL = ROOT / ".proof" / "quick.jsonl", ROOT / ".proof" / "full.jsonl"


@dataclass(frozen=True)
class Job:
    """One command."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Goal:
    """At least so many of something, in one part."""

    part: str
    count: str
    quick: int
    full: int


def pytest_of(*arguments: str, **sizes: int) -> Job:
    """Tests in the sizes given: `wire_calls=2000` is `RELIABLE_WRITE_WIRE_CALLS`."""
    environment = {f"RELIABLE_WRITE_{name.upper()}": str(size) for name, size in sizes.items()}
    return Job(("pytest", "-q", "-s", "-p", "no:cacheprovider", "--timeout", "14400", *arguments), environment)


JOBS = (
    Job(("tests.proof.points",)),
    Job(("tests.simulation", "--seeds", "0:20000", "--jobs", "2")),
    Job(("tests.proof.mutants", "--jobs", "2")),
    pytest_of("tests/fuzz", fuzz=20_000),
    pytest_of("tests/chaos/test_wire.py", "tests/chaos/test_signals.py"),
)
JOBS_FULL = (
    Job(("tests.proof.points",)),
    Job(("tests.proof.points", "--pairs")),
    Job(("tests.simulation", "--resume", "1000000", "--jobs", "2")),
    Job(("tests.proof.mutants", "--jobs", "2")),
    pytest_of("tests/fuzz", fuzz=100_000),
    pytest_of("tests/chaos/test_wire.py", wire_calls=100_000),
    pytest_of(
        "tests/chaos/test_signals.py",
        signal_writers=1_000,
        signal_monitors=300,
        signal_engines=100,
        signal_stops=200,
    ),
)
GOALS = (
    Goal("single faults", "shapes", 24, 24),
    Goal("simulation", "schedules", 20_000, 1_000_000),
    Goal("mutants", "killed", 62, 62),
    Goal("wire", "calls", 2_000, 100_000),
    Goal("wire", "faults: dropped answer", 100, 5_000),
    Goal("wire", "faults: late", 20, 1_000),
    Goal("signals", "kills: committer", 20, 1_000),
    Goal("signals", "kills: monitor", 5, 300),
    Goal("signals", "kills: engine", 2, 100),
    Goal("signals", "stops: over two leases", 4, 200),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 where every part ran, no promise was broken and every goal was reached."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof", description=__doc__)
    parser.add_argument("--full", action="store_true", help="the large sizes; adds up over runs")
    parser.add_argument("--report", action="store_true", help="only tell what the ledger holds")
    asked = parser.parse_args(argv)
    ledger = FULL if asked.full else QUICK
    failed = [] if asked.report else _run(JOBS_FULL if asked.full else JOBS, ledger, afresh=not asked.full)
    short = report(ledger, full=asked.full)
    for job in failed:
        print(f"FAILED  {' '.join(job.arguments)}")
    return 1 if failed or short else 0


def _run(jobs: Sequence[Job], ledger: Path, *, afresh: bool) -> list[Job]:
    if afresh:
        ledger.unlink(missing_ok=True)
    failed = []
    for number, job in enumerate(jobs, 1):
        print(f"\n== {number} of {len(jobs)}: {' '.join(job.arguments)}", flush=True)
        begun = time.monotonic()
        environment = {**os.environ, **job.environment, VARIABLE: str(ledger)}
        ran = subprocess.run([sys.executable, "-m", *job.arguments], cwd=ROOT, env=environment, check=False)
        print(f"== {time.monotonic() - begun:.0f} s, exit {ran.returncode}", flush=True)
        if ran.returncode:
            failed.append(job)
    return failed


def report(ledger: Path, *, full: bool) -> bool:
    """Print the totals of every part and how they stand to the goals; whether anything falls short."""
    lines = read(ledger)
    parts = add_up(lines)
    commits = sorted({line["commit"] for line in lines})
    size, made_of = "full" if full else "in the sizes of CI", ", ".join(commits) or "none"
    print(f"\nThe proof, {size}: {len(lines)} entries of {made_of}")
    for name, part in sorted(parts.items()):
        print(f"\n{name} ({part.runs} runs)")
        for count, number in sorted(part.counts.items()):
            print(f"  {count:<48}{number:>14,}")
    print("\ngoals")
    return any([*(_falls_short(goal, parts, full=full) for goal in GOALS), _broken(parts)])


def _falls_short(goal: Goal, parts: Mapping[str, Part], *, full: bool) -> bool:
    wanted = goal.full if full else goal.quick
    found = parts[goal.part].counts[goal.count] if goal.part in parts else 0
    verdict = "reached" if found >= wanted else "SHORT"
    print(f"  {verdict:<8}{goal.part}: {goal.count:<40}{found:>12,} of {wanted:>10,}")
    return found < wanted


def _broken(parts: Mapping[str, Part]) -> bool:
    violations = sum(part.counts[VIOLATIONS] for part in parts.values())
    print(f"  {'none' if not violations else 'BROKEN':<8}violations: {violations}")
    return bool(violations)


if __name__ == "__main__":
    sys.exit(main())
