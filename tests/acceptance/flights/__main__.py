"""`python -m tests.acceptance.flights`: run, heal, compare, tell."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3

from reliable_write.errors import ConfigurationError
from reliable_write.system_table import Installation
from reliable_write.testing.engines import Dynoxide
from tests.acceptance.flights.check import Check, Comparison
from tests.acceptance.flights.data import DataMissing, load
from tests.acceptance.flights.model import Model, create_tables
from tests.acceptance.flights.run import Order, Outcome, Run, RunFailed
from tests.acceptance.flights.show import progress
from tests.acceptance.flights.worker import World, client

FLIGHTS = 5_000
KILLS = 60
SHARDS = 8
"""Fewer than the default: each replacement looks through all of them."""
MISMATCHES_SHOWN = 20
MISSING_EXIT_CODE = 2


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    try:
        model = Model(load(None if options.all else options.flights))
        report = run(model, Order(options.processes, options.kills, options.seed), quiet=options.json)
    except (DataMissing, ConfigurationError) as error:
        print(error, file=sys.stderr)
        return MISSING_EXIT_CODE
    except RunFailed as error:
        print(f"The run failed: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report, indent=2) if options.json else _told(report))
    return 1 if report["problems"] else 0


def run(model: Model, order: Order, *, quiet: bool) -> dict[str, Any]:
    """Everything that is known afterwards; `problems` is empty when all holds."""
    with Dynoxide() as engine, tempfile.TemporaryDirectory(prefix="reliable-write-flights-") as directory:
        world = warm_world(engine.endpoint_url, model)
        with progress(len(model), quiet=quiet) as show:
            outcome = Run(world, order, Path(directory), show).run()
        started = time.monotonic()
        with contextlib.closing(client(world)) as reader:
            comparison = Check(reader, model, outcome.readings).run()
        return _report(model, order, outcome, comparison, time.monotonic() - started)


def warm_world(endpoint_url: str, model: Model) -> World:
    """A world whose session has loaded what a client needs; the tables are made by a client and a writer that end here.

    So the parent may fork.
    """
    session = boto3.session.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1")
    world = World(endpoint_url, session, model)
    with contextlib.closing(client(world)) as maker:
        create_tables(maker)
    with world.writer() as writer:
        writer.init(Installation(shards=SHARDS))
        writer.client.close()
    return world


def _report(
    model: Model, order: Order, outcome: Outcome, comparison: Comparison, check_seconds: float
) -> dict[str, Any]:
    found = Counter(fact.detail for fact in outcome.facts if fact.kind == "found")
    kinds = Counter(fact.kind for fact in outcome.facts)
    recovered = outcome.recovered_along["FINISHED"] + outcome.recovered_at_end["FINISHED"]
    report = {
        "flights": len(model),
        "seed": order.seed,
        "processes": order.processes,
        "commits": kinds["written"] + kinds["announced"] + kinds["pending"] + found.total(),
        "acknowledged": kinds["written"],
        "announcements": kinds["announced"],
        "superseded": sum(fact.detail.endswith(":superseded") for fact in outcome.facts),
        "pending": kinds["pending"],
        "kills": outcome.kills,
        "idle_kills": outcome.idle_kills,
        "recoverer_kills": outcome.recoverer_kills,
        "found_half_written": found["half"],
        "found_in_the_journal_only": found["journal"],
        "found_whole": found["whole"],
        "written_again": kinds["again"],
        "finished_by_recovery_alone": found["half"] + found["journal"],
        "recoveries": recovered,
        "recoveries_along": dict(outcome.recovered_along),
        "recoveries_at_the_end": dict(outcome.recovered_at_end),
        "seconds": round(outcome.seconds, 1),
        "flights_per_second": round(len(model) / outcome.seconds, 1),
        "check_seconds": round(check_seconds, 1),
        "compared": {name: value for name, value in dataclasses.asdict(comparison).items() if name != "mismatches"},
        "mismatches": len(comparison.mismatches),
    }
    return {**report, "problems": [*_nothing_happened(report, order), *comparison.mismatches[:MISMATCHES_SHOWN]]}


def _nothing_happened(report: dict[str, Any], order: Order) -> Iterator[str]:
    """A run without kills, torn flights and recoveries has tested nothing."""
    if report["kills"] < order.kills:
        yield f"only {report['kills']} of {order.kills} kills hit a worker at work; more flights are needed for so many"
    for name in ("commits", "announcements", "kills", "found_half_written", "finished_by_recovery_alone"):
        if not report[name]:
            yield f"no {name.replace('_', ' ')}: this run has tested nothing"


def _told(report: dict[str, Any]) -> str:
    lines = [_TOLD.format(**report)]
    if report["problems"]:
        lines += [f"FAILED, {report['mismatches']} mismatches:", *(f"  {problem}" for problem in report["problems"])]
    else:
        lines.append("No flight is partly written, lost, or there twice; every attribute is as in the files.")
    return "\n".join(lines)


_TOLD = """\
{flights:,} flights in {seconds} s, {flights_per_second} flights/s, {processes} processes, seed {seed}
commits {commits:,}, {announcements:,} of them announcements; {superseded} overtaken in part; {pending} left pending
kills {kills} of workers at work, {idle_kills} of others, {recoverer_kills} of the recoverer
left by the killed: {found_half_written} flights half written, {found_in_the_journal_only} in the journal only, \
{found_whole} whole; {written_again} not committed and written again
recoveries {recoveries}, of them {finished_by_recovery_alone} flights that nobody else finished: \
along the way {recoveries_along}, at the end {recoveries_at_the_end}
compared with the files in {check_seconds} s: {compared}"""


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.flights", description=__doc__)
    parser.add_argument("--flights", type=_positive, default=FLIGHTS, help="how many flights (%(default)s)")
    parser.add_argument("--all", action="store_true", help="all 336,776")
    parser.add_argument("--processes", type=_positive, default=4, help="worker processes (%(default)s)")
    parser.add_argument("--kills", type=_positive, default=KILLS, help="workers to kill on the way (%(default)s)")
    parser.add_argument("--seed", type=int, default=2013, help="of the choice of victims and moments (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print a report for programs")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number <= 0:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
