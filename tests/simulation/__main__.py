"""Run simulated lives: `python -m tests.simulation --seeds 0:2000 [--jobs 2]`; `--seed 123 --trace` replays one.

With `--narrow`, lives around one key, see `tests.simulation.narrow`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.proof.ledger import VARIABLE, next_seed
from tests.simulation.campaign import CHUNK, LIVES, NARROW, PART, Tally, Violation, campaign, missing, table

EVENTS_SHOWN = 40
COMPLAINTS_SHOWN = 5
SHOWN_MAX = 10
NIGHTLY_SEEDS = 20_000
"""From so many lives on, every point must have met every fault."""


def main(argv: Sequence[str] | None = None) -> int:
    """0 where every promise was kept and every wanted cell reached."""
    arguments = _parsed(argv)
    part = NARROW if arguments.narrow else PART
    if arguments.seed is not None:
        return _replay(arguments.seed, part, trace=arguments.trace)
    start, stop = _range(arguments, part)
    total = Tally()
    for tally in campaign(
        start, stop, part=part, jobs=arguments.jobs, stop_at_first=arguments.stop_at_first, chunk=arguments.chunk
    ):
        total.add(tally)
        _say(f"{total.counts['schedules']} of {stop - start}: {total.counts['violations']} violations")
    _show(total, part, cells=arguments.cells)
    lacking = missing(total.cells, nightly=stop - start >= NIGHTLY_SEEDS) if arguments.coverage else []
    for cell in lacking:
        _say(f"never reached: {', '.join(cell)}")
    return 1 if total.violations or lacking else 0


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", help="A:B, the end not included")
    parser.add_argument("--resume", type=int, help="so many seeds from where the ledger ends")
    parser.add_argument("--seed", type=int, help="one life")
    parser.add_argument("--trace", action="store_true", help="with --seed: show every call")
    parser.add_argument("--narrow", action="store_true", help="lives around one key")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--chunk", type=int, default=CHUNK, help="seeds of one line in the ledger")
    parser.add_argument("--stop-at-first", action="store_true", help="end at the first violation")
    parser.add_argument("--cells", action="store_true", help="show which fault met whom, and how it ended")
    parser.add_argument("--coverage", action="store_true", help="fail where a wanted cell was never reached")
    return parser.parse_args(argv)


def _range(arguments: argparse.Namespace, part: str) -> tuple[int, int]:
    if arguments.resume is not None:
        start = next_seed(Path(os.environ[VARIABLE]), part)
        return start, start + arguments.resume
    first, _, last = (arguments.seeds or "0:1000").partition(":")
    return int(first), int(last)


def _replay(seed: int, part: str, *, trace: bool) -> int:
    life = LIVES[part](seed, fingerprint=True)
    try:
        complaints = life.run()
    finally:
        log = life.log or []
        for event in log if trace else log[-EVENTS_SHOWN:]:
            _say("  ".join(str(part) for part in event if part is not None))
    _say(f"seed {seed}: {life.calls} calls, {life.faults} faults, digest {life.digest()}")
    for complaint in complaints:
        _say(complaint)
    return 1 if complaints else 0


def _show(total: Tally, part: str, *, cells: bool) -> None:
    if cells:
        for line in table(total.cells):
            _say(line)
    for name, count in sorted(total.counts.items()):
        _say(f"{name}: {count}")
    for violation in total.violations[:SHOWN_MAX]:
        _show_violation(violation, part)


def _show_violation(violation: Violation, part: str) -> None:
    _say(f"VIOLATION, seed {violation.seed}:")
    for complaint in violation.complaints[:COMPLAINTS_SHOWN]:
        _say(f"  {complaint}")
    life = LIVES[part](violation.seed, fingerprint=True)
    try:
        life.run()
    except Exception as error:  # noqa: BLE001 - told above
        _say(f"  {error!r}")
    for event in (life.log or [])[-EVENTS_SHOWN // 2 :]:
        _say("    " + "  ".join(str(part) for part in event if part is not None))
    narrow = "--narrow " if part == NARROW else ""
    _say(f"  replay: python -m tests.simulation {narrow}--seed {violation.seed} --trace")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
