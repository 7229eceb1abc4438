"""Guards taken out one by one: `python -m tests.proof.mutants`. Whoever judges must notice each of them.

Each mutant is one change of the library's text, in a copy of the tree. Those who are known to notice it are asked
first, then all checkers in their order until one tells a broken promise, see `tests.proof.mutant`. A mutant that none
of them notices survives, and says that a promise is not tried.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.proof.ledger import record
from tests.proof.mutant import Checker, Mutant, Verdict, judge, lives, points, tests
from tests.proof.mutants_core import CORE_MUTANTS
from tests.proof.mutants_rooms import ROOM_MUTANTS

MUTANTS: tuple[Mutant, ...] = (*CORE_MUTANTS, *ROOM_MUTANTS)
CHECKERS: tuple[Checker, ...] = (
    points("each 29th", "--every", "29"),
    tests("model of transactions", "tests/unit/test_transacted_model.py", "g5"),
    tests("model of audits", "tests/unit/test_auditor_model.py", "g3"),
    lives(0, 1000, narrow=True),
    lives(0, 1000),
    Checker("single faults, rooms", ("-m", "tests.proof.rooms", "--every", "7", "--stop-at-first"), "each 7th"),
    points("small shapes", "--small"),
)
"""All that is asked where nobody who is named beside the mutant notices it; the quickest first."""
SLOWEST_SHOWN = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where all were killed."""
    given = _parsed(arguments)
    start, end = (int(part) for part in given.mutants.split(":")) if given.mutants else (0, len(MUTANTS))
    chosen = [mutant for mutant in MUTANTS[start:end] if given.only is None or given.only in mutant.name]
    verdicts = []
    for verdict in _judged(chosen, jobs=given.jobs):
        verdicts.append(verdict)
        print(_told(verdict), flush=True)
    for line in _summary(verdicts):
        print(line)
    counts = _counts(verdicts)
    if len(chosen) == len(MUTANTS):  # else its numbers are not those of the whole
        record("mutants", counts, seeds=(0, len(MUTANTS)))
    return int(not chosen or counts["survived"] > 0)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.proof.mutants", description="Guards taken out one by one.")
    parser.add_argument("--only", metavar="NAME", help="those with this in their name")
    parser.add_argument("--mutants", metavar="FROM:TO", help="only these, by number; the end is not included")
    parser.add_argument("--jobs", type=int, default=1)
    return parser.parse_args(arguments)


def _judged(chosen: Iterable[Mutant], *, jobs: int) -> Iterator[Verdict]:
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(partial(judge, checkers=CHECKERS), chosen)


def _told(verdict: Verdict) -> str:
    fate = f"killed by {verdict.killer.name}" if verdict.killer else "SURVIVES"
    lines = [f"{verdict.seconds:6.1f} s  {verdict.mutant.name} ({verdict.mutant.breaks}): {fate}"]
    lines += [f"          {verdict.told[:160]}"] if verdict.told else []
    lines += [f"          failed, and not for a broken promise: {one[:160]}" for one in verdict.unsound]
    return "\n".join(lines)


def _summary(verdicts: Sequence[Verdict]) -> Iterator[str]:
    killed = [verdict for verdict in verdicts if verdict.killer is not None]
    processor = os.times().children_user + os.times().children_system
    yield f"killed {len(killed)} of {len(verdicts)}; {processor:.0f} s of processor time"
    for verdict in sorted(verdicts, key=lambda one: -one.seconds)[:SLOWEST_SHOWN]:
        yield f"  slow: {verdict.seconds:6.1f} s  {verdict.mutant.name}"
    for verdict in killed:
        if verdict.mutant.noticed_by and verdict.killer not in verdict.mutant.noticed_by:
            yield f"  named beside it, and did not notice: {verdict.mutant.noticed_by[0].name}: {verdict.mutant.name}"
    for verdict in verdicts:
        if verdict.killer is None:
            yield f"  SURVIVES: {verdict.mutant.name}, which breaks {verdict.mutant.breaks}"


def _counts(verdicts: Sequence[Verdict]) -> dict[str, int]:
    killers = Counter(f"killed: {verdict.killer.kind}" for verdict in verdicts if verdict.killer is not None)
    survived = len(verdicts) - killers.total()
    return {
        "mutants": len(verdicts),
        "killed": killers.total(),
        **dict(sorted(killers.items())),
        "survived": survived,
        "violations": survived,
    }


if __name__ == "__main__":
    sys.exit(main())
