"""Every request of the other rooms' operations, with every fault: `python -m tests.proof.rooms`.

Counters, locks, records and uploads, as `tests.proof.points` does it for scopes: the real code in process, on tables in
memory and virtual time. A cell is one scenario (a public operation, or a few, of one process), one of its requests in a
run in which nothing goes wrong, and one fault. What follows is what users would do, and the room's promise is judged.
Where something is UNKNOWN the cell is played again twice: it is found out at once, and when all has landed.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from reliable_write import Outcome
from tests.proof.cores import on_cores, seldom_cleared
from tests.proof.history import Violation
from tests.proof.ledger import record
from tests.proof.points import AGAIN, Totals
from tests.proof.room_counters import CounterCase
from tests.proof.room_locks import LockCase
from tests.proof.room_records import RecordCase
from tests.proof.room_uploads import UploadCase
from tests.proof.room_world import RoomCase, RoomPlan, Scenario, faults_in_rooms
from tests.proof.wire import Fault

PART = "single faults, rooms"
CHUNK = 100
"""Cells at a time on several cores."""
ROOMS: tuple[type[RoomCase], ...] = (CounterCase, LockCase, RecordCase, UploadCase)


@dataclass(frozen=True)
class RoomCell:
    """One fault at one request."""

    room: type[RoomCase]
    scenario: Scenario
    number: int
    call: str
    fault: Fault

    def plan(self) -> RoomPlan:
        return RoomPlan(self.scenario, {self.number: self.fault})

    def __str__(self) -> str:
        return f"[{self.room.room}: {self.scenario.name}] request {self.number} ({self.call}): {self.fault}"


def cells(rooms: Iterable[type[RoomCase]] = ROOMS, only: str | None = None) -> Iterator[RoomCell]:
    """All of them, in an order that never changes; the requests are those of a run in which nothing goes wrong."""
    for room in rooms:
        for scenario in room.scenarios:
            if only in (None, scenario.name):
                yield from _cells_of(room, scenario)


def _cells_of(room: type[RoomCase], scenario: Scenario) -> Iterator[RoomCell]:
    dry = room(RoomPlan(scenario))
    try:
        dry.run()
    except Violation as violation:
        raise Violation(f"[{room.room}: {scenario.name}], with nothing going wrong: {violation}") from violation
    assert dry.requests, f"{room.room}, {scenario.name}: a dry run without a request"
    for number, call in enumerate(dry.requests, 1):
        for fault in faults_in_rooms(call):
            yield RoomCell(room, scenario, number, call, fault)


def visit(cell: RoomCell, totals: Totals, *, stop_at_first: bool = False) -> None:
    """Play one cell, and where something is unknown once more for each time at which it may be found out."""
    case = _play_once(cell, cell.plan(), str(cell), totals, stop_at_first=stop_at_first)
    if case.outcomes[Outcome.UNKNOWN.name]:
        for again in AGAIN:
            plan = replace(cell.plan(), again=again)
            _play_once(cell, plan, f"{cell}, found out {again}", totals, stop_at_first=stop_at_first)
    totals.cells += 1
    totals.visited += case.wire.struck == [cell.fault]
    totals.points.add((cell.room.room, cell.scenario.name, cell.number))
    totals.counts[f"faults: {cell.fault}"] += len(case.wire.struck)
    totals.counts[f"rooms: {cell.room.room}"] += 1


def _play_once(cell: RoomCell, plan: RoomPlan, told: str, totals: Totals, *, stop_at_first: bool) -> RoomCase:
    case = cell.room(plan)
    totals.play(case, told, stop_at_first=stop_at_first)
    return case


def run(chosen: Iterable[RoomCell], *, stop_at_first: bool = False) -> Totals:
    totals = Totals()
    for cell in seldom_cleared(chosen):
        visit(cell, totals, stop_at_first=stop_at_first)
    return totals


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parsed(arguments)
    begun = time.monotonic()
    start, end = _range(given)
    try:
        totals = _run_on_all_cores(given) if given.jobs > 1 else run(_chosen(given), stop_at_first=given.stop_at_first)
    except Violation as violation:
        print(f"VIOLATION {violation}")
        return 1
    reach = (start, min(end, start + totals.cells * given.every))
    is_part = given.every > 1 or given.room or given.scenario
    if not is_part:  # its numbers are not those of the whole
        record(PART, {name: count for name, count in totals.ledger().items() if name != "shapes"}, seeds=reach)
    _tell(totals, reach, time.monotonic() - begun)
    return int(bool(totals.violations) or totals.visited != totals.cells or not totals.cells)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.proof.rooms", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cells", metavar="FROM:TO", help="only these, by number; the end is not included")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each N-th of them")
    parser.add_argument("--room", choices=[room.room for room in ROOMS], help="only this one")
    parser.add_argument("--scenario", metavar="NAME", help="only this one")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="so many processes")
    parser.add_argument("--stop-at-first", action="store_true", help="stop at the first violation, exit 1")
    return parser.parse_args(arguments)


def _range(given: argparse.Namespace) -> tuple[int, int]:
    start, end = (int(part) for part in given.cells.split(":")) if given.cells else (0, sys.maxsize)
    return start, end


def _chosen(given: argparse.Namespace) -> Iterator[RoomCell]:
    rooms = [room for room in ROOMS if given.room in (None, room.room)]
    return itertools.islice(cells(rooms, given.scenario), *_range(given), given.every)


def _run_on_all_cores(given: argparse.Namespace) -> Totals:
    totals = Totals()
    play = partial(run, stop_at_first=given.stop_at_first)
    for _, found in on_cores(list(_chosen(given)), play, size=CHUNK, jobs=given.jobs):
        totals.add(found)
    return totals


def _tell(totals: Totals, reach: tuple[int, int], seconds: float) -> None:
    for told in totals.violations[:20]:
        print(f"VIOLATION {told}")
    for name, count in totals.ledger().items():
        print(f"{name:60} {count:>10}")
    share = totals.visited / max(1, totals.cells)
    print(f"visited {totals.visited} of {totals.cells} = {share:.2%}, cells {reach[0]} to {reach[1]}")
    print(f"{seconds:.1f} s")


if __name__ == "__main__":
    sys.exit(main())
