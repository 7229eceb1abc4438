"""Many lives, one after another or on several cores: what they came to, what was reached, what was found."""

from __future__ import annotations

import itertools
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from tests.proof.cores import seldom_cleared
from tests.proof.ledger import record
from tests.simulation.life import Life
from tests.simulation.narrow import NarrowLife
from tests.simulation.wire import FAULTS

LIVES: Final[Mapping[str, type[Life]]] = {"simulation": Life, "simulation, narrow": NarrowLife}
"""By the part of the ledger in which they are counted."""
PART, NARROW = LIVES
CHUNK: Final = 1000
"""Seeds of one line in the ledger: what an interrupted run loses at most."""
Cell = tuple[str, ...]
"""A fault, a role, a call, what it is about, and how the scope ended (`-` where it was nobody's scope)."""


@dataclass
class Violation:
    """A life in which a promise was broken."""

    seed: int
    complaints: list[str]


@dataclass
class Tally:
    """What some lives came to."""

    counts: Counter[str] = field(default_factory=Counter)
    cells: Counter[Cell] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Those of others as well."""
        self.counts.update(other.counts)
        self.cells.update(other.cells)
        self.violations += other.violations


def live(seed: int, part: str = PART) -> Tally:
    """One life. An exception that nobody foresaw is a violation too."""
    life = LIVES[part](seed)
    try:
        complaints = life.run()
    except Exception:  # noqa: BLE001 - whatever it is, it has a seed
        complaints = [traceback.format_exc()]
    counts = Counter({"schedules": 1, "calls": life.calls, "violations": bool(complaints)})
    counts.update({f"faults: {kind}": count for kind, count in life.weather.counts.items()})
    counts["faults, all"] = life.faults
    counts.update(life.seen)
    return Tally(counts, life.cells, [Violation(seed, complaints)] if complaints else [])


def live_range(start: int, stop: int, *, part: str = PART, stop_at_first: bool = False) -> Tally:
    """Lives of a range of seeds; the ledger gets a line, unless they ended at the first violation."""
    tally = Tally()
    for seed in seldom_cleared(range(start, stop)):
        tally.add(live(seed, part))
        if stop_at_first and tally.violations:
            return tally
    record(part, tally.counts, seeds=(start, stop))
    return tally


def chunks(start: int, stop: int, size: int = CHUNK) -> Iterator[tuple[int, int]]:
    """The range in parts."""
    for begin in range(start, stop, size):
        yield begin, min(stop, begin + size)


def campaign(
    start: int, stop: int, *, jobs: int, stop_at_first: bool, part: str = PART, chunk: int = CHUNK
) -> Iterator[Tally]:
    """Tallies of the parts, in order; with `stop_at_first` the one with the violation is the last."""
    run = partial(live_range, part=part, stop_at_first=stop_at_first)
    parts = list(chunks(start, stop, chunk))
    for tally in itertools.starmap(run, parts) if jobs == 1 else _at_once(run, parts, jobs):
        yield tally
        if stop_at_first and tally.violations:
            return


def _at_once(run: Callable[[int, int], Tally], parts: Sequence[tuple[int, int]], jobs: int) -> Iterator[Tally]:
    """On several cores. Whoever stops listening begins no more parts; those begun come to their ends."""
    with ProcessPoolExecutor(jobs) as pool:
        futures = [pool.submit(run, *part) for part in parts]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


# --- coverage -----------------------------------------------------------------------------------------------------

COMMITTERS_CALLS: Final = (
    ("batch_get_item", "witness"),
    ("put_item", "entry"),
    ("transact_write_items", "commit point"),
    ("put_item", "item"),
    ("put_item", "tombstone"),
    ("delete_item", "item"),
    ("batch_write_item", "entry"),
)
MONITORS_CALLS: Final = (
    ("query", "entry"),
    ("get_item", "entry"),
    ("update_item", "entry"),
    ("put_item", "item"),
    ("get_item", "tombstone"),
    ("batch_write_item", "entry"),
)
AUDITORS_CALLS: Final = (("scan", "pass"), ("get_item", "item"))
_WRITES_ONLY: Final = ("conflict", "late landing", "duplicate")
_READS: Final = ("batch_get_item", "query", "get_item", "scan")


def wanted_points() -> Iterator[Cell]:
    """All of (fault, role, call, what it is about) that a nightly run must have met."""
    for role, calls in (("committer", COMMITTERS_CALLS), ("monitor", MONITORS_CALLS), ("auditor", AUDITORS_CALLS)):
        for call, about in calls:
            for fault in FAULTS:
                if not (fault in _WRITES_ONLY and call in _READS):
                    yield fault, role, call, about


OUTCOMES_WANTED: Final = (
    ("timeout after apply", "committer", "put_item", "entry", "WRITTEN"),
    ("timeout after apply", "committer", "transact_write_items", "commit point", "WRITTEN"),
    ("timeout, not applied", "committer", "put_item", "entry", "WRITTEN"),
    ("throttled", "committer", "put_item", "item", "WRITTEN"),
    ("denied", "committer", "put_item", "entry", "NOT_WRITTEN"),
    ("denied", "committer", "batch_get_item", "witness", "NOT_WRITTEN"),
    ("denied", "committer", "put_item", "item", "WILL_BE_WRITTEN"),
    ("late landing", "committer", "put_item", "entry", "WRITTEN"),
    ("conflict", "committer", "transact_write_items", "commit point", "WRITTEN"),
    ("crash after apply", "committer", "put_item", "entry", "killed"),
    ("crash before send", "committer", "put_item", "entry", "killed"),
    ("stall", "committer", "put_item", "entry", "WRITTEN"),
    ("stall", "committer", "put_item", "item", "WILL_BE_WRITTEN"),
)
"""Common enough for CI: a thousand lives reach each of them."""


def points(cells: Mapping[Cell, int]) -> Counter[Cell]:
    """Cells without their outcomes."""
    found: Counter[Cell] = Counter()
    for cell, count in cells.items():
        found[cell[:4]] += count
    return found


def missing(cells: Mapping[Cell, int], *, nightly: bool) -> list[Cell]:
    """Cells that were wanted and never reached."""
    lacking: list[Cell] = [cell for cell in OUTCOMES_WANTED if not cells.get(cell)]
    if nightly:
        reached = points(cells)
        lacking += [point for point in wanted_points() if not reached[point]]
    return lacking


def table(cells: Mapping[Cell, int]) -> Iterable[str]:
    """One line for each fault at each point, with how the scopes ended."""
    rows: dict[Cell, Counter[str]] = {}
    for cell, count in cells.items():
        rows.setdefault((*cell[1:4], cell[0]), Counter())[cell[4]] += count
    for (role, call, about, fault), outcomes in sorted(rows.items()):
        told = ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items()))
        yield f"{role:10} {call:21} {about:13} {fault:21} {told}"
