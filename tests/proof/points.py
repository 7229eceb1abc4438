"""Every request of every actor, with every fault: `python -m tests.proof.points`, and with two: `--pairs`.

The real code runs in process, on tables in memory and virtual time. A cell is one shape of scope, one actor, one of
the actor's requests and one fault; each is visited, and what follows is judged (`tests.proof.cases`). Where the answer
is UNKNOWN, the cell is played again twice, with a caller who commits again: at once, and when all is over.

Pairs: for each single fault of a committer with up to three operations, each second fault at each later request of
the same committer or, where it is gone or done, of the recovery that follows.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol, get_args

from reliable_write import Outcome
from reliable_write.dynamodb import CallName
from tests.proof.cases import VERBS, Actor, Again, Case, Plan
from tests.proof.cores import on_cores, seldom_cleared
from tests.proof.history import Violation
from tests.proof.ledger import VARIABLE, next_seed, record
from tests.proof.repairs import RepairCase
from tests.proof.shapes import SHAPES, SMALL, Shape
from tests.proof.wire import Fault, faults_of

AGAIN: tuple[Again, ...] = ("at once", "later")
VIOLATIONS_TOLD = 20
TOLD_SECONDS = 20.0
"""Of silence, at most, where it takes long."""
REPAIR: Actor = "repair-stamp"
"""Its cells come last, so that those of all others keep their numbers."""


@dataclass(frozen=True)
class Cell:
    """One fault at one request."""

    shape: Shape
    actor: Actor
    number: int
    call: CallName
    fault: Fault

    def plan(self) -> Plan:
        return Plan(self.shape, self.actor, {self.number: self.fault})

    def __str__(self) -> str:
        return f"[{self.shape.name}] {self.actor}, request {self.number} ({self.call}): {self.fault}"


class Playable(Protocol):
    """A case, of scopes or of another room."""

    outcomes: Counter[str]

    def run(self) -> None: ...


@dataclass
class Totals:
    """What was tried, and what came of it."""

    shapes: set[str] = field(default_factory=set)
    points: set[tuple[str, str, int]] = field(default_factory=set)
    cells: int = 0
    visited: int = 0
    cases: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def ledger(self) -> dict[str, int]:
        return {
            "shapes": len(self.shapes),
            "points": len(self.points),
            "cells": self.cells,
            "cells visited": self.visited,
            "cases": self.cases,
            **dict(sorted(self.counts.items())),
            "violations": len(self.violations),
        }

    def play(self, case: Playable, told: str, *, stop_at_first: bool) -> None:
        """Run it and count it. A violation is noted, or raised."""
        self.cases += 1
        try:
            case.run()
        except Exception as error:
            if stop_at_first:
                raise Violation(f"{told}: {type(error).__name__}: {error}") from error
            self.violations.append(f"{told}: {type(error).__name__}: {error}")
        self.counts.update({f"outcomes: {name}": count for name, count in case.outcomes.items()})

    def add(self, other: Totals) -> None:
        """Those of others as well."""
        self.shapes |= other.shapes
        self.points |= other.points
        self.cells += other.cells
        self.visited += other.visited
        self.cases += other.cases
        self.counts.update(other.counts)
        self.violations += other.violations


def case_of(plan: Plan) -> Case:
    return RepairCase(plan) if plan.actor == REPAIR else Case(plan)


def actors_of(shape: Shape) -> Iterator[Actor]:
    for actor in get_args(Actor):
        if (
            actor != REPAIR
            and (actor in ("monitor", "sweeper", *VERBS)) <= shape.has_entry
            and (actor != "audit, held back" or shape.is_plain)
        ):
            yield actor


def cells(shapes: Sequence[Shape], actors: Sequence[Actor] = ()) -> Iterator[Cell]:
    """All of them, in an order that never changes; the requests are those of a run in which nothing goes wrong."""
    for shape in shapes:
        for actor in actors_of(shape):
            if not actors or actor in actors:
                yield from _cells_of(shape, actor)
    if not actors or REPAIR in actors:
        for shape in shapes:
            if shape.start == "unstamped":
                yield from _cells_of(shape, REPAIR)


def _cells_of(shape: Shape, actor: Actor) -> Iterator[Cell]:
    dry = case_of(Plan(shape, actor))
    try:
        dry.run()
    except Violation as violation:
        raise Violation(f"[{shape.name}] {actor}, with nothing going wrong: {violation}") from violation
    assert dry.wire.trace, f"{shape.name}, {actor}: a dry run without a request"
    for number, call in enumerate(dry.wire.trace, 1):
        for fault in faults_of(call):
            yield Cell(shape, actor, number, call, fault)


def visit(cell: Cell, totals: Totals, *, stop_at_first: bool = False) -> None:
    """Play one cell. A violation is noted, or raised."""
    case = _play(cell.plan(), str(cell), totals, stop_at_first=stop_at_first)
    totals.cells += 1
    totals.visited += case.wire.struck == [cell.fault]
    totals.shapes.add(cell.shape.name)
    totals.points.add((cell.shape.name, cell.actor, cell.number))
    totals.counts[f"faults: {cell.fault}"] += len(case.wire.struck)
    totals.counts[f"actors: {cell.actor}"] += 1


def _play(plan: Plan, told: str, totals: Totals, *, stop_at_first: bool) -> Case:
    """Once, and where the outcome is unknown once more for each time at which the caller may commit again."""
    first = _play_once(plan, told, totals, stop_at_first=stop_at_first)
    if first.outcomes[Outcome.UNKNOWN.name]:
        for again in AGAIN:
            _play_once(replace(plan, again=again), f"{told}, again {again}", totals, stop_at_first=stop_at_first)
    return first


def _play_once(plan: Plan, told: str, totals: Totals, *, stop_at_first: bool) -> Case:
    case = case_of(plan)
    totals.play(case, told, stop_at_first=stop_at_first)
    return case


# --- pairs --------------------------------------------------------------------------------------------------------


def visit_pairs(cell: Cell, totals: Totals, *, stop_at_first: bool = False) -> None:
    """All second faults after this one."""
    dry = Case(replace(cell.plan(), recovery_faults={10**6: Fault.ERROR}))
    try:
        dry.run()
    except Exception as error:  # noqa: BLE001 - whatever a broken promise brings about is one
        totals.violations.append(f"{cell}: {type(error).__name__}: {error}")
        return
    seconds = [(number, call) for number, call in enumerate(dry.wire.trace, 1) if number > cell.number]
    for number, call in seconds:
        for fault in faults_of(call):
            plan = Plan(cell.shape, cell.actor, {cell.number: cell.fault, number: fault})
            told = f"{cell}; request {number} ({call}): {fault}"
            _count_pair(_play(plan, told, totals, stop_at_first=stop_at_first), fault, totals)
    for number, call in enumerate(dry.recovery_wire.trace, 1):
        for fault in faults_of(call):
            plan = replace(cell.plan(), recovery_faults={number: fault})
            told = f"{cell}; recovery's request {number} ({call}): {fault}"
            _count_pair(_play(plan, told, totals, stop_at_first=stop_at_first), fault, totals)
    totals.shapes.add(cell.shape.name)
    totals.cells += 1


def _count_pair(case: Case, second: Fault, totals: Totals) -> None:
    happened = len(case.wire.struck) + len(case.recovery_wire.struck)
    totals.visited += happened == 2
    totals.counts[f"second faults: {second}"] += 1
    totals.counts["pairs"] += 1


# --- the command --------------------------------------------------------------------------------------------------


def run(chosen: Iterable[Cell], *, pairs: bool, stop_at_first: bool = False) -> Totals:
    totals = Totals()
    for cell in seldom_cleared(chosen):
        (visit_pairs if pairs else visit)(cell, totals, stop_at_first=stop_at_first)
    return totals


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parsed(arguments)
    begun = time.monotonic()
    try:
        totals = run_on_all_cores(given) if given.jobs > 1 else _run_here(given)
    except Violation as violation:
        print(f"VIOLATION {violation}")
        return 1
    for told in totals.violations[:VIOLATIONS_TOLD]:
        print(f"VIOLATION {told}")
    for name, count in totals.ledger().items():
        print(f"{name:60} {count:>10}")
    wanted = totals.counts["pairs"] if given.pairs else totals.cells
    print(f"visited {totals.visited} of {wanted} = {totals.visited / max(1, wanted):.2%}")
    print(f"{time.monotonic() - begun:.1f} s")
    return int(bool(totals.violations) or totals.visited != wanted or not wanted)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.proof.points", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", action="store_true", help="two faults, for committers of up to three operations")
    parser.add_argument("--cells", metavar="FROM:TO", help="only these, by number; the end is not included")
    parser.add_argument("--resume", action="store_true", help="from where the ledger ends")
    parser.add_argument("--small", action="store_true", help="only shapes of up to three operations")
    parser.add_argument("--shape", metavar="NAME", help="only this shape")
    parser.add_argument("--actor", choices=get_args(Actor), metavar="NAME", help="only this actor")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each N-th of them")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="so many processes")
    parser.add_argument("--stop-at-first", action="store_true", help="stop at the first violation, exit 1")
    return parser.parse_args(arguments)


def _chosen(given: argparse.Namespace) -> Iterator[Cell]:
    shapes = [one for one in (SMALL if given.small or given.pairs else SHAPES) if given.shape in (None, one.name)]
    actors: Sequence[Actor] = ("committer",) if given.pairs else (given.actor,) if given.actor else ()
    return itertools.islice(cells(shapes, actors), *_range(given), given.every)


def _range(given: argparse.Namespace) -> tuple[int, int]:
    start, end = (int(part) for part in given.cells.split(":")) if given.cells else (0, sys.maxsize)
    return (max(start, next_seed(Path(os.environ[VARIABLE]), _part(given))) if given.resume else start), end


def _part(given: argparse.Namespace) -> str:
    return "fault pairs" if given.pairs else "single faults"


def _record(given: argparse.Namespace, totals: Totals, reach: tuple[int, int]) -> None:
    is_part = given.every > 1 or given.small or given.shape or given.actor
    if not is_part:  # its numbers are not those of the whole
        counts = totals.ledger()
        if given.pairs:  # a few cells at a time: sets of them do not add up
            del counts["shapes"], counts["points"]
        record(_part(given), counts, seeds=reach)


def _run_here(given: argparse.Namespace) -> Totals:
    """The cells are made as they are played: a violation ends it early."""
    totals = run(_chosen(given), pairs=given.pairs, stop_at_first=given.stop_at_first)
    start, _ = _range(given)
    _record(given, totals, (start, start + totals.cells * given.every))
    return totals


# --- on several cores ---------------------------------------------------------------------------------------------

CHUNK, CHUNK_OF_PAIRS = 200, 5
"""Cells at a time. Pairs are written down as they come, so that a run may be stopped; the others all in one."""


def run_on_all_cores(given: argparse.Namespace) -> Totals:
    """All that were chosen, in several processes."""
    chosen, (first, _) = list(_chosen(given)), _range(given)
    play = partial(run, pairs=given.pairs, stop_at_first=given.stop_at_first)
    totals, told_at = Totals(), time.monotonic()
    for part, found in on_cores(chosen, play, size=CHUNK_OF_PAIRS if given.pairs else CHUNK, jobs=given.jobs):
        totals.add(found)
        for told in found.violations:
            print(f"VIOLATION {told}", flush=True)
        if given.pairs:
            _record(given, found, (first + part.start, first + part.stop))
        if time.monotonic() - told_at > TOLD_SECONDS:
            told_at = time.monotonic()
            print(f"{part.stop} of {len(chosen)}: {len(totals.violations)} violations", flush=True)
    if not given.pairs:
        _record(given, totals, (first, first + totals.cells * given.every))
    return totals


if __name__ == "__main__":
    sys.exit(main())
