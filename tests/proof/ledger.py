"""The ledger of a proof: every part writes down what it tried; the lines add up over as many runs as it takes.

    record("simulation", {"schedules": 500, "faults: lost answer": 812, "violations": 0}, seeds=(0, 500))

One line of JSON a call, appended to the file that `RELIABLE_WRITE_PROOF` names; without it nothing is written, so that
a test may always call it. Counts whose names begin alike ("faults: ...") belong together. `violations` must stay 0.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import os
import platform
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VARIABLE = "RELIABLE_WRITE_PROOF"
VIOLATIONS = "violations"
ROOT = Path(__file__).parents[2]
KEPT = ROOT / "tests" / "proof" / "full.jsonl"
"""The ledger of the large sizes is part of the repository: it takes several runs, and docs/proof.md is made of it."""
Line = dict[str, Any]


@dataclass
class Part:
    """All that one part of the proof came to."""

    counts: Counter[str] = field(default_factory=Counter)
    seeds: list[tuple[int, int]] = field(default_factory=list)
    """Ranges, the end not included."""
    runs: int = 0

    def count(self, name: str) -> int:
        """Of one name; where it is none's, of all that belong together under it."""
        if name in self.counts:
            return self.counts[name]
        return sum(number for one, number in self.counts.items() if one.startswith(f"{name}: "))


def record(
    part: str, counts: Mapping[str, int], *, seeds: tuple[int, int] | None = None, place: str | None = None
) -> None:
    """Write down what a part tried; `seeds` is a range of them, the end not included. Who changed the environment says
    where.
    """
    place = os.environ.get(VARIABLE) if place is None else place
    if not place:
        return
    line = {
        "part": part,
        "counts": dict(counts),
        "seeds": seeds,
        "commit": commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    with Path(place).open("a", encoding="utf-8") as ledger:
        ledger.write(json.dumps(line) + "\n")  # one short write to a file opened for appending: lines never mix


def read(path: Path) -> list[Line]:
    """All lines; none where there is no ledger yet."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def add_up(lines: Iterable[Mapping[str, Any]]) -> dict[str, Part]:
    """What each part came to."""
    parts: dict[str, Part] = {}
    for line in _counted(lines):
        part = parts.setdefault(line["part"], Part())
        if line["seeds"] is not None:
            part.seeds.append((line["seeds"][0], line["seeds"][1]))
        part.runs += line.get("runs", 1)
        part.counts.update(line["counts"])
    return parts


def _counted(lines: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Those that count: a range of seeds that was tried twice does once, as it was tried last."""
    tried: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for line in sorted(lines, key=lambda one: str(one["at"]), reverse=True):
        if line["seeds"] is not None:
            first, last = line["seeds"]
            if any(first < end and start < last for start, end in tried[line["part"]]):
                continue
            tried[line["part"]].append((first, last))
        yield line


def next_seed(path: Path, part: str) -> int:
    """The first seed that was not tried."""
    found = add_up(read(path)).get(part, Part())
    seed = 0
    for start, end in sorted(found.seeds):
        if start <= seed:
            seed = max(seed, end)
    return seed


def compact(path: Path) -> None:
    """Make one line of those of one part, commit and machine whose seeds follow each other, or that have none."""
    merged: list[Line] = []
    for line in sorted(
        map(dict, _counted(read(path))), key=lambda one: (one["part"], one["seeds"] or [0, 0], one["commit"])
    ):
        if merged and _follows(merged[-1], line):
            merged[-1] = _joined(merged[-1], line)
        else:
            merged.append(line)
    if merged:
        path.write_text("".join(json.dumps(line) + "\n" for line in merged), encoding="utf-8")


def _follows(one: Line, other: Line) -> bool:
    if any(one[name] != other[name] for name in ("part", "commit", "machine")):
        return False
    if one["seeds"] is None or other["seeds"] is None:
        return one["seeds"] is other["seeds"]
    return bool(one["seeds"][1] == other["seeds"][0])


def _joined(one: Line, other: Line) -> Line:
    counts: Counter[str] = Counter(one["counts"])
    counts.update(other["counts"])
    return {
        **one,
        "counts": dict(counts),
        "seeds": one["seeds"] and [one["seeds"][0], other["seeds"][1]],
        "at": max(one["at"], other["at"]),
        "runs": one.get("runs", 1) + other.get("runs", 1),
    }


@functools.cache
def commit() -> str:
    """What is tried; the ledger itself, which grows meanwhile, does not count as a change."""
    head = _git("rev-parse", "--short=10", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", f":!{KEPT.relative_to(ROOT)}")
    return f"{head}-dirty" if changed else head or "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=ROOT).stdout.strip()
