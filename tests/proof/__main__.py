"""`make proof` and `make proof-full`: all parts of the proof one after another, and what they came to.

    python -m tests.proof             the sizes of CI: minutes, a ledger of its own
    python -m tests.proof --go-on     the same, without the parts that this commit's ledger holds already
    python -m tests.proof --full      the large sizes: hours; adds to what earlier runs left in the ledger
    python -m tests.proof --report    what the ledger holds, without running anything; `--full --report` too
    python -m tests.proof --page      docs/proof.md with the totals of the large sizes

Every part is a command of its own, so that it can be run, and stopped, by itself; a part that fails fails the proof. A
goal that was not reached fails it too: a proof that tried nothing has proved nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.proof.ledger import KEPT, ROOT, VARIABLE, commit, compact, read
from tests.proof.report import told, write_page
from tests.proof.stages import STAGES, Stage

QUICK: Final = ROOT / ".proof" / "quick.jsonl"
PAGE: Final = ROOT / "docs" / "proof.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 where every part ran, no promise was broken and every goal was reached."""
    given = _parsed(argv)
    ledger = KEPT if given.full or given.page else QUICK
    if given.page:
        write_page(PAGE, read(ledger))
        return 0
    failed = [] if given.report else _run(ledger, full=given.full, go_on=given.go_on)
    text, short = told(read(ledger), full=given.full)
    print(f"\n{text}")
    for stage in failed:
        print(f"FAILED  {stage.part}")
    return 1 if failed or short else 0


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.proof", description=__doc__)
    parser.add_argument("--full", action="store_true", help="the large sizes; adds up over runs")
    parser.add_argument("--go-on", action="store_true", help="leave out what this commit's ledger holds already")
    parser.add_argument("--report", action="store_true", help="only tell what the ledger holds")
    parser.add_argument("--page", action="store_true", help="write the totals of the large sizes into docs/proof.md")
    return parser.parse_args(argv)


def _run(ledger: Path, *, full: bool, go_on: bool) -> list[Stage]:
    """The stages that failed."""
    if full:
        compact(ledger)
    elif not go_on or any(line["commit"] != commit() for line in read(ledger)):
        ledger.unlink(missing_ok=True)
    stages = [stage for stage in STAGES if stage.job(full=full)]
    failed = []
    for number, stage in enumerate(stages, 1):
        print(f"\n== {number} of {len(stages)}: {stage.part}: {stage.about}", flush=True)
        if (full or go_on) and stage.reached(ledger, full=full):
            print("== tried before", flush=True)
        elif not _run_stage(stage, ledger, full=full):
            failed.append(stage)
    if full:
        compact(ledger)
    return failed


def _run_stage(stage: Stage, ledger: Path, *, full: bool) -> bool:
    job = stage.job(full=full)
    assert job is not None
    begun = time.monotonic()
    environment = {**os.environ, **job.seeded(ledger, stage.part), VARIABLE: str(ledger)}
    ran = subprocess.run([sys.executable, "-m", *job.arguments], cwd=ROOT, env=environment, check=False)
    print(f"== {time.monotonic() - begun:.0f} s, exit {ran.returncode}", flush=True)
    return ran.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
