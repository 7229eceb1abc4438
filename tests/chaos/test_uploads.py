"""Uploads that are killed by SIGKILL, at any call and at random, alone and beside others: each object once, none lost.

The bucket keeps every version of every object: what is put twice, even with the same content, has two.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reliable_write.limits import MB
from reliable_write.testing.engines import Engine
from reliable_write.testing.faults import When
from reliable_write.uploads.report import Silence
from tests.buckets import PART, Depot, digests_of, fill
from tests.chaos.processes import KILLED, PATIENCE_SECONDS, Child, run, run_to_death, start
from tests.chaos.uploaders import Consignment, Sent, upload
from tests.chaos.victims import CrashPoint, Home
from tests.clocks import HastyTime
from tests.world import World

FILES = int(os.environ.get("RELIABLE_WRITE_UPLOAD_FILES", "300"))
LARGE_FILES = int(os.environ.get("RELIABLE_WRITE_UPLOAD_LARGE_FILES", "1"))
LARGE_MEGABYTES = int(os.environ.get("RELIABLE_WRITE_UPLOAD_LARGE_MEGABYTES", "16"))
KILLS = int(os.environ.get("RELIABLE_WRITE_UPLOAD_KILLS", "4"))
SEED = int(os.environ.get("RELIABLE_WRITE_CHAOS_SEED", "20251122"))
PROCESSES = 2
CALLS_OF_A_FILE = 3
"""The claim, the object, the note that it is there."""
CALLS_SPARED = 3
"""The first ones of a process: config record, the ledger's description, the first page."""
LONG_LEASE_SECONDS = 30.0
"""Of those whose calls are numbered: no renewal comes in between."""
PATIENCE = pytest.mark.timeout(300 + FILES // 5 + KILLS * 5)
WHENS: tuple[When, ...] = ("before", "after")

BEGUN = ["PutItem", "HeadObject", "CreateMultipartUpload", "PutItem"]
TAKEN_OVER = ["PutItem", "HeadObject", "ListMultipartUploads", "ListParts"]
PARTS = ["UploadPart"] * 3
COMPLETED = ["CompleteMultipartUpload", "PutItem"]
SMALL = {"app.log": b"line\n" * 100}
LARGE = {"core.dump": random.Random(SEED).randbytes(2 * PART + 1)}


@pytest.fixture
def depot(ministack: Engine, unique_name: Callable[[str], str]) -> Iterator[Depot]:
    made = Depot(World(ministack, unique_name), unique_name)
    yield made
    made.close()


def consignment(depot: Depot, folder: Path, prefix: str = "p", **how: object) -> Consignment:
    defaults: dict[str, object] = {"part_bytes": PART, "parallel": 1, "lease_seconds": LONG_LEASE_SECONDS}
    return Consignment(
        home=Home(depot.world.engine.endpoint_url, depot.world.system_table),
        folder=str(folder),
        target=f"s3://{depot.bucket.name}/{prefix}",
        table=depot.table,
        **{**defaults, **how},  # type: ignore[arg-type]  # each under the name of its field
    )


def finish(depot: Depot, wanted: Consignment) -> None:
    """By a process that need not wait for the dead one's lease: its clock runs on while it sleeps."""
    uploads = depot.uploads(time=HastyTime())
    report = uploads.upload(wanted.folder, wanted.target)
    assert report.complete, report


def check_once(depot: Depot, folder: Path, prefix: str) -> None:
    """Every file is there, once, whole and noted; and nothing is left behind."""
    wanted = digests_of(folder, f"{prefix}/")
    versions = {key: count for key, count in depot.bucket.versions().items() if key.startswith(f"{prefix}/")}
    assert versions == dict.fromkeys(wanted, 1)
    for key, digest in wanted.items():
        intent = depot.intent(key)
        assert intent is not None
        assert (intent["state"], intent["sha256"]) == ("done", digest)
    assert depot.bucket.digests(wanted) == wanted
    assert depot.bucket.pending() == []


@pytest.mark.parametrize(
    ("contents", "calls"),
    [(SMALL, ["PutItem", "PutObject", "PutItem"]), (LARGE, [*BEGUN, *PARTS, *COMPLETED])],
    ids=["small", "in parts"],
)
def test_killed_at_any_call_the_next_run_brings_it_there_once(
    depot: Depot, tmp_path: Path, contents: dict[str, bytes], calls: list[str]
) -> None:
    folder = fill(tmp_path, contents)
    sent: Sent = run(upload, consignment(depot, folder, "dry"), None)
    assert list(sent.operations)[CALLS_SPARED:] == calls
    check_once(depot, folder, "dry")
    for number in range(1, len(sent.operations) + 1):
        for when in WHENS:
            prefix = f"{when}-{number}"
            victim = consignment(depot, folder, prefix)
            run_to_death(upload, victim, CrashPoint(number, when))
            finish(depot, victim)
            check_once(depot, folder, prefix)
    # There is no further point: a kill planned for one call more does not happen.
    run(upload, consignment(depot, folder, "none"), CrashPoint(len(sent.operations) + 1, "before"))


class StopAfterOnePart(Silence):
    """Presses Ctrl-C."""

    def __init__(self) -> None:
        self.stop = threading.Event()

    def moved(self, size: int) -> None:
        if size == PART:
            self.stop.set()


def test_whoever_goes_on_with_the_parts_of_another_run_may_be_killed_at_any_call_too(
    depot: Depot, tmp_path: Path
) -> None:
    folder = fill(tmp_path, LARGE)

    def strand(prefix: str) -> Consignment:
        """One part of three is sent, and nobody is at it."""
        second, audience = consignment(depot, folder, prefix), StopAfterOnePart()
        report = depot.uploads(parallel=1).upload(folder, second.target, audience=audience, stop=audience.stop)
        assert report.not_tried == ("core.dump",)
        assert [key for key, _ in depot.bucket.pending()] == [f"{prefix}/core.dump"]
        return second

    sent: Sent = run(upload, strand("dry"), None)
    assert list(sent.operations)[CALLS_SPARED:] == [*TAKEN_OVER, *PARTS[1:], *COMPLETED]
    check_once(depot, folder, "dry")
    for number in range(CALLS_SPARED + 1, len(sent.operations) + 1):
        for when in WHENS:
            prefix = f"{when}-{number}"
            second = strand(prefix)
            run_to_death(upload, second, CrashPoint(number, when))
            finish(depot, second)
            check_once(depot, folder, prefix)


@PATIENCE
def test_two_processes_killed_at_random_lose_nothing_and_put_nothing_twice(depot: Depot, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    folder = fill(tmp_path, {f"{number % 10}/{number:05d}.log": chance.randbytes(200) for number in range(FILES)})
    fill(folder, {f"large-{number}": chance.randbytes(LARGE_MEGABYTES * MB + number) for number in range(LARGE_FILES)})
    victim = consignment(depot, folder, parallel=4, lease_seconds=1.0)
    begun_seconds = time.monotonic()
    reports = [done(child) for child in Killing(victim, chance).survivors()]
    seconds = time.monotonic() - begun_seconds

    wanted = digests_of(folder)
    assert depot.bucket.versions() == dict.fromkeys(wanted, 1), "some object was put twice, or not at all"
    assert depot.bucket.digests(wanted) == wanted
    assert depot.bucket.pending() == []
    assert depot.states() == {"done": len(wanted)}
    assert all(report.facts["complete"] for report in reports)
    again: Sent = run(upload, victim, None)
    assert not {"PutObject", "UploadPart", "CompleteMultipartUpload", "PutItem", "HeadObject"} & set(again.operations)
    assert len(again.facts["already_there"]) == len(wanted)
    print(
        f"{len(wanted)} files, {LARGE_FILES} of them of {LARGE_MEGABYTES} MB, by {PROCESSES} processes at a time in "
        f"{seconds:.1f} s, {KILLS} of them killed: each object once; calls of one run more: "
        f"{dict(Counter(again.operations))}"
    )


class Killing:
    """So many processes at a time; the first `KILLS` of them are killed at one of their calls, chosen at random."""

    def __init__(self, victim: Consignment, chance: random.Random) -> None:
        self._victim = victim
        self._chance = chance
        self._left = KILLS
        # On the average half of the work is done by those that are killed.
        self._calls_max = CALLS_OF_A_FILE * FILES // max(1, KILLS)

    def survivors(self) -> list[Child]:
        """Those that are not to die, once all others are dead: as soon as one is, another one is started."""
        running = [self._next() for _ in range(PROCESSES)]
        for _ in range(KILLS):
            assert ended(running.pop(0)) == KILLED, "it had done everything before its kill came: nothing was tested"
            running.append(self._next())
        return running

    def _next(self) -> Child:
        point = CrashPoint(CALLS_SPARED + self._chance.randint(1, self._calls_max), self._chance.choice(WHENS))
        self._left -= 1
        return start(upload, self._victim, point if self._left >= 0 else None)


def ended(child: Child) -> int:
    child.process.join(PATIENCE_SECONDS + FILES / 20)
    code = child.process.exitcode
    assert code is not None, f"{child.process.name} hangs"
    child.close()
    return code


def done(child: Child) -> Sent:
    assert child.pipe.poll(PATIENCE_SECONDS + FILES / 20), f"{child.process.name} says nothing"
    sent: Sent = child.pipe.recv()
    assert ended(child) == 0
    return sent
